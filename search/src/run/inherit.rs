//! Weights that a derived network inherits from the supernet of its search.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use milenas_models::{Genotype, NetworkConfig, Weights, hexadecimal};
use sha2::{Digest, Sha256};

use super::CHECKPOINT;
use crate::config::Config;
use crate::strategy::checkpoint::SearchCheckpoint;
use crate::{Error, Result};

/// Supernet in the state of its search's checkpoint.
#[derive(Clone, Debug)]
pub struct TrainedSupernet {
    /// Configuration of the search.
    pub config: Config,
    /// Fingerprint of the search's training images, by `ImageSet::fingerprint`.
    pub images: String,
    weights: Weights,
    place: PathBuf,
}

impl TrainedSupernet {
    /// Reads the checkpoint in the folder of a search.
    ///
    /// # Errors
    /// Fails for a missing or damaged checkpoint, and for a supernet with partial channels.
    pub fn load(run: &Path) -> Result<Self> {
        let place = run.join(CHECKPOINT);
        if !place.exists() {
            let problem = format!(
                "{} holds no search: {CHECKPOINT} is missing. help: give the folder of a search, by its new \
                 name if it was moved",
                run.display()
            );
            return Err(Error::Data { problem });
        }
        let (config, images, weights, epoch) = SearchCheckpoint::supernet(&place)?;
        let partial = config.search.stage(epoch).partial;
        if partial > 1 {
            let problem = format!(
                "its candidates see 1/{partial} of a state's channels, but a derived network needs weights for all. help: search \
                 with search.partial_channels = 1, or with a last stage of 1"
            );
            return Err(Error::Data { problem: format!("{}: {problem}", place.display()) });
        }
        Ok(TrainedSupernet { config, images, weights, place })
    }

    /// Returns the folder of the search.
    pub fn run(&self) -> &Path {
        self.place.parent().unwrap_or(&self.place)
    }

    /// Returns a digest that identifies the weights.
    pub fn fingerprint(&self) -> Result<String> {
        let bytes = self.weights.to_bytes(Default::default())?;
        let digest = hexadecimal(&Sha256::digest(bytes)[..8]);
        Ok(format!("supernet {digest}"))
    }

    /// Copies the weights that the network of `genotype` shares with the supernet into `weights`: stem, cells,
    /// classifier. BatchNorms of cells keep their own weights and biases. Returns the number of copied
    /// elements.
    ///
    /// # Errors
    /// Fails for a convolution that the supernet lacks or has in another shape.
    pub fn inherit(&self, genotype: &Genotype, network: &NetworkConfig, weights: &Weights) -> Result<usize> {
        let names = self.config.search.space()?.origins(genotype, network).map_err(|error| {
            let problem = format!(
                "the genotype does not fit the supernet: {error}. help: give a genotype of this search"
            );
            Error::Data { problem }
        })?;
        let names: HashMap<String, String> = names.into_iter().collect();
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
                // A supernet has no affine BatchNorm parameters in its cells, and no auxiliary head.
                None if var.dims().len() == 1 || name.starts_with("auxiliary_head.") => {}
                found => {
                    let problem = format!(
                        "{}: `{name}` has shape {:?}, the supernet has {:?}. help: give the genotype of this search, and \
                         its channels and layers (omit train.channels and train.layers)",
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
