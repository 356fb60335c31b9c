//! How models do on labelled images: one against the truth, two against each other.

use std::sync::mpsc::sync_channel;
use std::thread::spawn;

use milenas_models::Sample;
use milenas_models::metrics::{Ranked, Scores};
use serde::Serialize;

use crate::Result;
use crate::answer::OutputMeaning;
use crate::model::Classifier;
use crate::pipeline::{PipelineConfig, Times, run};

/// Largest number of reported images on which two models differ.
const MAX_DIFFERENT: usize = 1000;

/// A model's answers to labelled images.
#[derive(Debug, Default)]
pub struct Evaluation {
    /// The images that could be read, in order.
    pub samples: Vec<Sample>,
    /// How each fared.
    pub ranked: Vec<Ranked>,
    /// `[images][classes]`, 0 to 1.
    pub probabilities: Vec<Vec<f32>>,
    /// Why the others could not be read.
    pub bad: Vec<String>,
}

/// Two models on the same images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelComparison {
    /// The other model's scores.
    pub other: Scores,
    /// The part of the images on which both predict the same class.
    pub agreement: f64,
    /// The largest difference of a probability, of any class of any image.
    pub largest_difference: f64,
    /// The images on which they differ, in order; the first thousand.
    pub different: Vec<Difference>,
}

/// An image on which two models differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The image.
    pub path: String,
    /// Its class.
    pub label: String,
    /// Class predicted by the first model.
    pub predicted: String,
    /// Class predicted by the second model.
    pub other: String,
}

/// Runs a model on labelled images.
///
/// # Errors
/// Errors of the runtime. Images that cannot be read are listed in the result.
pub fn evaluate(model: &Classifier, samples: Vec<Sample>, plan: &PipelineConfig) -> Result<Evaluation> {
    let (send, items) = sync_channel(1024);
    spawn(move || samples.into_iter().try_for_each(|sample| send.send(sample)));
    let mut all = Evaluation::default();
    run(model, plan, &Times::default(), items, |batch| {
        for one in batch {
            match one.answer {
                Ok(answer) if answer.outputs.iter().any(|x| !x.is_finite()) => {
                    all.bad.push(format!("{}: the network gives no number", one.item.name()));
                }
                Ok(answer) => {
                    let probabilities = model.meaning.probabilities(&answer.outputs);
                    all.ranked.push(match model.meaning {
                        OutputMeaning::Logits => Ranked::new(&answer.outputs, one.item.class()),
                        OutputMeaning::Probabilities | OutputMeaning::Independent => {
                            Ranked::of_probabilities(&answer.outputs, one.item.class())
                        }
                    });
                    all.probabilities.push(probabilities.into_iter().map(|p| p as f32).collect());
                    all.samples.push(one.item);
                }
                Err(reason) => all.bad.push(reason),
            }
        }
        Ok(())
    })?;
    Ok(all)
}

/// Puts two evaluations of the same samples side by side.
pub fn compare(one: &Evaluation, other: &Evaluation, labels: &[String]) -> ModelComparison {
    let pairs = || one.ranked.iter().zip(&other.ranked);
    let name = |class: u32| labels.get(class as usize).cloned().unwrap_or_default();
    let different = pairs().zip(&one.samples).filter(|((a, b), _)| a.predicted != b.predicted);
    let told = |((a, b), sample): ((&Ranked, &Ranked), &Sample)| Difference {
        path: sample.name(),
        label: name(a.label),
        predicted: name(a.predicted),
        other: name(b.predicted),
    };
    let count = different.clone().count();
    let probabilities = one.probabilities.iter().flatten().zip(other.probabilities.iter().flatten());
    ModelComparison {
        other: Scores::new(&other.ranked, labels),
        agreement: 1.0 - count as f64 / one.ranked.len().max(1) as f64,
        largest_difference: probabilities.map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max),
        different: different.take(MAX_DIFFERENT).map(told).collect(),
    }
}
