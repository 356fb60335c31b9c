//! Checkpoint of a training.

use milenas_models::{Genotype, Weights};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoint, RunOrigin, RunState, TensorReader, TensorWriter, bad, bad_weight};
use crate::optim::{Ema, Sgd};
use crate::{Error, Result};

const WEIGHTS: &str = "weights.";
const SGD: &str = "sgd.";
const EMA: &str = "ema.";

/// Identity of a training.
pub type TrainOrigin = RunOrigin<TrainSubject>;

/// State from which a training resumes.
pub type TrainCheckpoint = Checkpoint<TrainState>;

/// Network and initial weights of a training.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainSubject {
    /// Architecture of the network.
    pub genotype: Genotype,
    /// Text that identifies the initial weights.
    pub start: String,
}

/// State of a training.
#[derive(Clone, Debug)]
pub struct TrainState {
    /// Weights and statistics, including the auxiliary head's.
    pub weights: Weights,
    /// Optimiser of the weights.
    pub sgd: Sgd,
    /// Exponential moving average of the weights.
    pub ema: Ema,
}

/// Part of the header of a training.
#[derive(Serialize, Deserialize)]
pub struct TrainHeader {
    genotype: Genotype,
    start: String,
    ema_steps: u64,
}

impl RunState for TrainState {
    const KIND: &'static str = "training";
    const KEY: &'static str = "milenas.training";
    type Subject = TrainSubject;
    type Header = TrainHeader;

    fn write(&self, tensors: &mut TensorWriter, origin: &TrainOrigin) -> Result<TrainHeader> {
        tensors.weights(WEIGHTS, &self.weights)?;
        tensors.vectors(SGD, self.sgd.state());
        let (ema_steps, means) = self.ema.state();
        tensors.vectors(EMA, means);
        let TrainSubject { genotype, start } = origin.subject.clone();
        Ok(TrainHeader { genotype, start, ema_steps })
    }

    fn read(tensors: &TensorReader<'_>, header: TrainHeader, origin: &TrainOrigin) -> Result<Self> {
        let now = &origin.subject;
        let what = [
            ("architecture", header.genotype.to_string(), now.genotype.to_string()),
            ("start", header.start, now.start.clone()),
        ];
        if let Some((what, then, now)) = what.into_iter().find(|(_, then, now)| then != now) {
            let problem = format!(
                "it belongs to a training of another {what}: {then} then, {now} now. help: use the same {what}, or start a new \
                 training in another folder"
            );
            return Err(Error::Resume { place: tensors.place().into(), problem });
        }
        Ok(TrainState {
            weights: tensors.weights(WEIGHTS)?,
            sgd: Sgd::from_state(tensors.vectors(SGD)?),
            ema: Ema::from_state(header.ema_steps, tensors.vectors(EMA)?),
        })
    }

    fn not_finite(&self) -> Result<Option<(&'static str, f64)>> {
        if let Some(value) = bad_weight(&self.weights)? {
            return Ok(Some(("a weight", value)));
        }
        let velocity = self.sgd.state().iter().find_map(|values| bad(values));
        Ok(velocity.map(|x| ("a velocity of a weight", x)))
    }
}
