//! Metrics of a classifier on labelled images, the same for training and for deployed models.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::some_of;

/// Result of one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// Class of the image.
    pub label: u32,
    /// Class with the largest logit; ties go to the lower index.
    pub predicted: u32,
    /// Number of classes with a larger logit than that of `label`.
    pub rank: usize,
    /// Probability of the predicted class, 0 to 1.
    pub confidence: f64,
    /// Cross-entropy in nats: minus the logarithm of the probability of `label`.
    pub loss: f64,
}

impl Ranked {
    /// Computes the result from the logits of an image, `[classes]`.
    pub fn new(logits: &[f32], label: u32) -> Self {
        let predicted = (0..logits.len() as u32).find(|&class| rank(logits, class) == 0).unwrap_or_default();
        let own = logits.get(predicted as usize).copied().unwrap_or(f32::NAN);
        // Softmax of the largest logit: one over the sum of all exponentials relative to it.
        let sum: f64 = logits.iter().filter(|x| !x.is_nan()).map(|x| f64::from(x - own).exp()).sum();
        let confidence = if sum >= 1.0 { 1.0 / sum } else { 0.0 };
        let label_logit = logits.get(label as usize).copied().unwrap_or(f32::NAN);
        let loss = f64::from(own - label_logit) + sum.ln();
        Ranked { label, predicted, rank: rank(logits, label), confidence, loss }
    }
}

impl Ranked {
    /// Computes the result from the probabilities of an image, `[classes]`. They need not sum to 1, as for
    /// independent classes.
    pub fn of_probabilities(probabilities: &[f32], label: u32) -> Self {
        let best = (0..probabilities.len() as u32).find(|&class| rank(probabilities, class) == 0);
        let predicted = best.unwrap_or_default();
        let p = |class: u32| probabilities.get(class as usize).map_or(0.0, |&p| f64::from(p));
        let loss = -p(label).max(f64::MIN_POSITIVE).ln();
        Ranked { label, predicted, rank: rank(probabilities, label), confidence: p(predicted), loss }
    }
}

/// Number of images whose class has the largest logit.
pub fn right(ranked: &[Ranked]) -> usize {
    ranked.iter().filter(|r| r.rank == 0).count()
}

/// Mean cross-entropy in nats; 0 without images.
pub fn loss(ranked: &[Ranked]) -> f64 {
    ranked.iter().map(|r| r.loss).sum::<f64>() / ranked.len().max(1) as f64
}

/// Number of logits larger than that of `class`; ties go to the lower index. NaN is smaller than all other values.
pub fn rank(logits: &[f32], class: u32) -> usize {
    let class = class as usize;
    let Some(own) = logits.get(class) else { return logits.len() };
    let beats = |(i, x): (usize, &f32)| x > own || (x == own && i < class) || (own.is_nan() && i != class);
    logits.iter().enumerate().filter(|(i, x)| beats((*i, *x))).count()
}

/// Accuracy on a set of images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Number of images.
    pub images: usize,
    /// Fraction of images whose class has the largest logit.
    pub top1: f64,
    /// Fraction of images whose class is among the five largest logits.
    pub top5: f64,
    /// Expected calibration error (Guo et al., 2017), 0 to 1: the mean distance of confidence from accuracy over
    /// fifteen bins of equal width.
    pub calibration_error: f64,
    /// Scores of the classes, in the order of the labels.
    pub classes: Vec<ClassScore>,
    /// Number of images by true class (rows) and predicted class.
    pub confusion: Vec<Vec<usize>>,
}

/// Accuracy on the images of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassScore {
    /// Name of the class.
    pub name: String,
    /// Number of images of the class.
    pub images: usize,
    /// Fraction of the class's images that were predicted correctly; absent if there are no images.
    pub recall: Option<f64>,
    /// Fraction of the images with this prediction that have the class.
    pub precision: f64,
}

fn part(of: usize, all: usize) -> f64 {
    of as f64 / all.max(1) as f64
}

impl Scores {
    /// Computes the scores; `labels` are the names of the classes.
    pub fn new(ranked: &[Ranked], labels: &[String]) -> Self {
        let mut confusion = vec![vec![0; labels.len()]; labels.len()];
        for r in ranked {
            if let Some(cell) =
                confusion.get_mut(r.label as usize).and_then(|row| row.get_mut(r.predicted as usize))
            {
                *cell += 1;
            }
        }
        let class = |(i, name): (usize, &String)| {
            let images = confusion[i].iter().sum();
            let predicted = confusion.iter().map(|row| row[i]).sum();
            let right = confusion[i][i];
            ClassScore {
                name: name.clone(),
                images,
                recall: (images > 0).then(|| part(right, images)),
                precision: part(right, predicted),
            }
        };
        let within = |most: usize| part(ranked.iter().filter(|r| r.rank < most).count(), ranked.len());
        let classes = labels.iter().enumerate().map(class).collect();
        let calibration_error = reliability(ranked)
            .iter()
            .map(|bin| part(bin.images, ranked.len()) * (bin.confidence - bin.accuracy).abs())
            .sum();
        Scores {
            images: ranked.len(),
            top1: within(1),
            top5: within(5),
            calibration_error,
            classes,
            confusion,
        }
    }
}

