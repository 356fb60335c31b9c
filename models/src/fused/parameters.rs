//! Weights of the network in packed form, with PyTorch's names and shapes.

use std::collections::HashMap;

use crate::kernels::cpu::layout::transpose;
use crate::kernels::cpu::simd::{floats, floats_mut};
use crate::kernels::cpu::{Channels, LANES, Pack};
use rayon::prelude::*;

use super::context::PassContext;
use super::replicas::Copies;

/// Layout of a named tensor's elements in its buffer.
#[derive(Copy, Clone, Debug)]
enum PackedLayout {
    /// `[C, 1, K, K]` stored as `[block][tap]`.
    Depthwise { taps: usize },
    /// `[O, I, ...]` stored as `[out block][in lane]`, with input lanes from `first_input` of `lanes` on and outputs
    /// from `first_output` on.
    Pointwise { inputs: Channels, lanes: usize, first_input: usize, first_output: usize },
    /// `[O, I, K, K]` stored as `[out block][tap][in lane]`.
    Dense { inputs: Channels, taps: usize },
    /// `[C]`, stored from channel `first` on.
    Vector { first: usize },
}

impl PackedLayout {
    fn place(self, i: usize) -> usize {
        match self {
            PackedLayout::Depthwise { taps } => {
                let (c, tap) = (i / taps, i % taps);
                (c / LANES * taps + tap) * LANES + c % LANES
            }
            PackedLayout::Pointwise { inputs, lanes, first_input, first_output } => {
                let output = first_output + i / inputs.count();
                let input = first_input + inputs.lane(i % inputs.count());
                (output / LANES * lanes + input) * LANES + output % LANES
            }
            PackedLayout::Dense { inputs, taps } => {
                let (output, input, tap) = (i / taps / inputs.count(), i / taps % inputs.count(), i % taps);
                let lanes = inputs.packs() * LANES;
                let row = output / LANES * taps + tap;
                (row * lanes + inputs.lane(input)) * LANES + output % LANES
            }
            PackedLayout::Vector { first } => first + i,
        }
    }
}

/// A parameter with PyTorch's name and shape.
#[derive(Clone, Debug)]
pub struct Named {
    /// Name in `state_dict`.
    pub name: String,
    /// Shape in PyTorch.
    pub shape: Vec<usize>,
    buffer: usize,
    packing: PackedLayout,
}

/// Index of a packed buffer.
pub type Id = usize;

/// Weights of a network.
#[derive(Default)]
pub struct Parameters {
    /// Named tensors, in the order of their declaration.
    pub named: Vec<Named>,
    by_name: HashMap<String, usize>,
    /// Packed values, by [`Id`].
    pub values: Vec<Vec<Pack>>,
    /// Transposed pointwise weights, for the gradient of their input.
    pub transposed: Vec<Vec<Pack>>,
    /// Input and output channels of pointwise weights.
    sizes: Vec<Option<[Channels; 2]>>,
    /// Lane that separates the outputs, for weights of strided skips. Outputs before it read only the first half
    /// of the inputs, the others only the second half.
    halves: Vec<Option<usize>>,
    /// Replicated weights, which process several images per pack: the assignment of lanes, and the weights in the form that
    /// the kernels read.
    repeated: Vec<(Copies, Vec<Pack>)>,
    stale: bool,
}

impl Parameters {
    /// Returns the packed weights as the kernels read them.
    pub fn kernel(&self, id: Id) -> &[Pack] {
        match self.repeated[id].0.count {
            1 => &self.values[id],
            _ => &self.repeated[id].1,
        }
    }

    /// Makes a weight on one block of channels process several images per pack. Channels of different images do not
    /// mix: a pointwise weight becomes block diagonal.
    pub fn repeat(&mut self, id: Id, copies: Copies) {
        if self.repeated[id].0 != copies {
            self.repeated[id].0 = copies;
            self.stale = true;
        }
    }

    /// Returns input and output channels of a pointwise weight as the kernels see it.
    pub fn channels(&self, id: Id) -> [Channels; 2] {
        let sizes = self.sizes[id].unwrap_or([Channels::full(0); 2]);
        match self.repeated[id].0.count {
            1 => sizes,
            _ => sizes.map(|size| Channels::full(size.packs())),
        }
    }

    /// Returns the name of the first tensor in a packed buffer.
    pub fn name_of(&self, id: Id) -> &str {
        self.named.iter().find(|named| named.buffer == id).map_or("", |named| &named.name)
    }

    fn vector_buffer(&mut self, packs: usize) -> Id {
        self.buffer(packs, None, None)
    }

    fn pointwise_buffer(&mut self, sizes: [Channels; 2], half: Option<usize>) -> Id {
        let [inputs, outputs] = sizes.map(Channels::packs);
        self.buffer(outputs * inputs * LANES, Some(sizes), half)
    }

    fn buffer(&mut self, packs: usize, sizes: Option<[Channels; 2]>, half: Option<usize>) -> Id {
        self.values.push(vec![Pack::ZERO; packs]);
        self.transposed.push(vec![Pack::ZERO; if sizes.is_some() { packs } else { 0 }]);
        self.sizes.push(sizes);
        self.halves.push(half);
        self.repeated.push(Default::default());
        self.values.len() - 1
    }

