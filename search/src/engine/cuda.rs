//! Derived network on a [`Device`], built from the kernels of `milenas_models::kernels::cuda`, for training and
//! evaluation.
//!
//! Weights, their gradients and velocities stay on the device, running statistics on the host. A pass uploads a
//! batch, enqueues the steps of its [`NetworkPlan`], and waits at its end to read loss and batch statistics, or
//! logits.

mod convolution;
mod maps;
mod pass;
mod plan;
mod step;

use milenas_models::fused::Regularisers;
use milenas_models::kernels::cuda::norm::CudaMoments;
use milenas_models::kernels::cuda::product::{ProductDims, row_products};
use milenas_models::kernels::cuda::sgd::Table;
use milenas_models::kernels::cuda::stem_head::{self, Loss};
use milenas_models::kernels::cuda::{Device, Gemm, Words};
use milenas_models::{Error, Result, Trainable, Weights};

use self::maps::ChannelMap;
use self::pass::NetworkPass;
use self::plan::{BranchHead, NetworkPlan};
use crate::data::Batch;
use crate::optim::{Sgd, SgdConfig};
use crate::resident::{ALIGNMENT, BatchBuffers, DeviceTensors, Packing, Resident};

/// Network with its weights and its memory on a device.
pub(super) struct CudaEngine {
    plan: NetworkPlan,
    tensors: DeviceTensors,
    resident: Resident,
    memory: Option<EngineBuffers>,
}

struct EngineBuffers {
    /// Largest batch that fits into the memory.
    batch: usize,
    /// Input batch.
    feed: BatchBuffers,
    /// Table of the packed parameters, with three integers for each piece.
    table: Words,
    /// Packed weights.
    weights: Words,
    /// Means, variances, and for each head the loss of each image and whether its prediction is correct.
    results: Words,
    /// Factors of droppable paths, `[path][image]`.
    paths: Words,
    /// Feature maps, by home.
    values: Vec<Words>,
    /// Gradients of the feature maps, by home; they are parts of `all_slopes`.
    slopes: Vec<Words>,
    /// Gradients of all feature maps, in one buffer.
    all_slopes: Words,
    /// Memory that a step keeps from the forward to the backward pass, by step.
    kept: Vec<Words>,
    /// Coefficients of the BatchNorms.
    scratch: [Words; 3],
    /// Logits `[class][image]` of each head, and their gradients.
    logits: Vec<[Words; 2]>,
}

impl EngineBuffers {
    fn table(&self) -> Result<Table> {
        Table::of(self.table, self.table.len() / 3)
    }
}

impl CudaEngine {
    /// Creates an engine with weights of zero.
    ///
    /// # Errors
    /// Fails for a network with an operation that has no kernel.
    pub(super) fn new(network: &Trainable) -> Result<CudaEngine> {
        let mut tensors = DeviceTensors::default();
        let plan = NetworkPlan::new(network, &mut tensors)?;
        Ok(CudaEngine { plan, tensors, resident: Resident::new(), memory: None })
    }

    /// Replaces weights and running statistics.
    ///
    /// # Errors
    /// Fails for a missing or unexpected name, and for another shape.
    pub(super) fn load(&mut self, weights: &Weights) -> Result<()> {
        self.tensors.load(weights)?;
        self.resident.replaced();
        Ok(())
    }

    /// Copies weights and running statistics into `weights`.
    pub(super) fn store(&mut self, device: &mut dyn Device, weights: &Weights) -> Result<()> {
        self.resident.read_weights(device, &mut self.tensors)?;
        weights.copy_from(&self.tensors.named()?)
    }

    /// Calls `visit` on the host for every weight and running statistic, each with a unique index. `changes`
    /// states whether `visit` changes them.
    pub(super) fn each(
        &mut self,
        device: &mut dyn Device,
        changes: bool,
        visit: impl FnMut(usize, &mut [f32]),
    ) -> Result<()> {
        self.resident.read_weights(device, &mut self.tensors)?;
        self.tensors.for_all(visit);
        if changes {
            self.resident.moved();
        }
        Ok(())
    }

    /// Enqueues an update of every parameter by the gradients of the last pass. The next pass runs after it.
    pub(super) fn sgd_step(
        &mut self,
        device: &mut dyn Device,
        sgd: &Sgd,
        config: &SgdConfig,
        rate: f64,
    ) -> Result<()> {
        let memory = self.memory.as_ref().ok_or_else(|| fault("no memory was reserved for a step"))?;
        self.resident.sgd_step_by_table(device, &self.tensors, memory.table()?, sgd, config, rate)
    }

    /// Copies the velocities into `sgd`.
    pub(super) fn download_velocities(&mut self, device: &mut dyn Device, sgd: &mut Sgd) -> Result<()> {
        self.resident.download_velocities(device, &self.tensors, sgd)
    }

