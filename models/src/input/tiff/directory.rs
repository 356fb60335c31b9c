//! The first directory of a TIFF: its tags and their values.

use std::ops::Range;

use super::{malformed, truncated};
use crate::Result;

pub(super) const SUBFILE: u16 = 254;
pub(super) const WIDTH: u16 = 256;
pub(super) const HEIGHT: u16 = 257;
pub(super) const BITS: u16 = 258;
pub(super) const COMPRESSION: u16 = 259;
pub(super) const PHOTOMETRIC: u16 = 262;
pub(super) const FILL_ORDER: u16 = 266;
pub(super) const STRIP_OFFSETS: u16 = 273;
pub(super) const ORIENTATION: u16 = 274;
pub(super) const SAMPLES: u16 = 277;
pub(super) const ROWS_PER_STRIP: u16 = 278;
pub(super) const STRIP_LENGTHS: u16 = 279;
pub(super) const PLANAR: u16 = 284;
pub(super) const FAX_OPTIONS: u16 = 292;
pub(super) const PREDICTOR: u16 = 317;
pub(super) const COLOUR_MAP: u16 = 320;
pub(super) const TILE_WIDTH: u16 = 322;
pub(super) const TILE_HEIGHT: u16 = 323;
pub(super) const TILE_OFFSETS: u16 = 324;
pub(super) const TILE_LENGTHS: u16 = 325;
pub(super) const SUB_DIRECTORIES: u16 = 330;
pub(super) const INK_SET: u16 = 332;
pub(super) const EXTRA_SAMPLES: u16 = 338;
pub(super) const SAMPLE_FORMAT: u16 = 339;
pub(super) const JPEG_TABLES: u16 = 347;
pub(super) const YCBCR_COEFFICIENTS: u16 = 529;
pub(super) const YCBCR_SUBSAMPLING: u16 = 530;
pub(super) const REFERENCE_BLACK_WHITE: u16 = 532;
pub(super) const DNG_VERSION: u16 = 50706;

/// Largest number of values of a tag: an image may have a strip or tile per row.
const MOST_VALUES: u64 = 1 << 22;

/// Entries of the first directory.
pub(super) struct Directory<'a> {
    bytes: &'a [u8],
    big_endian: bool,
    entries: Vec<DirectoryEntry>,
}

/// An entry: its tag, its type, and the location of its values.
struct DirectoryEntry {
    tag: u16,
    kind: u16,
    values: Range<u64>,
}

/// Number of bytes of a value of each type, from type 1 on; 0 for unknown types.
const SIZES: [u64; 18] = [1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8];

impl<'a> Directory<'a> {
    /// Reads the directory that the header points to.
    ///
    /// # Errors
    /// [`Error::Truncated`](crate::Error::Truncated) if the file ends before the directory does,
    /// [`Error::Malformed`](crate::Error::Malformed) if it has too many entries.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self> {
        let big_endian = bytes.starts_with(b"MM");
        let mut directory = Directory { bytes, big_endian, entries: Vec::new() };
        let big = directory.word(2)? == 43;
        // Lengths in bytes of an offset, of the number of entries, and of an entry.
        let (offset, count, entry) = if big { (8, 8, 20) } else { (4, 2, 12) };
        let start = directory.unsigned(if big { 8 } else { 4 }, offset)?;
        let entries = directory.unsigned(start, count)?;
        if entries > 0xffff {
            return Err(malformed(format!("the directory has {entries} entries, expected at most 65535")));
        }
        for i in 0..entries {
            let at = start.saturating_add(count + i * entry);
            let [tag, kind] = [directory.word(at)?, directory.word(at.saturating_add(2))?];
            let values = directory.unsigned(at.saturating_add(4), offset)?;
            let size = SIZES.get(usize::from(kind).wrapping_sub(1)).copied().unwrap_or(0);
            let length = values.saturating_mul(size);
            let mut place = at.saturating_add(4 + offset);
            if length > offset {
                place = directory.unsigned(place, offset)?;
            }
            if size > 0 {
                directory.entries.push(DirectoryEntry {
                    tag,
                    kind,
                    values: place..place.saturating_add(length),
                });
            }
        }
        Ok(directory)
    }

    pub(super) fn big_endian(&self) -> bool {
        self.big_endian
    }

    /// Returns the bytes of a range of the file.
    ///
    /// # Errors
    /// [`Error::Truncated`](crate::Error::Truncated) for a range past the end of the file.
    pub(super) fn slice(&self, range: Range<u64>) -> Result<&'a [u8]> {
        let within = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        within.and_then(|(start, end)| self.bytes.get(start..end)).ok_or_else(|| {
            truncated(format!("{} bytes, expected some up to {}", self.bytes.len(), range.end))
        })
    }

    fn unsigned(&self, at: u64, length: u64) -> Result<u64> {
        let bytes = self.slice(at..at.saturating_add(length))?;
        let add = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        Ok(if self.big_endian { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) })
    }

    fn word(&self, at: u64) -> Result<u16> {
        Ok(self.unsigned(at, 2)? as u16)
    }

    fn entry(&self, tag: u16) -> Option<&DirectoryEntry> {
        self.entries.iter().find(|entry| entry.tag == tag)
    }

    pub(super) fn has(&self, tag: u16) -> bool {
        self.entry(tag).is_some()
    }

    /// Returns the bytes of a tag's values.
    pub(super) fn raw(&self, tag: u16) -> Result<Option<&'a [u8]>> {
        self.entry(tag).map(|entry| self.slice(entry.values.clone())).transpose()
    }

    /// Returns the unsigned values of a tag; none for a tag that is missing or has another type.
    ///
    /// # Errors
    /// [`Error::Truncated`](crate::Error::Truncated) for values past the end of the file,
    /// [`Error::Malformed`](crate::Error::Malformed) for too many values.
    pub(super) fn numbers(&self, tag: u16) -> Result<Vec<u64>> {
        let Some(entry) = self.entry(tag) else { return Ok(Vec::new()) };
        let size = match entry.kind {
            1 | 7 => 1,
            3 => 2,
            4 | 13 => 4,
            16 | 18 => 8,
            _ => return Ok(Vec::new()),
        };
        self.slice(entry.values.clone())?;
        let count = (entry.values.end - entry.values.start) / size;
        if count > MOST_VALUES {
            return Err(malformed(format!("tag {tag} has {count} values, expected at most {MOST_VALUES}")));
        }
        (0..count).map(|i| self.unsigned(entry.values.start + i * size, size)).collect()
    }

    /// Returns the first of the unsigned values of a tag.
    pub(super) fn number(&self, tag: u16) -> Result<Option<u64>> {
        Ok(self.numbers(tag)?.first().copied())
    }

    /// Returns the fractions of a tag; none for a tag that is missing or has another type.
    pub(super) fn fractions(&self, tag: u16) -> Result<Vec<f64>> {
        let Some(entry) = self.entry(tag).filter(|entry| matches!(entry.kind, 5)) else {
            return Ok(Vec::new());
        };
        let starts = entry.values.clone().step_by(8).take(16);
        starts
            .map(|at| Ok(self.unsigned(at, 4)? as f64 / (self.unsigned(at + 4, 4)? as f64).max(1.0)))
            .collect()
    }
}
