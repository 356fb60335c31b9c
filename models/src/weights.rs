//! Weights of a network: named tensors in name order, seeded, saved and loaded as safetensors.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::op::Init;
use crate::{Error, Graph, Result, Rng, file};

/// Largest size of a weights file in bytes. DARTS networks need a hundredth of it.
const MAX_FILE_BYTES: u64 = 2 << 30;

/// Named f32 tensors. Clones share the tensors; [`detached`](Self::detached) copies them.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    tensors: BTreeMap<String, Var>,
}

impl Weights {
    /// Returns the initial weights of a training run. Each tensor draws from a generator of its own, seeded by its
    /// name, so adding or removing a layer does not change the others.
    pub fn init(graph: &Graph, seed: u64) -> Result<Self> {
        let mut weights = Weights::default();
        for node in graph.nodes() {
            for (param, spec) in node.params.iter().zip(node.op.params()) {
                let mut rng = Rng::new(seed, &param.name);
                let count = param.shape.iter().product();
                let data: Vec<f32> = match spec.init {
                    Init::Uniform(bound) => (0..count).map(|_| rng.uniform(-bound, bound)).collect(),
                    Init::Constant(x) => vec![x; count],
                };
                weights.insert(&param.name, Tensor::from_vec(data, param.shape.as_slice(), &Device::Cpu)?)?;
            }
        }
        Ok(weights)
    }

