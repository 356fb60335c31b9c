//! State of a cell: its memory, and the passes from it to the nodes and back.

use milenas_models::Result;
use milenas_models::kernels::cuda::mixture::{Edges, Sources};
use milenas_models::kernels::cuda::norm::{CudaScaling, NormCoefficients, TermMaps};
use milenas_models::kernels::cuda::{Device, Words};

use super::edges::Edgewise;
use super::pass::SupernetPass;
use super::plan::{CONVOLUTIONS, EdgePlan, EdgeTensors, SEPARABLE};

/// Sizes, edges and buffers of a state.
pub(super) struct CudaState {
    pub(super) edges: Vec<EdgeTensors>,
    pub(super) channels: usize,
    /// Stride of the edges: 2 if they halve the image.
    pub(super) stride: usize,
    /// Number of rows and columns of the state, and of the nodes.
    pub(super) input: [usize; 2],
    pub(super) output: [usize; 2],
    buffers: Buffers,
}

/// Feature maps `[map][channel][image][row][column]` of the nodes' size.
#[derive(Clone, Copy)]
pub(super) struct Buffers {
    /// Outputs of the first and of the second depthwise convolutions; then their gradients.
    pub(super) first: Words,
    pub(super) second: Words,
    /// Feature maps of the plan, before their BatchNorms; then their gradients.
    pub(super) maps: Words,
    /// Position of each maximum in its window.
    pub(super) taps: Words,
    /// Even and odd pixels of the state's ReLU.
    pub(super) halves: Words,
    /// Scale and shift of the BatchNorms between the parts of separable convolutions.
    pub(super) half_way: CudaScaling,
    /// Scale and shift of the terms.
    pub(super) factors: CudaScaling,
}

impl Buffers {
    const NONE: Buffers = Buffers {
        first: Words::NONE,
        second: Words::NONE,
        maps: Words::NONE,
        taps: Words::NONE,
        halves: Words::NONE,
        half_way: CudaScaling::NONE,
        factors: CudaScaling::NONE,
    };
}

/// Largest number of terms of an edge: one for each column of a mixture except `none`.
pub(super) const TERMS: usize = crate::supernet::wired::CANDIDATES - 1;

impl CudaState {
    pub(super) fn new(edges: Vec<EdgeTensors>, channels: usize, stride: usize) -> CudaState {
        CudaState { edges, channels, stride, input: [0; 2], output: [0; 2], buffers: Buffers::NONE }
    }

    /// Returns the number of elements of the state, and of a node.
    pub(super) fn map_words(&self, batch: usize) -> [usize; 2] {
        [self.input, self.output].map(|[rows, columns]| self.channels * batch * rows * columns)
    }

    /// Allocates memory for a state of this size, under any mixture.
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
            half_way: CudaScaling::alloc(device, factors)?,
            factors: CudaScaling::alloc(device, terms)?,
        };
        Ok(())
    }

    fn at<'a>(&'a self, pass: &SupernetPass<'_>, plan: &'a EdgePlan) -> Edgewise<'a> {
        let [_, map] = self.map_words(pass.batch);
        Edgewise { state: self, plan, map, length: map / self.channels, b: self.buffers }
    }

    /// Computes the terms of the edges from the state `x`. They are stored in the nodes for the first state,
    /// and added for the others.
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
        edges.forward(pass.device, &terms, TermMaps { z: e.b.maps, x }, e.b.factors, nodes, add)
    }

    /// Computes the terms' parts of the mixture's gradient from the nodes' gradients. If `wanted`, also
    /// computes the gradients of the weights, and adds the gradient of the state to `dx`.
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
        let maps = TermMaps { z: e.b.maps, x };
        terms.coefficients(pass.device, gradients, maps, e.length, moments, &slopes)?;
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
