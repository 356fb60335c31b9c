//! State that stays on a device between passes: the weights, their last gradients, and the velocities of SGD.
//!
//! The host receives them on request. The usual search or training steps need no such transfer.

mod feed;
mod tensors;

use milenas_models::kernels::cuda::sgd::{SgdStep, SgdTensors, Table};
use milenas_models::kernels::cuda::{Device, Words};
use milenas_models::{Error, Result};

pub(crate) use self::feed::BatchBuffers;
pub(crate) use self::tensors::{ALIGNMENT, DeviceTensors, Packing};
use crate::optim::{Sgd, SgdConfig};

#[derive(Clone, Copy)]
struct TrainingBuffers {
    /// All parameters, ordered by index.
    weights: Words,
    /// Velocities of all parameters.
    velocities: Words,
    /// Three integers for each piece of a parameter.
    table: Words,
    /// Partial sums of the squared gradients.
    sums: Words,
    /// Norm of the gradients, and the factor by which they were clipped.
    norm: Words,
    /// Learning rate.
    rate: Words,
    /// Gradients of a pass, packed like its weights.
    gradients: Words,
}

/// Update of all parameters, whose inputs and results are on the device.
#[derive(Clone, Copy)]
pub(crate) struct SgdUpdate<'a> {
    /// Positions of the parameters.
    pub(crate) table: Table,
    /// Two elements that receive the norm of the gradients and the factor by which they were clipped.
    pub(crate) norm: Words,
    /// Learning rate.
    pub(crate) rate: Words,
    /// Optimiser with the velocities before the first step on the device.
    pub(crate) sgd: &'a Sgd,
    /// Settings of the optimiser.
    pub(crate) config: &'a SgdConfig,
}

/// Location of the velocities.
#[derive(Default)]
enum Velocities {
    /// In the optimiser of the caller.
    #[default]
    Sgd,
    /// On the device.
    Device,
    /// Copied from the device when its memory was freed.
    Kept(Vec<f32>),
}

/// Device memory, and the locations of the current weights, gradients and velocities.
pub(crate) struct Resident {
    memory: Option<TrainingBuffers>,
    /// Whether the weights on the device are current.
    on_device: bool,
    /// Whether the weights on the host are current.
    on_host: bool,
    /// Packing of the gradients on the device, from the last pass that computed them; `None` once the host has
    /// read them.
    gradients: Option<Packing>,
    velocities: Velocities,
}

fn no_gradients() -> Error {
    let problem = "optimizer step requested before a backward pass. help: this is a bug, please report it";
    Error::Device { what: "a step".into(), problem: problem.into() }
}

impl Resident {
    /// Creates a state in which the host has everything.
    pub(crate) fn new() -> Resident {
        Resident {
            memory: None,
            on_device: false,
            on_host: true,
            gradients: None,
            velocities: Velocities::default(),
        }
    }

    /// Copies everything to the host before the device memory is freed.
    pub(crate) fn leave(&mut self, device: &mut dyn Device, tensors: &mut DeviceTensors) -> Result<()> {
        self.read_gradients(device, tensors)?;
        self.read_weights(device, tensors)?;
        if let (Some(memory), Velocities::Device) = (self.memory, &self.velocities) {
            let mut values = vec![0.0; tensors.words()];
            device.read(memory.velocities, &mut values)?;
            self.velocities = Velocities::Kept(values);
        }
        (self.memory, self.on_device) = (None, false);
        Ok(())
    }

    /// Allocates memory for the parameters, and for `gradients` elements of gradients.
    pub(crate) fn alloc(
        &mut self,
        device: &mut dyn Device,
        tensors: &DeviceTensors,
        gradients: usize,
    ) -> Result<()> {
        let (words, count) = (tensors.words(), tensors.pieces());
        self.memory = Some(TrainingBuffers {
            weights: device.alloc(words)?,
            velocities: device.alloc(words)?,
            table: device.alloc(3 * count)?,
            sums: device.alloc(count)?,
            norm: device.alloc(2)?,
            rate: device.alloc(1)?,
            gradients: device.alloc(gradients)?,
        });
        Ok(())
    }

    /// Uploads the weights if necessary, and returns their buffer on the device.
    pub(crate) fn weights(&mut self, device: &mut dyn Device, tensors: &DeviceTensors) -> Result<Words> {
        let Some(memory) = self.memory else { return Ok(Words::NONE) };
        if !self.on_device {
            device.write(memory.weights, &tensors.all())?;
            self.on_device = true;
        }
        Ok(memory.weights)
    }

    /// Returns the buffer for a pass's gradients, which are packed like its weights.
    pub(crate) fn expect(&mut self, packing: &Packing) -> Words {
        self.gradients = Some(packing.clone());
        self.memory.map_or(Words::NONE, |memory| memory.gradients)
    }