    /// Sets or replaces a tensor.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) -> Result<()> {
        self.tensors
            .insert(name.into(), Var::from_tensor(&tensor.to_dtype(DType::F32)?.detach().contiguous()?)?);
        Ok(())
    }

    /// Returns a tensor by name.
    pub fn get(&self, name: &str) -> Option<&Var> {
        self.tensors.get(name)
    }

    /// Returns a tensor that must exist.
    ///
    /// # Errors
    /// [`Error::Weights`] if there is no tensor with this name.
    pub fn require(&self, name: &str) -> Result<&Var> {
        self.get(name).ok_or_else(|| Error::Weights { problem: format!("`{name}` is missing") })
    }

    /// Adds the tensors of `other`, replacing those of the same name.
    pub fn extend(&mut self, other: Weights) {
        self.tensors.extend(other.tensors);
    }

    /// Iterates over the tensors that gradients change, in name order: all except the running statistics.
    pub fn trainable(&self) -> impl Iterator<Item = (&str, &Var)> {
        let is_statistic = |name: &str| name.ends_with(".running_mean") || name.ends_with(".running_var");
        self.iter().filter(move |(name, _)| !is_statistic(name))
    }

    /// Lets `change` modify the values of a tensor in row-major order.
    pub fn modify(&self, name: &str, change: impl FnOnce(&mut [f32])) -> Result<()> {
        let var = self.require(name)?;
        let mut data: Vec<f32> = var.flatten_all()?.to_vec1()?;
        change(&mut data);
        Ok(var.set(&Tensor::from_vec(data, var.shape(), var.device())?)?)
    }

    /// Overwrites the values of every tensor with those of `other`, which must have the same names and shapes.
    ///
    /// # Errors
    /// [`Error::Weights`] with the first difference in name order.
    pub fn copy_from(&self, other: &Weights) -> Result<()> {
        self.check_same(other)?;
        for (name, var) in self.iter() {
            var.set(&other.require(name)?.as_tensor().copy()?)?;
        }
        Ok(())
    }

    /// Iterates over names and tensors, in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.tensors.iter().map(|(name, var)| (name.as_str(), var))
    }

    /// Keeps the tensors whose names satisfy `keep`.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.tensors.retain(|name, _| keep(name));
    }

    /// Returns a copy that does not share tensors.
    pub fn detached(&self) -> Result<Self> {
        let mut copy = Weights::default();
        for (name, var) in self.iter() {
            copy.insert(name, var.as_tensor().copy()?)?;
        }
        Ok(copy)
    }

    /// Checks that these are the weights of `graph`: no name is missing or unexpected, and every shape is equal.
    ///
    /// # Errors
    /// [`Error::Weights`] with the first difference in network order.
    pub fn check(&self, graph: &Graph) -> Result<()> {
        let mut expected = 0;
        for param in graph.params() {
            expected += 1;
            let Some(found) = self.get(&param.name).map(|var| var.dims()) else {
                let problem =
                    format!("`{}` is missing, the network needs it with shape {:?}", param.name, param.shape);
                return Err(Error::Weights { problem });
            };
            if found != param.shape {
                let problem =
                    format!("`{}` has shape {found:?}, the network needs {:?}", param.name, param.shape);
                return Err(Error::Weights { problem });
            }
        }
        if self.tensors.len() == expected {
            return Ok(());
        }
        let known: std::collections::HashSet<&str> = graph.params().map(|p| p.name.as_str()).collect();
        match self.tensors.keys().find(|name| !known.contains(name.as_str())) {
            Some(name) => Err(Error::Weights { problem: format!("`{name}` is not in the network") }),
            None => Ok(()),
        }
    }

    /// Checks that `other` has the same names and shapes.
    ///
    /// # Errors
    /// [`Error::Weights`] with the first difference in name order.
    pub fn check_same(&self, other: &Weights) -> Result<()> {
        for (name, var) in self.iter() {
            let found = other.require(name)?.dims();
            if found != var.dims() {
                let problem = format!("`{name}` has shape {found:?}, the network needs {:?}", var.dims());
                return Err(Error::Weights { problem });
            }
        }
        match other.tensors.keys().find(|name| !self.tensors.contains_key(*name)) {
            Some(name) => Err(Error::Weights { problem: format!("`{name}` is not in the network") }),
            None => Ok(()),
        }
    }

    /// Returns the weights as safetensors, with text in the header.
    pub fn to_bytes(&self, metadata: BTreeMap<String, String>) -> Result<Vec<u8>> {
        let mut raw = Vec::new();
        for (name, var) in self.iter() {
            let data: Vec<f32> = var.flatten_all()?.to_vec1()?;
            raw.push((
                name,
                var.dims().to_vec(),
                data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>(),
            ));
        }
        let views = raw.iter().map(|(name, shape, data)| {
            TensorView::new(Dtype::F32, shape.clone(), data)
                .map(|view| (*name, view))
                .map_err(unreadable("weights"))
        });
        let views = views.collect::<Result<Vec<_>>>()?;
        let bytes = safetensors::serialize(views, None).map_err(unreadable("weights"))?;
        with_metadata(bytes, metadata)
    }

    /// Reads safetensors of f32, and the text in the header.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a file that is truncated, not safetensors, or has another type or values that are not
    /// finite; `place` names it.
    pub fn from_bytes(bytes: &[u8], place: &str) -> Result<(Self, HashMap<String, String>)> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(unreadable(place))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(unreadable(place))?;
        let mut weights = Weights::default();
        for (name, view) in tensors.iter() {
            if view.dtype() != Dtype::F32 {
                return Err(Error::malformed(
                    format!("{place}, `{name}`"),
                    format!("{:?}, expected F32", view.dtype()),
                ));
            }
            let numbers = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            let numbers: Vec<f32> = numbers.collect();
            if let Some((index, x)) = numbers.iter().enumerate().find(|(_, x)| !x.is_finite()) {
                return Err(Error::malformed(
                    format!("{place}, `{name}`"),
                    format!(
                        "number {index} is {x}, expected finite ones. help: restore the file, or train anew"
                    ),
                ));
            }
            let tensor = Tensor::from_vec(numbers, view.shape(), &Device::Cpu)?;
            weights.insert(name, tensor)?;
        }
        Ok((weights, header.metadata().clone().unwrap_or_default()))
    }

    /// Writes a safetensors file atomically.
    pub fn save(&self, path: &Path, metadata: BTreeMap<String, String>) -> Result<()> {
        file::write(path, &self.to_bytes(metadata)?)
    }

    /// Reads a safetensors file, and the text in its header.
    pub fn load(path: &Path) -> Result<(Self, HashMap<String, String>)> {
        Self::from_bytes(&file::read(path, MAX_FILE_BYTES)?, &path.display().to_string())
    }
}

fn unreadable(place: &str) -> impl Fn(safetensors::SafeTensorError) -> Error + use<> {
    let place = place.to_string();
    move |error| {
        let problem =
            format!("not a whole safetensors file ({error}). help: is it truncated, or another format?");
        Error::malformed(place.clone(), problem)
    }
}

/// Returns the same file with `__metadata__` in name order. The library writes it in the order of a hash map, but
/// equal runs must give equal bytes.
fn with_metadata(bytes: Vec<u8>, metadata: BTreeMap<String, String>) -> Result<Vec<u8>> {
    let (size, body) = bytes.split_at(8);
    let size =
        u64::from_le_bytes(size.try_into().map_err(|_| Error::malformed("weights", "no header"))?) as usize;
    let (header, data) = body.split_at(size);
    let json = |e: serde_json::Error| Error::malformed("weights", e.to_string());
    let mut header: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header).map_err(json)?;
    header.insert("__metadata__".into(), serde_json::to_value(metadata).map_err(json)?);
    let mut header = serde_json::to_vec(&header).map_err(json)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok([&(header.len() as u64).to_le_bytes()[..], &header, data].concat())
}
