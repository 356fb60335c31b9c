//! Results of a pass for the host: batch statistics, the terms' parts of the mixture's gradient, and each
//! image's loss and correctness.

use milenas_models::Result;
use milenas_models::kernels::cuda::Words;

/// Sizes of the results, and the offset of the first one.
#[derive(Clone, Copy)]
pub(super) struct ResultLayout {
    pub(super) start: usize,
    /// Number of all means, which is that of all variances.
    pub(super) moments: usize,
    /// Number of elements of the mixture's gradient.
    pub(super) reach: usize,
    /// Number of images.
    pub(super) images: usize,
}

/// Results on the device.
#[derive(Clone, Copy)]
pub(super) struct Results {
    pub(super) mean: Words,
    pub(super) variance: Words,
    pub(super) reach: Words,
    pub(super) losses: Words,
    pub(super) right: Words,
}

/// Results on the host.
pub(super) struct HostResults<'a> {
    /// Means, then variances.
    pub(super) moments: &'a [f32],
    pub(super) reach: &'a [f32],
    losses: &'a [f32],
    right: &'a [f32],
}

impl ResultLayout {
    /// Returns the number of elements.
    pub(super) fn words(self) -> usize {
        2 * self.moments + self.reach + 2 * self.images
    }

    /// Returns the results within a device buffer.
    pub(super) fn of(self, words: Words) -> Result<Results> {
        let ResultLayout { moments, reach, images, .. } = self;
        let own = words.part(self.start, self.words())?;
        let after = 2 * moments + reach;
        Ok(Results {
            mean: own.part(0, moments)?,
            variance: own.part(moments, moments)?,
            reach: own.part(2 * moments, reach)?,
            losses: own.part(after, images)?,
            right: own.part(after + images, images)?,
        })
    }

    /// Returns the results within a copy on the host.
    pub(super) fn find(self, read: &[f32]) -> HostResults<'_> {
        let (moments, rest) = read[self.start..].split_at(2 * self.moments);
        let (reach, rest) = rest.split_at(self.reach);
        let (losses, rest) = rest.split_at(self.images);
        HostResults { moments, reach, losses, right: &rest[..self.images] }
    }
}

impl HostResults<'_> {
    /// Returns the mean loss of the images.
    pub(super) fn loss(&self) -> f64 {
        self.losses.iter().map(|x| f64::from(*x)).sum::<f64>() / self.losses.len() as f64
    }

    /// Returns the number of correct predictions.
    pub(super) fn correct(&self) -> usize {
        self.right.iter().filter(|x| **x > 0.0).count()
    }
}
