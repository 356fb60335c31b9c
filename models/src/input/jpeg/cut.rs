//! Detection of made-up pixels in a sequential JPEG file that was truncated and then given an end-of-image marker.
//!
//! If entropy-coded data end early, decoders read zeros (or paint gray). Zeros decode to the same coefficients in
//! every block, so the last two blocks differ at most by a constant. So do blocks of one colour in complete files,
//! but there the codes repeat in the file. The data of a truncated file do not end in a repetition.

use image::DynamicImage;

/// Largest deviation, of 255, of a pixel from the common difference of two made-up blocks. It is due to rounding in
/// the transform and in the conversion to RGB.
const ROUNDING: i32 = 4;

/// Longest period of repeated codes in blocks of one colour, in bytes.
const LONGEST_PERIOD: usize = 24;

/// Whether the last pixels may be made up. `block` is the width in pixels of the blocks that are coded together
/// (MCU); `bytes` end before the end-of-image marker.
///
/// It does not detect a file that lacks fewer than two blocks.
pub(super) fn suspected(image: &DynamicImage, block: usize, bytes: &[u8]) -> bool {
    repeats(image, block) && !ends_in_repetition(bytes)
}

/// Whether the last two blocks of the last row are equal up to a constant in each channel.
fn repeats(image: &DynamicImage, block: usize) -> bool {
    // Sampling factors of a hostile file may be zero.
    if block == 0 {
        return false;
    }
    let (width, height) = (image.width() as usize, image.height() as usize);
    let channels = usize::from(image.color().channel_count());
    let last = (width.max(1) - 1) / block * block;
    if last < block {
        return false;
    }
    // Interpolated colours differ at the borders of blocks.
    let columns = (last + 1).min(width - 1)..width;
    let rows = (height.max(1) - 1) / 8 * 8..height;
    let value = |x: usize, y: usize, c: usize| i32::from(image.as_bytes()[(y * width + x) * channels + c]);
    (0..channels).all(|c| {
        let pairs = rows.clone().flat_map(|y| columns.clone().map(move |x| (x, y)));
        // Differences of clamped pixels carry no information.
        let clamped = |v: i32| v == 0 || v == 255;
        let differences = pairs.filter_map(|(x, y)| {
            let (there, before) = (value(x, y, c), value(x - block, y, c));
            (!clamped(there) && !clamped(before)).then_some(there - before)
        });
        let bounds = differences.fold(None, |bounds: Option<(i32, i32)>, d| {
            Some(bounds.map_or((d, d), |(low, high)| (low.min(d), high.max(d))))
        });
        bounds.is_none_or(|(low, high)| high - low <= ROUNDING)
    })
}

/// Whether the last bytes are a repetition of at least two periods.
fn ends_in_repetition(data: &[u8]) -> bool {
    // The last byte is filled up with ones.
    let data = &data[..data.len().saturating_sub(1)];
    (1..=LONGEST_PERIOD).any(|period| {
        let length = (2 * period).max(8);
        data.len() > length + period && (data.len() - length..data.len()).all(|i| data[i] == data[i - period])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_without_width_and_empty_data_are_no_panic() {
        let white = DynamicImage::new_rgb8(16, 8);
        assert!(!suspected(&white, 0, &[]));
        assert!(suspected(&white, 8, &[]) && !suspected(&white, 8, &[7; 64]));
    }
}
