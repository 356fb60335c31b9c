//! Reads real images as network inputs, for the comparison after an export and for the calibration of int8
//! quantisation.

use candle_core::{Device, Tensor};
use milenas_models::images::{Dataset, Sample, Source};
use milenas_models::input::Limits;
use milenas_models::{Card, Error};

use crate::{IoForm, Result};

/// Number of images for the comparison.
const COMPARED: usize = 64;
/// Number of images for int8 quantisation. One of [`PARTS`] equal parts sets the ranges, the others measure
/// accuracy.
const INT8: usize = 1250;
const PARTS: usize = 5;
/// Images per batch if the file accepts any batch size.
const BATCH: usize = 16;

/// Batches of one size, `[N, C, H, W]`, with the class of each image.
#[derive(Default)]
pub struct CalibrationImages {
    /// Inputs of the network, one list for each batch.
    pub batches: Vec<Vec<Tensor>>,
    /// Class of each image.
    pub labels: Vec<u32>,
}

/// Images for each purpose. No image serves two purposes.
#[derive(Default)]
pub struct Purposes {
    /// Images for the comparison of the file with its source network.
    pub compared: CalibrationImages,
    /// Images that set the ranges of activations.
    pub ranges: CalibrationImages,
    /// Images that measure accuracy before and after quantisation.
    pub holdout: CalibrationImages,
}

/// Reads images of the training split of `source` (`digits`, `cifar10:DIR`, a folder or a tar) at equal
/// intervals. Reads 64 images for the comparison. With `int8`, reads up to 263 more for the ranges and 987
/// for the accuracy.
///
/// # Errors
/// Returns an error if the source cannot be read, and [`Error::Value`] if it has fewer readable images than a
/// batch.
pub fn images(source: &str, card: &Card, io: &IoForm, int8: bool) -> Result<Purposes> {
    let mut dataset = Source::parse(source)?.open(card.split().unwrap_or_default())?;
    // Images of other classes than the network's still serve for ranges and comparisons.
    if dataset.classes.iter().all(|class| card.labels.contains(class)) {
        dataset.relabel(&card.labels)?;
    }
    let train = dataset.train;
    let wanted = COMPARED + if int8 { INT8 } else { 0 };
    let every = train.len().div_ceil(wanted).max(1);
    let spread: Vec<Sample> = train.into_iter().step_by(every).collect();
    let read = |samples: Vec<Sample>| read(samples, source, card, io);
    if !int8 {
        return Ok(Purposes { compared: read(spread)?, ..Purposes::default() });
    }
    let share = |parts: &[usize]| {
        let mine = spread.iter().enumerate().filter(|(i, _)| parts.contains(&(i % PARTS)));
        mine.map(|(_, sample)| sample.clone()).collect::<Vec<_>>()
    };
    let mut holdout = share(&[1, 2, 3, 4]);
    let compared = holdout.drain(..COMPARED.min(holdout.len() / 2)).collect();
    Ok(Purposes { compared: read(compared)?, ranges: read(share(&[0]))?, holdout: read(holdout)? })
}

fn read(samples: Vec<Sample>, source: &str, card: &Card, io: &IoForm) -> Result<CalibrationImages> {
    let contract = if io.bytes.is_some() { card.input.of_bytes() } else { card.input.clone() };
    let (labelled, bad) = Dataset::load(&samples, &contract, &Limits::default(), &|_| {});
    let batch = io.batch.unwrap_or(BATCH.min(labelled.labels.len().max(1)));
    let mut images = CalibrationImages::default();
    for pixels in labelled.pixels.chunks_exact(batch * contract.len()) {
        let mut numbers = vec![0.0; pixels.len()];
        for (image, out) in pixels.chunks_exact(contract.len()).zip(numbers.chunks_exact_mut(contract.len()))
        {
            contract.normalise(image, out);
        }
        let shape = (batch, contract.channels, contract.height, contract.width);
        images.batches.push(vec![Tensor::from_vec(numbers, shape, &Device::Cpu).map_err(Error::from)?]);
    }
    if images.batches.is_empty() {
        let why = bad.first().map_or(String::new(), |(name, reason)| format!(" ({name}: {reason})"));
        return Err(Error::Value {
            what: format!("number of readable images of {source}"),
            found: format!("{}{why}", labelled.labels.len()),
            expected: format!(
                "at least one batch of {batch}. help: add images, or export with a smaller batch"
            ),
        }
        .into());
    }
    images.labels = labelled.labels;
    images.labels.truncate(batch * images.batches.len());
    Ok(images)
}
