//! A derived network, compiled from its graph, for training and for evaluation.
//!
//! Training runs step by step over the batch, as BatchNorm asks; evaluation image by image, by a plan of its own.

mod backward;
mod codes;
mod compile;
mod evaluate;
mod forward;
mod gradients;
mod jacobian;
mod liveness;
mod mixture;
mod pairs;
mod plan;

use crate::graph::{Graph, Value};
use crate::kernels::cpu::{Channels, Level, MapSize, Pack};
use crate::{Error, Result, Trainable, Weights};

use super::context::{PassContext, Profile};
use super::parameters::Gradients;
use super::scratch::Workspace;
use super::tensors::NetworkTensors;
use super::unit::ConvBlock;
use super::view::{BufferOffset, MapView};
pub use codes::{BufferPool, Codes};
use compile::{Program, compile};
pub use evaluate::Prediction;
use gradients::StateGradients;
use plan::EvalPlan;
pub use plan::Precision;

/// Where a map lies.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct MapSlot {
    buffer: usize,
    /// Packs of the image before it.
    offset: usize,
    map: MapSize,
    channels: Channels,
}

/// What a convolution reads.
enum ConvSource {
    State(MapSlot),
    /// Another convolution's output, normalised and rectified.
    Normed(usize),
}

/// Who reads a convolution, and so where the gradient of its normalised output is.
#[derive(Copy, Clone)]
enum ConvTarget {
    /// A sum, written here.
    State(MapSlot),
    /// Another convolution, which leaves the gradient where its own output was.
    Next(usize),
    /// An output that only operations without weights forget (`none`): it is never made.
    Nobody,
}

struct ConvStep {
    unit: ConvBlock,
    source: ConvSource,
    target: ConvTarget,
}

struct PoolStep {
    maximum: bool,
    stride: usize,
    source: MapSlot,
    target: ConvTarget,
}

impl PoolStep {
    /// The size of the output.
    fn map(&self) -> MapSize {
        self.source.map.strided(self.stride)
    }
}

/// A state passed on, through a norm or under a factor of its own.
struct Passing {
    source: MapSlot,
    target: ConvTarget,
}

#[derive(Copy, Clone, Debug)]
enum SumTerm {
    /// A convolution, normalised, a pool, or a state passed on.
    Made(usize),
    State(MapSlot),
}

struct SumStep {
    terms: Vec<SumTerm>,
    out: MapSlot,
}

enum TrainStep {
    Convolution(ConvStep),
    Pool(PoolStep),
    Passing(Passing),
    Sum(SumStep),
}

impl TrainStep {
    /// Whether it makes a part of a buffer, or a term of one.
    fn makes(&self, buffer: usize) -> bool {
        match self {
            TrainStep::Sum(sum) => sum.out.buffer == buffer,
            _ => matches!(self.target(), Some(ConvTarget::State(slot)) if slot.buffer == buffer),
        }
    }

    /// Who reads what it makes; a sum is a state itself.
    fn target(&self) -> Option<ConvTarget> {
        match self {
            TrainStep::Convolution(c) => Some(c.target),
            TrainStep::Pool(pool) => Some(pool.target),
            TrainStep::Passing(passing) => Some(passing.target),
            TrainStep::Sum(_) => None,
        }
    }

    /// What its norm has before it.
    fn output(&self) -> MapSize {
        match self {
            TrainStep::Convolution(c) => c.unit.output,
            TrainStep::Pool(pool) => pool.map(),
            TrainStep::Passing(passing) => passing.source.map,
            TrainStep::Sum(sum) => sum.out.map,
        }
    }

    /// Packs of an image of what it makes before its norm.
    fn made(&self) -> usize {
        match self {
            TrainStep::Sum(_) | TrainStep::Passing(_) => 0,
            TrainStep::Pool(pool) => pool.map().len(),
            TrainStep::Convolution(c) => c.unit.output.len(),
        }
    }

    /// Packs of an image of the sums it leaves.
    fn sums(&self) -> usize {
        match self {
            TrainStep::Sum(_) => 0,
            // The kernel makes both pools.
            TrainStep::Pool(pool) => 4 * pool.map().packs,
            TrainStep::Convolution(_) | TrainStep::Passing(_) => 2 * self.output().packs,
        }
    }

    /// Blocks of what it reads.
    fn packs(&self) -> usize {
        match self {
            TrainStep::Sum(sum) => sum.out.map.packs,
            TrainStep::Pool(pool) => pool.source.map.packs,
            TrainStep::Passing(passing) => passing.source.map.packs,
            TrainStep::Convolution(c) => c.unit.input.packs,
        }
    }
}

