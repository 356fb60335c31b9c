//! Pointwise (1x1) convolution: the forward pass and the gradient of its weights. The gradient of the input is the
//! forward kernel on the transposed weight.
//!
//! Weights are packs over output channels, `[out block][in lane]`.

use super::layout::Channels;
use super::simd::{Kernel, LANES, Lanes, Pack};
use super::strip::Singles;
use super::tile::{self, Operands, TileSums};

/// Kernel that computes `out = weight * source` for some rows of pixels of an image. Unused lanes of the input are
/// not read; unused lanes of the output become zero.
pub struct PointwiseForward<'a> {
    /// Channels of the input.
    pub inputs: Channels,
    /// Channels of the output.
    pub outputs: Channels,
    /// Number of rows. A feature map without padding is one long row.
    pub rows: usize,
    /// Pixels of a row.
    pub width: usize,
    /// The input: `[in block]` planes of `source_plane` packs, rows without gaps.
    pub source: &'a [Pack],
    /// Packs from one input block to the next.
    pub source_plane: usize,
    /// Weights, `[out block][in lane]`.
    pub weight: &'a [Pack],
    /// The output: `[out block]` planes of `out_plane` packs, rows `out_step` packs apart.
    pub out: &'a mut [Pack],
    /// Packs from one output block to the next.
    pub out_plane: usize,
    /// Packs from one output row to the next.
    pub out_step: usize,
    /// Sums of the results and of their squares, `[out block]`, which the kernel adds to.
    pub sums: Option<[&'a mut [Pack]; 2]>,
}

impl Kernel for PointwiseForward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(mut self) {
        let group = self.outputs.each.div_ceil(LANES) * L::PARTS;
        for first in (0..self.outputs.groups).map(|g| g * group) {
            let (mut whole, mut half) = tile::filled::<L>(self.outputs.each);
            let mut at = first;
            while whole > 0 || half {
                let (taken, with_half) = tile::registers::<L>(whole, half);
                match (taken, with_half) {
                    (3, _) => strip::<L, 3, false, 8>(&mut self, at),
                    (2, true) => strip::<L, 2, true, 8>(&mut self, at),
                    (1, true) => strip::<L, 1, true, 8>(&mut self, at),
                    (0, _) => strip::<L, 0, true, 8>(&mut self, at),
                    (2, _) if L::MANY => strip::<L, 2, false, 8>(&mut self, at),
                    (2, _) => strip::<L, 2, false, 4>(&mut self, at),
                    _ => strip::<L, 1, false, 8>(&mut self, at),
                }
                at += taken + usize::from(with_half);
                (whole, half) = (whole - taken, half && !with_half);
            }
            (at..first + group).for_each(|at| blank::<L>(&mut self, at));
        }
    }
}

/// Writes zeros to a register of unused lanes.
#[inline(always)]
fn blank<L: Lanes>(k: &mut PointwiseForward<'_>, at: usize) {
    let (block, part) = (at / L::PARTS, at % L::PARTS);
    for row in 0..k.rows {
        for out in &mut k.out[block * k.out_plane + row * k.out_step..][..k.width] {
            L::zero().store(out, part);
        }
    }
}

/// Computes all pixels of `N` registers of output channels, and of a half register after them if `HALF`.
#[inline(always)]
fn strip<L: Lanes, const N: usize, const HALF: bool, const P: usize>(
    k: &mut PointwiseForward<'_>,
    at: usize,
) {
    let mut sums = [([L::zero(); N], L::zero()); 2];
    for row in 0..k.rows {
        let mut x = 0;
        while x + P <= k.width {
            put::<L, N, HALF, P>(k, at, row, x, &mut sums);
            x += P;
        }
        while x < k.width {
            put::<L, N, HALF, 1>(k, at, row, x, &mut sums);
            x += 1;
        }
    }
    if let Some(out) = &mut k.sums {
        for (out, (sums, half)) in out.iter_mut().zip(sums) {
            for (n, sum) in sums.into_iter().enumerate() {
                let (block, part) = ((at + n) / L::PARTS, (at + n) % L::PARTS);
                L::load(&out[block], part).add(sum).store(&mut out[block], part);
            }
            if HALF {
                let out = &mut out[(at + N) / L::PARTS];
                L::load(out, 0).add(half).store(out, 0);
            }
        }
    }
}

