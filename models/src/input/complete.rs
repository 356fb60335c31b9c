//! Checks that an image file is complete, using only its container.
//!
//! The WebP decoder may not detect a truncated file. The other decoders detect it, and the container then explains
//! their error. JPEG has a separate module.

use image::ImageFormat;

/// Returns the missing part of a file whose decoder would not report it.
pub(super) fn silently_missing(format: ImageFormat, bytes: &[u8]) -> Option<String> {
    match format {
        ImageFormat::WebP => webp(bytes),
        _ => None,
    }
}

/// Returns the missing part of a file, for the message of a decoder's error.
pub(super) fn missing(format: ImageFormat, bytes: &[u8]) -> Option<String> {
    match format {
        ImageFormat::Png => png(bytes),
        ImageFormat::Gif => gif(bytes),
        ImageFormat::Qoi => qoi(bytes),
        _ => silently_missing(format, bytes),
    }
}

/// Checks the length in the RIFF header.
fn webp(bytes: &[u8]) -> Option<String> {
    let stated = u64::from(u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?)) + 8;
    // The padding byte after an odd length is often missing.
    let found = bytes.len() as u64;
    (found + 1 < stated).then(|| format!("{found} bytes, the header states {stated}"))
}

/// Checks the lengths of the chunks, up to IEND.
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

/// Checks for the eight bytes that end the stream.
fn qoi(bytes: &[u8]) -> Option<String> {
    (!bytes.ends_with(&[0, 0, 0, 0, 0, 0, 0, 1]))
        .then(|| format!("{} bytes without the end marker", bytes.len()))
}

/// Checks the blocks up to the end of the first image (GIF 89a, sections 18 to 24).
fn gif(bytes: &[u8]) -> Option<String> {
    /// Offset after the colour table whose flags are at `flags` and which starts at `start`.
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
    /// Returns `None` if the file ends too early.
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
