//! Size of the weights, as in `weights.safetensors` without its header.

use milenas_models::Graph;

use super::Limit;

/// Limit of the bytes of the weights.
#[derive(Debug)]
pub struct BytesLimit;

impl Limit for BytesLimit {
    fn unit(&self) -> &'static str {
        "bytes of weights"
    }

    /// Returns four bytes for each trainable parameter and for each running mean and variance of a BatchNorm.
    fn measure(&self, network: &Graph) -> u64 {
        4 * network.params().map(|param| param.shape.iter().product::<usize>() as u64).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use milenas_models::{Genotype, NetworkConfig, Weights, assemble};

    use super::*;

    #[test]
    fn bytes_are_those_of_the_weights() {
        let network = NetworkConfig {
            channels: 4,
            layers: 3,
            classes: 10,
            in_channels: 3,
            height: 16,
            width: 16,
            skeleton: Default::default(),
        };
        let graph = assemble(&Genotype::named("DARTS_V2").unwrap(), &network).unwrap();
        let weights = Weights::init(&graph, 0).unwrap();
        let bytes: usize = weights.iter().map(|(_, tensor)| 4 * tensor.elem_count()).sum();
        assert_eq!(BytesLimit.measure(&graph), bytes as u64);
    }
}
