//! Training with all regularisers: an interrupted training gives the same result as an uninterrupted one, and the saved network has the
//! measured accuracy.
#![allow(clippy::unwrap_used)]

use milenas_models::images::Source;
use milenas_models::{Executor, Genotype, Mode, NetworkConfig, Trainable, Weights};
use milenas_search::config::Config;
use milenas_search::data::EpochOrder;
use milenas_search::run::Data;
use milenas_search::strategy::ProgressSink;
use milenas_search::train::checkpoint::{TrainCheckpoint, TrainOrigin, TrainSubject};
use milenas_search::train::{
    TrainCheckpointer, TrainRecord, TrainTask, estimate_statistics, evaluate, train,
};
use milenas_search::{Error, Result};

const TINY: [&str; 7] = [
    "train.epochs=3",
    "train.steps=3",
    "train.batch=8",
    "train.channels=2",
    "train.layers=3",
    "train.checkpoint_steps=1",
    "augment.flip=false",
];
/// All regularisers. The digits are resized, since the auxiliary head requires 32 pixels.
const ALL: [&str; 7] = [
    "data.size=32",
    "train.auxiliary=0.4",
    "train.drop_path=0.5",
    "train.cutout=0.5",
    "train.smoothing=0.1",
    "train.ema=0.5",
    "train.jitter=0.2",
];

/// Network for ImageNet, whose stems reduce the side by 8, with the augmentation of its preset.
const IMAGENET: [&str; 7] = [
    "data.size=64",
    "data.resize=72",
    "train.skeleton=imagenet",
    "train.resized_crop=0.08",
    "train.jitter=0.4",
    "train.smoothing=0.1",
    "train.lr_factor=0.97",
];

struct Silent;

impl ProgressSink for Silent {
    fn begin(&mut self, _: usize, _: usize, _: usize, _: usize) {}
    fn step(&mut self, _: f64, _: usize) {}
}

/// Checkpointer that keeps lines and the last checkpoint, and fails at the save at which `lives` reaches 0.
struct Mortal<'a> {
    origin: &'a TrainOrigin,
    lives: usize,
    lines: Vec<String>,
    kept: Option<Vec<u8>>,
}

impl TrainCheckpointer for Mortal<'_> {
    fn epoch(&mut self, record: &TrainRecord) -> Result<()> {
        self.lines.truncate(record.epoch);
        self.lines.push(serde_json::to_string(record).unwrap());
        Ok(())
    }

    fn save(&mut self, checkpoint: &TrainCheckpoint) -> Result<()> {
        if self.lives == 0 {
            return Err(Error::Data { problem: "killed".into() });
        }
        self.lives -= 1;
        self.kept = Some(checkpoint.to_bytes(self.origin)?);
        Ok(())
    }
}

fn config(sets: &[&str]) -> Config {
    let sets: Vec<String> = TINY.iter().chain(sets).map(ToString::to_string).collect();
    Config::resolve("smoke", None, &sets).unwrap()
}

fn digits(config: &Config) -> Data {
    let mut data = Data::load_to_train(&Source::parse("digits").unwrap(), config).unwrap();
    data.test.images.labels.truncate(50);
    data
}

fn origin(data: &Data, config: Config, genotype: &str) -> TrainOrigin {
    let genotype = Genotype::named(genotype).unwrap();
    TrainOrigin {
        config,
        data: data.train.fingerprint(),
        device: "cpu".into(),
        subject: TrainSubject { genotype, start: "random weights".into() },
    }
}

/// Runs a training from the last checkpoint, if there is one.
fn live(data: &Data, checkpointer: &mut Mortal<'_>) -> Result<(Trainable, Weights)> {
    let config = &checkpointer.origin.config;
    let settings = &config.train;
    let side = data.train.contract.height;
    let shape = NetworkConfig {
        channels: settings.channels,
        layers: settings.layers,
        classes: 10,
        in_channels: 1,
        height: side,
        width: side,
        skeleton: settings.skeleton,
    };
    let network =
        Trainable::assemble(&checkpointer.origin.subject.genotype, &shape, settings.auxiliary > 0.0)?;
    let weights = Weights::init(&network.graph, config.seed)?;
    let from = checkpointer
        .kept
        .as_ref()
        .map(|bytes| TrainCheckpoint::from_bytes(bytes, "kept", checkpointer.origin));
    let task = TrainTask { network: &network, images: &data.train, test: &data.test, config };
    train(&task, &weights, from.transpose()?, None, &mut Silent, checkpointer)?;
    Ok((network, weights))
}

