//! Compilation of a graph to steps over blocked feature maps.
//!
//! A convolution includes the ReLU before it, and a depthwise convolution that only it reads. The BatchNorm after it
//! becomes a factor and an addend that the reader applies. Nested additions become one weighted sum. Parts of a
//! concatenation are written directly to its buffer.

mod auxiliary;
mod convolution;
mod sums;

use std::collections::HashMap;

use crate::graph::{Graph, Node, Value};
use crate::kernels::cpu::depthwise::DepthwiseShape;
use crate::kernels::cpu::norm::Scaling;
use crate::kernels::cpu::{Channels, MapSize};
use crate::op::{Op, Padding, ParamRole, Pool2d, PoolKind};

use super::super::auxiliary::Auxiliary;
use super::super::head::Head;
use super::super::norm::{AffineNorm, Statistics};
use super::super::parameters::Parameters;
use super::super::stem::Stem;
use super::super::tensors::NetworkTensors;
use super::liveness::Liveness;
use super::{ConvSource, ConvStep, ConvTarget, MapSlot, Passing, PoolStep, SumStep, SumTerm, TrainStep};

/// Reason why the engine does not support a graph.
pub(super) type Unsupported = String;

type Compiled<T> = Result<T, Unsupported>;

/// Content of a wire.
#[derive(Clone, Debug)]
enum CompiledWire {
    /// Not compiled yet, or part of a convolution step.
    Nothing,
    Image,
    AfterRelu(Value),
    /// The result of a ReLU without its first row and column.
    Shifted(Value),
    /// A depthwise convolution of the result of a ReLU. The node has the weight.
    Depthwise(Value, DepthwiseShape),
    /// A pointwise convolution at stride 2, of the result of a ReLU or of its shift.
    Half {
        source: Value,
        odd: bool,
    },
    /// Means of 2x2 windows of a wire, as input of a pointwise convolution.
    Halved(Value),
    /// The result of a step: a convolution with its norm, a pool, or a state that is passed on.
    Made(usize),
    /// A sum that is not written yet.
    Terms(Vec<SumTerm>),
    State(MapSlot),
    /// The means of a state, and whether ReLU is applied first.
    Features(MapSlot, bool),
    Logits,
}

/// A compiled network.
pub(super) struct Program {
    pub(super) tensors: NetworkTensors,
    /// Norms by step.
    pub(super) norms: Vec<Option<AffineNorm>>,
    pub(super) steps: Vec<TrainStep>,
    /// Packs per image of each buffer. Buffer 0 is the stem's output.
    pub(super) images: Vec<usize>,
    /// Liveness of the feature maps, for passes without a backward pass.
    pub(super) lives: Liveness,
    /// First step that writes a part of each buffer.
    pub(super) first: Vec<usize>,
    /// The identity for the largest number of blocks of any feature map.
    pub(super) identity: Scaling,
    pub(super) stem: Stem,
    pub(super) head: Head,
    /// The auxiliary head, and the location of its input.
    pub(super) auxiliary: Option<(Auxiliary, MapSlot)>,
    /// Steps of the wires that drop path may drop, in the same order.
    pub(super) paths: Vec<usize>,
    /// Wires whose features and gradients the caller asks for, in network order.
    pub(super) watched: Vec<WatchedWire>,
    /// Location of the head's input.
    pub(super) last: MapSlot,
    pub(super) classes: usize,
    pub(super) image: [usize; 3],
}

/// A wire whose features the caller asks for.
#[derive(Copy, Clone)]
pub(super) struct WatchedWire {
    pub(super) slot: MapSlot,
    /// Number of steps that compute it.
    pub(super) end: usize,
}

struct Compiler<'a> {
    graph: &'a Graph,
    /// Source of each wire: the wire itself, or the input of an identity.
    alias: Vec<Value>,
    uses: Vec<usize>,
    wires: Vec<CompiledWire>,
    /// Steps of the wires that a sum with a single term writes to a buffer.
    written: HashMap<Value, usize>,
    parameters: Parameters,
    statistics: Statistics,
    norms: Vec<Option<AffineNorm>>,
    steps: Vec<TrainStep>,
    images: Vec<usize>,
    /// Buffer and offset of each part of a concatenation.
    places: HashMap<Value, (usize, usize)>,
    /// Buffer of each concatenation.
    joined: HashMap<Value, usize>,
    stem: Option<Stem>,
    head: Option<(Head, MapSlot, usize)>,
}

