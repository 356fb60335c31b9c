//! Several images per pack: their channels are side by side in its lanes, if feature maps have few channels.

use crate::kernels::cpu::norm::Scaling;
use crate::kernels::cpu::simd::floats_mut;
use crate::kernels::cpu::{LANES, Pack};

/// Assignment of the lanes of a pack: image `i` has the lanes from `i * channels` on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Copies {
    /// Number of channels of one image.
    pub channels: usize,
    /// Number of images per pack; if above one, feature maps have a single block.
    pub count: usize,
}

impl Default for Copies {
    fn default() -> Self {
        Copies { channels: LANES, count: 1 }
    }
}

impl Copies {
    /// Returns the largest number of images of `channels` that fit into a pack: a power of two that divides the
    /// batch.
    pub fn fitting(channels: usize, batch: usize) -> Copies {
        let mut count = 1;
        while 2 * count * channels <= LANES && batch.is_multiple_of(2 * count) {
            count *= 2;
        }
        Copies { channels, count }
    }

    /// Repeats the weights of the first image for the others; the result is block diagonal if rows are inputs.
    pub(super) fn spread(self, weights: &mut [Pack], pointwise: bool) {
        let Copies { channels, count } = self;
        for block in weights.chunks_exact_mut(if pointwise { LANES } else { 1 }) {
            for i in 0..block_rows(pointwise, channels) {
                let own = block[i];
                for copy in 1..count {
                    let to = &mut block[if pointwise { copy * channels + i } else { i }];
                    to.0[copy * channels..][..channels].copy_from_slice(&own.0[..channels]);
                }
            }
        }
    }

    /// Sums the gradients of all images into those of the first, and sets the others to zero. This is the adjoint of
    /// [`spread`](Self::spread).
    pub(super) fn fold(self, gradient: &mut [Pack], pointwise: bool) {
        let Copies { channels, count } = self;
        for block in gradient.chunks_exact_mut(if pointwise { LANES } else { 1 }) {
            for i in 0..block_rows(pointwise, channels) {
                for copy in 1..count {
                    let from = block[if pointwise { copy * channels + i } else { i }];
                    let part = &from.0[copy * channels..][..channels];
                    block[i].0[..channels].iter_mut().zip(part).for_each(|(total, x)| *total += x);
                }
                block[i].0[channels..].fill(0.0);
            }
            if pointwise {
                block[channels..].fill(Pack::ZERO);
            }
        }
    }

    /// Returns, for every image, the sums over all images.
    pub fn share(self, mut sums: Vec<f64>) -> Vec<f64> {
        let Copies { channels, count } = self;
        if count > 1 {
            for c in 0..channels {
                let total = (0..count).map(|copy| sums[copy * channels + c]).sum();
                (0..count).for_each(|copy| sums[copy * channels + c] = total);
            }
        }
        sums
    }

    /// Copies the scaling of the first image to all others.
    pub fn repeat(self, scaling: &mut Scaling) {
        let Copies { channels, count } = self;
        for map in [&mut scaling.scale, &mut scaling.shift] {
            for copy in 1..count {
                floats_mut(map).copy_within(..channels, copy * channels);
            }
        }
    }
}

/// Number of packs of a block that hold weights of one image.
fn block_rows(pointwise: bool, channels: usize) -> usize {
    if pointwise { channels } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::simd::floats;

    #[test]
    fn as_many_images_as_fit_and_divide_the_batch() {
        let count = |channels, batch| Copies::fitting(channels, batch).count;
        assert_eq!(
            [count(4, 16), count(4, 6), count(4, 5), count(8, 16), count(16, 16), count(3, 8)],
            [4, 2, 1, 2, 1, 4]
        );
    }

    #[test]
    fn folding_is_the_adjoint_of_spreading() {
        let copies = Copies { channels: 3, count: 4 };
        for (pointwise, len) in [(false, 9), (true, 2 * LANES)] {
            let mut rng = crate::Rng::new(1, "copies");
            let mut random =
                || (0..len).map(|_| Pack(std::array::from_fn(|_| rng.normal()))).collect::<Vec<_>>();
            let (mut weights, mut gradient) = (random(), random());
            for (i, pack) in weights.iter_mut().enumerate() {
                let used = !pointwise || i % LANES < 3;
                pack.0
                    .iter_mut()
                    .enumerate()
                    .filter(|(lane, _)| !used || *lane >= 3)
                    .for_each(|(_, x)| *x = 0.0);
            }
            let dot = |a: &[Pack], b: &[Pack]| -> f64 {
                floats(a).iter().zip(floats(b)).map(|(a, b)| f64::from(a * b)).sum()
            };
            let mut wide = weights.clone();
            copies.spread(&mut wide, pointwise);
            let expected = dot(&wide, &gradient);
            copies.fold(&mut gradient, pointwise);
            assert!((dot(&weights, &gradient) - expected).abs() < 1e-4 && expected != 0.0);
            let squares = |a: &[Pack]| dot(a, a);
            assert!((squares(&wide) - 4.0 * squares(&weights)).abs() < 1e-3);
        }
    }
}
