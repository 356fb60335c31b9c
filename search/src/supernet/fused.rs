//! The fast supernet: forward and backward written by hand over blocked maps.
//!
//! It keeps for the backward pass the maps before the BatchNorms and the states, nothing else: rectified inputs, depthwise outputs and
//! the places of maxima are made again. What edges from one state have in common is made once.

pub(super) mod adapter;
mod backward;
mod cell;
mod context;
mod edge;
mod network;
mod partial;
mod state;

pub use network::{FusedSupernet, ImageBatch};