fn bytes(weights: &Weights) -> Vec<u8> {
    weights.to_bytes(Default::default()).unwrap()
}

fn mortal(origin: &TrainOrigin, lives: usize) -> Mortal<'_> {
    Mortal { origin, lives, lines: Vec::new(), kept: None }
}

#[test]
fn interrupted_at_every_boundary_it_ends_the_same() {
    // Fused passes with and without regularisers, and the executor.
    for (genotype, sets) in [
        ("DARTS_V2", &ALL[..]),
        ("DARTS_V2", &["train.lr_factor=0.9", "train.resized_crop=0.3"]),
        ("DARTS_V2", &IMAGENET),
        ("AmoebaNet", &["train.drop_path=0.5", "train.smoothing=0.1", "train.ema=0.9"]),
    ] {
        let config = config(sets);
        let data = digits(&config);
        let origin = origin(&data, config, genotype);
        let mut whole = mortal(&origin, usize::MAX);
        let expected = bytes(&live(&data, &mut whole).unwrap().1);
        assert_eq!(whole.lines.len(), 3);
        for lives in 0..9 {
            let mut checkpointer = mortal(&origin, lives);
            assert!(live(&data, &mut checkpointer).is_err());
            checkpointer.lives = usize::MAX;
            let (_, weights) = live(&data, &mut checkpointer).unwrap();
            assert!(bytes(&weights) == expected, "{genotype}: weights differ after {lives} saves");
            assert_eq!(checkpointer.lines, whole.lines, "after {lives} saves");
            assert!(checkpointer.kept == whole.kept, "{genotype}: points differ after {lives} saves");
        }
        // Resuming a finished training changes nothing.
        assert!(bytes(&live(&data, &mut whole).unwrap().1) == expected);
    }
}

#[test]
fn the_saved_network_has_the_measured_accuracy() {
    for (sets, mean) in [(&ALL[..], true), (&["data.size=32", "train.drop_path=0.5"], false)] {
        let config = config(sets);
        let data = digits(&config);
        let origin = origin(&data, config, "DARTS_V2");
        let mut checkpointer = mortal(&origin, usize::MAX);
        let (network, weights) = live(&data, &mut checkpointer).unwrap();
        let last = TrainCheckpoint::from_bytes(&checkpointer.kept.unwrap(), "kept", &origin).unwrap();
        assert_eq!(bytes(&last.state.weights) != bytes(&weights), mean, "the mean is not the last weights");
        let ranked = evaluate(&network.graph, &weights, &data.test, 7).unwrap();
        let right = ranked.iter().filter(|r| r.rank == 0).count();
        let line: serde_json::Value = serde_json::from_str(&checkpointer.lines[2]).unwrap();
        assert_eq!(line["test_accuracy"], right as f64 / ranked.len() as f64);
    }
}

/// Each regulariser alone changes the training from its first or second epoch on.
#[test]
fn each_regulariser_does_something() {
    let lines = |sets: &[&str]| {
        let config = config(&[&["data.size=32"], sets].concat());
        let data = digits(&config);
        let origin = origin(&data, config, "DARTS_V2");
        let mut checkpointer = mortal(&origin, usize::MAX);
        live(&data, &mut checkpointer).unwrap();
        checkpointer.lines
    };
    let plain = lines(&[]);
    for set in ["auxiliary=0.4", "cutout=0.5", "smoothing=0.1", "jitter=0.4", "resized_crop=0.2"] {
        assert_ne!(lines(&[&format!("train.{set}")])[0], plain[0], "{set}");
    }
    // These regularisers start with the second epoch.
    for set in ["drop_path=0.5", "lr_factor=0.5"] {
        let found = lines(&[&format!("train.{set}")]);
        assert!(found[0] == plain[0] && found[1] != plain[1], "{set}");
    }
}

