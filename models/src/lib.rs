//! What a network is: genotypes, primitives, the graph IR, weights, the executor and its kernels.

pub mod error;
pub mod kernels;
pub mod rng;

pub use error::{Error, Result};
pub use rng::Rng;
