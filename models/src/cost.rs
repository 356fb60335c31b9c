//! Cost of a network, summed over its nodes.

use serde::{Deserialize, Serialize};

use crate::graph::Graph;

/// Parameters and operations of a graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Number of trainable parameters; statistics of BatchNorm are not counted.
    pub params: u64,
    /// Number of multiply-accumulates of convolutions and linear layers for one image.
    pub macs: u64,
}

/// Computes the cost of a graph.
pub fn cost(graph: &Graph) -> Cost {
    let trainable = graph.params().filter(|p| p.role.is_trainable());
    Cost {
        params: trainable.map(|p| p.shape.iter().product::<usize>() as u64).sum(),
        macs: graph.nodes().iter().map(|n| n.op.macs(&n.fact)).sum(),
    }
}