impl Scores {
    /// Returns the recall of the classes in one line, the lowest first and at most five, to show what the mean hides.
    pub fn recalls(&self) -> String {
        let mut classes: Vec<(&ClassScore, f64)> =
            self.classes.iter().filter_map(|class| Some((class, class.recall?))).collect();
        classes.sort_by(|a, b| a.1.total_cmp(&b.1));
        let entry = |(class, recall): &(&ClassScore, f64)| {
            format!("{} {:.1} % of {}", class.name, 100.0 * recall, class.images)
        };
        format!("recall: {}", some_of(&classes.iter().map(entry).collect::<Vec<_>>()))
    }
}

/// A group of images with similar confidence.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// Number of images.
    pub images: usize,
    /// Mean confidence of the images.
    pub confidence: f64,
    /// Fraction of the images that were predicted correctly.
    pub accuracy: f64,
}

/// Groups images into fifteen bins of equal width over the confidence, from 0 to 1.
pub fn reliability(ranked: &[Ranked]) -> [Bin; 15] {
    let mut bins = [Bin::default(); 15];
    for r in ranked {
        let bin = &mut bins[((r.confidence * 15.0) as usize).min(14)];
        bin.images += 1;
        bin.confidence += r.confidence;
        bin.accuracy += f64::from(u8::from(r.predicted == r.label));
    }
    bins.map(|bin| {
        let n = bin.images.max(1) as f64;
        Bin { confidence: bin.confidence / n, accuracy: bin.accuracy / n, ..bin }
    })
}

/// Largest number of classes for which a table is printed.
const MAX_PRINTED: usize = 20;

impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |x: f64| 100.0 * x;
        writeln!(
            f,
            "{} images: top-1 {:.2} %, top-5 {:.2} %, calibration error {:.2} %",
            self.images,
            percent(self.top1),
            percent(self.top5),
            percent(self.calibration_error)
        )?;
        if self.classes.len() > MAX_PRINTED {
            return writeln!(f, "{} classes: the JSON report has each", self.classes.len());
        }
        let width = self.classes.iter().map(|c| c.name.chars().count()).max().unwrap_or(0).max(5);
        writeln!(f, "{:width$}  images  recall  precision  predicted as", "class")?;
        for (class, row) in self.classes.iter().zip(&self.confusion) {
            let recall = class.recall.map_or("-".into(), |recall| format!("{:.1}%", percent(recall)));
            let precision = percent(class.precision);
            let row: Vec<String> = row.iter().map(|n| format!("{n:>4}")).collect();
            let row = row.join(" ");
            writeln!(f, "{:width$}  {:>6}  {recall:>6}  {precision:>8.1}%  {row}", class.name, class.images)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_there() {
        let labels = ["a", "b", "c"].map(String::from);
        let ranked = [([2.0, 1.0, 0.0], 0), ([2.0, 1.0, 0.0], 1), ([0.0, 3.0, 3.0], 2), ([0.0, 0.0, 1.0], 2)];
        let ranked = ranked.map(|(logits, label)| Ranked::new(&logits, label));
        let scores = Scores::new(&ranked, &labels);
        assert_eq!((scores.images, scores.top1, scores.top5), (4, 0.5, 1.0));
        assert_eq!(scores.confusion, [[1, 0, 0], [1, 0, 0], [0, 1, 1]]);
        assert_eq!((scores.classes[0].recall, scores.classes[0].precision), (Some(1.0), 0.5));
        assert_eq!(right(&ranked), 2);
        let entropies = ranked.map(|r| r.loss);
        let of_two = (1.0 + (-1f64).exp() + (-2f64).exp()).ln();
        let of_one = (1.0 + 2.0 * (-1f64).exp()).ln();
        let expected = [of_two, of_two + 1.0, (2.0 + (-3f64).exp()).ln(), of_one];
        assert!(entropies.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{entropies:?}");
        assert!((loss(&ranked) - expected.iter().sum::<f64>() / 4.0).abs() < 1e-12);
        assert_eq!((right(&[]), loss(&[])), (0, 0.0));
    }

    #[test]
    fn a_class_without_images_has_no_recall() {
        let scores = Scores::new(&[Ranked::new(&[2.0, 1.0], 0)], &["a", "b"].map(String::from));
        assert_eq!(scores.classes[1].recall, None);
        let text = scores.to_string();
        assert!(text.lines().any(|line| line.starts_with("b           0       -")), "{text}");
        let back: Scores = serde_json::from_str(&serde_json::to_string(&scores).unwrap()).unwrap();
        assert_eq!(back, scores);
    }

    #[test]
    fn nan_is_never_a_prediction() {
        let ranked = Ranked::new(&[f32::NAN, -f32::ln(3.0), 0.0], 0);
        assert_eq!((ranked.predicted, ranked.rank), (2, 2));
        assert!((ranked.confidence - 0.75).abs() < 1e-6);
        assert_eq!(Ranked::new(&[f32::NAN; 2], 0).confidence, 0.0);
    }

    #[test]
    fn calibration_is_confidence_against_accuracy() {
        let labels = ["a", "b"].map(String::from);
        let ranked = |confidence, right: bool| Ranked {
            label: 0,
            predicted: u32::from(!right),
            rank: 0,
            confidence,
            loss: 0.0,
        };
        let same = [true, true, true, false].map(|right| ranked(0.75, right));
        assert_eq!(Scores::new(&same, &labels).calibration_error, 0.0);
        // Half of the images are confident and wrong, half are confident and correct.
        let sure = [true, false].map(|right| ranked(1.0, right));
        assert_eq!(Scores::new(&sure, &labels).calibration_error, 0.5);
    }
}
