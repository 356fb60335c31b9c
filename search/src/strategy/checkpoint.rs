//! A point of a search that it can go on from, as one safetensors file.
//!
//! Every draw of a search is `Rng::new(seed, purpose)` of its own epoch and step, so a position stands for all
//! generators. Nothing in the file depends on the clock: equal searches leave equal bytes.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor};
use milenas_models::{Weights, file};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::sizes::{Best, Size, Sizes};
use crate::config::Config;
use crate::optim::{Adam, Sgd};
use crate::supernet::{Alphas, CANDIDATES};
use crate::{Error, Result};

/// The metadata key of everything that is no tensor.
const KEY: &str = "milenas.checkpoint";
/// The form that this program writes and reads.
const VERSION: u32 = 1;
/// The largest checkpoint that is read, in bytes; the paper's search has 25 MB.
const MAX_BYTES: u64 = 4 << 30;

const SUPERNET: &str = "supernet.";
const SGD: &str = "sgd.";

/// How far a search is, and what it has seen of the epoch it is in.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Position {
    /// The epoch, counted from 0.
    pub epoch: usize,
    /// Its steps that are done.
    pub step: usize,
    /// The sum of their training losses.
    pub loss: f64,
    /// Their training images that were right.
    pub correct: usize,
    /// Their training images.
    pub images: usize,
}

impl Position {
    /// Before the first step of an epoch.
    pub fn start(epoch: usize) -> Self {
        Position { epoch, ..Position::default() }
    }
}

/// A point of a search to go on from.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Where it is.
    pub position: Position,
    /// Weights and statistics of the supernet.
    pub weights: Weights,
    /// The architecture's logits.
    pub alphas: Alphas,
    /// Their optimiser.
    pub adam: Adam,
    /// The weights' optimiser.
    pub sgd: Sgd,
    /// The best of every size so far.
    pub sizes: Sizes,
}

/// What a search is made of; only the same goes on from a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// The configuration.
    pub config: Config,
    /// What `Pictures::fingerprint` says of the training images.
    pub data: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u32,
    config: String,
    data: String,
    epoch: usize,
    step: usize,
    correct: usize,
    images: usize,
    adam_steps: i32,
    sizes: Vec<SizeHeader>,
}

/// A best of a size; its alphas are tensors, its architecture is theirs.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SizeHeader {
    epoch: usize,
    correct: usize,
    images: usize,
}

fn damaged(place: &str, problem: impl std::fmt::Display) -> Error {
    let problem = format!("damaged: {problem}. Help: restore a copy of it, or begin again in another --out");
    Error::Resume { place: place.into(), problem }
}

/// Of the header's text and of all tensors.
fn digest<'a>(header: &str, tensors: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut sum = Sha256::new().chain_update(header);
    tensors.for_each(|(name, bytes)| sum = std::mem::take(&mut sum).chain_update(name).chain_update(bytes));
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Tensors on their way into a file: type, shape, bytes.
#[derive(Default)]
struct Tensors(BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>);

impl Tensors {
    fn f32(&mut self, name: String, shape: &[usize], values: &[f32]) {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.0.insert(name, (Dtype::F32, shape.to_vec(), bytes));
    }

    fn f64(&mut self, name: &str, values: &[f64]) {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.0.insert(name.into(), (Dtype::F64, vec![values.len()], bytes));
    }

    fn alphas(&mut self, name: &str, alphas: &Alphas) {
        for (kind, table) in alphas.operations.iter().enumerate() {
            self.f32(format!("{name}.{kind}"), &[table.len(), CANDIDATES], table.as_flattened());
        }
        for (kind, edges) in alphas.edges.iter().flatten().enumerate() {
            self.f32(format!("{name}.edges.{kind}"), &[edges.len()], edges);
        }
    }
}

/// Tensors of a file.
struct Found<'a> {
    tensors: SafeTensors<'a>,
    place: &'a str,
}

