//! Trainings of a race: their images, and the steps of the rungs under a time budget.

use std::time::Instant;

use milenas_models::{Genotype, Trainable, file};
use serde::{Deserialize, Serialize};

use super::{EvaluationImages, PopulationFolder};
use crate::checkpoint::damaged;
use crate::data::ImageSet;
use crate::strategy::black_box::{By, Evaluated, RungSize, ShortRun};
use crate::train::short::{ShortTask, train_short};
use crate::{Error, Result};

/// File name of the steps of each rung, which a search under a time budget measures once.
pub const RUNGS: &str = "rungs.json";

/// Fewest steps of a training under a time budget.
const FEWEST: usize = 20;
/// Steps of the trainings that measure the time of a step.
const MEASURED: [usize; 2] = [2, 8];
/// Time of an image in evaluation, relative to its time in a training step.
const EVALUATION: f64 = 0.3;

/// Content of [`RUNGS`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    steps: Vec<usize>,
}

impl PopulationFolder<'_> {
    /// Returns the accuracy of an architecture after a training of a race.
    pub(super) fn raced(&mut self, genotype: &Genotype, run: ShortRun) -> Result<f64> {
        let number = self.history.count() + 1;
        let Self { folder, whole, small, short, history, device, recorder, observe, .. } = self;
        let images = small.as_ref().filter(|small| small.train.contract.size() == run.size).unwrap_or(whole);
        let value = history.value(genotype, Some(run), || {
            folder.take_back()?;
            let race = &short.search.strategies.race;
            let network = Trainable::assemble(genotype, &images.network, false)?;
            let task = ShortTask {
                network: &network,
                images: &images.train,
                valid: &images.valid,
                augment: short.augment,
                steps: run.steps,
                batch: race.batch,
                weights: race.weights,
                seed: run.seed,
            };
            let value = train_short(&task, device.as_deref_mut(), *recorder)?;
            observe(By::Fitness, number, &Evaluated { genotype: genotype.clone(), value, run: Some(run) });
            Ok(value)
        })?;
        self.mark_now_and_then()?;
        Ok(value)
    }

    /// Returns the training of each rung. The architectures of a rung share its seed, so that nothing else differs.
    pub(super) fn planned(&mut self, rungs: &[RungSize], largest: &Genotype) -> Result<Vec<ShortRun>> {
        let steps = self.planned_steps(rungs, largest)?;
        let run = |((rung, steps), number): ((&RungSize, usize), u64)| ShortRun {
            rung: number as usize,
            steps,
            size: self.images(rung).train.contract.size(),
            seed: self.short.seed.wrapping_mul(1000).wrapping_add(number),
        };
        Ok(rungs.iter().zip(steps).zip(1..).map(run).collect())
    }

    fn images(&self, rung: &RungSize) -> &EvaluationImages {
        self.small.as_ref().filter(|_| !rung.whole).unwrap_or(&self.whole)
    }

    /// Returns the steps of a training in each rung. Under a time budget the steps are measured, shortened and stored, so
    /// that a resumed search has the same rungs.
    fn planned_steps(&mut self, rungs: &[RungSize], largest: &Genotype) -> Result<Vec<usize>> {
        let wanted: Vec<usize> = rungs.iter().map(|rung| rung.steps).collect();
        let path = self.folder.join(RUNGS);
        if path.exists() {
            let place = path.display().to_string();
            let plan: Plan =
                serde_json::from_slice(&file::read(&path, 1 << 16)?).map_err(|e| damaged(&place, e))?;
            let whole = plan.steps.len() == wanted.len() && plan.steps.iter().all(|steps| *steps > 0);
            return if whole { Ok(plan.steps) } else { Err(damaged(&place, "it has other rungs")) };
        }
        let Some(budget) = self.budget else { return Ok(wanted) };
        let mut seconds = Vec::new();
        for (number, rung) in rungs.iter().enumerate() {
            let known = rungs[..number].iter().position(|known| known.whole == rung.whole);
            seconds.push(
                known.map_or_else(|| self.seconds_of_a_step(rung, largest), |known| Ok(seconds[known]))?,
            );
        }
        let left = budget.as_secs_f64() - self.folder.spent() - self.since.elapsed().as_secs_f64();
        let batches =
            EVALUATION * self.whole.valid.len() as f64 / self.short.search.strategies.race.batch as f64;
        let total = |steps: &dyn Fn(&RungSize) -> f64| -> f64 {
            rungs
                .iter()
                .zip(&seconds)
                .map(|(rung, second)| rung.trainings as f64 * steps(rung) * second)
                .sum()
        };
        let (evaluation, training) = (total(&|_| batches), total(&|rung| rung.steps as f64));
        let share = ((left - evaluation) / training).clamp(0.0, 1.0);
        let steps: Vec<usize> =
            wanted.iter().map(|steps| ((*steps as f64 * share) as usize).max(FEWEST.min(*steps))).collect();
        if steps != wanted {
            self.recorder.note(&format!(
                "rungs of {steps:?} steps instead of {wanted:?}, for the time budget: steps take {seconds:.2?} s"
            ));
        }
        let json = serde_json::to_string_pretty(&Plan { steps: steps.clone() })
            .map_err(|e| Error::Config { place: RUNGS.into(), problem: e.to_string() })?;
        file::write(&path, json.as_bytes())?;
        Ok(steps)
    }

    fn seconds_of_a_step(&mut self, rung: &RungSize, genotype: &Genotype) -> Result<f64> {
        let race = &self.short.search.strategies.race;
        let images = self.small.as_ref().filter(|_| !rung.whole).unwrap_or(&self.whole);
        let network = Trainable::assemble(genotype, &images.network, false)?;
        let none: ImageSet = images.valid.subset(&[]);
        let mut seconds = [0.0; 2];
        for (seconds, steps) in seconds.iter_mut().zip(MEASURED) {
            let task = ShortTask {
                network: &network,
                images: &images.train,
                valid: &none,
                augment: self.short.augment,
                steps,
                batch: race.batch,
                weights: race.weights,
                seed: 0,
            };
            let start = Instant::now();
            train_short(&task, self.device.as_deref_mut(), &mut Unheard)?;
            *seconds = start.elapsed().as_secs_f64();
        }
        let [few, many] = MEASURED;
        Ok(((seconds[1] - seconds[0]) / (many - few) as f64).max(1e-6))
    }
}

/// Sink of the trainings that measure time.
struct Unheard;

impl crate::strategy::ProgressSink for Unheard {
    fn begin(&mut self, _: usize, _: usize, _: usize, _: usize) {}
    fn step(&mut self, _: f64, _: usize) {}
}
