//! What stays on a device from pass to pass: the weights, their last gradients, and the velocities of their descent.
//!
//! The host has them all when it asks for them; a step of the usual search or training never does.

mod feed;
mod tensors;

use milenas_models::kernels::cuda::descent::{Descent, Table};
use milenas_models::kernels::cuda::{Device, Words};
use milenas_models::{Error, Result};

pub(crate) use self::feed::BatchBuffers;
pub(crate) use self::tensors::{ALIGNMENT, DeviceTensors, Packing};
use crate::optim::{Sgd, SgdConfig};

#[derive(Clone, Copy)]
struct TrainingBuffers {
    /// All parameters, by number.
    weights: Words,
    velocities: Words,
    /// Three integers for each piece of a parameter.
    table: Words,
    sums: Words,
    /// That of the gradients, and the factor they were clipped by.
    norm: Words,
    rate: Words,
    /// Of a pass, as its weights are packed.
    gradients: Words,
}

/// Who has the velocities.
#[derive(Default)]
enum Velocities {
    /// The optimiser of whoever asks for a step.
    #[default]
    Sgd,
    Device,
    /// Read from the device when its memory was given back.
    Kept(Vec<f32>),
}

/// Where the newest of everything is.
pub(crate) struct Resident {
    memory: Option<TrainingBuffers>,
    /// Whether the device has the weights, and whether the host has.
    on_device: bool,
    on_host: bool,
    /// Where the gradients of the last pass that wanted them lie on the device; none once the host has read them.
    gradients: Option<Packing>,
    velocities: Velocities,
}

fn no_gradients() -> Error {
    let problem = "there are no gradients to descend by. Help: this is a bug";
    Error::Device { what: "a step".into(), problem: problem.into() }
}

impl Resident {
    /// The host has all.
    pub(crate) fn new() -> Resident {
        Resident {
            memory: None,
            on_device: false,
            on_host: true,
            gradients: None,
            velocities: Velocities::default(),
        }
    }

    /// Takes everything from the device, whose memory will be given back.
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

    /// Memory for the parameters, and for gradients of as many words.
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

    /// The weights on the device, all of them.
    pub(crate) fn weights(&mut self, device: &mut dyn Device, tensors: &DeviceTensors) -> Result<Words> {
        let Some(memory) = self.memory else { return Ok(Words::NONE) };
        if !self.on_device {
            device.write(memory.weights, &tensors.all())?;
            self.on_device = true;
        }
        Ok(memory.weights)
    }

    /// Where a pass is to leave gradients that lie as its weights are packed.
    pub(crate) fn expect(&mut self, packing: &Packing) -> Words {
        self.gradients = Some(packing.clone());
        self.memory.map_or(Words::NONE, |memory| memory.gradients)
    }

    /// The host gets the gradients.
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

    /// The host gets the weights.
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

    /// The host's weights have moved.
    pub(crate) fn moved(&mut self) {
        (self.on_device, self.on_host) = (false, true);
    }

    /// The host has other weights, and another optimiser.
    pub(crate) fn replaced(&mut self) {
        self.moved();
        self.velocities = Velocities::Sgd;
    }

    /// A step of all parameters that have a gradient on the device, and the norm of the gradients; `None` where they are the host's.
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
        self.sgd_step_by_table(device, tensors, table, (sgd, config, rate))?;
        let mut norm = [0.0];
        device.read(memory.norm.part(0, 1)?, &mut norm)?;
        Ok(Some(f64::from(norm[0])))
    }

    /// The same without the norm, by a table that the device has; waits for nothing.
    pub(crate) fn sgd_step_by_table(
        &mut self,
        device: &mut dyn Device,
        tensors: &DeviceTensors,
        table: Table,
        (sgd, config, rate): (&Sgd, &SgdConfig, f64),
    ) -> Result<()> {
        let memory = self.memory.ok_or_else(no_gradients)?;
        device.write(memory.rate, &[rate as f32])?;
        self.enqueue_sgd_step(device, tensors, (table, [memory.norm, memory.rate]), (sgd, config))
    }

    /// Asks for a step of the parameters of the last pass that left gradients, with a table and a rate that the device has, and waits for
    /// nothing; two words become the norm of the gradients and the factor they were clipped by.
    pub(crate) fn enqueue_sgd_step(
        &mut self,
        device: &mut dyn Device,
        tensors: &DeviceTensors,
        (table, [norm, rate]): (Table, [Words; 2]),
        (sgd, config): (&Sgd, &SgdConfig),
    ) -> Result<()> {
        let memory = self.memory.filter(|_| self.gradients.is_some()).ok_or_else(no_gradients)?;
        self.weights(device, tensors)?;
        match &self.velocities {
            Velocities::Device => {}
            Velocities::Kept(values) => device.write(memory.velocities, values)?,
            Velocities::Sgd => device.write(memory.velocities, &tensors.gathered(sgd.state()))?,
        }
        self.velocities = Velocities::Device;
        let by = Descent {
            rate,
            momentum: config.momentum as f32,
            decay: config.decay as f32,
            clip: config.clip as f32,
        };
        let what = [memory.weights, memory.velocities, memory.gradients];
        table.sgd_step(device, what, [memory.sums, norm], by)?;
        (self.on_device, self.on_host) = (true, false);
        Ok(())
    }

    /// `sgd` gets the velocities.
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
