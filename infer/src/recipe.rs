//! Recipe of a file: the preparation of its input and the meaning of its output. The user's settings override
//! the file's, and these override the defaults.

mod declared;
pub(crate) mod labels;
mod literal;
mod resolver;
#[cfg(test)]
mod tests;

use milenas_export::onnx::ImageLayout;
use milenas_models::input::{ChannelOrder, ExifOrientation, Filter, ImageSize, Resize};

pub use declared::{ModelFile, Statement};
pub use labels::labels;
pub use literal::literal;
pub use resolver::{ASSUMED, GIVEN, GRAPH, RecipePart, Resolver};

use crate::answer::OutputMeaning;

/// Settings for a file from one origin; `None` for a setting that the origin does not have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recipe {
    /// Names of the classes.
    pub labels: Option<Vec<String>>,
    /// Height and width of the input, for a file that accepts any.
    pub size: Option<[usize; 2]>,
    /// Order of the input's dimensions, for a file that does not show it.
    pub layout: Option<ImageLayout>,
    /// Mean of each channel. All values are for pixels scaled to 0..1, or all for 0..255.
    pub mean: Option<Vec<f32>>,
    /// Standard deviation of each channel, on the same scale.
    pub std: Option<Vec<f32>>,
    /// Resizing rule.
    pub resize: Option<ResizeRule>,
    /// Resampling filter.
    pub filter: Option<Filter>,
    /// Order of the colour channels.
    pub order: Option<ChannelOrder>,
    /// Use of the EXIF orientation.
    pub orientation: Option<ExifOrientation>,
    /// Name of the output that holds the scores.
    pub output: Option<String>,
    /// Meaning of the outputs.
    pub outputs: Option<OutputMeaning>,
}

/// Resizing rule that may depend on the size of the input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ResizeRule {
    /// Resizes to the size of the input, without keeping the aspect ratio.
    Stretch,
    /// Resizes the shorter side to a fixed length, then crops the centre.
    ShorterSide {
        /// Length of the shorter side, in pixels.
        side: usize,
    },
    /// Resizes the shorter side to the size of the input divided by this fraction (rounded down), then crops
    /// the centre. timm calls the fraction `crop_pct`.
    CropFraction(f64),
    /// Fits the whole image into the size of the input, with padding.
    Letterbox {
        /// Colour of the padding, RGB.
        fill: [u8; 3],
    },
}

impl ResizeRule {
    fn of(size: ImageSize, rule: ResizeRule) -> Resize {
        match rule {
            ResizeRule::Stretch => Resize::Stretch,
            ResizeRule::ShorterSide { side } => Resize::ShorterSide { side },
            ResizeRule::CropFraction(fraction) => {
                Resize::ShorterSide { side: (size.height.max(size.width) as f64 / fraction).floor() as usize }
            }
            ResizeRule::Letterbox { fill } => Resize::Letterbox { fill },
        }
    }
}

/// Converts a value for pixels of 0..255 to one for 0..1: 57.12 becomes 0.224.
fn per_byte(value: f32) -> f32 {
    // Divides the decimal form: the float32 nearest to 57.12, divided by 255, would not be the one nearest to
    // 0.224.
    value.to_string().parse::<f64>().map_or(value / 255.0, |x| (x / 255.0) as f32)
}
