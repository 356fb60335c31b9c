//! Runs exported networks: classifies images, one by one or in batches.
//!
//! A model file stores its labels, the preparation of its images and the meaning of its outputs. [`recipe`]
//! describes the settings for files of other programs. [`model::Classifier`] is a model that is ready to run.
//! For whole folders, [`inputs`] lists images, [`pipeline`] decodes them on all cores and batches them, and
//! [`output`] writes rows.
//!
//! # Examples
//! ```no_run
//! use milenas_infer::model::Classifier;
//!
//! let classifier = Classifier::open("model.onnx")?;
//! for prediction in classifier.classify_file("photo.jpg")?.iter().take(3) {
//!     println!("{:5.1} %  {}", 100.0 * prediction.probability, prediction.label);
//! }
//! # Ok::<(), milenas_infer::Error>(())
//! ```
#![deny(unsafe_code)]

pub mod answer;
mod classify;
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

pub use classify::Prediction;
pub use error::{Error, Result};
