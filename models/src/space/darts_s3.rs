//! A small space with `none`, in which differentiable search collapses to skip connections.

use super::CellSpace;
use super::cells::CellForm;
use crate::Primitive;

/// Space S3 of RobustDARTS (Zela et al., ICLR 2020): DARTS with two operations and `none`.
pub const DARTS_S3: CellSpace = CellSpace {
    name: "darts-s3",
    doc: "the cells of darts, skip connections and separable 3x3 convolutions, and none in the mixture (RobustDARTS S3; Zela et al., ICLR 2020)",
    primitives: &[Primitive::None, Primitive::SkipConnect, Primitive::SepConv3x3],
    nodes: 4,
    cells: CellForm::Pair,
};
