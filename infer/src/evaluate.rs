//! Evaluation of models on labelled images: one model against the labels, or two models against each other.

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

/// Results of a model on labelled images.
#[derive(Debug, Default)]
pub struct Evaluation {
    /// Images that could be read, in order.
    pub samples: Vec<Sample>,
    /// Predicted class, rank and confidence for each image.
    pub ranked: Vec<Ranked>,
    /// Probabilities from 0 to 1, `[images][classes]`.
    pub probabilities: Vec<Vec<f32>>,
    /// Names of the images without a result, with the reason.
    pub bad: Vec<String>,
}

/// Comparison of two models on the same images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelComparison {
    /// Scores of the other model.
    pub other: Scores,
    /// Fraction of the images for which both models predict the same class.
    pub agreement: f64,
    /// Largest absolute difference between two probabilities, over all classes and images.
    pub largest_difference: f64,
    /// First thousand images for which the predictions differ, in order.
    pub different: Vec<Difference>,
}

/// Image for which two models predict different classes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Name of the image.
    pub path: String,
    /// Labelled class of the image.
    pub label: String,
    /// Class predicted by the first model.
    pub predicted: String,
    /// Class predicted by the second model.
    pub other: String,
}

/// Evaluates a model on labelled images. Images that cannot be read are listed in the result.
///
/// # Errors
/// Returns the errors of the runtime.
pub fn evaluate(model: &Classifier, samples: Vec<Sample>, plan: &PipelineConfig) -> Result<Evaluation> {
    let (send, items) = sync_channel(1024);
    spawn(move || samples.into_iter().try_for_each(|sample| send.send(sample)));
    let mut all = Evaluation::default();
    run(model, plan, &Times::default(), items, |batch| {
        for one in batch {
            match one.answer {
                Ok(answer) if answer.outputs.iter().any(|x| !x.is_finite()) => {
                    all.bad.push(format!("{}: an output of the network is not finite", one.item.name()));
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

/// Compares two evaluations of the same samples.
pub fn compare(one: &Evaluation, other: &Evaluation, labels: &[String]) -> ModelComparison {
    let pairs = || one.ranked.iter().zip(&other.ranked);
    let name = |class: u32| labels.get(class as usize).cloned().unwrap_or_default();
    let different = pairs().zip(&one.samples).filter(|((a, b), _)| a.predicted != b.predicted);
    let difference = |((a, b), sample): ((&Ranked, &Ranked), &Sample)| Difference {
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
        different: different.take(MAX_DIFFERENT).map(difference).collect(),
    }
}
