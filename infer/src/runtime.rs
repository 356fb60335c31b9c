//! What computes a network's answers, behind one small trait.

mod native;

pub use native::Native;

use crate::Result;
use crate::answer::Answer;

/// A network, ready to run.
pub trait Runtime: Send + Sync {
    /// `images` `[N, C, H, W]` to one answer an image.
    fn run(&self, images: &[f32], batch: usize) -> Result<Vec<Answer>>;
}
