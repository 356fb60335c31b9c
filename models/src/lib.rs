//! Models: genotypes, primitives, the graph IR, weights, image input, and the kernels and engines that run networks.
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
pub mod images;
pub mod input;
pub mod kernels;
pub mod memory;
pub mod metrics;
pub mod op;
pub mod primitive;
pub mod rng;
pub mod shell;
mod space;
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
pub use rng::Rng;
pub use space::Space;
pub use weights::Weights;
