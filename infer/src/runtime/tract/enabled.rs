//! tract: a runtime of Rust alone, an image a thread.

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use tract_onnx::prelude::*;

use crate::answer::Answer;
use crate::runtime::{Feed, Kind, Pixels, Runtime};
use crate::{Error, Result};

/// An optimised plan.
pub struct Tract {
    plan: Arc<TypedRunnableModel>,
    feed: Feed,
}

impl Tract {
    /// On a file.
    ///
    /// # Errors
    /// A file that it refuses.
    pub fn new(path: &Path, mut feed: Feed) -> Result<Self> {
        feed.batch = feed.batch.or(Some(1));
        let plan = plan(path, &feed).map_err(|e| Error::Model {
            place: path.display().to_string(),
            problem: format!("tract: {e:#}"),
        })?;
        Ok(Tract { plan, feed })
    }

    fn compute(&self, pixels: Pixels, batch: usize) -> TractResult<Vec<f32>> {
        let shape = self.feed.shape(batch);
        let fed = match &pixels {
            Pixels::Floats(x) => Tensor::from_shape(&shape, x)?,
            Pixels::Bytes(x) => Tensor::from_shape(&shape, x)?,
        };
        let found = self.plan.run(tvec!(fed.into()))?;
        Ok(found[0].to_plain_array_view::<f32>()?.iter().copied().collect())
    }
}

fn plan(path: &Path, feed: &Feed) -> TractResult<Arc<TypedRunnableModel>> {
    let shape = feed.shape(feed.batch.unwrap_or(1));
    let fact = if feed.bytes { u8::fact(shape) } else { f32::fact(shape) };
    // Shapes that the file tells of its maps have its own, open batch.
    let reader = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
    let model = reader.model_for_path(path)?.with_input_fact(0, fact.into())?;
    model.into_optimized()?.into_runnable()
}

impl Runtime for Tract {
    fn run(&self, images: &[f32], _: usize) -> Result<Vec<Answer>> {
        let failed = |e| Error::Runtime { name: Kind::Tract.name(), problem: format!("{e:#}") };
        let compute = |pixels: Pixels, batch| self.compute(pixels, batch).map_err(failed);
        let batches = images.par_chunks(self.feed.len() * self.feed.batch.unwrap_or(1));
        let answers = batches.map(|images| self.feed.answers(images, Kind::Tract, compute));
        Ok(answers.collect::<Result<Vec<Vec<Answer>>>>()?.concat())
    }
}
