//! Short training that evaluates an architecture: a whole schedule by steps, without checkpoints.

use milenas_models::fused::Regularisers;
use milenas_models::{Trainable, Weights, metrics};

use super::evaluate_with;
use crate::data::{Augment, BatchFormat, EpochOrder, ImageSet, Loader, Transform};
use crate::engine::{Engine, MaybeDevice};
use crate::optim::{Sgd, SgdConfig};
use crate::strategy::ProgressSink;
use crate::{Error, Result};

/// Inputs of a short training.
#[derive(Clone, Copy, Debug)]
pub struct ShortTask<'a> {
    /// Network to train.
    pub network: &'a Trainable,
    /// Training images.
    pub images: &'a ImageSet,
    /// Images that are classified at the end.
    pub valid: &'a ImageSet,
    /// Augmentation of the training images.
    pub augment: Augment,
    /// Number of steps. The learning rate rises over the first tenth of them, then falls to `weights.lr_min` by a cosine.
    pub steps: usize,
    /// Images per step.
    pub batch: usize,
    /// Optimiser of the weights.
    pub weights: SgdConfig,
    /// Seed of the initial weights, of the order of the images and of their augmentation.
    pub seed: u64,
}

/// Trains a network from initial weights, and returns its accuracy on the validation images as a fraction. A training whose
/// loss is not finite has the accuracy 0.
///
/// # Errors
/// Fails without training images, and if the device fails.
pub fn train_short(
    task: &ShortTask<'_>,
    device: MaybeDevice<'_>,
    recorder: &mut dyn ProgressSink,
) -> Result<f64> {
    if task.images.is_empty() {
        return Err(Error::Data { problem: "no training image could be read".into() });
    }
    let weights = Weights::init(&task.network.graph, task.seed)?;
    let mut engine = Engine::for_training(task.network, &weights, device)?;
    if let Some(reason) = engine.slow() {
        recorder.note(&format!("slow training: the fast engine does not support this network ({reason})"));
    }
    let all: Vec<usize> = (0..task.images.len()).collect();
    let (mut sgd, mut done, mut finite) = (Sgd::new(), 0, true);
    recorder.begin(0, 1, task.steps, 0);
    let transform = Transform::from(task.augment);
    for epoch in 0.. {
        let left = task.steps - done;
        if left == 0 || !finite {
            break;
        }
        let plan = EpochOrder::epoch(&all, task.batch, left, task.seed, "short", epoch);
        std::thread::scope(|scope| {
            let form = BatchFormat::new(engine.takes_bytes(), Some(transform));
            for batch in Loader::start(scope, task.images, plan, form) {
                let (loss, _) = engine.gradients(&batch, &Regularisers::default())?;
                finite = loss.is_finite();
                if !finite {
                    break;
                }
                engine.step(&mut sgd, &task.weights, task.rate(done))?;
                recorder.step(loss, batch.len());
                done += 1;
            }
            Ok::<_, Error>(())
        })?;
    }
    if !finite {
        return Ok(0.0);
    }
    let ranked = evaluate_with(&mut engine, task.valid, task.batch)?;
    Ok(metrics::right(&ranked) as f64 / ranked.len().max(1) as f64)
}

impl ShortTask<'_> {
    /// Returns the learning rate of a step.
    fn rate(&self, step: usize) -> f64 {
        let (SgdConfig { lr, lr_min, .. }, warmup) = (self.weights, self.steps.div_ceil(10));
        if step < warmup {
            return lr * (step + 1) as f64 / warmup as f64;
        }
        crate::optim::cosine(lr, lr_min, step - warmup, self.steps - warmup)
    }
}

#[cfg(test)]
mod tests {
    use milenas_models::{Genotype, NetworkConfig, Skeleton};

    use super::*;
    use crate::bench::noise;

    struct Silent;

    impl ProgressSink for Silent {
        fn begin(&mut self, _: usize, _: usize, _: usize, _: usize) {}
        fn step(&mut self, _: f64, _: usize) {}
    }

    /// The rate rises to its maximum and ends near its minimum; equal seeds give equal results; a rate that is far too large
    /// ends with accuracy 0 or an accuracy, never with an error.
    #[test]
    fn a_schedule_is_complete_and_repeatable() {
        let network = NetworkConfig {
            channels: 4,
            layers: 3,
            classes: 10,
            in_channels: 3,
            height: 32,
            width: 32,
            skeleton: Skeleton::Cifar,
        };
        let genotype = Genotype::named("DARTS_V2").unwrap();
        let network = Trainable::assemble(&genotype, &network, false).unwrap();
        let images = noise(20, 32);
        let task = ShortTask {
            network: &network,
            images: &images,
            valid: &images,
            augment: Augment { crop: 0.125, flip: true },
            steps: 7,
            batch: 8,
            weights: SgdConfig { lr: 0.1, ..SgdConfig::default() },
            seed: 1,
        };
        let rates: Vec<f64> = (0..7).map(|step| task.rate(step)).collect();
        assert!(
            rates[0] == 0.1 && rates[1] == 0.1 && rates.windows(2).all(|w| w[1] <= w[0]) && rates[6] < 0.01
        );
        let long = ShortTask { steps: 100, ..task };
        assert!((long.rate(0) - 0.01).abs() < 1e-12 && (long.rate(9) - 0.1).abs() < 1e-12);
        let run = |task: &ShortTask<'_>| train_short(task, None, &mut Silent).unwrap();
        assert_eq!(run(&task), run(&task));
        let wild = ShortTask { weights: SgdConfig { lr: 1e9, clip: 0.0, ..task.weights }, ..task };
        assert!((0.0..=1.0).contains(&run(&wild)));
    }
}
