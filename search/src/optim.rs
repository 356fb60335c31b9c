//! Optimisers over slices, exactly as PyTorch's, in small parts.
//!
//! Parameters are visited in a fixed order; an optimiser keeps its state by that index.

mod adam;
mod clip;
mod ema;
mod schedule;
mod sgd;

pub use adam::{Adam, AdamConfig};
pub use clip::{clip_factor, squared_norm};
pub use ema::Ema;
pub use schedule::{cosine, exponential};
pub use sgd::{Sgd, SgdConfig};
