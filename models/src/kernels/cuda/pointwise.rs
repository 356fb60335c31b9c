//! Pointwise convolutions, with the moments of their outputs.

use super::device::{Arg, Device, Gemm, LaunchGrid, Words, int, launch};
use super::norm::{self, CudaMoments};
use super::parts::{kept_sums, parts};
use crate::Result;

/// Numbers of channels that have a kernel, its name, and the fewest elements of a row for which a block is
/// worthwhile.
const KERNELS: [(usize, &str, usize); 3] =
    [(16, "pointwise_16", 2048), (32, "pointwise_32", 512), (64, "pointwise_64", 256)];

/// Convolutions with weights `[slot][channel][channel]`, each of its own feature map, `[slot][channel][length]`.
#[derive(Clone, Copy, Debug)]
pub struct Pointwise {
    /// Number of slots.
    pub slots: usize,
    /// Number of input channels, and of output channels.
    pub channels: usize,
    /// Number of pixels of all images.
    pub length: usize,
}

impl Pointwise {
    /// Computes `y = w x`, and the moments `[slot][channel]` of `y` if requested.
    pub fn forward(
        &self,
        device: &mut dyn Device,
        w: Words,
        x: Words,
        y: Words,
        moments: Option<CudaMoments>,
    ) -> Result<()> {
        if self.launch(device, w, x, y, false, moments)? {
            return Ok(());
        }
        self.product(device, w, x, y, false)?;
        let rows = self.slots * self.channels;
        moments.map_or(Ok(()), |moments| norm::moments(device, y, moments, rows, self.length))
    }

    /// Computes the gradients of the inputs: `dx = w' dy`, with `w'` the transpose of `w`.
    pub fn backward(&self, device: &mut dyn Device, w: Words, dy: Words, dx: Words) -> Result<()> {
        match self.launch(device, w, dy, dx, true, None)? {
            true => Ok(()),
            false => self.product(device, w, dy, dx, true),
        }
    }

    /// Runs a kernel of this crate, and returns `false` if none supports the sizes.
    fn launch(
        &self,
        device: &mut dyn Device,
        w: Words,
        x: Words,
        y: Words,
        transposed: bool,
        moments: Option<CudaMoments>,
    ) -> Result<bool> {
        let Pointwise { slots, channels, length } = *self;
        let kernel = KERNELS.into_iter().find(|(of, ..)| *of == channels && length % 4 == 0);
        let Some((_, name, least)) = kernel else { return Ok(false) };
        let (parts, rows) = (parts(slots, length, least), slots * channels);
        let none = Words::NONE;
        let [sums, tickets] = match moments {
            Some(_) => kept_sums(device, slots, parts, 2 * channels)?,
            None => [Arg::Write(none); 2],
        };
        let found = moments.map_or(Ok([Arg::Write(none); 2]), |CudaMoments { mean, variance }| {
            Ok::<_, crate::Error>([mean.written(rows)?, variance.written(rows)?])
        })?;
        let maps = [w.holds(rows * channels)?, x.holds(rows * length)?, y.written(rows * length)?];
        let sizes = [int(slots), int(length), Arg::Int(i32::from(transposed)), int(parts)];
        let args = [&maps[..], &found, &[sums, tickets], &sizes].concat();
        launch(device, name, LaunchGrid::Rows(slots * parts), &args)?;
        Ok(true)
    }

    fn product(&self, device: &mut dyn Device, a: Words, b: Words, c: Words, transposed: bool) -> Result<()> {
        let Pointwise { slots, channels, length } = *self;
        if slots == 0 {
            return Ok(());
        }
        let steps = [channels * channels, channels * length, channels * length];
        device.gemm(&Gemm {
            sizes: [channels, length, channels],
            a,
            transposed,
            b,
            c,
            steps,
            batch: slots,
            add: false,
        })
    }
}
