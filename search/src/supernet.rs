//! The supernet: every candidate operation on every edge, mixed by the architecture's weights.

pub(crate) mod alphas;
pub mod cuda;
mod device;
pub mod first_order;
pub mod fused;
pub mod nasbench201;
pub mod reference;

pub use alphas::Alphas;
pub use device::DeviceSpec;

use milenas_models::genotype::Wiring;
use milenas_models::kernels::cuda::Device;
use milenas_models::{Space, Weights};

use self::first_order::{FirstOrder, Moving, StepLosses};
use crate::Result;
use crate::data::Batch;
use crate::optim::{Sgd, SgdConfig, clip_factor};

/// The supernet that programs use, for images `[in_channels, height, width]`: the fast form, from the seeded start, on a device or,
/// without one, on the CPU.
///
/// # Errors
/// Images of fewer than 4 pixels on a side; a space that the device has no kernels for.
pub fn new_supernet(
    config: &SupernetConfig,
    height: usize,
    width: usize,
    seed: u64,
    device: Option<Box<dyn Device>>,
) -> Result<Box<dyn Supernet>> {
    let start = reference::Reference::new(config, height, width, seed)?.weights()?;
    let mut net: Box<dyn Supernet> = match (device, config.space.wiring) {
        (Some(device), _) => Box::new(cuda::CudaSupernet::new(*config, device)?),
        (None, Wiring::TwoEdges) => Box::new(fused::FusedSupernet::new(*config)),
        (None, Wiring::Complete) => Box::new(nasbench201::StackedSupernet::new(*config, height, width)?),
    };
    net.load(&start)?;
    Ok(net)
}

/// Moves one tensor: its index, its weights, and its gradient of the last evaluation that wanted one.
pub type UpdateFn<'a> = dyn FnMut(usize, &mut [f32], &[f32]) + 'a;

/// What a search asks of a supernet: losses and gradients at its weights and a mixture, and a walk over its weights.
pub trait Supernet {
    /// The make of it.
    fn config(&self) -> &SupernetConfig;

    /// Whether it moves and normalises images itself, and would have a batch as bytes.
    fn takes_bytes(&self) -> bool {
        false
    }

    /// Loss and gradients on a batch, in training mode: batch statistics, which move the running ones. `mixture` has the
    /// rows of each cell. A candidate of weight 0 is left out: it and its weights get no gradient.
    fn evaluate_cells(&mut self, batch: &Batch, mixture: &[&[Row]], want: GradRequest) -> Result<PassResult>;

    /// Logits `[N, classes]` with running statistics. `mixture` has the rows of each cell.
    fn predict_cells(&mut self, batch: &Batch, mixture: &[&[Row]]) -> Result<Vec<f32>>;

    /// [`evaluate_cells`](Self::evaluate_cells) with one mixture for all cells of a kind.
    fn evaluate(
        &mut self,
        batch: &Batch,
        mixture: &Mixture,
        want: GradRequest,
    ) -> Result<PassResult<Mixture>> {
        let cells = for_cells(self.config(), mixture);
        let found = self.evaluate_cells(batch, &cells, want)?;
        Ok(found.map(|cells| by_kind(self.config(), &cells)))
    }

    /// [`predict_cells`](Self::predict_cells) with one mixture for all cells of a kind.
    fn predict(&mut self, batch: &Batch, mixture: &Mixture) -> Result<Vec<f32>> {
        let cells = for_cells(self.config(), mixture);
        self.predict_cells(batch, &cells)
    }

    /// The norm of the last weight gradients, all together.
    fn gradient_norm(&mut self) -> Result<f64>;

    /// A weight's last gradient by its PyTorch name, row-major; zeros where it had no part in the pass.
    fn gradient(&mut self, name: &str) -> Result<Vec<f32>>;

    /// Calls `step(index, weights, gradient)` for every trainable tensor that has a gradient, in a fixed order.
    fn update(&mut self, step: &mut UpdateFn) -> Result<()>;

    /// A step of every trainable tensor that has a gradient, clipped by the norm of all together, which it returns. A supernet that
    /// computes elsewhere may keep the velocities there, until [`settle`](Self::settle).
    fn sgd_step(&mut self, sgd: &mut Sgd, config: &SgdConfig, rate: f64) -> Result<f64> {
        sgd_step_on_host(self, sgd, config, rate)
    }

    /// A whole step of first order under the softmax of the logits, where the supernet can make one without the host between its parts;
    /// else `None`, and nothing has moved.
    fn first_order(&mut self, _moving: Moving<'_>, _how: &FirstOrder<'_>) -> Result<Option<StepLosses>> {
        Ok(None)
    }

    /// Gives `sgd` the velocities of the last steps.
    fn download_velocities(&mut self, _sgd: &mut Sgd) -> Result<()> {
        Ok(())
    }

    /// Weights and statistics by PyTorch's names.
    fn weights(&mut self) -> Result<Weights>;

    /// Replaces weights and statistics; the next [`descend`](Self::descend) takes the velocities of its `sgd`.
    ///
    /// # Errors
    /// A name that is missing or unexpected, another shape.
    fn load(&mut self, weights: &Weights) -> Result<()>;

