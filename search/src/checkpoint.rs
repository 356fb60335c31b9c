//! Checkpoint of a run: its position and the state of its kind, as tensors and a header in one safetensors file, with a
//! check that the file is intact and belongs to the run.
//!
//! All random choices of a run use `Rng::new(seed, purpose)` with a purpose per epoch and step, so the position
//! restores all generators. The file does not depend on the clock: equal runs write equal bytes.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor};
use milenas_models::{Weights, file, hexadecimal};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::{Error, Result};

/// Largest checkpoint that is read, in bytes; the paper's search has 25 MB.
pub const MAX_BYTES: u64 = 4 << 30;

/// Position in a run, with sums over the current epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Position {
    /// Epoch, counted from 0.
    pub epoch: usize,
    /// Number of finished steps in the epoch.
    pub step: usize,
    /// Sum of their training losses.
    pub loss: f64,
    /// Number of their training images that were classified correctly.
    pub correct: usize,
    /// Number of their training images.
    pub images: usize,
}

impl Position {
    /// Returns the epoch of the last step; 0 before the first.
    pub fn last_epoch(&self) -> usize {
        if self.step == 0 { self.epoch.saturating_sub(1) } else { self.epoch }
    }

    /// Returns the position before the first step of an epoch.
    pub fn start(epoch: usize) -> Self {
        Position { epoch, ..Position::default() }
    }
}

/// Identity of a run. Only a run with the same identity resumes from its checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct RunOrigin<Subject = ()> {
    /// Configuration of the run.
    pub config: Config,
    /// Fingerprint of the training images, by `ImageSet::fingerprint`.
    pub data: String,
    /// Kind of device, by [`DeviceSpec::kind`](crate::supernet::DeviceSpec::kind).
    pub device: String,
    /// Further identity of this kind of run.
    pub subject: Subject,
}

/// State of one kind of run.
pub trait RunState: Sized {
    /// Name of the kind in messages: a search, a training.
    const KIND: &'static str;
    /// Metadata key of the header.
    const KEY: &'static str;
    /// Identity of the kind, besides configuration, images and device.
    type Subject;
    /// Values that are stored in the header instead of tensors.
    type Header: Serialize + DeserializeOwned;

    /// Adds the state's tensors to `tensors`, and returns its part of the header.
    ///
    /// # Errors
    /// Fails if a tensor cannot be read.
    fn write(&self, tensors: &mut TensorWriter, origin: &RunOrigin<Self::Subject>) -> Result<Self::Header>;

    /// Reads the state.
    ///
    /// # Errors
    /// Fails for a missing or damaged tensor, and for another subject.
    fn read(
        tensors: &TensorReader<'_>,
        header: Self::Header,
        origin: &RunOrigin<Self::Subject>,
    ) -> Result<Self>;

    /// Returns the name and value of the first element that is not finite, if any.
    ///
    /// # Errors
    /// Fails if a tensor cannot be read.
    fn not_finite(&self) -> Result<Option<(&'static str, f64)>>;
}

/// Header with everything except tensors.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header<State> {
    version: u32,
    pub config: String,
    pub data: String,
    /// Checkpoints of older versions do not name their device.
    device: Option<String>,
    epoch: usize,
    step: usize,
    correct: usize,
    images: usize,
    #[serde(flatten)]
    pub state: State,
}

impl<State> Header<State> {
    /// Returns the epoch of the last step; 0 before the first.
    pub fn last_epoch(&self) -> usize {
        Position { step: self.step, ..Position::start(self.epoch) }.last_epoch()
    }
}

/// Format version that this program writes. It reads version 1, too, whose searches have eight logits for every edge.
const VERSION: u32 = 2;

/// Name of the tensor with the sum of losses.
const LOSS: &str = "epoch.loss";

/// State from which a run resumes.
#[derive(Clone, Debug)]
pub struct Checkpoint<State> {
    /// Position in the run.
    pub position: Position,
    /// State of its kind.
    pub state: State,
}

impl<State: RunState> Checkpoint<State> {
    /// Serialises the checkpoint.
    ///
    /// # Errors
    /// Fails if a tensor cannot be read.
    pub fn to_bytes(&self, origin: &RunOrigin<State::Subject>) -> Result<Vec<u8>> {
        let mut tensors = TensorWriter::default();
        let state = self.state.write(&mut tensors, origin)?;
        let Position { epoch, step, loss, correct, images } = self.position;
        tensors.f64(LOSS, &[loss]);
        let (config, data, device) =
            (origin.config.to_toml()?, origin.data.clone(), Some(origin.device.clone()));
        let header = Header { version: VERSION, config, data, device, epoch, step, correct, images, state };
        tensors.finish(State::KEY, &header)
    }

