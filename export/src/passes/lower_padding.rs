//! Lowers a padded pool to pools without padding over parts of the image, for readers without padded pools.
//!
//! Padding shortens the windows at the border of the image. Output positions with equally shortened windows
//! form a rectangle. Each rectangle is a smaller pool over the pixels it reads, and the rectangles are
//! concatenated. No window covers padding alone, so no padding remains.

use milenas_models::graph::{Graph, Node, Patch};
use milenas_models::op::{Concat, Op, Padding, Pool2d, PoolKind, Range, Slice};
use milenas_models::{Result, Weights};

use super::{Rewrite, node_name};

/// Consecutive output positions along one axis whose windows have the same length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// First pixel read (`start`), and the one after the last (`end`).
    start: usize,
    end: usize,
    /// Length of the window without its padding.
    kernel: usize,
}

/// Rewrites `pool(x, padded) -> concat(pool(x[top], cut windows), pool(x[middle]), pool(x[bottom], cut
/// windows))`, along both axes.
pub(super) fn next(graph: &Graph, _: &Weights) -> Result<Option<Rewrite>> {
    for (value, node) in graph.values() {
        let Op::Pool2d(pool) = &node.op else { continue };
        // With dilation, or zeros that count in the average, a cut window does not equal a smaller
        // window.
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

/// Splits the output positions of one axis into runs.
fn runs(size: usize, outputs: usize, kernel: usize, stride: usize, before: usize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for output in 0..outputs {
        let at = output * stride;
        let (start, end) = (at.saturating_sub(before), (at + kernel - before).min(size));
        let kernel = end - start;
        match runs.last_mut() {
            // The first window may be cut to the length of the next one without being `stride` away from it.
            Some(run) if run.kernel == kernel && run.end + stride == end => run.end = end,
            _ => runs.push(Run { start, end, kernel }),
        }
    }
    runs
}

/// Returns a patch with the pools of all rectangles, and the wire of their concatenation.
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

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::*;

    /// Graph on which the pass fires.
    pub fn example() -> Graph {
        built(|b, x| b.wire("pool", Pool2d::new(PoolKind::Max, 3, 1), &[x]))
    }

    #[test]
    fn padded_pools_become_pools_of_parts() {
        for kind in [PoolKind::Max, PoolKind::Average { count_padding: false }] {
            for (kernel, stride, size) in
                [(3, 1, 6), (3, 2, 6), (3, 2, 7), (5, 1, 6), (5, 3, 9), (3, 1, 2), (3, 2, 1)]
            {
                let mut b = Builder::new();
                let x = b.input("input", Fact::image(2, size, size + 1)).unwrap();
                let y = b.wire("pool", Pool2d::new(kind, kernel, stride), &[x]).unwrap();
                b.output("y", y);
                let graph = b.finish().unwrap();
                assert_eq!(assert_sound(&[&LowerPadding], &graph, Tolerance::ROUNDING, true), 1);
                let after = text(&[&LowerPadding], &graph);
                let pools = after.lines().filter(|l| l.contains("pool2d")).count();
                assert_eq!(after.matches("pads [0, 0, 0, 0]").count(), pools, "{after}");
            }
        }
    }
}
