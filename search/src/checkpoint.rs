//! Common parts of the checkpoints of searches and trainings: the position in the run, tensors and a header in
//! one safetensors file, and a check that the file is intact and belongs to the run.
//!
//! All random choices of a run use `Rng::new(seed, purpose)` with a purpose per epoch and step, so the position
//! restores all generators. The file does not depend on the clock: equal runs write equal bytes.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor};
use milenas_models::{Weights, file, hexadecimal};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::Serialize;
use serde::de::DeserializeOwned;
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
    /// Returns the position before the first step of an epoch.
    pub fn start(epoch: usize) -> Self {
        Position { epoch, ..Position::default() }
    }
}

/// Writes the bytes of a checkpoint atomically.
///
/// # Errors
/// Fails if the file cannot be written; the previous file stays.
pub fn write(path: &Path, bytes: &[u8], position: Position) -> Result<()> {
    let Position { epoch, step, .. } = position;
    file::write(path, bytes).map_err(|source| Error::NotSaved { epoch, step, source })
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
        "it is a `{found}`, expected a `{expected}`. help: a search resumes searches, a training \
         resumes trainings"
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
pub(crate) struct Writer(BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>);

impl Writer {
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
pub(crate) struct TensorReader<'a> {
    tensors: SafeTensors<'a>,
    /// Names in order.
    names: Vec<String>,
    place: &'a str,
}

impl<'a> TensorReader<'a> {
    /// Opens a file made by [`Writer::finish`], and parses its header; `place` names the file.
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
    let then = Config::from_toml(config.0, place)?;
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
