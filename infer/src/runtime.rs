//! Runtimes that compute the outputs of a network, behind one trait.
//!
//! [`Native`] runs the decoded graph. The others implement [`Library`], which runs the file unchanged.
//! [`LibraryRuntime`] passes images to a library in the layout of the file.

mod candle_onnx;
mod feed;
mod library;
mod native;
mod one_score;
mod ort;
mod tract;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

pub use candle_onnx::CandleOnnx;
pub use feed::{Element, Feed, InputHints, Pixels};
pub use library::{Library, LibraryRuntime, RawOutput};
pub use native::Native;
pub use one_score::OneScore;
pub use ort::Ort;
pub use tract::Tract;

use milenas_models::fused::Precision;

use crate::answer::Answer;
use crate::{Error, Result};

/// Network that is ready to run.
pub trait Runtime: Send + Sync {
    /// Computes one answer for each of `images`, `[N, C, H, W]` with `N` equal to `batch`.
    fn run(&self, images: &[f32], batch: usize) -> Result<Vec<Answer>>;
}

/// Kind and settings of a runtime.
#[derive(Clone, Debug, Default)]
pub struct RuntimeConfig {
    /// Kind of runtime.
    pub kind: RuntimeKind,
    /// Precision of convolutions. Only [`Native`] supports others than float32.
    pub precision: Precision,
    /// Path of the ONNX Runtime library; searched for if `None`.
    pub ort_library: Option<PathBuf>,
    /// Number of threads of a runtime that has its own pool; 0 means all cores. Other runtimes use rayon's
    /// threads.
    pub threads: usize,
}

/// Kind of a runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuntimeKind {
    /// Kernels of this project, [`Native`].
    #[default]
    Native,
    /// ONNX Runtime, [`Ort`].
    Ort,
    /// tract, [`Tract`].
    Tract,
    /// candle-onnx, [`CandleOnnx`].
    CandleOnnx,
}

impl RuntimeKind {
    /// Returns the name of the runtime on the command line.
    pub fn name(self) -> &'static str {
        match self {
            RuntimeKind::Native => "native",
            RuntimeKind::Ort => "ort",
            RuntimeKind::Tract => "tract",
            RuntimeKind::CandleOnnx => "candle-onnx",
        }
    }
}

/// Runs code of another project on a file of unknown origin. A panic becomes [`Error::Runtime`].
fn guarded<T>(kind: RuntimeKind, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let problem =
            "it panicked on this file, which is a bug in it. help: another setting `runtime` may run the file".into();
        Err(Error::Runtime { name: kind.name(), problem })
    })
}
