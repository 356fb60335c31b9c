//! Cell: its two inputs are converted to its size, then its states are computed one after the other.

use milenas_models::Result;
use milenas_models::kernels::cuda::mixture::Sources;
use milenas_models::kernels::cuda::norm::{self, CudaScaling, TermMaps, Terms};
use milenas_models::kernels::cuda::product::{ProductDims, row_products};
use milenas_models::kernels::cuda::relu::{self, Halve};
use milenas_models::kernels::cuda::{Device, Gemm, Words};

use super::pass::{PointwiseProduct, SupernetPass};
use super::plan::{EdgePlan, EdgeTensors, Tables, halves};
use super::state::CudaState;
use crate::resident::{DeviceTensors, Packing};
use crate::supernet::SupernetConfig;
use crate::supernet::wired::Row;

/// Input of cells: the ReLU of a feature map. The gradient is that of the ReLU output, then that of the feature
/// map.
#[derive(Clone, Copy)]
pub(super) struct CellInput {
    pub(super) channels: usize,
    pub(super) size: [usize; 2],
    pub(super) rectified: Words,
    pub(super) gradient: Words,
}

/// Preparation of one input: ReLU, `1x1` convolution, BatchNorm; or two such convolutions that halve the image.
struct Preparation {
    weights: Vec<usize>,
    norm: usize,
    from: usize,
    /// Number of rows and columns of the source.
    input: [usize; 2],
    /// Even and odd pixels of the ReLU output.
    halves: Words,
    /// Feature map before the BatchNorm; then its gradient.
    map: Words,
    /// Scale and shift of the BatchNorm.
    factors: CudaScaling,
}

/// Offsets of a preparation's packed weights and statistics.
struct Prepared {
    weights: Vec<usize>,
    moments: usize,
}

pub(super) struct CudaCell {
    channels: usize,
    preparations: [Preparation; 2],
    pub(super) states: Vec<CudaState>,
    /// Prepared inputs, and their gradients.
    inputs: [Words; 2],
    input_gradients: [Words; 2],
    /// Nodes `[node][channel][image][row][column]`. Their gradients are those of the cell's output.
    nodes: Words,
    nodes_count: usize,
}

/// Layout of a cell under a mixture.
pub(super) struct CellPlan {
    prepared: [Prepared; 2],
    pub(super) states: Vec<EdgePlan>,
}

impl CudaCell {
    pub(super) fn new(
        config: &SupernetConfig,
        index: usize,
        from: [usize; 2],
        tensors: &mut DeviceTensors,
    ) -> CudaCell {
        let (name, channels, reduction) =
            (format!("cells.{index}"), config.channels_at(index), config.reduces(index));
        let halve = index > 0 && config.reduces(index - 1);
        let mut prepare = |i: usize, halve: bool| {
            let prefix = format!("{name}.pre{i}");
            let (weights, norm) = if halve {
                let (weights, norm) = halves(tensors, &prefix, from[i], channels);
                (weights.to_vec(), norm)
            } else {
                let weight = tensors.parameter(format!("{prefix}.1.weight"), &[channels, from[i], 1, 1]);
                (vec![weight], tensors.norm(format!("{prefix}.2"), channels))
            };
            let none = Words::NONE;
            Preparation {
                weights,
                norm,
                from: from[i],
                input: [0; 2],
                halves: none,
                map: none,
                factors: CudaScaling::NONE,
            }
        };
        let preparations = [prepare(0, halve), prepare(1, false)];
        let inputs = 2;
        let mut edges: Vec<Vec<EdgeTensors>> = (0..inputs + config.nodes()).map(|_| Vec::new()).collect();
        for (row, (from, to)) in config.cell_edges().into_iter().enumerate() {
            let strided = reduction && from < inputs;
            edges[from].push(EdgeTensors::new(
                tensors,
                &format!("{name}.edges"),
                row,
                to - inputs,
                channels,
                strided,
            ));
        }
        let stride = |from: usize| if reduction && from < inputs { 2 } else { 1 };
        let states = edges.into_iter().enumerate().filter(|(_, edges)| !edges.is_empty());
        let states = states.map(|(from, edges)| CudaState::new(edges, channels, stride(from))).collect();
        let none = [Words::NONE; 2];
        let nodes_count = config.nodes();
        CudaCell {
            channels,
            preparations,
            states,
            inputs: none,
            input_gradients: none,
            nodes: Words::NONE,
            nodes_count,
        }
    }

