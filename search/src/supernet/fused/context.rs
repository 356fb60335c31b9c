//! Context of a pass over one batch, with the mixture of the current cell.

use core::ops::Deref;

use milenas_models::fused;

use crate::supernet::wired::Row;

/// Context of a cell's phases.
#[derive(Copy, Clone)]
pub(super) struct CellContext<'a> {
    pub(super) pass: fused::PassContext<'a>,
    /// Mixture of the cell, one row per edge.
    pub(super) mixture: &'a [Row],
}

impl<'a> Deref for CellContext<'a> {
    type Target = fused::PassContext<'a>;

    fn deref(&self) -> &Self::Target {
        &self.pass
    }
}
