//! How a file is fed and read: what it says of itself, under what the user says of it.

use milenas_models::input::Resize;
use milenas_models::{Card, InputContract};

use crate::answer::Meaning;
use crate::runtime::Feed;
use crate::{Error, Result};

/// Of networks trained on ImageNet, which most classifiers of unknown origin are.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// What the user says. It goes before what the file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recipe {
    /// The name of each class.
    pub labels: Option<Vec<String>>,
    /// Height and width, where the file takes any.
    pub size: Option<[usize; 2]>,
    /// Per channel, on the scale where white is 1.
    pub mean: Option<Vec<f32>>,
    /// Per channel, on the same scale.
    pub std: Option<Vec<f32>>,
    /// How a picture is brought to the size.
    pub resize: Option<Resize>,
    /// What the outputs are.
    pub outputs: Option<Meaning>,
}

impl Recipe {
    /// How a picture becomes the input. `notes` takes what the user should know: what was put before the card, and what
    /// was assumed without one.
    ///
    /// # Errors
    /// Values that no contract may have; a scale for a file that takes bytes.
    pub fn contract(
        &self,
        card: Option<&Card>,
        feed: &Feed,
        notes: &mut Vec<String>,
        place: &str,
    ) -> Result<InputContract> {
        let [channels, height, width] = feed.image;
        if feed.bytes && (self.mean.is_some() || self.std.is_some()) {
            let problem = "it takes bytes, --mean and --std would change nothing".into();
            return Err(Error::Recipe { place: place.into(), problem });
        }
        let own = card.map(|card| &card.input);
        let mut contract = match own {
            Some(own) if [own.channels, own.height, own.width] == feed.image => own.clone(),
            Some(own) => {
                let (found, expected) = (feed.image, [own.channels, own.height, own.width]);
                let problem = format!("[C, H, W] is {found:?}, the card says {expected:?}");
                return Err(Error::Model { place: place.into(), problem });
            }
            None => assumed(channels, height, width),
        };
        let spread = |said: &[f32]| match said {
            [one] => vec![*one; channels],
            several => several.to_vec(),
        };
        let before = contract.clone();
        contract.mean = self.mean.as_deref().map_or(contract.mean, spread);
        contract.std = self.std.as_deref().map_or(contract.std, spread);
        contract.resize = self.resize.unwrap_or(contract.resize);
        contract.validate().map_err(|e| Error::Recipe { place: place.into(), problem: e.to_string() })?;
        if own.is_none() {
            notes.extend(self.guesses(&contract, feed, place));
        } else if contract != before {
            notes.push(format!("{place}: --mean, --std or --resize differ from its card, and go before it"));
        }
        Ok(if feed.bytes { contract.of_bytes() } else { contract })
    }

    /// What was assumed of a file that says nothing.
    fn guesses(&self, contract: &InputContract, feed: &Feed, place: &str) -> Option<String> {
        let mut guesses = Vec::new();
        let list = |numbers: &[f32]| numbers.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
        if self.mean.is_none() && !feed.bytes {
            guesses.push(format!("--mean {}", list(&contract.mean)));
        }
        if self.std.is_none() && !feed.bytes {
            guesses.push(format!("--std {}", list(&contract.std)));
        }
        if let (None, Resize::ShorterSide { side }) = (self.resize, contract.resize) {
            guesses.push(format!("--resize {side}"));
        }
        let said = guesses.join(" ");
        (!guesses.is_empty())
            .then(|| format!("{place} does not say how its images were prepared: {said} is assumed"))
    }

