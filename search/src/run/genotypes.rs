//! Folder `genotypes/` of a search: the best genotype of every size, and a table of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use milenas_models::{Cost, Genotype, NetworkConfig, file};
use serde::Serialize;

use crate::strategy::sizes::{BestBySize, ModelSize, measure};
use crate::supernet::Rows;
use crate::{Error, Result};

const FOLDER: &str = "genotypes";

/// Row of `genotypes/table.json`: the best epoch of a size.
#[derive(Clone, Debug, Serialize)]
pub struct GenotypeRow {
    /// Convolutions in the normal cell.
    pub n: usize,
    /// Convolutions in the reduction cell.
    pub r: usize,
    /// Epoch at whose end the genotype was derived, counted from 0.
    pub epoch: usize,
    /// Accuracy of the supernet on the validation split. It is comparable only within a size.
    pub valid_accuracy: f64,
    /// Parameters of the network for evaluation.
    pub params: u64,
    /// Multiply-accumulates per image of that network.
    pub macs: u64,
    /// File name of the genotype, in the same folder.
    pub file: String,
    /// Derived architecture.
    pub genotype: Genotype,
    /// Logits of the architecture, for each group of choices a row per choice.
    pub alphas: Vec<Rows>,
    /// Logits of the edges into a node, if the search has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edges: Option<Rows>,
}

/// Returns the rows of the table, ordered by size.
pub fn table(sizes: &BestBySize, network: &NetworkConfig) -> Result<Vec<GenotypeRow>> {
    let row = |(&size, best): (&ModelSize, &crate::strategy::sizes::Best)| {
        let Cost { params, macs } = measure(&best.genotype, network)?;
        Ok(GenotypeRow {
            n: size.n,
            r: size.r,
            epoch: best.epoch,
            valid_accuracy: best.accuracy.0 as f64 / best.accuracy.1 as f64,
            params,
            macs,
            file: format!("{size}.json"),
            genotype: best.genotype.clone(),
            alphas: best.alphas.by_group(&best.alphas.operations),
            edges: best.alphas.edges.as_ref().map(|edges| best.alphas.by_group(edges)),
        })
    };
    sizes.0.iter().map(row).collect()
}

/// Writer of changed genotypes.
#[derive(Debug)]
pub(super) struct Genotypes {
    path: PathBuf,
    network: NetworkConfig,
    /// Epoch of the genotype in each file.
    written: BTreeMap<ModelSize, usize>,
}

impl Genotypes {
    pub(super) fn new(run: PathBuf, network: NetworkConfig) -> Self {
        Genotypes { path: run.join(FOLDER), network, written: BTreeMap::new() }
    }

    pub(super) fn write(&mut self, sizes: &BestBySize) -> Result<()> {
        let now: BTreeMap<ModelSize, usize> =
            sizes.0.iter().map(|(size, best)| (*size, best.epoch)).collect();
        if now == self.written {
            return Ok(());
        }
        fs::create_dir_all(&self.path).map_err(Error::io(&self.path))?;
        for (size, best) in &sizes.0 {
            if self.written.get(size) != Some(&best.epoch) {
                file::write(&self.path.join(format!("{size}.json")), best.genotype.to_json().as_bytes())?;
            }
        }
        let json = serde_json::to_string_pretty(&table(sizes, &self.network)?)
            .map_err(|e| Error::Config { place: "table.json".into(), problem: e.to_string() })?;
        file::write(&self.path.join("table.json"), json.as_bytes())?;
        self.written = now;
        Ok(())
    }
}
