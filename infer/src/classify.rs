//! Classification of single images, for programs that use this crate as a library.

use std::path::Path;

use milenas_models::input::{Image, Limits, decode};

use crate::answer::{AnswerOptions, Score};
use crate::model::{Classifier, ClassifierOptions};
use crate::{Error, Result};

/// Class of an image with its probability.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Name of the class.
    pub label: String,
    /// Index of the class among the outputs.
    pub index: usize,
    /// Probability, from 0 to 1, rounded to six decimals.
    pub probability: f64,
}

impl Classifier {
    /// Opens a model file with the native runtime and the settings that the file states.
    ///
    /// # Errors
    /// Returns the errors of [`Classifier::load`].
    ///
    /// # Examples
    /// ```no_run
    /// use milenas_infer::model::Classifier;
    ///
    /// let classifier = Classifier::open("model.onnx")?;
    /// let best = &classifier.classify_file("photo.jpg")?[0];
    /// println!("{}: {:.1} %", best.label, 100.0 * best.probability);
    /// # Ok::<(), milenas_infer::Error>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Classifier::load(path.as_ref(), &ClassifierOptions::default())
    }

    /// Returns the classes of a decoded image, the most probable first.
    ///
    /// # Errors
    /// [`Error::Image`] for an image that cannot be prepared or outputs that are not finite, and the errors
    /// of the runtime.
    pub fn classify(&self, image: &Image) -> Result<Vec<Prediction>> {
        self.named(image, "the image")
    }

    /// Returns the classes of an image file, the most probable first. Formats and [limits](Limits) are those
    /// of `milenas-infer`.
    ///
    /// # Errors
    /// Returns the errors of [`classify`](Self::classify), [`Error::Models`] for a file that cannot be read,
    /// and [`Error::Image`] for one that cannot be decoded.
    pub fn classify_file(&self, path: impl AsRef<Path>) -> Result<Vec<Prediction>> {
        let place = path.as_ref().display().to_string();
        let limits = Limits::default();
        let bytes = milenas_models::file::read(path.as_ref(), limits.max_file)?;
        let image = decode(&bytes, &limits).map_err(|error| problem(&place, error))?;
        self.named(&image, &place)
    }

    fn named(&self, image: &Image, place: &str) -> Result<Vec<Prediction>> {
        let bytes = self.input.prepare(image).map_err(|error| problem(place, error))?;
        let mut pixels = vec![0.0; self.input.len()];
        self.input.normalise(&bytes, &mut pixels);
        let answer = self.runtime.run(&pixels, 1)?.pop();
        let answer = answer.ok_or_else(|| problem(place, "the runtime gave no answer"))?;
        let options = AnswerOptions {
            labels: self.labels.clone(),
            top_k: self.labels.len(),
            threshold: None,
            score: Score::Probability,
            meaning: self.meaning,
            all_scores: false,
            features: None,
        };
        let predictions = options.select(&answer).map_err(|reason| problem(place, reason))?.predictions;
        let named = |(index, probability): (usize, f64)| Prediction {
            label: self.labels[index].clone(),
            index,
            probability,
        };
        Ok(predictions.into_iter().map(named).collect())
    }
}

fn problem(path: &str, reason: impl ToString) -> Error {
    Error::Image { path: path.into(), reason: reason.to_string() }
}
