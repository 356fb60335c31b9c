//! Runtimes that compute a network's answers, behind one trait.
//!
//! [`Native`] runs the decoded graph; the others are a [`Library`] that takes the file as it is, [`Fed`] in its own layout.

mod candle_onnx;
mod fed;
mod feed;
mod native;
mod one_score;
mod ort;
mod tract;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

pub use candle_onnx::CandleOnnx;
pub use fed::{Fed, Library, Raw};
pub use feed::{Element, Feed, InputHints, Pixels};
pub use native::Native;
pub use one_score::OneScore;
pub use ort::Ort;
pub use tract::Tract;

use milenas_models::fused::Precision;

use crate::answer::Answer;
use crate::{Error, Result};

/// A network, ready to run.
pub trait Runtime: Send + Sync {
    /// `images` `[N, C, H, W]` to one answer an image.
    fn run(&self, images: &[f32], batch: usize) -> Result<Vec<Answer>>;
}

/// A runtime and its settings.
#[derive(Clone, Debug, Default)]
pub struct RuntimeConfig {
    /// Kind of runtime.
    pub kind: RuntimeKind,
    /// Precision of convolutions; only [`Native`] has others than float32.
    pub precision: Precision,
    /// Library of ONNX Runtime; searched for if `None`.
    pub ort_library: Option<PathBuf>,
    /// Threads of a runtime that keeps its own; 0 is all cores. The others use those of rayon.
    pub threads: usize,
}

/// Kind of runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuntimeKind {
    /// [`Native`].
    #[default]
    Native,
    /// [`Ort`].
    Ort,
    /// [`Tract`].
    Tract,
    /// [`CandleOnnx`].
    CandleOnnx,
}

impl RuntimeKind {
    /// Name of the runtime, as users write it.
    pub fn name(self) -> &'static str {
        match self {
            RuntimeKind::Native => "native",
            RuntimeKind::Ort => "ort",
            RuntimeKind::Tract => "tract",
            RuntimeKind::CandleOnnx => "candle-onnx",
        }
    }
}

/// Others' code on a file from anyone: where it panics, the runtime has failed.
fn guarded<T>(kind: RuntimeKind, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let problem =
            "it panicked on this file, a bug of it. Help: another setting `runtime` may run the file".into();
        Err(Error::Runtime { name: kind.name(), problem })
    })
}
