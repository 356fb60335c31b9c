//! Decoding of image files, by content and not by name, within limits that make untrusted files safe.

use std::error::Error as _;
use std::io::{Cursor, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::codecs::jpeg::JpegDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};

use super::jpeg::{self, Structure};
use super::known::{self, READ};
use super::{Image, Limits, complete, tga, tiff};
use crate::{Error, Result};

/// Decodes the image in a file, rotated upright: the first frame of an animation, any colour type as 8-bit RGB (16
/// bits are rounded), with the EXIF orientation applied and colour profiles ignored.
///
/// The places of errors name only the format; [`Error::within`] adds the file.
///
/// # Errors
/// [`Error::Truncated`] for a file that ends before its pixels do; a partly gray image is never returned.
/// [`Error::Limit`] for a file that exceeds `limits`. [`Error::Malformed`] for a damaged file or an unsupported
/// format.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Image> {
    limits.check_file(bytes.len() as u64)?;
    // A panic in a format library is a bug of that library. One damaged file must not end a run over many files.
    catch_unwind(AssertUnwindSafe(|| decode_any(bytes, limits)))
        .unwrap_or_else(|_| Err(Error::malformed("image", "the decoder panicked on this file")))
}

fn decode_any(bytes: &[u8], limits: &Limits) -> Result<Image> {
    if bytes.is_empty() {
        return Err(Error::Truncated { place: "image".into(), problem: "the file is empty".into() });
    }
    if tiff::is_tiff(bytes) {
        return tiff::decode(bytes, limits);
    }
    let format = match image::guess_format(bytes) {
        Ok(format) if format.reading_enabled() && format != ImageFormat::Tiff => format,
        _ if tga::is_tga(bytes) => ImageFormat::Tga,
        _ => return Err(known::refusal(bytes)),
    };
    if format == ImageFormat::Jpeg {
        return decode_jpeg(bytes, limits);
    }
    let explain = |error| explain(error, format, complete::missing(format, bytes), bytes, limits);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(budget(limits.max_memory));
    let mut decoder = reader.into_decoder().map_err(explain)?;
    let left = admit(&decoder, format, bytes, limits)?;
    decoder.set_limits(budget(left)).map_err(explain)?;
    if let Some(problem) = complete::silently_missing(format, bytes) {
        return Err(Error::Truncated { place: place(format), problem });
    }
    let orientation = orientation(&mut decoder);
    let mut decoded = DynamicImage::from_decoder(decoder).map_err(explain)?;
    if format == ImageFormat::Bmp {
        decoded = without_unused_alpha(decoded);
    }
    upright(decoded, orientation)
}

/// Removes the alpha of a BMP that is transparent everywhere. Many BMP files have bits for alpha that were never
/// written.
fn without_unused_alpha(decoded: DynamicImage) -> DynamicImage {
    match decoded {
        DynamicImage::ImageRgba8(pixels) if pixels.pixels().all(|pixel| pixel.0[3] == 0) => {
            DynamicImage::ImageRgba8(pixels).into_rgb8().into()
        }
        other => other,
    }
}

fn decode_jpeg(bytes: &[u8], limits: &Limits) -> Result<Image> {
    let format = ImageFormat::Jpeg;
    let structure = Structure::read(bytes);
    if let Some(kind) = structure.unread() {
        return Err(Error::malformed(place(format), known::kind(kind)));
    }
    let explain = |error| explain(error, format, jpeg::missing(bytes, &structure), bytes, limits);
    let mut decoder = JpegDecoder::new(Cursor::new(bytes)).map_err(explain)?;
    admit(&decoder, format, bytes, limits)?;
    if let Some(problem) = jpeg::missing(bytes, &structure) {
        return Err(Error::Truncated { place: place(format), problem });
    }
    let orientation = orientation(&mut decoder);
    match jpeg::pixels(bytes, &structure, decoder).map_err(explain)? {
        Ok(decoded) => upright(decoded, orientation),
        Err(problem) => Err(Error::Truncated { place: place(format), problem }),
    }
}

fn place(format: ImageFormat) -> String {
    format!("{format:?} image")
}

