//! Configuration of a run: a preset, overridden by a file, then by single keys. Unknown keys are rejected, and
//! every run saves its resolved configuration.

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

/// Settings of a run, except its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Seed for all random choices.
    pub seed: u64,
    /// Preparation of images.
    pub data: DataConfig,
    /// Augmentation of training images.
    pub augment: Augment,
    /// Settings of the search.
    pub search: SearchConfig,
    /// Settings of the training of the found network.
    pub train: TrainConfig,
}

/// Preparation of images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Side of the network's square input, in pixels. 0 keeps images that all have one size of at most 64
    /// pixels, and resizes others to 32.
    pub size: usize,
    /// Shorter side, in pixels, to which an image is resized before the central crop of `size` pixels. Crops of
    /// `train.resized_crop` are taken from images of this shorter side too. 0 stands for `size`. Images of
    /// exactly `size` x `size` are not resized.
    #[serde(default)]
    pub resize: usize,
    /// Seed of the held-out test images of a source without a test part. It differs from `seed`, so that
    /// searches and trainings with other seeds are evaluated on the same unseen images.
    #[serde(default)]
    pub split: u64,
}

/// Settings of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchConfig {
    /// Search space: `darts` or `nasbench201`.
    pub space: String,
    /// Strategy: a rule for the architecture's gradient, or a black-box strategy.
    pub strategy: String,
    /// Passes of a step, and their order.
    pub order: Order,
    /// Number of epochs at the start that use `bilevel_strategy` (the gradual run of the released code).
    pub bilevel_epochs: usize,
    /// Strategy of these epochs.
    pub bilevel_strategy: String,
    /// Deviations of the released code to reproduce.
    pub compat: Compat,
    /// Mixture of the candidates in a pass.
    pub mixture: MixtureKind,
    /// Temperature of Gumbel samples in the first epoch.
    pub tau_max: f64,
    /// Temperature at the end, which the epoch after the last one would have.
    pub tau_min: f64,
    /// Number of passes over the training split.
    pub epochs: usize,
    /// Maximum number of steps per epoch; 0 for no limit.
    pub steps: usize,
    /// Images per step.
    pub batch: usize,
    /// Channels of a node in the first cells.
    pub channels: usize,
    /// Divisor K of the channels: candidates see the first 1/K of a state's channels, and each edge into a node
    /// has a weight (PC-DARTS). 1 for whole states.
    pub partial_channels: usize,
    /// Number of cells.
    pub layers: usize,
    /// Weight of the validation loss (equation 6).
    pub lambda: f64,
    /// Steps between checkpoints, besides the one after every epoch; 0 for none.
    pub checkpoint_steps: usize,
    /// Fraction of the training images that trains the weights; the rest evaluates the architecture.
    pub train_portion: f64,
    /// Optimiser of the weights.
    pub weights: SgdConfig,
    /// Optimiser of the architecture's logits.
    pub alphas: AdamConfig,
    /// Settings of the black-box strategies.
    pub population: PopulationConfig,
    /// Conditions for an early end, and limits of the chosen network.
    pub stop: StopConfig,
}

/// Settings of the training of a derived network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Number of passes over the training images.
    pub epochs: usize,
    /// Maximum number of steps per epoch; 0 for no limit.
    pub steps: usize,
    /// Images per step.
    pub batch: usize,
    /// Channels of a node in the first cells.
    pub channels: usize,
    /// Number of cells.
    pub layers: usize,
    /// Stem and reductions around the cells.
    pub skeleton: Skeleton,
    /// Weight of the auxiliary head's loss; 0 for no auxiliary head.
    pub auxiliary: f64,
    /// Probability of dropping a path after the last epoch; it rises linearly from 0 over the epochs.
    pub drop_path: f64,
    /// Side of the square that cutout erases, as a fraction of the image's side; 0 for none.
    pub cutout: f64,
    /// Smallest fraction of an image's area that a random resized crop keeps. It replaces `augment.crop`; 0
    /// keeps `augment.crop`. With `data.resize` the area is that of the whole image, else of the network's
    /// input.
    pub resized_crop: f64,
    /// Largest relative change of brightness, contrast and saturation; the hue changes by half of it. 0 for
    /// none.
    pub jitter: f64,
    /// Label smoothing: fraction of a label that is spread over all classes.
    pub smoothing: f64,
    /// Decay of the exponential moving average of the weights, which is then evaluated and saved; 0 for the
    /// last weights.
    pub ema: f64,
    /// Factor of the learning rate after every epoch; 0 for the cosine schedule down to `weights.lr_min`.
    pub lr_factor: f64,
    /// Steps between checkpoints, besides the one after every epoch; 0 for none.
    pub checkpoint_steps: usize,
    /// Optimiser of the weights.
    pub weights: SgdConfig,
}

impl TrainConfig {
    /// Returns the learning rate of an epoch.
    pub fn lr(&self, epoch: usize) -> f64 {
        match self.lr_factor {
            0.0 => cosine(self.weights.lr, self.weights.lr_min, epoch, self.epochs),
            factor => exponential(self.weights.lr, factor, epoch),
        }
    }

    /// Returns the transform of training images.
    pub fn transform(&self, augment: Augment) -> Transform {
        let TrainConfig { cutout, resized_crop, jitter, .. } = *self;
        Transform { augment, resized_crop, jitter, cutout }
    }

