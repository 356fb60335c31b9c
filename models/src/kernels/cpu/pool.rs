//! 3x3 max and average pooling with padding 1 and stride 1 or 2. The average does not count the padding.

use super::layout::MapSize;
use super::simd::{Kernel, Lanes, Pack};

/// Kernel that computes both pools of a feature map without padding, and the sums that BatchNorm needs.
pub struct PoolForward<'a> {
    /// Stride, 1 or 2.
    pub stride: usize,
    /// Size of the input.
    pub map: MapSize,
    /// The input, without padding.
    pub source: &'a [Pack],
    /// Output of the max pool.
    pub max: &'a mut [Pack],
    /// Output of the average pool.
    pub average: &'a mut [Pack],
    /// Sums of the maxima, of their squares, of the averages and of their squares, `[4][block]`, overwritten.
    pub sums: &'a mut [Pack],
}

impl Kernel for PoolForward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(mut self) {
        for block in 0..self.map.packs {
            for part in 0..L::PARTS {
                if self.stride == 1 {
                    forward::<L, 1>(&mut self, block, part);
                } else {
                    forward::<L, 2>(&mut self, block, part);
                }
            }
        }
    }
}

/// Rows of a window. If an outer row lies outside the image, the middle row replaces it in the maximum, and it is not
/// counted in the average.
struct WindowRows<'a> {
    rows: [&'a [Pack]; 3],
    top: bool,
    bottom: bool,
}

/// Returns the maximum and the sum of one column of a window.
#[inline(always)]
fn column<L: Lanes>(window: &WindowRows<'_>, x: usize, part: usize) -> [L; 2] {
    let [above, here, below] = window.rows;
    let (above, here, below) = (L::load(&above[x], part), L::load(&here[x], part), L::load(&below[x], part));
    let mut sum = here;
    if window.top {
        sum = above.add(here);
    }
    if window.bottom {
        sum = sum.add(below);
    }
    [above.max(here).max(below), sum]
}

#[inline(always)]
fn forward<L: Lanes, const S: usize>(k: &mut PoolForward<'_>, block: usize, part: usize) {
    let (MapSize { packs, height, width }, small) = (k.map, k.map.strided(S));
    let plane = &k.source[block * height * width..][..height * width];
    let outside = [L::splat(f32::NEG_INFINITY), L::zero()];
    let mut sums = [L::zero(); 4];
    for y in 0..small.height {
        let middle = y * S;
        let (first, last) = (middle.saturating_sub(1), (middle + 1).min(height - 1));
        let window = WindowRows {
            rows: [
                &plane[first * width..][..width],
                &plane[middle * width..][..width],
                &plane[last * width..][..width],
            ],
            top: first < middle,
            bottom: last > middle,
        };
        let at = block * small.pixels() + y * small.width;
        let (max_row, average_row) = (&mut k.max[at..][..small.width], &mut k.average[at..][..small.width]);
        let (mut left, mut here) = (outside, column::<L>(&window, 0, part));
        for x in 0..small.width {
            let middle = x * S;
            let right = if middle + 1 < width { column::<L>(&window, middle + 1, part) } else { outside };
            let columns = 1 + (middle > 0) as usize + (middle + 1 < width) as usize;
            let inverse = L::splat(1.0 / ((last - first + 1) * columns) as f32);
            let max = left[0].max(here[0]).max(right[0]);
            let average = left[1].add(here[1]).add(right[1]).mul(inverse);
            max.store(&mut max_row[x], part);
            average.store(&mut average_row[x], part);
            sums[0] = sums[0].add(max);
            sums[1] = max.fma(max, sums[1]);
            sums[2] = sums[2].add(average);
            sums[3] = average.fma(average, sums[3]);
            if S == 1 {
                (left, here) = (here, right);
            } else if middle + 2 < width {
                (left, here) = (right, column::<L>(&window, middle + 2, part));
            }
        }
    }
    for (i, sum) in sums.into_iter().enumerate() {
        sum.store(&mut k.sums[i * packs + block], part);
    }
}

/// Kernel that adds the gradient of max pooling to `out`. The gradient of each window goes to its first maximum in
/// row-major order; the kernel selects the row first, then the column.
pub struct MaxBackward<'a> {
    /// Stride, 1 or 2.
    pub stride: usize,
    /// Size of the input.
    pub map: MapSize,
    /// The input, without padding.
    pub source: &'a [Pack],
    /// Output of the max pool.
    pub max: &'a [Pack],
    /// Gradient of the output.
    pub gradient: &'a [Pack],
    /// Scratch memory: two planes with the input's rows and the output's columns. Its content does not matter.
    pub scratch: &'a mut [Pack],
    /// Gradient of the input, without padding.
    pub out: &'a mut [Pack],
}

impl Kernel for MaxBackward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(mut self) {
        for block in 0..self.map.packs {
            for part in 0..L::PARTS {
                if self.stride == 1 {
                    max_backward::<L, 1>(&mut self, block, part);
                } else {
                    max_backward::<L, 2>(&mut self, block, part);
                }
            }
        }
    }
}

