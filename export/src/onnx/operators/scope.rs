//! Names defined by the nodes read so far, and the reader of one node.

use std::collections::{HashMap, HashSet};

use crate::onnx::schema::{DataType, NodeProto, TensorProto};
use candle_core::{Device, Tensor};
use milenas_models::Weights;
use milenas_models::graph::{Builder, Fact, Value};
use milenas_models::op::{FakeQuantize, Op};

use super::super::attributes::Attributes;
use super::super::tensors::{self, Constant};
use super::{Read, label};

/// Meaning of a name in the file.
#[derive(Clone)]
pub(super) enum Definition<'a> {
    Wire(Value),
    Constant(Constant<'a>),
    Pixels(ByteInput),
    Quantized(QuantizedWire),
    Groups(ChannelGroups),
}

/// State of an image whose channels are reshaped to groups. The file must exchange groups and channels, and reshape back: a
/// channel shuffle.
#[derive(Clone, Copy)]
pub(super) struct ChannelGroups {
    pub(super) wire: Value,
    pub(super) groups: usize,
    pub(super) swapped: bool,
}

/// Wire as the integers of a `QuantizeLinear`. A `DequantizeLinear` with the same grid must read it.
#[derive(Clone)]
pub(super) struct QuantizedWire {
    pub(super) wire: Value,
    pub(super) grid: FakeQuantize,
}

/// State of a uint8 input `[N, H, W, C]` before it becomes a float wire `[N, C, H, W]`. The file must apply a
/// `Cast` and a `Transpose`, in either order.
#[derive(Clone, Copy)]
pub(super) struct ByteInput {
    wire: Value,
    cast: bool,
    transposed: bool,
}

impl<'a> ByteInput {
    fn definition(self) -> Definition<'a> {
        if self.cast && self.transposed { Definition::Wire(self.wire) } else { Definition::Pixels(self) }
    }
}

/// State of decoding: the graph and the names so far.
pub(in super::super) struct Scope<'a> {
    pub(super) opset: i64,
    builder: Builder,
    names: HashMap<&'a str, Definition<'a>>,
    nodes: HashSet<String>,
    weights: Weights,
}

impl<'a> Scope<'a> {
    pub(in super::super) fn new(opset: i64) -> Self {
        Scope {
            opset,
            builder: Builder::new(),
            names: HashMap::new(),
            nodes: HashSet::new(),
            weights: Weights::default(),
        }
    }

    pub(super) fn define(&mut self, name: &'a str, what: Definition<'a>) -> Read<()> {
        match self.names.insert(name, what) {
            None if !name.is_empty() => Ok(()),
            None => Err("it has no name".into()),
            Some(_) => Err(format!("the name `{name}` is taken")),
        }
    }

    pub(in super::super) fn define_wire(&mut self, name: &'a str, value: Value) -> Read<()> {
        self.define(name, Definition::Wire(value))
    }

    pub(in super::super) fn define_input(&mut self, name: &'a str, fact: Fact) -> Read<()> {
        let value = self.builder.input(name, fact).map_err(|e| e.to_string())?;
        self.nodes.insert(name.to_string());
        self.define_wire(name, value)
    }

    /// Defines a uint8 input; `fact` is the shape of its float wire `[N, C, H, W]`.
    pub(in super::super) fn define_pixels(&mut self, name: &'a str, fact: Fact) -> Read<()> {
        let wire = self.builder.input(name, fact).map_err(|e| e.to_string())?;
        self.nodes.insert(name.to_string());
        self.define(name, Definition::Pixels(ByteInput { wire, cast: false, transposed: false }))
    }

    pub(in super::super) fn define_output(&mut self, name: &str) -> Read<()> {
        let value = self.wire(name)?;
        self.builder.output(name, value);
        Ok(())
    }

    pub(in super::super) fn define_constant(&mut self, name: &'a str, tensor: &'a TensorProto) -> Read<()> {
        self.define(name, Definition::Constant(Constant { tensor, widened: false, grid: None }))
    }

    pub(in super::super) fn is_constant(&self, name: &str) -> bool {
        matches!(self.names.get(name), Some(Definition::Constant(_)))
    }

    pub(super) fn is_defined(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Returns the wire with a name; an error if the name is something else.
    fn wire(&self, name: &str) -> Read<Value> {
        match self.names.get(name) {
            Some(Definition::Wire(value)) => Ok(*value),
            Some(Definition::Constant(_)) => {
                Err(format!("`{name}` is a constant, expected what a node computes"))
            }
            Some(Definition::Pixels(_)) => {
                Err(format!("`{name}` holds bytes, which need a Cast and a Transpose to [N, C, H, W] first"))
            }
            Some(Definition::Groups(_)) => Err(format!(
                "`{name}` holds groups of channels, this program reads them in a channel shuffle only"
            )),
            Some(Definition::Quantized(_)) => {
                Err(format!("`{name}` holds integers, which need a DequantizeLinear first"))
            }
            None => Err(format!("`{name}` is not defined")),
        }
    }

    pub(in super::super) fn finish(self) -> (Builder, Weights) {
        (self.builder, self.weights)
    }
}

/// Reader of one node.
pub(in super::super) struct NodeReader<'s, 'a> {
    scope: &'s mut Scope<'a>,
    node: &'a NodeProto,
    pub(super) attributes: Attributes<'a>,
    pub(super) opset: i64,
}

impl<'s, 'a> NodeReader<'s, 'a> {
    pub(super) fn of(scope: &'s mut Scope<'a>, node: &'a NodeProto) -> Self {
        NodeReader { opset: scope.opset, attributes: Attributes::of(node), scope, node }
    }