    /// Allocates memory for `batch` images if the present memory is too small.
    fn fit(&mut self, device: &mut dyn Device, batch: usize) -> Result<()> {
        if self.memory.as_ref().is_some_and(|memory| memory.batch >= batch) {
            return Ok(());
        }
        self.memory = None;
        self.resident.leave(device, &mut self.tensors)?;
        device.release()?;
        let (plan, tensors) = (&self.plan, &self.tensors);
        let packing = plan.packing(tensors);
        let rows = packing.table(tensors).concat();
        let table = device.alloc(rows.len())?;
        device.write_ints(table, &rows)?;
        let count = plan.homes.iter().map(|map| map.home + 1).max().unwrap_or(0);
        let (mut values, mut slopes) = (vec![Words::NONE; count], vec![Words::NONE; count]);
        let room = |map: &ChannelMap| map.words(batch).next_multiple_of(ALIGNMENT);
        let all_slopes = device.alloc(plan.homes.iter().map(room).sum())?;
        let mut before = 0;
        for map in &plan.homes {
            values[map.home] = device.alloc(map.words(batch))?;
            slopes[map.home] = all_slopes.part(before, map.words(batch))?;
            before += room(map);
        }
        let mut kept = Vec::new();
        for step in &plan.steps {
            let words = step.kept(device, batch)?;
            kept.push(if words > 0 { device.alloc(words)? } else { Words::NONE });
        }
        let mut logits = Vec::new();
        for head in &plan.heads {
            let words = head.classes * batch;
            logits.push([device.alloc(words)?, device.alloc(words)?]);
        }
        let mut scratch = [Words::NONE; 3];
        for words in &mut scratch {
            *words = device.alloc(packing.moments())?;
        }
        self.memory = Some(EngineBuffers {
            batch,
            feed: BatchBuffers::alloc(device, batch, plan.image)?,
            table,
            weights: device.alloc(packing.words())?,
            results: device.alloc(2 * packing.moments() + 2 * plan.heads.len() * batch)?,
            paths: device.alloc(plan.paths * batch)?,
            values,
            slopes,
            all_slopes,
            kept,
            scratch,
            logits,
        });
        self.resident.alloc(device, &self.tensors, packing.words())
    }

    fn check(&self, batch: &Batch) -> Result<()> {
        let classes = self.plan.heads.iter().map(|head| head.classes).min().unwrap_or(0);
        let wrong = |what: &str, found: String, expected: String| {
            Err(Error::Value { what: what.into(), found, expected })
        };
        if batch.is_empty() || batch.shape != self.plan.image {
            let found = format!("{} of {:?}", batch.len(), batch.shape);
            return wrong("images of a batch", found, format!("one or more of {:?}", self.plan.image));
        }
        match batch.labels.iter().find(|label| **label as usize >= classes) {
            Some(label) => wrong("a label", label.to_string(), format!("less than the {classes} classes")),
            None => Ok(()),
        }
    }