#[inline(always)]
fn max_backward<L: Lanes, const S: usize>(k: &mut MaxBackward<'_>, block: usize, part: usize) {
    let (MapSize { height, width, .. }, small) = (k.map, k.map.strided(S));
    let wide = small.width;
    let outside = L::splat(f32::NEG_INFINITY);
    let source = &k.source[block * height * width..][..height * width];
    let max = &k.max[block * small.pixels()..][..small.pixels()];
    let gradient = &k.gradient[block * small.pixels()..][..small.pixels()];
    let out = &mut k.out[block * height * width..][..height * width];
    let (row_max, row_gradient) = k.scratch[..2 * height * wide].split_at_mut(height * wide);
    for (row, to) in source.chunks_exact(width).zip(row_max.chunks_exact_mut(wide)) {
        for (x, to) in to.iter_mut().enumerate() {
            let middle = x * S;
            let mut value = L::load(&row[middle], part);
            if middle > 0 {
                value = value.max(L::load(&row[middle - 1], part));
            }
            if middle + 1 < width {
                value = value.max(L::load(&row[middle + 1], part));
            }
            value.store(to, part);
        }
    }
    for to in row_gradient.iter_mut() {
        L::zero().store(to, part);
    }
    for y in 0..small.height {
        let middle = y * S;
        for x in 0..wide {
            let (p, at) = (y * wide + x, middle * wide + x);
            let above = if middle > 0 { L::load(&row_max[at - wide], part) } else { outside };
            let here = L::load(&row_max[at], part);
            let to = L::load(&gradient[p], part).route(above, here, L::load(&max[p], part));
            if middle > 0 {
                add_to(&mut row_gradient[at - wide], part, to[0]);
            }
            add_to(&mut row_gradient[at], part, to[1]);
            if middle + 1 < height {
                add_to(&mut row_gradient[at + wide], part, to[2]);
            }
        }
    }
    for y in 0..height {
        let (source, out) = (&source[y * width..][..width], &mut out[y * width..][..width]);
        let (row_max, row_gradient) = (&row_max[y * wide..][..wide], &row_gradient[y * wide..][..wide]);
        // Gradients of the middle pixel (stride 1) and of the pixel to its right that are not written yet.
        let (mut here, mut next) = (L::zero(), L::zero());
        for x in 0..wide {
            let middle = x * S;
            let left = if middle > 0 { L::load(&source[middle - 1], part) } else { outside };
            let to = L::load(&row_gradient[x], part).route(
                left,
                L::load(&source[middle], part),
                L::load(&row_max[x], part),
            );
            if S == 1 {
                if middle > 0 {
                    add_to(&mut out[middle - 1], part, here.add(to[0]));
                }
                (here, next) = (next.add(to[1]), to[2]);
            } else {
                if middle > 0 {
                    add_to(&mut out[middle - 1], part, next.add(to[0]));
                }
                add_to(&mut out[middle], part, to[1]);
                next = to[2];
            }
        }
        if S == 1 {
            add_to(&mut out[width - 1], part, here);
        } else if width.is_multiple_of(2) {
            add_to(&mut out[width - 1], part, next);
        }
    }
}

#[inline(always)]
fn add_to<L: Lanes>(to: &mut Pack, part: usize, value: L) {
    L::load(to, part).add(value).store(to, part);
}

/// Kernel that adds the gradient of average pooling to `out`.
pub struct AverageBackward<'a> {
    /// Stride, 1 or 2.
    pub stride: usize,
    /// Size of the input.
    pub map: MapSize,
    /// Gradient of the output.
    pub gradient: &'a [Pack],
    /// Scratch memory: a plane of the output's size, and one row with two more packs. Its content does not matter.
    pub scratch: &'a mut [Pack],
    /// Gradient of the input, without padding.
    pub out: &'a mut [Pack],
}

impl Kernel for AverageBackward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(mut self) {
        for block in 0..self.map.packs {
            for part in 0..L::PARTS {
                if self.stride == 1 {
                    average_backward::<L, 1>(&mut self, block, part);
                } else {
                    average_backward::<L, 2>(&mut self, block, part);
                }
            }
        }
    }
}

/// Number of pixels of a window that lie inside the image along one axis.
#[inline(always)]
fn inside(middle: usize, size: usize) -> usize {
    1 + (middle > 0) as usize + (middle + 1 < size) as usize
}

#[inline(always)]
fn average_backward<L: Lanes, const S: usize>(k: &mut AverageBackward<'_>, block: usize, part: usize) {
    let (MapSize { height, width, .. }, small) = (k.map, k.map.strided(S));
    let wide = small.width;
    let gradient = &k.gradient[block * small.pixels()..][..small.pixels()];
    let out = &mut k.out[block * height * width..][..height * width];
    let (shares, row) = k.scratch[..small.pixels() + wide + 2].split_at_mut(small.pixels());
    for (y, (from, to)) in gradient.chunks_exact(wide).zip(shares.chunks_exact_mut(wide)).enumerate() {
        let rows = inside(y * S, height);
        for (x, (from, to)) in from.iter().zip(to).enumerate() {
            let inverse = L::splat(1.0 / (rows * inside(x * S, width)) as f32);
            L::load(from, part).mul(inverse).store(to, part);
        }
    }
    // One row of column sums, with a zero at both ends.
    L::zero().store(&mut row[0], part);
    L::zero().store(&mut row[wide + 1], part);
    for (y, out) in out.chunks_exact_mut(width).enumerate() {
        let (first, last) = (y.saturating_sub(1).div_ceil(S), ((y + 1) / S).min(small.height - 1));
        for x in 0..wide {
            let mut sum = L::load(&shares[first * wide + x], part);
            for y in first + 1..=last {
                sum = sum.add(L::load(&shares[y * wide + x], part));
            }
            sum.store(&mut row[x + 1], part);
        }
        for (x, out) in out.iter_mut().enumerate() {
            let at = 1 + x / S;
            let mut sum = L::load(&row[at], part);
            if S == 1 {
                sum = L::load(&row[at - 1], part).add(sum).add(L::load(&row[at + 1], part));
            } else if x % 2 == 1 {
                sum = sum.add(L::load(&row[at + 1], part));
            }
            add_to(out, part, sum);
        }
    }
}
