//! A labelled image, read on request.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::escape::path_name;
use crate::input::{self, Image, Limits};
use crate::{Error, Result};

/// An image with its class: the location of its bytes, and their encoding.
#[derive(Clone, Debug)]
pub struct Sample {
    class: u32,
    bytes: ByteSource,
    form: Encoding,
}

/// Location of the bytes of an image.
#[derive(Clone, Debug)]
pub enum ByteSource {
    /// A separate file.
    File(PathBuf),
    /// A part of a file: a member of an archive, or a row of a batch.
    Range {
        /// Path of the file.
        file: Arc<Path>,
        /// Offset of the bytes in the file.
        offset: u64,
        /// Number of bytes.
        length: u64,
        /// Name of the member or row, for messages.
        name: String,
    },
    /// Bytes in the program.
    BuiltIn {
        /// Name of the data set.
        set: &'static str,
        /// Index of the image in the data set.
        index: usize,
        /// The bytes.
        bytes: &'static [u8],
    },
}

/// Encoding of the bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Encoding {
    /// An image file.
    Encoded,
    /// Raw pixels, `[C, H, W]`, with 1 or 3 channels.
    Planar { channels: usize, height: usize, width: usize },
}

impl Sample {
    pub(super) fn new(class: u32, bytes: ByteSource, form: Encoding) -> Self {
        Sample { class, bytes, form }
    }

    /// Returns the index of the class in the data set.
    pub fn class(&self) -> u32 {
        self.class
    }

    pub(super) fn set_class(&mut self, class: u32) {
        self.class = class;
    }

    /// Returns the name for messages: the path, or `archive:member`.
    pub fn name(&self) -> String {
        self.bytes.name()
    }

    /// Reads and decodes the image.
    ///
    /// # Errors
    /// [`Error::Io`] if the bytes cannot be read, and the errors of [`decode`](input::decode()), with this sample's
    /// name.
    pub fn image(&self, limits: &Limits) -> Result<Image> {
        let image = || match self.form {
            Encoding::Encoded => input::decode(&self.bytes.read(limits)?, limits),
            Encoding::Planar { channels, height, width } => {
                interleaved(&self.bytes.read(limits)?, channels, height, width)
            }
        };
        image().map_err(|error| error.within(&self.name()))
    }
}

impl ByteSource {
    /// Returns the path, `archive:member` or `set:index`. Bytes that are not UTF-8 are escaped as `\xE8`.
    pub fn name(&self) -> String {
        match self {
            ByteSource::File(path) => path_name(path),
            ByteSource::Range { file, name, .. } => format!("{}:{name}", path_name(file)),
            ByteSource::BuiltIn { set, index, .. } => format!("{set}:{index}"),
        }
    }

    /// Reads all bytes.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Limit`] if it has more bytes than `limits` allow.
    pub fn read(&self, limits: &Limits) -> Result<Cow<'static, [u8]>> {
        match self {
            ByteSource::File(path) => {
                let mut bytes = Vec::new();
                let file = File::open(path).map_err(Error::io(path))?;
                // The length of a pipe or a growing file is known only after reading.
                file.take(limits.max_file.saturating_add(1))
                    .read_to_end(&mut bytes)
                    .map_err(Error::io(path))?;
                limits.check_file(bytes.len() as u64)?;
                Ok(bytes.into())
            }
            ByteSource::Range { file, offset, length, .. } => {
                limits.check_file(*length)?;
                let mut bytes = vec![0; *length as usize];
                let mut open = File::open(file).map_err(Error::io(&**file))?;
                open.seek(SeekFrom::Start(*offset)).map_err(Error::io(&**file))?;
                open.read_exact(&mut bytes).map_err(Error::io(&**file))?;
                Ok(bytes.into())
            }
            ByteSource::BuiltIn { bytes, .. } => Ok(Cow::Borrowed(bytes)),
        }
    }
}

/// Converts `[C, H, W]` to an RGB image; a single channel is repeated.
fn interleaved(planes: &[u8], channels: usize, height: usize, width: usize) -> Result<Image> {
    let area = height * width;
    let rgb = (0..area).flat_map(|i| [0, 1, 2].map(|c| planes[c.min(channels - 1) * area + i])).collect();
    Image::new(width, height, rgb, None)
}
