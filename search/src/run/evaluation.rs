//! Evaluation of trained weights, image by image.

use milenas_models::images::{Dataset, Source};
use milenas_models::input::Limits;
use milenas_models::metrics::{Ranked, Scores};
use milenas_models::{Error as Fault, Model};

use crate::data::ImageSet;
use crate::train::evaluate;
use crate::{Error, Result};

/// Number of images per batch.
pub(super) const BATCH: usize = 64;

/// Predictions of a model for the test images of a source.
#[derive(Debug)]
pub struct TestEvaluation {
    /// Scores on all readable images.
    pub scores: Scores,
    /// Prediction or read error of each image, by name, in the source's order.
    pub images: Vec<(String, std::result::Result<Ranked, Fault>)>,
    /// Notes for the user: skipped files, and the part of the source that was evaluated.
    pub notes: Vec<String>,
}

impl TestEvaluation {
    /// Runs `model` on the test images of `source`. If the source has no test part, these are the images that were held out
    /// of the training, or all images of a source that the model was not trained on.
    ///
    /// # Errors
    /// Fails for a source that cannot be read or has classes other than the model's.
    pub fn run(model: &Model, source: &Source) -> Result<TestEvaluation> {
        let card = &model.card;
        let mut dataset = source.open(card.split().unwrap_or_default())?;
        dataset.relabel(&card.labels).map_err(|e| Error::Data { problem: format!("{source}: {e}") })?;
        let (samples, measured) = dataset.to_measure(Some(&card.trained_on()));
        let notes = dataset.notes.into_iter().chain(measured).collect();
        let (images, bad) = Dataset::load(&samples, &card.input, &Limits::default(), &|_| {});
        let set = ImageSet { images, wholes: Vec::new(), contract: card.input.clone() };
        let ranked = evaluate(&model.graph, &model.weights, &set, BATCH)?;
        let scores = Scores::new(&ranked, &card.labels);
        let (mut ranked, mut bad) = (ranked.into_iter(), bad.into_iter().peekable());
        let mut images = Vec::with_capacity(samples.len());
        for name in samples.iter().map(|sample| sample.name()) {
            if let Some((_, fault)) = bad.next_if(|(left_out, _)| *left_out == name) {
                images.push((name, Err(fault)));
            } else if let Some(ranked) = ranked.next() {
                images.push((name, Ok(ranked)));
            }
        }
        Ok(TestEvaluation { scores, images, notes })
    }
}
