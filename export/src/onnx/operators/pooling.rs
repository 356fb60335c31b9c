//! Pooling over windows and over the whole image.

use milenas_models::graph::Value;
use milenas_models::op::{Flatten, GlobalAvgPool, Pool2d, PoolKind};

use super::super::attributes::axis;
use super::convolution::{WindowAttributes, image};
use super::{NodeReader, Read};

pub(super) fn max_pool(r: &mut NodeReader) -> Read<Value> {
    r.attributes.int("storage_order", 0)?; // order of the indices, which are not computed
    pool(r, PoolKind::Max)
}

pub(super) fn average_pool(r: &mut NodeReader) -> Read<Value> {
    let count_padding = r.attributes.int("count_include_pad", 0)? != 0;
    pool(r, PoolKind::Average { count_padding })
}

fn pool(r: &mut NodeReader, kind: PoolKind) -> Read<Value> {
    r.inputs(1)?;
    r.one_output()?;
    let x = r.wire(0)?;
    let (_, size) = image(r, x)?;
    if r.attributes.ints("kernel_shape")?.is_none() {
        return Err("it has no kernel_shape".into());
    }
    let kernel = r.attributes.sizes("kernel_shape", 1)?;
    let mut window = WindowAttributes::read(r, kernel, size)?;
    if r.attributes.int("ceil_mode", 0)? != 0 {
        round_up(&mut window, size, kind)?;
    }
    let WindowAttributes { kernel, stride, dilation, padding } = window;
    r.emit(Pool2d { kind, kernel, stride, padding, dilation }, &[x], vec![])
}

/// Applies `ceil_mode`: a last window may extend past the end. This equals more padding at the end, unless
/// padding counts in the average.
fn round_up(window: &mut WindowAttributes, size: [usize; 2], kind: PoolKind) -> Read<()> {
    let before = [window.padding.top, window.padding.left];
    let after = [window.padding.bottom, window.padding.right];
    let mut more = [0; 2];
    for axis in 0..2 {
        let padded = size[axis] + before[axis] + after[axis];
        let Some(room) = padded.checked_sub(window.reach(axis)) else { continue };
        let mut steps = room.div_ceil(window.stride[axis]);
        // A window that starts behind the image is dropped.
        if steps * window.stride[axis] >= size[axis] + before[axis] {
            steps -= 1;
        }
        more[axis] = (steps * window.stride[axis]).saturating_sub(room);
    }
    if more != [0; 2] && kind == (PoolKind::Average { count_padding: true }) {
        return Err(
            "ceil_mode with count_include_pad: this program has no average over a part of the padding".into(),
        );
    }
    window.padding.bottom += more[0];
    window.padding.right += more[1];
    Ok(())
}

pub(super) fn global_average_pool(r: &mut NodeReader) -> Read<Value> {
    r.inputs(1)?;
    let x = r.wire(0)?;
    r.emit(GlobalAvgPool, &[x], vec![])
}

/// Decodes the mean over rows and columns of an image, with or without keeping the two axes.
pub(super) fn reduce_mean(r: &mut NodeReader) -> Read<Value> {
    r.inputs(2)?;
    let x = r.wire(0)?;
    let rank = r.fact(x).rank();
    let axes = match r.opset {
        ..18 => r.attributes.ints("axes")?.map(<[i64]>::to_vec),
        _ => r.integers(1)?,
    };
    if r.opset >= 18 {
        r.attributes.must_be("noop_with_empty_axes", 0, 0)?;
    }
    let mut axes = axes.unwrap_or_default().into_iter().map(|i| axis(i, rank)).collect::<Read<Vec<_>>>()?;
    axes.sort();
    if rank != 4 || axes != [2, 3] {
        let fact = r.fact(x);
        return Err(format!(
            "a mean over axes {axes:?} of {fact}, this program has only rows and columns of images"
        ));
    }
    let keep = r.attributes.int("keepdims", 1)? != 0;
    let mean = r.emit(GlobalAvgPool, &[x], vec![])?;
    if keep { Ok(mean) } else { r.emit(Flatten { axis: 1 }, &[mean], vec![]) }
}
