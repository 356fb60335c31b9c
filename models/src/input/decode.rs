//! Bytes of an image file to pixels, by content and not by name, with limits that make untrusted files safe.

use std::error::Error as _;
use std::io::{Cursor, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};

use super::{Image, complete};
use crate::{Error, Result};

const READ: &str = "JPEG, PNG, WebP, GIF, BMP, TIFF, PNM and QOI are read";

/// What a file may ask for. A file that asks for more is refused before its pixels are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pixels.
    pub max_width: u64,
    /// Pixels.
    pub max_height: u64,
    /// Width times height.
    pub max_pixels: u64,
    /// Bytes that decoding may allocate, beside the file itself; the price of a format is estimated from
    /// above.
    pub max_memory: u64,
    /// Bytes of the file, or of the member of an archive.
    pub max_file: u64,
    /// Decoded bytes for each byte of the file, where they are more than 64 MiB: above it is no photograph, but a
    /// bomb. Zeros in deflate reach 1,032, photographs 100 at their worst.
    pub max_expansion: u64,
}

/// Decoded bytes up to which a picture may be as blank as it likes.
const BLANK: u64 = 64 << 20;

impl Default for Limits {
    /// Room for a photograph of 100 megapixels: 2 GiB of memory at the very most.
    fn default() -> Self {
        Limits {
            max_width: 1 << 16,
            max_height: 1 << 16,
            max_pixels: 110_000_000,
            max_memory: 2 << 30,
            max_file: 512 << 20,
            max_expansion: 200,
        }
    }
}

impl Limits {
    pub(crate) fn check_file(&self, length: u64) -> Result<()> {
        within("image", "the file's length in bytes", length, self.max_file)
    }
}

fn within(place: &str, what: &'static str, found: u64, limit: u64) -> Result<()> {
    if found > limit {
        return Err(Error::Limit { place: place.into(), what, found, limit });
    }
    Ok(())
}

/// The upright picture in an image file: the first frame of an animation, any colour type as 8-bit RGB
/// (16 bits are rounded), the EXIF orientation applied, colour profiles ignored.
///
/// A file that ends before its pixels do is [`Error::Truncated`], never a partly gray picture. The places of
/// errors name the format alone; [`Error::within`] adds the file.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Image> {
    limits.check_file(bytes.len() as u64)?;
    // A panic in a format library is a bug of that library: one damaged file must not end a run over many.
    catch_unwind(AssertUnwindSafe(|| decode_any(bytes, limits)))
        .unwrap_or_else(|_| Err(Error::malformed("image", "the decoder panicked on this file")))
}

fn decode_any(bytes: &[u8], limits: &Limits) -> Result<Image> {
    if bytes.is_empty() {
        return Err(Error::Truncated { place: "image".into(), problem: "the file is empty".into() });
    }
    let Ok(format) = image::guess_format(bytes) else {
        return Err(Error::malformed("image", format!("the content is of no known image format; {READ}")));
    };
    let place = format!("{format:?} image");
    let explain = |error| explain(error, format, bytes, limits);

    // Numbers are checked here, where they can be told; the decoder gets what is left of the memory.
    let mut budget = image::Limits::no_limits();
    budget.max_alloc = Some(limits.max_memory);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(budget.clone());
    let mut decoder = reader.into_decoder().map_err(explain)?;
    let (width, height) = decoder.dimensions();
    let area = u64::from(width) * u64::from(height);
    within(&place, "the width in pixels", width.into(), limits.max_width)?;
    within(&place, "the height in pixels", height.into(), limits.max_height)?;
    within(&place, "the number of pixels", area, limits.max_pixels)?;
    let overhead = overhead(format, area, decoder.total_bytes());
    let memory = decoder.total_bytes().saturating_add(overhead);
    within(&place, "the memory for decoding in bytes", memory, limits.max_memory)?;
    if decoder.total_bytes() > BLANK {
        let expansion = decoder.total_bytes() / bytes.len() as u64;
        within(&place, "the decoded bytes for each byte of the file", expansion, limits.max_expansion)?;
    }
    budget.max_alloc = Some(limits.max_memory - overhead);
    decoder.set_limits(budget).map_err(explain)?;

    if let Some(problem) = complete::silently_missing(format, bytes) {
        return Err(Error::Truncated { place, problem });
    }
    let orientation = orientation(&mut decoder);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(explain)?;
    picture.apply_orientation(orientation);
    planes(picture)
}

/// How the picture has to be turned. Some writers of WebP put the name that the block has in a JPEG before it.
fn orientation(decoder: &mut impl ImageDecoder) -> Orientation {
    let named = |exif: Vec<u8>| Orientation::from_exif_chunk(exif.strip_prefix(b"Exif\0\0")?);
    match decoder.orientation() {
        Ok(Orientation::NoTransforms) | Err(_) => {
            decoder.exif_metadata().ok().flatten().and_then(named).unwrap_or(Orientation::NoTransforms)
        }
        Ok(found) => found,
    }
}

/// Bytes beside the decoder's own output: the turned copy or the 8-bit one, the planes, and for JPEG and
/// WebP the coefficients or planes that those decoders keep without asking the limits.
fn overhead(format: ImageFormat, area: u64, output: u64) -> u64 {
    let inside = match format {
        ImageFormat::Jpeg | ImageFormat::WebP => 10,
        _ => 0,
    };
    output + area * (4 + inside)
}

fn planes(picture: DynamicImage) -> Result<Image> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    if !picture.color().has_alpha() {
        return Image::new(width, height, picture.into_rgb8().into_raw(), None);
    }
    let rgba = picture.into_rgba8().into_raw();
    let alpha = rgba.chunks_exact(4).map(|p| p[3]).collect();
    let mut rgb = rgba;
    for pixel in 0..width * height {
        rgb.copy_within(4 * pixel..4 * pixel + 3, 3 * pixel);
    }
    rgb.truncate(3 * width * height);
    Image::new(width, height, rgb, Some(alpha))
}

fn explain(error: ImageError, format: ImageFormat, bytes: &[u8], limits: &Limits) -> Error {
    let place = format!("{format:?} image");
    if let Some(problem) = complete::missing(format, bytes) {
        return Error::Truncated { place, problem };
    }
    match error {
        ImageError::Limits(_) => {
            let problem = format!("decoding wants more memory than the limit, {} bytes", limits.max_memory);
            Error::malformed(place, problem)
        }
        ImageError::Unsupported(reason) => Error::malformed(place, format!("{reason}; {READ}")),
        error if ended_early(&error) || lacks_pixels(&error) => {
            let problem = format!("the {} bytes of the file end before the pixels do", bytes.len());
            Error::Truncated { place, problem }
        }
        error => Error::malformed(place, error.to_string()),
    }
}

/// A PNG whose container is whole but whose compressed data are not: its decoder has no kind of error for it.
fn lacks_pixels(error: &ImageError) -> bool {
    error.to_string().contains("InsufficientInput")
}

fn ended_early(error: &ImageError) -> bool {
    let mut cause = error.source();
    if let ImageError::IoError(io) = error {
        return io.kind() == ErrorKind::UnexpectedEof;
    }
    while let Some(inner) = cause {
        if inner.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == ErrorKind::UnexpectedEof) {
            return true;
        }
        cause = inner.source();
    }
    false
}