    /// The name of each of `classes` classes.
    ///
    /// # Errors
    /// Not as many labels as classes.
    pub fn labels(
        &self,
        card: Option<&Card>,
        classes: usize,
        notes: &mut Vec<String>,
        place: &str,
    ) -> Result<Vec<String>> {
        let own = card.map(|card| &card.labels);
        let labels = match (&self.labels, own) {
            (Some(said), own) => {
                if own.is_some_and(|own| own != said) {
                    notes.push(format!("{place}: --labels differ from its card, and go before it"));
                }
                said.clone()
            }
            (None, Some(own)) => own.clone(),
            (None, None) => (0..classes).map(|i| format!("class_{i}")).collect(),
        };
        let place = || place.to_string();
        match (labels.len() == classes, &self.labels) {
            (true, _) => Ok(labels),
            (false, Some(_)) => {
                let problem = format!("--labels has {} lines, the network {classes} classes", labels.len());
                Err(Error::Recipe { place: place(), problem })
            }
            (false, None) => {
                let problem = format!("{classes} classes, the card says {}", labels.len());
                Err(Error::Model { place: place(), problem })
            }
        }
    }

    /// What the outputs are; `own` is what the last operator of the file says.
    ///
    /// # Errors
    /// Logits said of a softmax.
    pub fn meaning(&self, own: Meaning, place: &str) -> Result<Meaning> {
        match (self.outputs, own) {
            (Some(Meaning::Logits), Meaning::Probabilities) => {
                let problem = "it ends in a softmax or sigmoid, --outputs-are logits cannot be".into();
                Err(Error::Recipe { place: place.into(), problem })
            }
            (said, own) => Ok(said.unwrap_or(own)),
        }
    }
}

/// As torchvision prepares for ImageNet; of one channel, 0 to 1.
fn assumed(channels: usize, height: usize, width: usize) -> InputContract {
    let (mean, std) = match channels {
        3 => (MEAN.to_vec(), STD.to_vec()),
        _ => (vec![0.0; channels], vec![1.0; channels]),
    };
    let side = (height.max(width) * 256).div_ceil(224);
    let resize = Resize::ShorterSide { side };
    InputContract { height, width, channels, mean, std, resize, background: Some([255; 3]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(bytes: bool) -> Feed {
        let (input, output) = ("x".into(), "y".into());
        Feed { input, output, bytes, image: [3, 224, 224], batch: None }
    }

    #[test]
    fn what_is_said_holds_and_the_rest_is_told() {
        let mut notes = Vec::new();
        let recipe = Recipe { mean: Some(vec![0.5]), ..Recipe::default() };
        let contract = recipe.contract(None, &feed(false), &mut notes, "m.onnx").unwrap();
        assert_eq!((contract.mean, contract.std), (vec![0.5; 3], STD.to_vec()));
        assert_eq!(contract.resize, Resize::ShorterSide { side: 256 });
        let expected = "m.onnx does not say how its images were prepared: --std 0.229,0.224,0.225 --resize 256 is assumed";
        assert_eq!(notes, [expected]);
        let refused = |recipe: &Recipe, bytes| {
            recipe.contract(None, &feed(bytes), &mut Vec::new(), "m.onnx").unwrap_err()
        };
        assert!(refused(&recipe, true).to_string().contains("takes bytes"));
        let two = Recipe { std: Some(vec![0.5, 0.5]), ..Recipe::default() };
        assert!(refused(&two, false).to_string().contains("one finite number per channel"));
    }

    #[test]
    fn labels_are_as_many_as_classes() {
        let labels = |said: &Recipe, classes| said.labels(None, classes, &mut Vec::new(), "m.onnx");
        assert_eq!(labels(&Recipe::default(), 2).unwrap(), ["class_0", "class_1"]);
        let said = Recipe { labels: Some(vec!["a".into()]), ..Recipe::default() };
        assert_eq!(labels(&said, 1).unwrap(), ["a"]);
        assert!(
            labels(&said, 2).unwrap_err().to_string().contains("--labels has 1 lines, the network 2 classes")
        );
    }

    #[test]
    fn a_softmax_gives_no_logits() {
        let said = |outputs| Recipe { outputs, ..Recipe::default() };
        assert_eq!(
            said(Some(Meaning::Probabilities)).meaning(Meaning::Logits, "m").unwrap(),
            Meaning::Probabilities
        );
        assert_eq!(said(None).meaning(Meaning::Probabilities, "m").unwrap(), Meaning::Probabilities);
        assert!(said(Some(Meaning::Logits)).meaning(Meaning::Probabilities, "m").is_err());
    }
}