impl Found<'_> {
    fn view(&self, name: &str, dtype: Dtype) -> Result<TensorView<'_>> {
        let view = self.tensors.tensor(name).map_err(|e| damaged(self.place, e))?;
        match view.dtype() == dtype {
            true => Ok(view),
            false => Err(damaged(self.place, format!("`{name}` is {:?}, expected {dtype:?}", view.dtype()))),
        }
    }

    fn f32(&self, name: &str) -> Result<Vec<f32>> {
        let view = self.view(name, Dtype::F32)?;
        Ok(view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    fn f64(&self, name: &str) -> Result<Vec<f64>> {
        let view = self.view(name, Dtype::F64)?;
        Ok(view.data().as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect())
    }

    fn alphas(&self, name: &str) -> Result<Alphas> {
        let table = |kind| Ok::<_, Error>(self.f32(&format!("{name}.{kind}"))?.as_chunks().0.to_vec());
        let edges = |kind| self.f32(&format!("{name}.edges.{kind}"));
        let edges = match self.tensors.tensor(&format!("{name}.edges.0")) {
            Ok(_) => Some([edges(0)?, edges(1)?]),
            Err(_) => None,
        };
        Ok(Alphas { operations: [table(0)?, table(1)?], edges })
    }
}

impl Checkpoint {
    /// As a file.
    pub fn to_bytes(&self, origin: &Origin) -> Result<Vec<u8>> {
        let mut tensors = Tensors::default();
        for (name, var) in self.weights.iter() {
            tensors.f32(format!("{SUPERNET}{name}"), var.dims(), &var.flatten_all()?.to_vec1::<f32>()?);
        }
        for (index, velocity) in self.sgd.state().iter().enumerate() {
            tensors.f32(format!("{SGD}{index:06}"), &[velocity.len()], velocity);
        }
        let (adam_steps, mean, square) = self.adam.state();
        tensors.f64("adam.mean", mean);
        tensors.f64("adam.square", square);
        tensors.alphas("alphas", &self.alphas);
        let Position { epoch, step, loss, correct, images } = self.position;
        tensors.f64("epoch.loss", &[loss]);

        let mut sizes = Vec::new();
        for (index, best) in self.sizes.0.values().enumerate() {
            tensors.alphas(&format!("sizes.{index}"), &best.alphas);
            let (correct, images) = best.accuracy;
            sizes.push(SizeHeader { epoch: best.epoch, correct, images });
        }

        let config = origin.config.to_toml()?;
        let data = origin.data.clone();
        let header =
            Header { version: VERSION, config, data, epoch, step, correct, images, adam_steps, sizes };
        let broken = |e: &dyn std::fmt::Display| damaged("checkpoint", e);
        let header = serde_json::to_string(&header).map_err(|e| broken(&e))?;
        let digest = digest(&header, tensors.0.iter().map(|(name, (.., bytes))| (name.as_str(), &bytes[..])));
        let views = tensors.0.iter().map(|(name, (dtype, shape, bytes))| {
            TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name, view)).map_err(|e| broken(&e))
        });
        // One key: the library writes several in the order of a hash map.
        let metadata = HashMap::from([(KEY.to_string(), format!("{digest} {header}"))]);
        safetensors::serialize(views.collect::<Result<Vec<_>>>()?, Some(metadata)).map_err(|e| broken(&e))
    }

    /// Reads what [`to_bytes`](Self::to_bytes) made; `place` names the file.
    ///
    /// # Errors
    /// A file that is damaged, or of a search with another configuration or other data.
    pub fn from_bytes(bytes: &[u8], place: &str, origin: &Origin) -> Result<Self> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(place, e))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| damaged(place, e))?;
        let text = metadata.metadata().as_ref().and_then(|m| m.get(KEY)?.split_once(' '));
        let (sum, header) = text.ok_or_else(|| damaged(place, format!("it has no `{KEY}`")))?;
        let mut all = tensors.tensors();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        if sum != digest(header, all.iter().map(|(name, view)| (name.as_str(), view.data()))) {
            return Err(damaged(place, "its contents are not those that were written"));
        }
        let header: Header = serde_json::from_str(header).map_err(|e| damaged(place, e))?;
        header.check(place, origin)?;

        let found = Found { tensors, place };
        let mut weights = Weights::default();
        for (name, view) in &all {
            if let Some(name) = name.strip_prefix(SUPERNET) {
                let values = found.f32(&format!("{SUPERNET}{name}"))?;
                weights.insert(name, Tensor::from_vec(values, view.shape(), &Device::Cpu)?)?;
            }
        }
        let velocities = all.iter().filter(|(name, _)| name.starts_with(SGD));
        let sgd = velocities.map(|(name, _)| found.f32(name)).collect::<Result<_>>()?;
        let Header { epoch, step, correct, images, adam_steps, .. } = header;
        let mut sizes = Sizes::default();
        for (index, SizeHeader { epoch, correct, images }) in header.sizes.into_iter().enumerate() {
            let alphas = found.alphas(&format!("sizes.{index}"))?;
            let genotype = alphas.genotype(&origin.config.search.space()?)?;
            let best = Best { epoch, accuracy: (correct, images), genotype, alphas };
            sizes.0.insert(Size::of(&best.genotype), best);
        }
        let loss = found.f64("epoch.loss")?.first().copied().unwrap_or_default();
        Ok(Checkpoint {
            position: Position { epoch, step, loss, correct, images },
            weights,
            alphas: found.alphas("alphas")?,
            adam: Adam::from_state(adam_steps, found.f64("adam.mean")?, found.f64("adam.square")?),
            sgd: Sgd::from_state(sgd),
            sizes,
        })
    }

    /// Writes the file whole or not at all.
    ///
    /// # Errors
    /// A file that cannot be written: the one before it stays.
    pub fn save(&self, path: &Path, origin: &Origin) -> Result<()> {
        let Position { epoch, step, .. } = self.position;
        let bytes = self.to_bytes(origin)?;
        file::write(path, &bytes).map_err(|source| Error::NotSaved { epoch, step, source })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Those of [`from_bytes`](Self::from_bytes), and of the file itself.
    pub fn load(path: &Path, origin: &Origin) -> Result<Self> {
        Self::from_bytes(&file::read(path, MAX_BYTES)?, &path.display().to_string(), origin)
    }

    /// What is not finite in it, if anything is: such a point is no good to go on from.
    pub fn not_finite(&self) -> Result<Option<(&'static str, f64)>> {
        let bad = |values: &[f32]| values.iter().find(|x| !x.is_finite()).map(|x| f64::from(*x));
        for (_, var) in self.weights.iter() {
            if let Some(value) = bad(&var.flatten_all()?.to_vec1()?) {
                return Ok(Some(("a weight of the supernet", value)));
            }
        }
        let alphas = bad(&self.alphas.flat());
        let velocity = self.sgd.state().iter().find_map(|values| bad(values));
        Ok(alphas.map(|x| ("an alpha", x)).or(velocity.map(|x| ("a velocity of a weight", x))))
    }
}

impl Header {
    fn check(&self, place: &str, origin: &Origin) -> Result<()> {
        let other = |problem: String| Err(Error::Resume { place: place.into(), problem });
        if self.version != VERSION {
            return other(format!(
                "version {}, expected {VERSION}. Help: go on with the program that wrote it",
                self.version
            ));
        }
        let config: Config = toml::from_str(&self.config).map_err(|e| damaged(place, e.message()))?;
        let differences = config.differences(&origin.config)?;
        if !differences.is_empty() {
            return other(format!(
                "it is of a search with another configuration: {}. Help: go on with its own (leave --preset, --config \
                 and --set out), or begin a new search in another --out",
                differences.join("; ")
            ));
        }
        if self.data != origin.data {
            return other(format!(
                "it is of a search on other images: {} then, {} now. Help: give the same --data, or begin a new search \
                 in another --out",
                self.data, origin.data
            ));
        }
        Ok(())
    }
}
