//! How a file is fed and read: what the user says goes before what the file says, and that before what is assumed.

pub(crate) mod labels;
mod literal;
mod resolver;
mod said;
#[cfg(test)]
mod tests;

use milenas_export::onnx::ImageLayout;
use milenas_models::input::{ChannelOrder, ExifOrientation, Filter, Resize};

pub use labels::labels;
pub use literal::literal;
pub use resolver::{ASSUMED, GIVEN, GRAPH, RecipePart, Resolver};
pub use said::{ModelFile, Statement};

use crate::answer::OutputMeaning;

/// Settings for a file from one origin; `None` where it has no value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recipe {
    /// The name of each class.
    pub labels: Option<Vec<String>>,
    /// Height and width, where the file takes any.
    pub size: Option<[usize; 2]>,
    /// The order of the input's dimensions, where the file does not show it.
    pub layout: Option<ImageLayout>,
    /// Per channel, on the scale where white is 1, or all on that where it is 255.
    pub mean: Option<Vec<f32>>,
    /// Per channel, on the same scale.
    pub std: Option<Vec<f32>>,
    /// The resize rule.
    pub resize: Option<ResizeRule>,
    /// The filter that resizes.
    pub filter: Option<Filter>,
    /// The order of colours.
    pub order: Option<ChannelOrder>,
    /// Use of the EXIF orientation.
    pub orientation: Option<ExifOrientation>,
    /// The output that holds the scores.
    pub output: Option<String>,
    /// The meaning of the outputs.
    pub outputs: Option<OutputMeaning>,
}

/// A resize rule that may depend on the input's size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ResizeRule {
    /// To the input's size, without regard to proportions.
    Stretch,
    /// Shorter side to a length, then the centre.
    ShorterSide {
        /// Length of the shorter side, in pixels.
        side: usize,
    },
    /// The shorter side to the input's size over this fraction (rounded down), then the centre: timm's `crop_pct`.
    CropFraction(f64),
    /// The whole image within the input's size, with padding.
    Letterbox {
        /// Colour of the padding, RGB.
        fill: [u8; 3],
    },
}

impl ResizeRule {
    fn of([height, width]: [usize; 2], rule: ResizeRule) -> Resize {
        match rule {
            ResizeRule::Stretch => Resize::Stretch,
            ResizeRule::ShorterSide { side } => Resize::ShorterSide { side },
            ResizeRule::CropFraction(fraction) => {
                Resize::ShorterSide { side: (height.max(width) as f64 / fraction).floor() as usize }
            }
            ResizeRule::Letterbox { fill } => Resize::Letterbox { fill },
        }
    }
}

/// A value on the scale where white is 255, on that where it is 1: 57.12 is 0.224.
fn per_byte(value: f32) -> f32 {
    // By its decimal form: the nearest float of 57.12, divided, would miss that of 0.224.
    value.to_string().parse::<f64>().map_or(value / 255.0, |x| (x / 255.0) as f32)
}
