//! Whole supernet: its memory, and passes through it.

use milenas_models::Result;
use milenas_models::kernels::cuda::sgd::Table;
use milenas_models::kernels::cuda::{Device, Words, relu};

use super::cell::{CellInput, CellPlan, CudaCell};
use super::pass::{PassScratch, SupernetPass};
use super::plan::Tables;
use super::results::{ResultLayout, Results};
use super::state::TERMS;
use super::stem_head::{CudaHead, CudaStem, StemPlan};
use super::steps::Steps;
use crate::data::Batch;
use crate::resident::{BatchBuffers, DeviceTensors, Packing, Resident};
use crate::supernet::wired::{CANDIDATES, Row};
use crate::supernet::{GradRequest, PassResult, SupernetConfig};

pub(super) struct CudaNetwork {
    config: SupernetConfig,
    pub(super) tensors: DeviceTensors,
    stem: CudaStem,
    pub(super) cells: Vec<CudaCell>,
    head: CudaHead,
    /// Inputs of the cells: the stem's output, then each cell's. The ReLU of the last one is not read.
    sources: Vec<CellInput>,
    pub(super) resident: Resident,
    pub(super) memory: SupernetBuffers,
    /// Buffers of first-order steps, from the first such step on.
    pub(super) steps: Option<Steps>,
    /// Largest number of images, and rows and columns, that fit into the memory.
    size: [usize; 3],
}

/// Buffers that a pass uploads and reads back.
pub(super) struct SupernetBuffers {
    /// Training and validation batch of a step. A single pass uses the first.
    pub(super) feeds: [BatchBuffers; 2],
    /// Packed weights of the pass.
    pub(super) weights: Words,
    /// Integer tables.
    ints: Words,
    /// Float tables.
    pub(super) floats: Words,
    /// Results of the pass.
    results: Words,
    scratch: PassScratch,
}

/// Layout of the network under a mixture.
pub(super) struct SupernetPlan {
    pub(super) packing: Packing,
    pub(super) tables: Tables,
    /// Number of elements of the terms' parts of the mixture's gradient.
    reach: usize,
    /// Offset of the table of packed parameters, and its number of rows.
    packed: [usize; 2],
    stem: StemPlan,
    pub(super) cells: Vec<CellPlan>,
    head: [usize; 2],
}

impl SupernetPlan {
    /// Returns the layout, from `start` on, of the results of a pass with `images` images.
    pub(super) fn slot(&self, start: usize, images: usize) -> ResultLayout {
        ResultLayout { start, moments: self.packing.moments(), reach: self.reach, images }
    }

    /// Returns the table of packed parameters, within the integers.
    pub(super) fn table(&self, ints: Words) -> Result<Table> {
        let [start, count] = self.packed;
        Table::of(ints.from(start)?, count)
    }
}

impl CudaNetwork {
    /// Creates a network with weights of zero.
    pub(super) fn new(config: SupernetConfig) -> CudaNetwork {
        let mut tensors = DeviceTensors::default();
        let stem_channels = config.stem_multiplier * config.channels;
        let stem = CudaStem::new(config.in_channels, stem_channels, &mut tensors);
        let mut inputs = [stem_channels; 2];
        let mut cells = Vec::new();
        for index in 0..config.layers {
            cells.push(CudaCell::new(&config, index, inputs, &mut tensors));
            inputs = [inputs[1], config.nodes() * config.channels_at(index)];
        }
        let head = CudaHead::new(inputs[1], config.classes, &mut tensors);
        let memory = SupernetBuffers {
            feeds: [BatchBuffers::NONE; 2],
            weights: Words::NONE,
            ints: Words::NONE,
            floats: Words::NONE,
            results: Words::NONE,
            scratch: PassScratch::default(),
        };
        let (sources, resident, steps) = (Vec::new(), Resident::new(), None);
        CudaNetwork { config, tensors, stem, cells, head, sources, resident, memory, steps, size: [0; 3] }
    }

    pub(super) fn config(&self) -> &SupernetConfig {
        &self.config
    }

    /// Returns the largest number of images that fit into the memory.
    pub(super) fn batch(&self) -> usize {
        self.size[0]
    }

