//! A derived network, compiled from its graph, for training and evaluation.
//!
//! Training runs step by step over the batch, as BatchNorm requires. Evaluation runs image by image, with a separate
//! schedule.

mod backward;
mod codes;
mod compile;
mod evaluate;
mod features;
mod forward;
mod gradients;
mod jacobian;
mod liveness;
mod mixture;
mod pairs;
mod schedule;

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
pub use features::Features;
use gradients::StateGradients;
pub use schedule::{Precision, Schedule};

/// Location of a feature map.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct MapSlot {
    buffer: usize,
    /// Packs of the same image before the feature map.
    offset: usize,
    map: MapSize,
    channels: Channels,
}

/// Input of a convolution.
enum ConvSource {
    State(MapSlot),
    /// Another convolution's output, after its norm and ReLU.
    Normed(usize),
}

/// Reader of a convolution, which determines where the gradient of its normalised output is.
#[derive(Copy, Clone)]
enum ConvTarget {
    /// A sum, which is written to this slot.
    State(MapSlot),
    /// Another convolution, which stores the gradient in the buffer of its own output.
    Next(usize),
    /// No reader, if only operations without weights (`none`) use the output. The output is not computed.
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
    /// Size of the output.
    fn map(&self) -> MapSize {
        self.source.map.strided(self.stride)
    }
}

/// A state that is passed on through a norm or with a factor of its own.
struct Passing {
    source: MapSlot,
    target: ConvTarget,
}

#[derive(Copy, Clone, Debug)]
enum SumTerm {
    /// The result of a step: a normalised convolution, a pool, or a state that is passed on.
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
    /// Whether the step writes a part of a buffer, or a term of one.
    fn makes(&self, buffer: usize) -> bool {
        match self {
            TrainStep::Sum(sum) => sum.out.buffer == buffer,
            _ => matches!(self.target(), Some(ConvTarget::State(slot)) if slot.buffer == buffer),
        }
    }

    /// Returns the reader of the result. A sum is a state itself and has none.
    fn target(&self) -> Option<ConvTarget> {
        match self {
            TrainStep::Convolution(c) => Some(c.target),
            TrainStep::Pool(pool) => Some(pool.target),
            TrainStep::Passing(passing) => Some(passing.target),
            TrainStep::Sum(_) => None,
        }
    }

    /// Size of the input of the step's norm.
    fn output(&self) -> MapSize {
        match self {
            TrainStep::Convolution(c) => c.unit.output,
            TrainStep::Pool(pool) => pool.map(),
            TrainStep::Passing(passing) => passing.source.map,
            TrainStep::Sum(sum) => sum.out.map,
        }
    }

    /// Packs per image of the result before its norm.
    fn made(&self) -> usize {
        match self {
            TrainStep::Sum(_) | TrainStep::Passing(_) => 0,
            TrainStep::Pool(pool) => pool.map().len(),
            TrainStep::Convolution(c) => c.unit.output.len(),
        }
    }

    /// Packs per image of the sums that the step computes.
    fn sums(&self) -> usize {
        match self {
            TrainStep::Sum(_) => 0,
            // The kernel computes both pools.
            TrainStep::Pool(pool) => 4 * pool.map().packs,
            TrainStep::Convolution(_) | TrainStep::Passing(_) => 2 * self.output().packs,
        }
    }

    /// Number of channel blocks of the input.
    fn packs(&self) -> usize {
        match self {
            TrainStep::Sum(sum) => sum.out.map.packs,
            TrainStep::Pool(pool) => pool.source.map.packs,
            TrainStep::Passing(passing) => passing.source.map.packs,
            TrainStep::Convolution(c) => c.unit.input.packs,
        }
    }
}

/// Feature maps and sums that a pass keeps for a batch.
#[derive(Default)]
struct Maps {
    /// Number of images that the other fields have room for.
    batch: usize,
    /// States by buffer, `[image]`.
    states: Vec<Vec<Pack>>,
    /// Outputs of convolutions before their norms, and of pools, by step, `[image]`.
    made: Vec<Vec<Pack>>,
    /// Sums of each step, `[image][2][block]`.
    sums: Vec<Vec<Pack>>,
}

/// Additions to the mean cross-entropy in training. The default is none.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Regularisers<'a> {
    /// Label smoothing of both heads: the part of a label that is distributed over all classes, 0 to 1.
    pub smoothing: f64,
    /// Weight of the auxiliary head's loss.
    pub auxiliary: f64,
    /// Factors of the paths' results for drop path, `[path][image]`; empty for no drop path.
    pub paths: &'a [f32],
}

