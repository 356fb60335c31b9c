//! Checkpoint of a training.

use std::path::Path;

use milenas_models::{Genotype, Weights, file};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{MAX_BYTES, Position, TensorReader, Writer, bad, bad_weight, check_origin};
use crate::config::Config;
use crate::optim::{Ema, Sgd};
use crate::{Error, Result};

/// Metadata key of the header, which holds everything except tensors.
const KEY: &str = "milenas.training";
/// Format version that this program writes and reads.
const VERSION: u32 = 1;

const WEIGHTS: &str = "weights.";
const SGD: &str = "sgd.";
const EMA: &str = "ema.";

/// State from which a training resumes.
#[derive(Clone, Debug)]
pub struct TrainCheckpoint {
    /// Position in the run.
    pub position: Position,
    /// Weights and statistics, including the auxiliary head's.
    pub weights: Weights,
    /// Optimiser of the weights.
    pub sgd: Sgd,
    /// Exponential moving average of the weights.
    pub ema: Ema,
}

/// Identity of a training. Only a training with the same identity resumes from a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainOrigin {
    /// Configuration of the training.
    pub config: Config,
    /// Fingerprint of the training images, by `ImageSet::fingerprint`.
    pub data: String,
    /// Kind of device, by [`DeviceSpec::kind`](crate::supernet::DeviceSpec::kind).
    pub device: String,
    /// Architecture of the network.
    pub genotype: Genotype,
    /// Text that identifies the initial weights.
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
    /// Serialises the checkpoint.
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

    /// Parses the bytes of [`to_bytes`](Self::to_bytes); `place` names the file in errors.
    ///
    /// # Errors
    /// Fails for a damaged file, and for a training with another configuration, other data, another device or
    /// architecture.
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
                "it belongs to a training of another {what}: {then} then, {now} now. help: use the same {what}, or start a new \
                 training in another folder"
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

    /// Writes the file atomically.
    ///
    /// # Errors
    /// Fails if the file cannot be written; the previous file stays.
    pub fn save(&self, path: &Path, origin: &TrainOrigin) -> Result<()> {
        crate::checkpoint::write(path, &self.to_bytes(origin)?, self.position)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Fails as [`from_bytes`](Self::from_bytes) does, or if the file cannot be read.
    pub fn load(path: &Path, origin: &TrainOrigin) -> Result<Self> {
        Self::from_bytes(&file::read(path, MAX_BYTES)?, &path.display().to_string(), origin)
    }

    /// Returns the name and value of the first weight or velocity that is not finite, if any. Such a checkpoint
    /// must not be saved.
    pub fn not_finite(&self) -> Result<Option<(&'static str, f64)>> {
        if let Some(value) = bad_weight(&self.weights)? {
            return Ok(Some(("a weight", value)));
        }
        let velocity = self.sgd.state().iter().find_map(|values| bad(values));
        Ok(velocity.map(|x| ("a velocity of a weight", x)))
    }
}