    /// Allocates memory for a batch of this size under any mixture, if the present memory is too small.
    pub(super) fn fit(
        &mut self,
        device: &mut dyn Device,
        batch: usize,
        [height, width]: [usize; 2],
    ) -> Result<()> {
        if self.size == [self.size[0].max(batch), height, width] {
            return Ok(());
        }
        (self.size, self.steps) = ([0; 3], None);
        self.resident.leave(device, &mut self.tensors)?;
        device.release()?;
        self.stem.alloc(device, batch * height * width)?;
        let mut sizes = [[height, width]; 2];
        self.sources = vec![CellInput::alloc(
            device,
            self.config.stem_multiplier * self.config.channels,
            sizes[1],
            batch,
        )?];
        for (index, cell) in self.cells.iter_mut().enumerate() {
            sizes = [sizes[1], cell.alloc(device, sizes, batch)?];
            let channels = self.config.nodes() * self.config.channels_at(index);
            self.sources.push(CellInput::alloc(device, channels, sizes[1], batch)?);
        }
        self.head.alloc(device, batch)?;
        // Evaluation needs the most memory, since pools have statistics per edge there.
        let plan = self.whole(false);
        let states = self.cells.iter().flat_map(|cell| &cell.states);
        let terms = states.map(|state| TERMS * state.edges.len() * state.channels);
        let terms = terms.max().unwrap_or(0).max(self.config.stem_multiplier * self.config.channels);
        let image = [self.config.in_channels, height, width];
        self.memory = SupernetBuffers {
            feeds: [BatchBuffers::alloc(device, batch, image)?, BatchBuffers::alloc(device, batch, image)?],
            weights: device.alloc(plan.packing.words())?,
            ints: device.alloc(plan.tables.ints.len())?,
            floats: device.alloc(plan.tables.floats.len())?,
            results: device.alloc(plan.slot(0, batch).words())?,
            scratch: PassScratch::alloc(device, terms)?,
        };
        self.resident.alloc(device, &self.tensors, plan.packing.words())?;
        self.size = [batch, height, width];
        Ok(())
    }

    /// Returns the layout under a mixture of all candidates on all edges.
    pub(super) fn whole(&self, training: bool) -> SupernetPlan {
        let rows = vec![[1.0; CANDIDATES]; self.config.edges()];
        self.plan(&vec![&rows[..]; self.cells.len()], training)
    }

    fn plan(&self, mixture: &[&[Row]], training: bool) -> SupernetPlan {
        let (mut packing, mut tables, mut reach) = (Packing::default(), Tables::default(), 0);
        let pixels = self.sources[0].size.iter().product();
        let stem = self.stem.plan(&self.tensors, &mut packing, pixels);
        let mut cells = Vec::new();
        for (cell, rows) in self.cells.iter().zip(mixture) {
            let parts = (&mut packing, &mut tables, &mut reach);
            cells.push(cell.plan(rows, &self.tensors, parts, training));
        }
        let head = self.head.plan(&self.tensors, &mut packing);
        let rows = packing.table(&self.tensors);
        let packed = [tables.ints.len(), rows[0].len()];
        tables.ints.extend(rows.concat());
        SupernetPlan { packing, tables, reach, packed, stem, cells, head }
    }

    /// Computes loss and gradients of a batch of valid size, in training mode.
    pub(super) fn evaluate(
        &mut self,
        device: &mut dyn Device,
        batch: &Batch,
        mixture: &[&[Row]],
        want: GradRequest,
    ) -> Result<PassResult<Vec<Vec<[f64; CANDIDATES]>>>> {
        let (count, [_, height, width]) = (batch.len(), batch.shape);
        self.fit(device, count, [height, width])?;
        let plan = self.plan(mixture, true);
        let slot = plan.slot(0, count);
        let results = slot.of(self.memory.results)?;
        let images = self.upload(device, &plan, batch)?;
        let mut pass = self.pass(device, &plan, (self.memory.ints, results), true, want.weights);
        let wanted = want.weights || want.mixture;
        self.train(&mut pass, &plan, (images, self.memory.feeds[0].labels()), wanted)?;
        let mut read = vec![0.0; slot.words()];
        pass.device.read(self.memory.results.part(0, read.len())?, &mut read)?;
        let found = slot.find(&read);
        plan.packing.move_running(found.moments, count, &mut self.tensors);
        Ok(PassResult {
            loss: found.loss(),
            correct: found.correct(),
            mixture_gradient: self.mixture_gradient(&plan, wanted.then_some(found.reach)),
        })
    }

    /// Returns logits `[image][class]` of a batch of valid size, with running statistics.
    pub(super) fn predict(
        &mut self,
        device: &mut dyn Device,
        batch: &Batch,
        mixture: &[&[Row]],
    ) -> Result<Vec<f32>> {
        let (count, [_, height, width]) = (batch.len(), batch.shape);
        self.fit(device, count, [height, width])?;
        let plan = self.plan(mixture, false);
        let results = plan.slot(0, count).of(self.memory.results)?;
        device.write(self.memory.results, &plan.packing.running(&self.tensors))?;
        let images = self.upload(device, &plan, batch)?;
        let mut pass = self.pass(device, &plan, (self.memory.ints, results), false, false);
        self.forward(&mut pass, &plan, images)?;
        self.head.read(&mut pass, plan.head)
    }

