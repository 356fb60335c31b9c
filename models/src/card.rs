//! The model card, stored in the header of weights and in the metadata of ONNX. It makes a model's file
//! self-contained.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::input::InputContract;
use crate::{Error, Genotype, Graph, NetworkConfig, Result, Weights, assemble};

/// Metadata key of the card.
pub const CARD_KEY: &str = "milenas.card";

/// Largest size of a card in bytes; it has room for a hundred thousand labels.
const MAX_CARD_BYTES: usize = 8 << 20;

/// Description of a trained network: architecture, inputs, outputs and training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Version of the card's format.
    pub version: u32,
    /// The genotype.
    pub genotype: Genotype,
    /// Channels, cells, classes and image size.
    pub network: NetworkConfig,
    /// Name of each class, in the order of the logits.
    pub labels: Vec<String>,
    /// Conversion of an image to the network's input.
    pub input: InputContract,
    /// Record of the training as text, with the keys `data`, `images`, `test_images`, `split`, `seed`,
    /// `test_accuracy` and `program`.
    pub record: BTreeMap<String, String>,
}

/// The images that a model was trained on, according to its card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainedOn {
    /// Fingerprint of the data set; older cards have none.
    pub fingerprint: Option<String>,
    /// Whether test images were held out of a source without a test part.
    pub held_out: bool,
}

impl Card {
    /// Key of the data set's fingerprint in the record.
    pub const IMAGES: &'static str = "images";

    /// Key in the record for the origin of the test images: [`HELD_OUT`](Self::HELD_OUT), or the source's own.
    pub const TEST_IMAGES: &'static str = "test_images";

    /// Value for test images that were held out of the images of a source.
    pub const HELD_OUT: &'static str = "held out";

    /// Version that this program writes and reads.
    pub const VERSION: u32 = 1;

    /// Returns the card as metadata of a file.
    pub fn to_metadata(&self) -> Result<BTreeMap<String, String>> {
        let json = serde_json::to_string(self).map_err(|e| Error::malformed("card", e.to_string()))?;
        Ok(BTreeMap::from([(CARD_KEY.to_string(), json)]))
    }

    /// Reads the card from a file's metadata; `place` names the file.
    ///
    /// # Errors
    /// [`Error::Malformed`] if there is no card, or it has another version or contradicts itself. [`Error::Limit`] if it
    /// is too large. [`Error::Value`] if a size of the network is out of range.
    pub fn from_metadata(metadata: &HashMap<String, String>, place: &str) -> Result<Self> {
        let help = "help: files written by `milenas-search train` and `milenas-export` have one";
        let text = metadata
            .get(CARD_KEY)
            .ok_or_else(|| Error::malformed(place, format!("has no model card. {help}")))?;
        if text.len() > MAX_CARD_BYTES {
            let (found, limit) = (text.len() as u64, MAX_CARD_BYTES as u64);
            return Err(Error::Limit { place: place.into(), what: "the model card's length", found, limit });
        }
        let card: Card = serde_json::from_str(text)
            .map_err(|e| Error::malformed(format!("{place}, model card"), e.to_string()))?;
        card.check(place)?;
        Ok(card)
    }

    /// Seed that split the images, if their source had no test part. Older cards have one seed for the split and the
    /// training.
    pub fn split(&self) -> Option<u64> {
        ["split", "seed"].iter().find_map(|key| self.record.get(*key))?.parse().ok()
    }

    /// Returns the training data.
    pub fn trained_on(&self) -> TrainedOn {
        TrainedOn {
            fingerprint: self.record.get(Self::IMAGES).cloned(),
            held_out: self.record.get(Self::TEST_IMAGES).is_none_or(|from| from == Self::HELD_OUT),
        }
    }

