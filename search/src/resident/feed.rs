//! Upload of a batch: from the loader's format to the input of the stem.

use milenas_models::Result;
use milenas_models::kernels::cuda::stem_head::{self, BatchDims, ByteImages};
use milenas_models::kernels::cuda::{Device, Words};

use crate::data::{Batch, BatchImages, Move};

/// Device memory of a batch.
#[derive(Clone, Copy)]
pub(crate) struct BatchBuffers {
    /// Images `[image][channel][row][column]`.
    images: Words,
    /// Labels `[image]`.
    labels: Words,
    /// Images as bytes, with their moves and levels.
    bytes: ByteImages,
}

impl BatchBuffers {
    pub(crate) const NONE: BatchBuffers = BatchBuffers {
        images: Words::NONE,
        labels: Words::NONE,
        bytes: ByteImages { words: Words::NONE, moves: Words::NONE, levels: Words::NONE },
    };

    /// Allocates memory for `batch` images `[channels, height, width]`.
    pub(crate) fn alloc(device: &mut dyn Device, batch: usize, shape: [usize; 3]) -> Result<BatchBuffers> {
        let elements = batch * shape.iter().product::<usize>();
        Ok(BatchBuffers {
            images: device.alloc(elements)?,
            labels: device.alloc(batch)?,
            bytes: ByteImages {
                words: device.alloc(elements.div_ceil(4))?,
                moves: device.alloc(stem_head::MOVE * batch)?,
                levels: device.alloc(stem_head::LEVELS * shape[0])?,
            },
        })
    }

    /// Copies a batch to the device.
    pub(crate) fn upload(&self, device: &mut dyn Device, batch: &Batch) -> Result<()> {
        let labels: Vec<i32> = batch.labels.iter().map(|label| *label as i32).collect();
        device.write_ints(self.labels, &labels)?;
        match &batch.images {
            BatchImages::Numbers(numbers) => device.write(self.images, numbers),
            BatchImages::Bytes(bytes) => {
                let moves = bytes.moves().iter();
                let integers = |to: &Move| {
                    let [[top, bottom], [left, right]] = to.hole;
                    [to.down, to.right, i32::from(to.mirrored), top, bottom, left, right]
                };
                let moves: Vec<i32> = moves.flat_map(integers).collect();
                device.write_ints(self.bytes.words, bytes.words())?;
                device.write_ints(self.bytes.moves, &moves)?;
                device.write(self.bytes.levels, bytes.levels())
            }
        }
    }

    /// Returns the images of the uploaded batch as floats.
    pub(crate) fn images(&self, device: &mut dyn Device, batch: &Batch) -> Result<Words> {
        if let BatchImages::Bytes(_) = batch.images {
            let [channels, rows, columns] = batch.shape;
            let dims = BatchDims { batch: batch.len(), channels, rows, columns };
            stem_head::augment(device, &self.bytes, self.images, dims)?;
        }
        Ok(self.images)
    }

    /// Returns the labels of the uploaded batch.
    pub(crate) fn labels(&self) -> Words {
        self.labels
    }
}