/// Compiles a classifier, which may have an auxiliary head as second output. `paths` are the wires that drop path may
/// drop, `watched` those whose features are written even if no operation reads them.
pub(super) fn compile(graph: &Graph, paths: &[Value], watched: &[Value]) -> Compiled<Program> {
    let mut inputs = graph.inputs();
    let (Some(input), None, [(_, output), more @ ..]) = (inputs.next(), inputs.next(), graph.outputs())
    else {
        return Err("it has not one input and an output".into());
    };
    let auxiliary = match more {
        [] => Vec::new(),
        [(_, output)] => auxiliary::nodes(graph, *output),
        _ => return Err("it has more than two outputs".into()),
    };
    let (channels, height, width) = graph.fact(input).chw().ok_or("its input is no image")?;
    let mut names = std::collections::HashSet::new();
    if let Some(p) = graph.nodes().iter().flat_map(|n| &n.params).find(|p| !names.insert(&p.name)) {
        return Err(format!("several nodes share `{}`", p.name));
    }
    let mut compiler = Compiler::new(graph, paths);
    let mut watches = Vec::with_capacity(watched.len());
    for (value, node) in graph.values().filter(|(value, _)| !auxiliary.contains(value)) {
        let wire =
            compiler.node(value, node).map_err(|problem| format!("node `{}`: {problem}", node.name))?;
        if !matches!(wire, CompiledWire::Nothing) {
            compiler.wires[value.index()] = wire;
        }
        if watched.contains(&value) {
            let slot = compiler.state(compiler.alias[value.index()])?;
            watches.push(WatchedWire { slot, end: compiler.steps.len() });
        }
    }
    if !matches!(compiler.wires[compiler.alias[output.index()].index()], CompiledWire::Logits) {
        return Err("its output is no linear layer".into());
    }
    let auxiliary = match &auxiliary[..] {
        [] => None,
        nodes => Some(compiler.auxiliary(nodes).map_err(|problem| format!("the auxiliary head: {problem}"))?),
    };
    let made = |path: &Value| match compiler.wire(*path) {
        CompiledWire::Made(step) => Ok(*step),
        _ if compiler.written.contains_key(path) => Ok(compiler.written[path]),
        _ => Err(format!("node `{}`: is no operation's result", graph.node(*path).name)),
    };
    let paths = paths.iter().map(made).collect::<Compiled<Vec<_>>>()?;
    let Compiler { parameters, statistics, norms, mut steps, images, stem, head, .. } = compiler;
    let (Some(stem), Some((head, last, classes))) = (stem, head) else {
        return Err("it has no stem or no linear layer".into());
    };
    targets(&mut steps);
    let made_first = |buffer: usize| steps.iter().position(|step| step.makes(buffer)).unwrap_or(usize::MAX);
    Ok(Program {
        lives: Liveness::new(&steps, images.len(), last.buffer),
        first: (0..images.len()).map(made_first).collect(),
        identity: Scaling::identity(steps.iter().map(TrainStep::packs).max().unwrap_or(0)),
        tensors: NetworkTensors::new(parameters, statistics),
        norms,
        steps,
        images,
        stem,
        head,
        auxiliary,
        paths,
        watched: watches,
        last,
        classes,
        image: [channels, height, width],
    })
}

