//! Conversion of the bytes of an expanded strip or tile to sample values: packed bits, byte order, predictors.

use super::layout::{Predictor, SampleFormat, TiffLayout};

/// The rows of a strip or tile.
pub(super) struct StripRows<'a> {
    layout: &'a TiffLayout,
    /// Expanded bytes, by plane.
    planes: Vec<Vec<u8>>,
    /// Values of a row of one plane.
    plane: Vec<u64>,
    /// Values of a row, `[chunk width, samples]`.
    values: Vec<u64>,
}

impl<'a> StripRows<'a> {
    pub(super) fn new(layout: &'a TiffLayout, planes: Vec<Vec<u8>>) -> Self {
        StripRows { layout, planes, plane: Vec::new(), values: vec![0; layout.chunk[0] * layout.samples] }
    }

    /// Returns the values of row `y`, `[chunk width, samples]`: unsigned integers, signed integers with the lowest
    /// value shifted to 0, or the bits of an `f64`. It undoes the predictor in place, so a row can be read only once.
    pub(super) fn next(&mut self, y: usize) -> &[u64] {
        let layout = self.layout;
        let (row, samples) = (layout.row_bytes(), layout.plane_samples());
        for (index, plane) in self.planes.iter_mut().enumerate() {
            let bytes = &mut plane[y * row..(y + 1) * row];
            let big_endian = match layout.predictor {
                Predictor::Float => {
                    unpredict_float(bytes, samples, layout.bits as usize / 8);
                    true
                }
                Predictor::Left | Predictor::None => layout.big_endian,
            };
            unpack(bytes, layout.bits, big_endian, &mut self.plane);
            if layout.predictor == Predictor::Left {
                unpredict(&mut self.plane, samples, layout.bits);
            }
            self.plane.iter_mut().for_each(|value| *value = number(*value, layout));
            let out = self.values.iter_mut().skip(index);
            let out = out.step_by(if layout.planar { layout.samples } else { 1 });
            out.zip(&self.plane).for_each(|(out, value)| *out = *value);
        }
        &self.values
    }
}

/// Converts a stored value to the form of [`StripRows::next`].
fn number(value: u64, layout: &TiffLayout) -> u64 {
    match (layout.format, layout.bits) {
        (SampleFormat::Unsigned, _) => value,
        (SampleFormat::Signed, bits) => value ^ 1 << (bits - 1),
        (SampleFormat::Float, 16) => half::f16::from_bits(value as u16).to_f64().to_bits(),
        (SampleFormat::Float, 32) => f64::from(f32::from_bits(value as u32)).to_bits(),
        (SampleFormat::Float, _) => value,
    }
}

/// Reads the samples of a row. Samples of whole bytes have the file's byte order; others are packed from the highest
/// bit.
fn unpack(bytes: &[u8], bits: u32, big_endian: bool, out: &mut Vec<u64>) {
    out.clear();
    match bits {
        8 => out.extend(bytes.iter().map(|&byte| u64::from(byte))),
        16 | 24 | 32 | 64 => {
            let add = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
            let samples = bytes.chunks_exact(bits as usize / 8);
            match big_endian {
                true => out.extend(samples.map(|sample| sample.iter().fold(0, add))),
                false => out.extend(samples.map(|sample| sample.iter().rev().fold(0, add))),
            }
        }
        _ => {
            let (mut held, mut count) = (0u64, 0);
            for &byte in bytes {
                (held, count) = (held << 8 | u64::from(byte), count + 8);
                while count >= bits {
                    count -= bits;
                    out.push(held >> count & ((1 << bits) - 1));
                }
                held &= (1 << count) - 1;
            }
        }
    }
}

/// Adds to every sample the sample of the pixel on its left (predictor 2).
fn unpredict(values: &mut [u64], samples: usize, bits: u32) {
    let mask = u64::MAX >> (64 - bits);
    for i in samples..values.len() {
        values[i] = values[i].wrapping_add(values[i - samples]) & mask;
    }
}

/// Undoes predictor 3 (Adobe's technical note 3): differences of bytes, with the highest byte of all samples first.
/// The samples are big-endian afterwards.
fn unpredict_float(row: &mut [u8], samples: usize, size: usize) {
    for i in samples..row.len() {
        row[i] = row[i].wrapping_add(row[i - samples]);
    }
    let count = row.len() / size;
    let planes = row.to_vec();
    for (i, sample) in row.chunks_exact_mut(size).enumerate() {
        for (k, byte) in sample.iter_mut().enumerate() {
            *byte = planes[k * count + i];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_packed_from_the_highest() {
        let mut out = Vec::new();
        for (bits, expected) in [
            (1, vec![1, 0, 1, 0, 1, 1, 0, 0, 0, 0, 1, 1, 0, 1, 0, 1]),
            (3, vec![5, 3, 0, 3, 2]),
            (4, vec![10, 12, 3, 5]),
            (12, vec![0xac3]),
            (16, vec![0xac35]),
        ] {
            unpack(&[0xac, 0x35], bits, true, &mut out);
            assert_eq!(out, expected, "{bits} bits");
        }
        unpack(&[1, 2, 3], 24, false, &mut out);
        assert_eq!(out, [0x030201]);
    }

    #[test]
    fn predictors_are_undone() {
        let mut values = [10, 20, 250, 1, 10, 2];
        unpredict(&mut values, 2, 8);
        assert_eq!(values, [10, 20, 4, 21, 14, 23]);
        // Two floats of 16 bits, 0x3c00 and 0x3801: bytes 3c 38 00 01, then differences.
        let mut row = [0x3c, 0xfc, 0xc8, 0x01];
        unpredict_float(&mut row, 1, 2);
        assert_eq!(row, [0x3c, 0x00, 0x38, 0x01]);
    }
}
