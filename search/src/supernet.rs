//! Supernet: all candidate operations on all edges, mixed by the architecture's weights.

pub(crate) mod alphas;
mod columns;
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
use milenas_models::{Primitive, Space, Weights};

use self::columns::{ColumnMap, ColumnSupernet};
use self::first_order::{FirstOrder, Moving, StepLosses};
use crate::Result;
use crate::data::Batch;
use crate::optim::{Sgd, SgdConfig, clip_factor};

/// Creates the optimised supernet for images `[in_channels, height, width]`, with weights from the seed, on a
/// device or, without one, on the CPU.
///
/// # Errors
/// Fails for images of fewer than 4 pixels on a side, and for a space that the device has no kernels for.
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
        (None, Wiring::TwoEdges) if is_hand_wired(&config.space) => {
            Box::new(fused::FusedSupernet::new(*config))
        }
        (None, Wiring::TwoEdges) => match ColumnMap::new(&config.space) {
            Some(map) => Box::new(ColumnSupernet::new(fused::FusedSupernet::new(*config), *config, map)),
            None => Box::new(reference::Reference::new(config, height, width, seed)?),
        },
        (None, Wiring::Complete) => Box::new(nasbench201::StackedSupernet::new(*config, height, width)?),
    };
    net.load(&start)?;
    Ok(net)
}

/// Candidates of the hand-wired supernets, on the CPU and on a device, by column. Their kernels and tables assume this
/// order, which is why it does not follow [`Primitive::DARTS`].
const HAND_WIRED: [Primitive; CANDIDATES] = [
    Primitive::None,
    Primitive::MaxPool3x3,
    Primitive::AvgPool3x3,
    Primitive::SkipConnect,
    Primitive::SepConv3x3,
    Primitive::SepConv5x5,
    Primitive::DilConv3x3,
    Primitive::DilConv5x5,
];

/// Returns whether the hand-wired supernets compute this space.
fn is_hand_wired(space: &Space) -> bool {
    space.wiring == Wiring::TwoEdges && space.primitives == HAND_WIRED
}

/// Update of one tensor, from its index, its weights, and its gradient of the last evaluation that requested
/// one.
pub type UpdateFn<'a> = dyn FnMut(usize, &mut [f32], &[f32]) + 'a;

/// Supernet of a gradient-based search: losses and gradients for given mixtures, and updates of the weights.
pub trait Supernet {
    /// Returns the configuration.
    fn config(&self) -> &SupernetConfig;

    /// Returns whether the supernet moves and normalises images itself, and prefers batches of bytes.
    fn takes_bytes(&self) -> bool {
        false
    }

    /// Computes loss and gradients on a batch in training mode, with batch statistics, and updates the running
    /// statistics. `mixture` has the rows of each cell. A candidate of weight 0 is skipped: it and its weights
    /// get no gradient.
    fn evaluate_cells(&mut self, batch: &Batch, mixture: &[&[Row]], want: GradRequest) -> Result<PassResult>;

    /// Returns logits `[N, classes]`, with running statistics. `mixture` has the rows of each cell.
    fn predict_cells(&mut self, batch: &Batch, mixture: &[&[Row]]) -> Result<Vec<f32>>;

    /// Calls [`evaluate_cells`](Self::evaluate_cells) with one mixture for all cells of a kind.
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

    /// Calls [`predict_cells`](Self::predict_cells) with one mixture for all cells of a kind.
    fn predict(&mut self, batch: &Batch, mixture: &Mixture) -> Result<Vec<f32>> {
        let cells = for_cells(self.config(), mixture);
        self.predict_cells(batch, &cells)
    }

    /// Returns the norm of all weight gradients of the last pass together.
    fn gradient_norm(&mut self) -> Result<f64>;

    /// Returns the last gradient of a weight by its PyTorch name, row-major; zeros if it had no part in the
    /// pass.
    fn gradient(&mut self, name: &str) -> Result<Vec<f32>>;

    /// Calls `step(index, weights, gradient)` for every trainable tensor that has a gradient, in a fixed order.
    fn update(&mut self, step: &mut UpdateFn) -> Result<()>;

    /// Updates all trainable tensors that have a gradient. Gradients are clipped by their common norm, which is
    /// returned. A supernet on a device may keep the velocities there until
    /// [`download_velocities`](Self::download_velocities).
    fn sgd_step(&mut self, sgd: &mut Sgd, config: &SgdConfig, rate: f64) -> Result<f64> {
        sgd_step_on_host(self, sgd, config, rate)
    }

    /// Performs a whole first-order step under the softmax of the logits, if the supernet can do so without the
    /// host between its parts. Otherwise it changes nothing and returns `None`.
    fn first_order(&mut self, _moving: Moving<'_>, _how: &FirstOrder<'_>) -> Result<Option<StepLosses>> {
        Ok(None)
    }

