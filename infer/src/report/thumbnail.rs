//! Thumbnails in an HTML report.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{ImageFormat, RgbImage, imageops};
use milenas_models::Sample;
use milenas_models::input::Limits;

/// Largest length of the longer side, in pixels; smaller images keep their size.
const SIDE: u32 = 128;

/// Returns a thumbnail as base64 of a PNG; `None` if the image is no longer readable.
pub(super) fn of(sample: &Sample) -> Option<String> {
    let original = sample.image(&Limits::default()).ok()?;
    let (width, height) = (original.width() as u32, original.height() as u32);
    let rgb = RgbImage::from_raw(width, height, original.over(Some([255; 3])).into_owned())?;
    let longer = width.max(height);
    let small = match longer > SIDE {
        true => {
            let scaled = |side: u32| (u64::from(side) * u64::from(SIDE) / u64::from(longer)).max(1) as u32;
            imageops::thumbnail(&rgb, scaled(width), scaled(height))
        }
        false => rgb,
    };
    let mut bytes = Cursor::new(Vec::new());
    small.write_to(&mut bytes, ImageFormat::Png).ok()?;
    Some(STANDARD.encode(bytes.into_inner()))
}