    /// Returns the probability of dropping a path in an epoch (as `train.py` of DARTS: by epochs, not by
    /// steps).
    pub fn drop_path_at(&self, epoch: usize) -> f64 {
        self.drop_path * epoch as f64 / self.epochs as f64
    }
}

/// Presets: name, text, and name of the preset that the text overrides, which comes before it.
pub const PRESETS: [(&str, &str, Option<&str>); 4] = [
    ("smoke", include_str!("../presets/smoke.toml"), None),
    ("laptop", include_str!("../presets/laptop.toml"), None),
    ("paper", include_str!("../presets/paper.toml"), None),
    ("imagenet", include_str!("../presets/imagenet.toml"), Some("paper")),
];

/// Keys that may change when a run is resumed: they do not affect its result.
const RESUMABLE: [&str; 3] = ["search.checkpoint_steps", "train.checkpoint_steps", "search.stop.time_budget"];
/// Further keys that may change when a gradient-based search is resumed: they choose among its results. A
/// black-box strategy uses them to decide which architectures it evaluates.
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
    /// Returns the search space.
    ///
    /// # Errors
    /// Fails for an unknown name.
    pub fn space(&self) -> Result<Space> {
        Ok(Space::named(&self.space)?)
    }

    /// Returns the architecture's logits before the first step.
    pub fn first_alphas(&self, space: &Space, seed: u64) -> Alphas {
        let alphas = Alphas::init(space, seed);
        if self.partial_channels > 1 { alphas.with_edges(seed) } else { alphas }
    }

    /// Returns the mixture of the candidates in an epoch.
    pub fn mixing(&self, epoch: usize) -> Mixing {
        Mixing::at(self.mixture, self.tau_max, self.tau_min, epoch, self.epochs)
    }
}

impl Config {
    /// Resolves the preset `name`, overridden by the text of a file (`place` names it), then by `KEY=VALUE`
    /// texts.
    ///
    /// # Errors
    /// Fails for an unknown preset or key, and names the nearest known one; for a value of another type or out
    /// of range.
    pub fn resolve(name: &str, file: Option<(&str, &str)>, sets: &[String]) -> Result<Self> {
        let mut table = preset(name)?;
        if let Some((place, text)) = file {
            lay(&mut table, text.parse().map_err(|e| broken(place, e))?, place, "")?;
        }
        for set in sets {
            lay(&mut table, assignment(set)?, "setting `set`", "")?;
        }
        let config: Config = table.try_into().map_err(|e: toml::de::Error| broken("values", e.message()))?;
        config.check()?;
        Ok(config)
    }

    /// Lists the keys that affect a search and differ from `now`, with both values.
    pub fn differences(&self, now: &Config) -> Result<Vec<String>> {
        let tree = |config: &Config| Value::try_from(config).map_err(|e| broken("comparing", e));
        let (then, now) = (tree(self)?, tree(now)?);
        let mut keys = Vec::new();
        now.as_table().into_iter().for_each(|table| leaves(table, "", &mut keys));
        let by_gradients = Strategy::named(&self.search.strategy).is_none();
        let free = |key: &str| RESUMABLE.contains(&key) || (by_gradients && CHOOSING.contains(&key));
        keys.retain(|key| !free(key));
        let text = |tree: &Value, key: &str| {
            let value = key.split('.').try_fold(tree, |at, part| at.get(part));
            value.map_or("missing".into(), Value::to_string)
        };
        let pairs = keys.into_iter().map(|key| (text(&then, &key), text(&now, &key), key));
        let differing = pairs.filter(|(then, now, _)| then != now);
        Ok(differing.map(|(then, now, key)| format!("`{key}` is {then} there and {now} now")).collect())
    }

    /// Formats the configuration as TOML. Parsing the text gives the same configuration.
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

    /// Settings of DARTS (Liu et al., ICLR 2019: train.py and train_imagenet.py), which the paper keeps.
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
    fn keys_are_set_and_integers_become_floats() {
        let config =
            resolve(&["search.epochs=3", "search.lambda = 2", "augment.flip=false", "search.order=released"]);
        let config = config.unwrap();
        assert_eq!((config.search.epochs, config.search.lambda, config.augment.flip), (3, 2.0, false));
        assert_eq!(config.search.order, Order::Released);
    }

    #[test]
    fn images_are_resized_to_the_size_or_above_it() {
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
        // The preset `imagenet` sets both keys.
        let message = Config::resolve("imagenet", None, &["data.size=64".into()]).unwrap_err().to_string();
        let expected = "`data.resize` is 256, expected 0, or 64 to 128 as `data.size` is 64. help: set both";
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn differences_are_named_except_keys_without_effect() {
        let then = resolve(&[]).unwrap();
        let now =
            resolve(&["search.alphas.lr=0.5", "augment.flip=false", "search.checkpoint_steps=7"]).unwrap();
        assert_eq!(
            then.differences(&now).unwrap(),
            ["`augment.flip` is true there and false now", "`search.alphas.lr` is 0.006 there and 0.5 now"]
        );
    }

    #[test]
    fn errors_name_the_expected_keys_and_values() {
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
            ("data.resize=40", "`data.resize` is 40, expected 0, as `data.size` is 0. help: set both"),
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
