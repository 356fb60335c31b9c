//! Hand-written forward and backward passes of networks over blocked feature maps, shared by the supernet of the
//! search and [`FusedNetwork`].
//!
//! A forward pass keeps the inputs of the BatchNorms and the states for the backward pass. The backward pass
//! recomputes all other values: inputs after ReLU, depthwise outputs and the positions of maxima.

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
pub use network::{BufferPool, Codes, Features, FusedNetwork, Precision, Prediction, Regularisers, Schedule};
pub use norm::{AffineNorm, Norm, Statistics};
pub use parameters::{Gradients, Named, Parameters};
pub use replicas::Copies;
pub use scratch::{Scratch, Workspace};
pub use tensors::NetworkTensors;
pub use unit::{ConvBlock, Im2col};
pub use view::{BufferOffset, MapView};
