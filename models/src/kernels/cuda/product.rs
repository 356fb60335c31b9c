//! The weight gradient of pointwise convolutions.

use super::device::{Arg, Device, Grid, Words, int, launch};
use crate::Result;

/// Side of the tiles that a block makes; `TILE` in `product.cu`.
const TILE: usize = 4;

/// Of each slot, the products of the rows of `left` `[slot][m][length]` and `right` `[slot][n][length]`: `out` `[slot][m][n]`.
/// `right` is one `[n][length]` for all slots where `shared`.
pub fn row_products(
    device: &mut dyn Device,
    [left, right, out]: [Words; 3],
    shared: bool,
    slots: usize,
    [m, n, length]: [usize; 3],
) -> Result<()> {
    let rights = if shared { slots.min(1) } else { slots };
    let args = [
        left.holds(slots * m * length)?,
        right.holds(rights * n * length)?,
        out.holds(slots * m * n)?,
        Arg::Int(i32::from(shared)),
        int(slots),
        int(m),
        int(n),
        int(length),
    ];
    let tiles = slots * m.div_ceil(TILE) * n.div_ceil(TILE);
    launch(device, "row_products", Grid::Rows(tiles), &args)
}
