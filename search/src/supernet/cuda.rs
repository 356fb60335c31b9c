//! Supernet of the DARTS space on a [`Device`]: the computation of [`reference`](super::reference), built from
//! the kernels of `milenas_models::kernels::cuda`.
//!
//! The weights stay on the device, and so do their gradients and velocities. A first-order step uploads the
//! batches as bytes, enqueues everything, and waits once to read losses, statistics and logits. In other steps
//! each pass does so separately. Feature maps are `[channel][image][row][column]`, so that every pointwise
//! convolution is a matrix product.

mod cell;
mod edges;
mod network;
mod pass;
mod plan;
mod results;
mod state;
mod stem_head;
mod steps;

use milenas_models::Weights;
use milenas_models::kernels::cuda::Device;
use milenas_models::space::Space;

use self::network::CudaNetwork;
use super::first_order::{FirstOrder, Moving, StepLosses};
use super::wired::{ColumnMap, Row, slices};
use super::{GradRequest, PassResult, Supernet, SupernetConfig, UpdateFn, sgd_step_on_host};
use crate::data::{Batch, BatchImages};
use crate::optim::{Sgd, SgdConfig};
use crate::{Error, Result};

/// Smallest side of an image, in pixels.
const SMALLEST: usize = 4;

/// Checks that there are kernels for a search's space and its divisor of channels.
///
/// # Errors
/// Fails if there are none.
pub fn supports(space: &dyn Space, partial: usize) -> Result<()> {
    columns(space, partial).map(|_| ())
}

fn columns(space: &dyn Space, partial: usize) -> Result<ColumnMap> {
    let map = ColumnMap::new(space).filter(ColumnMap::is_identity);
    let (key, found) = if map.is_none() {
        ("search.space", space.name().to_string())
    } else if partial != 1 {
        ("search.partial_channels", partial.to_string())
    } else {
        ("search.space", String::new())
    };
    map.filter(|_| partial == 1).ok_or_else(|| Error::Config {
        place: key.into(),
        problem: format!(
            "{found} cannot be searched on a GPU, which supports only the space darts with whole states. help: set `device` to cpu"
        ),
    })
}

/// Supernet on a device.
pub struct CudaSupernet {
    network: CudaNetwork,
    map: ColumnMap,
    device: Box<dyn Device>,
}

impl CudaSupernet {
    /// Creates a network with weights of zero.
    ///
    /// # Errors
    /// Fails for a space or partial channels without kernels.
    pub fn new(config: SupernetConfig, device: Box<dyn Device>) -> Result<CudaSupernet> {
        let map = columns(config.space, config.partial)?;
        Ok(CudaSupernet { network: CudaNetwork::new(config), map, device })
    }

    fn read_gradients(&mut self) -> Result<()> {
        let CudaNetwork { resident, tensors, .. } = &mut self.network;
        Ok(resident.read_gradients(&mut *self.device, tensors)?)
    }

    fn read_weights(&mut self) -> Result<()> {
        let CudaNetwork { resident, tensors, .. } = &mut self.network;
        Ok(resident.read_weights(&mut *self.device, tensors)?)
    }

    /// Checks that all sizes fit.
    fn check(&self, batch: &Batch, mixture: &[&[Row]]) -> milenas_models::Result<()> {
        let config = self.config();
        let wrong = |what: &str, found: String, expected: String| {
            Err(milenas_models::Error::Value { what: what.into(), found, expected })
        };
        let [channels, height, width] = batch.shape;
        if height < SMALLEST || width < SMALLEST {
            return wrong(
                "image size",
                format!("{height}x{width}"),
                format!("at least {SMALLEST}x{SMALLEST}"),
            );
        }
        let pixels = batch.len() * config.in_channels * height * width;
        let (found, wanted) = match &batch.images {
            BatchImages::Numbers(numbers) => (numbers.len(), pixels),
            BatchImages::Bytes(bytes) => (4 * bytes.words().len(), pixels.next_multiple_of(4)),
        };
        if batch.is_empty() || channels != config.in_channels || found != wanted {
            let expected = format!("{wanted} of {} images, one or more", batch.len());
            return wrong("number of pixel values", found.to_string(), expected);
        }
        if let Some(label) = batch.labels.iter().find(|&&label| label as usize >= config.classes) {
            return wrong("a label", label.to_string(), format!("less than the {} classes", config.classes));
        }
        let edges = config.edges();
        if mixture.len() != config.layers || mixture.iter().any(|rows| rows.len() != edges) {
            let found = format!("{:?}", mixture.iter().map(|rows| rows.len()).collect::<Vec<_>>());
            let expected = format!("{edges} of each of {} cells", config.layers);
            return wrong("number of rows of the mixture", found, expected);
        }
        Ok(())
    }
}

