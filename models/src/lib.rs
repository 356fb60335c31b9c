//! Networks as data: genotypes, the graph IR, weights, images, and the kernels that run them.
//!
//! A [`Genotype`] names the operations of a cell. [`assemble()`] turns it and a [`NetworkConfig`] into a [`Graph`]. [`Weights`]
//! hold its parameters by name, [`Executor`] runs it on candle tensors, and [`fused::FusedNetwork`] runs and trains it
//! with CPU kernels. [`input`] decodes images and prepares them under an [`InputContract`]; [`images`] reads whole data sets.
//!
//! # Examples
//! The cost of the CIFAR-10 network of DARTS:
//! ```
//! use milenas_models::{Genotype, NetworkConfig, assemble, cost};
//!
//! let network = NetworkConfig {
//!     channels: 36,
//!     layers: 20,
//!     classes: 10,
//!     in_channels: 3,
//!     height: 32,
//!     width: 32,
//!     skeleton: Default::default(),
//! };
//! let graph = assemble(&Genotype::named("DARTS_V2")?, &network)?;
//! assert_eq!(cost(&graph).params, 3_349_342);
//! # Ok::<(), milenas_models::Error>(())
//! ```
#![deny(unsafe_code)]

pub mod assemble;
mod blocks;
mod card;
mod cost;
mod digest;
pub mod error;
mod executor;
pub mod file;
pub mod fused;
pub mod genotype;
pub mod graph;
pub mod html;
pub mod images;
pub mod input;
#[doc(hidden)]
pub mod kernels;
pub mod memory;
pub mod metrics;
pub mod op;
pub mod primitive;
mod receptive;
pub mod rng;
pub mod shell;
pub mod space;
mod weights;

pub use assemble::{NetworkConfig, Skeleton, Trainable, assemble};
pub use card::{CARD_KEY, Card, Model, TrainedOn};
pub use cost::{Cost, cost};
pub use digest::hexadecimal;
pub use error::{Error, Result};
pub use executor::Executor;
pub use genotype::Genotype;
pub use graph::Graph;
pub use images::{Dataset, Labelled, Sample, Source};
pub use input::{Image, InputContract, Limits};
pub use op::{Mode, Op};
pub use primitive::Primitive;
pub use receptive::receptive_field;
pub use rng::Rng;
pub use space::Space;
pub use weights::Weights;
