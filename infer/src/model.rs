//! A model file: the network, and the card that says how to feed and to read it.

use std::path::Path;

use milenas_models::{Card, InputContract};

use crate::answer::Meaning;
use crate::runtime::{Native, Runtime};
use crate::{Error, Result};

/// A classifier, ready to run.
pub struct Classifier {
    /// How a picture becomes the network's input.
    pub input: InputContract,
    /// The name of each class.
    pub labels: Vec<String>,
    /// What the outputs are.
    pub meaning: Meaning,
    /// The length of the features, when they were asked for.
    pub features: Option<usize>,
    /// The seed of the run that made it, by which a source without a test part is split.
    pub seed: Option<u64>,
    /// What computes.
    pub runtime: Box<dyn Runtime>,
}

impl Classifier {
    /// Reads `model.onnx`; with `features`, answers carry the pooled features.
    ///
    /// # Errors
    /// A file that is no ONNX, has no card, or is no classifier of the images that its card describes.
    pub fn load(path: &Path, features: bool) -> Result<Self> {
        let place = path.display().to_string();
        let file = milenas_export::onnx::read(path)?;
        let mut card = Card::from_metadata(&file.metadata.into_iter().collect(), &place)?;
        if file.bytes {
            // The network has the scale in itself and takes the values of bytes.
            card.input = card.input.of_bytes();
        }
        let (mut graph, mut weights) = (file.graph, file.weights);
        milenas_export::undress(&mut graph, &mut weights, file.bytes.then_some(&mut card.input))?;
        let runtime = Native::new(graph, weights, features, &place)?;
        let found = (runtime.image(), runtime.classes());
        let expected = ([card.input.channels, card.input.height, card.input.width], card.labels.len());
        if found != expected {
            let problem = format!("[C, H, W] and classes are {found:?}, the card says {expected:?}");
            return Err(Error::Model { place, problem });
        }
        Ok(Classifier {
            input: card.input,
            labels: card.labels,
            meaning: runtime.meaning(),
            features: runtime.features(),
            seed: card.record.get("seed").and_then(|seed| seed.parse().ok()),
            runtime: Box::new(runtime),
        })
    }
}
