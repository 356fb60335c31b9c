//! Storage format of the pixels of a TIFF, and the rejection of unsupported formats.

use std::ops::Range;

use super::directory::{self as tag, Directory};
use super::{PLACE, malformed, unread};
use crate::input::{Limits, known};
use crate::{Error, Result};

/// Number format of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SampleFormat {
    Unsigned,
    Signed,
    Float,
}

/// Compression of the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Group3,
    Group4,
    Lzw,
    Jpeg,
    Deflate,
    PackBits,
}

/// Meaning of the samples of a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Photometric {
    WhiteIsZero,
    BlackIsZero,
    Rgb,
    Palette,
    Cmyk,
    YCbCr,
}

/// Predictor of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Predictor {
    None,
    Left,
    Float,
}

/// Alpha of the pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alpha {
    /// Index of alpha among the samples of a pixel.
    pub(super) sample: usize,
    pub(super) premultiplied: bool,
}

/// Storage format of the pixels.
#[derive(Debug)]
pub(super) struct TiffLayout {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Number of samples per pixel, including alpha and samples without meaning.
    pub(super) samples: usize,
    /// Number of bits per sample, 1 to 64.
    pub(super) bits: u32,
    pub(super) format: SampleFormat,
    pub(super) meaning: Photometric,
    pub(super) compression: Compression,
    pub(super) predictor: Predictor,
    pub(super) alpha: Option<Alpha>,
    /// Whether each sample has a plane of its own; if not, all samples of a pixel are stored together.
    pub(super) planar: bool,
    /// Width and height of a strip or tile, in pixels.
    pub(super) chunk: [usize; 2],
    pub(super) tiled: bool,
    /// Horizontal and vertical subsampling of colour differences in strips that are not JPEG.
    pub(super) subsampling: [usize; 2],
    pub(super) big_endian: bool,
    /// Whether the first pixel is in the lowest bits of a byte.
    pub(super) reversed: bool,
    /// Whether the colours are YCbCr in JPEG, which become RGB when a strip or tile is expanded.
    pub(super) jpeg_colours: bool,
    chunks: Vec<Range<u64>>,
}

