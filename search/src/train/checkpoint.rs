//! A point of a training that it can go on from.

use std::path::Path;

use milenas_models::{Genotype, Weights, file};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{MAX_BYTES, Position, TensorReader, Writer, bad, bad_weight, check_origin};
use crate::config::Config;
use crate::optim::{Ema, Sgd};
use crate::{Error, Result};

/// The metadata key of everything that is no tensor.
const KEY: &str = "milenas.training";
/// The form that this program writes and reads.
const VERSION: u32 = 1;

const WEIGHTS: &str = "weights.";
const SGD: &str = "sgd.";
const EMA: &str = "ema.";

/// A point of a training to go on from.
#[derive(Clone, Debug)]
pub struct TrainCheckpoint {
    /// Where it is.
    pub position: Position,
    /// Weights and statistics, the auxiliary head's with them.
    pub weights: Weights,
    /// The optimiser.
    pub sgd: Sgd,
    /// The running mean of the weights.
    pub ema: Ema,
}

/// What a training is made of; only the same goes on from a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainOrigin {
    /// The configuration.
    pub config: Config,
    /// What `Pictures::fingerprint` says of the training images.
    pub data: String,
    /// The kind of thing that computes, as [`Place::kind`](crate::supernet::Place::kind) says it.
    pub device: String,
    /// The architecture.
    pub genotype: Genotype,
    /// Where the first weights come from: a text that tells them from others.
    pub start: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrainHeader {
    version: u32,
    config: String,
    data: String,
    device: Option<String>,
    genotype: Genotype,
    start: String,
    epoch: usize,
    step: usize,
    correct: usize,
    images: usize,
    ema_steps: u64,
}

impl TrainCheckpoint {
    /// As a file.
    pub fn to_bytes(&self, origin: &TrainOrigin) -> Result<Vec<u8>> {
        let mut tensors = Writer::default();
        tensors.weights(WEIGHTS, &self.weights)?;
        tensors.vectors(SGD, self.sgd.state());
        let (ema_steps, means) = self.ema.state();
        tensors.vectors(EMA, means);
        let Position { epoch, step, loss, correct, images } = self.position;
        tensors.f64("epoch.loss", &[loss]);
        let TrainOrigin { data, device, genotype, start, .. } = origin.clone();
        let config = origin.config.to_toml()?;
        let header = TrainHeader {
            version: VERSION,
            config,
            data,
            device: Some(device),
            genotype,
            start,
            epoch,
            step,
            correct,
            images,
            ema_steps,
        };
        tensors.finish(KEY, &header)
    }

    /// Reads what [`to_bytes`](Self::to_bytes) made; `place` names the file.
    ///
    /// # Errors
    /// A file that is damaged, or of a training with another configuration, other data, another device or architecture.
    pub fn from_bytes(bytes: &[u8], place: &str, origin: &TrainOrigin) -> Result<Self> {
        let (found, header) = TensorReader::open::<TrainHeader>(bytes, place, KEY)?;
        check_origin(
            place,
            "training",
            [header.version, VERSION],
            (&header.config, &origin.config),
            [&header.data, &origin.data],
            (header.device.as_deref(), &origin.device),
        )?;
        let what = [
            ("architecture", header.genotype.to_string(), origin.genotype.to_string()),
            ("start", header.start, origin.start.clone()),
        ];
        if let Some((what, then, now)) = what.into_iter().find(|(_, then, now)| then != now) {
            let problem = format!(
                "it is of a training of another {what}: {then} then, {now} now. Help: give the same, or begin a new \
                 training in another --out"
            );
            return Err(Error::Resume { place: place.into(), problem });
        }
        let TrainHeader { epoch, step, correct, images, ema_steps, .. } = header;
        let loss = found.f64("epoch.loss")?.first().copied().unwrap_or_default();
        Ok(TrainCheckpoint {
            position: Position { epoch, step, loss, correct, images },
            weights: found.weights(WEIGHTS)?,
            sgd: Sgd::from_state(found.vectors(SGD)?),
            ema: Ema::from_state(ema_steps, found.vectors(EMA)?),
        })
    }

    /// Writes the file whole or not at all.
    ///
    /// # Errors
    /// A file that cannot be written: the one before it stays.
    pub fn save(&self, path: &Path, origin: &TrainOrigin) -> Result<()> {
        crate::checkpoint::write(path, &self.to_bytes(origin)?, self.position)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Those of [`from_bytes`](Self::from_bytes), and of the file itself.
    pub fn load(path: &Path, origin: &TrainOrigin) -> Result<Self> {
        Self::from_bytes(&file::read(path, MAX_BYTES)?, &path.display().to_string(), origin)
    }

    /// A weight or velocity that is not finite, if any is: such a point is no good to go on from.
    pub fn not_finite(&self) -> Result<Option<(&'static str, f64)>> {
        if let Some(value) = bad_weight(&self.weights)? {
            return Ok(Some(("a weight", value)));
        }
        let velocity = self.sgd.state().iter().find_map(|values| bad(values));
        Ok(velocity.map(|x| ("a velocity of a weight", x)))
    }
}
