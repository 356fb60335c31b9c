//! What computes logits. One runtime so far: this project's own executor on the decoded graph.

use candle_core::{Device, Tensor};
use milenas_models::{Executor, Graph, Mode, Weights};

use crate::Result;

/// Computes the logits of a batch.
pub trait Runtime {
    /// `images` `[N, C, H, W]` of N images to `[N, classes]`.
    fn run(&self, images: &[f32], batch: usize) -> Result<Vec<Vec<f32>>>;
}

/// The executor of `milenas-models`.
#[derive(Debug)]
pub struct Native {
    graph: Graph,
    weights: Weights,
}

impl Native {
    /// On a decoded graph.
    pub fn new(graph: Graph, weights: Weights) -> Self {
        Native { graph, weights }
    }

    /// `[C, H, W]` and the number of classes, if the graph is a classifier: one image in, one row of logits out.
    pub fn shapes(&self) -> Option<([usize; 3], usize)> {
        let mut inputs = self.graph.inputs();
        let (input, None) = (inputs.next()?, inputs.next()) else { return None };
        let (c, h, w) = self.graph.fact(input).chw()?;
        let [(_, output)] = self.graph.outputs() else { return None };
        match self.graph.fact(*output).dims() {
            [_, classes] => Some(([c, h, w], classes.fixed()?)),
            _ => None,
        }
    }
}

impl Runtime for Native {
    fn run(&self, images: &[f32], batch: usize) -> Result<Vec<Vec<f32>>> {
        let ([c, h, w], _) = self.shapes().unwrap_or_default();
        let images = Tensor::from_slice(images, (batch, c, h, w), &Device::Cpu);
        let images = images.map_err(milenas_models::Error::from)?;
        let logits = Executor::new(&self.graph, &self.weights).run(&[images], Mode::Eval)?.remove(0);
        Ok(logits.to_vec2().map_err(milenas_models::Error::from)?)
    }
}
