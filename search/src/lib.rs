//! Finding and training: the supernet and its search, then the training of the found network.
//!
//! A search reads images and writes `genotype.json`; training reads a genotype and images and writes
//! `weights.safetensors`. Neither knows ONNX.
#![deny(unsafe_code)]

pub mod bench;
pub mod checkpoint;
pub mod config;
pub mod data;
pub mod engine;
mod error;
pub mod fetch;
pub mod loss;
pub mod memory;
pub mod next;
pub mod optim;
pub mod report;
mod resident;
pub mod run;
pub mod score;
pub mod strategy;
pub mod supernet;
pub mod tensorboard;
pub mod train;

pub use error::{Error, Result};
