//! How maps and weights lie in memory: `[image][channel block of 16][pixel][16]`.

use super::simd::{LANES, Pack};

/// Zero columns kept left and right of every row of a padded map: the reach of a 5x5 kernel at
/// dilation 2. Rows above and below the image are skipped by the loops instead.
pub const HALO: usize = 4;

/// The size of one image's map.
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

    /// Packs of an image, `[block][row][column]`.
    #[inline(always)]
    pub fn len(self) -> usize {
        self.packs * self.pixels()
    }

    /// Whether the map holds nothing.
    #[inline(always)]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Columns of a padded row.
    #[inline(always)]
    pub fn padded_width(self) -> usize {
        self.width + 2 * HALO
    }

    /// Packs of a padded image, `[block][row][HALO + column + HALO]`.
    #[inline(always)]
    pub fn padded_len(self) -> usize {
        self.packs * self.height * self.padded_width()
    }

    /// The map after an operation of this stride that keeps the size at stride 1: each side divided,
    /// rounded up.
    #[inline(always)]
    pub fn strided(self, stride: usize) -> MapSize {
        MapSize { height: self.height.div_ceil(stride), width: self.width.div_ceil(stride), ..self }
    }
}

/// Channels of a map that is `groups` maps of `each` channels side by side, each filled up with zero
/// channels to whole packs.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Channels {
    /// Maps side by side.
    pub groups: usize,
    /// Channels of one of them.
    pub each: usize,
}

impl Channels {
    /// The channels of a single map.
    pub fn one(each: usize) -> Channels {
        Channels { groups: 1, each }
    }

    /// Channels, the filling not counted.
    pub fn count(self) -> usize {
        self.groups * self.each
    }

    /// Packs per pixel.
    pub fn packs(self) -> usize {
        self.groups * self.each.div_ceil(LANES)
    }

    /// Packs per pixel where so many blocks of a map share one.
    #[inline(always)]
    pub fn shared(self, share: usize) -> usize {
        self.groups * self.each.div_ceil(LANES).div_ceil(share)
    }

    /// Channels of block `block`; the lanes behind them are filling.
    #[inline(always)]
    pub fn filled(self, block: usize) -> usize {
        let packs = self.each.div_ceil(LANES);
        (self.each - block % packs * LANES).min(LANES)
    }

    /// Blocks without filling.
    pub fn full(packs: usize) -> Channels {
        Channels { groups: packs, each: LANES }
    }

    /// The same channels so many times over, side by side.
    pub fn times(self, count: usize) -> Channels {
        Channels { groups: count * self.groups, ..self }
    }

    /// Where channel `c` lies among the `16 * packs` lanes.
    pub fn lane(self, c: usize) -> usize {
        c / self.each * self.each.div_ceil(LANES) * LANES + c % self.each
    }
}

/// Blocks images `[N, C, H, W]` of `pixels = H * W`.
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

/// Back to `[N, C, H, W]`.
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

/// The transpose of a pointwise weight: from `[out block][in lane]` packs over output channels to
/// `[in block][out lane]` packs over input channels.
pub fn transpose(weight: &[Pack], inputs: usize, outputs: usize, out: &mut [Pack]) {
    for (block, columns) in weight.chunks_exact(inputs * LANES).enumerate() {
        for (input, column) in columns.iter().enumerate() {
            for (lane, value) in column.0.iter().enumerate() {
                out[input / LANES * outputs * LANES + block * LANES + lane].0[input % LANES] = *value;
            }
        }
    }
}
