//! The input contract: how the pixels of an image become the values of a network's input.
//!
//! [`decode()`] turns a file into an [`Image`], [`InputContract::prepare`] converts it to bytes at the network's size,
//! and [`InputContract::normalise`] converts the bytes to floats. Training, calibration and inference all use these
//! three functions, so they get the same pixels. Augmentation modifies the bytes.

mod complete;
mod decode;
mod decoded_image;
mod jpeg;
mod known;
mod limits;
mod resize;
#[cfg(test)]
mod tests;
mod tga;
mod tiff;

pub use decode::decode;
pub use decoded_image::{Image, ImageSize};
pub use limits::{EXPANSION, Limits, PIXELS};
pub use resize::{Filter, Resize};

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{Error, Result};

/// Largest height, width and shorter side of a contract, in pixels.
pub const LARGEST: usize = 8192;

/// Size, channels and scale of a network's input. It is stored in the header of the weights and in model.onnx.
///
/// In JSON a missing `background` means white, and `null` means none. Reading rejects values out of range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct InputContract {
    /// Height in pixels, 1 to 8192.
    pub height: usize,
    /// Width in pixels, 1 to 8192.
    pub width: usize,
    /// Number of channels: 3 for RGB, 1 for luma (ITU-R 601, as Pillow's mode L).
    pub channels: usize,
    /// Mean subtracted from each channel, for pixels scaled to 0..1.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, for pixels scaled to 0..1; above 0.
    pub std: Vec<f32>,
    /// Rule that converts an image of another size to this one.
    pub resize: Resize,
    /// Resampling filter.
    #[serde(default, skip_serializing_if = "Filter::is_default")]
    pub filter: Filter,
    /// Order of the colours, for three channels.
    #[serde(default, skip_serializing_if = "ChannelOrder::is_default")]
    pub order: ChannelOrder,
    /// Use of the EXIF orientation.
    #[serde(default, skip_serializing_if = "ExifOrientation::is_default")]
    pub orientation: ExifOrientation,
    /// RGB colour behind transparent pixels. `None` ignores alpha and uses the stored colour, as Pillow's
    /// `convert("RGB")` does; that colour is often black.
    #[serde(default = "white")]
    pub background: Option<[u8; 3]>,
}

/// Order of the colours in the network's input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelOrder {
    /// Red first (RGB).
    #[default]
    Rgb,
    /// Blue first (BGR), as in OpenCV and Caffe. Mean and standard deviation have this order too.
    Bgr,
}

impl ChannelOrder {
    fn is_default(&self) -> bool {
        *self == ChannelOrder::default()
    }
}

/// Use of the EXIF orientation of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExifOrientation {
    /// Rotates the image upright.
    #[default]
    Apply,
    /// Uses the image as stored, as Pillow's `Image.open` does.
    Ignore,
}

impl ExifOrientation {
    fn is_default(&self) -> bool {
        *self == ExifOrientation::default()
    }
}

fn white() -> Option<[u8; 3]> {
    Some([255; 3])
}

impl InputContract {
    /// Checks sizes, channels and scales.
    ///
    /// # Errors
    /// [`Error::Value`] for a value out of range.
    pub fn validate(&self) -> Result<()> {
        let refuse = |what: &str, found: String, expected: &str| {
            Err(Error::Value { what: format!("input contract: {what}"), found, expected: expected.into() })
        };
        for (what, size) in [("height", self.height), ("width", self.width)] {
            if !(1..=LARGEST).contains(&size) {
                return refuse(what, size.to_string(), "1 to 8192");
            }
        }
        if self.channels != 1 && self.channels != 3 {
            return refuse("channels", self.channels.to_string(), "1 or 3");
        }
        for (what, values) in [("mean", &self.mean), ("std", &self.std)] {
            if values.len() != self.channels || !values.iter().all(|v| v.is_finite()) {
                return refuse(what, format!("{values:?}"), "one finite number per channel");
            }
        }
        if self.std.iter().any(|&v| v < 1e-6) {
            return refuse("std", format!("{:?}", self.std), "numbers above 0");
        }
        if self.channels == 1 && self.order == ChannelOrder::Bgr {
            return refuse("order", "bgr".into(), "rgb for one channel");
        }
        match self.resize {
            Resize::ShorterSide { side } if !(self.height.max(self.width)..=LARGEST).contains(&side) => {
                refuse(
                    "resize.shorter_side.side",
                    side.to_string(),
                    "at least height and width, at most 8192",
                )
            }
            Resize::ShorterSide { .. } | Resize::Stretch | Resize::Letterbox { .. } => Ok(()),
        }
    }