    /// Uploads all inputs of a pass before it begins, so that its calls form one sequence.
    fn begin<'a>(
        &'a mut self,
        device: &'a mut dyn Device,
        batch: &Batch,
        training: Option<&Regularisers<'_>>,
    ) -> Result<(NetworkPass<'a>, &'a EngineBuffers, &'a NetworkPlan, Packing)> {
        self.check(batch)?;
        self.fit(device, batch.len())?;
        let CudaEngine { plan, tensors, resident, memory } = self;
        // The memory exists after `fit`.
        let memory = memory.as_ref().ok_or_else(|| fault("no memory was reserved for a pass"))?;
        let packing = plan.packing(tensors);
        memory.feed.upload(device, batch)?;
        let mut paths = Words::NONE;
        match training {
            Some(extra) if !extra.paths.is_empty() => {
                device.write(memory.paths, extra.paths)?;
                paths = memory.paths;
            }
            Some(_) => {}
            None => device.write(memory.results, &packing.running(tensors))?,
        }
        let all = resident.weights(device, tensors)?;
        let moments = packing.moments();
        memory.table()?.gather(device, all, memory.weights)?;
        let gradients = if training.is_some() { resident.expect(&packing) } else { Words::NONE };
        let pass = NetworkPass {
            batch: batch.len(),
            training: training.is_some(),
            images: memory.feed.images(device, batch)?,
            at: &plan.parameters,
            weights: memory.weights,
            gradients,
            moments: CudaMoments {
                mean: memory.results.part(0, moments)?,
                variance: memory.results.part(moments, moments)?,
            },
            paths,
            values: &memory.values,
            slopes: &memory.slopes,
            scratch: memory.scratch,
            device,
        };
        Ok((pass, memory, plan, packing))
    }

    /// Returns the loss of a batch in training mode, including the auxiliary head's, and the number of correct
    /// predictions. Updates the running statistics, and keeps the gradients for [`sgd_step`](Self::sgd_step).
    pub(super) fn gradients(
        &mut self,
        device: &mut dyn Device,
        batch: &Batch,
        extra: &Regularisers<'_>,
    ) -> Result<(f64, usize)> {
        if extra.auxiliary > 0.0 && self.plan.heads.len() < 2 {
            let (found, expected) = ("none in the network".into(), "one, for a weight above 0".into());
            return Err(Error::Value { what: "auxiliary head".into(), found, expected });
        }
        let factors = self.plan.paths * batch.len();
        if !extra.paths.is_empty() && extra.paths.len() != factors {
            let (found, expected) = (extra.paths.len().to_string(), factors.to_string());
            return Err(Error::Value { what: "number of factors of paths".into(), found, expected });
        }
        let (mut pass, memory, plan, packing) = self.begin(device, batch, Some(extra))?;
        let (pass, count, moments) = (&mut pass, batch.len(), 2 * packing.moments());
        for (step, kept) in plan.steps.iter().zip(&memory.kept) {
            step.forward(pass, *kept)?;
        }
        pass.device.clear(memory.all_slopes)?;
        let weights = [1.0, extra.auxiliary];
        for (i, ((head, logits), weight)) in plan.heads.iter().zip(&memory.logits).zip(weights).enumerate() {
            head.forward(pass, logits[0])?;
            let result = |at: usize| memory.results.part(moments + (2 * i + at) * count, count);
            let loss = Loss {
                logits: logits[0],
                bias: pass.weight(head.bias)?,
                labels: memory.feed.labels(),
                loss: result(0)?,
                right: result(1)?,
                gradient: logits[1],
                smoothing: extra.smoothing as f32,
                weight: weight as f32,
            };
            stem_head::cross_entropy(pass.device, &loss, head.classes, count)?;
            head.backward(pass, logits[1])?;
        }
        for (step, kept) in plan.steps.iter().zip(&memory.kept).rev() {
            step.backward(pass, *kept)?;
        }
        let mut found = vec![0.0; moments + 2 * plan.heads.len() * count];
        pass.device.read(memory.results.part(0, found.len())?, &mut found)?;
        packing.move_running(&found, count, &mut self.tensors);
        let heads = found[moments..].chunks_exact(2 * count).zip(weights);
        let loss = heads.clone().map(|(of, weight)| {
            weight * of[..count].iter().map(|x| f64::from(*x)).sum::<f64>() / count as f64
        });
        let right = heads.take(1).flat_map(|(of, _)| &of[count..]).filter(|right| **right > 0.0).count();
        Ok((loss.sum(), right))
    }

    /// Returns logits `[image][class]`, with running statistics.
    pub(super) fn predict(&mut self, device: &mut dyn Device, batch: &Batch) -> Result<Vec<f32>> {
        let (mut pass, memory, plan, _) = self.begin(device, batch, None)?;
        let pass = &mut pass;
        for (step, kept) in plan.steps.iter().zip(&memory.kept) {
            step.forward(pass, *kept)?;
        }
        let (Some(head), Some([logits, _])) = (plan.heads.first(), memory.logits.first()) else {
            return Ok(Vec::new());
        };
        head.forward(pass, *logits)?;
        let (mut by_class, mut bias) = (vec![0.0; head.classes * batch.len()], vec![0.0; head.classes]);
        pass.device.read(logits.part(0, by_class.len())?, &mut by_class)?;
        let at = pass.weight(head.bias)?.part(0, head.classes)?;
        pass.device.read(at, &mut bias)?;
        let one =
            |i: usize| by_class[i % head.classes * batch.len() + i / head.classes] + bias[i % head.classes];
        Ok((0..by_class.len()).map(one).collect())
    }
}

fn fault(problem: &str) -> Error {
    Error::Device {
        what: "a derived network".into(),
        problem: format!("{problem}. help: this is a bug, please report it"),
    }
}

impl BranchHead {
    /// Computes the logits without the bias.
    fn forward(&self, pass: &mut NetworkPass<'_>, logits: Words) -> Result<()> {
        pass.device.gemm(&Gemm {
            sizes: [self.classes, pass.batch, self.x.channels],
            a: pass.weight(self.weight)?,
            transposed: false,
            b: pass.value(self.x)?,
            c: logits,
            steps: [0; 3],
            batch: 1,
            add: false,
        })
    }

    /// Computes the gradients of parameters and input from the gradient of the logits.
    fn backward(&self, pass: &mut NetworkPass<'_>, dy: Words) -> Result<()> {
        let (x, dx, length) = (pass.value(self.x)?, pass.gradient(self.x)?, pass.batch);
        let (weight, bias) = (pass.weight_gradient(self.weight)?, pass.weight_gradient(self.bias)?);
        let dims = ProductDims { m: self.classes, n: self.x.channels, length };
        row_products(pass.device, dy, x, weight, false, 1, dims)?;
        stem_head::row_sums(pass.device, dy, bias, self.classes, length, 1.0)?;
        pass.device.gemm(&Gemm {
            sizes: [self.x.channels, pass.batch, self.classes],
            a: pass.weight(self.weight)?,
            transposed: true,
            b: dy,
            c: dx,
            steps: [0; 3],
            batch: 1,
            add: true,
        })
    }
}
