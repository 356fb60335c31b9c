//! Compilation of sums of feature maps, and assignment of their buffers.

use crate::graph::{Node, Value};
use crate::kernels::cpu::{Channels, LANES, MapSize};

use super::super::{MapSlot, SumStep, SumTerm, TrainStep};
use super::{Compiled, CompiledWire, Compiler};

impl Compiler<'_> {
    pub(super) fn add(&mut self, value: Value, node: &Node) -> Compiled<CompiledWire> {
        let mut sum = Vec::new();
        for input in &node.inputs {
            let input = self.alias[input.index()];
            if self.graph.fact(input) != self.graph.fact(value) {
                return Err("adds maps of different sizes".into());
            }
            sum.extend(self.terms(input)?);
        }
        Ok(CompiledWire::Terms(sum))
    }

    /// Returns the terms of a wire's sum. A wire with other readers is written first.
    fn terms(&mut self, value: Value) -> Compiled<Vec<SumTerm>> {
        match self.wire(value).clone() {
            CompiledWire::Made(step) if self.uses[value.index()] == 1 => Ok(vec![SumTerm::Made(step)]),
            CompiledWire::Terms(terms) if self.uses[value.index()] == 1 => Ok(terms),
            _ => {
                let slot = self.state(value)?;
                // The zero channels between the parts would be treated as channels.
                if slot.channels.groups > 1 && !slot.channels.each.is_multiple_of(LANES) {
                    return Err("adds joined maps whose channels fill no whole packs".into());
                }
                Ok(vec![SumTerm::State(slot)])
            }
        }
    }

    /// Returns the location of a wire's feature map, after adding a step that writes it if there is none.
    pub(super) fn state(&mut self, value: Value) -> Compiled<MapSlot> {
        let terms = match self.wire(value) {
            CompiledWire::State(slot) => return Ok(*slot),
            CompiledWire::Made(step) => {
                let step = *step;
                self.written.insert(value, step);
                vec![SumTerm::Made(step)]
            }
            CompiledWire::Terms(terms) => terms.clone(),
            other => return Err(format!("reads {other:?} as a map")),
        };
        let (channels, ..) = self.graph.fact(value).chw().ok_or("reads no image")?;
        let map = self.map(value).ok_or("reads no image")?;
        let (buffer, offset) = self.places.get(&value).copied().unwrap_or((self.images.len(), 0));
        if buffer == self.images.len() {
            self.images.push(map.len());
        }
        let out = MapSlot { buffer, offset, map, channels: Channels::one(channels) };
        self.push(TrainStep::Sum(SumStep { terms, out }), None);
        self.wires[value.index()] = CompiledWire::State(out);
        Ok(out)
    }

    pub(super) fn concat(&mut self, value: Value, node: &Node) -> Compiled<CompiledWire> {
        let parts: Vec<Value> = node.inputs.iter().map(|v| self.alias[v.index()]).collect();
        if let [even, odd] = parts[..]
            && let (CompiledWire::Half { source, odd: false }, CompiledWire::Half { source: same, odd: true }) =
                (self.wire(even), self.wire(odd))
            && source == same
        {
            let source = *source;
            return self.halves(value, source, [even, odd]);
        }
        let buffer = *self.joined.get(&value).ok_or("joins what is no map")?;
        let (mut offset, mut channels) = (0, None);
        for part in &parts {
            let slot = self.state(*part)?;
            let each = *channels.get_or_insert(slot.channels.each);
            if slot.channels.each != each || slot.channels.groups != 1 {
                return Err("joins maps of different channels".into());
            }
            if (slot.buffer, slot.offset) != (buffer, offset) {
                let out = MapSlot { buffer, offset, ..slot };
                self.push(TrainStep::Sum(SumStep { terms: vec![SumTerm::State(slot)], out }), None);
            }
            offset += slot.map.len();
        }
        let each = channels.ok_or("joins nothing")?;
        let map = self.map(parts[0]).ok_or("joins what is no map")?;
        let map = MapSize { packs: map.packs * parts.len(), ..map };
        Ok(CompiledWire::State(MapSlot {
            buffer,
            offset: 0,
            map,
            channels: Channels { groups: parts.len(), each },
        }))
    }
}
