//! Number of trainable parameters.

use milenas_models::{Graph, cost};

use super::Limit;

/// Limit of the trainable parameters.
#[derive(Debug)]
pub struct ParamsLimit;

impl Limit for ParamsLimit {
    fn unit(&self) -> &'static str {
        "parameters"
    }

    fn measure(&self, network: &Graph) -> u64 {
        cost(network).params
    }
}
