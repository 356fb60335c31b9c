//! This project's own kernels, on the decoded graph; the executor where they have no form for it.

use candle_core::{Device, Tensor};
use milenas_models::fused::{FusedNetwork, Precision};
use milenas_models::graph::{Node, Value};
use milenas_models::{Error as Model, Executor, Graph, Mode, Op, Weights};

use super::Runtime;
use crate::answer::{Answer, OutputMeaning};
use crate::{Error, Result};

/// Image classifier as a graph: one image in, one row of scores out.
pub struct Native {
    graph: Graph,
    engine: NativeEngine,
    /// The one size of a batch, where the graph has one.
    batch: Option<usize>,
    image: [usize; 3],
    /// The node whose output is the features, when they are asked for.
    features: Option<String>,
}

/// What runs the graph.
enum NativeEngine {
    /// The fused passes, where they know all of its operations; else the reason why they do not run it.
    Fused(Box<FusedNetwork>),
    Executor {
        weights: Weights,
        reason: String,
    },
}

impl Native {
    /// On a decoded graph; `place` names its file.
    ///
    /// # Errors
    /// A graph that is no classifier; features that it lacks; another precision than float32 where there are no fused passes.
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
            return Err(refused(
                "its answers come from no linear operation, so there are no features to tell",
            ));
        }
        let engine = engine(&graph, weights, precision, place)?;
        let batch = graph.inputs().next().and_then(|v| graph.fact(v).dims().first()?.fixed());
        Ok(Native { graph, engine, batch, image, features: found.filter(|_| features) })
    }

    /// Why the fused passes do not run the graph, where they do not: it takes several times as long then.
    pub fn hindrance(&self) -> Option<&str> {
        match &self.engine {
            NativeEngine::Fused(_) => None,
            NativeEngine::Executor { reason, .. } => Some(reason),
        }
    }

    /// The length of the features, when they were asked for.
    pub fn features(&self) -> Option<usize> {
        self.features.as_ref().and(pooled(&self.graph)).and_then(|node| match node.fact.dims() {
            [_, length] => length.fixed(),
            _ => None,
        })
    }

    /// Meaning of the outputs, by the last operation other than reshaping.
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
                "the fused kernels, which alone have bf16, do not run it: {reason}. Help: set `precision` to float32, or export the \
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

/// The node that the last linear operation reads.
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
    /// In batches of the one size that the graph takes; the last is filled up with zeros.
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
