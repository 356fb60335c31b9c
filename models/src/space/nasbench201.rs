//! The space of NAS-Bench-201.

use super::Space;
use crate::Primitive;
use crate::genotype::Wiring;

impl Space {
    /// NAS-Bench-201 (Dong and Yang, ICLR 2020): three nodes, five operations, all 15,625 cells.
    pub const NASBENCH201: Space = Space {
        name: "nasbench201",
        doc: "one cell of three nodes, five operations: 15,625 cells with published accuracies (Dong and Yang, ICLR 2020)",
        primitives: &Primitive::NASBENCH201,
        nodes: 3,
        wiring: Wiring::Complete,
    };
}
