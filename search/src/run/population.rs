//! Black-box search in its run folder: started, or resumed after an interruption.

mod race;

use std::path::Path;
use std::time::{Duration, Instant};

use milenas_models::input::ImageSize;
use milenas_models::{Genotype, NetworkConfig, Rng, Trainable, Weights, assemble, cost, file};

use super::evaluation_log::{EvaluationLog, read_evaluations};
use super::population_identity::{PopulationCheckpoint, is_population, read_identity};
use super::{CHECKPOINT, Data, Folder, GENOTYPE};
use crate::checkpoint::Position;
use crate::config::{Config, SearchConfig, TrainConfig};
use crate::data::{EpochOrder, ImageSet, train_valid_split};
use crate::engine::MaybeDevice;
use crate::limit::{LIMITS, NetworkLimits};
use crate::score::{Score, Scorer};
use crate::strategy::ProgressSink;
use crate::strategy::black_box::{
    By, Evaluated, Evaluator, PopulationOutcome, RungSize, ShortRun, Strategy, search,
};
use crate::strategy::checkpoint::SearchOrigin;
use crate::supernet::DeviceSpec;
use crate::train::checkpoint::TrainCheckpoint;
use crate::train::{TrainCheckpointer, TrainRecord, TrainTask, train};
use crate::{Error, Result};

/// File name of the table of all evaluations, which gains a row per evaluation.
pub const HISTORY: &str = "history.csv";
/// File name of the table of scores, for a strategy that trains too.
pub const DRAWS: &str = "draws.csv";
/// Number of images in the batch for scores.
const BATCH: usize = 128;
/// Number of samples after which no architecture is assumed to be within the limits.
const TRIES: usize = 1000;
/// Minimum time between two writes of the report and the timings.
const PAGE: Duration = Duration::from_secs(1);

/// Run folder of a black-box search, with the origin and the evaluations of the search.
#[derive(Debug)]
pub struct PopulationRun {
    /// Folder of the run.
    pub folder: Folder,
    origin: SearchOrigin,
    history: EvaluationLog,
    /// Scores of a strategy that trains too; `None` for other strategies.
    draws: Option<EvaluationLog>,
}

impl PopulationRun {
    /// Returns the number of stored evaluations, scores included.
    pub fn done(&self) -> usize {
        left(&self.history, &self.draws)
    }
}

/// Returns whether the scores have a table of their own, because the strategy trains too.
fn keeps_scores(config: &Config) -> bool {
    config.search.black_box().is_some_and(|strategy| strategy.trains() && strategy.score().is_some())
}

fn left(history: &EvaluationLog, draws: &Option<EvaluationLog>) -> usize {
    history.left() + draws.as_ref().map_or(0, EvaluationLog::left)
}

/// Creates the folder of a black-box search that trains on `place`, or opens it to `resume`. Stored evaluations
/// are not repeated.
///
/// # Errors
/// Fails for a folder with another run in it, and for a search with another configuration, device or other
/// images.
pub fn open_population(
    path: &Path,
    config: &Config,
    data: &Data,
    place: DeviceSpec,
    resume: bool,
) -> Result<PopulationRun> {
    let origin = SearchOrigin {
        config: config.clone(),
        data: data.train.fingerprint(),
        device: place.kind().into(),
        subject: (),
    };
    let checkpoint = path.join(CHECKPOINT);
    let unfinished = !path.join(GENOTYPE).exists();
    let race = config.search.black_box().is_some_and(Strategy::shortens);
    let tables = |open: fn(&Path, bool) -> Result<EvaluationLog>| {
        let draws = keeps_scores(config).then(|| open(&path.join(DRAWS), false)).transpose()?;
        Ok::<_, Error>((open(&path.join(HISTORY), race)?, draws))
    };
    // A search that was stopped before its first evaluation, for example because of its limits, has nothing to
    // resume.
    let rows = |name| read_evaluations(&path.join(name)).map(|rows| rows.len());
    let begun = is_population(path) && rows(HISTORY)? + rows(DRAWS)? > 0;
    let problem = match (begun, resume) {
        (true, true) => {
            read_identity(path, &origin)?;
            let folder = Folder::reopen(path, config, &data.source, 0)?;
            let (history, draws) = tables(EvaluationLog::reopen)?;
            return Ok(PopulationRun { folder, origin, history, draws });
        }
        (true, false) if unfinished => "an unfinished search. help: resume it with setting `resume`, or",
        (false, _) if unfinished && checkpoint.exists() && !is_population(path) => {
            "another unfinished run. help:"
        }
        _ => {
            let folder = Folder::create(path, config, &data.source, GENOTYPE)?;
            let (history, draws) = tables(EvaluationLog::create)?;
            // Written last: it marks the folder as one with tables to resume from.
            PopulationCheckpoint::default().save(&checkpoint, &origin)?;
            return Ok(PopulationRun { folder, origin, history, draws });
        }
    };
    Err(Error::Data { problem: format!("{} holds {problem} choose another run folder", path.display()) })
}