    fn check(&self, place: &str) -> Result<()> {
        self.network.check()?;
        let network = &self.network;
        let pairs = [
            ("version", self.version as usize, Self::VERSION as usize),
            ("labels", self.labels.len(), network.classes),
            ("input.height", self.input.height, network.height),
            ("input.width", self.input.width, network.width),
            ("input.channels", self.input.channels, network.in_channels),
        ];
        match pairs.into_iter().find(|(_, found, expected)| found != expected) {
            None => Ok(()),
            Some((what, found, expected)) => {
                let problem = format!("`{what}` is {found}, expected {expected}");
                Err(Error::malformed(format!("{place}, model card"), problem))
            }
        }
    }
}

/// A trained network, as written by `milenas-search train`.
#[derive(Clone, Debug)]
pub struct Model {
    /// Description of the network.
    pub card: Card,
    /// The network.
    pub graph: Graph,
    /// Weights of the network.
    pub weights: Weights,
}

impl Model {
    /// Reads weights with their card, and checks that they fit each other.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Limit`] or [`Error::Malformed`] if the file cannot be read, [`Error::Weights`] if the
    /// weights do not fit the network.
    pub fn load(path: &Path) -> Result<Self> {
        let (weights, metadata) = Weights::load(path)?;
        let place = path.display().to_string();
        let card = Card::from_metadata(&metadata, &place)?;
        let graph = assemble(&card.genotype, &card.network)?;
        weights.check(&graph).map_err(|e| e.within(&place))?;
        Ok(Model { card, graph, weights })
    }

    /// Writes the weights with the card in the header, atomically.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.weights.save(path, self.card.to_metadata()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{ImageSize, Resize};

    fn model() -> Model {
        let network = NetworkConfig {
            channels: 2,
            layers: 3,
            classes: 2,
            in_channels: 1,
            height: 8,
            width: 8,
            skeleton: Default::default(),
        };
        let input = InputContract::new(ImageSize::square(8), 1, vec![0.5], vec![0.25], Resize::Stretch);
        let genotype = Genotype::named("DARTS_V1").unwrap();
        let graph = assemble(&genotype, &network).unwrap();
        let weights = Weights::init(&graph, 1).unwrap();
        let record = BTreeMap::from([("seed".to_string(), "1".to_string())]);
        let labels = vec!["a".into(), "b".into()];
        let card = Card { version: Card::VERSION, genotype, network, labels, input, record };
        Model { card, graph, weights }
    }

    #[test]
    fn a_file_comes_back_and_equal_models_give_equal_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("a.safetensors"), folder.path().join("b.safetensors")];
        paths.iter().for_each(|path| model().save(path).unwrap());
        assert_eq!(std::fs::read(&paths[0]).unwrap(), std::fs::read(&paths[1]).unwrap());
        let back = Model::load(&paths[0]).unwrap();
        assert_eq!(back.card, model().card);
        let bytes = |m: &Model| m.weights.to_bytes(BTreeMap::new()).unwrap();
        assert_eq!(bytes(&back), bytes(&model()));
    }

    #[test]
    fn weights_of_another_genotype_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let mut wrong = model();
        wrong.card.genotype = Genotype::named("DARTS_V2").unwrap();
        wrong.save(&path).unwrap();
        let message = Model::load(&path).unwrap_err().to_string();
        assert!(message.contains("x.safetensors") && message.contains("cells."), "{message}");
    }

    #[test]
    fn a_card_that_contradicts_itself_is_refused() {
        let mut card = model().card;
        card.labels.push("c".into());
        let metadata = card.to_metadata().unwrap().into_iter().collect();
        let message = Card::from_metadata(&metadata, "x").unwrap_err().to_string();
        assert!(message.contains("`labels` is 3, expected 2"), "{message}");
    }

    #[test]
    fn older_cards_split_by_the_seed_of_their_training() {
        let mut card = model().card;
        card.record = BTreeMap::from([("seed".to_string(), "3".to_string())]);
        assert_eq!(card.split(), Some(3));
        card.record.insert("split".into(), "0".into());
        assert_eq!(card.split(), Some(0));
        card.record.clear();
        assert_eq!(card.split(), None);
    }
}