impl TiffLayout {
    /// Reads the storage format from the tags.
    ///
    /// # Errors
    /// [`Error::Limit`] for a size above `limits`, [`Error::Malformed`] for contradicting tags and unsupported
    /// formats.
    pub(super) fn read(directory: &Directory, limits: &Limits) -> Result<Self> {
        let number = |tag: u16, default: u64| Ok::<_, Error>(directory.number(tag)?.unwrap_or(default));
        let [width, height] = [number(tag::WIDTH, 0)?, number(tag::HEIGHT, 0)?];
        let photometric = number(tag::PHOTOMETRIC, u64::MAX)?;
        let compression = number(tag::COMPRESSION, 1)?;
        refuse_raw(directory, photometric)?;
        if width == 0 || height == 0 {
            return Err(malformed(format!("the size is {width}x{height}, expected one pixel or more")));
        }
        limits.check_size(PLACE, width, height)?;

        let samples = number(tag::SAMPLES, 1)?;
        let bits = directory.numbers(tag::BITS)?;
        let formats = directory.numbers(tag::SAMPLE_FORMAT)?;
        let extra = directory.numbers(tag::EXTRA_SAMPLES)?;
        let compression = compression_of(compression)?;
        let meaning = meaning_of(photometric)?;
        if !(1..=64).contains(&samples) {
            return Err(unread(format_args!("{samples} samples for each pixel")));
        }
        let used = bits.get(..bits.len().min(samples as usize)).unwrap_or_default();
        let bits = used.first().copied().unwrap_or(1);
        if used.iter().any(|&other| other != bits) {
            return Err(unread("samples of different numbers of bits"));
        }
        let format = match formats.first().copied().unwrap_or(1) {
            1 | 4 => SampleFormat::Unsigned,
            2 => SampleFormat::Signed,
            3 => SampleFormat::Float,
            _ => return Err(unread("complex numbers")),
        };
        match (format, bits) {
            (SampleFormat::Unsigned, 1..=32 | 64)
            | (SampleFormat::Signed, 16 | 32 | 64)
            | (SampleFormat::Float, 16 | 32 | 64) => {}
            (SampleFormat::Signed, 8) => {
                return Err(unread("signed 8-bit integers, whose black is not defined"));
            }
            (SampleFormat::Signed, _) => return Err(unread(format_args!("signed integers of {bits} bits"))),
            (SampleFormat::Float, _) => {
                return Err(unread(format_args!("floating-point values of {bits} bits")));
            }
            (SampleFormat::Unsigned, _) => return Err(unread(format_args!("samples of {bits} bits"))),
        }
        if meaning == Photometric::Palette && (bits > 16 || format != SampleFormat::Unsigned) {
            return Err(unread(format_args!("a palette and {bits} bits")));
        }
        if meaning == Photometric::Cmyk && number(tag::INK_SET, 1)? != 1 {
            return Err(unread("inks other than cyan, magenta, yellow and black"));
        }
        let alpha = alpha(meaning, samples as usize, &extra)?;
        let predictor = match number(tag::PREDICTOR, 1)? {
            // As in libtiff, the tag applies to only two compressions.
            _ if !matches!(compression, Compression::Lzw | Compression::Deflate) => Predictor::None,
            1 => Predictor::None,
            2 => Predictor::Left,
            3 if format == SampleFormat::Float => Predictor::Float,
            other => return Err(unread(format_args!("predictor {other}"))),
        };
        let mut layout = TiffLayout {
            width: width as usize,
            height: height as usize,
            samples: samples as usize,
            bits: bits as u32,
            format,
            meaning,
            compression,
            predictor,
            alpha,
            planar: number(tag::PLANAR, 1)? == 2 && samples > 1,
            chunk: [0; 2],
            tiled: directory.has(tag::TILE_WIDTH),
            subsampling: [1; 2],
            big_endian: directory.big_endian(),
            reversed: number(tag::FILL_ORDER, 1)? == 2,
            jpeg_colours: false,
            chunks: Vec::new(),
        };
        layout.subsample(directory)?;
        layout.place_chunks(directory)?;
        layout.refuse_faxes(directory)?;
        if compression == Compression::Jpeg {
            if bits != 8 {
                return Err(unread(format_args!("JPEG compression of {bits} bits a sample")));
            }
            // The JPEG decoder converts the colours.
            layout.jpeg_colours = meaning == Photometric::YCbCr && !layout.planar;
            layout.meaning = if layout.jpeg_colours { Photometric::Rgb } else { meaning };
        }
        Ok(layout)
    }

    fn subsample(&mut self, directory: &Directory) -> Result<()> {
        if self.meaning != Photometric::YCbCr || self.compression == Compression::Jpeg {
            return Ok(());
        }
        self.subsampling = match directory.numbers(tag::YCBCR_SUBSAMPLING)?[..] {
            [] => [2, 2],
            [across, down] if [1, 2, 4].contains(&across) && [1, 2, 4].contains(&down) => {
                [across as usize, down as usize]
            }
            ref other => return Err(unread(format_args!("colour subsampling {other:?}"))),
        };
        if self.subsampling != [1, 1] && (self.bits != 8 || self.samples != 3 || self.planar) {
            return Err(unread("subsampled YCbCr colours other than 3 samples of 8 bits"));
        }
        if self.subsampling != [1, 1] && self.predictor != Predictor::None {
            return Err(unread("subsampled YCbCr colours and a predictor"));
        }
        Ok(())
    }