/// Sets the reader of each step.
fn targets(steps: &mut [TrainStep]) {
    let mut targets = vec![ConvTarget::Nobody; steps.len()];
    for (at, step) in steps.iter().enumerate() {
        match step {
            TrainStep::Sum(SumStep { terms, out }) => {
                for term in terms {
                    if let SumTerm::Made(i) = term {
                        targets[*i] = ConvTarget::State(*out);
                    }
                }
            }
            TrainStep::Convolution(ConvStep { source: ConvSource::Normed(i), .. }) => {
                targets[*i] = ConvTarget::Next(at);
            }
            _ => (),
        }
    }
    for (step, found) in steps.iter_mut().zip(targets) {
        match step {
            TrainStep::Sum(_) => (),
            TrainStep::Convolution(ConvStep { target, .. })
            | TrainStep::Pool(PoolStep { target, .. })
            | TrainStep::Passing(Passing { target, .. }) => *target = found,
        }
    }
}

impl<'a> Compiler<'a> {
    fn new(graph: &'a Graph, paths: &[Value]) -> Self {
        let count = graph.nodes().len();
        let mut alias: Vec<Value> = Vec::with_capacity(count);
        for (value, node) in graph.values() {
            let passes = matches!(node.op, Op::Identity(_)) && !paths.contains(&value);
            let passed = passes.then(|| alias[node.inputs[0].index()]);
            alias.push(passed.unwrap_or(value));
        }
        let mut uses = vec![0; count];
        let readers = graph.values().filter(|(value, _)| alias[value.index()] == *value).map(|(_, n)| n);
        let read = readers.flat_map(|n| &n.inputs).chain(graph.outputs().iter().map(|(_, v)| v));
        read.for_each(|v| uses[alias[v.index()].index()] += 1);
        Compiler {
            graph,
            alias,
            uses,
            wires: vec![CompiledWire::Nothing; count],
            written: HashMap::new(),
            parameters: Parameters::default(),
            statistics: Statistics::default(),
            norms: Vec::new(),
            steps: Vec::new(),
            images: vec![0],
            places: HashMap::new(),
            joined: HashMap::new(),
            stem: None,
            head: None,
        }
        .placed()
    }

    /// Assigns buffers to concatenations, and offsets in them to their parts.
    fn placed(mut self) -> Self {
        for (value, node) in self.graph.values() {
            let halves = node.inputs.iter().any(|v| {
                matches!(&self.graph.node(*v).op, Op::Conv2d(c) if c.stride == [2, 2] && c.kernel == [1, 1])
            });
            if !matches!(node.op, Op::Concat(_)) || halves {
                continue;
            }
            let (buffer, mut offset) = (self.images.len(), 0);
            for part in node.inputs.iter().map(|v| self.alias[v.index()]) {
                self.places.entry(part).or_insert((buffer, offset));
                offset += self.map(part).map_or(0, MapSize::len);
            }
            self.images.push(offset);
            self.joined.insert(value, buffer);
        }
        self
    }

    fn map(&self, value: Value) -> Option<MapSize> {
        let (channels, height, width) = self.graph.fact(value).chw()?;
        Some(MapSize { packs: Channels::one(channels).packs(), height, width })
    }

    fn input(&self, node: &Node) -> Value {
        self.alias[node.inputs[0].index()]
    }

    fn wire(&self, value: Value) -> &CompiledWire {
        &self.wires[value.index()]
    }

    /// Returns the reader of a wire if there is exactly one.
    fn reader(&self, value: Value) -> Option<(Value, &'a Node)> {
        let reads = |n: &Node| n.inputs.iter().any(|v| self.alias[v.index()] == value);
        let mut readers = self.graph.values().filter(|(v, n)| self.alias[v.index()] == *v && reads(n));
        readers.next().filter(|_| self.uses[value.index()] == 1)
    }

