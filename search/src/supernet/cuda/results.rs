//! What a pass leaves for the host: moments, the terms' parts of the mixture's gradient, each image's loss and whether it is right.

use milenas_models::Result;
use milenas_models::kernels::cuda::Words;

/// How much of each there is, and where the first begins.
#[derive(Clone, Copy)]
pub(super) struct ResultLayout {
    pub(super) start: usize,
    /// Words of all means, and of all variances.
    pub(super) moments: usize,
    pub(super) reach: usize,
    pub(super) images: usize,
}

/// On the device.
#[derive(Clone, Copy)]
pub(super) struct Results {
    pub(super) mean: Words,
    pub(super) variance: Words,
    pub(super) reach: Words,
    pub(super) losses: Words,
    pub(super) right: Words,
}

/// On the host.
pub(super) struct HostResults<'a> {
    /// Means, then variances.
    pub(super) moments: &'a [f32],
    pub(super) reach: &'a [f32],
    losses: &'a [f32],
    right: &'a [f32],
}

impl ResultLayout {
    pub(super) fn words(self) -> usize {
        2 * self.moments + self.reach + 2 * self.images
    }

    /// Among words of the device.
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

    /// Among words that were read.
    pub(super) fn find(self, read: &[f32]) -> HostResults<'_> {
        let (moments, rest) = read[self.start..].split_at(2 * self.moments);
        let (reach, rest) = rest.split_at(self.reach);
        let (losses, rest) = rest.split_at(self.images);
        HostResults { moments, reach, losses, right: &rest[..self.images] }
    }
}

impl HostResults<'_> {
    /// The mean over the images.
    pub(super) fn loss(&self) -> f64 {
        self.losses.iter().map(|x| f64::from(*x)).sum::<f64>() / self.losses.len() as f64
    }

    pub(super) fn correct(&self) -> usize {
        self.right.iter().filter(|x| **x > 0.0).count()
    }
}
