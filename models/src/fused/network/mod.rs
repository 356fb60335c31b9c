//! A derived network, compiled from its graph, for training and for evaluation.
//!
//! Evaluation runs image by image, a thread each, so that what one step writes is in the thread's cache when the next
//! reads it; training runs step by step over the batch, as BatchNorm asks.

mod backward;
mod compile;
mod forward;

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::graph::Graph;
use crate::kernels::blocked::{Channels, Level, Map, Pack};
use crate::{Error, Result, Weights};

use super::context::{Context, Profile};
use super::head::Head;
use super::norm::{AffineNorm, Statistics};
use super::parameters::{Gradients, Named, Parameters};
use super::scratch::Workspace;
use super::stem::Stem;
use super::unit::Unit;
use super::view::{Place, View};

/// Where a map lies.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Slot {
    buffer: usize,
    /// Packs of the image before it.
    offset: usize,
    map: Map,
    channels: Channels,
}

/// What a convolution reads.
enum Source {
    State(Slot),
    /// Another convolution's output, normalised and rectified.
    Normed(usize),
}

/// Who reads a convolution, and so where the gradient of its normalised output is.
#[derive(Copy, Clone)]
enum Target {
    /// A sum, written here.
    State(Slot),
    /// Another convolution, which leaves the gradient where its own output was.
    Next(usize),
}

struct Convolution {
    unit: Unit,
    source: Source,
    target: Target,
}

struct Pool {
    maximum: bool,
    stride: usize,
    source: Slot,
    target: Slot,
}

impl Pool {
    /// The size of the output.
    fn map(&self) -> Map {
        self.source.map.strided(self.stride)
    }
}

#[derive(Copy, Clone, Debug)]
enum Term {
    /// A convolution, normalised, or a pool.
    Made(usize),
    State(Slot),
}

struct Sum {
    terms: Vec<Term>,
    out: Slot,
}

enum Step {
    Convolution(Convolution),
    Pool(Pool),
    Sum(Sum),
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

/// A classifier `[N, C, H, W] -> [N, classes]`, with weights.
pub struct Network {
    level: Level,
    classes: usize,
    image: [usize; 3],
    parameters: Parameters,
    statistics: Statistics,
    weights: Gradients,
    norms: Vec<Option<AffineNorm>>,
    steps: Vec<Step>,
    images: Vec<usize>,
    stem: Stem,
    head: Head,
    last: Slot,
    maps: Maps,
    workspace: Workspace,
    /// Gradients of states, by buffer, and buffers free to become some.
    gradients: Vec<Vec<Pack>>,
    spare: Vec<Vec<Pack>>,
    profile: Profile,
}

impl Network {
    /// For a graph of the kinds of operation that the DARTS space has, weights zero; or why there is no fast form of the
    /// graph, which runs on the [`Executor`](crate::Executor) then.
    pub fn new(graph: &Graph) -> std::result::Result<Network, String> {
        Network::with_level(graph, Level::best())
    }

    /// The same for given instructions.
    pub fn with_level(graph: &Graph, level: Level) -> std::result::Result<Network, String> {
        let program = compile::compile(graph)?;
        let weights = Gradients::new(&program.parameters);
        let compile::Program {
            parameters,
            statistics,
            norms,
            steps,
            images,
            stem,
            head,
            last,
            classes,
            image,
            ..
        } = program;
        let gradients = images.iter().map(|_| Vec::new()).collect();
        Ok(Network {
            level,
            classes,
            image,
            parameters,
            statistics,
            weights,
            norms,
            steps,
            images,
            stem,
            head,
            last,
            maps: Maps::default(),
            workspace: Workspace::default(),
            gradients,
            spare: Vec::new(),
            profile: Profile::default(),
        })
    }

    /// Takes every weight and statistic of the graph from `weights`.
    ///
    /// # Errors
    /// A missing tensor, or one of another size.
    pub fn load(&mut self, weights: &Weights) -> Result<()> {
        let read = |name: &str, expected: usize| -> Result<Vec<f32>> {
            let values: Vec<f32> = weights.require(name)?.flatten_all()?.to_vec1()?;
            if values.len() != expected {
                let problem = format!("`{name}` has {expected} elements, found {}", values.len());
                return Err(Error::Weights { problem });
            }
            Ok(values)
        };
        for named in self.parameters.named.clone() {
            self.parameters.set(&named.name, &read(&named.name, named.shape.iter().product())?);
        }
        for (name, values) in self.statistics.names.iter().zip(&mut self.statistics.values) {
            *values = read(name, values.len())?;
        }
        Ok(())
    }

