//! Networks as hand-written passes, forward and backward, over blocked maps: what the supernet of the search
//! and [`Network`] share.
//!
//! Kept for the backward pass are the maps before the BatchNorms and the states, nothing else: rectified inputs,
//! depthwise outputs and the places of maxima are made again.

pub mod auxiliary;
pub mod context;
pub mod head;
pub mod loss;
mod network;
pub mod norm;
pub mod parameters;
pub mod replicas;
pub mod scratch;
pub mod stem;
pub mod tensors;
pub mod unit;
pub mod view;

pub use context::{PassContext, Profile};
pub use network::{BufferPool, Codes, FusedNetwork, Precision, Prediction, Regularisers};
pub use norm::{AffineNorm, Norm, Statistics};
pub use parameters::{Gradients, Named, Parameters};
pub use replicas::Copies;
pub use scratch::{Scratch, Workspace};
pub use tensors::NetworkTensors;
pub use unit::{ConvBlock, Im2col};
pub use view::{BufferOffset, MapView};
