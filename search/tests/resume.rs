//! An interrupted search gives the same result as an uninterrupted one, for every point of interruption.
#![allow(clippy::unwrap_used)]

use std::cell::Cell;

use milenas_models::NetworkConfig;
use milenas_models::images::Source;
use milenas_search::config::Config;
use milenas_search::run::Data;
use milenas_search::strategy::checkpoint::{SearchCheckpoint, SearchOrigin};
use milenas_search::strategy::{
    EpochRecord, ProgressSink, SearchCheckpointer, SearchOutcome, SearchTask, StopReason, search,
};
use milenas_search::supernet::{SupernetConfig, new_supernet};
use milenas_search::{Error, Result};

const TINY: [&str; 9] = [
    "search.epochs=3",
    "search.steps=3",
    "search.batch=8",
    "search.channels=4",
    "search.layers=3",
    "search.checkpoint_steps=1",
    "train.channels=2",
    "train.layers=3",
    "augment.flip=false",
];

struct Silent;

impl ProgressSink for Silent {
    fn begin(&mut self, _: usize, _: usize, _: usize, _: usize) {}
    fn step(&mut self, _: f64, _: usize) {}
}

/// Checkpointer that keeps lines and the last checkpoint. It fails at the save at which `lives` reaches 0, and is out of time
/// after `patience` calls.
struct Mortal<'a> {
    origin: &'a SearchOrigin,
    lives: usize,
    patience: Cell<usize>,
    lines: Vec<String>,
    kept: Option<Vec<u8>>,
}

impl SearchCheckpointer for Mortal<'_> {
    fn epoch(&mut self, record: &EpochRecord) -> Result<()> {
        self.lines.truncate(record.epoch);
        self.lines.push(serde_json::to_string(record).unwrap());
        Ok(())
    }

    fn save(&mut self, checkpoint: &SearchCheckpoint) -> Result<()> {
        if self.lives == 0 {
            return Err(Error::Data { problem: "killed".into() });
        }
        self.lives -= 1;
        self.kept = Some(checkpoint.to_bytes(self.origin)?);
        Ok(())
    }

    fn out_of_time(&self) -> bool {
        self.patience.set(self.patience.get().saturating_sub(1));
        self.patience.get() == 0
    }
}

impl Mortal<'_> {
    /// Returns the epoch of the last step before the checkpoint; 0 without one.
    fn last_epoch(&self) -> usize {
        let position = self
            .kept
            .as_ref()
            .map(|bytes| SearchCheckpoint::from_bytes(bytes, "kept", self.origin).unwrap().position);
        position.map_or(0, |position| position.last_epoch())
    }

    fn new(origin: &SearchOrigin, lives: usize) -> Mortal<'_> {
        Mortal { origin, lives, patience: Cell::new(usize::MAX), lines: Vec::new(), kept: None }
    }
}

fn origin(data: &Data, sets: &[&str]) -> SearchOrigin {
    let sets: Vec<String> = TINY.iter().chain(sets).map(ToString::to_string).collect();
    SearchOrigin {
        config: Config::resolve("smoke", None, &sets).unwrap(),
        data: data.train.fingerprint(),
        device: "cpu".into(),
        subject: (),
    }
}

fn digits() -> Data {
    Data::load(&Source::parse("digits").unwrap(), &Config::resolve("smoke", None, &[]).unwrap()).unwrap()
}

/// Runs a search in a new supernet, from the last checkpoint if there is one.
fn live(data: &Data, checkpointer: &mut Mortal<'_>) -> Result<SearchOutcome> {
    let config = &checkpointer.origin.config;
    let shape = SupernetConfig {
        channels: config.search.channels,
        layers: config.search.layers,
        in_channels: 1,
        partial: config.search.stage(checkpointer.last_epoch()).partial,
        ..SupernetConfig::paper(10)
    };
    let mut net = new_supernet(&shape, 8, 8, config.seed, None)?;
    let from = checkpointer
        .kept
        .as_ref()
        .map(|bytes| SearchCheckpoint::from_bytes(bytes, "kept", checkpointer.origin));
    let evaluation = NetworkConfig {
        channels: 2,
        layers: 3,
        classes: 10,
        in_channels: 1,
        height: 8,
        width: 8,
        skeleton: Default::default(),
    };
    search(
        &mut *net,
        &SearchTask { images: &data.train, config, evaluation },
        from.transpose()?,
        &mut Silent,
        checkpointer,
    )
}

/// 17 decisions, with an epoch of two steps after each but the last. The final one is saved too.
#[test]
fn a_derivation_by_perturbation_interrupted_anywhere_ends_the_same() {
    let data = digits();
    let origin = origin(&data, &["search.derive=pt", "search.epochs=1", "search.steps=2"]);
    let mut whole = Mortal::new(&origin, usize::MAX);
    let expected = live(&data, &mut whole).unwrap();
    assert_eq!((expected.ended, whole.lines.len()), (StopReason::Epochs, 17));
    assert!(expected.alphas.mixture().iter().flatten().all(|weight| [0.0, 1.0].contains(weight)));
    assert!(expected.sizes.0.values().any(|best| best.genotype == expected.genotype));
    for lives in [1, 2, 3, 20, 33, 34] {
        let mut checkpointer = Mortal::new(&origin, lives);
        live(&data, &mut checkpointer).unwrap_err();
        checkpointer.lives = usize::MAX;
        let found = live(&data, &mut checkpointer).unwrap();
        assert_eq!((found.genotype, found.sizes), (expected.genotype.clone(), expected.sizes.clone()));
        assert!(checkpointer.kept == whole.kept && checkpointer.lines == whole.lines, "after {lives} saves");
    }
    // A finished search can be resumed, and decides nothing anew.
    let again = live(&data, &mut whole).unwrap();
    assert_eq!(again.genotype, expected.genotype);
}

