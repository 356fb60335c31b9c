//! Operators that move values without changing them.

use milenas_models::graph::{Dim, Fact, Value};
use milenas_models::op::{Concat, Flatten, Identity, Range, Slice};

use super::super::attributes::axis;
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

/// Decodes a `Reshape` that flattens to `[N, elements of an image]` or changes nothing. Others are refused.
pub(super) fn reshape(r: &mut NodeReader) -> Read<Value> {
    r.inputs(2)?;
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
