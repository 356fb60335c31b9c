//! ONNX Runtime, from its shared library: nothing of it is needed to build or to start this program.

mod search;

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;

use super::{Choice, Feed, Kind, Pixels, Runtime};
use crate::answer::Answer;
use crate::{Error, Result};

/// A session on the processor.
pub struct Ort {
    session: Mutex<Session>,
    feed: Feed,
}

impl Ort {
    /// On a file.
    ///
    /// # Errors
    /// No library, another library, a file that it refuses.
    pub fn new(path: &Path, feed: Feed, choice: &Choice) -> Result<Self> {
        load(&search::library(choice.ort_library.as_deref())?)?;
        let session = open(path, choice.threads)
            .map_err(|problem| Error::Model { place: path.display().to_string(), problem })?;
        Ok(Ort { session: Mutex::new(session), feed })
    }

    fn compute(&self, pixels: &Pixels, batch: usize) -> ort::Result<Vec<f32>> {
        let shape = self.feed.shape(batch);
        // A session that failed is as good as before.
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let input = self.feed.input.as_str();
        let found = match pixels {
            Pixels::Floats(x) => {
                session.run(ort::inputs![input => TensorRef::from_array_view((shape, *x))?])?
            }
            Pixels::Bytes(x) => {
                session.run(ort::inputs![input => TensorRef::from_array_view((shape, x.as_slice()))?])?
            }
        };
        let (_, numbers) = found[self.feed.output.as_str()].try_extract_tensor::<f32>()?;
        Ok(numbers.to_vec())
    }
}

/// Loads the library for the rest of the program's life; further calls find the first one.
fn load(path: &Path) -> Result<()> {
    let refused = |problem: String| Error::Unavailable {
        name: Kind::Ort.name(),
        problem: format!("{problem}. Help: `pip install onnxruntime` has a library that works"),
    };
    let path = std::path::absolute(path).map_err(|e| refused(e.to_string()))?;
    ort::init_from(path).map_err(|e| refused(e.to_string()))?.commit();
    Ok(())
}

fn open(path: &Path, threads: usize) -> std::result::Result<Session, String> {
    let text = |e: ort::Error<ort::session::builder::SessionBuilder>| e.to_string();
    Session::builder()
        .map_err(|e| e.to_string())?
        .with_optimization_level(GraphOptimizationLevel::Level3)
        .map_err(text)?
        .with_intra_threads(threads)
        .map_err(text)?
        .with_log_level(ort::logging::LogLevel::Error)
        .map_err(text)?
        .commit_from_file(path)
        .map_err(|e| e.to_string())
}

impl Runtime for Ort {
    fn run(&self, images: &[f32], _: usize) -> Result<Vec<Answer>> {
        let failed = |e: ort::Error| Error::Runtime { name: Kind::Ort.name(), problem: e.to_string() };
        self.feed.answers(images, Kind::Ort, |pixels, batch| self.compute(&pixels, batch).map_err(failed))
    }
}
