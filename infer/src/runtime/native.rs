//! Runtime with this project's fused kernels on the decoded graph. The executor runs graphs that the kernels
//! do not support.

use candle_core::{Device, Tensor};
use milenas_models::fused::{FusedNetwork, Precision};
use milenas_models::graph::{Node, Value};
use milenas_models::{Error as Model, Executor, Graph, Mode, Op, Weights};

use super::Runtime;
use crate::answer::{Answer, OutputMeaning};
use crate::{Error, Result};

/// Image classifier as a graph with one input of images and one output of scores.
pub struct Native {
    graph: Graph,
    engine: NativeEngine,
    /// Fixed batch size; `None` if the graph accepts any.
    batch: Option<usize>,
    image: [usize; 3],
    /// Name of the node whose output is the features, if they were requested.
    features: Option<String>,
}

/// Implementation that runs the graph.
enum NativeEngine {
    /// Fused kernels, if they support all operations of the graph. Otherwise the executor runs it, with the
    /// reason.
    Fused(Box<FusedNetwork>),
    Executor {
        weights: Weights,
        reason: String,
    },
}

impl Native {
    /// Builds the runtime of a decoded graph; `place` is the file's name in messages.
    ///
    /// # Errors
    /// [`Error::Model`] for a graph that is not an image classifier, or that lacks requested features. The
    /// same error for bf16 if the fused kernels do not support the graph.
    pub fn new(
        graph: Graph,
        weights: Weights,
        features: bool,
        precision: Precision,
        place: &str,
    ) -> Result<Self> {
        let refused = |problem: &str| Error::Model { place: place.into(), problem: problem.into() };
        let image = image(&graph).ok_or_else(|| {
            refused("no classifier: expected one input [N, C, H, W] and one output [N, classes]")
        })?;
        let found = pooled(&graph).map(|node| node.name.clone());
        if features && found.is_none() {
            return Err(refused("its outputs come from no linear operation, so it has no features"));
        }
        let engine = engine(&graph, weights, precision, place)?;
        let batch = graph.inputs().next().and_then(|v| graph.fact(v).dims().first()?.fixed());
        Ok(Native { graph, engine, batch, image, features: found.filter(|_| features) })
    }

    /// Returns the reason why the fused kernels do not run the graph; `None` if they do. The executor takes
    /// several times as long.
    pub fn hindrance(&self) -> Option<&str> {
        match &self.engine {
            NativeEngine::Fused(_) => None,
            NativeEngine::Executor { reason, .. } => Some(reason),
        }
    }

    /// Returns the length of the features, if they were requested.
    pub fn features(&self) -> Option<usize> {
        self.features.as_ref().and(pooled(&self.graph)).and_then(|node| match node.fact.dims() {
            [_, length] => length.fixed(),
            _ => None,
        })
    }

    /// Returns the meaning of the outputs, by the last operation other than reshaping.
    pub fn meaning(&self) -> OutputMeaning {
        let mut node = self.graph.outputs().first().map(|(_, v)| self.graph.node(*v));
        while let Some(Node { op: Op::Flatten(_) | Op::Identity(_), inputs, .. }) = node {
            node = inputs.first().map(|v| self.graph.node(*v));
        }
        match node.map(|node| &node.op) {
            Some(Op::Softmax(_)) => OutputMeaning::Probabilities,
            _ => OutputMeaning::Logits,
        }
    }
}

fn engine(graph: &Graph, weights: Weights, precision: Precision, place: &str) -> Result<NativeEngine> {
    match (FusedNetwork::for_evaluation(graph, &weights, precision)?, precision) {
        (Ok(network), _) => Ok(NativeEngine::Fused(Box::new(network))),
        (Err(reason), Precision::Float32) => Ok(NativeEngine::Executor { weights, reason }),
        (Err(reason), Precision::Bf16) => {
            let problem = format!(
                "the fused kernels, which alone have bf16, do not run it: {reason}. help: set `precision` to float32, or export the \
                 network in float32 for any reader"
            );
            Err(Error::Model { place: place.into(), problem })
        }
    }
}

fn image(graph: &Graph) -> Option<[usize; 3]> {
    let mut inputs = graph.inputs();
    let (input, None) = (inputs.next()?, inputs.next()) else { return None };
    let (c, h, w) = graph.fact(input).chw()?;
    let [(_, output)] = graph.outputs() else { return None };
    (graph.fact(*output).dims().len() == 2).then_some([c, h, w])
}

/// Returns the node that the last linear operation reads.
fn pooled(graph: &Graph) -> Option<&Node> {
    let last: Value = graph.values().filter(|(_, n)| matches!(n.op, Op::Linear(_))).last()?.1.inputs[0];
    Some(graph.node(last))
}

impl Runtime for Native {
    fn run(&self, images: &[f32], batch: usize) -> Result<Vec<Answer>> {
        match &self.engine {
            NativeEngine::Fused(network) => {
                let keep = self.features.is_some();
                let answer = |found: milenas_models::fused::Prediction| Answer {
                    outputs: found.logits,
                    features: keep.then_some(found.features),
                };
                Ok(network.infer(images)?.into_iter().map(answer).collect())
            }
            NativeEngine::Executor { weights, .. } => match self.batch {
                None => self.execute(weights, images, batch),
                Some(size) => self.execute_filled(weights, images, size),
            },
        }
    }
}

impl Native {
    /// Runs batches of the fixed size of the graph. The last batch is filled up with zeros.
    fn execute_filled(&self, weights: &Weights, images: &[f32], size: usize) -> Result<Vec<Answer>> {
        let length: usize = self.image.iter().product();
        let mut answers = Vec::new();
        for images in images.chunks(size * length) {
            let mut filled = images.to_vec();
            filled.resize(size * length, 0.0);
            let found = self.execute(weights, &filled, size)?;
            answers.extend(found.into_iter().take(images.len() / length));
        }
        Ok(answers)
    }

    fn execute(&self, weights: &Weights, images: &[f32], batch: usize) -> Result<Vec<Answer>> {
        let [c, h, w] = self.image;
        let images = Tensor::from_slice(images, (batch, c, h, w), &Device::Cpu).map_err(Model::from)?;
        let mut kept = None;
        let executor = Executor::new(&self.graph, weights);
        let mut outputs = executor.run_observed(&[images], Mode::Eval, &mut |node, tensor| {
            if self.features.as_ref() == Some(&node.name) {
                kept = Some(tensor.clone());
            }
        })?;
        let rows = |tensor: Tensor| tensor.to_vec2::<f32>().map_err(Model::from);
        let features =
            kept.map(rows).transpose()?.map_or(vec![None; batch], |f| f.into_iter().map(Some).collect());
        let outputs = rows(outputs.remove(0))?;
        Ok(outputs
            .into_iter()
            .zip(features)
            .map(|(outputs, features)| Answer { outputs, features })
            .collect())
    }
}
