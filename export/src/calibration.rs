//! Real images, as the file will take them: for the comparison, and for rounding to eight bits.

use anyhow::{Result, bail};
use candle_core::{Device, Tensor};
use milenas_models::Card;
use milenas_models::images::{Dataset, Sample, Source};
use milenas_models::input::Limits;

use crate::cli::{Export, Input};

/// How many images are compared.
const COMPARED: usize = 64;
/// How many are read for eight bits: one of [`PARTS`] for the ranges, the others to measure with.
const INT8: usize = 1250;
const PARTS: usize = 5;
/// How many at once, where the file takes any number.
const BATCH: usize = 16;

/// Images in batches of whole size, with their classes.
#[derive(Default)]
pub struct Images {
    pub batches: Vec<Vec<Tensor>>,
    pub labels: Vec<u32>,
}

/// What the images are for; they share none.
#[derive(Default)]
pub struct Purposes {
    pub compared: Images,
    pub ranges: Images,
    pub holdout: Images,
}

/// Images of the training part, spread over it; none without a source.
pub fn images(card: &Card, arguments: &Export) -> Result<Purposes> {
    let Some(source) = &arguments.calibrate else { return Ok(Purposes::default()) };
    let mut dataset = Source::parse(source)?.open(card.split().unwrap_or_default())?;
    // Images of classes that the network does not know are good for ranges and comparisons all the same.
    if dataset.classes.iter().all(|class| card.labels.contains(class)) {
        dataset.relabel(&card.labels)?;
    }
    let train = dataset.train;
    let wanted = COMPARED + if arguments.int8 { INT8 } else { 0 };
    let every = train.len().div_ceil(wanted).max(1);
    let spread: Vec<Sample> = train.into_iter().step_by(every).collect();
    let read = |samples: Vec<Sample>| read(samples, source, card, arguments);
    if !arguments.int8 {
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

fn read(samples: Vec<Sample>, source: &str, card: &Card, arguments: &Export) -> Result<Images> {
    let contract = if arguments.input == Input::Uint8 { card.input.of_bytes() } else { card.input.clone() };
    let (labelled, bad) = Dataset::load(&samples, &contract, &Limits::default(), &|_| {});
    let batch = arguments.batch.map_or(BATCH.min(labelled.labels.len().max(1)), usize::from);
    let mut images = Images::default();
    for pixels in labelled.pixels.chunks_exact(batch * contract.len()) {
        let mut numbers = vec![0.0; pixels.len()];
        for (image, out) in pixels.chunks_exact(contract.len()).zip(numbers.chunks_exact_mut(contract.len()))
        {
            contract.normalise(image, out);
        }
        let shape = (batch, contract.channels, contract.height, contract.width);
        images.batches.push(vec![Tensor::from_vec(numbers, shape, &Device::Cpu)?]);
    }
    images.labels = labelled.labels;
    images.labels.truncate(batch * images.batches.len());
    if images.batches.is_empty() {
        let why = bad.first().map_or(String::new(), |(name, reason)| format!(" ({name}: {reason})"));
        bail!(
            "{source}: fewer than {batch} images could be read{why}. Help: give more, or a smaller --batch"
        );
    }
    Ok(images)
}
