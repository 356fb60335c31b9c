//! A padded pool as pools without padding over parts of the image, for readers without padding.
//!
//! At the border the padding cuts a window short. Windows that are cut alike form a rectangle of the output; each
//! rectangle is a smaller pool over the pixels it reads, and the rectangles are put together again. A window never lies
//! in the padding alone, so nothing of it is left.

use milenas_models::graph::{Graph, Node, Patch};
use milenas_models::op::{Concat, Op, Padding, Pool2d, PoolKind, Range, Slice};
use milenas_models::{Result, Weights};

use super::{Pass, Rewrite, node_name};

/// See the module.
#[derive(Debug)]
pub struct LowerPadding;

/// Outputs next to each other along one axis whose windows are cut alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// The first pixel read, and the one after the last.
    start: usize,
    end: usize,
    /// The window's length without padding.
    kernel: usize,
}

impl Pass for LowerPadding {
    fn name(&self) -> &'static str {
        "lower_padding"
    }

    /// `pool(x, padded) -> concat(pool(x[top], cut windows), pool(x[middle]), pool(x[bottom], cut windows))`, along both
    /// axes
    fn next(&self, graph: &Graph, _: &Weights) -> Result<Option<Rewrite>> {
        for (value, node) in graph.values() {
            let Op::Pool2d(pool) = &node.op else { continue };
            // With dilation, or zeros that count, a cut window is no smaller window.
            let suits = pool.dilation == [1, 1] && pool.kind != PoolKind::Average { count_padding: true };
            if pool.padding == Padding::default() || !suits {
                continue;
            }
            let Some((_, height, width)) = graph.fact(node.inputs[0]).chw() else { continue };
            let Some((_, rows, columns)) = node.fact.chw() else { continue };
            let rows = runs(height, rows, pool.kernel[0], pool.stride[0], pool.padding.top);
            let columns = runs(width, columns, pool.kernel[1], pool.stride[1], pool.padding.left);
            let patch = pieces(graph, node, pool, &rows, &columns)?;
            let (mut patch, whole) = patch;
            patch.shunt(graph, value, whole)?;
            return Ok(Some(Rewrite { at: node.name.clone(), patch }));
        }
        Ok(None)
    }
}

/// The outputs of one axis in runs.
fn runs(size: usize, outputs: usize, kernel: usize, stride: usize, before: usize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for output in 0..outputs {
        let at = output * stride;
        let (start, end) = (at.saturating_sub(before), (at + kernel - before).min(size));
        let kernel = end - start;
        match runs.last_mut() {
            // The first window of an image may be cut to the length of the next and still not be `stride` away.
            Some(run) if run.kernel == kernel && run.end + stride == end => run.end = end,
            _ => runs.push(Run { start, end, kernel }),
        }
    }
    runs
}

/// The pools of all pieces, put together.
fn pieces(
    graph: &Graph,
    node: &Node,
    pool: &Pool2d,
    rows: &[Run],
    columns: &[Run],
) -> Result<(Patch, milenas_models::graph::Wire)> {
    let mut patch = Patch::new();
    let (_, height, width) = graph.fact(node.inputs[0]).chw().unwrap_or_default();
    let single = rows.len() == 1 && columns.len() == 1;
    let named = |what: String| node_name(graph, &format!("{}.{what}", node.name), &[node]);
    let mut bands = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let mut band = Vec::new();
        for (j, column) in columns.iter().enumerate() {
            let mut x = patch.tap(node.inputs[0]);
            let ranges = vec![
                Range { axis: 2, start: row.start, end: row.end },
                Range { axis: 3, start: column.start, end: column.end },
            ];
            if (row.start, row.end, column.start, column.end) != (0, height, 0, width) {
                x = patch.wire(graph, &named(format!("part{i}_{j}")), Slice { ranges }, &[x], None)?;
            }
            let kernel = [row.kernel, column.kernel];
            let cut = Pool2d { kernel, padding: Padding::default(), ..pool.clone() };
            let name = if single { node.name.clone() } else { named(format!("pool{i}_{j}")) };
            band.push(patch.wire(graph, &name, cut, &[x], None)?);
        }
        let name = if rows.len() == 1 { node.name.clone() } else { named(format!("band{i}")) };
        bands.push(match band[..] {
            [one] => one,
            _ => patch.wire(graph, &name, Concat { axis: 3 }, &band, None)?,
        });
    }
    let whole = match bands[..] {
        [one] => one,
        _ => patch.wire(graph, &node.name, Concat { axis: 2 }, &bands, None)?,
    };
    Ok((patch, whole))
}
