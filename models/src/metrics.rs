//! How well a classifier does on labelled images: the same numbers for training and for deployed models.

use std::fmt;

use serde::Serialize;

/// How one image fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranked {
    /// Its class.
    pub label: u32,
    /// The class with the largest logit; ties go to the lower index.
    pub predicted: u32,
    /// How many classes beat its own.
    pub rank: usize,
}

impl Ranked {
    /// From the logits of one image, `[classes]`.
    pub fn new(logits: &[f32], label: u32) -> Self {
        let predicted = (0..logits.len() as u32).find(|&class| rank(logits, class) == 0);
        Ranked { label, predicted: predicted.unwrap_or_default(), rank: rank(logits, label) }
    }
}

/// How many logits beat that of `class`; ties go to the lower index. A NaN beats nothing, and is beaten by all.
pub fn rank(logits: &[f32], class: u32) -> usize {
    let class = class as usize;
    let Some(own) = logits.get(class) else { return logits.len() };
    let beats = |(i, x): (usize, &f32)| x > own || (x == own && i < class) || (own.is_nan() && i != class);
    logits.iter().enumerate().filter(|(i, x)| beats((*i, *x))).count()
}

/// Accuracy on a set of images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// How many images were measured.
    pub images: usize,
    /// The part whose class has the largest logit.
    pub top1: f64,
    /// The part whose class is among the five largest.
    pub top5: f64,
    /// In the order of the labels.
    pub classes: Vec<ClassScore>,
    /// Images by true class (rows) and predicted class.
    pub confusion: Vec<Vec<usize>>,
}

/// Accuracy on the images of one class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassScore {
    /// The class.
    pub name: String,
    /// How many images have it.
    pub images: usize,
    /// The part of them that was predicted so.
    pub recall: f64,
    /// Of those predicted so, the part that has it.
    pub precision: f64,
}

fn part(of: usize, all: usize) -> f64 {
    of as f64 / all.max(1) as f64
}

impl Scores {
    /// Counts; `labels` names the classes.
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
                recall: part(right, images),
                precision: part(right, predicted),
            }
        };
        let within = |most: usize| part(ranked.iter().filter(|r| r.rank < most).count(), ranked.len());
        let classes = labels.iter().enumerate().map(class).collect();
        Scores { images: ranked.len(), top1: within(1), top5: within(5), classes, confusion }
    }
}

/// The most classes for which a table is printed.
const MAX_PRINTED: usize = 20;

impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |x: f64| 100.0 * x;
        writeln!(
            f,
            "{} images: top-1 {:.2} %, top-5 {:.2} %",
            self.images,
            percent(self.top1),
            percent(self.top5)
        )?;
        if self.classes.len() > MAX_PRINTED {
            return writeln!(f, "{} classes: see --json for each", self.classes.len());
        }
        let width = self.classes.iter().map(|c| c.name.chars().count()).max().unwrap_or(0).max(5);
        writeln!(f, "{:width$}  images  recall  precision  predicted as", "class")?;
        for (class, row) in self.classes.iter().zip(&self.confusion) {
            let (recall, precision) = (percent(class.recall), percent(class.precision));
            let row: Vec<String> = row.iter().map(|n| format!("{n:>4}")).collect();
            let row = row.join(" ");
            writeln!(
                f,
                "{:width$}  {:>6}  {recall:>5.1}%  {precision:>8.1}%  {row}",
                class.name, class.images
            )?;
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
        assert_eq!((scores.classes[0].recall, scores.classes[0].precision), (1.0, 0.5));
    }

    #[test]
    fn nan_is_never_a_prediction() {
        assert_eq!(Ranked::new(&[f32::NAN, -1.0, 0.0], 0), Ranked { label: 0, predicted: 2, rank: 2 });
    }
}
