//! Configurations: a preset, then a file, then single keys; every key is known, every run keeps what it resolved to.

mod check;
mod table;

use milenas_models::{Skeleton, Space};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::data::{Augment, Transform};
use crate::optim::{AdamConfig, SgdConfig, cosine, exponential};
use crate::strategy::black_box::{PopulationConfig, Strategy};
use crate::strategy::stop::StopConfig;
use crate::strategy::{Compat, Mixing, MixtureKind, Order};
use crate::supernet::Alphas;
use crate::{Error, Result};
pub use check::check_parts;
use table::{assignment, lay, leaves};

/// Everything that decides a run besides its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Decides every random choice.
    pub seed: u64,
    /// How images are brought to the network.
    pub data: DataConfig,
    /// What training does to images.
    pub augment: Augment,
    /// The search.
    pub search: SearchConfig,
    /// The training of the found network.
    pub train: TrainConfig,
}

/// How images are brought to the network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// The side of the square that the network sees, in pixels; 0 keeps images that all have one size of at most 64
    /// and brings others to 32.
    pub size: usize,
    /// What the shorter side of a picture becomes before the centre of `size` pixels is taken, and the shorter side of what
    /// `train.resized_crop` crops; 0 for `size`. A picture of exactly `size` x `size` is seen as it is.
    #[serde(default)]
    pub resize: usize,
    /// The seed that sets test images aside where the source has no test part. It is not `seed`: searches and trainings of other
    /// seeds are measured with the same images, which none of them has seen.
    #[serde(default)]
    pub split: u64,
}

/// The search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchConfig {
    /// The cells to search among: `darts` or `nasbench201`.
    pub space: String,
    /// The rule for the architecture's gradient.
    pub strategy: String,
    /// Which passes a step makes.
    pub order: Order,
    /// Epochs at the start that follow `bilevel_strategy` (the gradual run of the released code).
    pub bilevel_epochs: usize,
    /// The rule of those epochs.
    pub bilevel_strategy: String,
    /// Oddities of the released code to reproduce.
    pub compat: Compat,
    /// How a pass mixes the candidates.
    pub mixture: MixtureKind,
    /// The temperature of Gumbel samples at the start.
    pub tau_max: f64,
    /// The temperature that the epoch after the last would have.
    pub tau_min: f64,
    /// Times through the training half.
    pub epochs: usize,
    /// The most steps of an epoch; 0 for no limit.
    pub steps: usize,
    /// Images of a step.
    pub batch: usize,
    /// Channels of a node in the first cells.
    pub channels: usize,
    /// Candidates see the first of so many parts of a state's channels, and the edges into a node have weights of their
    /// own (PC-DARTS); 1 for whole states.
    pub partial_channels: usize,
    /// Cells.
    pub layers: usize,
    /// The weight of the validation term (equation 6).
    pub lambda: f64,
    /// Steps between checkpoints, besides the one after every epoch; 0 for no more.
    pub checkpoint_steps: usize,
    /// The part of the training images that trains the weights; the rest judges the architecture.
    pub train_portion: f64,
    /// The weights' optimiser.
    pub weights: SgdConfig,
    /// The architecture's optimiser.
    pub alphas: AdamConfig,
    /// Of the strategies that judge architectures one by one.
    pub population: PopulationConfig,
    /// When it ends before the last epoch, and what it chooses.
    pub stop: StopConfig,
}

/// The training of the found network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Times through the training images.
    pub epochs: usize,
    /// The most steps of an epoch; 0 for no limit.
    pub steps: usize,
    /// Images of a step.
    pub batch: usize,
    /// Channels of a node in the first cells.
    pub channels: usize,
    /// Cells.
    pub layers: usize,
    /// What is around the cells.
    pub skeleton: Skeleton,
    /// The weight of the auxiliary head's loss; 0 for no such head.
    pub auxiliary: f64,
    /// How often a path is dropped at the end; it grows linearly from 0 with the epochs.
    pub drop_path: f64,
    /// The side of the square that is cut out of an image, as a part of the image's side; 0 for none.
    pub cutout: f64,
    /// The least part of an image's area that a crop keeps, which is resized then, in place of `augment.crop`; 0 for that one. With
    /// `data.resize` it is the area of the whole picture, else of what the network sees.
    pub resized_crop: f64,
    /// How far brightness, contrast and saturation are moved, and the hue half as far; 0 for not at all.
    pub jitter: f64,
    /// The part of a label that is spread over all classes.
    pub smoothing: f64,
    /// The decay of the running mean of the weights, which is what is measured and kept then; 0 for the last weights.
    pub ema: f64,
    /// What the learning rate is multiplied with after every epoch; 0 for the cosine down to `weights.lr_min`.
    pub lr_factor: f64,
    /// Steps between checkpoints, besides the one after every epoch; 0 for no more.
    pub checkpoint_steps: usize,
    /// The optimiser.
    pub weights: SgdConfig,
}

