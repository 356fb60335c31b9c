//! A state of a cell: its memory, and the ways from it to the nodes and back.

use milenas_models::Result;
use milenas_models::kernels::cuda::mixture::{Edges, Sources};
use milenas_models::kernels::cuda::norm::NormCoefficients;
use milenas_models::kernels::cuda::{Device, Words};

use super::edges::Edgewise;
use super::pass::SupernetPass;
use super::plan::{CONVOLUTIONS, EdgePlan, EdgeTensors, SEPARABLE};

/// A state's sizes, its edges, and what they keep for the way back.
pub(super) struct CudaState {
    pub(super) edges: Vec<EdgeTensors>,
    pub(super) channels: usize,
    /// 2 where the edges halve the image.
    pub(super) stride: usize,
    /// Rows and columns of the state, and of the nodes.
    pub(super) input: [usize; 2],
    pub(super) output: [usize; 2],
    buffers: Buffers,
}

/// Maps `[map][channel][image][row][column]` of the nodes' size.
#[derive(Clone, Copy)]
pub(super) struct Buffers {
    /// After the depthwise convolutions, of the first and the second time; then the gradients of these.
    pub(super) first: Words,
    pub(super) second: Words,
    /// What the plan counts as maps, before their BatchNorms; then the gradients.
    pub(super) maps: Words,
    /// Where in its window each maximum was.
    pub(super) taps: Words,
    /// The rectified state's even and odd pixels.
    pub(super) halves: Words,
    /// Scale and shift that normalise a separable convolution half-way.
    pub(super) half_way: [Words; 2],
    /// Scale and shift of the terms.
    pub(super) factors: [Words; 2],
}

impl Buffers {
    const NONE: Buffers = Buffers {
        first: Words::NONE,
        second: Words::NONE,
        maps: Words::NONE,
        taps: Words::NONE,
        halves: Words::NONE,
        half_way: [Words::NONE; 2],
        factors: [Words::NONE; 2],
    };
}

/// Most terms of an edge: one for each column of a mixture but `none`.
pub(super) const TERMS: usize = crate::supernet::CANDIDATES - 1;

impl CudaState {
    pub(super) fn new(edges: Vec<EdgeTensors>, channels: usize, stride: usize) -> CudaState {
        CudaState { edges, channels, stride, input: [0; 2], output: [0; 2], buffers: Buffers::NONE }
    }

    /// Words of a map of the state, and of a node.
    pub(super) fn map_words(&self, batch: usize) -> [usize; 2] {
        [self.input, self.output].map(|[rows, columns]| self.channels * batch * rows * columns)
    }

    /// Memory for a state of this size, under any mixture.
    pub(super) fn alloc(&mut self, device: &mut dyn Device, input: [usize; 2], batch: usize) -> Result<()> {
        self.input = input;
        self.output = input.map(|size| size.div_ceil(self.stride));
        let (edges, [_, map]) = (self.edges.len(), self.map_words(batch));
        let skips = if self.stride == 2 { edges } else { 0 };
        let [convolutions, separable] = [CONVOLUTIONS.len() * edges, SEPARABLE * edges];
        let factors = separable * self.channels;
        let terms = TERMS * edges * self.channels;
        self.buffers = Buffers {
            first: device.alloc(convolutions * map)?,
            second: device.alloc(separable * map)?,
            maps: device.alloc((convolutions + skips + separable + 2) * map)?,
            taps: device.alloc(map)?,
            halves: device.alloc(if skips > 0 { 2 * map } else { 0 })?,
            half_way: [device.alloc(factors)?, device.alloc(factors)?],
            factors: [device.alloc(terms)?, device.alloc(terms)?],
        };
        Ok(())
    }

    fn at<'a>(&'a self, pass: &SupernetPass<'_>, plan: &'a EdgePlan) -> Edgewise<'a> {
        let [_, map] = self.map_words(pass.batch);
        Edgewise { state: self, plan, map, length: map / self.channels, b: self.buffers }
    }

    /// Completes what the edges add to the nodes, from the state `x`; the first state's begin them.
    pub(super) fn forward(
        &self,
        pass: &mut SupernetPass<'_>,
        plan: &EdgePlan,
        x: Words,
        nodes: Words,
        add: bool,
    ) -> Result<()> {
        let e = self.at(pass, plan);
        e.pools(pass, x)?;
        e.convolutions(pass, x)?;
        e.skips(pass, x)?;
        e.moments(pass, plan.firsts(), plan.skips)?;
        e.seconds(pass)?;
        e.moments(pass, plan.first_pool(), plan.maps() - plan.first_pool())?;
        let terms = e.terms(pass, if pass.training { plan.at.source } else { plan.at.norm })?;
        let moments = pass.moments_of(plan.moments, plan.normed * self.channels)?;
        terms.scaling(pass.device, moments, Words::NONE, e.b.factors)?;
        let edges = Edges {
            count: plan.edges,
            first: pass.ints.from(plan.at.edge_first)?,
            terms: pass.ints.part(plan.at.edge_terms, terms.count)?,
            target: pass.ints.from(plan.at.edge_target)?,
            length: e.length,
        };
        let terms = e.terms(pass, plan.at.source)?;
        edges.forward(pass.device, &terms, [e.b.maps, x], e.b.factors, nodes, add)
    }

    /// From the nodes' gradients to the terms' part of the mixture's, and, where `wanted`, to the weights' and the state's, which is
    /// added to `dx`.
    pub(super) fn backward(
        &self,
        pass: &mut SupernetPass<'_>,
        plan: &EdgePlan,
        (x, dx): (Words, Words),
        gradients: Words,
        wanted: bool,
    ) -> Result<()> {
        let e = self.at(pass, plan);
        let terms = e.terms(pass, plan.at.source)?;
        let slopes = NormCoefficients { reach: pass.results.reach.from(plan.reach)?, ..pass.slopes()? };
        let moments = pass.moments_of(plan.moments, plan.normed * self.channels)?;
        terms.coefficients(pass.device, gradients, [e.b.maps, x], e.length, moments, &slopes)?;
        if !wanted {
            return Ok(());
        }
        let (first, target, size) = (plan.at.first, terms.target, [self.channels, e.length]);
        let own = plan.maps() - plan.separable();
        let sources = Sources { count: own, first: pass.ints.from(first)?, target, size };
        let maps = e.maps(plan.separable(), own)?;
        sources.backward(pass.device, gradients, maps, &slopes, maps, false)?;
        if plan.identities > 0 {
            let sources = Sources { count: 1, first: pass.ints.from(first + own)?, target, size };
            sources.backward(pass.device, gradients, x, &slopes, dx, true)?;
        }
        e.seconds_back(pass)?;
        e.convolutions_back(pass, x, dx)?;
        e.skips_back(pass, x, dx)?;
        e.pools_back(pass, dx)
    }
}
