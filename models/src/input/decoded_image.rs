//! A decoded image: 8-bit RGB, with alpha if the file has any.

use std::borrow::Cow;

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, RgbImage};

use crate::{Error, Result};

/// Size of an image, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageSize {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl ImageSize {
    /// Returns the size of a square image.
    pub fn square(side: usize) -> ImageSize {
        ImageSize { height: side, width: side }
    }

    /// Number of pixels.
    pub fn area(self) -> usize {
        self.height * self.width
    }
}

/// Pixels of an image in row-major order, upright; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
    alpha: Option<Vec<u8>>,
    /// Orientation that was applied to the stored pixels.
    applied: Orientation,
}

impl Image {
    /// Returns an image of `[H, W, 3]` bytes, with `[H, W]` bytes of alpha where 255 is opaque.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the numbers of bytes do not fit the size, or the image is empty.
    pub fn new(width: usize, height: usize, rgb: Vec<u8>, alpha: Option<Vec<u8>>) -> Result<Self> {
        let area = width.checked_mul(height).filter(|&area| area > 0);
        let fits = |area: usize| {
            area.checked_mul(3) == Some(rgb.len()) && alpha.as_ref().is_none_or(|alpha| alpha.len() == area)
        };
        if !area.is_some_and(fits) {
            let problem = format!("{width}x{height} with {} bytes of colour", rgb.len());
            return Err(Error::malformed(
                "image",
                format!("{problem}, expected three per pixel and one pixel or more"),
            ));
        }
        let alpha = alpha.filter(|alpha| alpha.iter().any(|&a| a != 255));
        Ok(Image { width, height, rgb, alpha, applied: Orientation::NoTransforms })
    }

    /// Returns the image with the EXIF orientation that was applied to its pixels.
    pub(super) fn turned_by(self, applied: Orientation) -> Self {
        Image { applied, ..self }
    }

    /// Number of the EXIF orientation that was applied to the stored pixels: 1 (none) to 8.
    pub fn orientation(&self) -> u8 {
        self.applied.to_exif()
    }

    /// Returns the image as the file stores it, with the EXIF orientation undone. It is borrowed if there was none.
    pub fn as_stored(&self) -> Cow<'_, Image> {
        let undo = match self.applied {
            Orientation::NoTransforms => return Cow::Borrowed(self),
            Orientation::Rotate90 => Orientation::Rotate270,
            Orientation::Rotate270 => Orientation::Rotate90,
            itself => itself,
        };
        let size = (self.width as u32, self.height as u32);
        let turned = |plane: Option<DynamicImage>| {
            let mut plane = plane?;
            plane.apply_orientation(undo);
            Some(plane)
        };
        let rgb = turned(RgbImage::from_raw(size.0, size.1, self.rgb.clone()).map(Into::into));
        let alpha = self.alpha.clone().and_then(|alpha| GrayImage::from_raw(size.0, size.1, alpha));
        let alpha = turned(alpha.map(Into::into)).map(|alpha| alpha.into_luma8().into_raw());
        // The planes have the size of the image, so `rgb` is always present.
        let Some(rgb) = rgb.map(DynamicImage::into_rgb8) else { return Cow::Borrowed(self) };
        Cow::Owned(Image {
            width: rgb.width() as usize,
            height: rgb.height() as usize,
            rgb: rgb.into_raw(),
            alpha,
            applied: Orientation::NoTransforms,
        })
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Stored colours `[H, W, 3]`, also those of transparent pixels.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// Alpha `[H, W]`, if some pixel is not opaque.
    pub fn alpha(&self) -> Option<&[u8]> {
        self.alpha.as_deref()
    }

    /// Whether red, green and blue are equal in all pixels.
    pub fn is_gray(&self) -> bool {
        self.rgb.chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2])
    }

    /// Returns the image over a background colour, `[H, W, 3]`; without one, the stored colours.
    pub fn over(&self, background: Option<[u8; 3]>) -> Cow<'_, [u8]> {
        let (Some(back), Some(alpha)) = (background, &self.alpha) else { return Cow::Borrowed(&self.rgb) };
        let mut rgb = self.rgb.clone();
        for (pixel, &a) in rgb.chunks_exact_mut(3).zip(alpha) {
            let a = u32::from(a);
            for (c, b) in pixel.iter_mut().zip(back) {
                *c = ((u32::from(*c) * a + u32::from(b) * (255 - a) + 127) / 255) as u8;
            }
        }
        Cow::Owned(rgb)
    }
}
