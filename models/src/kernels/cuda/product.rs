//! Weight gradient of pointwise convolutions.

use super::device::{Arg, Device, LaunchGrid, Words, int, launch};
use super::parts::{part_sums, parts};
use crate::Result;

/// Side of a block's tile for a small product and for a large one; the same as in `product.cu`.
const SIDES: [usize; 2] = [16, 32];

/// Fewest elements of a row for which a block is worthwhile; a block multiplies each element by many others.
const LEAST: usize = 256;

/// Sizes of the products of rows.
#[derive(Clone, Copy, Debug)]
pub struct ProductDims {
    /// Rows of the left matrix.
    pub m: usize,
    /// Rows of the right matrix.
    pub n: usize,
    /// Elements of a row.
    pub length: usize,
}

/// Computes, for each slot, the products of the rows of `left` `[slot][m][length]` and `right` `[slot][n][length]`,
/// to `out` `[slot][m][n]`. If `shared`, `right` is one matrix `[n][length]` for all slots.
pub fn row_products(
    device: &mut dyn Device,
    left: Words,
    right: Words,
    out: Words,
    shared: bool,
    slots: usize,
    dims: ProductDims,
) -> Result<()> {
    let ProductDims { m, n, length } = dims;
    let rights = if shared { slots.min(1) } else { slots };
    let (name, side) = match m.min(n) <= SIDES[0] {
        true => ("row_products_16", SIDES[0]),
        false => ("row_products_32", SIDES[1]),
    };
    let tiles = slots * m.div_ceil(side) * n.div_ceil(side);
    let parts = parts(tiles, length, LEAST);
    let [left, right] = [left.holds(slots * m * length)?, right.holds(rights * n * length)?];
    let [sums, tickets] = part_sums(device, tiles, parts, (slots * m * n).div_ceil(tiles.max(1)))?;
    let sizes = [int(slots), int(m), int(n), int(length), int(parts)];
    let rest = [out.written(slots * m * n)?, sums, tickets, Arg::Int(i32::from(shared))];
    launch(device, name, LaunchGrid::Rows(parts * tiles), &[&[left, right][..], &rest, &sizes].concat())
}
