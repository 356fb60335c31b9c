//! Loop of a gradient-based search: batches, steps, validation, and the architecture at the end.

use std::time::Instant;

use milenas_models::metrics::{self, Ranked};
use milenas_models::{Cost, Rng};

use super::checkpoint::{Position, SearchCheckpoint, SearchState};
use super::perturbation::{Decisions, Quality};
use super::sizes::{Best, BestBySize, ModelSize, measure};
use super::stages;
use super::{
    EpochRecord, ProgressSink, SearchCheckpointer, SearchOutcome, SearchTask, StepContext, Stepper,
    StopReason,
};
use crate::config::{Config, SearchConfig};
use crate::data::{BatchFormat, EpochOrder, ImageSet, Loader, train_valid_split};
use crate::supernet::{Alphas, Rows, Supernet};
use crate::{Error, Result};

/// Searches with a supernet from its initial state, or resumes from a checkpoint with the same result as
/// without an interruption. `keeper` receives each epoch's record, and a checkpoint after every epoch and every
/// `checkpoint_steps` steps.
///
/// # Errors
/// Fails for fewer than two images, for a loss or weight that is not finite, and if `keeper` fails.
pub fn search(
    net: &mut dyn Supernet,
    task: &SearchTask<'_>,
    from: Option<SearchCheckpoint>,
    recorder: &mut dyn ProgressSink,
    keeper: &mut dyn SearchCheckpointer,
) -> Result<SearchOutcome> {
    let SearchTask { images: pictures, config, evaluation } = *task;
    let (space, seed) = (config.search.space()?, config.seed);
    let (train, valid) = train_valid_split(pictures.len(), config.search.train_portion, seed);
    if train.is_empty() || valid.is_empty() {
        let problem = format!("{} training images, a search needs two or more", pictures.len());
        return Err(Error::Data { problem });
    }
    let mut alphas = config.search.first_alphas(space, seed);
    let mut stepper = Stepper::default();
    let (mut at, mut sizes, mut ended) = (Position::default(), BestBySize::default(), StopReason::Epochs);
    if let Some(from) = from {
        let SearchState { weights, adam, sgd, .. } = from.state;
        net.load(&weights)?;
        stepper.restore(adam, sgd);
        (alphas, at, sizes) = (from.state.alphas, from.position, from.state.sizes);
    }
    // An architecture that cannot be measured fails before the first epoch.
    measure(&config.search.derive(&alphas)?, &evaluation)?;
    let settings = &config.search;
    let decisions = settings.decisions(seed)?;
    for epoch in at.epoch..settings.all_epochs() {
        if at.step == 0 && epoch > 0 && settings.stop.met(ModelSize::of(&settings.derive(&alphas)?)) {
            ended = StopReason::Size;
            break;
        }
        // One step is always taken, so that a search that ends has a checkpoint to resume from.
        if at != Position::default() && keeper.out_of_time() {
            ended = StopReason::Time;
            break;
        }
        let start = Instant::now();
        let stage = settings.stage(epoch);
        if at.step == 0 && epoch > 0 && stage.epoch == epoch {
            stages::prune(&mut alphas, stage.keep);
            if stage.partial != net.config().partial {
                net.widen(stage.partial, seed)?;
                stepper.forget_velocities();
            }
        }
        if let Some(decisions) = decisions.as_ref().filter(|_| at.step == 0) {
            decide(decisions, epoch, net, pictures, &valid, &mut alphas, config)?;
        }
        let lr = settings.rate(epoch);
        let plan = EpochOrder::epoch(&train, settings.batch, settings.steps, seed, "train", epoch);
        let steps = plan.steps();
        let draws = EpochOrder::draws(&valid, settings.batch, steps, seed, "valid", epoch);
        recorder.begin(epoch, settings.all_epochs(), steps, at.step);
        std::thread::scope(|scope| {
            let form = BatchFormat::new(net.takes_bytes(), Some(config.augment.into()));
            let train = Loader::start(scope, pictures, plan.starting_at(at.step), form);
            let valid = Loader::start(scope, pictures, draws.starting_at(at.step), form);
            for (step, (train, valid)) in (at.step..).zip(train.zip(valid)) {
                let moment = StepContext { seed, epoch, step, lr };
                let seen = stepper.step(net, &mut alphas, [&train, &valid], settings, moment)?;
                for (what, value) in
                    [("the training loss", Some(seen.train_loss)), ("the validation loss", seen.valid_loss)]
                {
                    finite(what, value.unwrap_or_default(), epoch, step, "search.weights.lr", lr)?;
                }
                recorder.step(seen.train_loss, train.len());
                at.step += 1;
                at.loss += seen.train_loss;
                at.correct += seen.train_correct;
                at.images += train.len();
                if at.step == steps {
                    break;
                }
                let late = keeper.out_of_time();
                let every = settings.checkpoint_steps;
                if late || (every > 0 && at.step.is_multiple_of(every)) {
                    keeper.save(&checkpoint(net, &alphas, &mut stepper, at, &sizes, lr)?)?;
                }
                if late {
                    ended = StopReason::Time;
                    break;
                }
            }
            Ok::<_, Error>(())
        })?;
        if ended == StopReason::Time {
            break;
        }
        let genotype = settings.derive(&alphas)?;
        let (relaxation, progress) = (settings.relaxation_in(epoch)?, settings.progress(epoch));
        let ranked = validate(net, pictures, &valid, settings, &mut |net, step| {
            let purpose = format!("{}/{epoch}/valid/{step}", settings.mixture);
            let mut rng = || Rng::new(seed, &purpose);
            relaxation.sample(&alphas, net.config(), progress, &mut rng).sites(net.config())
        })?;
        let accuracy = (metrics::right(&ranked), ranked.len());
        sizes.see(Best { epoch, accuracy, genotype: genotype.clone(), alphas: alphas.clone() });
        let Cost { params, macs } = measure(&genotype, &evaluation)?;
        keeper.epoch(&EpochRecord {
            epoch,
            lr,
            train_loss: at.loss / steps as f64,
            train_accuracy: at.correct as f64 / at.images.max(1) as f64,
            images: at.images,
            valid_accuracy: accuracy.0 as f64 / accuracy.1 as f64,
            valid_loss: metrics::loss(&ranked),
            entropy: alphas.entropy(),
            convolutions: genotype.convolutions(),
            params,
            macs,
            skips: genotype.skips(),
            mixture: alphas.by_group(&alphas.mixture()),
            groups: alphas.groups().collect(),
            genotype,
            ranked,
            seconds: start.elapsed().as_secs_f64(),
        })?;
        at = Position::start(epoch + 1);
        keeper.save(&checkpoint(net, &alphas, &mut stepper, at, &sizes, lr)?)?;
    }
    if let Some(decisions) = decisions.filter(|_| ended == StopReason::Epochs) {
        decide(&decisions, settings.all_epochs(), net, pictures, &valid, &mut alphas, config)?;
        // It is chosen among those of its size, even if an earlier one had a better supernet.
        let ranked = validate(net, pictures, &valid, settings, &mut |net, _| {
            net.config().for_sites(&alphas.mixture())
        })?;
        let (accuracy, genotype) = ((metrics::right(&ranked), ranked.len()), settings.derive(&alphas)?);
        let best = Best { epoch: settings.all_epochs() - 1, accuracy, genotype, alphas: alphas.clone() };
        sizes.0.insert(ModelSize::of(&best.genotype), best);
        keeper.save(&checkpoint(
            net,
            &alphas,
            &mut stepper,
            at,
            &sizes,
            settings.rate(settings.all_epochs()),
        )?)?;
    }
    Ok(SearchOutcome { ended, sizes, genotype: settings.derive(&alphas)?, alphas })
}