    /// Allocates memory for inputs of the given sizes, and returns the size of the nodes.
    pub(super) fn alloc(
        &mut self,
        device: &mut dyn Device,
        sizes: [[usize; 2]; 2],
        batch: usize,
    ) -> Result<[usize; 2]> {
        let size = sizes[1];
        for (preparation, input) in self.preparations.iter_mut().zip(sizes) {
            let words = |size: [usize; 2], channels: usize| channels * batch * size[0] * size[1];
            preparation.input = input;
            let half = if preparation.weights.len() == 2 { 2 * words(size, preparation.from) } else { 0 };
            preparation.halves = device.alloc(half)?;
            preparation.map = device.alloc(words(size, self.channels))?;
            preparation.factors = CudaScaling::alloc(device, self.channels)?;
        }
        let mut nodes = size;
        for (j, state) in self.states.iter_mut().enumerate() {
            state.alloc(device, if j < 2 { size } else { nodes }, batch)?;
            nodes = if j < 2 { state.output } else { nodes };
        }
        let [input, node] = self.states[0].map_words(batch);
        for words in self.inputs.iter_mut().chain(&mut self.input_gradients) {
            *words = device.alloc(input)?;
        }
        self.nodes = device.alloc(self.nodes_count * node)?;
        Ok(nodes)
    }

    /// Returns the nodes, concatenated.
    pub(super) fn output(&self) -> Words {
        self.nodes
    }

    pub(super) fn plan(
        &self,
        rows: &[Row],
        tensors: &DeviceTensors,
        (packing, tables, reach): (&mut Packing, &mut Tables, &mut usize),
        training: bool,
    ) -> CellPlan {
        let prepared = std::array::from_fn(|i| {
            let Preparation { weights, norm, .. } = &self.preparations[i];
            let weights = weights.iter().map(|id| packing.put(tensors, [*id])).collect();
            let moments = packing.room(self.channels);
            packing.norm(*norm, moments, self.states[0].input.iter().product());
            Prepared { weights, moments }
        });
        let plan = |state: &CudaState| {
            let sizes = (self.channels, state.output.iter().product());
            EdgePlan::new(
                &state.edges,
                rows,
                tensors,
                (&mut *packing, &mut *tables, &mut *reach),
                sizes,
                training,
            )
        };
        let states = self.states.iter().map(plan).collect();
        CellPlan { prepared, states }
    }

    /// Returns state `j` and its gradient, which for a node is a part of the output's gradient.
    fn state(&self, batch: usize, j: usize, gradients: Words) -> Result<(Words, Words)> {
        let [input, node] = self.states[0].map_words(batch);
        match j.checked_sub(2) {
            None => Ok((self.inputs[j].part(0, input)?, self.input_gradients[j].part(0, input)?)),
            Some(at) => Ok((self.nodes.part(at * node, node)?, gradients.part(at * node, node)?)),
        }
    }

    pub(super) fn forward(
        &self,
        pass: &mut SupernetPass<'_>,
        plan: &CellPlan,
        sources: [CellInput; 2],
    ) -> Result<()> {
        for (i, source) in sources.into_iter().enumerate() {
            self.prepare(pass, &plan.prepared[i], i, source)?;
        }
        for (j, (state, plan)) in self.states.iter().zip(&plan.states).enumerate() {
            let (x, _) = self.state(pass.batch, j, self.nodes)?;
            state.forward(pass, plan, x, self.nodes, j > 0)?;
        }
        Ok(())
    }

    /// Returns the products that prepare input `i`: one, or two that halve the image.
    fn products(
        &self,
        pass: &SupernetPass<'_>,
        packed: &Prepared,
        i: usize,
        source: CellInput,
    ) -> Result<Vec<PointwiseProduct>> {
        let Preparation { from, halves, map, .. } = &self.preparations[i];
        let one = PointwiseProduct {
            weights: packed.weights[0],
            rows: self.channels,
            columns: *from,
            x: source.rectified,
            y: *map,
        };
        if packed.weights.len() == 1 {
            return Ok(vec![one]);
        }
        let (half, length) = (self.channels / 2, self.length(pass));
        let words = from * length;
        let odd = PointwiseProduct {
            weights: packed.weights[1],
            rows: self.channels - half,
            x: halves.part(words, words)?,
            y: map.from(half * length)?,
            ..one
        };
        Ok(vec![PointwiseProduct { rows: half, x: halves.part(0, words)?, ..one }, odd])
    }

    /// Returns the number of elements in a channel of an input.
    fn length(&self, pass: &SupernetPass<'_>) -> usize {
        self.states[0].map_words(pass.batch)[0] / self.channels
    }

    fn halve(&self, pass: &SupernetPass<'_>, i: usize) -> Halve {
        let Preparation { from, input, .. } = &self.preparations[i];
        Halve { planes: from * pass.batch, input: *input, output: self.states[0].input }
    }

