//! Expansion of stored strips and tiles to the bytes of their samples.

use std::borrow::Cow;
use std::io::Read;

use fax::Color;
use fax::decoder::{Group3Decoder, Group4Decoder, pels};
use flate2::read::ZlibDecoder;
use jpeg_decoder::ColorTransform;
use weezl::{BitOrder, decode::Configuration};

use super::directory::{self as tag, Directory};
use super::layout::{Compression, TiffLayout};
use super::{malformed, truncated, unread};
use crate::Result;
use crate::input::jpeg::Structure;

/// Expands all planes of the strip or tile in `cell` of the grid. A plane has [`TiffLayout::row_bytes`] bytes for
/// each of its rows.
///
/// # Errors
/// [`Error::Truncated`](crate::Error::Truncated) for a strip or tile that ends before its pixels do,
/// [`Error::Malformed`](crate::Error::Malformed) for a damaged or unsupported one.
pub(super) fn planes(
    bytes: &[u8],
    directory: &Directory,
    layout: &TiffLayout,
    cell: [usize; 2],
) -> Result<Vec<Vec<u8>>> {
    (0..layout.planes()).map(|plane| expanded(bytes, directory, layout, plane, cell)).collect()
}

fn expanded(
    bytes: &[u8],
    directory: &Directory,
    layout: &TiffLayout,
    plane: usize,
    cell: [usize; 2],
) -> Result<Vec<u8>> {
    let rows = layout.chunk_rows(cell[1]);
    let length = match layout.subsampling {
        [1, 1] => rows * layout.row_bytes(),
        [across, down] => layout.chunk[0].div_ceil(across) * rows.div_ceil(down) * (across * down + 2),
    };
    let mut range = layout.chunk_range(plane, cell[0], cell[1]);
    if layout.compression == Compression::None && range.is_empty() {
        // Some writers state no length; it is then the length of the pixels.
        range.end = range.start.saturating_add(length as u64);
    }
    let stored = directory.slice(range)?;
    let stored: Cow<[u8]> = match layout.reversed {
        true => stored.iter().map(|byte| byte.reverse_bits()).collect(),
        false => stored.into(),
    };
    let place = format_args!("strip or tile {}, {}", cell[0], cell[1]);
    let mut out = match layout.compression {
        Compression::None => stored.into_owned(),
        Compression::Lzw => lzw(&stored, length),
        Compression::Deflate => inflated(ZlibDecoder::new(&*stored), length),
        Compression::PackBits => unpacked(&stored, length),
        Compression::Group3 => group3(&stored, layout.chunk[0], rows),
        Compression::Group4 => group4(&stored, layout.chunk[0], rows),
        Compression::Jpeg => jpeg(&stored, directory, layout, rows)?,
    };
    if out.len() < length {
        let problem = format!("{place}: {} bytes of pixels, expected {length}; ", out.len());
        return Err(truncated(format!("{problem}the file has {} bytes", bytes.len())));
    }
    out.truncate(length);
    Ok(if layout.subsampling == [1, 1] { out } else { upsampled(&out, layout, rows) })
}

/// Reads up to `length` bytes. Damaged data give fewer bytes.
fn inflated(source: impl Read, length: usize) -> Vec<u8> {
    let mut out = Vec::new();
    // After an error, `out` has the bytes that were read before it.
    let _ = source.take(length as u64).read_to_end(&mut out);
    out
}

/// Expands LZW, also in the form that libtiff wrote before 1991. That form begins with a clear code from the lowest
/// bit.
fn lzw(stored: &[u8], length: usize) -> Vec<u8> {
    let old = matches!(stored, [0, second, ..] if second & 1 == 1);
    let configuration = match old {
        true => Configuration::new(BitOrder::Lsb, 8),
        false => Configuration::with_tiff_size_switch(BitOrder::Msb, 8),
    };
    let mut decoder = configuration.with_yield_on_full_buffer(true).build();
    let (mut out, mut from) = (Vec::new(), 0);
    let mut buffer = [0; 1 << 14];
    while out.len() < length {
        let step = decoder.decode_bytes(&stored[from..], &mut buffer);
        from += step.consumed_in;
        out.extend(&buffer[..step.consumed_out]);
        if step.status.is_err() || step.consumed_in + step.consumed_out == 0 {
            break;
        }
    }
    out
}

/// Expands PackBits (TIFF 6.0, section 9).
fn unpacked(mut stored: &[u8], length: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while let ([head, rest @ ..], true) = (stored, out.len() < length) {
        let head = *head as i8;
        stored = match (head, rest) {
            (-128, _) => rest,
            (0.., _) => {
                let count = (head as usize + 1).min(rest.len());
                out.extend(&rest[..count]);
                &rest[count..]
            }
            (_, [byte, rest @ ..]) => {
                out.extend(std::iter::repeat_n(*byte, 1 - isize::from(head) as usize));
                rest
            }
            (_, []) => rest,
        };
    }
    out
}