    /// Parses the bytes of [`to_bytes`](Self::to_bytes); `place` names the file in errors.
    ///
    /// # Errors
    /// Fails for a damaged file, and for a run with another configuration, other data, another device or subject.
    pub fn from_bytes(bytes: &[u8], place: &str, origin: &RunOrigin<State::Subject>) -> Result<Self> {
        let (found, header) = TensorReader::open::<Header<State::Header>>(bytes, place, State::KEY)?;
        check_origin(
            place,
            State::KIND,
            [header.version.max(VERSION), VERSION],
            (&header.config, &origin.config),
            [&header.data, &origin.data],
            (header.device.as_deref(), &origin.device),
        )?;
        let Header { epoch, step, correct, images, state, .. } = header;
        let loss = found.f64(LOSS)?.first().copied().unwrap_or_default();
        let position = Position { epoch, step, loss, correct, images };
        Ok(Checkpoint { position, state: State::read(&found, state, origin)? })
    }

    /// Writes the file atomically.
    ///
    /// # Errors
    /// Fails if the file cannot be written; the previous file stays.
    pub fn save(&self, path: &Path, origin: &RunOrigin<State::Subject>) -> Result<()> {
        let Position { epoch, step, .. } = self.position;
        let saved = file::write(path, &self.to_bytes(origin)?);
        saved.map_err(|source| Error::NotSaved { epoch, step, source })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Fails as [`from_bytes`](Self::from_bytes) does, or if the file cannot be read.
    pub fn load(path: &Path, origin: &RunOrigin<State::Subject>) -> Result<Self> {
        Self::from_bytes(&file::read(path, MAX_BYTES)?, &path.display().to_string(), origin)
    }

    /// Returns the name and value of the first element that is not finite, if any. Such a checkpoint must not be saved.
    ///
    /// # Errors
    /// Fails if a tensor cannot be read.
    pub fn not_finite(&self) -> Result<Option<(&'static str, f64)>> {
        self.state.not_finite()
    }
}

/// Returns the first weight that is not finite, if any.
///
/// # Errors
/// Fails if a tensor cannot be read.
pub(crate) fn bad_weight(weights: &Weights) -> Result<Option<f64>> {
    for (_, var) in weights.iter() {
        if let Some(value) = bad(&var.flatten_all()?.to_vec1()?) {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

pub(crate) fn damaged(place: &str, problem: impl std::fmt::Display) -> Error {
    let problem =
        format!("damaged: {problem}. help: restore a copy of the file, or start a new run in another folder");
    Error::Resume { place: place.into(), problem }
}

fn other_kind(place: &str, found: &str, expected: &str) -> Error {
    let problem = format!(
        "it is a `{found}`, expected a `{expected}`. help: a search resumes searches \
         with strategies of its kind, a training resumes trainings"
    );
    Error::Resume { place: place.into(), problem }
}

/// Returns the SHA-256 of the header's text and of all tensors.
fn digest<'a>(header: &str, tensors: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut sum = Sha256::new().chain_update(header);
    tensors.for_each(|(name, bytes)| sum = std::mem::take(&mut sum).chain_update(name).chain_update(bytes));
    hexadecimal(sum.finalize())
}

/// Tensors to write to a file: type, shape and bytes by name.
#[derive(Default)]
pub struct TensorWriter(BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>);

impl TensorWriter {
    pub(crate) fn f32(&mut self, name: String, shape: &[usize], values: &[f32]) {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.0.insert(name, (Dtype::F32, shape.to_vec(), bytes));
    }

    pub(crate) fn f64(&mut self, name: &str, values: &[f64]) {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.0.insert(name.into(), (Dtype::F64, vec![values.len()], bytes));
    }

    pub(crate) fn weights(&mut self, prefix: &str, weights: &Weights) -> Result<()> {
        for (name, var) in weights.iter() {
            self.f32(format!("{prefix}{name}"), var.dims(), &var.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(())
    }

    /// Adds an optimiser's state, one vector per parameter.
    pub(crate) fn vectors(&mut self, prefix: &str, vectors: &[Vec<f32>]) {
        for (index, vector) in vectors.iter().enumerate() {
            self.f32(format!("{prefix}{index:06}"), &[vector.len()], vector);
        }
    }

    /// Returns the file, with `header` as JSON under `key` in its metadata.
    pub(crate) fn finish(self, key: &str, header: &impl Serialize) -> Result<Vec<u8>> {
        let broken = |e: &dyn std::fmt::Display| damaged("checkpoint", e);
        let header = serde_json::to_string(header).map_err(|e| broken(&e))?;
        let digest = digest(&header, self.0.iter().map(|(name, (.., bytes))| (name.as_str(), &bytes[..])));
        let views = self.0.iter().map(|(name, (dtype, shape, bytes))| {
            TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name, view)).map_err(|e| broken(&e))
        });
        // One key only: the library writes several keys in the random order of a hash map.
        let metadata = HashMap::from([(key.to_string(), format!("{digest} {header}"))]);
        safetensors::serialize(views.collect::<Result<Vec<_>>>()?, Some(metadata)).map_err(|e| broken(&e))
    }
}

/// Reader of the tensors of an intact file.
pub struct TensorReader<'a> {
    tensors: SafeTensors<'a>,
    /// Names in order.
    names: Vec<String>,
    place: &'a str,
}

impl<'a> TensorReader<'a> {
    /// Opens a file made by `TensorWriter::finish`, and parses its header; `place` names the file.
    pub(crate) fn open<H: DeserializeOwned>(bytes: &'a [u8], place: &'a str, key: &str) -> Result<(Self, H)> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(place, e))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| damaged(place, e))?;
        let text = metadata.metadata().as_ref().and_then(|m| m.get(key)?.split_once(' '));
        let (sum, header) = text.ok_or_else(|| {
            let kinds = metadata.metadata().iter().flat_map(|m| m.keys());
            match kinds.into_iter().find(|kind| kind.starts_with("milenas.")) {
                Some(kind) => other_kind(place, kind, key),
                None => damaged(place, format!("it has no `{key}`")),
            }
        })?;
        let mut all = tensors.tensors();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        if sum != digest(header, all.iter().map(|(name, view)| (name.as_str(), view.data()))) {
            return Err(damaged(place, "its checksum does not match its contents"));
        }
        let header = serde_json::from_str(header).map_err(|e| damaged(place, e))?;
        let names = all.into_iter().map(|(name, _)| name).collect();
        Ok((TensorReader { tensors, names, place }, header))
    }

    /// Returns the path of the file, for messages.
    pub(crate) fn place(&self) -> &str {
        self.place
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.tensor(name).is_ok()
    }

    fn view(&self, name: &str, dtype: Dtype) -> Result<TensorView<'_>> {
        let view = self.tensors.tensor(name).map_err(|e| damaged(self.place, e))?;
        match view.dtype() == dtype {
            true => Ok(view),
            false => Err(damaged(self.place, format!("`{name}` is {:?}, expected {dtype:?}", view.dtype()))),
        }
    }

    pub(crate) fn f32(&self, name: &str) -> Result<Vec<f32>> {
        let view = self.view(name, Dtype::F32)?;
        Ok(view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    /// Reads values of one shape.
    pub(crate) fn f32_of(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let found = self.view(name, Dtype::F32)?.shape().to_vec();
        match found == shape {
            true => self.f32(name),
            false => {
                Err(damaged(self.place, format!("`{name}` has the shape {found:?}, expected {shape:?}")))
            }
        }
    }

    pub(crate) fn f64(&self, name: &str) -> Result<Vec<f64>> {
        let view = self.view(name, Dtype::F64)?;
        Ok(view.data().as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect())
    }

    fn under<'b>(&'b self, prefix: &'b str) -> impl Iterator<Item = &'b str> {
        self.names.iter().map(String::as_str).filter(move |name| name.starts_with(prefix))
    }

    pub(crate) fn weights(&self, prefix: &str) -> Result<Weights> {
        let mut weights = Weights::default();
        for name in self.under(prefix) {
            let shape = self.view(name, Dtype::F32)?.shape().to_vec();
            weights.insert(&name[prefix.len()..], Tensor::from_vec(self.f32(name)?, shape, &Device::Cpu)?)?;
        }
        Ok(weights)
    }

    pub(crate) fn vectors(&self, prefix: &str) -> Result<Vec<Vec<f32>>> {
        self.under(prefix).map(|name| self.f32(name)).collect()
    }
}

/// Checks that a checkpoint belongs to this run. `what` is a search or a training; pairs are then and now.
///
/// # Errors
/// Fails for another format version, configuration, data or kind of device.
pub(crate) fn check_origin(
    place: &str,
    what: &str,
    version: [u32; 2],
    config: (&str, &Config),
    data: [&str; 2],
    device: (Option<&str>, &str),
) -> Result<()> {
    let other = |problem: String| Err(Error::Resume { place: place.into(), problem });
    let [then, now] = version;
    if then != now {
        return other(format!("version {then}, expected {now}. help: use the program version that wrote it"));
    }
    let then = Config::from_toml(config.0, place).map_err(|e| damaged(place, e))?;
    let differences = then.differences(config.1);
    if !differences.is_empty() {
        return other(format!(
            "it belongs to a {what} with another configuration: {}. help: resume with its own configuration (omit setting `preset`, \
             setting `config` and setting `set`), or start a new {what} in another folder",
            differences.join("; ")
        ));
    }
    let [then, now] = data;
    if then != now {
        return other(format!(
            "it belongs to a {what} on other images, or on classes in another order: {then} then, {now} now. help: use the same \
             image source, or start a new {what} in another folder"
        ));
    }
    // Checkpoints of older versions do not name their device.
    if let (Some(then), now) = device
        && then != now
    {
        return other(format!(
            "it belongs to a {what} that computed on {then}, but {now} was requested. Devices differ in rounding and in the order of the optimiser's state. \
             help: set `device` to {then}, or start a new {what} in another folder"
        ));
    }
    Ok(())
}

/// Returns the first value that is not finite.
pub(crate) fn bad(values: &[f32]) -> Option<f64> {
    values.iter().find(|x| !x.is_finite()).map(|x| f64::from(*x))
}