/// Returns limits of a decoder: only its memory. [`admit`] checks the sizes, since it can report them.
fn budget(memory: u64) -> image::Limits {
    let mut budget = image::Limits::no_limits();
    budget.max_alloc = Some(memory);
    budget
}

/// Checks the sizes in the header of a file. Returns the number of bytes of memory that its decoder may allocate.
fn admit(decoder: &impl ImageDecoder, format: ImageFormat, bytes: &[u8], limits: &Limits) -> Result<u64> {
    let place = place(format);
    let (width, height) = decoder.dimensions();
    let area = u64::from(width) * u64::from(height);
    limits.check_size(&place, width.into(), height.into())?;
    let overhead = overhead(format, area, decoder.total_bytes());
    limits.check_memory(&place, decoder.total_bytes().saturating_add(overhead))?;
    limits.check_expansion(&place, area, decoder.total_bytes(), bytes.len())?;
    Ok(limits.max_memory - overhead)
}

/// Returns the orientation of the image. Some writers of WebP put the name of the JPEG block before the data.
fn orientation(decoder: &mut impl ImageDecoder) -> Orientation {
    let named = |exif: Vec<u8>| Orientation::from_exif_chunk(exif.strip_prefix(b"Exif\0\0")?);
    match decoder.orientation() {
        Ok(Orientation::NoTransforms) | Err(_) => {
            decoder.exif_metadata().ok().flatten().and_then(named).unwrap_or(Orientation::NoTransforms)
        }
        Ok(found) => found,
    }
}

/// Returns the number of bytes needed besides the decoder's output: the rotated or 8-bit copy, and the planes. For
/// JPEG and WebP it includes the coefficients or planes that their decoders allocate without checking the limits.
fn overhead(format: ImageFormat, area: u64, output: u64) -> u64 {
    let inside = match format {
        ImageFormat::Jpeg | ImageFormat::WebP => 10,
        _ => 0,
    };
    output + area * (4 + inside)
}

/// Rotates an image by its orientation, and splits it into colours and alpha.
pub(super) fn upright(mut decoded: DynamicImage, orientation: Orientation) -> Result<Image> {
    decoded.apply_orientation(orientation);
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    if !decoded.color().has_alpha() {
        let image = Image::new(width, height, decoded.into_rgb8().into_raw(), None)?;
        return Ok(image.turned_by(orientation));
    }
    let rgba = decoded.into_rgba8().into_raw();
    let alpha = rgba.chunks_exact(4).map(|p| p[3]).collect();
    let mut rgb = rgba;
    for pixel in 0..width * height {
        rgb.copy_within(4 * pixel..4 * pixel + 3, 3 * pixel);
    }
    rgb.truncate(3 * width * height);
    Ok(Image::new(width, height, rgb, Some(alpha))?.turned_by(orientation))
}

fn explain(
    error: ImageError,
    format: ImageFormat,
    missing: Option<String>,
    bytes: &[u8],
    limits: &Limits,
) -> Error {
    let place = place(format);
    if let Some(problem) = missing {
        return Error::Truncated { place, problem };
    }
    match error {
        ImageError::Limits(_) => {
            let problem = format!("decoding needs more memory than the limit, {} bytes", limits.max_memory);
            Error::malformed(place, problem)
        }
        error @ ImageError::Unsupported(_) => {
            Error::malformed(place, format!("of a kind that is not read ({}); {READ}", cause(&error)))
        }
        error if ended_early(&error) || lacks_pixels(&error) => {
            let problem = format!("the {} bytes of the file end before the pixels do", bytes.len());
            Error::Truncated { place, problem }
        }
        error => Error::malformed(place, format!("damaged ({})", cause(&error))),
    }
}

/// Largest length of a library's error in a message, in characters.
const LONGEST: usize = 200;

/// Returns the innermost cause of a library's error, without the texts of its wrappers, on one line of bounded
/// length.
fn cause(error: &ImageError) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(inner) = last.source() {
        last = inner;
    }
    let text = last.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars().take(LONGEST).collect()
}

/// Whether the error is that of a PNG with a complete container and truncated compressed data. Its decoder has no
/// error kind for it.
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
