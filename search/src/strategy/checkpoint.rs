//! Checkpoint of a gradient-based search.

mod first_version;

use std::path::Path;

use milenas_models::space::Space;
use milenas_models::{Weights, file};
use serde::{Deserialize, Serialize};

use super::sizes::{Best, BestBySize, ModelSize};
pub use crate::checkpoint::Position;
use crate::checkpoint::{
    Checkpoint, Header, MAX_BYTES, RunOrigin, RunState, TensorReader, TensorWriter, bad, bad_weight,
};
use crate::config::Config;
use crate::optim::{Adam, Sgd};
use crate::supernet::Alphas;
use crate::{Error, Result};

const SUPERNET: &str = "supernet.";
const SGD: &str = "sgd.";

/// Identity of a search.
pub type SearchOrigin = RunOrigin;

/// State from which a search resumes.
pub type SearchCheckpoint = Checkpoint<SearchState>;

/// State of a gradient-based search.
#[derive(Clone, Debug)]
pub struct SearchState {
    /// Weights and statistics of the supernet.
    pub weights: Weights,
    /// Logits of the architecture.
    pub alphas: Alphas,
    /// Optimiser of the logits.
    pub adam: Adam,
    /// Optimiser of the weights.
    pub sgd: Sgd,
    /// Best architecture of every size so far.
    pub sizes: BestBySize,
}

/// Part of the header of a search.
#[derive(Serialize, Deserialize)]
pub struct SearchHeader {
    adam_steps: i32,
    sizes: Vec<SizeHeader>,
    candidates: Option<Vec<String>>,
}

/// Header of the best architecture of a size. Its logits are stored as tensors, and the genotype is derived
/// from them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SizeHeader {
    epoch: usize,
    correct: usize,
    images: usize,
}

fn write_alphas(writer: &mut TensorWriter, name: &str, alphas: &Alphas) {
    let flat = alphas.operations.concat();
    writer.f32(name.into(), &[flat.len()], &flat);
    if let Some(edges) = &alphas.edges {
        writer.f32(format!("{name}.edges"), &[edges.len()], edges);
    }
}

fn read_alphas(reader: &TensorReader<'_>, name: &str, space: &'static dyn Space) -> Result<Alphas> {
    let mut alphas = Alphas::zeros(space);
    if is_first_version(reader, name) {
        return first_version::read_alphas(reader, name, alphas);
    }
    let count = alphas.operations.iter().map(Vec::len).sum();
    let mut flat = reader.f32_of(name, &[count])?;
    if reader.has(&format!("{name}.edges")) {
        let edges = reader.f32_of(&format!("{name}.edges"), &[alphas.operations.len()])?;
        flat.extend(&edges);
        alphas.edges = Some(edges);
    }
    alphas.update(|logits| logits.copy_from_slice(&flat));
    Ok(alphas)
}

/// Whether the logits are those of a checkpoint of version 1.
fn is_first_version(reader: &TensorReader<'_>, name: &str) -> bool {
    reader.has(&format!("{name}.0"))
}

/// Names of a space's candidates, by index of the logit. Choices with other candidates follow in their order.
fn candidates(space: &dyn Space) -> Vec<String> {
    let mut lists: Vec<Vec<String>> = space.choices().into_iter().map(|choice| choice.candidates).collect();
    lists.dedup();
    lists.concat()
}

/// Refuses a checkpoint whose columns are other candidates. Files of earlier versions do not name them.
fn check_candidates(place: &str, found: Option<&[String]>, space: &dyn Space) -> Result<()> {
    let expected = candidates(space);
    match found.filter(|found| *found != expected) {
        None => Ok(()),
        Some(found) => Err(Error::Resume {
            place: place.into(),
            problem: format!(
                "its candidates are {}, those of the space {} are {}. help: start a new run in another folder",
                found.join(", "),
                space.name(),
                expected.join(", ")
            ),
        }),
    }
}

impl RunState for SearchState {
    const KIND: &'static str = "search";
    const KEY: &'static str = "milenas.checkpoint";
    type Subject = ();
    type Header = SearchHeader;

