//! Whether an image file goes on to its end, by its container alone.
//!
//! The WebP decoder may miss that a file was cut. The other decoders report it; there the walk over the container
//! explains their failure. JPEG has a module of its own.

use image::ImageFormat;

/// What a file lacks that its decoder would not notice.
pub(super) fn silently_missing(format: ImageFormat, bytes: &[u8]) -> Option<String> {
    match format {
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
