//! A pass over one batch, with the mixture of the cell at work.

use core::ops::Deref;

use milenas_models::fused;

use crate::supernet::Row;

/// What every phase of a cell needs.
#[derive(Copy, Clone)]
pub(super) struct Context<'a> {
    pub(super) pass: fused::Context<'a>,
    /// A row per edge.
    pub(super) mixture: &'a [Row],
}

impl<'a> Deref for Context<'a> {
    type Target = fused::Context<'a>;

    fn deref(&self) -> &Self::Target {
        &self.pass
    }
}