    fn name(&mut self, name: String, shape: Vec<usize>, buffer: Id, packing: PackedLayout) {
        self.by_name.insert(name.clone(), self.named.len());
        self.named.push(Named { name, shape, buffer, packing });
    }

    /// Declares a depthwise weight `[channels, 1, kernel, kernel]`.
    pub fn depthwise(&mut self, name: String, channels: usize, kernel: usize) -> Id {
        let taps = kernel * kernel;
        let id = self.vector_buffer(Channels::one(channels).packs() * taps);
        self.name(name, vec![channels, 1, kernel, kernel], id, PackedLayout::Depthwise { taps });
        id
    }

    /// Declares a pointwise weight of the given shape `[O, I, ...]`.
    pub fn pointwise(&mut self, name: String, shape: Vec<usize>, inputs: Channels) -> Id {
        let id = self.pointwise_buffer([inputs, Channels::one(shape[0])], None);
        let lanes = inputs.packs() * LANES;
        let packing = PackedLayout::Pointwise { inputs, lanes, first_input: 0, first_output: 0 };
        self.name(name, shape, id, packing);
        id
    }

    /// Declares a weight `[outputs, inputs, kernel, kernel]` of a dense convolution, stored as a pointwise weight on
    /// the taps of its window.
    pub fn dense(&mut self, name: String, inputs: Channels, outputs: usize, kernel: usize) -> Id {
        let taps = kernel * kernel;
        let id = self.pointwise_buffer([inputs.times(taps), Channels::one(outputs)], None);
        let packing = PackedLayout::Dense { inputs, taps };
        self.name(name, vec![outputs, inputs.count(), kernel, kernel], id, packing);
        id
    }

    /// Declares the two weights of a strided skip to `outputs` channels, stored as one that is zero where an output
    /// does not read an input. The first weight has half of the outputs, rounded down.
    pub fn factorized(&mut self, names: [String; 2], inputs: Channels, outputs: usize) -> Id {
        let half = outputs / 2;
        let id = self.pointwise_buffer([inputs.times(2), Channels::one(outputs)], Some(half));
        let lanes = 2 * inputs.packs() * LANES;
        for (name, (first_input, first_output, count)) in
            names.into_iter().zip([(0, 0, half), (lanes / 2, half, outputs - half)])
        {
            let packing = PackedLayout::Pointwise { inputs, lanes, first_input, first_output };
            self.name(name, vec![count, inputs.count(), 1, 1], id, packing);
        }
        id
    }

    /// Declares a vector `[channels]`.
    pub fn vector(&mut self, name: String, channels: usize) -> Id {
        self.vectors([(name, channels)])
    }

    /// Declares a tensor of any shape in PyTorch's order, for plain loops.
    pub fn plain(&mut self, name: String, shape: Vec<usize>) -> Id {
        let id = self.vector_buffer(Channels::one(shape.iter().product()).packs());
        self.name(name, shape, id, PackedLayout::Vector { first: 0 });
        id
    }

    /// Declares several vectors, stored as one.
    pub fn vectors<const N: usize>(&mut self, parts: [(String, usize); N]) -> Id {
        let channels = parts.iter().map(|(_, channels)| channels).sum();
        let id = self.vector_buffer(Channels::one(channels).packs());
        let mut first = 0;
        for (name, channels) in parts {
            self.name(name, vec![channels], id, PackedLayout::Vector { first });
            first += channels;
        }
        id
    }

    /// Returns the tensor with this name.
    pub fn find(&self, name: &str) -> Option<&Named> {
        self.by_name.get(name).map(|&i| &self.named[i])
    }

    /// Returns the elements of a named tensor in PyTorch's order, from buffers of values or of gradients.
    pub fn read(named: &Named, buffers: &[Vec<Pack>]) -> Vec<f32> {
        let from = floats(&buffers[named.buffer]);
        (0..named.shape.iter().product()).map(|i| from[named.packing.place(i)]).collect()
    }

    /// Sets a named tensor; `values` must have its size.
    pub fn set(&mut self, name: &str, values: &[f32]) {
        if let Some(&index) = self.by_name.get(name) {
            let named = &self.named[index];
            let to = floats_mut(&mut self.values[named.buffer]);
            for (i, value) in values.iter().enumerate() {
                to[named.packing.place(i)] = *value;
            }
            self.stale = true;
        }
    }

    /// Calls `visit` for every packed buffer that has a gradient, with index, values and gradient.
    pub fn for_each(&mut self, gradients: &Gradients, mut visit: impl FnMut(usize, &mut [f32], &[f32])) {
        for (i, (values, gradient)) in self.values.iter_mut().zip(&gradients.values).enumerate() {
            if !gradients.absent[i] {
                visit(i, floats_mut(values), floats(gradient));
            }
        }
        self.stale = true;
    }

