//! Classes of a data set: their order, the split of a source without a test part, and the fingerprint of the images.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::Dataset;
use super::sample::{ByteSource, Encoding, Sample};
use crate::error::some_of;
use crate::{Error, Result, Rng, hexadecimal};

/// An image of a class.
#[derive(Clone, Debug)]
pub(super) struct ClassImage {
    /// Name inside the class, for the order and the fingerprint.
    pub(super) name: String,
    pub(super) bytes: ByteSource,
    /// Size of the file in bytes.
    pub(super) size: u64,
}

/// Images by class name.
pub(super) type Classes = BTreeMap<String, Vec<ClassImage>>;

/// Returns names in quotes for a message: at most five, then a count.
pub fn listed<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("{:?}", name.as_ref())).collect();
    some_of(&names)
}

/// Returns a data set of the given classes. Without a test part, a fifth of each class is held out by `seed`. Classes
/// are sorted by number if all names are numbers, else by name.
///
/// # Errors
/// [`Error::Malformed`] for fewer than two classes, or classes that only the test part has.
pub(super) fn dataset(
    place: String,
    train: Classes,
    test: Option<Classes>,
    seed: u64,
    mut notes: Vec<String>,
) -> Result<Dataset> {
    let names: BTreeSet<String> = match (&test, train.is_empty()) {
        (Some(test), true) => test.keys().cloned().collect(),
        _ => train.keys().cloned().collect(),
    };
    if names.len() < 2 {
        let found = match names.first() {
            None => "no class".to_string(),
            Some(name) => format!("1 class ({name:?})"),
        };
        let problem = format!("found {found}, expected two or more; a source is {EXPECTED}");
        return Err(Error::malformed(place, problem));
    }
    if let Some(test) = &test {
        let extra: Vec<&String> = test.keys().filter(|name| !names.contains(*name)).collect();
        let missing: Vec<&String> = names.iter().filter(|name| !test.contains_key(*name)).collect();
        if !extra.is_empty() {
            let problem = format!(
                "the training part and the test part have different classes: only in train [{}], only in test [{}]; \
                 give both the same folders",
                listed(missing),
                listed(extra)
            );
            return Err(Error::malformed(place, problem));
        }
        if !missing.is_empty() {
            notes.push(format!("the test part has no image of {}", listed(missing)));
        }
    }
    let fingerprint = fingerprint(if train.is_empty() { test.as_ref().unwrap_or(&train) } else { &train });
    let held_out = test.is_none().then_some(seed);
    let (train, test) = match test {
        Some(test) => (train, test),
        None => split(train, seed),
    };
    let mut classes: Vec<String> = names.into_iter().collect();
    if classes.iter().all(|name| is_number(name)) {
        classes.sort_by(|a, b| by_number(a, b));
    }
    let [train, test] = [train, test].map(|part| samples(&classes, part));
    Ok(Dataset { classes, train, test, scale: None, notes, held_out, fingerprint })
}

/// Supported layouts, for messages.
pub(super) const EXPECTED: &str =
    "train/CLASS/FILE with test/CLASS/FILE (or val), CLASS/FILE, or a CSV file of path and label";

fn is_number(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit())
}

/// Compares decimal numbers of any length; equal numbers are compared as text.
fn by_number(a: &str, b: &str) -> Ordering {
    let [x, y] = [a, b].map(|text| text.trim_start_matches('0'));
    x.len().cmp(&y.len()).then(x.cmp(y)).then(a.cmp(b))
}

/// Returns a digest of class, name and size of every image, in the order of the names. It does not depend on the
/// location of the images or the order of listing.
fn fingerprint(classes: &Classes) -> String {
    let mut sum = Sha256::new();
    for (class, images) in classes {
        let mut lines: Vec<(&str, u64)> = images.iter().map(|image| (&*image.name, image.size)).collect();
        lines.sort_unstable();
        for (name, size) in lines {
            sum.update(class);
            sum.update([0]);
            sum.update(name);
            sum.update([0]);
            sum.update(size.to_le_bytes());
        }
    }
    hexadecimal(&sum.finalize()[..16])
}

/// Holds out a fifth of each class. The selection depends only on the seed and on the name and size of the class.
fn split(classes: Classes, seed: u64) -> (Classes, Classes) {
    let (mut train, mut test) = (Classes::new(), Classes::new());
    for (class, files) in classes {
        let mut order: Vec<usize> = (0..files.len()).collect();
        Rng::new(seed, &format!("split of {class}")).shuffle(&mut order);
        // At least one test image for a class of two or more.
        let aside = ((files.len() + 2) / 5).max(usize::from(files.len() > 1));
        let aside: BTreeSet<usize> = order.into_iter().take(aside).collect();
        let (for_test, for_train): (Vec<_>, Vec<_>) =
            files.into_iter().enumerate().partition(|(i, _)| aside.contains(i));
        let plain = |files: Vec<(usize, _)>| files.into_iter().map(|(_, file)| file).collect();
        train.insert(class.clone(), plain(for_train));
        test.insert(class, plain(for_test));
    }
    (train, test)
}

fn samples(classes: &[String], mut part: Classes) -> Vec<Sample> {
    let numbered = (0..).zip(classes);
    numbered
        .flat_map(|(class, name)| {
            let files = part.remove(name).unwrap_or_default();
            files.into_iter().map(move |image| Sample::new(class, image.bytes, Encoding::Encoded))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_their_order() {
        let mut names = ["10", "2", "02", "0", "100000000000000000000001", "1"];
        names.sort_by(|a, b| by_number(a, b));
        assert_eq!(names, ["0", "1", "02", "2", "10", "100000000000000000000001"]);
    }

    #[test]
    fn messages_show_five_names() {
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        assert_eq!(listed(names), r#""a", "b", "c", "d", "e" and 2 more"#);
        assert_eq!(listed(["é"]), r#""é""#);
    }
}