/// Runs a black-box search. Writes `genotype.json`, `history.csv` with a row for each evaluation as soon as it
/// is made, and `report.html`. Fitness is the accuracy on the validation split after a short training on the
/// training split, on a device or, without one, on the CPU. Scores are computed on the CPU. `observe` receives the
/// number and the value of every architecture that is scored or trained.
///
/// # Errors
/// Fails for fewer than two images, for an architecture that cannot be trained or scored, and if none is within
/// the limits, and for a gradient-based strategy.
pub fn run_population(
    data: &Data,
    run: PopulationRun,
    device: MaybeDevice<'_>,
    recorder: &mut dyn ProgressSink,
    observe: &mut dyn FnMut(By, usize, &Evaluated),
) -> Result<PopulationOutcome> {
    let PopulationRun { mut folder, origin, history, draws } = run;
    let config = &origin.config;
    let settings = &config.search;
    let strategy = settings.black_box().ok_or_else(|| Error::Config {
        place: "search.strategy".into(),
        problem: format!("{} does not evaluate whole architectures", settings.strategy),
    })?;
    let (first, second) = train_valid_split(data.train.len(), settings.train_portion, config.seed);
    if first.is_empty() || second.is_empty() {
        let problem = format!("{} training images, a search needs two or more", data.train.len());
        return Err(Error::Data { problem });
    }
    folder.page()?;
    let race = &settings.strategies.race;
    let evaluating = if strategy.shortens() { race.valid_images.min(second.len()) } else { second.len() };
    let whole = EvaluationImages {
        train: data.train.subset(&first),
        valid: data.train.subset(&second[..evaluating]),
        network: data.network(settings.channels, settings.layers),
    };
    let size = whole.train.contract.size();
    let small = Some(race.small(size)).filter(|small| strategy.shortens() && *small != size);
    let small = small.map(|size| whole.resized(size));
    let scored = small.as_ref().unwrap_or(&whole);
    let batch: Vec<usize> = (0..BATCH.min(first.len())).collect();
    let mut evaluator = PopulationFolder {
        plan: None,
        scorer: Scorer::new(scored.network, EpochOrder::batch(&scored.train, &batch), config.seed),
        score: strategy.score(),
        short: Config { train: short_training(settings, &whole.network), ..config.clone() },
        whole,
        small,
        evaluation: data.derived(&config.train),
        limits: settings.stop.limits(),
        // The configuration was checked before.
        budget: settings.stop.budget().ok().flatten(),
        folder,
        device_kind: origin.device.clone(),
        history,
        draws,
        since: Instant::now(),
        device,
        recorder,
        observe,
    };
    let mut rng = Rng::new(config.seed, "population");
    let outcome = search(strategy, settings.space()?, &settings.population, &mut rng, &mut evaluator)?;
    evaluator.mark()?;
    file::write(&evaluator.folder.join(GENOTYPE), outcome.chosen.genotype.to_json().as_bytes())?;
    evaluator.folder.page()?;
    Ok(outcome)
}

/// Images of one size that train and evaluate architectures.
struct EvaluationImages {
    /// Training split.
    train: ImageSet,
    /// Images of the validation split that measure fitness.
    valid: ImageSet,
    /// Network for these images.
    network: NetworkConfig,
}

impl EvaluationImages {
    fn resized(&self, size: ImageSize) -> EvaluationImages {
        let ImageSize { height, width } = size;
        EvaluationImages {
            train: self.train.resized(size),
            valid: self.valid.resized(size),
            network: NetworkConfig { height, width, ..self.network },
        }
    }
}

/// Evaluator that stores its evaluations in the run folder.
struct PopulationFolder<'a> {
    whole: EvaluationImages,
    /// The same images at the size of the first rungs of a race, if it is another one.
    small: Option<EvaluationImages>,
    scorer: Scorer,
    score: Option<&'static dyn Score>,
    short: Config,
    /// Network for evaluation, to which the limits apply.
    evaluation: NetworkConfig,
    limits: NetworkLimits,
    budget: Option<Duration>,
    /// Training of each rung of a race, once they are planned.
    plan: Option<Vec<ShortRun>>,
    folder: Folder,
    device_kind: String,
    history: EvaluationLog,
    draws: Option<EvaluationLog>,
    since: Instant,
    device: MaybeDevice<'a>,
    recorder: &'a mut dyn ProgressSink,
    observe: &'a mut dyn FnMut(By, usize, &Evaluated),
}

