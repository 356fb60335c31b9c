//! Optimised supernet on the CPU: explicit forward and backward passes over blocked feature maps.
//!
//! For the backward pass it keeps only the states and the inputs of the BatchNorms. ReLU outputs, depthwise
//! outputs and the positions of maxima are computed again. Work that edges from one state share is done once.

mod backward;
mod cell;
mod context;
mod edge;
mod network;
mod partial;
mod state;

pub use network::{FusedSupernet, ImageBatch};