    /// Returns the definition of a node that computes nothing. Such a node is a `Constant`; an `Identity`,
    /// widening `Cast` or `DequantizeLinear` of a constant; a conversion step of a uint8 input; or the
    /// `QuantizeLinear` of a pair.
    pub(super) fn alias(&self) -> Read<Option<Definition<'a>>> {
        let read = self.node.input.first().and_then(|name| self.scope.names.get(name.as_str()));
        match (self.node.op_type.as_str(), read) {
            ("Constant", _) => {
                let Some(tensor) = self.attributes.tensor("value")? else {
                    return Err("this program reads constants from the attribute `value` only".into());
                };
                Ok(Some(Definition::Constant(Constant { tensor, widened: false, grid: None })))
            }
            ("Identity", Some(constant @ Definition::Constant(_))) => Ok(Some(constant.clone())),
            ("DequantizeLinear", Some(Definition::Constant(constant))) => {
                let grid = Some(super::quantize::grid_of_constant(self)?);
                Ok(Some(Definition::Constant(Constant { grid, ..*constant })))
            }
            ("QuantizeLinear", Some(Definition::Wire(wire))) => {
                let quantized = QuantizedWire { wire: *wire, grid: super::quantize::grid_of_wire(self)? };
                Ok(Some(Definition::Quantized(quantized)))
            }
            ("Cast", Some(read)) => {
                self.inputs(1)?;
                self.attributes.int("saturate", 1)?;
                self.attributes.must_be("to", DataType::Float as i64, 0)?;
                match read.clone() {
                    Definition::Constant(constant) => {
                        Ok(Some(Definition::Constant(Constant { widened: true, ..constant })))
                    }
                    Definition::Pixels(pixels) => Ok(Some(ByteInput { cast: true, ..pixels }.definition())),
                    Definition::Wire(_) | Definition::Quantized(_) | Definition::Groups(_) => Ok(None),
                }
            }
            ("Transpose", Some(Definition::Pixels(pixels))) if !pixels.transposed => {
                self.inputs(1)?;
                match self.attributes.ints("perm")? {
                    Some([0, 3, 1, 2]) => Ok(Some(ByteInput { transposed: true, ..*pixels }.definition())),
                    other => Err(format!("perm is {other:?}, this program reads [0, 3, 1, 2] of bytes")),
                }
            }
            ("Transpose", Some(Definition::Groups(groups))) if !groups.swapped => {
                self.inputs(1)?;
                match self.attributes.ints("perm")? {
                    Some([0, 2, 1, 3, 4]) => {
                        Ok(Some(Definition::Groups(ChannelGroups { swapped: true, ..*groups })))
                    }
                    other => Err(format!(
                        "perm is {other:?}, this program reads [0, 2, 1, 3, 4] of groups of channels"
                    )),
                }
            }
            ("Reshape", Some(Definition::Wire(wire))) if self.opset >= 5 => {
                let groups = super::shape::groups(self, *wire)?;
                Ok(groups
                    .map(|groups| Definition::Groups(ChannelGroups { wire: *wire, groups, swapped: false })))
            }
            _ => Ok(None),
        }
    }

    /// Returns the first input if it is an image whose groups and channels are exchanged.
    pub(super) fn shuffled(&self) -> Option<ChannelGroups> {
        match self.input(0).and_then(|name| self.scope.names.get(name)) {
            Some(Definition::Groups(groups)) if groups.swapped => Some(*groups),
            _ => None,
        }
    }

    /// Returns the names of the results.
    pub(super) fn output_count(&self) -> usize {
        self.node.output.len()
    }

    /// Returns the name of the `i`-th input; `None` if omitted.
    fn input(&self, i: usize) -> Option<&'a str> {
        self.node.input.get(i).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Refuses nodes with more than `most` inputs.
    pub(super) fn inputs(&self, most: usize) -> Read<()> {
        match self.node.input.len() {
            n if n <= most => Ok(()),
            n => Err(format!("it reads {n} inputs, expected at most {most}")),
        }
    }

    pub(super) fn input_count(&self) -> usize {
        self.node.input.len()
    }

    /// Refuses results beyond the first.
    pub(super) fn one_output(&self) -> Read<()> {
        match self.node.output.iter().skip(1).find(|name| !name.is_empty()) {
            Some(name) => Err(format!("this program does not compute its result `{name}`")),
            None => Ok(()),
        }
    }

