//! Memory estimates before allocation. Work that cannot fit is refused, with the settings that reduce its size.
//!
//! Estimates are lower bounds, so that work that fits is never refused. Images are counted exactly. Of a step only
//! the feature maps that are kept for the backward pass are counted, not weights and their gradients.

use milenas_models::images::Dataset;
use milenas_models::input::{InputContract, Limits};
use milenas_models::memory::available;
use milenas_models::op::Op;
use milenas_models::space::{self, Space};
use milenas_models::{Graph, cost};

use crate::config::Config;
use crate::data::Whole;
use crate::relaxation::Relaxation;
use crate::{Error, Result};

/// Number of training images that are decoded to estimate their size.
const LOOKED_AT: usize = 16;

/// Number of channels stored together in a feature map. Fewer channels take the same space.
const BLOCK: u64 = 16;

/// Bytes of a parameter in training: value, gradient and velocity.
const PARAMETER_BYTES: u64 = 12;

/// Weights of an edge's candidates per squared channel, a lower bound: the pointwise convolutions of the DARTS space. The
/// NAS-Bench-201 space has 10.
const EDGE_WEIGHTS: u64 = 6;

/// Returns the bytes of a supernet step per image, cell, channel and pixel of the first stage. The values are
/// lower bounds: about 60 % of the smallest measured value. Measured were batches of 32 to 128, 16 and 32
/// channels, and two numbers of cells. The results were 248 in the DARTS space, 107 there with Gumbel samples,
/// and 50 in the NAS-Bench-201 space with either.
fn step_bytes(space: &dyn Space, relaxation: &dyn Relaxation) -> u64 {
    match (space.name() == space::DARTS.name, relaxation.is_sparse()) {
        (true, false) => 150,
        (true, true) => 64,
        (false, _) => 30,
    }
}

/// Checks that the prepared images of a data set fit into memory. With `shorter`, whole training images of this
/// shorter side are counted too.
///
/// # Errors
/// Fails if more memory is needed than is available to this process.
pub(super) fn check_images(
    dataset: &Dataset,
    contract: &InputContract,
    limits: &Limits,
    shorter: Option<usize>,
) -> Result<()> {
    let (train, images) = (dataset.train.len(), dataset.train.len() + dataset.test.len());
    let whole = |side: usize| {
        let looked_at = train.min(LOOKED_AT);
        let samples = (0..looked_at).map(|i| &dataset.train[i * train / looked_at]);
        let sizes = samples.filter_map(|sample| {
            let image = sample.image(limits).ok()?;
            Some(Whole::new(&image, contract, side).ok()?.pixels.len() as u64)
        });
        sizes.sum::<u64>() / looked_at.max(1) as u64
    };
    let wholes = shorter.map_or(0, whole).saturating_mul(train as u64);
    let needed = (images as u64).saturating_mul(contract.len() as u64).saturating_add(wholes);
    let what = format!("{images} images of {}x{} pixels", contract.width, contract.height);
    check(&what, needed, available(), "lower data.size or data.resize, or use fewer images")
}

/// Checks that a training step of a network fits into memory.
///
/// # Errors
/// Fails if more memory is needed than is available to this process.
pub(super) fn check_training(graph: &Graph, config: &Config, images: usize) -> Result<()> {
    let batch = config.train.batch.min(images) as u64;
    let kept = |op: &Op| matches!(op, Op::Conv2d(_));
    let maps = graph.nodes().iter().filter(|node| kept(&node.op)).filter_map(|node| node.fact.chw());
    let values: u64 = maps.map(|(c, h, w)| (c as u64).next_multiple_of(BLOCK) * (h * w) as u64).sum();
    let help = format!(
        "lower train.batch, which is {}, data.size, train.channels or train.layers",
        config.train.batch
    );
    let what = format!("a training step of {batch} images");
    let needed = values.saturating_mul(4 * batch).saturating_add(cost(graph).params * PARAMETER_BYTES);
    check(&what, needed, available(), &help)
}

/// Checks that a step of a gradient-based search fits into memory.
///
/// # Errors
/// Fails if more memory is needed than is available to this process.
pub(super) fn check_search(config: &Config, contract: &InputContract, images: usize) -> Result<()> {
    let search = &config.search;
    // The other half of the images belongs to the validation split.
    let batch = search.batch.min(images.div_ceil(2)) as u64;
    let edge = step_bytes(search.space()?, search.relaxation()?) / search.partial_channels.max(1) as u64;
    let cell = (search.channels as u64).saturating_mul((contract.height * contract.width) as u64);
    let maps = cell.saturating_mul(search.layers as u64).saturating_mul(edge * batch);
    let channels = (search.channels / search.partial_channels.max(1)) as u64;
    let edges = search.space()?.sites(search.layers).len() as u64;
    let weights = channels.saturating_mul(channels).saturating_mul(edges * EDGE_WEIGHTS * PARAMETER_BYTES);
    let needed = maps.saturating_add(weights);
    let help =
        format!("lower search.batch, which is {}, data.size, search.channels or search.layers", search.batch);
    check(&format!("a search step of {batch} images"), needed, available(), &help)
}

fn check(what: &str, needed: u64, free: Option<u64>, help: &str) -> Result<()> {
    match free {
        Some(free) if needed > free => Err(Error::Memory {
            what: what.into(),
            needed: format_bytes(needed),
            free: format_bytes(free),
            help: help.into(),
        }),
        _ => Ok(()),
    }
}

/// Formats bytes as `1.5 GiB` or `20 MiB`.
fn format_bytes(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib >= 1024.0 { format!("{:.1} GiB", mib / 1024.0) } else { format!("{mib:.0} MiB") }
}

/// Factor below the median class at which a class is rare.
const RARE: usize = 10;

/// Returns a warning about classes with under a tenth of the median class's training images; `counts` is by
/// class.
pub(super) fn imbalance(classes: &[String], counts: &[usize]) -> Option<String> {
    let mut sorted = counts.to_vec();
    sorted.sort_unstable();
    let median = *sorted.get(counts.len() / 2)?;
    let rare: Vec<String> = classes
        .iter()
        .zip(counts)
        .filter(|(_, count)| **count * RARE < median)
        .map(|(name, count)| format!("{name} ({count})"))
        .collect();
    (!rare.is_empty()).then(|| {
        format!(
            "the classes are imbalanced: few training images of {}, while the median class has {median}. Such a class \
             may never be predicted. help: add images of it, and check its recall",
            milenas_models::error::some_of(&rare)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_much_memory_is_refused_with_both_amounts() {
        assert!(check("images", 10, Some(10), "x").is_ok());
        assert!(check("images", 10, None, "x").is_ok());
        let message = check("9 images", 3 << 30, Some(50 << 20), "lower data.size").unwrap_err().to_string();
        assert_eq!(
            message,
            "memory: at least 3.0 GiB are needed for 9 images, 50 MiB are free. help: lower data.size"
        );
    }

    #[test]
    fn rare_classes_are_named() {
        let classes = ["a", "b", "c"].map(String::from);
        assert_eq!(imbalance(&classes, &[500, 51, 500]), None);
        let warning = imbalance(&classes, &[500, 49, 500]).unwrap();
        assert!(warning.contains("b (49), while the median class has 500"), "{warning}");
        // The larger of two classes is the median.
        assert!(imbalance(&classes[..2], &[6, 500]).unwrap().contains("a (6)"));
    }
}
