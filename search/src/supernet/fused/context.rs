//! A pass over one batch, with the mixture of the cell at work.

use core::ops::Deref;

use milenas_models::fused;

use crate::supernet::Row;

/// What every phase of a cell needs.
#[derive(Copy, Clone)]
pub(super) struct CellContext<'a> {
    pub(super) pass: fused::PassContext<'a>,
    /// A row per edge.
    pub(super) mixture: &'a [Row],
}

impl<'a> Deref for CellContext<'a> {
    type Target = fused::PassContext<'a>;

    fn deref(&self) -> &Self::Target {
        &self.pass
    }
}
