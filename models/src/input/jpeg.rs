//! JPEG: the structure of a file, the selection of its decoder, and the check that all of its pixels are present.
//!
//! Decoders fill the missing part of a truncated file with invented pixels and report no error. A file without an end
//! marker, or whose last pixels look invented, is decoded again with other bytes appended. A complete file then has
//! the same pixels.

mod cut;

use std::hash::{DefaultHasher, Hash, Hasher};

use image::codecs::jpeg::JpegDecoder;
use image::{DynamicImage, GrayImage, ImageResult, RgbImage};
use jpeg_decoder::PixelFormat;

/// Number of zero bytes at the end of a padded file that may belong to its pixels. Encoders fill the last byte with
/// ones (T.81, F.1.2.3), so it is rarely zero, except after ff.
const KEPT_ZEROS: usize = 1;

/// Smallest number of zero bytes at the end of a file that are treated as padding.
const PADDING: usize = 16;

/// Bytes appended to a file without an end marker. Neither they nor their complements are ff, which begins a marker,
/// or 00.
const PATTERN: [u8; 16] =
    [0xa5, 0x36, 0xd2, 0x69, 0x8c, 0xe1, 0x5a, 0x97, 0x1d, 0xc6, 0x73, 0xb8, 0x4e, 0x2b, 0xf1, 0x64];

/// Structure of a JPEG file, from its markers (ITU-T T.81, annex B).
#[derive(Debug, Default)]
pub(super) struct Structure {
    /// Reason why no decoder supports the file.
    unread: Option<&'static str>,
    progressive: bool,
    components: Vec<u8>,
    /// Number of pixels that are coded together, from left to right; 0 before the frame.
    block: usize,
    scans: Vec<Scan>,
    /// Offset of the end-of-image marker.
    end: Option<usize>,
    problem: Option<&'static str>,
}

/// Header of a scan.
#[derive(Debug)]
struct Scan {
    components: Vec<u8>,
    /// First and last coefficient.
    spectrum: [u8; 2],
    /// Number of low bits of the coefficients that a later scan contains.
    low: u8,
}

impl Structure {
    /// Reads the segments by their lengths (a thumbnail in a segment has markers of its own) and the markers in the
    /// entropy-coded data, up to the end of the image.
    pub(super) fn read(bytes: &[u8]) -> Structure {
        let mut structure = Structure::default();
        let mut at = 2;
        while let Some(marker) = next_marker(bytes, at) {
            at = marker + 2;
            match bytes[marker + 1] {
                0xd9 => {
                    structure.end = Some(marker);
                    return structure;
                }
                0x01 | 0xd0..=0xd8 => {}
                code => {
                    let Some(length) = bytes.get(at..at + 2) else {
                        structure.problem = Some("the length of its last segment");
                        return structure;
                    };
                    let length = usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
                    let segment = bytes.get(at + 2..at + length).unwrap_or_default();
                    structure.segment(code, segment);
                    at += length;
                }
            }
        }
        structure
    }

    fn segment(&mut self, code: u8, segment: &[u8]) {
        match code {
            0xc9..=0xcb | 0xcd..=0xcf => self.unread = Some("JPEG with arithmetic coding"),
            0xcc => self.unread = self.unread.or(Some("JPEG with arithmetic coding")),
            0xc3 => self.unread = Some("lossless JPEG"),
            0xc5..=0xc7 | 0xde => self.unread = Some("hierarchical JPEG"),
            0xf7 if self.components.is_empty() => self.unread = Some("JPEG-LS"),
            0xc0..=0xc2 if self.components.is_empty() => {
                self.progressive = code == 0xc2;
                match segment.first() {
                    Some(8) | None => {}
                    Some(_) => self.unread = Some("JPEG with 12 bits a sample"),
                }
                let components = segment.get(6..).unwrap_or_default().chunks_exact(3);
                self.block = 8 * components.clone().map(|c| usize::from(c[1] >> 4)).max().unwrap_or(0);
                self.components = components.map(|c| c[0]).collect();
            }
            0xda => {
                let count = segment.first().map_or(0, |&count| usize::from(count));
                let Some([first, last, bits]) = segment.get(1 + 2 * count..4 + 2 * count) else { return };
                self.scans.push(Scan {
                    components: segment[1..1 + 2 * count].chunks_exact(2).map(|c| c[0]).collect(),
                    spectrum: [*first, *last],
                    low: bits & 15,
                });
            }
            _ => {}
        }
    }

    /// Returns the name of the kind of JPEG if no decoder supports it.
    pub(super) fn unread(&self) -> Option<&'static str> {
        self.unread
    }

    /// Whether components have separate scans. The usual decoder mixes up the rows of subsampled ones.
    fn separate(&self) -> bool {
        !self.progressive && self.scans.len() > 1
    }

    /// Returns the part of the image for which the file has no scan.
    fn lacking(&self) -> Option<&'static str> {
        if self.scans.is_empty() {
            return Some("pixels");
        }
        // Bit k is set if coefficient k is present; if `whole`, with its last bit.
        let coefficients = |component: &u8, whole: bool| {
            let scans = self.scans.iter().filter(|scan| scan.components.contains(component));
            let scans = scans.filter(|scan| !whole || scan.low == 0);
            scans.fold(0u64, |all, scan| {
                let [first, last] = scan.spectrum.map(|k| u32::from(k.min(63)));
                (first..=last).fold(all, |all, k| all | 1 << k)
            })
        };
        if self.components.iter().any(|component| coefficients(component, false) & 1 == 0) {
            return Some("the scans of some colours");
        }
        let rough = |component: &u8| coefficients(component, true) != u64::MAX;
        if self.end.is_none() && self.progressive && self.components.iter().any(rough) {
            return Some("its last scans");
        }
        None
    }
}

