//! Real images for the comparison, as the file will take them.

use anyhow::{Result, bail};
use candle_core::{Device, Tensor};
use milenas_models::Card;
use milenas_models::images::{Dataset, Source};
use milenas_models::input::Limits;

use crate::cli::{Export, Input};

/// How many images are run.
const IMAGES: usize = 64;
/// How many at once, where the file takes any number.
const BATCH: usize = 16;

/// The first images of the training part, spread over it, in batches of whole size; none without a source.
pub fn batches(card: &Card, arguments: &Export) -> Result<Vec<Vec<Tensor>>> {
    let Some(source) = &arguments.calibration else { return Ok(Vec::new()) };
    let dataset = Source::parse(source)?.open(arguments.seed)?;
    let every = dataset.train.len().div_ceil(IMAGES).max(1);
    let samples: Vec<_> = dataset.train.into_iter().step_by(every).collect();
    let contract = if arguments.input == Input::Uint8 { card.input.of_bytes() } else { card.input.clone() };
    let (labelled, bad) = Dataset::load(&samples, &contract, &Limits::default(), &|_| {});
    let batch = arguments.batch.map_or(BATCH.min(labelled.labels.len().max(1)), usize::from);
    let mut batches = Vec::new();
    for images in labelled.pixels.chunks_exact(batch * contract.len()) {
        let mut numbers = vec![0.0; images.len()];
        for (image, out) in images.chunks_exact(contract.len()).zip(numbers.chunks_exact_mut(contract.len()))
        {
            contract.normalise(image, out);
        }
        let shape = (batch, contract.channels, contract.height, contract.width);
        batches.push(vec![Tensor::from_vec(numbers, shape, &Device::Cpu)?]);
    }
    if batches.is_empty() {
        let why = bad.first().map_or(String::new(), |(name, reason)| format!(" ({name}: {reason})"));
        bail!(
            "{source}: fewer than {batch} images could be read{why}. Help: give more, or a smaller --batch"
        );
    }
    Ok(batches)
}