/// What a pass keeps of a batch.
#[derive(Default)]
struct Maps {
    /// Of the batch that the rest has room for.
    batch: usize,
    /// By buffer, `[image]`.
    states: Vec<Vec<Pack>>,
    /// By step, `[image]`: outputs of convolutions before their norms, and of pools.
    made: Vec<Vec<Pack>>,
    /// By step, `[image][2][block]`.
    sums: Vec<Vec<Pack>>,
}

/// What training adds to the mean cross-entropy. The default is nothing.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Regularisers<'a> {
    /// The part of a label that is spread over all classes, 0 to 1, for both heads.
    pub smoothing: f64,
    /// The weight of the auxiliary head's loss.
    pub auxiliary: f64,
    /// What the results of paths are multiplied with, `[path][image]`, drawn for drop path; empty for none.
    pub paths: &'a [f32],
}

/// A classifier `[N, C, H, W] -> [N, classes]`, with weights.
pub struct FusedNetwork {
    level: Level,
    program: Program,
    maps: Maps,
    workspace: Workspace,
    gradients: StateGradients,
    /// By step, what a training pass multiplies its result with, `[image]`; empty where it stays as it is.
    factors: Vec<Vec<f32>>,
    /// Whether the factors are those of a mixture, equal for all images, and their gradients are wanted.
    mixes: bool,
    /// By step, the gradient of the factor.
    slopes: Vec<f64>,
    /// Where a pass that asks for no gradients of weights leaves those it finds on its way.
    unwanted: Gradients,
    profile: Profile,
    /// Of evaluation, as last settled.
    plan: Option<EvalPlan>,
}

impl FusedNetwork {
    /// For a graph of the kinds of operation that the spaces have, weights zero; or why there is no fast form of the
    /// graph, which runs on the [`Executor`](crate::Executor) then.
    pub fn new(graph: &Graph) -> std::result::Result<FusedNetwork, String> {
        FusedNetwork::with_level(graph, Level::best())
    }

    /// With these weights, ready to [`infer`](Self::infer); or why the graph has no fast form.
    ///
    /// # Errors
    /// A missing weight, or one of another size.
    pub fn for_evaluation(
        graph: &Graph,
        weights: &Weights,
        precision: Precision,
    ) -> Result<std::result::Result<FusedNetwork, String>> {
        let mut network = match FusedNetwork::new(graph) {
            Ok(network) => network,
            Err(reason) => return Ok(Err(reason)),
        };
        network.tensors_mut().load(weights)?;
        network.prepare_evaluation(precision);
        Ok(Ok(network))
    }

