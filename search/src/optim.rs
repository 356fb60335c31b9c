//! Optimisers over slices, with the update rules of PyTorch.
//!
//! Parameters are visited in a fixed order. An optimiser keeps its state by the index in this order.

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
