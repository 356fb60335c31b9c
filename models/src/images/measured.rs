//! The images that a model is evaluated on, and its labels, which may have another order than the classes.

use std::collections::HashMap;

use super::classes::listed;
use super::{Dataset, Sample};
use crate::card::TrainedOn;
use crate::{Error, Result};

impl Dataset {
    /// Sorts the classes in the order of `labels`, by name. Labels without images become classes without images.
    ///
    /// # Errors
    /// [`Error::Value`] for a class that is not a label, or that equals two labels.
    pub fn relabel(&mut self, labels: &[String]) -> Result<()> {
        if self.classes == labels {
            return Ok(());
        }
        let mut places: HashMap<&str, Vec<u32>> = HashMap::new();
        for (place, label) in (0..).zip(labels) {
            places.entry(label).or_default().push(place);
        }
        let unknown: Vec<&String> =
            self.classes.iter().filter(|name| !places.contains_key(name.as_str())).collect();
        if !unknown.is_empty() {
            return Err(Error::Value {
                what: "the class of some images".into(),
                found: format!("{}, unknown to the model", listed(unknown)),
                expected: format!("one of its labels: {}", listed(labels)),
            });
        }
        let mut mapped = Vec::with_capacity(self.classes.len());
        for name in &self.classes {
            match places.get(name.as_str()).map(Vec::as_slice) {
                Some(&[place]) => mapped.push(place),
                several => {
                    return Err(Error::Value {
                        what: format!("the label {name:?}"),
                        found: format!(
                            "the name of {} outputs of the model",
                            several.map_or(0, <[u32]>::len)
                        ),
                        expected: "one name for each output".into(),
                    });
                }
            }
        }
        let samples = self.train.iter_mut().chain(&mut self.test);
        samples.for_each(|sample| sample.set_class(mapped[sample.class() as usize]));
        self.classes = labels.to_vec();
        Ok(())
    }

    /// Returns the images to evaluate a model on, and a note on their selection if the source has no test part. If
    /// the source is the training data, they are the images that were held out of training, else all images.
    pub fn to_measure(&self, trained: Option<&TrainedOn>) -> (Vec<Sample>, Option<String>) {
        if self.held_out.is_none() {
            return (self.test.clone(), None);
        }
        let all = || {
            let mut all = [self.train.as_slice(), self.test.as_slice()].concat();
            all.sort_by_key(Sample::class);
            all
        };
        let count = self.train.len() + self.test.len();
        let (held_out, known) = match trained {
            None => (false, true),
            Some(TrainedOn { fingerprint: None, .. }) => (true, false),
            Some(TrainedOn { fingerprint: Some(fingerprint), held_out, .. }) => {
                let same = *fingerprint == self.fingerprint;
                if same && !held_out {
                    let note = format!(
                        "no test part, and these are the images that the model was trained on: all {count} images are measured, \
                         and the figures say nothing about other images"
                    );
                    return (all(), Some(note));
                }
                (same, true)
            }
        };
        let note = match (held_out, known) {
            (true, true) => format!(
                "no test part, and the model was trained on this source: measured on the {} of {count} images, a fifth of \
                 each class, that were held out",
                self.test.len()
            ),
            (true, false) => format!(
                "no test part, and the model does not say what it was trained on: measured on {} of {count} images, the fifth \
                 of each class that a training on this source holds out. help: put images into test/CLASS to measure all of them",
                self.test.len()
            ),
            (false, _) => {
                format!(
                    "no test part, and the model was not trained on this source: all {count} images are measured"
                )
            }
        };
        (if held_out { self.test.clone() } else { all() }, Some(note))
    }
}
