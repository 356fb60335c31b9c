//! Conversion of sample values to 8-bit RGB, or RGBA if the file has alpha.

use super::directory::{self as tag, Directory};
use super::layout::{Alpha, Photometric, SampleFormat, TiffLayout};
use super::{malformed, unread};
use crate::Result;

/// The largest level, which is white.
const WHITE: u32 = 65535;

/// Converter of rows of values to colours.
pub(super) struct Colours {
    meaning: Photometric,
    alpha: Option<Alpha>,
    samples: usize,
    scale: Scale,
    /// RGB colours by index, 16 bits each.
    palette: Vec<[u32; 3]>,
    ycbcr: YCbCr,
    /// Smallest and largest floating-point value of the colours.
    range: [f64; 2],
}

/// Scale of values, which maps them to levels of 16 bits.
#[derive(Clone, Copy)]
enum Scale {
    /// White is the largest value of this number of bits.
    Bits(u32),
    /// White is this floating-point value.
    White(f64),
}

/// Conversion of luma and colour differences to RGB.
struct YCbCr {
    coefficients: [f64; 3],
    /// Black and white of luma, and zero and largest value of each difference, for 8 bits.
    reference: [f64; 6],
}

impl Colours {
    /// Prepares the conversion of an image.
    ///
    /// # Errors
    /// [`Error::Malformed`](crate::Error::Malformed) for a palette with too few colours.
    pub(super) fn new(directory: &Directory, layout: &TiffLayout) -> Result<Self> {
        let scale = match layout.format {
            SampleFormat::Float => Scale::White(1.0),
            SampleFormat::Unsigned | SampleFormat::Signed => Scale::Bits(layout.bits),
        };
        let mut palette = Vec::new();
        if layout.meaning == Photometric::Palette {
            let map = directory.numbers(tag::COLOUR_MAP)?;
            let count = 1usize << layout.bits;
            if map.len() < 3 * count {
                let problem = format!("the palette has {} values, expected {}", map.len(), 3 * count);
                return Err(malformed(problem));
            }
            // Some writers scale the palette to 8 bits.
            let by = if map.iter().all(|&level| level < 256) { 257 } else { 1 };
            palette = (0..count).map(|i| [0, 1, 2].map(|c| map[c * count + i] as u32 * by)).collect();
        }
        let fixed = |values: Vec<f64>| <[f64; 3]>::try_from(values).ok().filter(|c| c[1] > 0.0);
        let coefficients = fixed(directory.fractions(tag::YCBCR_COEFFICIENTS)?);
        let reference = directory.fractions(tag::REFERENCE_BLACK_WHITE)?.try_into().ok();
        let ycbcr = YCbCr {
            coefficients: coefficients.unwrap_or([0.299, 0.587, 0.114]),
            reference: reference.unwrap_or([0.0, 255.0, 128.0, 255.0, 128.0, 255.0]),
        };
        Ok(Colours {
            meaning: layout.meaning,
            alpha: layout.alpha,
            samples: layout.samples,
            scale,
            palette,
            ycbcr,
            range: [f64::INFINITY, f64::NEG_INFINITY],
        })
    }

    /// Converts `[width, samples]` values to `[width, 3]` or `[width, 4]` bytes. `values` may be longer.
    pub(super) fn row(&mut self, values: &[u64], out: &mut [u8]) {
        let channels = if self.alpha.is_some() { 4 } else { 3 };
        if let (Photometric::Rgb, Scale::Bits(8), 3, 3) = (self.meaning, self.scale, self.samples, channels) {
            out.iter_mut().zip(values).for_each(|(out, &value)| *out = value as u8);
            return;
        }
        for (pixel, out) in values.chunks_exact(self.samples).zip(out.chunks_exact_mut(channels)) {
            let mut rgb = self.colour(pixel);
            if let Some(Alpha { sample, premultiplied }) = self.alpha {
                let alpha = self.level(pixel[sample]);
                if premultiplied && alpha > 0 {
                    rgb = rgb.map(|level| ((level * WHITE + alpha / 2) / alpha).min(WHITE));
                }
                out[3] = byte(alpha);
            }
            (out[0], out[1], out[2]) = (byte(rgb[0]), byte(rgb[1]), byte(rgb[2]));
        }
    }