    /// Where the time of all passes so far went: phase and seconds; empty where that is not measured.
    fn profile(&self) -> &[(&'static str, f64)] {
        &[]
    }

    /// Forgets the time spent so far.
    fn reset_profile(&mut self) {}
}

/// [`Supernet::descend`] by a walk over the weights.
fn sgd_step_on_host<S: Supernet + ?Sized>(
    net: &mut S,
    sgd: &mut Sgd,
    config: &SgdConfig,
    rate: f64,
) -> Result<f64> {
    let norm = net.gradient_norm()?;
    let scale = clip_factor(norm, config.clip);
    net.update(&mut |index, w, g| sgd.step(config, rate, scale, index, w, g))?;
    Ok(norm)
}

/// The make of a supernet (MiLeNAS, section 4; DARTS, section 3).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SupernetConfig {
    /// Channels of the first cell; a reduction cell doubles them.
    pub channels: usize,
    /// Cells; those at `layers / 3` and `2 * layers / 3` reduce.
    pub layers: usize,
    /// Classes told apart.
    pub classes: usize,
    /// Channels of an image.
    pub in_channels: usize,
    /// The stem has this many times `channels`.
    pub stem_multiplier: usize,
    /// The candidates, and how cells are wired.
    pub space: Space,
    /// Of a state's channels, candidates see the first of so many parts, and the rest goes past them (PC-DARTS, section 3.2): a
    /// node is the channel shuffle of the mixed part and of the rest, max pooled 2x2 where the edge is strided. On an edge the rest weighs
    /// as much as all candidates together. 1 for whole states; else a divisor of `channels`.
    pub partial: usize,
}

impl SupernetConfig {
    /// The paper's search network for 32x32 colour images: 16 channels, 8 cells of 4 nodes.
    pub const fn paper(classes: usize) -> SupernetConfig {
        SupernetConfig {
            channels: 16,
            layers: 8,
            classes,
            in_channels: 3,
            stem_multiplier: 3,
            space: Space::DARTS,
            partial: 1,
        }
    }

    /// Edges of a normal and of a reduction cell that are searched: a node has one from each input and each earlier node.
    pub fn edges(&self) -> [usize; 2] {
        let edges = self.space.edges().len();
        [edges, if self.space.has_reduction() { edges } else { 0 }]
    }

    /// Channels of a cell's nodes.
    pub fn channels_at(&self, cell: usize) -> usize {
        (0..=cell).filter(|i| self.reduces(*i)).fold(self.channels, |channels, _| 2 * channels)
    }

    /// Channels of the stem: NAS-Bench-201's has those of a node.
    pub fn stem_channels(&self) -> usize {
        match self.space.wiring {
            Wiring::TwoEdges => self.stem_multiplier * self.channels,
            Wiring::Complete => self.channels,
        }
    }

    /// Whether a cell reduces.
    pub fn reduces(&self, cell: usize) -> bool {
        cell == self.layers / 3 || cell == 2 * self.layers / 3
    }
}

/// The most candidate operations of an edge: the columns of a mixture.
pub const CANDIDATES: usize = 8;

/// The weights of an edge's candidates, in the order of the space; columns past its candidates are 0.
pub type Row = [f32; CANDIDATES];

/// Mixture weights for normal cells, then for reduction cells: a row per edge in the order
/// (0, 1), (0, 1, 2), (0, 1, 2, 3), ...
pub type Mixture = [Vec<Row>; 2];

/// The rows of each cell, from those of its kind.
pub fn for_cells<'a>(config: &SupernetConfig, mixture: &'a Mixture) -> Vec<&'a [Row]> {
    (0..config.layers).map(|cell| &mixture[usize::from(config.reduces(cell))][..]).collect()
}

/// Sums over the cells of a kind.
pub fn by_kind(config: &SupernetConfig, cells: &[Vec<[f64; CANDIDATES]>]) -> Mixture {
    [false, true].map(|reduction| {
        let mut sum = vec![[0.0; CANDIDATES]; config.edges()[usize::from(reduction)]];
        for rows in (0..config.layers).rev().filter(|i| config.reduces(*i) == reduction).map(|i| &cells[i]) {
            let sum = sum.as_flattened_mut().iter_mut();
            sum.zip(rows.as_flattened()).for_each(|(total, part)| *total += part);
        }
        sum.into_iter().map(|row: [f64; CANDIDATES]| row.map(|x| x as f32)).collect()
    })
}

/// Which gradients a training pass is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct GradRequest {
    /// Those of the network's weights.
    pub weights: bool,
    /// Those of the mixture.
    pub mixture: bool,
}

/// What a training pass found.
#[derive(Clone, Debug)]
pub struct PassResult<Gradient = Vec<Vec<[f64; CANDIDATES]>>> {
    /// Mean cross-entropy of the batch.
    pub loss: f64,
    /// Images whose label has the largest logit.
    pub correct: usize,
    /// Gradient of the loss by the mixture weights (before the softmax's own gradient), by cell or by kind of cell;
    /// zeros where it was not wanted.
    pub mixture_gradient: Gradient,
}

impl<G> PassResult<G> {
    fn map<H>(self, change: impl FnOnce(G) -> H) -> PassResult<H> {
        let PassResult { loss, correct, mixture_gradient } = self;
        PassResult { loss, correct, mixture_gradient: change(mixture_gradient) }
    }
}
