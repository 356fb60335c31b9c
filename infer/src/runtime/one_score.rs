//! Runtime for a network with one score per image, and with two classes or one.

use super::Runtime;
use crate::Result;
use crate::answer::Answer;

/// Wrapper that converts one score to the probabilities of two classes, or of one.
pub struct OneScore {
    inner: Box<dyn Runtime>,
    logit: bool,
    single: bool,
}

impl OneScore {
    /// Wraps `inner`. `logit`: the score needs a sigmoid. `single`: there is one class.
    pub fn new(inner: Box<dyn Runtime>, logit: bool, single: bool) -> Self {
        OneScore { inner, logit, single }
    }

    fn scores(&self, score: f32) -> Vec<f32> {
        let p = if self.logit { 1.0 / (1.0 + (-score).exp()) } else { score };
        if self.single { vec![p] } else { vec![1.0 - p, p] }
    }
}

impl Runtime for OneScore {
    fn run(&self, images: &[f32], batch: usize) -> Result<Vec<Answer>> {
        let mut answers = self.inner.run(images, batch)?;
        for answer in &mut answers {
            if let [score] = answer.outputs[..] {
                answer.outputs = self.scores(score);
            }
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct FixedScore(f32);

    impl Runtime for FixedScore {
        fn run(&self, _: &[f32], batch: usize) -> Result<Vec<Answer>> {
            Ok(vec![Answer { outputs: vec![self.0], features: None }; batch])
        }
    }

    #[test]
    fn one_score_is_a_probability_of_the_second_class() {
        let scores = |score, logit, single| {
            OneScore::new(Box::new(FixedScore(score)), logit, single).run(&[], 1).unwrap().remove(0).outputs
        };
        assert_eq!(scores(0.75, false, false), [0.25, 0.75]);
        assert_eq!(scores(0.75, false, true), [0.75]);
        assert_eq!(scores(0.0, true, false), [0.5, 0.5]);
        let p = scores(3f32.ln(), true, false);
        assert!((p[1] - 0.75).abs() < 1e-6, "{p:?}");
    }
}