#[test]
fn interrupted_at_every_boundary_it_ends_the_same() {
    let data = digits();
    let variants: [&[&str]; 6] = [
        &["search.order=released"],
        &["search.order=two-pass", "search.strategy=darts-1st"],
        &["search.strategy=milenas-2nd"],
        &["search.mixture=gumbel"],
        &["search.partial_channels=2"],
        &["search.mixture=dirichlet", "search.partial_channels=4", "search.stages=1:5:2,2:2:1"],
    ];
    for sets in variants {
        let origin = origin(&data, sets);
        let mortal = |lives| Mortal::new(&origin, lives);
        let mut whole = mortal(usize::MAX);
        let expected = live(&data, &mut whole).unwrap();
        assert!(!expected.sizes.0.is_empty() && expected.ended == StopReason::Epochs);
        assert_eq!(whole.lines.len(), 3);
        for lives in 0..9 {
            let mut checkpointer = mortal(lives);
            live(&data, &mut checkpointer).unwrap_err();
            assert_eq!(
                checkpointer.lines.len(),
                (lives + 1) / 3,
                "an epoch's line comes before its checkpoint"
            );
            checkpointer.lives = usize::MAX;
            let found = live(&data, &mut checkpointer).unwrap();
            assert_eq!((&found.genotype, &found.sizes), (&expected.genotype, &expected.sizes));
            assert_eq!(checkpointer.lines, whole.lines, "after {lives} saves");
            assert!(checkpointer.kept == whole.kept, "after {lives} saves");
        }
        // A search can run out of time after any step except the last, and resumes later. It always takes a first step.
        for patience in 1..9 {
            let mut checkpointer = mortal(usize::MAX);
            checkpointer.patience.set(patience);
            assert_eq!(live(&data, &mut checkpointer).unwrap().ended, StopReason::Time);
            assert!(checkpointer.kept.is_some());
            checkpointer.patience.set(usize::MAX);
            live(&data, &mut checkpointer).unwrap();
            assert!(checkpointer.kept == whole.kept && checkpointer.lines == whole.lines, "{patience}");
        }
        // Each attempt saves once.
        let mut checkpointer = mortal(1);
        while live(&data, &mut checkpointer).is_err() {
            checkpointer.lives = 1;
        }
        assert!(checkpointer.kept == whole.kept && checkpointer.lines == whole.lines);
    }
}

#[test]
fn only_the_same_search_resumes_from_a_checkpoint() {
    let data = digits();
    let origin = origin(&data, &["search.epochs=1"]);
    let mut checkpointer = Mortal::new(&origin, 1);
    live(&data, &mut checkpointer).unwrap_err();
    let bytes = checkpointer.kept.unwrap();
    let refused = |bytes: &[u8], origin: &SearchOrigin| {
        SearchCheckpoint::from_bytes(bytes, "x.safetensors", origin).unwrap_err().to_string()
    };

    let mut other = origin.clone();
    other.config.search.lambda = 3.0;
    let message = refused(&bytes, &other);
    assert!(
        message.contains("x.safetensors: ") && message.contains("`search.lambda` is 1.0 there and 3.0 now")
    );
    other = origin.clone();
    other.config.search.checkpoint_steps = 5;
    SearchCheckpoint::from_bytes(&bytes, "x", &other).unwrap();
    let mut set = data.train.clone();
    set.images.pixels[5] ^= 1;
    other.data = set.fingerprint();
    assert!(refused(&bytes, &other).contains("other images"));
    other = SearchOrigin { device: "cuda".into(), ..origin.clone() };
    let message = refused(&bytes, &other);
    assert!(
        message.contains("computed on cpu, but cuda was requested")
            && message.contains("set `device` to cpu"),
        "{message}"
    );

    for length in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        let message = refused(&bytes[..length], &origin);
        assert!(message.contains("damaged") && message.contains("help"), "{length}: {message}");
    }
    for at in (0..bytes.len()).step_by(bytes.len() / 97) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 4;
        assert!(!refused(&flipped, &origin).is_empty(), "byte {at}");
    }
}

#[test]
fn a_value_that_is_not_finite_stops_the_search_and_is_never_saved() {
    let data = digits();
    // In the first case the next loss shows that the weights are too large; in the second the weights are not finite.
    for (lr, kept, expected) in [
        ("1e25", true, "the training loss is NaN at epoch 0, step 1"),
        ("1e300", false, "a weight of the supernet is"),
    ] {
        let more = ["search.weights.momentum=0.0", "search.order=released"].map(String::from);
        let sets = [vec![format!("search.weights.lr={lr}")], more.to_vec()].concat();
        let origin = origin(&data, &sets.iter().map(String::as_str).collect::<Vec<_>>());
        let mut checkpointer = Mortal::new(&origin, usize::MAX);
        let message = live(&data, &mut checkpointer).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("search.weights.lr="), "{message}");
        assert_eq!(checkpointer.kept.is_some(), kept, "{lr}");
        if let Some(bytes) = checkpointer.kept {
            let kept = SearchCheckpoint::from_bytes(&bytes, "kept", &origin).unwrap();
            assert_eq!((kept.position.step, kept.not_finite().unwrap()), (1, None));
        }
    }
}