    /// Copies the gradients to the host.
    pub(crate) fn read_gradients(
        &mut self,
        device: &mut dyn Device,
        tensors: &mut DeviceTensors,
    ) -> Result<()> {
        if let (Some(memory), Some(packing)) = (self.memory, self.gradients.take()) {
            let mut gradients = vec![0.0; packing.words()];
            device.read(memory.gradients.part(0, gradients.len())?, &mut gradients)?;
            packing.unpack_gradients(&gradients, tensors);
        }
        Ok(())
    }

    /// Copies the weights to the host.
    pub(crate) fn read_weights(
        &mut self,
        device: &mut dyn Device,
        tensors: &mut DeviceTensors,
    ) -> Result<()> {
        if let (Some(memory), false) = (self.memory, self.on_host) {
            let mut values = vec![0.0; tensors.words()];
            device.read(memory.weights, &mut values)?;
            tensors.set_all(&values);
        }
        self.on_host = true;
        Ok(())
    }

    /// Marks the host's weights as changed.
    pub(crate) fn moved(&mut self) {
        (self.on_device, self.on_host) = (false, true);
    }

    /// Marks the host's weights and optimiser as replaced.
    pub(crate) fn replaced(&mut self) {
        self.moved();
        self.velocities = Velocities::Sgd;
    }

    /// Updates all parameters that have a gradient on the device, and returns the norm of the gradients.
    /// Returns `None` if the gradients are on the host.
    pub(crate) fn sgd_step(
        &mut self,
        device: &mut dyn Device,
        tensors: &DeviceTensors,
        sgd: &Sgd,
        config: &SgdConfig,
        rate: f64,
    ) -> Result<Option<f64>> {
        let (Some(memory), Some(packing)) = (self.memory, &self.gradients) else { return Ok(None) };
        let rows = packing.table(tensors);
        device.write_ints(memory.table, &rows.concat())?;
        let table = Table::of(memory.table, rows[0].len())?;
        self.sgd_step_by_table(device, tensors, table, sgd, config, rate)?;
        let mut norm = [0.0];
        device.read(memory.norm.part(0, 1)?, &mut norm)?;
        Ok(Some(f64::from(norm[0])))
    }

    /// Performs [`sgd_step`](Self::sgd_step) without the norm, by a table on the device, and without waiting.
    pub(crate) fn sgd_step_by_table(
        &mut self,
        device: &mut dyn Device,
        tensors: &DeviceTensors,
        table: Table,
        sgd: &Sgd,
        config: &SgdConfig,
        rate: f64,
    ) -> Result<()> {
        let memory = self.memory.ok_or_else(no_gradients)?;
        device.write(memory.rate, &[rate as f32])?;
        let update = SgdUpdate { table, norm: memory.norm, rate: memory.rate, sgd, config };
        self.enqueue_sgd_step(device, tensors, &update)
    }

    /// Enqueues an update of the parameters of the last pass with gradients, without waiting.
    pub(crate) fn enqueue_sgd_step(
        &mut self,
        device: &mut dyn Device,
        tensors: &DeviceTensors,
        update: &SgdUpdate<'_>,
    ) -> Result<()> {
        let SgdUpdate { table, norm, rate, sgd, config } = *update;
        let memory = self.memory.filter(|_| self.gradients.is_some()).ok_or_else(no_gradients)?;
        self.weights(device, tensors)?;
        match &self.velocities {
            Velocities::Device => {}
            Velocities::Kept(values) => device.write(memory.velocities, values)?,
            Velocities::Sgd => device.write(memory.velocities, &tensors.gathered(sgd.state()))?,
        }
        self.velocities = Velocities::Device;
        let by = SgdStep {
            rate,
            momentum: config.momentum as f32,
            decay: config.decay as f32,
            clip: config.clip as f32,
        };
        let (w, velocity, gradient) = (memory.weights, memory.velocities, memory.gradients);
        table.sgd_step(device, SgdTensors { w, velocity, gradient }, memory.sums, norm, by)?;
        (self.on_device, self.on_host) = (true, false);
        Ok(())
    }

    /// Copies the velocities into `sgd`.
    pub(crate) fn download_velocities(
        &mut self,
        device: &mut dyn Device,
        tensors: &DeviceTensors,
        sgd: &mut Sgd,
    ) -> Result<()> {
        let kept = match (&self.velocities, self.memory) {
            (Velocities::Device, Some(memory)) => {
                let mut values = vec![0.0; tensors.words()];
                device.read(memory.velocities, &mut values)?;
                Some(values)
            }
            (Velocities::Kept(values), _) => Some(values.clone()),
            _ => None,
        };
        if let Some(values) = kept {
            *sgd = Sgd::from_state(tensors.scattered(&values));
        }
        Ok(())
    }
}