/// Writes a row of fax pixels. Black pixels are ones, and the first pixel is the highest bit.
fn fax_row(transitions: &[u16], width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + width.div_ceil(8), 0);
    for (x, colour) in pels(transitions, width as u16).enumerate() {
        if colour == Color::Black {
            out[start + x / 8] |= 0x80 >> (x % 8);
        }
    }
}

fn group3(stored: &[u8], width: usize, rows: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let source = stored.iter().map(|&byte| Ok::<_, std::convert::Infallible>(byte));
    let Ok(mut decoder) = Group3Decoder::new(source) else { return out };
    for _ in 0..rows {
        // The last row may have no end code.
        let last = decoder.advance();
        if last.is_err() && decoder.transitions().is_empty() {
            break;
        }
        fax_row(decoder.transitions(), width, &mut out);
        if !matches!(last, Ok(fax::decoder::DecodeStatus::Incomplete)) {
            break;
        }
    }
    out
}

fn group4(stored: &[u8], width: usize, rows: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let source = stored.iter().map(|&byte| Ok::<_, std::convert::Infallible>(byte));
    let Ok(mut decoder) = Group4Decoder::new(source, width as u16);
    for _ in 0..rows {
        match decoder.advance() {
            Ok(fax::decoder::DecodeStatus::Incomplete) => fax_row(decoder.transition(), width, &mut out),
            // Writers may omit white rows before the end.
            Ok(fax::decoder::DecodeStatus::End) => {
                out.resize(rows * width.div_ceil(8), 0);
                break;
            }
            Err(_) => break,
        }
    }
    out
}

/// Decodes the JPEG of a strip or tile, with the tables that all of them share.
fn jpeg(stored: &[u8], directory: &Directory, layout: &TiffLayout, rows: usize) -> Result<Vec<u8>> {
    let tables = directory.raw(tag::JPEG_TABLES)?.unwrap_or_default();
    let tables = tables.strip_suffix(b"\xff\xd9").unwrap_or(tables);
    let whole = match (tables.is_empty(), stored) {
        (false, [0xff, 0xd8, rest @ ..]) => [tables, rest].concat(),
        _ => stored.to_vec(),
    };
    let structure = Structure::read(&whole);
    if let Some(kind) = structure.unread() {
        return Err(unread(kind));
    }
    if let Some(problem) = super::super::jpeg::missing(&whole, &structure) {
        return Err(truncated(problem));
    }
    let mut decoder = jpeg_decoder::Decoder::new(&*whole);
    // No conversion of colours is applied; that of CMYK inverts the samples.
    decoder.set_color_transform(match (layout.jpeg_colours, layout.plane_samples()) {
        (true, _) => ColorTransform::YCbCr,
        (false, 3) => ColorTransform::RGB,
        (false, 4) => ColorTransform::CMYK,
        (false, _) => ColorTransform::None,
    });
    decoder.set_max_decoding_buffer_size(rows.saturating_mul(layout.row_bytes()).saturating_mul(4));
    let damaged = |error: jpeg_decoder::Error| match error {
        jpeg_decoder::Error::Unsupported(_) => unread("a kind of JPEG compression that is not read"),
        _ => malformed("the JPEG of a strip or tile is damaged"),
    };
    decoder.read_info().map_err(damaged)?;
    let Some(info) = decoder.info() else { return Err(malformed("JPEG of a strip or tile without a frame")) };
    let [width, height] = [info.width, info.height].map(usize::from);
    let samples = info.pixel_format.pixel_bytes();
    if samples != layout.plane_samples() || width > layout.chunk[0] || height > layout.chunk[1] {
        let [chunk_width, chunk_height] = layout.chunk;
        let expected = format!("{chunk_width}x{chunk_height} with {} samples", layout.plane_samples());
        return Err(malformed(format!(
            "a strip or tile is {width}x{height} pixels with {samples} samples in its JPEG, expected {expected}"
        )));
    }
    let mut pixels = decoder.decode().map_err(damaged)?;
    if samples == 4 {
        pixels.iter_mut().for_each(|sample| *sample = 255 - *sample);
    }
    if width == layout.chunk[0] {
        return Ok(pixels);
    }
    let mut out = vec![0; layout.row_bytes() * height];
    let stored_rows = pixels.chunks_exact((width * samples).max(1));
    for (out, row) in out.chunks_exact_mut(layout.row_bytes()).zip(stored_rows) {
        out[..row.len()].copy_from_slice(row);
    }
    Ok(out)
}

/// Converts 8-bit YCbCr whose differences are stored once per block of pixels to three samples per pixel.
fn upsampled(stored: &[u8], layout: &TiffLayout, rows: usize) -> Vec<u8> {
    let [across, down] = layout.subsampling;
    let (width, unit) = (layout.chunk[0], across * down + 2);
    let blocks = width.div_ceil(across);
    let mut out = Vec::with_capacity(3 * width * rows);
    for y in 0..rows {
        for x in 0..width {
            let block = &stored[(y / down * blocks + x / across) * unit..][..unit];
            out.extend([block[y % down * across + x % across], block[unit - 2], block[unit - 1]]);
        }
    }
    out
}
