//! Number of multiply-accumulates for one image.

use milenas_models::{Graph, cost};

use super::Limit;

/// Limit of the multiply-accumulates.
#[derive(Debug)]
pub struct MacsLimit;

impl Limit for MacsLimit {
    fn unit(&self) -> &'static str {
        "multiply-accumulates"
    }

    fn measure(&self, network: &Graph) -> u64 {
        cost(network).macs
    }
}
