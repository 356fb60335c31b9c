//! Runtime that uses tract, which is written in Rust. Each thread computes one batch.

use std::path::Path;
use std::sync::Arc;

use tract_onnx::prelude::*;

use crate::error::brief;
use crate::runtime::feed::Element;
use crate::runtime::library::{Library, RawOutput};
use crate::runtime::{Feed, Pixels, RuntimeKind};
use crate::{Error, Result};

/// Optimised plan of a file.
pub struct Tract {
    plan: Arc<TypedRunnableModel>,
    /// Index of the output among the outputs of the file.
    output: usize,
}

impl Tract {
    /// Builds a plan of a file for batches of one size: that of the feed, or 1 if the feed has none.
    ///
    /// # Errors
    /// [`Error::Model`] for a file that tract refuses.
    pub fn new(path: &Path, feed: &mut Feed, output: usize) -> Result<Self> {
        feed.batch = feed.batch.or(Some(1));
        let plan = plan(path, feed).map_err(|e| Error::Model {
            place: path.display().to_string(),
            problem: format!("tract refuses it: {}", brief(&format!("{e:#}"))),
        })?;
        Ok(Tract { plan, output })
    }

    fn run(&self, feed: &Feed, pixels: &Pixels, batch: usize) -> TractResult<RawOutput> {
        let shape = feed.shape(batch);
        let fed = match pixels {
            Pixels::Floats(x) => Tensor::from_shape(&shape, x)?,
            Pixels::Halves(x) => Tensor::from_shape(&shape, x)?,
            Pixels::Doubles(x) => Tensor::from_shape(&shape, x)?,
            Pixels::Bytes(x) => Tensor::from_shape(&shape, x)?,
        };
        let found = self.plan.run(tvec!(fed.into()))?;
        let found = found[self.output].cast_to::<f32>()?;
        let view = found.to_plain_array_view::<f32>()?;
        Ok(RawOutput { dims: view.shape().to_vec(), values: view.iter().copied().collect() })
    }
}

fn plan(path: &Path, feed: &Feed) -> TractResult<Arc<TypedRunnableModel>> {
    let shape = feed.shape(feed.batch.unwrap_or(1));
    let fact = match feed.element {
        Element::Float => f32::fact(shape),
        Element::Half => f16::fact(shape),
        Element::Double => f64::fact(shape),
        Element::Byte => u8::fact(shape),
    };
    // Shapes stated for intermediate values have an open batch dimension.
    let reader = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
    let model = reader.model_for_path(path)?.with_input_fact(0, fact.into())?;
    model.into_optimized()?.into_runnable()
}

impl Library for Tract {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Tract
    }

    fn compute(&self, feed: &Feed, pixels: Pixels, batch: usize) -> Result<RawOutput> {
        let failed =
            |e| Error::Runtime { name: RuntimeKind::Tract.name(), problem: brief(&format!("{e:#}")) };
        self.run(feed, &pixels, batch).map_err(failed)
    }

    fn side_by_side(&self) -> bool {
        true
    }
}
