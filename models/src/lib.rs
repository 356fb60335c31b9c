//! What a network is: genotypes, primitives, the graph IR, weights, the executor and its kernels.

pub mod error;
pub mod images;
pub mod input;
pub mod rng;

pub use error::{Error, Result};
pub use images::{Dataset, Labelled, Sample, Source};
pub use input::{Image, InputContract, Limits};
pub use rng::Rng;