    fn place_chunks(&mut self, directory: &Directory) -> Result<()> {
        let number = |tag: u16, default: u64| Ok::<_, Error>(directory.number(tag)?.unwrap_or(default));
        // Some writers store the offsets of tiles in the tags of strips.
        let [offsets, lengths] = match directory.has(tag::TILE_OFFSETS) {
            true => [tag::TILE_OFFSETS, tag::TILE_LENGTHS],
            false => [tag::STRIP_OFFSETS, tag::STRIP_LENGTHS],
        };
        let chunk = match self.tiled {
            true => [number(tag::TILE_WIDTH, 0)?, number(tag::TILE_HEIGHT, 0)?],
            false => {
                let rows = number(tag::ROWS_PER_STRIP, u64::MAX)?;
                [self.width as u64, rows.min(self.height as u64)]
            }
        };
        // Tiles are multiples of 16 pixels, and may be larger than the image.
        let most = |size: usize| (size as u64).next_multiple_of(16).max(1 << 16);
        if chunk[0] == 0 || chunk[1] == 0 || chunk[0] > most(self.width) || chunk[1] > most(self.height) {
            return Err(malformed(format!(
                "the size of a strip or tile is {}x{} pixels",
                chunk[0], chunk[1]
            )));
        }
        self.chunk = chunk.map(|size| size as usize);
        let [offsets, mut lengths] = [directory.numbers(offsets)?, directory.numbers(lengths)?];
        let [columns, rows] = self.grid();
        let expected = columns * rows * self.planes();
        if lengths.is_empty() && self.compression == Compression::None {
            lengths = vec![self.chunk_bytes(); offsets.len()];
        }
        if offsets.len() < expected || lengths.len() < expected {
            let found = offsets.len().min(lengths.len());
            return Err(malformed(format!("{found} strips or tiles, expected {expected}")));
        }
        let range = |(start, length): (u64, u64)| start..start.saturating_add(length);
        self.chunks = offsets.into_iter().zip(lengths).map(range).collect();
        Ok(())
    }

    fn refuse_faxes(&self, directory: &Directory) -> Result<()> {
        if !matches!(self.compression, Compression::Group3 | Compression::Group4) {
            return Ok(());
        }
        if self.bits != 1 || self.samples != 1 {
            return Err(malformed("fax compression of an image that is not of one bit"));
        }
        let options = directory.number(tag::FAX_OPTIONS)?.unwrap_or(0);
        if self.compression == Compression::Group3 && options & 1 != 0 {
            return Err(unread("two-dimensional fax compression (CCITT Group 3)"));
        }
        if self.chunk[0] > usize::from(u16::MAX) {
            return Err(unread(format_args!("fax compression of rows of {} pixels", self.chunk[0])));
        }
        Ok(())
    }

    /// Columns and rows of the grid of strips or tiles.
    pub(super) fn grid(&self) -> [usize; 2] {
        [self.width.div_ceil(self.chunk[0]), self.height.div_ceil(self.chunk[1])]
    }

    /// Number of planes that strips or tiles are stored in.
    pub(super) fn planes(&self) -> usize {
        if self.planar { self.samples } else { 1 }
    }

    /// Number of samples of a pixel in one plane.
    pub(super) fn plane_samples(&self) -> usize {
        if self.planar { 1 } else { self.samples }
    }

    /// Number of bytes of a row of a strip or tile, if colours are not subsampled.
    pub(super) fn row_bytes(&self) -> usize {
        (self.chunk[0] * self.plane_samples() * self.bits as usize).div_ceil(8)
    }

    /// Number of bytes of an expanded strip or tile of one plane.
    pub(super) fn chunk_bytes(&self) -> u64 {
        self.row_bytes() as u64 * self.chunk[1] as u64
    }

    /// Number of rows of the strips in row `row` of the grid. The last strips may be shorter; tiles never are.
    pub(super) fn chunk_rows(&self, row: usize) -> usize {
        if self.tiled { self.chunk[1] } else { self.chunk[1].min(self.height - row * self.chunk[1]) }
    }

    /// Range of the file with a strip or tile of a plane.
    pub(super) fn chunk_range(&self, plane: usize, column: usize, row: usize) -> Range<u64> {
        let [columns, rows] = self.grid();
        self.chunks[plane * columns * rows + row * columns + column].clone()
    }
}

