//! Truevision TGA files have no signature. They are recognised by a header with consistent fields.

/// Length of the header in bytes.
const HEADER: usize = 18;

/// Whether a file has the TGA signature at its end, or a header of a TGA.
pub(super) fn is_tga(bytes: &[u8]) -> bool {
    let Some(&header) = bytes.first_chunk::<HEADER>() else { return false };
    let [_, map, kind, ..] = header;
    let [map_length, map_bits] = [u16::from_le_bytes([header[5], header[6]]), header[7].into()];
    let [width, height] = [12, 14].map(|at| u16::from_le_bytes([header[at], header[at + 1]]));
    let [depth, flags] = [header[16], header[17]];
    let mapped = matches!(kind, 1 | 9);
    let fits = match map {
        0 => !mapped && map_length == 0 && map_bits == 0,
        1 => map_length > 0 && matches!(map_bits, 15 | 16 | 24 | 32),
        _ => false,
    };
    let depths: &[u8] = match kind {
        1 | 9 => &[8, 16],
        2 | 10 => &[15, 16, 24, 32],
        3 | 11 => &[8, 16],
        _ => return false,
    };
    let signed = bytes.ends_with(b"TRUEVISION-XFILE.\0");
    width > 0
        && height > 0
        && depths.contains(&depth)
        && (signed || fits && flags & 0xc0 == 0 && bytes.len() > HEADER)
}
