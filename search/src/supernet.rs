//! Supernet: all candidate operations on all edges, mixed by the architecture's weights.

pub(crate) mod alphas;
pub mod compiled;
pub mod cuda;
mod device;
pub mod first_order;
pub mod fused;
pub mod reference;
mod widened;
pub mod wired;

pub use alphas::Alphas;
pub use device::DeviceSpec;

use milenas_models::Weights;
use milenas_models::kernels::cuda::Device;
use milenas_models::space::{self, ChoiceGraph, Space, SupernetSize};

use self::compiled::CompiledSupernet;
use self::first_order::{FirstOrder, Moving, StepLosses};
use self::reference::Reference;
use self::wired::WiredSupernet;
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
    let start = Weights::init(&config.choices(height, width)?.graph, seed)?;
    let mut net: Box<dyn Supernet> = if let Some(device) = device {
        Box::new(cuda::CudaSupernet::new(*config, device)?)
    } else if let Some(net) = WiredSupernet::new(*config) {
        Box::new(net)
    } else {
        match CompiledSupernet::new(*config, &config.choices(height, width)?) {
            Ok(net) => Box::new(net),
            Err(reason) => Box::new(Reference::new(config, height, width, seed)?.because(reason)),
        }
    };
    net.load(&start)?;
    Ok(net)
}

/// Values of the candidates, a row for each choice or site.
pub type Rows<T = f32> = Vec<Vec<T>>;

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

    /// Returns why this supernet runs slowly in place of a faster one, if it does.
    fn slow_because(&self) -> Option<&str> {
        None
    }

    /// Computes loss and gradients on a batch in training mode, with batch statistics, and updates the running
    /// statistics. `mixture` has a row for each site. A candidate of weight 0 is skipped: it and its weights
    /// get no gradient.
    fn evaluate_sites(
        &mut self,
        batch: &Batch,
        mixture: &[Vec<f32>],
        want: GradRequest,
    ) -> Result<PassResult>;

    /// Returns logits `[N, classes]`, with running statistics. `mixture` has a row for each site.
    fn predict_sites(&mut self, batch: &Batch, mixture: &[Vec<f32>]) -> Result<Vec<f32>>;

    /// Calls [`evaluate_sites`](Self::evaluate_sites) with one row for all sites of a choice.
    fn evaluate(
        &mut self,
        batch: &Batch,
        mixture: &[Vec<f32>],
        want: GradRequest,
    ) -> Result<PassResult<Rows>> {
        let sites = self.config().for_sites(mixture);
        let found = self.evaluate_sites(batch, &sites, want)?;
        Ok(found.map(|sites| self.config().by_choice(&sites)))
    }

    /// Calls [`predict_sites`](Self::predict_sites) with one row for all sites of a choice.
    fn predict(&mut self, batch: &Batch, mixture: &[Vec<f32>]) -> Result<Vec<f32>> {
        let sites = self.config().for_sites(mixture);
        self.predict_sites(batch, &sites)
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

    /// Changes the divisor of the channels that candidates see to a smaller one. New channels are copies of old ones.
    ///
    /// # Errors
    /// Fails for a supernet that cannot grow.
    fn widen(&mut self, _partial: usize, _seed: u64) -> Result<()> {
        let problem =
            "this supernet cannot grow its channels. help: use stages with one divisor, or search on the CPU";
        Err(crate::Error::Data { problem: problem.into() })
    }

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
    /// Search space.
    pub space: &'static dyn Space,
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
            space: &space::DARTS,
            partial: 1,
        }
    }

    /// Returns the supernet as a graph with all candidates of all sites.
    ///
    /// # Errors
    /// Fails for images too small for the network.
    pub fn choices(&self, height: usize, width: usize) -> Result<ChoiceGraph> {
        let &SupernetConfig { channels, layers, classes, in_channels, stem_multiplier, partial, .. } = self;
        let size =
            SupernetSize { channels, layers, classes, in_channels, height, width, stem_multiplier, partial };
        Ok(self.space.supernet(&size)?)
    }

    /// Returns the row of each site, from those of the choices.
    pub fn for_sites<T: Clone>(&self, rows: &[T]) -> Vec<T> {
        self.space.sites(self.layers).into_iter().map(|choice| rows[choice].clone()).collect()
    }

    /// Sums the gradients of the sites of a choice.
    pub fn by_choice(&self, sites: &[Vec<f64>]) -> Rows {
        let choices = self.space.choices();
        let mut sums: Rows<f64> = choices.iter().map(|choice| vec![0.0; choice.candidates.len()]).collect();
        for (choice, row) in self.space.sites(self.layers).into_iter().zip(sites).rev() {
            sums[choice].iter_mut().zip(row).for_each(|(total, part)| *total += part);
        }
        sums.into_iter().map(|row| row.into_iter().map(|x| x as f32).collect()).collect()
    }

    /// Returns the channels of a cell's nodes.
    pub fn channels_at(&self, cell: usize) -> usize {
        (0..=cell).filter(|i| self.reduces(*i)).fold(self.channels, |channels, _| 2 * channels)
    }

    /// Returns whether a cell is a reduction cell.
    pub fn reduces(&self, cell: usize) -> bool {
        milenas_models::assemble::is_reduction(cell, self.layers)
    }
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
pub struct PassResult<Gradient = Rows<f64>> {
    /// Mean cross-entropy of the batch.
    pub loss: f64,
    /// Number of images whose label has the largest logit.
    pub correct: usize,
    /// Gradient of the loss with respect to the mixture weights (before the gradient of the softmax), by site
    /// or by choice; zeros if not requested.
    pub mixture_gradient: Gradient,
}

impl<G> PassResult<G> {
    fn map<H>(self, change: impl FnOnce(G) -> H) -> PassResult<H> {
        let PassResult { loss, correct, mixture_gradient } = self;
        PassResult { loss, correct, mixture_gradient: change(mixture_gradient) }
    }
}
