//! The space of DARTS.

use super::Space;
use crate::Primitive;
use crate::genotype::Wiring;

impl Space {
    /// DARTS (Liu et al., ICLR 2019): four nodes, seven operations and `none`; a node keeps its two best edges.
    pub const DARTS: Space = Space {
        name: "darts",
        doc: "two cells of four nodes, seven operations (Liu et al., ICLR 2019)",
        primitives: &Primitive::DARTS,
        nodes: 4,
        wiring: Wiring::TwoEdges,
    };
}