impl TrainConfig {
    /// The learning rate of an epoch.
    pub fn lr(&self, epoch: usize) -> f64 {
        match self.lr_factor {
            0.0 => cosine(self.weights.lr, self.weights.lr_min, epoch, self.epochs),
            factor => exponential(self.weights.lr, factor, epoch),
        }
    }

    /// What happens to an image.
    pub fn transform(&self, augment: Augment) -> Transform {
        let TrainConfig { cutout, resized_crop, jitter, .. } = *self;
        Transform { augment, resized_crop, jitter, cutout }
    }

    /// How often a path is dropped in an epoch (DARTS' `train.py`: by epochs, not by steps).
    pub fn drop_path_at(&self, epoch: usize) -> f64 {
        self.drop_path * epoch as f64 / self.epochs as f64
    }
}

/// Names and texts of the presets, and the preset that one changes, which comes before it.
pub const PRESETS: [(&str, &str, Option<&str>); 4] = [
    ("smoke", include_str!("../presets/smoke.toml"), None),
    ("laptop", include_str!("../presets/laptop.toml"), None),
    ("paper", include_str!("../presets/paper.toml"), None),
    ("imagenet", include_str!("../presets/imagenet.toml"), Some("paper")),
];

/// The keys that may change when a run goes on: they do not decide what it finds.
const RESUMABLE: [&str; 3] = ["search.checkpoint_steps", "train.checkpoint_steps", "search.stop.time_budget"];
/// The same of a search that descends: they choose among what it has found. Where architectures are judged one by one, they decide which.
const CHOOSING: [&str; 2] = ["search.stop.max_params", "search.stop.max_macs"];

fn broken(place: &str, problem: impl ToString) -> Error {
    Error::Config { place: place.into(), problem: problem.to_string() }
}

fn preset(name: &str) -> Result<Table> {
    let found = PRESETS.iter().find(|(known, ..)| *known == name);
    let (_, text, base) =
        found.ok_or_else(|| milenas_models::Error::unknown("preset", name, PRESETS.map(|(n, ..)| n)))?;
    let text = text.parse().map_err(|e| broken(name, e))?;
    let Some(base) = base else { return Ok(text) };
    let mut whole = preset(base)?;
    lay(&mut whole, text, name, "")?;
    Ok(whole)
}

impl SearchConfig {
    /// The space by its name.
    ///
    /// # Errors
    /// An unknown name.
    pub fn space(&self) -> Result<Space> {
        Ok(Space::named(&self.space)?)
    }

    /// The architecture's logits before the first step.
    pub fn first_alphas(&self, space: &Space, seed: u64) -> Alphas {
        let alphas = Alphas::init(space, seed);
        if self.partial_channels > 1 { alphas.with_edges(seed) } else { alphas }
    }

    /// How the passes of an epoch mix the candidates.
    pub fn mixing(&self, epoch: usize) -> Mixing {
        Mixing::at(self.mixture, [self.tau_max, self.tau_min], epoch, self.epochs)
    }
}

impl Config {
    /// The preset `name`, changed by the text of a file (`place` names it), then by `KEY=VALUE`s.
    ///
    /// # Errors
    /// An unknown preset or key, with the nearest known one; a value of another type or out of range.
    pub fn resolve(name: &str, file: Option<(&str, &str)>, sets: &[String]) -> Result<Self> {
        let mut table = preset(name)?;
        if let Some((place, text)) = file {
            lay(&mut table, text.parse().map_err(|e| broken(place, e))?, place, "")?;
        }
        for set in sets {
            lay(&mut table, assignment(set)?, "--set", "")?;
        }
        let config: Config = table.try_into().map_err(|e: toml::de::Error| broken("values", e.message()))?;
        config.check()?;
        Ok(config)
    }

