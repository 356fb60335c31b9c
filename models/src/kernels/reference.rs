//! Operations of the reference executor, which candle lacks or computes slowly or wrongly, as candle custom operations.

mod batch_norm;
mod conv;
mod pool;
mod relu;

pub use batch_norm::{BatchMoments, batch_norm};
pub use conv::conv2d;
pub use pool::pool2d;
pub use relu::relu;
