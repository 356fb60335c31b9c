//! One labelled image, read when asked.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::escape::path_name;
use crate::input::{self, Image, Limits};
use crate::{Error, Result};

/// An image with its class: where its bytes are, and in which form.
#[derive(Clone, Debug)]
pub struct Sample {
    class: u32,
    bytes: ByteSource,
    form: Encoding,
}

/// Where the bytes of an image are.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum ByteSource {
    /// A file of its own.
    File(PathBuf),
    /// Part of a file: a member of an archive, a row of a batch.
    Range { file: Arc<Path>, offset: u64, length: u64, name: String },
    /// In the program.
    BuiltIn { set: &'static str, index: usize, bytes: &'static [u8] },
}

/// What the bytes are.
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

    /// Index into the data set's classes.
    pub fn class(&self) -> u32 {
        self.class
    }

    pub(super) fn set_class(&mut self, class: u32) {
        self.class = class;
    }

    /// For messages: the path, or `archive:member`.
    pub fn name(&self) -> String {
        self.bytes.name()
    }

    /// Reads and decodes it.
    ///
    /// # Errors
    /// Those of [`decode`](input::decode) and of the file system, with this sample's name.
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
    /// The path, `archive:member` or `set:index`. Bytes that are not UTF-8 are escaped as `\xE8`.
    pub fn name(&self) -> String {
        match self {
            ByteSource::File(path) => path_name(path),
            ByteSource::Range { file, name, .. } => format!("{}:{name}", path_name(file)),
            ByteSource::BuiltIn { set, index, .. } => format!("{set}:{index}"),
        }
    }

    /// All of them.
    ///
    /// # Errors
    /// Those of the file system, and more bytes than `limits` allow a file.
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

/// `[C, H, W]` to an RGB image; one channel is repeated.
fn interleaved(planes: &[u8], channels: usize, height: usize, width: usize) -> Result<Image> {
    let area = height * width;
    let rgb = (0..area).flat_map(|i| [0, 1, 2].map(|c| planes[c.min(channels - 1) * area + i])).collect();
    Image::new(width, height, rgb, None)
}
