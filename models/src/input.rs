//! The input contract: how the pixels of any picture become the numbers a network takes.
//!
//! [`decode`] turns a file into an [`Image`], [`InputContract::prepare`] brings it to the network's size
//! in bytes, [`InputContract::normalise`] makes floats of the bytes. Training, calibration and inference
//! all go through these three, so they see the same pixels; augmentation works on the bytes in between.

mod complete;
mod decode;
mod jpeg;
mod known;
mod limits;
mod picture;
mod resize;
#[cfg(test)]
mod tests;
mod tga;
mod tiff;

pub use decode::decode;
pub use limits::{EXPANSION, Limits, PIXELS};
pub use picture::Image;
pub use resize::{Filter, Resize};

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{Error, Result};

/// The largest height, width and shorter side of a contract.
pub const LARGEST: usize = 8192;

/// Size, channels and scale of a network's input. It travels in the weights' header and in model.onnx.
///
/// In JSON a missing `background` is white, `null` is none. Values out of range are refused on reading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct InputContract {
    /// Pixels, 1 to 8192.
    pub height: usize,
    /// Pixels, 1 to 8192.
    pub width: usize,
    /// 3 for RGB, 1 for luma (ITU-R 601, as Pillow's mode L).
    pub channels: usize,
    /// Per channel, on the scale where white is 1.
    pub mean: Vec<f32>,
    /// Per channel, on the same scale; above 0.
    pub std: Vec<f32>,
    /// How a picture of another size is brought to this one.
    pub resize: Resize,
    /// The filter that resizes.
    #[serde(default, skip_serializing_if = "Filter::is_default")]
    pub filter: Filter,
    /// The order of the colours; of three channels only.
    #[serde(default, skip_serializing_if = "ChannelOrder::is_default")]
    pub order: ChannelOrder,
    /// Use of the EXIF orientation.
    #[serde(default, skip_serializing_if = "ExifOrientation::is_default")]
    pub orientation: ExifOrientation,
    /// The RGB colour behind transparent pixels. `None` ignores alpha and takes the colour stored under
    /// it, as Pillow's `convert("RGB")` does; that colour is often black.
    #[serde(default = "white")]
    pub background: Option<[u8; 3]>,
}

/// The order of the colours in the network's input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelOrder {
    /// Red first.
    #[default]
    Rgb,
    /// Blue first, as OpenCV and Caffe have it. Mean and standard deviation are in this order too.
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
    /// The image is turned upright.
    #[default]
    Apply,
    /// The image is taken as it is stored, as Pillow's `Image.open` gives it.
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
    /// Refuses sizes, channels and scales out of range.
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

    /// A contract of Pillow's and torchvision's defaults: RGB, upright, bilinear, white behind transparent pixels.
    /// `shape` is `[C, H, W]`; nothing is checked.
    pub fn new([channels, height, width]: [usize; 3], mean: Vec<f32>, std: Vec<f32>, resize: Resize) -> Self {
        InputContract {
            height,
            width,
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

    /// Bytes of one prepared picture, and floats of one normalised.
    pub fn len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// False for every valid contract.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The picture at the contract's size as `[H, W, C]` bytes.
    pub fn prepare(&self, image: &Image) -> Result<Vec<u8>> {
        let image = match self.orientation {
            ExifOrientation::Apply => Cow::Borrowed(image),
            ExifOrientation::Ignore => image.as_stored(),
        };
        let rgb = image.over(self.background);
        let mut rgb = if (image.width(), image.height()) == (self.width, self.height) {
            rgb.into_owned()
        } else {
            let size = [image.height(), image.width()];
            self.resize.apply(self.filter, &rgb, size, [self.height, self.width])?
        };
        if self.channels == 1 {
            return Ok(luma(&rgb));
        }
        if self.order == ChannelOrder::Bgr {
            rgb.chunks_exact_mut(3).for_each(|pixel| pixel.swap(0, 2));
        }
        Ok(rgb)
    }

    /// The same for a network that takes the values of bytes: [`normalise`](Self::normalise) gives 0 to 255.
    pub fn of_bytes(&self) -> InputContract {
        InputContract {
            mean: vec![0.0; self.channels],
            std: vec![1.0 / 255.0; self.channels],
            ..self.clone()
        }
    }

    /// `[H, W, C]` bytes to `[C, H, W]` floats: `(byte / 255 - mean) / std`.
    ///
    /// # Panics
    /// When `pixels` or `out` is not [`len`](Self::len) long.
    pub fn normalise(&self, pixels: &[u8], out: &mut [f32]) {
        assert_eq!((pixels.len(), out.len()), (self.len(), self.len()), "one picture of the contract's size");
        for (c, plane) in out.chunks_exact_mut(self.height * self.width).enumerate() {
            for (x, &byte) in plane.iter_mut().zip(pixels[c..].iter().step_by(self.channels)) {
                *x = self.level(c, byte);
            }
        }
    }

    /// What [`normalise`](Self::normalise) makes of each byte, `[C][256]`.
    pub fn levels(&self) -> Vec<f32> {
        (0..self.channels).flat_map(|c| (0..=u8::MAX).map(move |byte| self.level(c, byte))).collect()
    }

    #[inline]
    fn level(&self, channel: usize, byte: u8) -> f32 {
        (f32::from(byte) / 255.0 - self.mean[channel]) / self.std[channel]
    }
}

/// ITU-R 601 luma in 16-bit fixed point, equal to Pillow's.
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