    fn write(&self, tensors: &mut TensorWriter, origin: &RunOrigin) -> Result<SearchHeader> {
        tensors.weights(SUPERNET, &self.weights)?;
        tensors.vectors(SGD, self.sgd.state());
        let (adam_steps, mean, square) = self.adam.state();
        tensors.f64("adam.mean", mean);
        tensors.f64("adam.square", square);
        write_alphas(tensors, "alphas", &self.alphas);
        let mut sizes = Vec::new();
        for (index, best) in self.sizes.0.values().enumerate() {
            write_alphas(tensors, &format!("sizes.{index}"), &best.alphas);
            let (correct, images) = best.accuracy;
            sizes.push(SizeHeader { epoch: best.epoch, correct, images });
        }
        let candidates = Some(candidates(origin.config.search.space()?));
        Ok(SearchHeader { adam_steps, sizes, candidates })
    }

    fn read(tensors: &TensorReader<'_>, header: SearchHeader, origin: &RunOrigin) -> Result<Self> {
        let space = origin.config.search.space()?;
        check_candidates(tensors.place(), header.candidates.as_deref(), space)?;
        let mut sizes = BestBySize::default();
        for (index, SizeHeader { epoch, correct, images }) in header.sizes.into_iter().enumerate() {
            let alphas = read_alphas(tensors, &format!("sizes.{index}"), space)?;
            let genotype = origin.config.search.derive(&alphas)?;
            let best = Best { epoch, accuracy: (correct, images), genotype, alphas };
            sizes.0.insert(ModelSize::of(&best.genotype), best);
        }
        let moments = |name: &str| {
            let values = tensors.f64(name)?;
            let narrow = is_first_version(tensors, "alphas");
            Ok::<_, Error>(if narrow { first_version::narrow(values, space) } else { values })
        };
        let (mean, square) = (moments("adam.mean")?, moments("adam.square")?);
        Ok(SearchState {
            weights: tensors.weights(SUPERNET)?,
            alphas: read_alphas(tensors, "alphas", space)?,
            adam: Adam::from_state(header.adam_steps, mean, square),
            sgd: Sgd::from_state(tensors.vectors(SGD)?),
            sizes,
        })
    }

    fn not_finite(&self) -> Result<Option<(&'static str, f64)>> {
        if let Some(value) = bad_weight(&self.weights)? {
            return Ok(Some(("a weight of the supernet", value)));
        }
        let alphas = bad(&self.alphas.flat());
        let velocity = self.sgd.state().iter().find_map(|values| bad(values));
        Ok(alphas.map(|x| ("an alpha", x)).or(velocity.map(|x| ("a velocity of a weight", x))))
    }
}

impl SearchCheckpoint {
    /// Reads the configuration, the fingerprint of the images, the supernet's weights and statistics, and the epoch of its
    /// last step from a file, without a check of its origin.
    ///
    /// # Errors
    /// Fails for a damaged file, and for a file that is no search checkpoint.
    pub fn supernet(path: &Path) -> Result<(Config, String, Weights, usize)> {
        let (bytes, place) = (file::read(path, MAX_BYTES)?, path.display().to_string());
        let (found, header) = TensorReader::open::<Header<SearchHeader>>(&bytes, &place, SearchState::KEY)?;
        let config = Config::from_toml(&header.config, &place)?;
        check_candidates(&place, header.state.candidates.as_deref(), config.search.space()?)?;
        let epoch = header.last_epoch();
        Ok((config, header.data, found.weights(SUPERNET)?, epoch))
    }
}

#[cfg(test)]
mod tests {
    use milenas_models::space;

    use super::*;

    #[test]
    fn other_candidates_are_refused_and_files_without_names_are_read() {
        let names = candidates(&space::DARTS);
        check_candidates("checkpoint", None, &space::DARTS).unwrap();
        check_candidates("checkpoint", Some(&names), &space::DARTS).unwrap();
        let mut swapped = names;
        swapped.swap(1, 2);
        let error = check_candidates("checkpoint", Some(&swapped), &space::DARTS).unwrap_err().to_string();
        assert!(error.contains("its candidates are none, avg_pool_3x3, max_pool_3x3"), "{error}");
    }

    #[test]
    fn a_header_with_an_unknown_field_is_refused() {
        let header = r#"{"version": 1, "config": "", "data": "", "device": null, "epoch": 0, "step": 0, "correct": 0,
            "images": 0, "adam_steps": 3, "sizes": [], "candidates": null}"#;
        let read = |text: &str| serde_json::from_str::<Header<SearchHeader>>(text);
        assert_eq!(read(header).unwrap().state.adam_steps, 3);
        let error = read(&header.replace("adam_steps\": 3", "adam_steps\": 3, \"later\": 1")).err().unwrap();
        assert!(error.to_string().contains("unknown field `later`"), "{error}");
    }
}
