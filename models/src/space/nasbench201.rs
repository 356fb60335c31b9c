//! The space of NAS-Bench-201.

use super::CellSpace;
use super::cells::CellForm;
use crate::Primitive;

/// NAS-Bench-201 (Dong and Yang, ICLR 2020): three nodes, five operations, all 15,625 cells.
pub const NASBENCH201: CellSpace = CellSpace {
    name: "nasbench201",
    doc: "one cell of three nodes, five operations: 15,625 cells with published accuracies (Dong and Yang, ICLR 2020)",
    primitives: &Primitive::NASBENCH201,
    nodes: 3,
    cells: CellForm::Single,
};
