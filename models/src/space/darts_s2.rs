//! A small space in which differentiable search collapses to skip connections.

use super::CellSpace;
use super::cells::CellForm;
use crate::Primitive;

/// Space S2 of RobustDARTS (Zela et al., ICLR 2020): DARTS with two operations, and without `none`.
pub const DARTS_S2: CellSpace = CellSpace {
    name: "darts-s2",
    doc: "the cells of darts, skip connections and separable 3x3 convolutions only (RobustDARTS S2; Zela et al., ICLR 2020)",
    primitives: &[Primitive::SkipConnect, Primitive::SepConv3x3],
    nodes: 4,
    cells: CellForm::Pair,
};
