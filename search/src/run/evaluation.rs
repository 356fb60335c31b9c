//! Measuring trained weights, image by image.

use milenas_models::images::{Dataset, Source};
use milenas_models::input::Limits;
use milenas_models::metrics::{Ranked, Scores};
use milenas_models::{Error as Fault, Model};

use crate::data::Pictures;
use crate::train::evaluate;
use crate::{Error, Result};

/// Images at a time.
pub(super) const BATCH: usize = 64;

/// What weights make of the test images of a source.
#[derive(Debug)]
pub struct Evaluation {
    /// Of all images that can be read.
    pub scores: Scores,
    /// By the name of the image, in the source's order: how it fared, or why it was left out.
    pub images: Vec<(String, std::result::Result<Ranked, Fault>)>,
}

impl Evaluation {
    /// Runs `model` on the test images of `source`, split as for its training if the source has no test part.
    ///
    /// # Errors
    /// A source that cannot be read, or has other classes than the model.
    pub fn run(model: &Model, source: &Source) -> Result<Evaluation> {
        let card = &model.card;
        let dataset = source.open(card.split().unwrap_or_default())?;
        if dataset.classes != card.labels {
            let problem =
                format!("{source} has classes {:?}, the model knows {:?}", dataset.classes, card.labels);
            return Err(Error::Data { problem });
        }
        let (images, bad) = Dataset::load(&dataset.test, &card.input, &Limits::default(), &|_| {});
        let pictures = Pictures { images, wholes: Vec::new(), contract: card.input.clone() };
        let ranked = evaluate(&model.graph, &model.weights, &pictures, BATCH)?;
        let scores = Scores::new(&ranked, &card.labels);
        let (mut ranked, mut bad) = (ranked.into_iter(), bad.into_iter().peekable());
        let mut images = Vec::with_capacity(dataset.test.len());
        for name in dataset.test.iter().map(|sample| sample.name()) {
            if let Some((_, fault)) = bad.next_if(|(left_out, _)| *left_out == name) {
                images.push((name, Err(fault)));
            } else if let Some(ranked) = ranked.next() {
                images.push((name, Ok(ranked)));
            }
        }
        Ok(Evaluation { scores, images })
    }
}