/// Creates a checkpoint.
///
/// # Errors
/// Fails for a value that is not finite; the previous checkpoint stays.
fn checkpoint(
    net: &mut dyn Supernet,
    alphas: &Alphas,
    stepper: &mut Stepper,
    position: Position,
    sizes: &BestBySize,
    lr: f64,
) -> Result<SearchCheckpoint> {
    let (adam, sgd) = stepper.optimisers(net)?;
    let (adam, sgd, alphas, sizes) = (adam.clone(), sgd.clone(), alphas.clone(), sizes.clone());
    let checkpoint = SearchCheckpoint {
        position,
        state: SearchState { weights: net.weights()?, alphas, adam, sgd, sizes },
    };
    match checkpoint.not_finite()? {
        None => Ok(checkpoint),
        Some((what, value)) => {
            finite(what, value, position.epoch, position.step, "search.weights.lr", lr).map(|()| checkpoint)
        }
    }
}

/// Fails with [`Error::NotFinite`] if `value` is not finite.
pub(crate) fn finite(
    what: &'static str,
    value: f64,
    epoch: usize,
    step: usize,
    key: &'static str,
    lr: f64,
) -> Result<()> {
    match value.is_finite() {
        true => Ok(()),
        false => Err(Error::NotFinite { what, value, epoch, step, key, advice: lr / 10.0 }),
    }
}

/// Makes the decisions that stand before an epoch: the first after the epochs of the search, the others after those of
/// the training in between.
fn decide(
    decisions: &Decisions,
    epoch: usize,
    net: &mut dyn Supernet,
    pictures: &ImageSet,
    valid: &[usize],
    alphas: &mut Alphas,
    config: &Config,
) -> Result<()> {
    let settings = &config.search;
    let Some(after) = epoch.checked_sub(settings.epochs) else { return Ok(()) };
    if !after.is_multiple_of(settings.perturbation.epochs) {
        return Ok(());
    }
    decisions.decide(after / settings.perturbation.epochs, alphas, &mut |mixture| {
        let ranked = validate(net, pictures, valid, settings, &mut |net, _| net.config().for_sites(mixture))?;
        let accuracy = metrics::right(&ranked) as f64 / ranked.len() as f64;
        Ok(Quality { accuracy, loss: metrics::loss(&ranked) })
    })
}

/// Evaluates the supernet on the validation images, in order and without augmentation (the released code
/// augments them). At most as many images are used as an epoch's steps visit. `mixture` returns the rows of the sites for
/// a batch.
fn validate(
    net: &mut dyn Supernet,
    pictures: &ImageSet,
    valid: &[usize],
    settings: &SearchConfig,
    mixture: &mut dyn FnMut(&dyn Supernet, usize) -> Rows,
) -> Result<Vec<Ranked>> {
    let most = if settings.steps == 0 { usize::MAX } else { settings.steps * settings.batch };
    let valid = &valid[..valid.len().min(most)];
    let mut ranked = Vec::with_capacity(valid.len());
    std::thread::scope(|scope| {
        let (plan, form) =
            (EpochOrder::in_order(valid, settings.batch), BatchFormat::new(net.takes_bytes(), None));
        let batches = Loader::start(scope, pictures, plan, form);
        for (step, batch) in batches.enumerate() {
            let sites = mixture(net, step);
            let logits = net.predict_sites(&batch, &sites)?;
            let classes = logits.len() / batch.len();
            let rows = logits.chunks_exact(classes).zip(&batch.labels);
            ranked.extend(rows.map(|(row, &label)| Ranked::new(row, label)));
        }
        Ok::<_, Error>(())
    })?;
    Ok(ranked)
}
