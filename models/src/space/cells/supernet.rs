//! Supernet of a space of cells as one graph.

use super::{CellForm, CellSpace};
use crate::assemble::cells::{CellPlace, StackSize};
use crate::blocks;
use crate::graph::{Builder, Fact, Value};
use crate::op::{Add, Concat, Identity, Padding, Pool2d, PoolKind, Range, Slice};
use crate::primitive::{Primitive, Style};
use crate::space::{ChoiceGraph, Site, SupernetSize};
use crate::{Error, Result};

/// Emits the supernet.
pub(super) fn emit(space: &CellSpace, size: &SupernetSize) -> Result<ChoiceGraph> {
    let &SupernetSize { channels, layers, partial, .. } = size;
    if partial > 1 && space.cells == CellForm::Single {
        let (found, expected) = (partial.to_string(), format!("1, for the space {}", space.name));
        return Err(Error::Value { what: "divisor of the channels".into(), found, expected });
    }
    let mut b = Builder::new();
    let image = b.input("input", Fact::image(size.in_channels, size.height, size.width))?;
    let stack = space.stack();
    let stem = blocks::stem(&mut b, image, stack.stem_channels(channels, size.stem_multiplier))?;
    let mut sites = Vec::new();
    let stack_size = StackSize { channels, layers, style: Style::Supernet, shrinks: false };
    let last = stack.emit(
        &mut b,
        vec![stem; stack.inputs],
        &stack_size,
        &mut |b, place, states| emit_cell(b, &MixedCell { space, place, partial }, states, &mut sites),
        &mut |_, _, _| Ok(()),
    )?;
    let logits = blocks::head(&mut b, last, size.classes)?;
    b.output("logits", logits);
    Ok(ChoiceGraph { graph: b.finish()?, sites })
}

/// Cell of a supernet.
struct MixedCell<'a> {
    space: &'a CellSpace,
    place: &'a CellPlace,
    /// Divisor of the channels that candidates see.
    partial: usize,
}

/// Sum under construction: terms are added one by one.
#[derive(Default)]
struct Sum(Option<Value>);

impl Sum {
    fn add(&mut self, b: &mut Builder, name: &str, term: Value) -> Result<()> {
        self.0 = Some(match self.0 {
            None => term,
            Some(sum) => b.wire(name, Add, &[sum, term])?,
        });
        Ok(())
    }
}

/// Emits a cell: each node is the sum of the results of its edges' candidates. With partial channels, candidates see the
/// first channels of a state, and the others bypass them (PC-DARTS, section 3.2).
fn emit_cell(
    b: &mut Builder,
    cell: &MixedCell<'_>,
    mut states: Vec<Value>,
    sites: &mut Vec<Site>,
) -> Result<Value> {
    let MixedCell { space, place, partial } = *cell;
    let (inputs, edges) = (states.len(), space.edges());
    let first = if place.reduction { edges.len() } else { 0 };
    let (mut sum, mut past) = (Sum::default(), Sum::default());
    for (edge, &(from, to)) in edges.iter().enumerate() {
        if to > states.len() {
            states.push(node(b, cell, states.len(), &mut sum, &mut past)?);
        }
        let stride = if place.reduction && from < inputs { 2 } else { 1 };
        let (seen, bypass) = split(b, cell, edge, states[from], stride)?;
        let mut candidates = Vec::with_capacity(space.primitives.len());
        for (k, primitive) in space.primitives.iter().enumerate() {
            let mut wires = Vec::new();
            let scope = format!("edges.{edge}.{k}");
            let style = style(space, *primitive);
            let y = b.scope(&scope, |b| primitive.emit(b, seen, place.channels / partial, stride, style))?;
            if *primitive != Primitive::None {
                wires.push(y);
            }
            sum.add(b, &format!("nodes.{to}.{edge}.{k}"), y)?;
            if let Some(bypass) = bypass {
                let y = b.wire(&format!("bypass.{edge}.{k}"), Identity, &[bypass])?;
                wires.push(y);
                past.add(b, &format!("past.{to}.{edge}.{k}"), y)?;
            }
            candidates.push(wires);
        }
        sites.push(Site { choice: first + edge, candidates });
    }
    states.push(node(b, cell, states.len(), &mut sum, &mut past)?);
    match space.cells {
        CellForm::Single => Ok(states[states.len() - 1]),
        CellForm::Pair => b.wire("concat", Concat { axis: 1 }, &states[inputs..]),
    }
}

/// Returns the style of a primitive in a supernet: pools of NAS-Bench-201 have no BatchNorm.
fn style(space: &CellSpace, primitive: Primitive) -> Style {
    match space.cells == CellForm::Single && !primitive.is_convolution() {
        true => Style::Derived,
        false => Style::Supernet,
    }
}

fn channels(b: &mut Builder, name: &str, x: Value, start: usize, end: usize) -> Result<Value> {
    b.wire(name, Slice { ranges: vec![Range { axis: 1, start, end }] }, &[x])
}

/// Returns the part of a state that candidates see, and the part that bypasses them, halved on strided edges.
fn split(
    b: &mut Builder,
    cell: &MixedCell<'_>,
    edge: usize,
    state: Value,
    stride: usize,
) -> Result<(Value, Option<Value>)> {
    if cell.partial == 1 {
        return Ok((state, None));
    }
    let (all, height, width) = b.chw(state)?;
    let part = all / cell.partial;
    let seen = channels(b, &format!("part.{edge}"), state, 0, part)?;
    let bypass = channels(b, &format!("rest.{edge}"), state, part, all)?;
    if stride == 1 {
        return Ok((seen, Some(bypass)));
    }
    let padding = Padding { bottom: height % 2, right: width % 2, ..Padding::default() };
    let halve = Pool2d { padding, ..Pool2d::new(PoolKind::Max, 2, 2) };
    Ok((seen, Some(b.wire(&format!("halve.{edge}"), halve, &[bypass])?)))
}

/// Returns a node from the mixed part of its channels and, with partial channels, from the bypass. They are shuffled, so
/// that the next edges see channels of both.
fn node(b: &mut Builder, cell: &MixedCell<'_>, state: usize, sum: &mut Sum, past: &mut Sum) -> Result<Value> {
    let missing = || Error::Graph { node: format!("node {state}"), problem: "has no edge".into() };
    let mixed = sum.0.take().ok_or_else(missing)?;
    let Some(past) = past.0.take() else { return Ok(mixed) };
    b.scope(format!("shuffle.{state}"), |b| {
        let all = b.wire("all", Concat { axis: 1 }, &[mixed, past])?;
        let (count, parts) = (cell.place.channels, cell.partial);
        let part = count / parts;
        let order = (0..count).map(|to| to / parts + to % parts * part);
        let one = |from| channels(b, &format!("channel.{from}"), all, from, from + 1);
        let shuffled = order.map(one).collect::<Result<Vec<_>>>()?;
        b.wire("", Concat { axis: 1 }, &shuffled)
    })
}
