//! The weights that a derived network takes over from the supernet it was found in.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use milenas_models::{Genotype, NetworkConfig, Space, Weights, hexadecimal};
use sha2::{Digest, Sha256};

use super::CHECKPOINT;
use crate::config::Config;
use crate::strategy::checkpoint::SearchCheckpoint;
use crate::{Error, Result};

/// A supernet at the point that its search left.
#[derive(Clone, Debug)]
pub struct TrainedSupernet {
    /// Of its search.
    pub config: Config,
    /// The training images of its search, as `Pictures::fingerprint` says it.
    pub images: String,
    weights: Weights,
    place: PathBuf,
}

impl TrainedSupernet {
    /// Reads the checkpoint in the folder of a search.
    ///
    /// # Errors
    /// No checkpoint there, a damaged one, or candidates that see parts of a state alone.
    pub fn load(run: &Path) -> Result<Self> {
        let place = run.join(CHECKPOINT);
        if !place.exists() {
            let problem = format!(
                "--from-supernet: {} holds no search, there is no {CHECKPOINT} in it. Help: give the folder of one, by its new \
                 name if it was moved",
                run.display()
            );
            return Err(Error::Data { problem });
        }
        let (config, images, weights) = SearchCheckpoint::supernet(&place)?;
        if config.search.partial_channels > 1 {
            let problem = format!(
                "its candidates see 1/{} of a state's channels, a derived network needs weights for all. Help: search \
                 without --partial-channels",
                config.search.partial_channels
            );
            return Err(Error::Data { problem: format!("{}: {problem}", place.display()) });
        }
        Ok(TrainedSupernet { config, images, weights, place })
    }

    /// The folder of its search.
    pub fn run(&self) -> &Path {
        self.place.parent().unwrap_or(&self.place)
    }

    /// What tells it from others.
    pub fn fingerprint(&self) -> Result<String> {
        let bytes = self.weights.to_bytes(Default::default())?;
        let digest = hexadecimal(&Sha256::digest(bytes)[..8]);
        Ok(format!("supernet {digest}"))
    }

    /// Copies what the network of `genotype` shares with it into `weights`: stem, cells, classifier. BatchNorms of cells have
    /// weights and biases of their own, which stay as they are. Returns how many numbers were copied.
    ///
    /// # Errors
    /// A convolution that the supernet lacks or has in another shape.
    pub fn inherit(&self, genotype: &Genotype, network: &NetworkConfig, weights: &Weights) -> Result<usize> {
        let names = origins(genotype, network);
        let mut count = 0;
        for (name, var) in weights.iter() {
            let mut parts = name.splitn(5, '.');
            let scope: Vec<&str> = parts.by_ref().take(4).collect();
            let from = match names.get(&scope.join(".")) {
                Some(prefix) => format!("{prefix}.{}", parts.next().unwrap_or_default()),
                None => name.to_string(),
            };
            match self.weights.get(&from) {
                Some(found) if found.dims() == var.dims() => {
                    count += var.elem_count();
                    var.set(&found.as_tensor().copy()?)?;
                }
                // What a supernet's BatchNorms and an auxiliary head lack.
                None if var.dims().len() == 1 || name.starts_with("auxiliary_head.") => {}
                found => {
                    let problem = format!(
                        "{}: `{name}` has shape {:?}, the supernet has {:?}. Help: give the genotype of this search, and \
                         its channels and layers (leave train.channels and train.layers out)",
                        self.place.display(),
                        var.dims(),
                        found.map(|var| var.dims())
                    );
                    return Err(Error::Data { problem });
                }
            }
        }
        Ok(count)
    }
}

/// By the scope of an operation in the network, that of its candidate in the supernet.
fn origins(genotype: &Genotype, network: &NetworkConfig) -> HashMap<String, String> {
    let mut origins = HashMap::new();
    let (primitives, inputs) = (Space::of(genotype).primitives, genotype.wiring().inputs());
    for layer in 0..network.layers {
        let cell =
            if network.is_reduction(layer) { genotype.reduce.as_ref() } else { Some(&genotype.normal) };
        let (mut first, mut op) = (0, 0);
        for (node, edges) in cell.into_iter().flat_map(|cell| cell.nodes().enumerate()) {
            for edge in edges {
                let candidate = primitives.iter().position(|p| *p == edge.primitive).unwrap_or_default();
                origins.insert(
                    format!("cells.{layer}.ops.{op}"),
                    format!("cells.{layer}.edges.{}.{candidate}", first + edge.from),
                );
                op += 1;
            }
            first += inputs + node;
        }
    }
    origins
}
