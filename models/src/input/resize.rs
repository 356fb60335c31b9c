//! The resize rule of an input contract: the part of an image that is used, its size, and the filter.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use serde::{Deserialize, Serialize};

use super::ImageSize;
use crate::{Error, Result};

/// The resize rule. An image of the contract's size is not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Resize {
    /// Resizes to height and width, ignoring the aspect ratio.
    Stretch,
    /// Resizes the shorter side to `side` and the longer in proportion (rounded down), and crops the centre, as
    /// torchvision's `Resize(side)` and `CenterCrop`.
    ShorterSide {
        /// Shorter side in pixels, at least the contract's height and width.
        side: usize,
    },
    /// Resizes the whole image in proportion and centres it on one colour, as Pillow's `ImageOps.pad`.
    Letterbox {
        /// RGB colour of the bars.
        fill: [u8; 3],
    },
}

/// The resampling filter. As in Pillow, all filters average over more pixels when an image becomes smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// Pillow's `BILINEAR`. Libraries agree on it to one level.
    #[default]
    Bilinear,
    /// Pillow's `BICUBIC` (a = -0.5).
    Bicubic,
    /// Pillow's `LANCZOS` (three lobes).
    Lanczos,
}

impl Filter {
    /// Whether this is the filter of contracts without one.
    pub(super) fn is_default(&self) -> bool {
        *self == Filter::default()
    }

    /// Name in files and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Filter::Bilinear => "bilinear",
            Filter::Bicubic => "bicubic",
            Filter::Lanczos => "lanczos",
        }
    }

    fn kernel(self) -> FilterType {
        match self {
            Filter::Bilinear => FilterType::Bilinear,
            Filter::Bicubic => FilterType::CatmullRom,
            Filter::Lanczos => FilterType::Lanczos3,
        }
    }

    /// Whether results can exceed the range of bytes and are clipped, so that the order of the two passes matters.
    fn overshoots(self) -> bool {
        self != Filter::Bilinear
    }
}

impl Resize {
    /// Resizes an image `[height, width, 3]` of bytes to another size.
    pub(super) fn apply(self, filter: Filter, rgb: &[u8], size: ImageSize, to: ImageSize) -> Result<Vec<u8>> {
        let ImageSize { height, width } = size;
        let whole = Region { top: 0.0, left: 0.0, rows: height as f64, columns: width as f64 };
        match self {
            Resize::Stretch => resample(rgb, size, whole, to, filter),
            Resize::ShorterSide { side } => {
                // The crop is applied to the source, so an extreme aspect ratio needs no additional memory.
                let shorter = width.min(height);
                let (left, columns) = centre(width, shorter, side, to.width);
                let (top, rows) = centre(height, shorter, side, to.height);
                resample(rgb, size, Region { top, left, rows, columns }, to, filter)
            }
            Resize::Letterbox { fill } => {
                let inner = fitted(size, to);
                let small = resample(rgb, size, whole, inner, filter)?;
                let mut canvas = fill.repeat(to.area());
                let before = |room: usize| (room as f64 / 2.0).round_ties_even() as usize;
                let (top, left) = (before(to.height - inner.height), before(to.width - inner.width));
                for (row, from) in small.chunks_exact(3 * inner.width).enumerate() {
                    let at = 3 * ((top + row) * to.width + left);
                    canvas[at..at + from.len()].copy_from_slice(from);
                }
                Ok(canvas)
            }
        }
    }
}

/// A part of an image, in pixels.
#[derive(Clone, Copy)]
struct Region {
    top: f64,
    left: f64,
    rows: f64,
    columns: f64,
}

/// Largest size of the image between two passes, as a multiple of the source's number of pixels.
const BETWEEN: usize = 4;

/// Resizes a part of an image. For a filter that overshoots, the rows are resized before the columns and each pass is
/// clipped to bytes, as in Pillow. It uses a single step if the image between the passes would be far larger than the
/// source.
fn resample(rgb: &[u8], size: ImageSize, part: Region, to: ImageSize, filter: Filter) -> Result<Vec<u8>> {
    let between = ImageSize { height: size.height, width: to.width };
    if !filter.overshoots() || between.area() > BETWEEN * size.area().max(to.area()) {
        return pass(rgb, size, part, to, filter);
    }
    let across = Region { top: 0.0, rows: size.height as f64, ..part };
    let wide = pass(rgb, size, across, between, filter)?;
    let down = Region { left: 0.0, columns: to.width as f64, ..part };
    pass(&wide, between, down, to, filter)
}

fn pass(rgb: &[u8], size: ImageSize, part: Region, to: ImageSize, filter: Filter) -> Result<Vec<u8>> {
    let refused = |problem: String| Error::malformed("image", format!("cannot be resized: {problem}"));
    let mut pixels = vec![0; to.area() * 3];
    let source = TypedImageRef::<U8x3>::from_buffer(size.width as u32, size.height as u32, rgb)
        .map_err(|e| refused(e.to_string()))?;
    let mut canvas = TypedImage::<U8x3>::from_buffer(to.width as u32, to.height as u32, &mut pixels)
        .map_err(|e| refused(e.to_string()))?;
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter.kernel()));
    let options = options.crop(part.left, part.top, part.columns, part.rows);
    // The typed call: the one that selects the pixel type at run time compiles the library for all of them.
    Resizer::new().resize_typed(&source, &mut canvas, &options).map_err(|e| refused(e.to_string()))?;
    Ok(pixels)
}