    /// Copies the velocities of the last steps into `sgd`.
    fn download_velocities(&mut self, _sgd: &mut Sgd) -> Result<()> {
        Ok(())
    }

    /// Returns weights and statistics by PyTorch's names.
    fn weights(&mut self) -> Result<Weights>;

    /// Replaces weights and statistics. The next [`sgd_step`](Self::sgd_step) starts from the velocities of its
    /// `sgd`.
    ///
    /// # Errors
    /// Fails for a missing or unexpected name, and for another shape.
    fn load(&mut self, weights: &Weights) -> Result<()>;

    /// Returns the phases of all passes so far with their seconds; empty if they are not measured.
    fn profile(&self) -> &[(&'static str, f64)] {
        &[]
    }

    /// Resets the times of [`profile`](Self::profile).
    fn reset_profile(&mut self) {}
}

/// Performs [`Supernet::sgd_step`] on the host, tensor by tensor.
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

/// Configuration of a supernet (MiLeNAS, section 4; DARTS, section 3).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SupernetConfig {
    /// Channels of the first cell; a reduction cell doubles them.
    pub channels: usize,
    /// Number of cells; those at `layers / 3` and `2 * layers / 3` are reduction cells.
    pub layers: usize,
    /// Number of classes.
    pub classes: usize,
    /// Number of channels of an image.
    pub in_channels: usize,
    /// Factor between the channels of the stem and `channels`.
    pub stem_multiplier: usize,
    /// Search space: candidates and wiring of cells.
    pub space: Space,
    /// Divisor K of the channels: candidates see the first 1/K of a state's channels, and the other channels
    /// bypass them (PC-DARTS, section 3.2). A node is the channel shuffle of the mixed part and of the bypass.
    /// The bypass is max pooled 2x2 on strided edges, and its weight on an edge is the sum of the candidates'
    /// weights. 1 for whole states; else a divisor of `channels`.
    pub partial: usize,
}

impl SupernetConfig {
    /// Returns the paper's search network for 32x32 colour images: 16 channels, 8 cells of 4 nodes.
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

    /// Returns the number of searched edges in a normal and a reduction cell: a node has one from each input
    /// and each earlier node.
    pub fn edges(&self) -> [usize; 2] {
        let edges = self.space.edges().len();
        [edges, if self.space.has_reduction() { edges } else { 0 }]
    }

    /// Returns the channels of a cell's nodes.
    pub fn channels_at(&self, cell: usize) -> usize {
        (0..=cell).filter(|i| self.reduces(*i)).fold(self.channels, |channels, _| 2 * channels)
    }

    /// Returns the channels of the stem. In NAS-Bench-201 they equal those of a node.
    pub fn stem_channels(&self) -> usize {
        match self.space.wiring {
            Wiring::TwoEdges => self.stem_multiplier * self.channels,
            Wiring::Complete => self.channels,
        }
    }

    /// Returns whether a cell is a reduction cell.
    pub fn reduces(&self, cell: usize) -> bool {
        cell == self.layers / 3 || cell == 2 * self.layers / 3
    }
}

/// Largest number of candidate operations on an edge: the columns of a mixture.
pub const CANDIDATES: usize = 8;

/// Weights of an edge's candidates, in the order of the space. Columns without a candidate are 0.
pub type Row = [f32; CANDIDATES];

/// Mixture weights of normal cells, then of reduction cells, with a row per edge. Edges are ordered by node:
/// (0, 1), (0, 1, 2), (0, 1, 2, 3), ...
pub type Mixture = [Vec<Row>; 2];

/// Returns the rows of each cell, from those of its kind.
pub fn for_cells<'a>(config: &SupernetConfig, mixture: &'a Mixture) -> Vec<&'a [Row]> {
    (0..config.layers).map(|cell| &mixture[usize::from(config.reduces(cell))][..]).collect()
}

/// Sums the gradients of the cells of a kind.
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

/// Gradients that a training pass computes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct GradRequest {
    /// Whether to compute the gradients of the network's weights.
    pub weights: bool,
    /// Whether to compute the gradients of the mixture.
    pub mixture: bool,
}

/// Result of a training pass.
#[derive(Clone, Debug)]
pub struct PassResult<Gradient = Vec<Vec<[f64; CANDIDATES]>>> {
    /// Mean cross-entropy of the batch.
    pub loss: f64,
    /// Number of images whose label has the largest logit.
    pub correct: usize,
    /// Gradient of the loss with respect to the mixture weights (before the gradient of the softmax), by cell
    /// or by kind of cell; zeros if not requested.
    pub mixture_gradient: Gradient,
}

impl<G> PassResult<G> {
    fn map<H>(self, change: impl FnOnce(G) -> H) -> PassResult<H> {
        let PassResult { loss, correct, mixture_gradient } = self;
        PassResult { loss, correct, mixture_gradient: change(mixture_gradient) }
    }
}
