//! Memory layout of feature maps and weights: `[image][channel block of 16][pixel][16]`.

use super::simd::{LANES, Pack};

/// Zero columns on the left and right of every row of a padded feature map. They cover a 5x5 kernel at dilation 2.
/// The loops skip rows above and below the image, which have no padding.
pub const HALO: usize = 4;

/// Size of the feature map of one image.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MapSize {
    /// Blocks of sixteen channels.
    pub packs: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl MapSize {
    /// Pixels of one channel.
    #[inline(always)]
    pub fn pixels(self) -> usize {
        self.height * self.width
    }

    /// Packs of the feature map, `[block][row][column]`.
    #[inline(always)]
    pub fn len(self) -> usize {
        self.packs * self.pixels()
    }

    /// Whether the feature map has no elements.
    #[inline(always)]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Packs of a padded row.
    #[inline(always)]
    pub fn padded_width(self) -> usize {
        self.width + 2 * HALO
    }

    /// Packs of the padded feature map, `[block][row][HALO + column + HALO]`.
    #[inline(always)]
    pub fn padded_len(self) -> usize {
        self.packs * self.height * self.padded_width()
    }

    /// Size of the output of an operation with this stride that keeps the size at stride 1: each side divided by the
    /// stride, rounded up.
    #[inline(always)]
    pub fn strided(self, stride: usize) -> MapSize {
        MapSize { height: self.height.div_ceil(stride), width: self.width.div_ceil(stride), ..self }
    }
}

/// Channels of a feature map that is a concatenation of `groups` feature maps of `each` channels. Each group is
/// filled with zero channels to whole packs.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Channels {
    /// Number of concatenated feature maps.
    pub groups: usize,
    /// Channels of one of them.
    pub each: usize,
}

impl Channels {
    /// Returns the channels of a single feature map.
    pub fn one(each: usize) -> Channels {
        Channels { groups: 1, each }
    }

    /// Number of channels, without the zero channels.
    pub fn count(self) -> usize {
        self.groups * self.each
    }

    /// Packs per pixel.
    pub fn packs(self) -> usize {
        self.groups * self.each.div_ceil(LANES)
    }

    /// Packs per pixel if `share` blocks of a feature map share a pack.
    #[inline(always)]
    pub fn shared(self, share: usize) -> usize {
        self.groups * self.each.div_ceil(LANES).div_ceil(share)
    }

    /// Number of used channels in block `block`; the lanes after them are zero.
    #[inline(always)]
    pub fn filled(self, block: usize) -> usize {
        let packs = self.each.div_ceil(LANES);
        (self.each - block % packs * LANES).min(LANES)
    }

    /// Returns the channels of `packs` blocks without zero channels.
    pub fn full(packs: usize) -> Channels {
        Channels { groups: packs, each: LANES }
    }

    /// Returns these channels repeated `count` times.
    pub fn times(self, count: usize) -> Channels {
        Channels { groups: count * self.groups, ..self }
    }

    /// Lane of channel `c` among the `16 * packs` lanes.
    pub fn lane(self, c: usize) -> usize {
        c / self.each * self.each.div_ceil(LANES) * LANES + c % self.each
    }
}

/// Converts images `[N, C, H, W]` with `pixels = H * W` to the blocked layout.
pub fn block(x: &[f32], channels: Channels, pixels: usize) -> Vec<Pack> {
    let (count, packs) = (channels.count(), channels.packs());
    let images = x.len() / (count * pixels);
    let mut out = vec![Pack::ZERO; images * packs * pixels];
    for (plane, values) in x.chunks_exact(pixels).enumerate() {
        let (image, lane) = (plane / count, channels.lane(plane % count));
        let to = &mut out[(image * packs + lane / LANES) * pixels..][..pixels];
        for (to, value) in to.iter_mut().zip(values) {
            to.0[lane % LANES] = *value;
        }
    }
    out
}

/// Converts from the blocked layout to `[N, C, H, W]`.
pub fn unblock(x: &[Pack], channels: Channels, pixels: usize) -> Vec<f32> {
    let (count, packs) = (channels.count(), channels.packs());
    let images = x.len() / (packs * pixels);
    let mut out = vec![0.0; images * count * pixels];
    for (plane, values) in out.chunks_exact_mut(pixels).enumerate() {
        let (image, lane) = (plane / count, channels.lane(plane % count));
        let from = &x[(image * packs + lane / LANES) * pixels..][..pixels];
        for (value, from) in values.iter_mut().zip(from) {
            *value = from.0[lane % LANES];
        }
    }
    out
}

/// Transposes a pointwise weight, from `[out block][in lane]` packs over output channels to `[in block][out lane]`
/// packs over input channels.
pub fn transpose(weight: &[Pack], inputs: usize, outputs: usize, out: &mut [Pack]) {
    for (block, columns) in weight.chunks_exact(inputs * LANES).enumerate() {
        for (input, column) in columns.iter().enumerate() {
            for (lane, value) in column.0.iter().enumerate() {
                out[input / LANES * outputs * LANES + block * LANES + lane].0[input % LANES] = *value;
            }
        }
    }
}
