//! Running: classifies images in batch with an exported network. Reads `model.onnx` and images, nothing else.
#![deny(unsafe_code)]

pub mod answer;
mod error;
pub mod evaluate;
pub mod fingerprint;
pub mod inputs;
pub mod meaning;
pub mod model;
pub mod output;
pub mod pipeline;
pub mod recipe;
pub mod report;
pub mod resume;
pub mod runtime;
pub mod shard;

pub use error::{Error, Result};