    /// Updates the data that is derived from the values.
    pub fn refresh(&mut self) {
        if std::mem::take(&mut self.stale) {
            let weights = self.values.par_iter().zip(&mut self.repeated).zip(&mut self.transposed);
            weights.zip(&self.sizes).for_each(|(((values, (copies, repeated)), transposed), sizes)| {
                let mut from = values;
                if copies.count > 1 {
                    repeated.clone_from(values);
                    copies.spread(repeated, sizes.is_some());
                    from = repeated;
                }
                if let Some([inputs, outputs]) = sizes {
                    transpose(from, inputs.packs(), outputs.packs(), transposed);
                }
            });
        }
    }
}

/// Gradients of all weights, and the partial gradients of the chunks of a batch.
#[derive(Default)]
pub struct Gradients {
    /// Packed gradients, by [`Id`].
    pub values: Vec<Vec<Pack>>,
    absent: Vec<bool>,
    chunks: Vec<Vec<Pack>>,
}

impl Gradients {
    /// Returns zero gradients for the given parameters.
    pub fn new(parameters: &Parameters) -> Gradients {
        let zeros = |values: &Vec<Pack>| vec![Pack::ZERO; values.len()];
        let values: Vec<_> = parameters.values.iter().map(zeros).collect();
        Gradients { absent: vec![false; values.len()], values, chunks: Vec::new() }
    }

    /// Removes the gradient of a buffer that a pass did not use, until [`gather`](Self::gather) sets it again.
    pub fn remove(&mut self, id: Id) {
        if !std::mem::replace(&mut self.absent[id], true) {
            self.values[id].fill(Pack::ZERO);
        }
    }

    /// Marks the gradient of a buffer as set by a pass.
    pub fn restore(&mut self, id: Id) {
        self.absent[id] = false;
    }

    /// Returns the sum of squares of all gradients; unused lanes are zero.
    pub fn squared_norm(&self) -> f64 {
        // One sum per lane: with a single sum, each addition would wait for the one before.
        let of = |values: &Vec<Pack>| {
            let mut sums = [0.0; LANES];
            for pack in values {
                sums.iter_mut().zip(pack.0).for_each(|(sum, x)| *sum += f64::from(x).powi(2));
            }
            sums.iter().sum::<f64>()
        };
        self.values.par_iter().map(of).collect::<Vec<f64>>().iter().sum()
    }

    /// Returns a zeroed buffer per chunk, for the gradients of `ids` one after the other.
    pub fn chunks(&mut self, parameters: &Parameters, ids: &[Id], count: usize) -> &mut [Vec<Pack>] {
        let length = ids.iter().map(|&id| parameters.values[id].len()).sum();
        self.chunks.resize_with(count.max(self.chunks.len()), Vec::new);
        for chunk in &mut self.chunks[..count] {
            chunk.clear();
            chunk.resize(length, Pack::ZERO);
        }
        &mut self.chunks[..count]
    }

    /// Sets the gradients of `ids` to the sums of the partial gradients of `count` chunks, in order.
    pub fn gather(&mut self, parameters: &Parameters, ids: &[Id], count: usize) {
        let mut first = 0;
        let mut work = Vec::with_capacity(ids.len());
        for &id in ids {
            let gradient = std::mem::take(&mut self.values[id]);
            self.absent[id] = false;
            first += gradient.len();
            work.push((id, first - gradient.len(), gradient));
        }
        let chunks = &self.chunks[..count];
        work.par_iter_mut().for_each(|(id, first, gradient)| {
            gradient.fill(Pack::ZERO);
            for chunk in chunks {
                let part = floats(&chunk[*first..][..gradient.len()]);
                floats_mut(gradient).iter_mut().zip(part).for_each(|(total, part)| *total += part);
            }
            let copies = parameters.repeated[*id].0;
            if copies.count > 1 {
                copies.fold(gradient, parameters.sizes[*id].is_some());
            }
            if let (Some(half), Some([inputs, _])) = (parameters.halves[*id], parameters.sizes[*id]) {
                blank_unseen(gradient, inputs.packs() * LANES, half);
            }
        });
        for (id, _, gradient) in work {
            self.values[id] = gradient;
        }
    }
}

/// Sets the gradient to zero where an output of a strided skip does not read an input. Outputs before lane `half`
/// read only the first half of the `lanes` inputs, the others only the second half.
fn blank_unseen(gradient: &mut [Pack], lanes: usize, half: usize) {
    for (i, pack) in gradient.iter_mut().enumerate() {
        let odd_input = i % lanes >= lanes / 2;
        for (lane, x) in pack.0.iter_mut().enumerate() {
            if odd_input != (i / lanes * LANES + lane >= half) {
                *x = 0.0;
            }
        }
    }
}

/// Returns a zeroed buffer per chunk for the gradients of `ids`, or `None` per chunk if `weights` is `None`.
pub fn per_chunk<'a>(
    c: &PassContext<'_>,
    weights: Option<&'a mut Gradients>,
    ids: &[Id],
) -> Vec<Option<&'a mut [Pack]>> {
    match weights {
        Some(weights) => {
            weights.chunks(c.parameters, ids, c.chunks()).iter_mut().map(|x| Some(&mut x[..])).collect()
        }
        None => (0..c.chunks()).map(|_| None).collect(),
    }
}
