//! Operators that move values without changing them.

use milenas_models::graph::{Dim, Fact, Value};
use milenas_models::op::{ChannelShuffle, Concat, Flatten, Identity, Range, Slice};

use super::super::attributes::axis;
use super::scope::ChannelGroups;
use super::{NodeReader, Read};

pub(super) fn concat(r: &mut NodeReader) -> Read<Value> {
    let inputs = (0..r.input_count()).map(|i| r.wire(i)).collect::<Read<Vec<_>>>()?;
    let rank = inputs.first().map_or(0, |x| r.fact(*x).rank());
    // Until operator set 4 the axis defaulted to 1.
    let axis = axis(r.attributes.int("axis", 1)?, rank)?;
    r.emit(Concat { axis }, &inputs, vec![])
}

pub(super) fn flatten(r: &mut NodeReader) -> Read<Value> {
    r.inputs(1)?;
    let x = r.wire(0)?;
    let rank = r.fact(x).rank();
    let axis = match r.attributes.int("axis", 1)? {
        i if i == rank as i64 => rank,
        i => axis(i, rank)?,
    };
    r.emit(Flatten { axis }, &[x], vec![])
}

/// Returns the number of groups of a `Reshape` of an image to `[N, groups, channels of a group, H, W]`, or `None` for another
/// shape.
pub(super) fn groups(r: &NodeReader, x: Value) -> Read<Option<usize>> {
    let (Some((channels, height, width)), Ok(Some(target))) = (r.fact(x).chw(), r.integers(1)) else {
        return Ok(None);
    };
    let [_, groups, each, rows, columns] = target[..] else { return Ok(None) };
    r.attributes.int("allowzero", 0)?;
    let is = |found: i64, expected: usize| found == expected as i64;
    let count = usize::try_from(groups).unwrap_or_default();
    let fits = count > 0
        && channels.is_multiple_of(count)
        && is(each, channels / count)
        && is(rows, height)
        && is(columns, width);
    Ok(fits.then_some(count))
}

/// Decodes a `Reshape` that flattens to `[N, elements of an image]`, ends a channel shuffle, or changes nothing. Others are
/// refused.
pub(super) fn reshape(r: &mut NodeReader) -> Read<Value> {
    r.inputs(2)?;
    if let Some(ChannelGroups { wire, groups, .. }) = r.shuffled() {
        r.attributes.int("allowzero", 0)?;
        let target = r.integers(1)?.ok_or("it has no shape")?;
        let (channels, height, width) = r.fact(wire).chw().ok_or("it reads no image")?;
        return match target[..] {
            [_, c, h, w] if [c, h, w] == [channels, height, width].map(|d| d as i64) => {
                r.emit(ChannelShuffle { groups }, &[wire], vec![])
            }
            _ => Err(format!("it makes {target:?} of shuffled channels of {}", r.fact(wire))),
        };
    }
    let x = r.wire(0)?;
    let target = match r.opset {
        ..5 => r.attributes.ints("shape")?.map(<[i64]>::to_vec),
        _ => r.integers(1)?,
    };
    let target = target.ok_or("it has no shape")?;
    let keeps_zeros = r.opset >= 14 && r.attributes.int("allowzero", 0)? != 0;
    let fact = r.fact(x);
    let rest = fact
        .dims()
        .split_first()
        .and_then(|(first, rest)| Some((*first, Fact::new(rest.to_vec()).volume()?)));
    let declared = |i: i64, at: usize| match i {
        0 if !keeps_zeros => fact.dims().get(at).copied(),
        n => usize::try_from(n).ok().map(Dim::Fixed),
    };
    let same = target.len() == fact.rank()
        && target.iter().filter(|i| **i == -1).count() <= 1
        && target.iter().enumerate().all(|(at, &i)| i == -1 || declared(i, at) == Some(fact.dims()[at]));
    let flat = match (target[..].as_ref(), rest) {
        ([first, second], Some((n, numbers))) => {
            let first_fits = declared(*first, 0) == Some(n);
            let second_fits = declared(*second, 1) == Some(Dim::Fixed(numbers));
            (first_fits && (second_fits || *second == -1)) || (*first == -1 && second_fits)
        }
        _ => false,
    };
    let problem = format!("it makes {target:?} of {fact}, this program can only flatten an image");
    match (same, flat) {
        (true, _) => r.emit(Identity, &[x], vec![]),
        (false, true) => r.emit(Flatten { axis: 1 }, &[x], vec![]),
        (false, false) => Err(problem),
    }
}

