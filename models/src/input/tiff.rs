//! Decoding of TIFF and BigTIFF: the first image of a file as 8-bit RGB.
//!
//! Existing TIFF crates reject palettes, odd numbers of bits and gray with alpha, and return premultiplied colours
//! unchanged. This module reads the directory, expands the strips and tiles with published decompressors, and
//! converts samples of any size to colours. Sources: TIFF 6.0 (Adobe, 1992), its technical note 2 on JPEG, and the
//! BigTIFF design of libtiff.

mod colour;
mod directory;
mod expand;
mod layout;
mod samples;

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage, RgbaImage};

use super::decode::upright;
use super::{Image, Limits, known};
use crate::{Error, Result};
use colour::Colours;
use directory::Directory;
use layout::TiffLayout;
use samples::StripRows;

const PLACE: &str = "Tiff image";

/// Whether a file has the signature of a TIFF or BigTIFF, and not that of a camera raw file.
pub(super) fn is_tiff(bytes: &[u8]) -> bool {
    let signed = [b"II*\0", b"II+\0", b"MM\0*", b"MM\0+"].iter().any(|magic| bytes.starts_with(*magic));
    signed && bytes.get(8..11) != Some(b"CR\x02")
}

/// Returns the error for a malformed directory, strip or tile.
fn malformed(problem: impl Into<String>) -> Error {
    Error::malformed(PLACE, problem)
}

/// Returns the error for an unsupported kind of TIFF.
fn unread(kind: impl std::fmt::Display) -> Error {
    malformed(known::kind(&format!("TIFF with {kind}")))
}

fn truncated(problem: impl Into<String>) -> Error {
    Error::Truncated { place: PLACE.into(), problem: problem.into() }
}

/// Decodes the first image of a file.
///
/// # Errors
/// [`Error::Truncated`], [`Error::Limit`] and [`Error::Malformed`], for the causes given at
/// [`decode`](super::decode()).
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Image> {
    let directory = Directory::read(bytes)?;
    let layout = TiffLayout::read(&directory, limits)?;
    let area = layout.width as u64 * layout.height as u64;
    // The image and its rotated copy; a strip or tile of every plane as compressed data, as samples and as a row of
    // values.
    let chunk = layout.chunk_bytes().saturating_mul(layout.planes() as u64 + 2);
    let decoded = area * 4;
    let memory = decoded.saturating_mul(2).saturating_add(chunk).saturating_add(layout.width as u64 * 64);
    limits.check_memory(PLACE, memory)?;
    let channels = if layout.samples < 3 { 1 } else { 3 };
    limits.check_expansion(PLACE, area, area * channels, bytes.len())?;

    let mut colours = Colours::new(&directory, &layout)?;
    let mut decoded = converted(bytes, &directory, &layout, &mut colours)?;
    if colours.rescaled()? {
        decoded = converted(bytes, &directory, &layout, &mut colours)?;
        colours.rescaled()?;
    }
    let size = (layout.width as u32, layout.height as u32);
    let decoded: Option<DynamicImage> = match layout.alpha {
        None => RgbImage::from_raw(size.0, size.1, decoded).map(Into::into),
        Some(_) => RgbaImage::from_raw(size.0, size.1, decoded).map(Into::into),
    };
    let decoded = decoded.ok_or_else(|| malformed("the number of pixels differs from the size"))?;
    let orientation = directory.number(directory::ORIENTATION)?.and_then(|code| u8::try_from(code).ok());
    upright(decoded, orientation.and_then(Orientation::from_exif).unwrap_or(Orientation::NoTransforms))
}

/// Decodes the pixels of all strips and tiles, to `[H, W, 3]`, or `[H, W, 4]` with alpha.
fn converted(
    bytes: &[u8],
    directory: &Directory,
    layout: &TiffLayout,
    colours: &mut Colours,
) -> Result<Vec<u8>> {
    let channels = if layout.alpha.is_some() { 4 } else { 3 };
    let mut decoded = vec![0; layout.width * layout.height * channels];
    let [columns, rows] = layout.grid();
    for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
        let planes = expand::planes(bytes, directory, layout, [column, row])?;
        let [left, top] = [column * layout.chunk[0], row * layout.chunk[1]];
        let width = layout.chunk[0].min(layout.width - left);
        let height = layout.chunk[1].min(layout.height - top);
        let mut rows = StripRows::new(layout, planes);
        for y in 0..height {
            let at = ((top + y) * layout.width + left) * channels;
            colours.row(rows.next(y), &mut decoded[at..at + width * channels]);
        }
    }
    Ok(decoded)
}
