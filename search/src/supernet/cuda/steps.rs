//! First-order step as one sequence of calls: its passes, the logits' optimiser between them, and the update of
//! the weights. All inputs are uploaded before, and the host waits once, at the end, for the results.

use milenas_models::Result;
use milenas_models::kernels::cuda::alphas::{self, Uses};
use milenas_models::kernels::cuda::{Device, Words};

use super::network::{CudaNetwork, SupernetPlan};
use super::results::{ResultLayout, Results};
use crate::data::Batch;
use crate::optim::{Adam, Sgd};
use crate::resident::SgdUpdate;
use crate::supernet::first_order::{FirstOrder, Moving, StepLosses};
use crate::supernet::wired::CANDIDATES;

/// Index of the training images among a step's batches and input buffers.
const TRAIN: usize = 0;

/// Largest number of passes in a step.
const PASSES: usize = 3;

/// Buffers of steps on the device, besides those of passes. The layout covers all candidates with any weights,
/// so it is the same for every step.
pub(super) struct Steps {
    plan: SupernetPlan,
    ints: Words,
    /// Index of the logit of each weight in the layout.
    logits: Words,
    uses: Uses,
    /// Gradient of the loss with respect to the mixture: by term and channel of a pass, and in the order of the
    /// logits.
    reach: Words,
    gradient: Words,
    /// Uploaded and read values: the logits with the state of Adam, its two factors and the learning rate of
    /// the weights; the norm of the weights' gradient and its clipping factor; then the results of each pass.
    results: Words,
    /// Number of logits.
    count: usize,
}

impl Steps {
    /// Returns the offset of Adam's factors in the results.
    fn factors(&self) -> usize {
        3 * self.count
    }

    fn rate(&self) -> usize {
        self.factors() + 2
    }

    fn norm(&self) -> usize {
        self.rate() + 1
    }

    /// Returns the offset of the first pass in the results.
    fn passes(&self) -> usize {
        self.norm() + 2
    }

    /// Returns the layout of a pass's results for the host, from `start` on. The gradient of the mixture stays
    /// on the device.
    fn slot(&self, start: usize, images: usize) -> ResultLayout {
        ResultLayout { reach: 0, ..self.plan.slot(start, images) }
    }

    fn alphas(&self) -> Result<alphas::DeviceLogits> {
        let (rows, columns) = (self.count / CANDIDATES, CANDIDATES);
        Ok(alphas::DeviceLogits { state: self.results.part(0, 3 * self.count)?, rows, columns })
    }
}

impl CudaNetwork {
    /// Performs one step on batches of valid size.
    pub(super) fn first_order(
        &mut self,
        device: &mut dyn Device,
        moving: Moving<'_>,
        how: &FirstOrder<'_>,
    ) -> Result<StepLosses> {
        let most = how.batches.map(Batch::len).into_iter().max().unwrap_or(0);
        let [_, height, width] = how.batches[TRAIN].shape;
        self.fit(device, most, [height, width])?;
        let steps = match self.steps.take() {
            Some(steps) => steps,
            None => self.begin_steps(device)?,
        };
        let seen = self.step(device, &steps, moving, how);
        self.steps = Some(steps);
        seen
    }

    /// Uploads the tables, and allocates memory for the largest batch.
    fn begin_steps(&self, device: &mut dyn Device) -> Result<Steps> {
        let plan = self.whole(true);
        let mut put = |values: &[i32]| {
            let words = device.alloc(values.len())?;
            device.write_ints(words, values).map(|()| words)
        };
        let (mut logits, mut uses) = (Vec::new(), Vec::new());
        for (index, (cell, cell_plan)) in self.cells.iter().zip(&plan.cells).enumerate() {
            let first = if self.config().reduces(index) { self.config().edges() } else { 0 };
            for (state, plan) in cell.states.iter().zip(&cell_plan.states) {
                for (i, term) in plan.terms.iter().enumerate() {
                    let logit = (first + term.row) * CANDIDATES + term.column;
                    logits.push(logit as i32);
                    uses.push((logit, (plan.reach + i * state.channels) as i32, state.channels as i32));
                }
            }
        }
        uses.sort_by_key(|(logit, ..)| *logit);
        let count = 2 * self.config().edges() * CANDIDATES;
        let first = (0..=count).map(|logit| uses.partition_point(|(own, ..)| *own < logit) as i32);
        let uses = Uses {
            count: uses.len(),
            first: put(&first.collect::<Vec<_>>())?,
            at: put(&uses.iter().map(|(_, at, _)| *at).collect::<Vec<_>>())?,
            lengths: put(&uses.iter().map(|(.., words)| *words).collect::<Vec<_>>())?,
        };
        let (ints, logits) = (put(&plan.tables.ints)?, put(&logits)?);
        let (reach, gradient) = (device.alloc(plan.slot(0, 0).reach)?, device.alloc(count)?);
        let steps = Steps { plan, ints, logits, uses, reach, gradient, results: Words::NONE, count };
        let words = steps.passes() + PASSES * steps.slot(0, self.batch()).words();
        Ok(Steps { results: device.alloc(words)?, ..steps })
    }

