//! Images for training: split, augmentation, and batches that are prepared ahead.

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
use milenas_models::input::{ImageSize, InputContract};
use sha2::{Digest, Sha256};

/// Images in memory as bytes, with the contract that converts them to floats.
#[derive(Clone, Debug)]
pub struct ImageSet {
    /// Images `[N, H, W, C]` as bytes, and labels `[N]`.
    pub images: Labelled,
    /// Larger versions of the images `[N]`, the source of resized crops; empty if crops are taken from
    /// `images`.
    pub wholes: Vec<Whole>,
    /// Size and normalisation of the network's input.
    pub contract: InputContract,
}

impl ImageSet {
    /// Returns the number of images.
    pub fn len(&self) -> usize {
        self.images.labels.len()
    }

    /// Returns whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns a text that identifies the images: their number, their size, and a digest of bytes, labels and
    /// contract. It does not depend on `wholes`, so a search and a training on the same images have the same
    /// fingerprint.
    pub fn fingerprint(&self) -> String {
        let InputContract { channels, height, width, .. } = self.contract;
        let mut sum = Sha256::new().chain_update(format!("{:?}", self.contract));
        sum.update(&self.images.pixels);
        self.images.labels.iter().for_each(|label| sum.update(label.to_le_bytes()));
        let digest = hexadecimal(&sum.finalize()[..8]);
        format!("{} images of {channels}x{height}x{width}, digest {digest}", self.len())
    }

    /// Returns the images of some indices, at the network's input size.
    pub fn subset(&self, indices: &[usize]) -> ImageSet {
        let pixels = indices.iter().flat_map(|&i| self.image(i)).copied().collect();
        let labels = indices.iter().map(|&i| self.images.labels[i]).collect();
        ImageSet { images: Labelled { pixels, labels }, wholes: Vec::new(), contract: self.contract.clone() }
    }

    /// Returns the images at another size, without larger versions.
    pub fn resized(&self, size: ImageSize) -> ImageSet {
        let contract = InputContract { height: size.height, width: size.width, ..self.contract.clone() };
        let small = |index| photo::resized(self.image(index), self.contract.size(), &contract);
        let pixels = (0..self.len()).flat_map(small).collect();
        let images = Labelled { pixels, labels: self.images.labels.clone() };
        ImageSet { images, wholes: Vec::new(), contract }
    }

    fn image(&self, index: usize) -> &[u8] {
        let size = self.contract.len();
        &self.images.pixels[index * size..][..size]
    }

    /// Returns the pixels `[H, W, C]` that a transform starts from, with their size.
    fn given(&self, index: usize, transform: &Transform) -> (&[u8], ImageSize) {
        if transform.resized_crop == 0.0 || self.wholes.is_empty() {
            return (self.image(index), self.contract.size());
        }
        let Whole { pixels, size } = &self.wholes[index];
        (pixels, *size)
    }
}
