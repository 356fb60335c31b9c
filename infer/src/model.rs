//! A model file: the network, how to feed it and how to read it.

use std::path::Path;

use candle_onnx::onnx::ModelProto;
use milenas_export::onnx;
use milenas_models::fused::Precision;
use milenas_models::{CARD_KEY, Card, InputContract, TrainedOn, file, hexadecimal};
use sha2::{Digest, Sha256};

use crate::answer::Meaning;
use crate::recipe::Recipe;
use crate::runtime::{CandleOnnx, Choice, Feed, Kind, Native, Ort, Runtime, Tract};
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
    /// The seed by which a source without a test part is split, as for its training.
    pub split: Option<u64>,
    /// What it was trained on; `None` without a card.
    pub trained_on: Option<TrainedOn>,
    /// What the user should know of how it is fed.
    pub notes: Vec<String>,
    /// SHA-256 of the file.
    pub digest: String,
    /// What computes.
    pub runtime: Box<dyn Runtime>,
}

/// How to load a model.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What computes.
    pub runtime: Choice,
    /// What the user says of the file.
    pub recipe: Recipe,
    /// Answers carry the pooled features.
    pub features: bool,
}

impl Classifier {
    /// Reads `model.onnx`.
    ///
    /// # Errors
    /// A file that is no ONNX or no classifier of images, or not of those that its card and `options` describe; a runtime
    /// that is missing, or has no way to run the file.
    pub fn load(path: &Path, options: &Options) -> Result<Self> {
        let (place, recipe, kind) = (path.display().to_string(), &options.recipe, options.runtime.kind);
        if options.features && kind != Kind::Native {
            let problem = "it tells no features. Help: --runtime native does".into();
            return Err(Error::Unavailable { name: kind.name(), problem });
        }
        if options.runtime.precision != Precision::Float32 && kind != Kind::Native {
            let problem =
                "it computes in the precision of the file. Help: --runtime native has --precision bf16"
                    .into();
            return Err(Error::Unavailable { name: kind.name(), problem });
        }
        let bytes = file::read(path, onnx::MAX_FILE_BYTES)?;
        let digest = hexadecimal(Sha256::digest(&bytes));
        let proto = onnx::proto(&bytes, &place)?;
        drop(bytes);
        let interface = onnx::interface(&proto, &place)?;
        let card = interface.metadata.contains_key(CARD_KEY);
        let metadata = interface.metadata.clone().into_iter().collect();
        let card = card.then(|| Card::from_metadata(&metadata, &place)).transpose()?;
        let card = card.as_ref();

        let feed = Feed::new(&interface, recipe.size, &place)?;
        let (image, mut notes, mut features) = (feed.image, Vec::new(), None);
        let mut input = recipe.contract(card, &feed, &mut notes, &place)?;
        let own = if interface.probabilities { Meaning::Probabilities } else { Meaning::Logits };
        let mut meaning = recipe.meaning(own, &place)?;
        let runtime: Box<dyn Runtime> = match kind {
            Kind::Native => {
                let native = native(&proto, &mut input, options, &place)?;
                if own == Meaning::Probabilities {
                    meaning = native.meaning();
                }
                features = native.features();
                notes.extend(native.hindrance().map(|reason| {
                    format!(
                        "{place}: the fused kernels do not run it ({reason}), so it takes several times as long. Help: \
                         export the network with --target portable, without --int8, or take --runtime ort"
                    )
                }));
                Box::new(native)
            }
            Kind::Ort => Box::new(Ort::new(path, feed, &options.runtime)?),
            Kind::Tract => Box::new(Tract::new(path, feed)?),
            Kind::CandleOnnx => Box::new(CandleOnnx::new(proto, feed)),
        };
        // A trial tells the classes, and that the runtime has all of the operators, before any output is opened.
        let trial = runtime.run(&vec![0.0; image.iter().product()], 1)?;
        let classes = trial.first().map_or(0, |answer| answer.outputs.len());
        Ok(Classifier {
            input,
            labels: recipe.labels(card, classes, &mut notes, &place)?,
            meaning,
            features,
            split: card.and_then(Card::split),
            trained_on: card.map(Card::trained_on),
            notes,
            digest,
            runtime,
        })
    }
}

/// This project's runtime, without the steps that stand around the network in the file: the scale of bytes, which
/// becomes that of `input`, and the softmax.
fn native(proto: &ModelProto, input: &mut InputContract, options: &Options, place: &str) -> Result<Native> {
    let decoded = onnx::decode_proto(proto, place).map_err(|error| match error {
        milenas_export::Error::Operators { .. } => Error::Model {
            place: place.into(),
            problem: format!("{error}; or take --runtime ort, which has all"),
        },
        error => error.into(),
    })?;
    let onnx::Decoded { mut graph, mut weights, bytes, .. } = decoded;
    milenas_export::undress(&mut graph, &mut weights, bytes.then_some(input))?;
    Native::new(graph, weights, options.features, options.runtime.precision, place)
}