/// A classifier `[N, C, H, W] -> [N, classes]`, with weights.
pub struct FusedNetwork {
    level: Level,
    program: Program,
    maps: Maps,
    workspace: Workspace,
    gradients: StateGradients,
    /// Factor of each step's result in a training pass, `[image]`; empty for 1.
    factors: Vec<Vec<f32>>,
    /// Whether the factors are mixture weights: equal for all images, with a gradient.
    mixes: bool,
    /// Gradient of the factor, by step.
    slopes: Vec<f64>,
    /// Buffer for gradients of weights that a pass computes but does not need.
    unwanted: Gradients,
    profile: Profile,
    /// Schedule of evaluation, made by the last [`prepare_evaluation`](Self::prepare_evaluation).
    schedule: Option<Schedule>,
}

impl FusedNetwork {
    /// Compiles a graph of the operations that the search spaces use, with zero weights, for the fastest instruction
    /// set.
    ///
    /// # Errors
    /// A description of the node that this engine does not support. Such a graph runs on the
    /// [`Executor`](crate::Executor).
    pub fn new(graph: &Graph) -> std::result::Result<FusedNetwork, String> {
        FusedNetwork::with_level(graph, Level::best())
    }

    /// Compiles a graph with the given weights, ready to [`infer`](Self::infer). The inner error is that of
    /// [`new`](Self::new).
    ///
    /// # Errors
    /// [`Error::Weights`] if a weight is missing or has another size.
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

    /// Compiles a network with its auxiliary head and the paths that drop path may drop.
    ///
    /// # Errors
    /// A description of the node that this engine does not support.
    pub fn for_training(network: &Trainable) -> std::result::Result<FusedNetwork, String> {
        FusedNetwork::compiled(&network.graph, &network.paths, &[], Level::best())
    }

    /// Compiles a graph like [`new`](Self::new), for the given instruction set.
    pub fn with_level(graph: &Graph, level: Level) -> std::result::Result<FusedNetwork, String> {
        FusedNetwork::compiled(graph, &[], &[], level)
    }

    fn compiled(
        graph: &Graph,
        paths: &[Value],
        watched: &[Value],
        level: Level,
    ) -> std::result::Result<FusedNetwork, String> {
        let program = compile(graph, paths, watched)?;
        let factors = vec![Vec::new(); program.steps.len()];
        let (mixes, slopes, unwanted) = (false, vec![0.0; program.steps.len()], Gradients::default());
        let gradients = StateGradients::new(&program.images);
        let (maps, workspace) = (Maps::default(), Workspace::default());
        let profile = Profile::default();
        let schedule = None;
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
            schedule,
        })
    }

    /// Returns parameters, statistics, and the gradients of the last [`train_step`](Self::train_step).
    pub fn tensors(&self) -> &NetworkTensors {
        &self.program.tensors
    }

    /// Returns the same tensors for modification. The network has to be prepared for evaluation again.
    pub fn tensors_mut(&mut self) -> &mut NetworkTensors {
        self.schedule = None;
        &mut self.program.tensors
    }

    /// Returns the time of all passes so far, as phase and seconds.
    pub fn profile(&self) -> &[(&'static str, f64)] {
        &self.profile.0
    }

    /// Resets the times.
    pub fn reset_profile(&mut self) {
        self.profile.0.clear();
    }

    /// Returns the mean cross-entropy of a batch `[N, C, H, W]` in training mode and the number of correct
    /// predictions, and computes all gradients. BatchNorms use the batch's statistics and update the running
    /// statistics.
    ///
    /// Runs in rayon's current pool; the result does not depend on its number of threads.
    ///
    /// # Errors
    /// [`Error::Value`] if the number of pixels or the labels do not fit the network.
    pub fn train_step(&mut self, images: &[f32], labels: &[u32]) -> Result<(f64, usize)> {
        self.train_step_with(images, labels, &Regularisers::default())
    }

    /// Runs a [`train_step`](Self::train_step) with a regularised loss: the cross-entropy of smoothed labels, plus
    /// the weighted loss of the auxiliary head.
    ///
    /// # Errors
    /// [`Error::Value`] if the number of pixels, the labels or the number of path factors do not fit, or the network
    /// has no auxiliary head.
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

    /// Resets all factors to 1.
    fn forget_factors(&mut self) {
        self.mixes = false;
        self.factors.iter_mut().for_each(Vec::clear);
    }

    /// Returns the factor of a step's result for image `i`.
    fn factor(&self, step: usize, i: usize) -> f32 {
        self.factors[step].get(if self.mixes { 0 } else { i }).copied().unwrap_or(1.0)
    }

    /// Whether a pass skips a step: it has no reader, or a mixture gives it weight 0.
    fn idles(&self, at: usize) -> bool {
        let unread = matches!(self.program.steps[at].target(), Some(ConvTarget::Nobody));
        unread || (self.mixes && self.factors[at].first() == Some(&0.0))
    }

    /// Checks images and labels, and returns the number of images.
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

    /// Checks the number of pixel values, and returns the number of images.
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
