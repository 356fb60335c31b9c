//! Limits that make files from untrusted sources safe to decode.

use crate::{Error, Result};

/// Largest sizes that a file may have. A larger file is rejected before its pixels are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest width in pixels.
    pub max_width: u64,
    /// Largest height in pixels.
    pub max_height: u64,
    /// Largest width times height.
    pub max_pixels: u64,
    /// Largest number of bytes that decoding may allocate, besides the file itself. It is compared with an upper
    /// bound for the format.
    pub max_memory: u64,
    /// Largest number of bytes of a file, or of a member of an archive.
    pub max_file: u64,
    /// Largest number of decoded bytes per byte of the file. It applies to images above 70 megapixels or 256 MiB,
    /// where a larger ratio is a decompression bomb. Zeros in deflate reach 1,032, photographs at most 100.
    pub max_expansion: u64,
}

/// Name of the limit that [`Limits::max_pixels`] sets, in [`Error::Limit`].
pub const PIXELS: &str = "the number of pixels";

/// Name of the limit that [`Limits::max_expansion`] sets, in [`Error::Limit`].
pub const EXPANSION: &str = "the decoded bytes for each byte of the file";

/// Largest number of pixels of an image that may be blank: an A3 page at 600 dots per inch.
const BLANK_PIXELS: u64 = 70_000_000;

/// Largest number of decoded bytes of an image that may be blank.
const BLANK_BYTES: u64 = 256 << 20;

impl Default for Limits {
    /// Returns limits for a photograph of 100 megapixels, with at most 2 GiB of memory.
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
    /// Returns these limits for images of up to `pixels`. Memory and file length grow in proportion; they never
    /// shrink.
    pub fn with_max_pixels(self, pixels: u64) -> Self {
        let grown = |bytes: u64| {
            let grown = u128::from(bytes) * u128::from(pixels) / u128::from(self.max_pixels.max(1));
            u64::try_from(grown).unwrap_or(u64::MAX).max(bytes)
        };
        Limits {
            max_pixels: pixels,
            max_memory: grown(self.max_memory),
            max_file: grown(self.max_file),
            ..self
        }
    }

    pub(crate) fn check_file(&self, length: u64) -> Result<()> {
        within("image", "the file's length in bytes", length, self.max_file)
    }

    /// Checks width, height and the number of pixels.
    pub(super) fn check_size(&self, place: &str, width: u64, height: u64) -> Result<()> {
        within(place, "the width in pixels", width, self.max_width)?;
        within(place, "the height in pixels", height, self.max_height)?;
        within(place, PIXELS, width.saturating_mul(height), self.max_pixels)
    }

    /// Checks the memory that decoding needs, in bytes.
    pub(super) fn check_memory(&self, place: &str, memory: u64) -> Result<()> {
        within(place, "the memory for decoding in bytes", memory, self.max_memory)
    }

    /// Checks the decoded bytes of an image of `area` pixels against the length of its file.
    pub(super) fn check_expansion(&self, place: &str, area: u64, decoded: u64, file: usize) -> Result<()> {
        if area <= BLANK_PIXELS && decoded <= BLANK_BYTES {
            return Ok(());
        }
        within(place, EXPANSION, decoded / (file as u64).max(1), self.max_expansion)
    }
}

fn within(place: &str, what: &'static str, found: u64, limit: u64) -> Result<()> {
    if found > limit {
        return Err(Error::Limit { place: place.into(), what, found, limit });
    }
    Ok(())
}