    /// Returns a contract with the defaults of Pillow and torchvision: RGB, upright, bilinear, white behind
    /// transparent pixels. The values are not checked.
    pub fn new(size: ImageSize, channels: usize, mean: Vec<f32>, std: Vec<f32>, resize: Resize) -> Self {
        InputContract {
            height: size.height,
            width: size.width,
            channels,
            mean,
            std,
            resize,
            filter: Filter::default(),
            order: ChannelOrder::default(),
            orientation: ExifOrientation::default(),
            background: white(),
        }
    }

    /// Height and width.
    pub fn size(&self) -> ImageSize {
        ImageSize { height: self.height, width: self.width }
    }

    /// Number of bytes of a prepared image, and of floats of a normalised one.
    pub fn len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Whether the input has no elements; false for every valid contract.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Converts an image to `[H, W, C]` bytes at the contract's size.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the image cannot be resized.
    pub fn prepare(&self, image: &Image) -> Result<Vec<u8>> {
        let image = match self.orientation {
            ExifOrientation::Apply => Cow::Borrowed(image),
            ExifOrientation::Ignore => image.as_stored(),
        };
        let rgb = image.over(self.background);
        let size = ImageSize { height: image.height(), width: image.width() };
        let mut rgb = if size == self.size() {
            rgb.into_owned()
        } else {
            self.resize.apply(self.filter, &rgb, size, self.size())?
        };
        if self.channels == 1 {
            return Ok(luma(&rgb));
        }
        if self.order == ChannelOrder::Bgr {
            rgb.chunks_exact_mut(3).for_each(|pixel| pixel.swap(0, 2));
        }
        Ok(rgb)
    }

    /// Returns this contract for a network whose input is byte values: [`normalise`](Self::normalise) gives 0 to 255.
    pub fn of_bytes(&self) -> InputContract {
        InputContract {
            mean: vec![0.0; self.channels],
            std: vec![1.0 / 255.0; self.channels],
            ..self.clone()
        }
    }

    /// Converts `[H, W, C]` bytes to `[C, H, W]` floats: `(byte / 255 - mean) / std`.
    ///
    /// # Panics
    /// Panics if the length of `pixels` or `out` is not [`len`](Self::len).
    pub fn normalise(&self, pixels: &[u8], out: &mut [f32]) {
        assert_eq!((pixels.len(), out.len()), (self.len(), self.len()), "one image of the contract's size");
        for (c, plane) in out.chunks_exact_mut(self.height * self.width).enumerate() {
            for (x, &byte) in plane.iter_mut().zip(pixels[c..].iter().step_by(self.channels)) {
                *x = self.level(c, byte);
            }
        }
    }

    /// Returns the result of [`normalise`](Self::normalise) for each byte, `[C][256]`.
    pub fn levels(&self) -> Vec<f32> {
        (0..self.channels).flat_map(|c| (0..=u8::MAX).map(move |byte| self.level(c, byte))).collect()
    }

    #[inline]
    fn level(&self, channel: usize, byte: u8) -> f32 {
        (f32::from(byte) / 255.0 - self.mean[channel]) / self.std[channel]
    }
}

/// Computes ITU-R 601 luma in 16-bit fixed point, equal to Pillow's.
fn luma(rgb: &[u8]) -> Vec<u8> {
    let weigh = |p: &[u8]| {
        let [r, g, b] = [p[0], p[1], p[2]].map(u32::from);
        ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
    };
    rgb.chunks_exact(3).map(weigh).collect()
}

impl Serialize for InputContract {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        InputContract::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for InputContract {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let contract = InputContract::deserialize(deserializer)?;
        contract.validate().map_err(D::Error::custom)?;
        Ok(contract)
    }
}
