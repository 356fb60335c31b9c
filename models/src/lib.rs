//! What a network is: genotypes, primitives, the graph IR, weights, the executor and its kernels.
#![deny(unsafe_code)]

pub mod error;
mod executor;
pub mod file;
pub mod graph;
pub mod kernels;
pub mod op;
pub mod rng;
mod weights;

pub use error::{Error, Result};
pub use executor::Executor;
pub use graph::Graph;
pub use op::{Mode, Op};
pub use rng::Rng;
pub use weights::Weights;