#[inline(always)]
fn put<L: Lanes, const N: usize, const HALF: bool, const P: usize>(
    k: &mut PointwiseForward<'_>,
    at: usize,
    row: usize,
    x: usize,
    sums: &mut [([L; N], L); 2],
) {
    let PointwiseForward { inputs, source, source_plane: plane, weight, .. } = *k;
    let operands = Operands { inputs, source, plane, weight };
    let none = TileSums::zero();
    let TileSums { whole, half } =
        tile::add::<L, Singles, N, HALF, P>(&operands, at, row * k.width + x, none);
    let wanted = k.sums.is_some();
    for (n, tile) in whole.into_iter().enumerate() {
        let (block, part) = ((at + n) / L::PARTS, (at + n) % L::PARTS);
        let out = &mut k.out[block * k.out_plane + row * k.out_step + x..][..P];
        for (out, value) in out.iter_mut().zip(tile) {
            value.store(out, part);
            if wanted {
                sums[0].0[n] = sums[0].0[n].add(value);
                sums[1].0[n] = value.fma(value, sums[1].0[n]);
            }
        }
    }
    if HALF {
        let out = &mut k.out[(at + N) / L::PARTS * k.out_plane + row * k.out_step + x..][..P];
        for (out, value) in out.iter_mut().zip(half) {
            let value = L::widen(value);
            value.store(out, 0);
            if wanted {
                sums[0].1 = sums[0].1.add(value);
                sums[1].1 = value.fma(value, sums[1].1);
            }
        }
    }
}

/// Kernel that adds the gradient of the weight to `out`. The gradient of weights between unused lanes is not written.
pub struct PointwiseWeightGradient<'a> {
    /// Channels of the input.
    pub inputs: Channels,
    /// Channels of the output.
    pub outputs: Channels,
    /// Number of pixels to sum over.
    pub pixels: usize,
    /// The input: `[in block]` planes of `source_plane` packs.
    pub source: &'a [Pack],
    /// Packs from one input block to the next.
    pub source_plane: usize,
    /// Gradient of the output: `[out block]` planes of `gradient_plane` packs.
    pub gradient: &'a [Pack],
    /// Packs from one output block to the next.
    pub gradient_plane: usize,
    /// Gradient of the weights, `[out block][in lane]`.
    pub out: &'a mut [Pack],
}

impl Kernel for PointwiseWeightGradient<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(mut self) {
        let group = self.outputs.each.div_ceil(LANES) * L::PARTS;
        let filled = self.outputs.each.div_ceil(LANES / L::PARTS);
        let lanes = if L::MANY { 8 } else { 4 };
        for block in 0..self.inputs.packs() {
            for lane in (0..self.inputs.filled(block)).step_by(lanes) {
                for first in (0..self.outputs.groups).map(|g| g * group) {
                    let (mut at, end) = (first, first + filled);
                    while at + 2 <= end {
                        if L::MANY {
                            weight_tile::<L, 2, 8>(&mut self, at, block, lane)
                        } else {
                            weight_tile::<L, 2, 4>(&mut self, at, block, lane)
                        }
                        at += 2;
                    }
                    if at < end {
                        if L::MANY {
                            weight_tile::<L, 1, 8>(&mut self, at, block, lane)
                        } else {
                            weight_tile::<L, 1, 4>(&mut self, at, block, lane)
                        }
                    }
                }
            }
        }
    }
}

/// Computes `M` input lanes by `N` registers of output channels.
#[inline(always)]
fn weight_tile<L: Lanes, const N: usize, const M: usize>(
    k: &mut PointwiseWeightGradient<'_>,
    at: usize,
    block: usize,
    lane: usize,
) {
    let mut sums = [[L::zero(); M]; N];
    let source = &k.source[block * k.source_plane..][..k.pixels];
    let mut gradients = [&k.gradient[..0]; N];
    for (n, g) in gradients.iter_mut().enumerate() {
        *g = &k.gradient[(at + n) / L::PARTS * k.gradient_plane..][..k.pixels];
    }
    for p in 0..k.pixels {
        let mut g = [L::zero(); N];
        for n in 0..N {
            g[n] = L::load(&gradients[n][p], (at + n) % L::PARTS);
        }
        for m in 0..M {
            let x = L::splat(source[p].0[lane + m]);
            for n in 0..N {
                sums[n][m] = g[n].fma(x, sums[n][m]);
            }
        }
    }
    for (n, sums) in sums.into_iter().enumerate() {
        let first = ((at + n) / L::PARTS * k.inputs.packs() + block) * LANES + lane;
        for (out, sum) in k.out[first..][..M].iter_mut().zip(sums) {
            let part = (at + n) % L::PARTS;
            L::load(out, part).add(sum).store(out, part);
        }
    }
}