/// Returns the offset of the next marker. Inside entropy-coded data, 00 is a stuffed zero and ff is fill.
fn next_marker(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr::memchr(0xff, bytes.get(at..)?)?;
        match bytes.get(at + 1)? {
            0x00 => at += 2,
            0xff => at += 1,
            _ => return Some(at),
        }
    }
}

/// Returns the name of the missing part of a file by its markers, also for the message of a decoder's error.
pub(super) fn missing(bytes: &[u8], structure: &Structure) -> Option<String> {
    let lacks = |what: &str| Some(format!("{} bytes without {what}", bytes.len()));
    if let Some(problem) = structure.problem {
        return lacks(problem);
    }
    match structure.lacking() {
        Some(what) if structure.end.is_some() => lacks(what),
        Some(what) => lacks(&format!("the end-of-image marker and {what}")),
        None => None,
    }
}

/// Decodes a file to gray or RGB.
///
/// # Errors
/// The decoder's error. `Ok(Err(what))` if the file ends before its pixels do.
pub(super) fn pixels(
    bytes: &[u8],
    structure: &Structure,
    decoder: JpegDecoder<std::io::Cursor<&[u8]>>,
) -> ImageResult<Result<DynamicImage, String>> {
    let Some(end) = structure.end else {
        let body = body(bytes);
        let image = independent(body, structure).and_then(|expected| {
            decoded(body, b"", structure).ok().filter(|image| digest(image) == expected)
        });
        return Ok(image.ok_or_else(|| {
            format!("{} bytes without the end-of-image marker and some of the pixels", bytes.len())
        }));
    };
    let image = if structure.separate() {
        drop(decoder);
        separate(bytes)?
    } else {
        DynamicImage::from_decoder(decoder)?
    };
    let suspected = !structure.progressive && cut::suspected(&image, structure.block, &bytes[..end]);
    if suspected && independent(&bytes[..end], structure) != Some(digest(&image)) {
        return Ok(Err(format!(
            "{} bytes without some of the pixels before the end-of-image marker",
            bytes.len()
        )));
    }
    Ok(Ok(image))
}

/// Decodes a file without its end-of-image marker, with other bytes behind its end.
fn decoded(body: &[u8], ending: &[u8], structure: &Structure) -> ImageResult<DynamicImage> {
    let bytes = [body, ending, &[0xff, 0xd9]].concat();
    if structure.separate() { separate(&bytes) } else { usual(&bytes) }
}

/// Returns the digest of the image of `body`, a file without its end-of-image marker, if it does not depend on the bytes
/// behind the end. One image is in memory at a time. The caller compares the image that was decoded with nothing behind
/// the end: there is no invalid code, at which decoders stop.
fn independent(body: &[u8], structure: &Structure) -> Option<u64> {
    // The two endings differ in every bit.
    let [one, other] = [0, 0xff].map(|mask| {
        let ending = PATTERN.map(|byte| byte ^ mask);
        decoded(body, &ending, structure).map(|image| digest(&image)).ok()
    });
    one.filter(|_| one == other)
}

fn digest(image: &DynamicImage) -> u64 {
    let mut hasher = DefaultHasher::new();
    image.as_bytes().hash(&mut hasher);
    hasher.finish()
}

/// Returns the file without the padding and half marker at its end.
fn body(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().rev().take_while(|&&byte| byte == 0).count();
    let padding = if zeros > PADDING { zeros - KEPT_ZEROS } else { 0 };
    let body = &bytes[..bytes.len() - padding];
    body.strip_suffix(b"\xff").unwrap_or(body)
}

fn usual(bytes: &[u8]) -> ImageResult<DynamicImage> {
    DynamicImage::from_decoder(JpegDecoder::new(std::io::Cursor::new(bytes))?)
}

/// Decodes a file whose components have separate scans.
fn separate(bytes: &[u8]) -> ImageResult<DynamicImage> {
    use image::error::{DecodingError, ImageFormatHint};
    let refused = |problem: String| {
        let format = ImageFormatHint::Exact(image::ImageFormat::Jpeg);
        image::ImageError::Decoding(DecodingError::new(format, problem))
    };
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    let pixels = decoder.decode().map_err(|error| refused(error.to_string()))?;
    let Some(info) = decoder.info() else { return Err(refused("no frame".into())) };
    let (width, height) = (info.width.into(), info.height.into());
    let image = match info.pixel_format {
        PixelFormat::L8 => GrayImage::from_raw(width, height, pixels).map(Into::into),
        PixelFormat::RGB24 => RgbImage::from_raw(width, height, pixels).map(Into::into),
        PixelFormat::CMYK32 => RgbImage::from_raw(width, height, inks(&pixels)).map(Into::into),
        PixelFormat::L16 => None,
    };
    image.ok_or_else(|| refused("the number of pixels differs from the size".into()))
}

/// Converts cyan, magenta, yellow and black to RGB.
pub(super) fn inks(pixels: &[u8]) -> Vec<u8> {
    let mix = |ink: u8, black: u8| ((u16::from(255 - ink) * u16::from(255 - black) + 127) / 255) as u8;
    pixels.chunks_exact(4).flat_map(|p| [mix(p[0], p[3]), mix(p[1], p[3]), mix(p[2], p[3])]).collect()
}
