//! Images as training sees them: split, augmented, in batches that are made ahead.

mod augment;
mod batch;
mod loader;
mod photo;
mod split;
mod transform;
mod whole;

pub use augment::{Augment, Move};
pub use batch::{Batch, BatchImages, ByteBatch};
pub use loader::{BatchFormat, EpochOrder, Loader};
pub use split::{shuffled, train_valid_split};
pub use transform::Transform;
pub use whole::Whole;

use milenas_models::hexadecimal;
use milenas_models::images::Labelled;
use milenas_models::input::InputContract;
use sha2::{Digest, Sha256};

/// Images in memory as bytes, with the contract that makes floats of them.
#[derive(Clone, Debug)]
pub struct ImageSet {
    /// `[N, H, W, C]` bytes and `[N]` labels.
    pub images: Labelled,
    /// `[N]`, what resized crops are of; empty where they are of `images`.
    pub wholes: Vec<Whole>,
    /// Their size and scale.
    pub contract: InputContract,
}

impl ImageSet {
    /// How many images.
    pub fn len(&self) -> usize {
        self.images.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What tells these images from others: their number, their size, and a digest of bytes, labels and contract. A search that read
    /// them and a training that keeps them whole, too, have the same.
    pub fn fingerprint(&self) -> String {
        let InputContract { channels, height, width, .. } = self.contract;
        let mut sum = Sha256::new().chain_update(format!("{:?}", self.contract));
        sum.update(&self.images.pixels);
        self.images.labels.iter().for_each(|label| sum.update(label.to_le_bytes()));
        let digest = hexadecimal(&sum.finalize()[..8]);
        format!("{} images of {channels}x{height}x{width}, digest {digest}", self.len())
    }

    /// Some of them, by index, as the network sees them.
    pub fn subset(&self, indices: &[usize]) -> ImageSet {
        let pixels = indices.iter().flat_map(|&i| self.image(i)).copied().collect();
        let labels = indices.iter().map(|&i| self.images.labels[i]).collect();
        ImageSet { images: Labelled { pixels, labels }, wholes: Vec::new(), contract: self.contract.clone() }
    }

    fn image(&self, index: usize) -> &[u8] {
        let size = self.contract.len();
        &self.images.pixels[index * size..][..size]
    }

    /// Pixels `[H, W, C]`, rows and columns of what a transform begins with.
    fn given(&self, index: usize, transform: &Transform) -> (&[u8], [usize; 2]) {
        if transform.resized_crop == 0.0 || self.wholes.is_empty() {
            return (self.image(index), [self.contract.height, self.contract.width]);
        }
        let Whole { pixels, size } = &self.wholes[index];
        (pixels, *size)
    }
}
