//! Configuration of a run: the defaults, overridden by a preset, then by a file, then by single keys. Unknown keys
//! are rejected, and every run saves its resolved configuration.

mod check;
mod search;
pub mod settings;
mod table;
mod train;
pub(crate) mod unused;

use toml::Table;

use crate::data::Augment;
use crate::{Error, Result};
pub use check::check_parts;
pub use search::SearchConfig;
use settings::{Resume, Setting, Settings, settings};
use table::{assignment, lay};
pub use train::TrainConfig;

settings! {
    /// Settings of a run, except its data.
    pub struct Config {
        /// Seed for all random choices.
        seed: u64 = 0u64;
        /// Preparation of images.
        data: DataConfig = DataConfig::default();
        /// Augmentation of training images.
        augment: Augment = Augment::default();
        /// Settings of the search.
        search: SearchConfig = SearchConfig::default();
        /// Settings of the training of the found network.
        train: TrainConfig = TrainConfig::default();
    }
}

settings! {
    /// Preparation of images.
    #[derive(Copy)]
    pub struct DataConfig {
        /// Side of the network's square input, in pixels. 0 keeps images that all have one size of at most 64
        /// pixels, and resizes others to 32.
        size: usize = 0usize;
        /// Shorter side, in pixels, to which an image is resized before the central crop of `data.size` pixels. Crops
        /// of `train.resized_crop` are taken from images of this shorter side too. 0 stands for `data.size`. Images of
        /// exactly that size are not resized.
        resize: usize = 0usize;
        /// Seed of the held-out test images of a source without a test part. It differs from `seed`, so that
        /// searches and trainings with other seeds are evaluated on the same unseen images.
        split: u64 = 0u64;
    }
}

/// Presets: name, text with the settings that differ from the defaults, and name of the preset that the text overrides,
/// which comes before it.
pub const PRESETS: [(&str, &str, Option<&str>); 5] = [
    ("smoke", include_str!("../presets/smoke.toml"), None),
    ("laptop", include_str!("../presets/laptop.toml"), None),
    ("gradient", include_str!("../presets/gradient.toml"), Some("laptop")),
    ("paper", include_str!("../presets/paper.toml"), None),
    ("imagenet", include_str!("../presets/imagenet.toml"), Some("paper")),
];

fn broken(place: &str, problem: impl ToString) -> Error {
    Error::Config { place: place.into(), problem: problem.to_string() }
}

/// Lays a preset over `base`.
fn lay_preset(base: &mut Table, name: &str) -> Result<()> {
    let found = PRESETS.iter().find(|(known, ..)| *known == name);
    let (_, text, below) =
        found.ok_or_else(|| milenas_models::Error::unknown("preset", name, PRESETS.map(|(n, ..)| n)))?;
    if let Some(below) = below {
        lay_preset(base, below)?;
    }
    lay(base, text.parse().map_err(|e| broken(name, e))?, name)
}

impl Config {
    /// Resolves the defaults, overridden by the preset `name`, then by the text of a file (`place` names it), then by `KEY=VALUE`
    /// texts.
    ///
    /// # Errors
    /// Fails for an unknown preset or key, and names the nearest known one; for a value of another type or out
    /// of range.
    pub fn resolve(name: &str, file: Option<(&str, &str)>, sets: &[String]) -> Result<Self> {
        let mut table = Table::try_from(Config::default()).map_err(|e| broken("defaults", e))?;
        lay_preset(&mut table, name)?;
        if let Some((place, text)) = file {
            lay(&mut table, text.parse().map_err(|e| broken(place, e))?, place)?;
        }
        for set in sets {
            lay(&mut table, assignment(set)?, "setting `set`")?;
        }
        let config: Config = table.try_into().map_err(|e: toml::de::Error| broken("values", e.message()))?;
        config.check()?;
        Ok(config)
    }

    /// Parses the text of a file that [`to_toml`](Self::to_toml) wrote, of this or an earlier version. Keys that it lacks
    /// have their defaults. The values are not checked.
    ///
    /// # Errors
    /// [`Error::Config`] for a text that is no configuration; `place` names the file.
    pub fn from_toml(text: &str, place: &str) -> Result<Self> {
        let mut table = Table::try_from(Config::default()).map_err(|e| broken("defaults", e))?;
        lay(&mut table, text.parse().map_err(|e| broken(place, e))?, place).map_err(|e| broken(place, e))?;
        table.try_into().map_err(|e: toml::de::Error| broken(place, e.message()))
    }

    /// Returns all settings with their values, in the order of their declaration.
    pub fn settings(&self) -> Vec<Setting> {
        let mut all = Vec::new();
        self.collect("", Default::default(), &mut all);
        all
    }

    /// Lists the keys that affect a run and differ from `now`, with both values.
    pub fn differences(&self, now: &Config) -> Vec<String> {
        let by_gradients = self.search.black_box().is_none();
        let pairs = self.settings().into_iter().zip(now.settings());
        pairs
            .filter(|(then, now)| match then.declared.resume {
                Resume::AnyValue => false,
                Resume::Choice if by_gradients => false,
                Resume::Choice | Resume::SameValue => then.value != now.value,
            })
            .map(|(then, now)| format!("`{}` is {} there and {} now", then.key, then.value, now.value))
            .collect()
    }

    /// Formats the configuration as TOML, without groups that have no settings. Parsing the text gives the same
    /// configuration.
    pub fn to_toml(&self) -> Result<String> {
        let text = toml::to_string(self).map_err(|e| broken("writing", e))?;
        let empty = |group: &&str| group.starts_with('[') && group.trim_end().lines().count() == 1;
        let groups = text.split("\n\n").filter(|group| !empty(group));
        Ok(groups.map(str::trim_end).collect::<Vec<_>>().join("\n\n") + "\n")
    }
}

#[cfg(test)]
mod tests {
    use milenas_models::Skeleton;

    use super::*;
    use crate::strategy::Order;

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
            then.differences(&now),
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