#[test]
fn only_the_same_training_resumes_from_a_checkpoint() {
    let config = config(&["train.epochs=1"]);
    let data = digits(&config);
    let origin = origin(&data, config, "DARTS_V2");
    let mut checkpointer = mortal(&origin, 1);
    assert!(live(&data, &mut checkpointer).is_err());
    let bytes = checkpointer.kept.unwrap();
    let refused = |change: &dyn Fn(&mut TrainOrigin)| {
        let mut other = origin.clone();
        change(&mut other);
        TrainCheckpoint::from_bytes(&bytes, "x.safetensors", &other).unwrap_err().to_string()
    };
    let message = refused(&|other| other.config.train.drop_path = 0.2);
    assert!(message.contains("`train.drop_path` is 0.0 there and 0.2 now"), "{message}");
    let message = refused(&|other| other.subject.genotype = Genotype::named("DARTS_V1").unwrap());
    assert!(message.contains("of another architecture") && message.contains("help"), "{message}");
    assert!(refused(&|other| other.data = "2 images".into()).contains("other images"));
    let message = refused(&|other| other.device = "cuda".into());
    assert!(
        message.contains("computed on cpu, but cuda was requested")
            && message.contains("set `device` to cpu"),
        "{message}"
    );
    let mut same = origin.clone();
    same.config.train.checkpoint_steps = 9;
    TrainCheckpoint::from_bytes(&bytes, "x", &same).unwrap();
    let message =
        TrainCheckpoint::from_bytes(&bytes[..bytes.len() / 2], "x", &origin).unwrap_err().to_string();
    assert!(message.contains("damaged"), "{message}");
}

/// Whole images are kept only for trainings with resized crops, and do not change the fingerprint.
#[test]
fn only_a_training_with_resized_crops_keeps_whole_images() {
    let load = |load: fn(&Source, &Config) -> Result<Data>, sets: &[&str]| {
        let data = load(&Source::Digits, &config(sets)).unwrap();
        (data.train.wholes.len(), data.test.wholes.len(), data.train.fingerprint())
    };
    let both = ["data.size=8", "data.resize=10", "train.resized_crop=0.5"];
    let (train, test, digest) = load(Data::load_to_train, &both);
    assert_eq!((train, test), (1437, 0));
    for (other, sets) in
        [(load(Data::load, &both), "a search"), (load(Data::load_to_train, &both[..2]), "no crops")]
    {
        assert_eq!(other, (0, 0, digest.clone()), "{sets}");
    }
    assert_eq!(load(Data::load_to_train, &[both[0], both[2]]).0, 0);
}

/// With all images in one batch, the estimated statistics are nearly those of the batch. Evaluation with them gives the same result as a
/// pass in training mode; evaluation with initial statistics does not.
#[test]
fn estimated_statistics_are_those_of_the_images() {
    let config = config(&["train.batch=200"]);
    let data = digits(&config);
    let some: Vec<usize> = (0..200).collect();
    let set = data.train.subset(&some);
    let side = set.contract.height;
    let shape = NetworkConfig {
        channels: 2,
        layers: 3,
        classes: 10,
        in_channels: 1,
        height: side,
        width: side,
        skeleton: config.train.skeleton,
    };
    let network = Trainable::assemble(&Genotype::named("DARTS_V2").unwrap(), &shape, false).unwrap();
    let weights = Weights::init(&network.graph, 3).unwrap();
    let images = EpochOrder::batch(&set, &some).tensor().unwrap();
    let logits = |mode: Mode| -> Vec<f32> {
        // A pass in training mode updates statistics, so each pass has its own copy of the weights.
        let own = weights.detached().unwrap();
        let found = Executor::new(&network.graph, &own).run(std::slice::from_ref(&images), mode).unwrap();
        found[0].flatten_all().unwrap().to_vec1().unwrap()
    };
    let far = |found: &[f32], expected: &[f32]| {
        let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
        found.iter().zip(expected).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / largest
    };
    let expected = logits(Mode::Train);
    assert!(far(&logits(Mode::Eval), &expected) > 0.2, "statistics of a new network");
    estimate_statistics(&network, &weights, &set, &config, None).unwrap();
    let found = far(&logits(Mode::Eval), &expected);
    assert!(found < 0.02, "estimated statistics: {found}");
}