/// Returns the size of an image that is fitted into a frame in proportion, rounded half to even, at least one pixel.
fn fitted(size: ImageSize, frame: ImageSize) -> ImageSize {
    let scaled = |length: usize, by: usize, of: usize, most: usize| {
        let exact = length as f64 * by as f64 / of as f64;
        (exact.round_ties_even() as usize).clamp(1, most)
    };
    match size.width * frame.height > size.height * frame.width {
        true => ImageSize { height: scaled(size.height, frame.width, size.width, frame.height), ..frame },
        false => ImageSize { width: scaled(size.width, frame.height, size.height, frame.width), ..frame },
    }
}

/// Returns offset and extent, in source pixels, of the central `target` pixels of an axis of `length` pixels, if the
/// image's shorter side becomes `side`. Offsets are rounded half to even, like Python's `round`.
fn centre(length: usize, shorter: usize, side: usize, target: usize) -> (f64, f64) {
    let resized = (length * side / shorter).max(target);
    let scale = length as f64 / resized as f64;
    let offset = ((resized - target) as f64 / 2.0).round_ties_even() * scale;
    (offset, (target as f64 * scale).min(length as f64 - offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: ImageSize = ImageSize { height: 9, width: 13 };

    /// Returns the pixels of an image of the size `SIZE`, without repetition.
    fn test_image() -> Vec<u8> {
        let pixel = |x: usize, y: usize| {
            let third = if (x + y).is_multiple_of(3) { 255 } else { 0 };
            [((x * 37 + y * 91) % 256) as u8, ((x * x * 11 + y * 5) % 256) as u8, third]
        };
        (0..9).flat_map(|y| (0..13).flat_map(move |x| pixel(x, y))).collect()
    }

    /// Compares with values of Pillow 12.0: the sum of all values, and every seventh value.
    #[test]
    fn filters_equal_those_of_pillow() {
        let smaller = [
            (Filter::Bilinear, 9102, [78, 95, 89, 97, 112, 75, 100, 136, 92, 107, 83, 77, 114]),
            (Filter::Bicubic, 9094, [71, 97, 85, 92, 115, 74, 97, 139, 93, 107, 78, 80, 117]),
            (Filter::Lanczos, 9078, [73, 97, 82, 97, 115, 78, 103, 141, 91, 108, 74, 86, 117]),
        ];
        let larger = [
            (Filter::Bilinear, 51512, [0, 25, 240, 194, 54, 75, 136, 48, 14, 186, 106, 38, 128]),
            (Filter::Bicubic, 52832, [0, 22, 255, 203, 39, 69, 133, 48, 0, 199, 105, 29, 130]),
            (Filter::Lanczos, 54537, [0, 22, 255, 215, 38, 86, 127, 48, 0, 198, 99, 42, 125]),
        ];
        for (height, width, expected) in [(5, 6, smaller), (10, 17, larger)] {
            for (filter, sum, values) in expected {
                let found =
                    Resize::Stretch.apply(filter, &test_image(), SIZE, ImageSize { height, width }).unwrap();
                let seventh: Vec<u8> = found.iter().copied().step_by(7).take(13).collect();
                let apart = seventh.iter().zip(values).map(|(a, b)| a.abs_diff(b)).max();
                assert!(apart <= Some(1), "{filter:?}: {seventh:?}");
                let total: i64 = found.iter().map(|&x| i64::from(x)).sum();
                assert!((total - sum).abs() <= 5, "{filter:?}: the sum is {total}, expected {sum}");
            }
        }
    }

    #[test]
    fn a_letterbox_equals_the_padding_of_pillow() {
        let letterbox = Resize::Letterbox { fill: [114, 10, 200] };
        let found = letterbox.apply(Filter::Bicubic, &test_image(), SIZE, ImageSize::square(16)).unwrap();
        let pixel = |y: usize, x: usize| [0, 1, 2].map(|c| found[3 * (16 * y + x) + c]);
        for (y, expected) in [
            (1, [114, 10, 200]),
            (2, [143, 177, 4]),
            (7, [3, 197, 0]),
            (12, [110, 217, 255]),
            (13, [114, 10, 200]),
        ] {
            let apart = pixel(y, 5).iter().zip(expected).map(|(a, b)| a.abs_diff(b)).max();
            assert!(apart <= Some(1), "row {y}: {:?}", pixel(y, 5));
        }
        // An image that is one pixel thin keeps one pixel.
        let thin = ImageSize { height: 1, width: 100 };
        let line = letterbox.apply(Filter::Bilinear, &[255; 3 * 100], thin, ImageSize::square(8)).unwrap();
        assert_eq!(line.chunks_exact(3).filter(|pixel| *pixel == [255; 3]).count(), 8);
    }
}