/// Decodes `Split` as a `Slice` for each result.
pub(super) fn split(r: &mut NodeReader) -> Read<Vec<Value>> {
    r.inputs(2)?;
    let x = r.wire(0)?;
    let dims = r.fact(x).dims().to_vec();
    let axis = axis(r.attributes.int("axis", 0)?, dims.len())?;
    let Dim::Fixed(size) = dims[axis] else {
        return Err("it splits the batch, whose size is not known".into());
    };
    let stated = match r.opset {
        ..13 => r.attributes.ints("split")?.map(<[i64]>::to_vec),
        _ => r.integers(1)?,
    };
    let count = r.output_count();
    let parts = usize::try_from(r.attributes.int("num_outputs", count as i64)?).unwrap_or_default();
    if parts != count {
        return Err(format!("it has {count} results, and num_outputs is {parts}"));
    }
    // Equal parts, the last one smaller if need be.
    let each = size.div_ceil(count.max(1));
    let equal = || (0..count).map(|i| each.min(size.saturating_sub(i * each)) as i64).collect();
    let lengths: Vec<i64> = stated.unwrap_or_else(equal);
    let mut start = 0;
    let mut values = Vec::new();
    for length in &lengths {
        let end = usize::try_from(*length).ok().and_then(|length| start_to(start, length, size));
        let end = end.ok_or_else(|| format!("it splits {size} into {lengths:?}"))?;
        values.push(r.emit(Slice { ranges: vec![Range { axis, start, end }] }, &[x], vec![])?);
        start = end;
    }
    match start == size && values.len() == count {
        true => Ok(values),
        false => Err(format!("it splits {size} into {lengths:?} for {count} results")),
    }
}

/// Returns the end of a non-empty part of an axis, or `None` if it is longer than the axis.
fn start_to(start: usize, length: usize, size: usize) -> Option<usize> {
    start.checked_add(length).filter(|end| length > 0 && *end <= size)
}

pub(super) fn slice(r: &mut NodeReader) -> Read<Value> {
    r.inputs(5)?;
    let x = r.wire(0)?;
    let dims = r.fact(x).dims().to_vec();
    let (starts, ends, axes, steps) = match r.opset {
        ..10 => {
            let list = |name| Ok::<_, String>(r.attributes.ints(name)?.map(<[i64]>::to_vec));
            (list("starts")?, list("ends")?, list("axes")?, None)
        }
        _ => (r.integers(1)?, r.integers(2)?, r.integers(3)?, r.integers(4)?),
    };
    let (Some(starts), Some(ends)) = (starts, ends) else { return Err("it has no starts or no ends".into()) };
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err("starts, ends, axes and steps differ in length".into());
    }
    if let Some(step) = steps.iter().find(|step| **step != 1) {
        return Err(format!("a step is {step}, this program has only 1"));
    }
    let mut ranges = Vec::new();
    for ((start, end), at) in starts.into_iter().zip(ends).zip(axes) {
        let axis = axis(at, dims.len())?;
        let Dim::Fixed(size) = dims[axis] else {
            return Err("it cuts the batch, whose size is not known".into());
        };
        let place =
            |i: i64| (if i < 0 { i.saturating_add(size as i64) } else { i }).clamp(0, size as i64) as usize;
        if ranges.iter().any(|r: &Range| r.axis == axis) {
            return Err(format!("it cuts axis {axis} twice"));
        }
        ranges.push(Range { axis, start: place(start), end: place(end) });
    }
    r.emit(Slice { ranges }, &[x], vec![])
}
