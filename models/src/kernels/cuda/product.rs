//! The weight gradient of pointwise convolutions.

use super::device::{Arg, Device, LaunchGrid, Words, int, launch};
use super::parts::{part_sums, parts};
use crate::Result;

/// Side of the tiles that a block makes of a small product, and of a large one; 16 R in `product.cu`.
const SIDES: [usize; 2] = [16, 32];

/// The fewest numbers of a row that are worth a block, which multiplies each by many.
const LEAST: usize = 256;

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