    /// With an auxiliary head and paths to drop.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn for_training(network: &Trainable) -> std::result::Result<FusedNetwork, String> {
        FusedNetwork::compiled(&network.graph, &network.paths, Level::best())
    }

    /// The same as [`new`](Self::new), for given instructions.
    pub fn with_level(graph: &Graph, level: Level) -> std::result::Result<FusedNetwork, String> {
        FusedNetwork::compiled(graph, &[], level)
    }

    fn compiled(graph: &Graph, paths: &[Value], level: Level) -> std::result::Result<FusedNetwork, String> {
        let program = compile(graph, paths)?;
        let factors = vec![Vec::new(); program.steps.len()];
        let (mixes, slopes, unwanted) = (false, vec![0.0; program.steps.len()], Gradients::default());
        let gradients = StateGradients::new(&program.images);
        let (maps, workspace) = (Maps::default(), Workspace::default());
        let profile = Profile::default();
        let plan = None;
        Ok(FusedNetwork {
            level,
            program,
            maps,
            workspace,
            gradients,
            factors,
            mixes,
            slopes,
            unwanted,
            profile,
            plan,
        })
    }

    /// Parameters, statistics, and the gradients of the last [`descend`](Self::descend).
    pub fn tensors(&self) -> &NetworkTensors {
        &self.program.tensors
    }

    /// The same, to change; the network is no longer settled.
    pub fn tensors_mut(&mut self) -> &mut NetworkTensors {
        self.plan = None;
        &mut self.program.tensors
    }

    /// Where the time of all passes so far went: phase and seconds.
    pub fn profile(&self) -> &[(&'static str, f64)] {
        &self.profile.0
    }

    /// Forgets the time spent so far.
    pub fn reset_profile(&mut self) {
        self.profile.0.clear();
    }

    /// Mean cross-entropy of a batch `[N, C, H, W]` in training mode, the number of right answers, and all gradients:
    /// BatchNorms use the batch's statistics and move the running ones.
    ///
    /// Runs in rayon's current pool; the result does not depend on its number of threads.
    ///
    /// # Errors
    /// Pixels or labels that do not fit.
    pub fn train_step(&mut self, images: &[f32], labels: &[u32]) -> Result<(f64, usize)> {
        self.train_step_with(images, labels, &Regularisers::default())
    }

    /// [`descend`](Self::descend) of a regularised loss: the cross-entropy of smoothed labels plus the weighted one of the
    /// auxiliary head.
    ///
    /// # Errors
    /// Those of [`descend`](Self::descend); an auxiliary head or paths that the network lacks.
    pub fn train_step_with(
        &mut self,
        images: &[f32],
        labels: &[u32],
        extra: &Regularisers<'_>,
    ) -> Result<(f64, usize)> {
        let batch = self.check_labels(images, labels)?;
        self.set_factors(extra.paths, batch)?;
        let auxiliary = extra.auxiliary > 0.0;
        if auxiliary && self.program.auxiliary.is_none() {
            let (found, expected) = ("none in the network".into(), "one, for a weight above 0".into());
            return Err(Error::Value { what: "auxiliary head".into(), found, expected });
        }
        Ok(rayon::scope(|_| {
            self.forward(images, batch, auxiliary);
            let (mut loss, correct) = self.program.head.loss(labels, extra.smoothing);
            if let (true, Some((head, _))) = (auxiliary, &mut self.program.auxiliary) {
                loss += extra.auxiliary * head.loss(labels, extra.smoothing, extra.auxiliary);
            }
            self.backward(images, batch, auxiliary);
            (loss, correct)
        }))
    }

    fn set_factors(&mut self, paths: &[f32], batch: usize) -> Result<()> {
        let expected = self.program.paths.len() * batch;
        if !paths.is_empty() && paths.len() != expected {
            let (found, expected) = (paths.len().to_string(), format!("0 or {expected}"));
            return Err(Error::Value { what: "number of factors of paths".into(), found, expected });
        }
        self.forget_factors();
        for (&step, factors) in self.program.paths.iter().zip(paths.chunks_exact(batch)) {
            self.factors[step].extend_from_slice(factors);
        }
        Ok(())
    }

    /// Lets every result stay as it is.
    fn forget_factors(&mut self) {
        self.mixes = false;
        self.factors.iter_mut().for_each(Vec::clear);
    }

    /// What a pass multiplies a step's result with, for image `i`.
    fn factor(&self, step: usize, i: usize) -> f32 {
        self.factors[step].get(if self.mixes { 0 } else { i }).copied().unwrap_or(1.0)
    }

    /// Whether a step has no part in a pass: nobody reads it, or a mixture gives it no weight.
    fn idles(&self, at: usize) -> bool {
        let unread = matches!(self.program.steps[at].target(), Some(ConvTarget::Nobody));
        unread || (self.mixes && self.factors[at].first() == Some(&0.0))
    }

    /// The number of images, which have these labels.
    fn check_labels(&self, images: &[f32], labels: &[u32]) -> Result<usize> {
        let batch = self.check(images)?;
        let label = labels.iter().find(|&&label| label as usize >= self.program.classes);
        if labels.len() != batch || label.is_some() {
            let found = format!("{} labels, {label:?} among them", labels.len());
            let expected = format!("{batch}, each less than {}", self.program.classes);
            return Err(Error::Value { what: "labels".into(), found, expected });
        }
        Ok(batch)
    }

    /// The number of images.
    fn check(&self, images: &[f32]) -> Result<usize> {
        let image: usize = self.program.image.iter().product();
        if images.is_empty() || !images.len().is_multiple_of(image) {
            let (found, expected) = (images.len().to_string(), format!("a positive multiple of {image}"));
            return Err(Error::Value { what: "number of pixel values".into(), found, expected });
        }
        Ok(images.len() / image)
    }

    fn context(&self, batch: usize) -> PassContext<'_> {
        let (parameters, workspace) = (&self.program.tensors.parameters, &self.workspace);
        PassContext { level: self.level, parameters, workspace, batch, training: true }
    }

    fn view<'a>(&self, states: &'a [Vec<Pack>], slot: MapSlot) -> MapView<'a> {
        let place = BufferOffset { image: self.program.images[slot.buffer], offset: slot.offset };
        MapView { packs: &states[slot.buffer], place, map: slot.map }
    }
}