    /// Returns the wire of the `i`-th input.
    pub(super) fn wire(&self, i: usize) -> Read<Value> {
        let name = self.input(i).ok_or_else(|| format!("input {i} is missing"))?;
        self.scope.wire(name).map_err(|problem| format!("input {i}: {problem}"))
    }

    /// Returns the shape of a wire.
    pub(super) fn fact(&self, value: Value) -> &Fact {
        self.scope.builder.fact(value)
    }

    /// Returns the first input if a `QuantizeLinear` wrote it.
    pub(super) fn quantized(&self) -> Option<QuantizedWire> {
        match self.input(0).and_then(|name| self.scope.names.get(name)) {
            Some(Definition::Quantized(quantized)) => Some(quantized.clone()),
            _ => None,
        }
    }

    /// Returns the tensor of the `i`-th input, which must be a constant; `None` if omitted.
    pub(super) fn tensor(&self, i: usize) -> Read<Option<&'a TensorProto>> {
        Ok(self.constant(i)?.map(|(_, constant)| constant.tensor))
    }

    /// Returns the name and value of the `i`-th input, which must be a constant; `None` if omitted.
    fn constant(&self, i: usize) -> Read<Option<(&'a str, Constant<'a>)>> {
        let Some(name) = self.input(i) else { return Ok(None) };
        match self.scope.names.get(name) {
            Some(Definition::Constant(constant)) => Ok(Some((name, *constant))),
            _ => Err(format!("input {i}, `{name}`, is computed, this program needs a constant there")),
        }
    }

    /// Returns shape and values of the `i`-th input, which must be a constant; `None` if omitted.
    pub(super) fn floats(&self, i: usize) -> Read<Option<(Vec<usize>, Vec<f32>)>> {
        let Some((name, constant)) = self.constant(i)? else { return Ok(None) };
        tensors::floats(constant).map(Some).map_err(|problem| format!("`{name}`: {problem}"))
    }

    /// Returns the integers of the `i`-th input, which must be a constant; `None` if omitted.
    pub(super) fn integers(&self, i: usize) -> Read<Option<Vec<i64>>> {
        let Some((name, constant)) = self.constant(i)? else { return Ok(None) };
        tensors::integers(constant.tensor).map(Some).map_err(|problem| format!("`{name}`: {problem}"))
    }

    /// Returns the shape of the `i`-th input, which must be a constant.
    pub(super) fn param_shape(&self, i: usize) -> Read<Vec<usize>> {
        let (name, constant) = self.constant(i)?.ok_or_else(|| format!("input {i} is missing"))?;
        tensors::dims(constant.tensor).map_err(|problem| format!("`{name}`: {problem}"))
    }

    /// Adds the `i`-th input as a parameter, unchanged, and returns its name.
    pub(super) fn param(&mut self, i: usize) -> Read<String> {
        let (name, constant) = self.constant(i)?.ok_or_else(|| format!("input {i} is missing"))?;
        if self.scope.weights.get(name).is_none() {
            let (dims, numbers) =
                tensors::floats(constant).map_err(|problem| format!("`{name}`: {problem}"))?;
            self.insert(name, &dims, numbers)?;
        }
        Ok(name.into())
    }

    /// Adds a parameter that the file does not hold in this form, and returns its name.
    pub(super) fn new_param(&mut self, role: &str, dims: &[usize], numbers: Vec<f32>) -> Read<String> {
        let mut name = format!("{}.{role}", label(self.node));
        while self.scope.is_defined(&name) || self.scope.weights.get(&name).is_some() {
            name.push('_');
        }
        self.insert(&name, dims, numbers)?;
        Ok(name)
    }

    fn insert(&mut self, name: &str, dims: &[usize], numbers: Vec<f32>) -> Read<()> {
        let tensor = Tensor::from_vec(numbers, dims, &Device::Cpu).map_err(|e| e.to_string())?;
        self.scope.weights.insert(name, tensor).map_err(|e| e.to_string())
    }

    /// Adds an operation under the node's name, with underscores appended if the name is taken.
    pub(super) fn emit(&mut self, op: impl Into<Op>, inputs: &[Value], params: Vec<String>) -> Read<Value> {
        let op = op.into();
        for (spec, name) in op.params().iter().zip(&params) {
            let found = self.scope.weights.get(name).map(|w| w.dims().to_vec());
            if found.as_ref() != Some(&spec.shape) {
                let found = found.unwrap_or_default();
                return Err(format!("`{name}` has shape {found:?}, expected {:?}", spec.shape));
            }
        }
        let mut name = label(self.node).to_string();
        while !self.scope.nodes.insert(name.clone()) {
            name.push('_');
        }
        self.scope.builder.wire_with(&name, op, inputs, Some(params)).map_err(|error| match error {
            milenas_models::Error::Graph { problem, .. } => problem,
            other => other.to_string(),
        })
    }
}
