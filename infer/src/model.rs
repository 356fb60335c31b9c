//! A model file: the network, and the card that says how to feed and to read it.

use std::path::Path;

use milenas_models::Card;

use crate::runtime::Native;
use crate::{Error, Result};

/// A classifier, ready to run.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Classifier {
    pub card: Card,
    pub runtime: Native,
}

impl Classifier {
    /// Reads `model.onnx`.
    ///
    /// # Errors
    /// A file that is no ONNX, has no card, or is no classifier of the images that its card describes.
    pub fn load(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        let file = milenas_export::onnx::read(path)?;
        let card = Card::from_metadata(&file.metadata.into_iter().collect(), &place)?;
        let runtime = Native::new(file.graph, file.weights);
        match runtime.shapes() {
            Some((input, classes)) if input == input_of(&card) && classes == card.labels.len() => {
                Ok(Classifier { card, runtime })
            }
            found => {
                let expected = (input_of(&card), card.labels.len());
                let problem =
                    format!("one input [C, H, W] and classes {found:?}, the card says {expected:?}");
                Err(Error::Model { place, problem })
            }
        }
    }
}

fn input_of(card: &Card) -> [usize; 3] {
    [card.input.channels, card.input.height, card.input.width]
}