    fn node(&mut self, value: Value, node: &'a Node) -> Compiled<CompiledWire> {
        match &node.op {
            Op::Input(_) => Ok(CompiledWire::Image),
            Op::Identity(_) if self.alias[value.index()] == value => {
                let source = self.state(self.input(node))?;
                let step = TrainStep::Passing(Passing { source, target: ConvTarget::Nobody });
                Ok(CompiledWire::Made(self.push(step, None)))
            }
            Op::Identity(_) => Ok(CompiledWire::Nothing),
            Op::Zero(_) => Ok(CompiledWire::Terms(Vec::new())),
            Op::Relu(_) => Ok(CompiledWire::AfterRelu(self.input(node))),
            Op::Slice(slice) => self.slice(node, slice),
            Op::Conv2d(conv) => self.convolution(value, node, conv),
            // The convolution before the BatchNorm has already compiled it.
            Op::BatchNorm(_) => match self.wire(value) {
                CompiledWire::Nothing => {
                    let source = self.state(self.input(node))?;
                    let (norm, at) = self.norm(self.input(node), &[], source.channels)?;
                    if at != value {
                        return Err("a BatchNorm reads what others read too".into());
                    }
                    let step = TrainStep::Passing(Passing { source, target: ConvTarget::Nobody });
                    Ok(CompiledWire::Made(self.push(step, Some(norm))))
                }
                _ => Ok(CompiledWire::Nothing),
            },
            Op::Pool2d(pool) => self.pool(node, pool),
            Op::Add(_) => self.add(value, node),
            Op::Concat(concat) if concat.axis == 1 => self.concat(value, node),
            Op::GlobalAvgPool(_) => {
                let input = self.input(node);
                match self.wire(input) {
                    CompiledWire::AfterRelu(source) => Ok(CompiledWire::Features(self.state(*source)?, true)),
                    _ => Ok(CompiledWire::Features(self.state(input)?, false)),
                }
            }
            Op::Flatten(_) => match self.wire(self.input(node)) {
                CompiledWire::Features(slot, activated) => Ok(CompiledWire::Features(*slot, *activated)),
                _ => Err("flattens no features".into()),
            },
            Op::Linear(linear) => {
                let (CompiledWire::Features(slot, activated), true) =
                    (self.wire(self.input(node)), linear.bias)
                else {
                    return Err("a linear layer without bias, or not behind the global pool".into());
                };
                let (slot, activated) = (*slot, *activated);
                if self.head.is_some() {
                    return Err("has two linear layers".into());
                }
                let [Some(weight), Some(bias)] = [ParamRole::Weight, ParamRole::Bias].map(|r| node.param(r))
                else {
                    return Err("lacks a parameter".into());
                };
                let (weight, bias) = (weight.to_string(), bias.to_string());
                let classes = linear.out_features;
                let head = Head::new(weight, bias, slot.channels, classes, activated, &mut self.parameters);
                self.head = Some((head, slot, classes));
                Ok(CompiledWire::Logits)
            }
            Op::Concat(_)
            | Op::Softmax(_)
            | Op::FakeQuantize(_)
            | Op::Activation(_)
            | Op::Mul(_)
            | Op::ChannelShuffle(_) => Err("no kernel".into()),
        }
    }

    fn push(&mut self, step: TrainStep, norm: Option<AffineNorm>) -> usize {
        self.steps.push(step);
        self.norms.push(norm);
        self.steps.len() - 1
    }

    fn pool(&mut self, node: &Node, pool: &Pool2d) -> Compiled<CompiledWire> {
        let maximum = match pool.kind {
            PoolKind::Max => true,
            PoolKind::Average { count_padding: false } => false,
            PoolKind::Average { count_padding: true } => return Err("an average of padding".into()),
        };
        let stride = pool.stride[0];
        let (_, height, width) = self.graph.fact(self.input(node)).chw().ok_or("pools no image")?;
        let rest = Padding { bottom: height % 2, right: width % 2, ..Padding::default() };
        if !maximum && *pool == (Pool2d { padding: rest, ..Pool2d::new(pool.kind, 2, 2) }) {
            return Ok(CompiledWire::Halved(self.input(node)));
        }
        if *pool != Pool2d::new(pool.kind, 3, stride) || !(1..=2).contains(&stride) {
            return Err(format!("no kernel for {}", node.op));
        }
        let source = self.state(self.input(node))?;
        if source.channels.groups > 1 {
            return Err("pools a concatenation".into());
        }
        let step = TrainStep::Pool(PoolStep { maximum, stride, source, target: ConvTarget::Nobody });
        Ok(CompiledWire::Made(self.push(step, None)))
    }
}
