//! Operations of the reference executor, as candle custom operations. candle lacks them, or computes them slowly or
//! wrongly.

mod batch_norm;
mod conv;
mod pool;
mod relu;

pub use batch_norm::{BatchMoments, batch_norm};
pub use conv::conv2d;
pub use pool::pool2d;
pub use relu::relu;