    fn step(
        &mut self,
        device: &mut dyn Device,
        steps: &Steps,
        Moving { alphas, adam, sgd }: Moving<'_>,
        how: &FirstOrder<'_>,
    ) -> Result<StepLosses> {
        let (t, mean, square) = adam.state();
        let means =
            |values: &[f64]| (0..steps.count).map(|i| values.get(i).map_or(0.0, |x| *x as f32)).collect();
        let [rate, square_seen] = how.alphas.factors(t + 1);
        let rates = [rate, square_seen, how.rate].map(|x| x as f32).to_vec();
        let uploaded: [Vec<f32>; 4] = [alphas.flat(), means(mean), means(square), rates];
        device.write(steps.results, &uploaded.concat())?;
        let passes = self.ask(device, steps, sgd, how)?;

        let end = passes.last().map_or(steps.passes(), |(_, slot)| slot.start + slot.words());
        let mut read = vec![0.0; end];
        device.read(steps.results.part(0, end)?, &mut read)?;
        let part = |i: usize| &read[i * steps.count..][..steps.count];
        alphas.update(|logits| logits.copy_from_slice(part(0)));
        let [mean, square] = [1, 2].map(|i| part(i).iter().map(|x| f64::from(*x)).collect());
        *adam = Adam::from_state(t + 1, mean, square);
        let mut seen = StepLosses { gradient_norm: f64::from(read[steps.norm()]), ..StepLosses::default() };
        for (half, slot) in passes {
            let found = slot.find(&read);
            steps.plan.packing.move_running(found.moments, slot.images, &mut self.tensors);
            match half {
                TRAIN => (seen.train_loss, seen.train_correct) = (found.loss(), found.correct()),
                _ => seen.valid_loss = Some(found.loss()),
            }
        }
        Ok(seen)
    }

    /// Enqueues a step whose inputs are on the device. Returns its passes by batch, with the layouts of their
    /// results.
    fn ask(
        &mut self,
        device: &mut dyn Device,
        steps: &Steps,
        sgd: &Sgd,
        how: &FirstOrder<'_>,
    ) -> Result<Vec<(usize, ResultLayout)>> {
        let wanted = [0, 1].map(|half| how.factors[half] != 0.0 || how.two_pass && half == TRAIN);
        let used = |half: usize| wanted[half] || half == TRAIN;
        for (half, batch) in how.batches.into_iter().enumerate().filter(|(half, _)| used(*half)) {
            self.memory.feeds[half].upload(device, batch)?;
        }
        let all = self.resident.weights(device, &self.tensors)?;

        let mut images = [Words::NONE; 2];
        for (half, batch) in how.batches.into_iter().enumerate().filter(|(half, _)| used(*half)) {
            images[half] = self.memory.feeds[half].images(device, batch)?;
        }
        let (alphas, table) = (steps.alphas()?, steps.plan.table(steps.ints)?);
        table.gather(device, all, self.memory.weights)?;
        device.clear(steps.gradient)?;
        alphas.softmax(device, steps.logits, self.memory.floats)?;
        let (mut passes, mut next) = (Vec::new(), steps.passes());
        for half in [0, 1].into_iter().filter(|half| wanted[*half]) {
            let slot = steps.slot(next, how.batches[half].len());
            self.ask_pass(device, steps, (half, images[half]), slot, how.two_pass && half == TRAIN)?;
            alphas.gradient(device, steps.reach, &steps.uses, how.factors[half], steps.gradient)?;
            passes.push((half, slot));
            next += slot.words();
        }
        let by = alphas::AdamStep {
            by: steps.results.part(steps.factors(), 2)?,
            beta1: how.alphas.beta1,
            beta2: how.alphas.beta2,
            decay: how.alphas.decay,
        };
        alphas.adam_step(device, steps.gradient, &by)?;
        if !how.two_pass {
            alphas.softmax(device, steps.logits, self.memory.floats)?;
            let slot = steps.slot(next, how.batches[TRAIN].len());
            self.ask_pass(device, steps, (TRAIN, images[TRAIN]), slot, true)?;
            passes.push((TRAIN, slot));
        }
        let (norm, rate) = (steps.results.part(steps.norm(), 2)?, steps.results.part(steps.rate(), 1)?);
        let update = SgdUpdate { table, norm, rate, sgd, config: &how.weights };
        self.resident.enqueue_sgd_step(device, &self.tensors, &update)?;
        Ok(passes)
    }

    /// Enqueues a pass with the gradients of the mixture, and with those of the weights if requested.
    fn ask_pass(
        &mut self,
        device: &mut dyn Device,
        steps: &Steps,
        (half, images): (usize, Words),
        slot: ResultLayout,
        want_weights: bool,
    ) -> Result<()> {
        let results = Results { reach: steps.reach, ..slot.of(steps.results)? };
        let labels = self.memory.feeds[half].labels();
        let mut pass = self.pass(device, &steps.plan, (steps.ints, results), true, want_weights);
        self.train(&mut pass, &steps.plan, (images, labels), true)
    }
}