    /// Uploads all inputs of a single pass before it begins, so that its calls form one sequence. Returns the
    /// images.
    fn upload(&mut self, device: &mut dyn Device, plan: &SupernetPlan, batch: &Batch) -> Result<Words> {
        let memory = &self.memory;
        device.write_ints(memory.ints, &plan.tables.ints)?;
        device.write(memory.floats, &plan.tables.floats)?;
        memory.feeds[0].upload(device, batch)?;
        let all = self.resident.weights(device, &self.tensors)?;
        plan.table(memory.ints)?.gather(device, all, memory.weights)?;
        memory.feeds[0].images(device, batch)
    }

    /// Creates a pass that reads its tables from `ints`.
    pub(super) fn pass<'a>(
        &mut self,
        device: &'a mut dyn Device,
        plan: &SupernetPlan,
        (ints, results): (Words, Results),
        training: bool,
        want_weights: bool,
    ) -> SupernetPass<'a> {
        let gradients = if want_weights { self.resident.expect(&plan.packing) } else { Words::NONE };
        let memory = &self.memory;
        SupernetPass {
            device,
            batch: results.losses.len(),
            training,
            weights: memory.weights,
            gradients,
            ints,
            floats: memory.floats,
            results,
            scratch: memory.scratch,
        }
    }

    /// Enqueues the loss of images and labels on the device, and the gradients if they are `wanted`.
    pub(super) fn train(
        &self,
        pass: &mut SupernetPass<'_>,
        plan: &SupernetPlan,
        (images, labels): (Words, Words),
        wanted: bool,
    ) -> Result<()> {
        self.forward(pass, plan, images)?;
        let Results { losses, right, .. } = pass.results;
        self.head.loss(pass, plan.head, labels, [losses, right])?;
        if wanted { self.backward(pass, plan) } else { Ok(()) }
    }

    /// Runs the network up to the logits.
    fn forward(&self, pass: &mut SupernetPass<'_>, plan: &SupernetPlan, images: Words) -> Result<()> {
        self.stem.forward(pass, &plan.stem, images, self.sources[0])?;
        for (i, (cell, plan)) in self.cells.iter().zip(&plan.cells).enumerate() {
            cell.forward(pass, plan, self.inputs(i))?;
            let source = self.sources[i + 1];
            if i + 1 < self.cells.len() {
                let count = source.words(pass.batch);
                relu::forward(pass.device, cell.output(), source.rectified, count)?;
            }
        }
        let last = self.cells.last().map_or(self.sources[0].rectified, CudaCell::output);
        self.head.forward(pass, plan.head, last, self.pixels())
    }

    /// Computes all requested gradients from the gradient of the logits.
    fn backward(&self, pass: &mut SupernetPass<'_>, plan: &SupernetPlan) -> Result<()> {
        let count = self.cells.len();
        for source in &self.sources[..count] {
            pass.device.clear(source.gradient.part(0, source.words(pass.batch))?)?;
        }
        self.head.backward(pass, plan.head, self.sources[count].gradient, self.pixels())?;
        for (i, (cell, plan)) in self.cells.iter().zip(&plan.cells).enumerate().rev() {
            if i + 1 < count {
                self.sources[i + 1].relu_gradient(pass)?;
            }
            // The gradient of the stem's output is only needed for the stem's weights.
            let first = if pass.wants_weights() { 0 } else { 2usize.saturating_sub(i) };
            cell.backward(pass, plan, self.sources[i + 1].gradient, self.inputs(i), first)?;
        }
        match pass.wants_weights() {
            true => self.stem.backward(pass, &plan.stem, self.sources[0]),
            false => Ok(()),
        }
    }

    /// Returns the inputs of cell `i`.
    fn inputs(&self, i: usize) -> [CellInput; 2] {
        [self.sources[i.saturating_sub(1)], self.sources[i]]
    }

    /// Returns the number of pixels of the feature map that the classifier reads.
    fn pixels(&self) -> usize {
        self.sources[self.cells.len()].size.iter().product()
    }

    /// Returns the gradient of the mixture by cell and edge, summed over the channels of each term; zeros
    /// without `reach`.
    fn mixture_gradient(&self, plan: &SupernetPlan, reach: Option<&[f32]>) -> Vec<Vec<[f64; CANDIDATES]>> {
        let edges = self.config.edges();
        let mut gradient = vec![vec![[0.0; CANDIDATES]; edges]; self.cells.len()];
        for ((cell, plan), rows) in self.cells.iter().zip(&plan.cells).zip(&mut gradient) {
            for (state, plan) in cell.states.iter().zip(&plan.states) {
                let parts = reach.unwrap_or_default().get(plan.reach..).unwrap_or_default();
                for (term, part) in plan.terms.iter().zip(parts.chunks_exact(state.channels)) {
                    rows[term.row][term.column] = part.iter().map(|x| f64::from(*x)).sum();
                }
            }
        }
        gradient
    }
}