    fn prepare(
        &self,
        pass: &mut SupernetPass<'_>,
        packed: &Prepared,
        i: usize,
        source: CellInput,
    ) -> Result<()> {
        let (length, Preparation { halves, map, factors, .. }) = (self.length(pass), &self.preparations[i]);
        if packed.weights.len() == 2 {
            self.halve(pass, i).forward(pass.device, source.rectified, *halves)?;
        }
        for PointwiseProduct { weights, rows, columns, x: b, y: c } in
            self.products(pass, packed, i, source)?
        {
            let (sizes, a) = ([rows, length, columns], pass.weights.from(weights)?);
            pass.device.gemm(&Gemm {
                sizes,
                a,
                transposed: false,
                b,
                c,
                steps: [0; 3],
                batch: 1,
                add: false,
            })?;
        }
        let moments = pass.moments(packed.moments)?;
        if pass.training {
            norm::moments(pass.device, *map, moments, self.channels, length)?;
        }
        Terms::plain(1, self.channels).scaling(pass.device, moments, Words::NONE, *factors)?;
        norm::normalise(pass.device, *map, *factors, self.inputs[i], self.channels, length, false)
    }

    /// Computes the gradients of the states from `first` on from those of the nodes, and adds the gradients of the
    /// sources that these states were prepared from.
    pub(super) fn backward(
        &self,
        pass: &mut SupernetPass<'_>,
        plan: &CellPlan,
        gradients: Words,
        sources: [CellInput; 2],
        first: usize,
    ) -> Result<()> {
        for j in first..2 {
            pass.device.clear(self.state(pass.batch, j, gradients)?.1)?;
        }
        for (j, (state, plan)) in self.states.iter().zip(&plan.states).enumerate().rev() {
            let of = self.state(pass.batch, j, gradients)?;
            state.backward(pass, plan, of, gradients, j >= first)?;
        }
        for (i, source) in sources.into_iter().enumerate().skip(first) {
            self.prepare_back(pass, &plan.prepared[i], i, source)?;
        }
        Ok(())
    }

    fn prepare_back(
        &self,
        pass: &mut SupernetPass<'_>,
        packed: &Prepared,
        i: usize,
        source: CellInput,
    ) -> Result<()> {
        let (length, Preparation { halves, map, .. }) = (self.length(pass), &self.preparations[i]);
        let (gradient, slopes, moments) =
            (self.input_gradients[i], pass.slopes()?, pass.moments(packed.moments)?);
        let terms = Terms::plain(1, self.channels);
        terms.coefficients(
            pass.device,
            gradient,
            TermMaps { z: *map, x: Words::NONE },
            length,
            moments,
            &slopes,
        )?;
        let one =
            Sources { count: 1, first: Words::NONE, target: Words::NONE, size: [self.channels, length] };
        one.backward(pass.device, gradient, *map, &slopes, *map, false)?;
        let halved = packed.weights.len() == 2;
        for PointwiseProduct { weights, rows, columns, x, y: dy } in self.products(pass, packed, i, source)? {
            if pass.wants_weights() {
                let (out, dims) =
                    (pass.gradients.from(weights)?, ProductDims { m: rows, n: columns, length });
                row_products(pass.device, dy, x, out, false, 1, dims)?;
            }
            let (a, c) = (pass.weights.from(weights)?, if halved { x } else { source.gradient });
            let sizes = [columns, length, rows];
            pass.device.gemm(&Gemm {
                sizes,
                a,
                transposed: true,
                b: dy,
                c,
                steps: [0; 3],
                batch: 1,
                add: !halved,
            })?;
        }
        match halved {
            true => self.halve(pass, i).backward(pass.device, source.rectified, *halves, source.gradient),
            false => Ok(()),
        }
    }
}

impl CellInput {
    /// Allocates memory for a feature map of `channels` channels.
    pub(super) fn alloc(
        device: &mut dyn Device,
        channels: usize,
        size: [usize; 2],
        batch: usize,
    ) -> Result<CellInput> {
        let words = channels * batch * size[0] * size[1];
        Ok(CellInput { channels, size, rectified: device.alloc(words)?, gradient: device.alloc(words)? })
    }

    pub(super) fn words(&self, batch: usize) -> usize {
        self.channels * batch * self.size[0] * self.size[1]
    }

    /// Converts the gradient of the ReLU output into that of the feature map, in place.
    pub(super) fn relu_gradient(&self, pass: &mut SupernetPass<'_>) -> Result<()> {
        relu::backward(
            pass.device,
            self.rectified,
            self.gradient,
            self.gradient,
            self.words(pass.batch),
            false,
        )
    }
}