    /// The keys that are not as in `now`, with both values, of those that decide what a search finds.
    pub fn differences(&self, now: &Config) -> Result<Vec<String>> {
        let tree = |config: &Config| Value::try_from(config).map_err(|e| broken("comparing", e));
        let (then, now) = (tree(self)?, tree(now)?);
        let mut keys = Vec::new();
        now.as_table().into_iter().for_each(|table| leaves(table, "", &mut keys));
        let descends = Strategy::named(&self.search.strategy).is_none();
        let free = |key: &str| RESUMABLE.contains(&key) || (descends && CHOOSING.contains(&key));
        keys.retain(|key| !free(key));
        let text = |tree: &Value, key: &str| {
            let value = key.split('.').try_fold(tree, |at, part| at.get(part));
            value.map_or("missing".into(), Value::to_string)
        };
        let pairs = keys.into_iter().map(|key| (text(&then, &key), text(&now, &key), key));
        let differing = pairs.filter(|(then, now, _)| then != now);
        Ok(differing.map(|(then, now, key)| format!("`{key}` is {then} there and {now} now")).collect())
    }

    /// As TOML; reading it back gives the same configuration.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| broken("writing", e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(sets: &[&str]) -> Result<Config> {
        Config::resolve("smoke", None, &sets.iter().map(|s| s.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn every_preset_resolves_and_comes_back() {
        for (name, ..) in PRESETS {
            let config = Config::resolve(name, None, &[]).unwrap();
            let text = config.to_toml().unwrap();
            assert_eq!(Config::resolve("smoke", Some(("file", &text)), &[]).unwrap(), config);
        }
    }

    /// DARTS' settings (Liu et al., ICLR 2019: train.py and train_imagenet.py), which the paper keeps.
    #[test]
    fn presets_have_the_published_values() {
        let preset = |name| Config::resolve(name, None, &[]).unwrap();
        let (paper, imagenet) = (preset("paper"), preset("imagenet"));
        let train = |c: &Config| (c.train.epochs, c.train.batch, c.train.channels, c.train.layers);
        assert_eq!((train(&paper), train(&imagenet)), ((600, 96, 36, 20), (250, 128, 48, 14)));
        let drawn = |c: &Config| [c.train.auxiliary, c.train.drop_path, c.train.cutout, c.train.smoothing];
        assert_eq!((drawn(&paper), drawn(&imagenet)), ([0.4, 0.2, 0.5, 0.0], [0.4, 0.0, 0.0, 0.1]));
        let sgd = |c: &Config| [c.train.weights.lr, c.train.weights.momentum, c.train.weights.clip];
        assert_eq!((sgd(&paper), sgd(&imagenet)), ([0.025, 0.9, 5.0], [0.1, 0.9, 5.0]));
        let decay = |c: &Config| (c.train.weights.decay, c.train.lr_factor);
        assert_eq!((decay(&paper), decay(&imagenet)), ((3e-4, 0.0), (3e-5, 0.97)));
        assert_eq!((imagenet.data.size, imagenet.data.resize), (224, 256));
        assert_eq!((imagenet.train.resized_crop, imagenet.train.jitter), (0.08, 0.4));
        assert_eq!((paper.train.skeleton, imagenet.train.skeleton), (Skeleton::Cifar, Skeleton::ImageNet));
        let SearchConfig { epochs, batch, channels, layers, lambda, train_portion, .. } = paper.search;
        assert_eq!((epochs, batch, channels, layers, lambda, train_portion), (50, 64, 16, 8, 1.0, 0.5));
        let SearchConfig { weights, alphas, .. } = paper.search;
        assert_eq!([weights.lr, weights.lr_min, weights.momentum, weights.decay], [0.025, 0.001, 0.9, 3e-4]);
        assert_eq!([alphas.lr, alphas.beta1, alphas.beta2, alphas.decay], [3e-4, 0.5, 0.999, 1e-3]);
    }

    #[test]
    fn paths_are_dropped_more_from_epoch_to_epoch() {
        let config = resolve(&["train.drop_path=0.2", "train.epochs=8"]).unwrap();
        for epoch in 0..8 {
            let expected = 0.025 * epoch as f64;
            assert!((config.train.drop_path_at(epoch) - expected).abs() < 1e-12, "epoch {epoch}");
        }
    }

    #[test]
    fn keys_are_set_and_integers_are_numbers() {
        let config =
            resolve(&["search.epochs=3", "search.lambda = 2", "augment.flip=false", "search.order=released"]);
        let config = config.unwrap();
        assert_eq!((config.search.epochs, config.search.lambda, config.augment.flip), (3, 2.0, false));
        assert_eq!(config.search.order, Order::Released);
    }

    #[test]
    fn pictures_are_resized_to_the_size_or_above_it() {
        for (size, resize, good) in [
            (32, 0, true),
            (32, 31, false),
            (32, 32, true),
            (32, 64, true),
            (32, 65, false),
            (0, 32, false),
            (8000, 8192, true),
            (8000, 8193, false),
        ] {
            let found = resolve(&[&format!("data.size={size}"), &format!("data.resize={resize}")]);
            assert_eq!(found.is_ok(), good, "{size}, {resize}: {found:?}");
        }
        // Of a preset that sets both.
        let message = Config::resolve("imagenet", None, &["data.size=64".into()]).unwrap_err().to_string();
        let expected = "`data.resize` is 256, expected 0, or 64 to 128 as `data.size` is 64. Help: set both";
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn differences_are_named_but_for_keys_that_decide_nothing() {
        let then = resolve(&[]).unwrap();
        let now =
            resolve(&["search.alphas.lr=0.5", "augment.flip=false", "search.checkpoint_steps=7"]).unwrap();
        assert_eq!(
            then.differences(&now).unwrap(),
            ["`augment.flip` is true there and false now", "`search.alphas.lr` is 0.006 there and 0.5 now"]
        );
    }

    #[test]
    fn wrong_keys_and_values_say_what_is_right() {
        for (set, expected) in [
            ("search.epoch=3", "unknown configuration key `search.epoch`, did you mean `search.epochs`?"),
            ("serch.epochs=3", "did you mean `search.epochs`?"),
            ("search.epochs=many", "`search.epochs` is \"many\", expected an integer"),
            ("search=3", "`search` is a group of keys"),
            ("search.epochs=0", "`search.epochs` is 0, expected 1 to"),
            ("search.strategy=milena", "unknown strategy `milena`, did you mean `milenas`?"),
            ("search.epochs", "expected KEY=VALUE"),
            ("search.partial_channels=3", "expected a divisor of 16 channels: 1, 2, 4, 8, 16"),
            ("search.space=dart", "unknown space `dart`, did you mean `darts`?"),
            ("search.partial_channels=0", "`search.partial_channels` is 0"),
            ("search.lambda=-1", "`search.lambda` is -1"),
            ("train.drop_path=1.0", "`train.drop_path` is 1, expected 0 to 0.99"),
            ("data.resize=40", "`data.resize` is 40, expected 0, as `data.size` is 0. Help: set both"),
            ("data.size=8193", "`data.size` is 8193, expected 0 to 8192"),
            ("train.auxilary=0.4", "did you mean `train.auxiliary`?"),
            ("train.skeleton=image", "unknown variant `image`, expected `cifar` or `imagenet`"),
            ("search.stop.at_size=6", "`search.stop.at_size` is 6, expected a string"),
            ("search.stop.at_size=n=6", "`search.stop.at_size` is `n=6`, expected n=N,r=R"),
            ("search.stop.time_budget=soon", "`search.stop.time_budget` is `soon`"),
            ("search.stop.max_params=-1", "expected u64"),
        ] {
            let message = resolve(&[set]).unwrap_err().to_string();
            assert!(message.contains(expected), "{set}: {message}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,80}", set in "[a-z.=\\[\\]{}\"0-9]{0,30}") {
            let _ = Config::resolve("smoke", Some(("x", &text)), &[]);
            let _ = Config::resolve("smoke", None, &[set]);
        }
    }
}
