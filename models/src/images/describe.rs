//! Summary of a data set, and a suitable input contract.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use super::{Dataset, Sample};
use crate::input::{Image, ImageSize, InputContract, Limits, Resize};
use crate::{Error, Result};

/// Number of images whose size is checked.
const LOOKED_AT: usize = 256;

/// Largest number of images for mean and standard deviation.
const MEASURED: usize = 10_000;

/// Largest side for which images of one size keep it by default, in pixels.
const NATIVE: usize = 64;

/// Summary of a data set, as printed by `data info`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DatasetSummary {
    /// Classes, in the order of the labels.
    pub classes: Vec<ClassCount>,
    /// Number of training images.
    pub train: usize,
    /// Number of test images.
    pub test: usize,
    /// Number of training images that were decoded for the fields below, evenly spaced.
    pub looked_at: usize,
    /// Sizes of the decoded images, the most frequent first.
    pub sizes: Vec<SizeCount>,
    /// Whether all decoded images are gray.
    pub gray: bool,
    /// Messages for the images that could not be decoded, with the reason.
    pub bad: Vec<String>,
    /// Notes for users on how the source was read.
    pub notes: Vec<String>,
}

/// A class and the numbers of its images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClassCount {
    /// Name of the class.
    pub name: String,
    /// Number of training images.
    pub train: usize,
    /// Number of test images.
    pub test: usize,
}

/// A size, and the number of decoded images that have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SizeCount {
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// Number of images.
    pub count: usize,
}

impl Dataset {
    /// Counts the images, and decodes up to 256 training images for their sizes.
    pub fn summary(&self, limits: &Limits) -> DatasetSummary {
        let mut classes: Vec<ClassCount> =
            self.classes.iter().map(|name| ClassCount { name: name.clone(), train: 0, test: 0 }).collect();
        self.train.iter().for_each(|s| classes[s.class() as usize].train += 1);
        self.test.iter().for_each(|s| classes[s.class() as usize].test += 1);

        let looked_at = spread(&self.train, LOOKED_AT);
        let look = |image: Image| ((image.height(), image.width()), image.is_gray());
        let seen: Vec<_> = looked_at.par_iter().map(|sample| sample.image(limits).map(look)).collect();
        let mut sizes = BTreeMap::new();
        let (mut gray, mut bad) = (true, Vec::new());
        for result in seen {
            match result {
                Ok((size, is_gray)) => {
                    *sizes.entry(size).or_insert(0) += 1;
                    gray &= is_gray;
                }
                Err(error) => bad.push(error.to_string()),
            }
        }
        let mut sizes: Vec<SizeCount> =
            sizes.into_iter().map(|((height, width), count)| SizeCount { height, width, count }).collect();
        sizes.sort_by_key(|size| std::cmp::Reverse(size.count));
        DatasetSummary {
            classes,
            train: self.train.len(),
            test: self.test.len(),
            looked_at: looked_at.len(),
            sizes,
            gray: gray && bad.len() < looked_at.len(),
            bad,
            notes: self.all_notes(),
        }
    }

    /// Returns a contract that suits the training images.
    ///
    /// Without `side`, images keep their size if they all have the same size of at most 64 pixels. With
    /// `[side, shorter]`, the shorter side of an image is resized to `shorter`, and the network's input is the
    /// central square of `side` pixels. Gray images give one channel. Mean and standard deviation are those of the
    /// data set if it has them. Otherwise they are computed from up to 10,000 prepared training images.
    ///
    /// # Errors
    /// [`Error::Value`] for images of several or large sizes without `side`. [`Error::Malformed`] if no image can be
    /// read.
    pub fn suggest_contract(&self, side: Option<[usize; 2]>, limits: &Limits) -> Result<InputContract> {
        let summary = self.summary(limits);
        let Some(&most) = summary.sizes.first() else {
            let why = summary.bad.into_iter().next().unwrap_or_else(|| "there is none".into());
            return Err(Error::malformed("training images", format!("none can be read; the first: {why}")));
        };
        let native = summary.sizes.len() == 1 && most.height.max(most.width) <= NATIVE;
        let (size, resize) = match side {
            Some([side, shorter]) => (ImageSize::square(side), Resize::ShorterSide { side: shorter }),
            None if native => (ImageSize { height: most.height, width: most.width }, Resize::Stretch),
            None => {
                let found = match summary.sizes.as_slice() {
                    [one] => format!("{}x{}", one.width, one.height),
                    sizes => {
                        format!("{} different ones, most often {}x{}", sizes.len(), most.width, most.height)
                    }
                };
                let expected =
                    "one size of at most 64 pixels, or an input size chosen by you, e.g. 64".into();
                return Err(Error::Value { what: "the size of the images".into(), found, expected });
            }
        };
        let channels = if summary.gray { 1 } else { 3 };
        let (mean, std) = (vec![0.0; channels], vec![1.0; channels]);
        let mut contract = InputContract::new(size, channels, mean, std, resize);
        contract.validate()?;
        (contract.mean, contract.std) = match &self.scale {
            Some((mean, std)) if mean.len() == channels => (mean.clone(), std.clone()),
            _ => measure(&spread(&self.train, MEASURED), &contract, limits),
        };
        contract.validate()?;
        Ok(contract)
    }
}

/// Returns at most `most` samples, evenly spaced.
fn spread(samples: &[Sample], most: usize) -> Vec<&Sample> {
    let n = samples.len().min(most);
    (0..n).map(|i| &samples[i * samples.len() / n]).collect()
}

/// Returns mean and standard deviation per channel of the prepared images that can be read. The sums are integers, so
/// the order of the threads does not matter.
fn measure(samples: &[&Sample], contract: &InputContract, limits: &Limits) -> (Vec<f32>, Vec<f32>) {
    let channels = contract.channels;
    let sums = |sample: &&Sample| {
        let pixels = sample.image(limits).and_then(|image| contract.prepare(&image)).unwrap_or_default();
        let mut sums = vec![[0u64; 3]; channels];
        for (i, &byte) in pixels.iter().enumerate() {
            let sum = &mut sums[i % channels];
            *sum = [sum[0] + 1, sum[1] + u64::from(byte), sum[2] + u64::from(byte) * u64::from(byte)];
        }
        sums
    };
    let add = |a: Vec<[u64; 3]>, b: Vec<[u64; 3]>| {
        a.iter().zip(&b).map(|(a, b)| [a[0] + b[0], a[1] + b[1], a[2] + b[2]]).collect()
    };
    let totals = samples.par_iter().map(sums).reduce(|| vec![[0; 3]; channels], add);
    let moments = totals.iter().map(|&[n, sum, square]| {
        let mean = sum as f64 / n.max(1) as f64;
        let variance = (square as f64 / n.max(1) as f64 - mean * mean).max(0.0);
        // Images of one flat colour have standard deviation 0; 1 leaves them centred.
        let std = if variance < 1e-3 { 1.0 } else { variance.sqrt() / 255.0 };
        ((mean / 255.0) as f32, std as f32)
    });
    moments.unzip()
}
