//! Searches an architecture on a user's images, then trains the found network.
//!
//! [`config::Config`] holds every setting. [`run`] opens the folder of a run and searches or trains in it; a search writes
//! `genotype.json`, a training `weights.safetensors`. [`strategy`] has the gradient-based and black-box strategies,
//! [`supernet`] the networks they search in, [`score`] the training-free scores.
//!
//! # Examples
//! ```no_run
//! use std::path::Path;
//!
//! use milenas_models::images::Source;
//! use milenas_search::config::Config;
//! use milenas_search::run::{Data, open_search, run_search};
//! use milenas_search::strategy::ProgressSink;
//! use milenas_search::supernet::DeviceSpec;
//!
//! struct Silent;
//!
//! impl ProgressSink for Silent {
//!     fn begin(&mut self, _epoch: usize, _epochs: usize, _steps: usize, _done: usize) {}
//!     fn step(&mut self, _loss: f64, _images: usize) {}
//! }
//!
//! let config = Config::resolve("smoke", None, &["search.epochs=2".into()])?;
//! let data = Data::load(&Source::parse("digits")?, &config)?;
//! let run = open_search(Path::new("runs/search"), &config, &data, DeviceSpec::Cpu, false)?;
//! let found = run_search(&data, run, None, &mut Silent, &mut |_| {})?;
//! println!("{}", found.genotype);
//! # Ok::<(), milenas_search::Error>(())
//! ```
#![deny(unsafe_code)]

pub mod bench;
pub mod checkpoint;
pub mod config;
pub mod data;
pub mod engine;
mod error;
pub mod fetch;
pub mod limit;
pub mod loss;
pub mod memory;
pub mod next;
pub mod optim;
pub mod relaxation;
pub mod report;
mod resident;
pub mod run;
pub mod score;
pub mod strategy;
pub mod supernet;
pub mod tensorboard;
pub mod train;

pub use error::{Error, Result};
