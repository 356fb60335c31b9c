//! Pointwise convolutions, with the moments of what they make.

use super::device::{Arg, Device, Gemm, LaunchGrid, Words, int, launch};
use super::norm::{self, CudaMoments};
use super::parts::{kept_sums, parts};
use crate::Result;

/// Numbers of channels that there are kernels of ours for, and the fewest numbers of a row that are worth a block.
const KERNELS: [(usize, &str, usize); 3] =
    [(16, "pointwise_16", 2048), (32, "pointwise_32", 512), (64, "pointwise_64", 256)];

/// Convolutions with weights `[slot][channel][channel]`, each of a map of its own, `[slot][channel][length]`.
#[derive(Clone, Copy, Debug)]
pub struct Pointwise {
    /// How many.
    pub slots: usize,
    /// In and out.
    pub channels: usize,
    /// Pixels of all images.
    pub length: usize,
}

impl Pointwise {
    /// `y = w x`, and, where they are asked for, the moments `[slot][channel]` of that.
    pub fn forward(
        &self,
        device: &mut dyn Device,
        w: Words,
        [x, y]: [Words; 2],
        moments: Option<CudaMoments>,
    ) -> Result<()> {
        if self.launch(device, w, [x, y], false, moments)? {
            return Ok(());
        }
        self.product(device, w, [x, y], false)?;
        let rows = self.slots * self.channels;
        moments.map_or(Ok(()), |moments| norm::moments(device, y, moments, rows, self.length))
    }

    /// The gradients of the maps: `dx = w' dy`, `w'` being `w` the other way round.
    pub fn backward(&self, device: &mut dyn Device, w: Words, [dy, dx]: [Words; 2]) -> Result<()> {
        match self.launch(device, w, [dy, dx], true, None)? {
            true => Ok(()),
            false => self.product(device, w, [dy, dx], true),
        }
    }

    /// By a kernel of ours, if there is one.
    fn launch(
        &self,
        device: &mut dyn Device,
        w: Words,
        [x, y]: [Words; 2],
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

    fn product(&self, device: &mut dyn Device, a: Words, [b, c]: [Words; 2], transposed: bool) -> Result<()> {
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