impl Supernet for CudaSupernet {
    fn config(&self) -> &SupernetConfig {
        self.network.config()
    }

    fn takes_bytes(&self) -> bool {
        true
    }

    fn evaluate_sites(
        &mut self,
        batch: &Batch,
        mixture: &[Vec<f32>],
        want: GradRequest,
    ) -> Result<PassResult> {
        let cells = self.map.scatter(mixture);
        self.check(batch, &slices(&cells))?;
        let found = self.network.evaluate(&mut *self.device, batch, &slices(&cells), want)?;
        Ok(found.map(|cells| self.map.gather(&cells)))
    }

    fn predict_sites(&mut self, batch: &Batch, mixture: &[Vec<f32>]) -> Result<Vec<f32>> {
        let cells = self.map.scatter(mixture);
        self.check(batch, &slices(&cells))?;
        Ok(self.network.predict(&mut *self.device, batch, &slices(&cells))?)
    }

    fn gradient_norm(&mut self) -> Result<f64> {
        self.read_gradients()?;
        Ok(self.network.tensors.squared_gradient_norm().sqrt())
    }

    fn gradient(&mut self, name: &str) -> Result<Vec<f32>> {
        self.read_gradients()?;
        Ok(self.network.tensors.gradient(name)?)
    }

    fn update(&mut self, step: &mut UpdateFn) -> Result<()> {
        self.read_gradients()?;
        self.read_weights()?;
        self.network.tensors.for_each(step);
        self.network.resident.moved();
        Ok(())
    }

    fn sgd_step(&mut self, sgd: &mut Sgd, config: &SgdConfig, rate: f64) -> Result<f64> {
        let CudaNetwork { resident, tensors, .. } = &mut self.network;
        if let Some(norm) = resident.sgd_step(&mut *self.device, tensors, sgd, config, rate)? {
            return Ok(norm);
        }
        self.download_velocities(sgd)?;
        let norm = sgd_step_on_host(self, sgd, config, rate)?;
        self.network.resident.replaced();
        Ok(norm)
    }

    fn first_order(&mut self, moving: Moving<'_>, how: &FirstOrder<'_>) -> Result<Option<StepLosses>> {
        let mixture = moving.alphas.mixture();
        // A candidate of weight 0 must neither get a gradient nor decay, but a whole step updates all
        // candidates.
        let without = mixture.iter().flatten().any(|weight| *weight == 0.0);
        let [train, valid] = how.batches.map(|batch| batch.shape);
        if moving.alphas.edges.is_some() || without || train != valid {
            return Ok(None);
        }
        let cells = self.map.scatter(&self.config().for_sites(&mixture));
        how.batches.iter().try_for_each(|batch| self.check(batch, &slices(&cells)))?;
        Ok(Some(self.network.first_order(&mut *self.device, moving, how)?))
    }

    fn download_velocities(&mut self, sgd: &mut Sgd) -> Result<()> {
        let CudaNetwork { resident, tensors, .. } = &mut self.network;
        Ok(resident.download_velocities(&mut *self.device, tensors, sgd)?)
    }

    fn weights(&mut self) -> Result<Weights> {
        self.read_weights()?;
        Ok(self.network.tensors.named()?)
    }

    fn load(&mut self, weights: &Weights) -> Result<()> {
        self.network.tensors.load(weights)?;
        self.network.resident.replaced();
        Ok(())
    }
}