/// Rejects camera raw files, which are TIFFs too. Their first image is a thumbnail, or the values of the sensor.
fn refuse_raw(directory: &Directory, photometric: u64) -> Result<()> {
    if directory.has(tag::DNG_VERSION) {
        return Err(known::raw_refusal(PLACE, "DNG"));
    }
    if photometric == 32803 || photometric == 34892 {
        return Err(known::raw_refusal(PLACE, "values of the sensor in a TIFF"));
    }
    let reduced = directory.number(tag::SUBFILE)?.unwrap_or(0) & 1 == 1;
    if reduced && directory.has(tag::SUB_DIRECTORIES) {
        return Err(known::raw_refusal(PLACE, "NEF, ARW or another TIFF that holds a thumbnail first"));
    }
    Ok(())
}

fn compression_of(code: u64) -> Result<Compression> {
    Ok(match code {
        1 => Compression::None,
        3 => Compression::Group3,
        4 => Compression::Group4,
        5 => Compression::Lzw,
        7 => Compression::Jpeg,
        8 | 32946 => Compression::Deflate,
        32773 => Compression::PackBits,
        2 => return Err(unread("fax compression (CCITT modified Huffman)")),
        6 => return Err(unread("old-style JPEG compression")),
        32809 => return Err(unread("ThunderScan compression")),
        33003 | 33005 | 34712 => return Err(unread("JPEG 2000 compression")),
        34661 => return Err(unread("JBIG compression")),
        34676 | 34677 => return Err(unread("LogLuv compression")),
        34713 | 32767 | 65535 | 34892 => return Err(unread("the compression of a camera raw file")),
        34887 => return Err(unread("LERC compression")),
        34925 => return Err(unread("LZMA compression")),
        50000 => return Err(unread("Zstandard compression")),
        50001 | 34927 => return Err(unread("WebP compression")),
        50002 | 52546 => return Err(unread("JPEG XL compression")),
        other => return Err(unread(format_args!("compression {other}"))),
    })
}

fn meaning_of(photometric: u64) -> Result<Photometric> {
    Ok(match photometric {
        0 => Photometric::WhiteIsZero,
        1 => Photometric::BlackIsZero,
        2 => Photometric::Rgb,
        3 => Photometric::Palette,
        5 => Photometric::Cmyk,
        6 => Photometric::YCbCr,
        4 => return Err(unread("a transparency mask alone")),
        8..=10 => return Err(unread("CIE L*a*b* colours")),
        32844 | 32845 => return Err(unread("LogLuv colours")),
        u64::MAX => return Err(malformed("the photometric interpretation is missing")),
        other => return Err(unread(format_args!("photometric interpretation {other}"))),
    })
}

/// Finds alpha among the extra samples. RGB with one more sample and no tag for it is RGBA, as in Pillow and libtiff.
fn alpha(meaning: Photometric, samples: usize, extra: &[u64]) -> Result<Option<Alpha>> {
    let colours = match meaning {
        Photometric::WhiteIsZero | Photometric::BlackIsZero | Photometric::Palette => 1,
        Photometric::Rgb | Photometric::YCbCr => 3,
        Photometric::Cmyk => 4,
    };
    if samples < colours {
        return Err(malformed(format!("{samples} samples for each pixel, expected {colours} or more")));
    }
    let unnamed = extra.iter().all(|&kind| kind != 1 && kind != 2);
    if colours == 1 && samples > 2 && unnamed {
        return Err(unread(format_args!("{samples} bands of unknown meaning")));
    }
    let kinds = if extra.is_empty() && meaning == Photometric::Rgb { &[2] } else { extra };
    let found = kinds.iter().take(samples - colours).position(|&kind| kind == 1 || kind == 2 || kind == 999);
    Ok(found.map(|i| Alpha { sample: colours + i, premultiplied: kinds[i] == 1 }))
}
