//! Output of a network for one image, and the part of it that is reported.

use std::cmp::Ordering;

/// Output of a network for one image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Outputs of the network's last operation, `[classes]`.
    pub outputs: Vec<f32>,
    /// Pooled features that the last linear operation reads, if they were requested.
    pub features: Option<Vec<f32>>,
}

/// Meaning of a network's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputMeaning {
    /// Scores before softmax.
    Logits,
    /// Probabilities of exclusive classes, which sum to 1.
    Probabilities,
    /// Independent probabilities, e.g. sigmoids: several classes may apply to one image.
    Independent,
}

impl OutputMeaning {
    /// Returns the name of the meaning on command lines.
    pub fn name(self) -> &'static str {
        match self {
            OutputMeaning::Logits => "logits",
            OutputMeaning::Probabilities => "probabilities",
            OutputMeaning::Independent => "independent",
        }
    }

    /// Returns the probability of each class, given the outputs `[classes]` of one image.
    pub fn probabilities(self, outputs: &[f32]) -> Vec<f64> {
        match self {
            OutputMeaning::Logits => softmax(outputs),
            OutputMeaning::Probabilities | OutputMeaning::Independent => {
                outputs.iter().map(|&p| f64::from(p)).collect()
            }
        }
    }
}

/// Kind of score reported for a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Score {
    /// Probability by the outputs' meaning (softmax of logits), rounded to six decimals.
    Probability,
    /// Output of the network.
    Logit,
}

/// Part of an answer that is reported.
#[derive(Clone, Debug)]
pub struct AnswerOptions {
    /// Names of the classes.
    pub labels: Vec<String>,
    /// Largest number of classes, best first.
    pub top_k: usize,
    /// Lowest score of a reported prediction.
    pub threshold: Option<f32>,
    /// Kind of score.
    pub score: Score,
    /// Meaning of the network's outputs.
    pub meaning: OutputMeaning,
    /// True to report the scores of all classes as well.
    pub all_scores: bool,
    /// Length of the features, if they are reported.
    pub features: Option<usize>,
}

/// Reported classes and scores of one image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    /// Index and score of the best classes, best first.
    pub predictions: Vec<(usize, f64)>,
    /// Scores of all classes in the order of the labels, if requested.
    pub scores: Vec<f64>,
    /// Pooled features, if requested.
    pub features: Vec<f32>,
}

impl AnswerOptions {
    /// Selects the reported part of an answer.
    ///
    /// # Errors
    /// Returns a message if outputs are not finite, or if their number differs from the number of labels.
    pub fn select(&self, answer: &Answer) -> Result<Predictions, String> {
        let outputs = &answer.outputs;
        if outputs.len() != self.labels.len() {
            return Err(format!(
                "the network has {} outputs for {} labels",
                outputs.len(),
                self.labels.len()
            ));
        }
        if outputs.iter().any(|x| !x.is_finite()) {
            return Err("an output of the network is not finite".into());
        }
        let scores = self.scores(outputs);
        let mut best: Vec<usize> = (0..outputs.len()).collect();
        best.sort_by(|&a, &b| outputs[b].partial_cmp(&outputs[a]).unwrap_or(Ordering::Equal).then(a.cmp(&b)));
        let enough = |&(_, score): &(usize, f64)| self.threshold.is_none_or(|t| score >= f64::from(t));
        Ok(Predictions {
            predictions: best.into_iter().take(self.top_k).map(|i| (i, scores[i])).filter(enough).collect(),
            scores: if self.all_scores { scores } else { Vec::new() },
            features: answer.features.clone().unwrap_or_default(),
        })
    }

    fn scores(&self, outputs: &[f32]) -> Vec<f64> {
        match (self.score, self.meaning) {
            (Score::Logit, _) => outputs.iter().map(|&x| f64::from(x)).collect(),
            (Score::Probability, meaning) => {
                meaning.probabilities(outputs).into_iter().map(rounded).collect()
            }
        }
    }
}

/// Returns `exp(x) / sum exp(x)` for each logit.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|x| f64::from(x - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

fn rounded(score: f64) -> f64 {
    (score * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(score: Score, meaning: OutputMeaning) -> AnswerOptions {
        let labels = ["a", "b", "c"].map(String::from).to_vec();
        AnswerOptions { labels, top_k: 2, threshold: None, score, meaning, all_scores: true, features: None }
    }

    fn answer(outputs: [f32; 3]) -> Answer {
        Answer { outputs: outputs.to_vec(), features: None }
    }

    #[test]
    fn the_best_come_first_and_ties_go_to_the_lower_index() {
        let selected = view(Score::Logit, OutputMeaning::Logits).select(&answer([1.0, 2.5, 2.5])).unwrap();
        assert_eq!(selected.predictions, [(1, 2.5), (2, 2.5)]);
        assert_eq!(selected.scores, [1.0, 2.5, 2.5]);
    }

    #[test]
    fn probabilities_are_made_once() {
        let selected = view(Score::Probability, OutputMeaning::Logits)
            .select(&answer([0.0, 0.0, f32::ln(2.0)]))
            .unwrap();
        assert_eq!(selected.predictions, [(2, 0.5), (0, 0.25)]);
        let selected =
            view(Score::Probability, OutputMeaning::Probabilities).select(&answer([0.2, 0.7, 0.1])).unwrap();
        assert_eq!(selected.predictions, [(1, 0.7), (0, 0.2)]);
    }

    #[test]
    fn a_threshold_leaves_out_and_no_number_is_an_error() {
        let view =
            AnswerOptions { threshold: Some(0.5), ..view(Score::Probability, OutputMeaning::Probabilities) };
        assert_eq!(view.select(&answer([0.1, 0.3, 0.6])).unwrap().predictions, [(2, 0.6)]);
        assert!(view.select(&answer([0.4, 0.3, 0.3])).unwrap().predictions.is_empty());
        assert!(view.select(&answer([f32::NAN, 0.0, 0.0])).unwrap_err().contains("not finite"));
    }
}