    /// Returns the levels of red, green and blue.
    fn colour(&mut self, pixel: &[u64]) -> [u32; 3] {
        match self.meaning {
            Photometric::Palette => self.palette[pixel[0] as usize],
            Photometric::BlackIsZero => [self.seen(pixel[0]); 3],
            Photometric::WhiteIsZero => [WHITE - self.seen(pixel[0]); 3],
            Photometric::Rgb => [self.seen(pixel[0]), self.seen(pixel[1]), self.seen(pixel[2])],
            Photometric::Cmyk => {
                let paper = WHITE - self.seen(pixel[3]);
                [0, 1, 2].map(|c| {
                    let left = u64::from(WHITE - self.seen(pixel[c])) * u64::from(paper);
                    (left / u64::from(WHITE)) as u32
                })
            }
            Photometric::YCbCr => {
                let levels = [0, 1, 2].map(|c| self.seen(pixel[c]));
                self.ycbcr.rgb(levels)
            }
        }
    }

    /// Returns the level of a colour value, and updates the range of values.
    fn seen(&mut self, value: u64) -> u32 {
        if let Scale::White(_) = self.scale {
            let value = f64::from_bits(value);
            self.range = [self.range[0].min(value), self.range[1].max(value)];
        }
        self.level(value)
    }

    fn level(&self, value: u64) -> u32 {
        match self.scale {
            Scale::Bits(8) => value as u32 * 257,
            Scale::Bits(16) => value as u32,
            Scale::Bits(bits @ ..32) => {
                let most = (1u64 << bits) - 1;
                ((value * u64::from(WHITE) + most / 2) / most) as u32
            }
            Scale::Bits(bits) => (value >> (bits - 16)) as u32,
            Scale::White(white) => (f64::from_bits(value) / white * f64::from(WHITE)).round() as u32,
        }
        .min(WHITE)
    }

    /// Checks the range of floating-point values. Returns true if white is 255, in which case all rows have to be
    /// converted again.
    ///
    /// # Errors
    /// [`Error::Malformed`](crate::Error::Malformed) for values outside of 0 to 255.
    pub(super) fn rescaled(&mut self) -> Result<bool> {
        let [least, largest] = self.range;
        match self.scale {
            Scale::White(white) if largest > white || least < 0.0 => {
                if white == 1.0 && least >= 0.0 && (32.0..=255.0).contains(&largest) {
                    self.scale = Scale::White(255.0);
                    return Ok(true);
                }
                Err(unread(format_args!(
                    "floating-point values from {least} to {largest}, expected 0 to 1 or 0 to 255"
                )))
            }
            _ => Ok(false),
        }
    }
}

impl YCbCr {
    fn rgb(&self, levels: [u32; 3]) -> [u32; 3] {
        let [luma_red, luma_green, luma_blue] = self.coefficients;
        let r = &self.reference;
        let [y, cb, cr] = levels.map(|level| f64::from(level) / 257.0);
        let y = (y - r[0]) * 255.0 / (r[1] - r[0]).max(1.0);
        let cb = (cb - r[2]) * 127.0 / (r[3] - r[2]).max(1.0);
        let cr = (cr - r[4]) * 127.0 / (r[5] - r[4]).max(1.0);
        let red = cr * (2.0 - 2.0 * luma_red) + y;
        let blue = cb * (2.0 - 2.0 * luma_blue) + y;
        let green = (y - luma_blue * blue - luma_red * red) / luma_green;
        [red, green, blue].map(|level| (level.clamp(0.0, 255.0) * 257.0).round() as u32)
    }
}

/// Converts a level of 16 bits to 8 bits, rounded.
fn byte(level: u32) -> u8 {
    ((level + 128) / 257) as u8
}