impl PopulationFolder<'_> {
    /// Writes a timing and the report.
    fn mark(&mut self) -> Result<()> {
        self.folder.mark(Position::start(self.history.count()), &mut self.since, &self.device_kind)
    }

    fn mark_now_and_then(&mut self) -> Result<()> {
        // The tables have a row to resume from.
        self.folder.keep();
        if self.since.elapsed() < PAGE { Ok(()) } else { self.mark() }
    }
}

impl Evaluator for PopulationFolder<'_> {
    fn pick(&mut self, draw: &mut dyn FnMut() -> Result<Genotype>) -> Result<Genotype> {
        let limits = &self.limits;
        if limits.is_empty() {
            return draw();
        }
        let mut smallest = vec![u64::MAX; LIMITS.len()];
        for _ in 0..TRIES {
            let genotype = draw()?;
            let found = limits.measure(&genotype, &self.evaluation)?;
            if limits.hold(&found) {
                return Ok(genotype);
            }
            smallest.iter_mut().zip(found).for_each(|(smallest, found)| *smallest = found.min(*smallest));
        }
        let problem = format!(
            "none of {TRIES} architectures has at most {limits} at {} channels and {} layers; the smallest values are {}. help: \
             raise {}, or lower train.channels or train.layers",
            self.evaluation.channels,
            self.evaluation.layers,
            limits.format(&smallest),
            limits.keys()
        );
        Err(Error::Data { problem })
    }

    fn score(&mut self, genotype: &Genotype) -> Result<f64> {
        let PopulationFolder { folder, scorer, score, history, draws, observe, .. } = self;
        let score = score.ok_or_else(|| Error::Data { problem: "the strategy has no score".into() })?;
        let table = draws.as_mut().unwrap_or(history);
        let number = table.count() + 1;
        let value = table.value(genotype, None, || {
            folder.take_back()?;
            let value = scorer.score(genotype, &[score])?[0];
            observe(By::Score, number, &Evaluated { genotype: genotype.clone(), value, run: None });
            Ok(value)
        })?;
        self.mark_now_and_then()?;
        Ok(value)
    }

    fn fitness(&mut self, genotype: &Genotype, run: Option<ShortRun>) -> Result<f64> {
        if let Some(run) = run {
            return self.raced(genotype, run);
        }
        let Self { folder, whole, short, history, device, recorder, observe, .. } = self;
        let EvaluationImages { train: images, valid, network } = whole;
        let number = history.count() + 1;
        let value = history.value(genotype, None, || {
            folder.take_back()?;
            let trainable = Trainable::assemble(genotype, network, false)?;
            let weights = Weights::init(&trainable.graph, short.seed)?;
            let task = TrainTask { network: &trainable, images, test: valid, config: short };
            let mut last = Last(0.0);
            train(&task, &weights, None, device.as_deref_mut(), *recorder, &mut last)?;
            observe(By::Fitness, number, &Evaluated { genotype: genotype.clone(), value: last.0, run });
            Ok(last.0)
        })?;
        self.mark_now_and_then()?;
        Ok(value)
    }

    fn live_size(&mut self, genotype: &Genotype) -> Result<Option<u64>> {
        let live = genotype.live();
        let found = self.limits.measure(&live, &self.evaluation)?;
        if !self.limits.hold(&found) {
            return Ok(None);
        }
        if self.limits.is_empty() {
            return Ok(Some(cost(&assemble(&live, &self.evaluation)?).macs));
        }
        Ok(self.limits.rank(&found).first().copied())
    }

    fn plan(&mut self, rungs: &[RungSize], largest: &Genotype) -> Result<Vec<ShortRun>> {
        if self.plan.is_none() {
            self.plan = Some(self.planned(rungs, largest)?);
        }
        Ok(self.plan.iter().flatten().copied().collect())
    }

    fn out_of_time(&self) -> bool {
        let spent = self.folder.spent() + self.since.elapsed().as_secs_f64();
        // Stored evaluations are read again first, regardless of the time.
        left(&self.history, &self.draws) == 0
            && self.budget.is_some_and(|budget| spent >= budget.as_secs_f64())
    }
}

/// Returns the settings of a training without regularisation except weight decay.
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

/// Accuracy after the last epoch.
struct Last(f64);

impl TrainCheckpointer for Last {
    fn epoch(&mut self, record: &TrainRecord) -> Result<()> {
        self.0 = record.test_accuracy;
        Ok(())
    }

    fn save(&mut self, _: &TrainCheckpoint) -> Result<()> {
        Ok(())
    }
}
