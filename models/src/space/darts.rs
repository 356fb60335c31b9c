//! The space of DARTS.

use super::CellSpace;
use super::cells::CellForm;
use crate::Primitive;

/// DARTS (Liu et al., ICLR 2019): four nodes, seven operations and `none`; a node keeps its two best edges.
pub const DARTS: CellSpace = CellSpace {
    name: "darts",
    doc: "two cells of four nodes, seven operations (Liu et al., ICLR 2019)",
    primitives: &Primitive::DARTS,
    nodes: 4,
    cells: CellForm::Pair,
};
