//! Settings of the training of a derived network.

use milenas_models::Skeleton;

use super::settings::settings;
use crate::data::{Augment, Transform};
use crate::optim::{SgdConfig, cosine, exponential};

settings! {
    /// Settings of the training of a derived network.
    pub struct TrainConfig {
        /// Number of passes over the training images.
        epochs: usize = 20usize, in Range::Count;
        /// Maximum number of steps per epoch; 0 for no limit.
        steps: usize = 100usize;
        /// Images per step.
        batch: usize = 64usize, in Range::Count;
        /// Channels of a node in the first cells. Fewer than 16 save no time: 16 are computed together.
        channels: usize = 16usize, in Range::Count;
        /// Number of cells.
        layers: usize = 5usize, in Range::Count;
        /// Stem and reductions around the cells.
        skeleton: Skeleton = Skeleton::Cifar, in Range::one_of([
            ("cifar", "one stem that keeps the size"),
            ("imagenet", "two stems that reduce the side by 8, for images of 128 pixels or more"),
        ]);
        /// Weight of the auxiliary head's loss; 0 for no auxiliary head, 0.4 in DARTS. It requires images of 32 pixels
        /// or more, and helps over hundreds of epochs.
        auxiliary: f64 = 0.0, in Range::Between(0.0, 100.0);
        /// Probability of dropping a path after the last epoch; it rises linearly from 0 over the epochs. 0.2 in DARTS.
        drop_path: f64 = 0.0, in Range::Between(0.0, 0.99);
        /// Side of the square that cutout erases, as a fraction of the image's side; 0 for none, 0.5 in DARTS.
        cutout: f64 = 0.0, in Range::Between(0.0, 1.0);
        /// Smallest fraction of an image's area that a random resized crop keeps, e.g. 0.08 for photographs. It
        /// replaces `augment.crop`; 0 keeps `augment.crop`. With `data.resize` the area is that of the whole image,
        /// else of the network's input.
        resized_crop: f64 = 0.0, in Range::Between(0.0, 1.0);
        /// Largest relative change of brightness, contrast and saturation, e.g. 0.4 for photographs; the hue changes
        /// by half of it. 0 for none.
        jitter: f64 = 0.0, in Range::Between(0.0, 1.0);
        /// Label smoothing: fraction of a label that is spread over all classes; 0.1 for ImageNet.
        smoothing: f64 = 0.0, in Range::Between(0.0, 1.0);
        /// Decay of the exponential moving average of the weights, e.g. 0.999, which is then evaluated and saved; 0
        /// for the last weights.
        ema: f64 = 0.0, in Range::Between(0.0, 0.999_999);
        /// Factor of the learning rate after every epoch; 0 for the cosine schedule down to `train.weights.lr_min`.
        lr_factor: f64 = 0.0, in Range::Between(0.0, 1.0);
        /// Steps between checkpoints, besides the one after every epoch; 0 for none.
        checkpoint_steps: usize = 0usize, resume Resume::AnyValue;
        /// Optimiser of the weights.
        weights: SgdConfig = SgdConfig { lr: 0.05, ..SgdConfig::default() };
    }
}

impl TrainConfig {
    /// Returns the learning rate of an epoch.
    pub fn lr(&self, epoch: usize) -> f64 {
        match self.lr_factor {
            0.0 => cosine(self.weights.lr, self.weights.lr_min, epoch, self.epochs),
            factor => exponential(self.weights.lr, factor, epoch),
        }
    }

    /// Returns the transform of training images.
    pub fn transform(&self, augment: Augment) -> Transform {
        let TrainConfig { cutout, resized_crop, jitter, .. } = *self;
        Transform { augment, resized_crop, jitter, cutout }
    }

    /// Returns the probability of dropping a path in an epoch (as `train.py` of DARTS: by epochs, not by
    /// steps).
    pub fn drop_path_at(&self, epoch: usize) -> f64 {
        self.drop_path * epoch as f64 / self.epochs as f64
    }
}
