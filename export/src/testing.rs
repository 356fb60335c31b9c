//! Networks for tests: random small graphs that cover every operation, and derived networks.

use candle_core::{Device, Tensor};
use milenas_models::genotype::{Cell, Edge};
use milenas_models::graph::{Builder, Fact, Graph, Value};
use milenas_models::op::{
    Activation, Add, BatchNorm, ChannelShuffle, Concat, Conv2d, Flatten, GlobalAvgPool, Identity, Linear,
    Mul, Op, Padding, ParamRole, Pool2d, PoolKind, Range, Relu, Slice, Softmax, Zero,
};
use milenas_models::{Genotype, NetworkConfig, Primitive, Rng, Weights, assemble};

/// Seeded weights with BatchNorm statistics like those of a trained network.
pub(crate) fn weights(graph: &Graph, seed: u64) -> Weights {
    let mut weights = Weights::init(graph, seed).unwrap();
    for param in graph.params() {
        let mut rng = Rng::new(seed, &format!("trained {}", param.name));
        let n = param.shape.iter().product();
        let numbers: Vec<f32> = match param.role {
            ParamRole::RunningMean | ParamRole::Bias => (0..n).map(|_| rng.normal()).collect(),
            ParamRole::RunningVar => (0..n).map(|_| rng.uniform(0.5, 2.0)).collect(),
            ParamRole::Weight if param.shape.len() == 1 => (0..n).map(|_| rng.uniform(-1.5, 1.5)).collect(),
            ParamRole::Weight => continue,
        };
        let tensor = Tensor::from_vec(numbers, param.shape.as_slice(), &Device::Cpu).unwrap();
        weights.insert(&param.name, tensor).unwrap();
    }
    weights
}

/// A graph of `nodes` random operations on an image `[N, 3, 7, 6]`, some of them dead, with one or two
/// results.
pub(crate) fn graph(seed: u64, nodes: usize) -> Graph {
    let mut rng = Rng::new(seed, "graph");
    let mut b = Builder::new();
    let mut wires = vec![b.input("input", Fact::image(3, 7, 6)).unwrap()];
    for i in 0..nodes {
        if let Some(wire) = grow(&mut b, &mut rng, &wires, &format!("n{i}")) {
            wires.push(wire);
        }
    }
    // A result must not be the input itself: in ONNX a node writes every result.
    let last = *wires.last().unwrap();
    let feature = b.wire("feature", Relu, &[last]).unwrap();
    let (channels, ..) = b.chw(feature).unwrap();
    if rng.chance(0.3) {
        b.output("feature_map", feature);
    }
    let mean = b.wire("pool", GlobalAvgPool, &[feature]).unwrap();
    let flat = b.wire("flatten", Flatten { axis: 1 }, &[mean]).unwrap();
    let linear = Linear { in_features: channels, out_features: 5, bias: rng.chance(0.5) };
    let mut logits = b.wire("classifier", linear, &[flat]).unwrap();
    if rng.chance(0.3) {
        logits = b.wire("probabilities", Softmax { axis: 1 }, &[logits]).unwrap();
    }
    b.output("logits", logits);
    b.finish().unwrap()
}

const ACTIVATIONS: [Activation; 6] = [
    Activation::RELU6,
    Activation::LeakyRelu { slope: 0.1 },
    Activation::Sigmoid,
    Activation::HardSigmoid { slope: 0.2, offset: 0.5 },
    Activation::HardSwish,
    Activation::Tanh,
];

/// Adds one random operation; `None` if it does not fit the available wires.
fn grow(b: &mut Builder, rng: &mut Rng, wires: &[Value], name: &str) -> Option<Value> {
    // Later wires are more likely, so that graphs are deep. A wire may be chosen twice, so that readers share
    // it.
    let x = wires[rng.below(wires.len()).max(rng.below(wires.len()))];
    let (channels, height, width) = b.chw(x).ok()?;
    let stride = 1 + rng.below(2);
    let like = |b: &Builder, other: &Value| b.fact(*other) == b.fact(x);
    let mates: Vec<Value> = wires.iter().copied().filter(|w| like(b, w)).collect();
    let mate = mates[rng.below(mates.len())];
    let op: Op = match rng.below(18) {
        0 | 1 => Relu.into(),
        2 => Conv2d::pointwise(channels, 1 + rng.below(5)).stride(stride).bias(rng.chance(0.3)).into(),
        3 => Conv2d::depthwise(channels, 3, stride, 1 + rng.below(2)).into(),
        4 => {
            let padding = Padding { top: 1, left: 0, bottom: 2, right: 1 };
            Conv2d::new(channels, 3, 3).padding(padding).bias(rng.chance(0.3)).into()
        }
        5..=7 => BatchNorm::new(channels, rng.chance(0.7)).into(),
        8 => {
            let kind = [PoolKind::Max, PoolKind::Average { count_padding: false }];
            Pool2d::new(kind[rng.below(2)], 3, stride).into()
        }
        9 => return b.wire(name, Add, &[x, mate]).ok(),
        10 => return b.wire(name, Concat { axis: 1 }, &[x, mate]).ok(),
        11 => Slice {
            ranges: vec![
                Range { axis: 3, start: rng.below(2).min(width - 1), end: width },
                Range { axis: 2, start: 0, end: height },
            ],
        }
        .into(),
        12 => Identity.into(),
        13 => Zero { stride }.into(),
        14 => return b.wire(name, Mul, &[x, mate]).ok(),
        15 if channels.is_multiple_of(2) => ChannelShuffle { groups: 2 }.into(),
        15 | 16 => ACTIVATIONS[rng.below(ACTIVATIONS.len())].into(),
        _ => return factorized_reduce(b, name, x),
    };
    b.wire(name, op, &[x]).ok()
}

fn factorized_reduce(b: &mut Builder, name: &str, x: Value) -> Option<Value> {
    let (channels, height, width) = b.chw(x).ok()?;
    if height % 2 == 1 || width % 2 == 1 {
        return None;
    }
    let ranges = vec![Range { axis: 2, start: 1, end: height }, Range { axis: 3, start: 1, end: width }];
    let half = Conv2d::pointwise(channels, 2).stride(2);
    b.scope(name, |b| {
        let even = b.wire("0", half.clone(), &[x])?;
        let shifted = b.wire("shift", Slice { ranges }, &[x])?;
        let odd = b.wire("1", half, &[shifted])?;
        let both = b.wire("concat", Concat { axis: 1 }, &[even, odd])?;
        b.wire("bn", BatchNorm::new(4, true), &[both])
    })
    .ok()
}

/// A random genotype of the DARTS search space, with `none`.
pub(crate) fn genotype(seed: u64) -> Genotype {
    let mut rng = Rng::new(seed, "genotype");
    let mut cell = || {
        let mut edges = Vec::new();
        for node in 0..4 {
            let first = rng.below(node + 2);
            let second = (first + 1 + rng.below(node + 1)) % (node + 2);
            for from in [first, second] {
                edges.push(Edge { primitive: Primitive::ALL[rng.below(8)], from });
            }
        }
        Cell::pairs(edges, vec![2, 3, 4, 5]).unwrap()
    };
    Genotype::pair(cell(), cell())
}

/// A derived network of `layers` cells on 8x8 images.
pub(crate) fn derived(genotype: &Genotype, layers: usize) -> Graph {
    let config = NetworkConfig {
        channels: 4,
        layers,
        classes: 10,
        in_channels: 3,
        height: 8,
        width: 8,
        skeleton: Default::default(),
    };
    assemble(genotype, &config).unwrap()
}
