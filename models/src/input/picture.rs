//! A decoded picture: 8-bit RGB, and alpha beside it when the file has any.

use std::borrow::Cow;

use crate::{Error, Result};

/// Pixels in reading order, upright; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
    alpha: Option<Vec<u8>>,
}

impl Image {
    /// From `[H, W, 3]` bytes, and `[H, W]` bytes of alpha where 255 is opaque.
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
        Ok(Image { width, height, rgb, alpha })
    }

    /// Pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// `[H, W, 3]`: the stored colours, also where they are transparent.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// `[H, W]`, when some pixel is not opaque.
    pub fn alpha(&self) -> Option<&[u8]> {
        self.alpha.as_deref()
    }

    /// True when red, green and blue are equal everywhere.
    pub fn is_gray(&self) -> bool {
        self.rgb.chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2])
    }

    /// `[H, W, 3]`: the picture laid over a colour; without one, the stored colours.
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
impl Image {
    /// Stand-in until the branch lands.
    pub fn as_stored(&self) -> Cow<'_, Image> {
        Cow::Borrowed(self)
    }
}
