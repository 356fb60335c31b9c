//! A search by scores and short trainings, and what it leaves in its folder.

use std::fmt::Write;

use milenas_models::{Genotype, NetworkConfig, Rng, Trainable, Weights, file};

use super::{Data, Folder, GENOTYPE};
use crate::config::{Config, SearchConfig, TrainConfig};
use crate::data::{Plan, halves};
use crate::engine::MaybeDevice;
use crate::score::population::{Judged, Strategy, best, search};
use crate::score::{Metric, Scorer};
use crate::strategy::Recorder;
use crate::train::checkpoint::Checkpoint;
use crate::train::{Keeper, Task, TrainRecord, train};
use crate::{Error, Result, report};

/// The name of the table of all judgements.
pub const HISTORY: &str = "history.csv";
/// Images of the batch that scores.
const BATCH: usize = 128;

/// Searches; leaves `genotype.json` and `history.csv`, a row for each judgement in order. Fitness is the accuracy on the validation
/// half after a short training on the other, on a device or, without one, on the CPU; scores are the CPU's.
///
/// # Errors
/// Fewer than two images, an architecture that cannot be trained or scored.
pub fn run_population(
    strategy: Strategy,
    data: &Data,
    config: &Config,
    folder: &Folder,
    mut device: MaybeDevice<'_>,
    recorder: &mut dyn Recorder,
    tell: &mut dyn FnMut(&Judged),
) -> Result<Judged> {
    let (settings, space) = (&config.search, config.search.space()?);
    let (first, second) = halves(data.train.len(), settings.train_portion, config.seed);
    if first.is_empty() || second.is_empty() {
        let problem = format!("{} training images, a search needs two or more", data.train.len());
        return Err(Error::Data { problem });
    }
    let [train_half, valid_half] = [&first, &second].map(|half| data.train.subset(half));
    let network = data.network(settings.channels, settings.layers);
    let batch = Plan::batch(&data.train, &first[..BATCH.min(first.len())]);
    let mut scorer = Scorer::new(network, batch, config.seed);
    let short = Config { train: short_training(settings, &network), ..config.clone() };
    let mut fitness = |genotype: &Genotype| -> Result<f64> {
        let trainable = Trainable::assemble(genotype, &network, false)?;
        let weights = Weights::init(&trainable.graph, config.seed)?;
        let task = Task { network: &trainable, pictures: &train_half, test: &valid_half, config: &short };
        let mut last = Last(0.0);
        train(&task, &weights, None, device.as_deref_mut(), recorder, &mut last)?;
        let judged = Judged { genotype: genotype.clone(), value: last.0 };
        tell(&judged);
        Ok(judged.value)
    };
    let mut score = |genotype: &Genotype| Ok(scorer.score(genotype, &[Metric::Naswot])?[0]);
    let mut rng = Rng::new(config.seed, "population");
    let history = search(strategy, &space, &settings.population, &mut rng, &mut score, &mut fitness)?;
    let mut text = String::from("architecture,value\n");
    for Judged { genotype, value } in &history {
        let _ = writeln!(text, "\"{genotype}\",{value}");
    }
    file::write(&folder.join(HISTORY), text.as_bytes())?;
    let best = best(&history).ok_or_else(|| Error::Data { problem: "nothing was judged".into() })?;
    file::write(&folder.join(GENOTYPE), best.genotype.to_json().as_bytes())?;
    report::write(folder.path())?;
    Ok(best.clone())
}

/// A training without any regulariser but the decay.
fn short_training(settings: &SearchConfig, network: &NetworkConfig) -> TrainConfig {
    TrainConfig {
        epochs: settings.population.epochs,
        steps: settings.steps,
        batch: settings.batch,
        channels: network.channels,
        layers: network.layers,
        skeleton: network.skeleton,
        auxiliary: 0.0,
        drop_path: 0.0,
        cutout: 0.0,
        resized_crop: 0.0,
        jitter: 0.0,
        smoothing: 0.0,
        ema: 0.0,
        lr_factor: 0.0,
        checkpoint_steps: 0,
        weights: settings.weights,
    }
}

/// The accuracy after the last epoch.
struct Last(f64);

impl Keeper for Last {
    fn epoch(&mut self, record: &TrainRecord) -> Result<()> {
        self.0 = record.test_accuracy;
        Ok(())
    }

    fn save(&mut self, _: &Checkpoint) -> Result<()> {
        Ok(())
    }
}
