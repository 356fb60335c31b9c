//! Whether an image file goes on to its end, by its container alone.
//!
//! The JPEG decoder fills what a cut file lacks with gray and says nothing, so the end marker is looked for
//! here. The other decoders notice; there the walk over the container says why they failed.

use image::ImageFormat;

/// What a file lacks that its decoder would not notice.
pub(super) fn silently_missing(format: ImageFormat, bytes: &[u8]) -> Option<String> {
    match format {
        ImageFormat::Jpeg => jpeg(bytes),
        ImageFormat::WebP => webp(bytes),
        _ => None,
    }
}

/// What a file lacks, for the message of a decoder's failure.
pub(super) fn missing(format: ImageFormat, bytes: &[u8]) -> Option<String> {
    match format {
        ImageFormat::Png => png(bytes),
        ImageFormat::Gif => gif(bytes),
        ImageFormat::Qoi => qoi(bytes),
        _ => silently_missing(format, bytes),
    }
}

/// Segments up to the first scan by their lengths (a thumbnail inside one has an end marker of its own), then
/// markers in the entropy-coded data, to the end of image (ITU-T T.81, B.1 and B.2).
fn jpeg(bytes: &[u8]) -> Option<String> {
    let lacks = |what: &str| Some(format!("{} bytes without {what}", bytes.len()));
    let mut at = 2;
    loop {
        let Some(marker) =
            bytes[at.min(bytes.len())..].windows(2).position(|w| w[0] == 0xff && is_marker(w[1]))
        else {
            return lacks("the end-of-image marker");
        };
        at += marker + 2;
        match bytes[at - 1] {
            0xd9 => return None,
            0x01 | 0xd0..=0xd8 => {}
            _ => {
                let Some(length) = bytes.get(at..at + 2) else {
                    return lacks("the length of its last segment");
                };
                at += usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
            }
        }
    }
}

/// 00 is a stuffed zero and ff is fill, both inside entropy-coded data.
fn is_marker(code: u8) -> bool {
    code != 0 && code != 0xff
}

/// The length that the RIFF header states.
fn webp(bytes: &[u8]) -> Option<String> {
    let stated = u64::from(u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?)) + 8;
    // The odd last byte of padding is often left out.
    let found = bytes.len() as u64;
    (found + 1 < stated).then(|| format!("{found} bytes, the header states {stated}"))
}

/// Chunks by their lengths, to IEND.
fn png(bytes: &[u8]) -> Option<String> {
    let mut at = 8u64;
    loop {
        let header = usize::try_from(at).ok().and_then(|at| bytes.get(at..at.checked_add(8)?));
        let Some([l0, l1, l2, l3, kind @ ..]) = header else {
            return Some(format!("{} bytes without the IEND chunk", bytes.len()));
        };
        let length = u64::from(u32::from_be_bytes([*l0, *l1, *l2, *l3]));
        if kind == b"IEND" {
            return None;
        }
        let end = at + 12 + length;
        if !kind.iter().all(u8::is_ascii_alphabetic) {
            return None;
        }
        if end > bytes.len() as u64 {
            let kind = String::from_utf8_lossy(kind);
            return Some(format!(
                "chunk {kind} at byte {at} should end at {end}, the file has {}",
                bytes.len()
            ));
        }
        at = end;
    }
}

/// The eight bytes that end the stream.
fn qoi(bytes: &[u8]) -> Option<String> {
    (!bytes.ends_with(&[0, 0, 0, 0, 0, 0, 0, 1]))
        .then(|| format!("{} bytes without the end marker", bytes.len()))
}

/// Blocks up to the end of the first image (GIF 89a, 18 to 24).
fn gif(bytes: &[u8]) -> Option<String> {
    /// Offset behind the colour table whose flags are at `flags`, when it starts at `start`.
    fn behind_table(bytes: &[u8], flags: usize, start: usize) -> Option<usize> {
        let flags = *bytes.get(flags)?;
        Some(if flags & 0x80 != 0 { start + (6 << (flags & 7)) } else { start })
    }
    fn behind_blocks(bytes: &[u8], mut at: usize) -> Option<usize> {
        while *bytes.get(at)? != 0 {
            at += 1 + usize::from(bytes[at]);
        }
        Some(at + 1)
    }
    /// None when the bytes run out.
    fn walk(bytes: &[u8]) -> Option<()> {
        let mut at = behind_table(bytes, 10, 13)?;
        while *bytes.get(at)? == 0x21 {
            at = behind_blocks(bytes, at + 2)?;
        }
        if bytes[at] == 0x2c {
            behind_blocks(bytes, behind_table(bytes, at + 9, at + 10)? + 1)?;
        }
        Some(())
    }
    walk(bytes).is_none().then(|| format!("{} bytes without the end of the first image", bytes.len()))
}