    /// Puts every weight and statistic back into `weights`, where [`load`](Self::load) found them.
    ///
    /// # Errors
    /// A missing tensor.
    pub fn store(&self, weights: &Weights) -> Result<()> {
        for named in &self.parameters.named {
            let values = Parameters::read(named, &self.parameters.values);
            weights.modify(&named.name, |to| to.copy_from_slice(&values))?;
        }
        for (name, values) in self.statistics.names.iter().zip(&self.statistics.values) {
            weights.modify(name, |to| to.copy_from_slice(values))?;
        }
        Ok(())
    }

    /// The parameters, as PyTorch names and shapes them.
    pub fn parameters(&self) -> &[Named] {
        &self.parameters.named
    }

    /// The gradient of a parameter in PyTorch's layout, from the last [`descend`](Self::descend).
    pub fn gradient(&self, name: &str) -> Option<Vec<f32>> {
        Some(Parameters::read(self.parameters.find(name)?, &self.weights.values))
    }

    /// The squared norm of all gradients together.
    pub fn squared_gradient_norm(&self) -> f64 {
        self.weights.squared_norm()
    }

    /// Shows every packed parameter and its gradient: index, values, gradient. Filling lanes are zero with zero
    /// gradients; an optimiser must leave them zero, as all do whose step for (0, 0) is 0.
    pub fn for_each_parameter(&mut self, visit: impl FnMut(usize, &mut [f32], &[f32])) {
        self.parameters.for_each(&self.weights, visit);
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
    pub fn descend(&mut self, images: &[f32], labels: &[u32]) -> Result<(f64, usize)> {
        let batch = self.check(images)?;
        let label = labels.iter().find(|&&label| label as usize >= self.classes);
        if labels.len() != batch || label.is_some() {
            let found = format!("{} labels, {label:?} among them", labels.len());
            let expected = format!("{batch}, each less than {}", self.classes);
            return Err(Error::Value { what: "labels".into(), found, expected });
        }
        Ok(rayon::scope(|_| {
            self.forward(images, batch);
            let result = self.head.loss(labels);
            self.backward(images, batch);
            result
        }))
    }

    /// Logits `[N, classes]` in evaluation mode: BatchNorms use the running statistics.
    ///
    /// # Errors
    /// Pixels that do not fit.
    pub fn predict(&mut self, images: &[f32]) -> Result<Vec<f32>> {
        let batch = self.check(images)?;
        self.workspace.prepare();
        for norm in self.norms.iter_mut().flatten() {
            norm.evaluate(&self.parameters, &self.statistics);
        }
        self.stem.evaluate(&self.parameters, &self.statistics);
        let len = images.len() / batch;
        let free: Mutex<Vec<(Maps, Stem, Head)>> = Mutex::default();
        let mut logits = vec![0.0; batch * self.classes];
        let tasks = images.par_chunks_exact(len).zip(logits.par_chunks_exact_mut(self.classes));
        tasks.for_each(|(image, logits)| {
            let kept = free.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let (mut maps, mut stem, mut head) =
                kept.unwrap_or_else(|| (Maps::default(), self.stem.clone(), self.head.clone()));
            self.evaluate_one(image, &mut maps, &mut stem, &mut head);
            logits.copy_from_slice(&head.logits);
            free.lock().unwrap_or_else(PoisonError::into_inner).push((maps, stem, head));
        });
        Ok(logits)
    }

    /// The number of images.
    fn check(&self, images: &[f32]) -> Result<usize> {
        let image: usize = self.image.iter().product();
        if images.is_empty() || !images.len().is_multiple_of(image) {
            let (found, expected) = (images.len().to_string(), format!("a positive multiple of {image}"));
            return Err(Error::Value { what: "number of pixel values".into(), found, expected });
        }
        Ok(images.len() / image)
    }

    fn context(&self, batch: usize, training: bool) -> Context<'_> {
        let (parameters, workspace) = (&self.parameters, &self.workspace);
        Context { level: self.level, parameters, workspace, batch, training }
    }

    fn view<'a>(&self, states: &'a [Vec<Pack>], slot: Slot) -> View<'a> {
        let place = Place { image: self.images[slot.buffer], offset: slot.offset };
        View { packs: &states[slot.buffer], place, map: slot.map }
    }
}
