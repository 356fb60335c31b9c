//! Event files of scalars for TensorBoard.
//!
//! A file consists of TFRecord frames: length, its checksum, bytes, their checksum
//! (tensorflow/core/lib/io/record_writer.h). The bytes are `Event` messages (tensorflow/core/util/event.proto),
//! reduced to the fields that scalars need.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use milenas_models::file;
use prost::Message;

use crate::{Error, Result};

/// File name. TensorBoard searches for its middle part.
pub(crate) const NAME: &str = "events.out.tfevents.0.milenas";
/// File version, in the first event, as TensorBoard requires.
const VERSION: &str = "brain.Event:2";
/// Largest file that is extended, in bytes: a million epochs.
const MAX_BYTES: u64 = 1 << 30;

#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    /// Epoch, counted from 0.
    #[prost(int64, tag = "2")]
    step: i64,
    /// File version, in the first event of a file.
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    /// Scalars of the event.
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    /// Scalars.
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    /// Name of the scalar.
    #[prost(string, tag = "1")]
    tag: String,
    /// Value of the scalar.
    #[prost(float, tag = "2")]
    simple_value: f32,
}

/// Scalars of an epoch.
pub trait Scalars {
    /// Returns the epoch, counted from 0.
    fn epoch(&self) -> usize;
    /// Returns names and values. Names with a common prefix `a/` are shown together.
    fn scalars(&self) -> Vec<(Cow<'static, str>, f64)>;
}

/// Event file that is appended to.
#[derive(Debug)]
pub struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// Opens the event file in `folder`, or creates both. Removes events of `epoch` and later ones, and an
    /// incomplete event.
    pub fn open(folder: &Path, epoch: usize) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let path = folder.join(NAME);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(Error::io(&path))?;
        let whole = kept(&file::read(&path, MAX_BYTES)?, epoch) as u64;
        file.set_len(whole).and_then(|()| file.seek(SeekFrom::Start(whole))).map_err(Error::io(&path))?;
        let mut events = EventFile { file, path };
        if whole == 0 {
            events.append(&Event { file_version: Some(VERSION.into()), ..Event::default() })?;
        }
        Ok(events)
    }

    /// Appends the scalars of an epoch.
    pub fn record(&mut self, record: &impl Scalars) -> Result<()> {
        let scalar = |(tag, value): (Cow<'static, str>, f64)| Scalar {
            tag: tag.into_owned(),
            simple_value: value as f32,
        };
        let value = record.scalars().into_iter().map(scalar).collect();
        let step = record.epoch() as i64;
        self.append(&Event { step, summary: Some(Summary { value }), ..Event::default() })
    }

    fn append(&mut self, event: &Event) -> Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let event = Event { wall_time: now.as_secs_f64(), ..event.clone() };
        self.file.write_all(&frame(&event.encode_to_vec())).map_err(Error::io(&self.path))
    }
}

/// Returns the number of bytes of complete events of epochs before `epoch`, at the beginning.
fn kept(bytes: &[u8], epoch: usize) -> usize {
    let mut rest = bytes;
    while let Some((message, after)) = unframe(rest) {
        match Event::decode(message) {
            Ok(event) if event.summary.is_none() || event.step < epoch as i64 => rest = after,
            _ => break,
        }
    }
    bytes.len() - rest.len()
}

/// Returns TensorFlow's masked checksum: CRC32C, rotated and shifted, so that a checksum of checksums stays
/// useful.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

fn frame(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), message, &masked(message)].concat()
}

/// Returns the first message and the remaining bytes; `None` if bytes are missing or a checksum differs.
fn unframe(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    if *sum != masked(length) {
        return None;
    }
    let (message, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    (*sum == masked(message)).then_some((message, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Epoch(usize);

    impl Scalars for Epoch {
        fn epoch(&self) -> usize {
            self.0
        }

        fn scalars(&self) -> Vec<(Cow<'static, str>, f64)> {
            vec![("loss".into(), 1.0 / (self.0 + 1) as f64), ("entropy/normal".into(), 2.0)]
        }
    }

    fn steps(bytes: &[u8]) -> Vec<(i64, usize)> {
        let (mut rest, mut steps) = (bytes, Vec::new());
        while let Some((message, after)) = unframe(rest) {
            let event = Event::decode(message).unwrap();
            steps.push((event.step, event.summary.map_or(0, |summary| summary.value.len())));
            rest = after;
        }
        assert!(rest.is_empty());
        steps
    }

    #[test]
    fn frames_have_their_checksums() {
        // The check value of CRC-32/ISCSI, and RFC 3720, B.4: 32 bytes of zeros.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        // TensorFlow's own event files begin like this: a message of 24 bytes, and the masked checksum of that
        // length.
        assert_eq!(frame(&[0; 24])[..12], [0x18, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22]);
        let event = Event { wall_time: 1.0, file_version: Some(VERSION.into()), ..Event::default() };
        assert_eq!(event.encoded_len(), 24);
        let framed = frame(b"message");
        assert_eq!(unframe(&framed), Some((&b"message"[..], &[][..])));
        for at in 0..framed.len() {
            let mut flipped = framed.clone();
            flipped[at] ^= 1;
            assert_eq!(unframe(&flipped), None, "byte {at}");
            assert_eq!(unframe(&framed[..at]), None, "{at} bytes");
        }
    }

    #[test]
    fn a_truncated_file_is_reopened_before_the_epoch() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(NAME);
        let mut events = EventFile::open(place.path(), 0).unwrap();
        (0..3).for_each(|epoch| events.record(&Epoch(epoch)).unwrap());
        let whole = fs::read(&path).unwrap();
        let expected = steps(&whole);
        assert_eq!(expected, [(0, 0), (0, 2), (1, 2), (2, 2)]);
        for length in 0..=whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let mut events = EventFile::open(place.path(), 1).unwrap();
            let kept = steps(&fs::read(&path).unwrap());
            assert!(kept.len() <= 2 && !kept.is_empty() && expected.starts_with(&kept), "{length}: {kept:?}");
            (kept.len() - 1..3).for_each(|epoch| events.record(&Epoch(epoch)).unwrap());
            assert_eq!(steps(&fs::read(&path).unwrap()), expected, "{length}");
        }
    }
}
