//! Names of the parts of a data set: training part, test part, unlabelled part.
//!
//! A name is split into words, e.g. `seg_train`, `TrainingSet` or `asl-alphabet-test`. One word is the role. Words
//! such as `set` or `images` have no meaning. The rest is a stem that the parts of a data set share.

/// Role of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PartRole {
    /// Training images.
    Train,
    /// Test images. If there are several such parts, the lowest number is preferred.
    Test(usize),
    /// Images without labels.
    Unlabelled,
}

/// Name of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PartName {
    pub(super) role: PartRole,
    /// Words other than the role, in lower case.
    pub(super) stem: Vec<String>,
}

const TRAIN: [&str; 8] =
    ["train", "training", "trains", "trainings", "trn", "trainval", "trainvalid", "learning"];

/// Words for test parts, in the order of preference.
const TEST: [&[&str]; 7] = [
    &["test", "tests", "testing", "tst"],
    &["val", "vals"],
    &["valid"],
    &["validation", "validate", "validating"],
    &["eval", "evals", "evaluation", "evaluate", "evaluating"],
    &["dev", "devel", "development"],
    &["holdout", "heldout"],
];

const UNLABELLED: [&str; 10] = [
    "pred",
    "predict",
    "prediction",
    "predictions",
    "unlabeled",
    "unlabelled",
    "unlabel",
    "inference",
    "submission",
    "unseen",
];

/// Words without meaning.
const FILLERS: [&str; 22] = [
    "set", "sets", "data", "dataset", "datasets", "image", "images", "img", "imgs", "pic", "pics", "picture",
    "pictures", "photo", "photos", "folder", "dir", "split", "part", "jpg", "jpeg", "png",
];

impl PartName {
    /// Parses a name. Returns `None` for a name without exactly one role.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (mut roles, mut stem) = (Vec::new(), Vec::new());
        for word in words(name) {
            match role(&word) {
                Some(role) => roles.push(role),
                None if FILLERS.contains(&word.as_str()) => {}
                None => stem.push(word),
            }
        }
        roles.sort();
        roles.dedup();
        let role = match roles[..] {
            [role] => role,
            // A part for both training and validation.
            [PartRole::Train, PartRole::Test(1..=3)] => PartRole::Train,
            _ => return None,
        };
        Some(PartName { role, stem })
    }

    /// Whether the name is only a role, or a role and a number.
    pub(super) fn is_plain(&self) -> bool {
        self.letters().next().is_none()
    }

    /// Returns the distance between two names, 0 for the best match, or `None` for different stems.
    pub(super) fn distance(&self, other: &PartName) -> Option<usize> {
        match () {
            () if self.stem == other.stem => Some(0),
            () if self.letters().eq(other.letters()) => Some(1),
            () if self.is_plain() || other.is_plain() => Some(2),
            () => None,
        }
    }

    fn letters(&self) -> impl Iterator<Item = &String> {
        self.stem.iter().filter(|word| !word.bytes().all(|b| b.is_ascii_digit()))
    }
}

/// Returns the role of a word, also if it ends in a filler, as in `trainset`.
fn role(word: &str) -> Option<PartRole> {
    let known = |word: &str| match () {
        () if TRAIN.contains(&word) => Some(PartRole::Train),
        () if UNLABELLED.contains(&word) => Some(PartRole::Unlabelled),
        () => TEST.iter().position(|words| words.contains(&word)).map(PartRole::Test),
    };
    known(word).or_else(|| FILLERS.iter().find_map(|filler| known(word.strip_suffix(filler)?)))
}

/// Splits a name into lower-case words, between letters, digits and other characters, and before a capital.
fn words(name: &str) -> Vec<String> {
    let lower = name.to_lowercase();
    let joined = ["hold", "held"].iter().fold(name.to_string(), |name, word| {
        let parts: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).collect();
        match parts.windows(2).any(|pair| pair == [*word, "out"]) {
            true => lower
                .replace(&format!("{word}_out"), "holdout")
                .replace(&format!("{word}-out"), "holdout")
                .replace(&format!("{word} out"), "holdout"),
            false => name,
        }
    });
    let mut words: Vec<String> = Vec::new();
    let mut before = None;
    for c in joined.chars() {
        let starts = match before {
            None => true,
            Some(b) => kind(b) != kind(c) || (char::is_lowercase(b) && c.is_uppercase()),
        };
        before = Some(c);
        if !c.is_alphanumeric() {
            continue;
        }
        match words.last_mut() {
            Some(word) if !starts => word.extend(c.to_lowercase()),
            _ => words.push(c.to_lowercase().collect()),
        }
    }
    words
}

fn kind(c: char) -> u8 {
    if c.is_numeric() { 0 } else { 1 + u8::from(c.is_alphabetic()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_names_have_a_role() {
        for name in [
            "train",
            "Train",
            "TRAIN",
            "training",
            "Training",
            "training_set",
            "train_set",
            "trainset",
            "TrainSet",
            "train-images",
            "train_data",
            "traindata",
            "trainval",
            "train_val",
            "train2017",
            "Training Images",
        ] {
            let part = PartName::parse(name).unwrap();
            assert!(part.role == PartRole::Train && part.is_plain(), "{name}");
        }
        for name in [
            "test",
            "Testing",
            "test_set",
            "TESTSET",
            "test1",
            "val",
            "Val",
            "valid",
            "validation",
            "validation_set",
            "eval",
            "evaluation",
            "dev",
            "devset",
            "hold_out",
            "holdout",
        ] {
            let part = PartName::parse(name).unwrap();
            assert!(matches!(part.role, PartRole::Test(_)) && part.is_plain(), "{name}");
        }
        for name in ["disc", "contest", "invalid", "trainer", "0", "", "détest", "train_test", "strain"] {
            assert_eq!(PartName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn parts_share_a_stem() {
        let part = |name| PartName::parse(name).unwrap();
        assert_eq!(part("seg_train").distance(&part("seg_test")), Some(0));
        assert_eq!(part("ASL Alphabet Train").distance(&part("asl_alphabet_test")), Some(0));
        assert_eq!(part("train2017").distance(&part("val2018")), Some(1));
        assert_eq!(part("training_set").distance(&part("test1")), Some(1));
        assert_eq!(part("train").distance(&part("real_test")), Some(2));
        assert_eq!(part("a_train").distance(&part("b_test")), None);
        assert_eq!(part("seg_pred").role, PartRole::Unlabelled);
    }
}
