//! From the names in a folder or a tar to classes and parts: `PART/CLASS/FILE`, or `CLASS/FILE` and a split.

use std::collections::{BTreeMap, BTreeSet};

use super::Dataset;
use super::sample::{Bytes, Form, Sample};
use crate::{Error, Result, Rng};

/// The name of the part to learn from, in any case.
const TRAIN_PART: &str = "train";

/// Names of the part to measure with, in any case; the first that exists is used.
const TEST_PARTS: [&str; 4] = ["test", "val", "valid", "validation"];

/// Endings of files that often lie beside images and are none.
const NOT_IMAGES: [&str; 14] =
    ["txt", "csv", "tsv", "json", "jsonl", "xml", "md", "html", "yaml", "yml", "toml", "ini", "db", "npy"];

/// What a source holds: names as components, below its root.
pub(super) struct Listing {
    pub(super) place: String,
    pub(super) files: Vec<(Vec<String>, Bytes)>,
    pub(super) folders: Vec<Vec<String>>,
}

/// Class name to its files, sorted both.
type Classes = BTreeMap<String, Vec<(Vec<String>, Bytes)>>;

/// True for names that no source shows: hidden ones, and what macOS adds to archives.
pub fn is_hidden(component: &str) -> bool {
    component.starts_with('.') || component == "__MACOSX"
}

impl Listing {
    pub(super) fn into_dataset(self, seed: u64) -> Result<Dataset> {
        let Listing { place, mut files, folders } = self;
        let mut notes = Vec::new();
        let before = files.len();
        files.retain(|(parts, _)| parts.last().is_none_or(|name| is_image_name(name)));
        if files.len() < before {
            notes.push(format!("{} files were left out by their endings", before - files.len()));
        }
        files.sort_by(|a, b| a.0.cmp(&b.0));

        let names = files.iter().map(|(parts, _)| parts).chain(&folders);
        let roots: BTreeSet<String> = names.filter_map(|parts| parts.first().cloned()).collect();
        let parts: BTreeSet<&str> =
            files.iter().filter(|(parts, _)| parts.len() > 2).map(|(p, _)| &*p[0]).collect();
        let part = |name| find_part(&roots, &parts, name);
        let (train, test) = match (part(TRAIN_PART), TEST_PARTS.into_iter().find_map(part)) {
            (Some(train_part), Some(part)) => {
                let [train, test] =
                    [train_part, part].map(|part| classes(&place, Some(part), &files, &folders));
                let (train, test) = (train?, test?);
                same_classes(&place, [train_part, part], &train, &test)?;
                let others = roots.iter().filter(|root| *root != train_part && *root != part);
                let others: Vec<&str> = others.map(String::as_str).collect();
                if !others.is_empty() {
                    notes.push(format!("not used: {}", others.join(", ")));
                }
                (train, test)
            }
            (part, _) => {
                notes.push(format!("no test part: a fifth of each class was set aside by seed {seed}"));
                split(classes(&place, part, &files, &folders)?, seed)
            }
        };
        let classes: Vec<String> = train.keys().cloned().collect();
        if classes.len() < 2 {
            let problem =
                format!("found {} classes, expected two or more; the folders are {EXPECTED}", classes.len());
            return Err(Error::malformed(place, problem));
        }
        Ok(Dataset { classes, train: samples(train), test: samples(test), scale: None, notes })
    }
}

/// A part by its name. One that has it in capitals must hold classes in folders: a class may be called `Train`.
fn find_part<'a>(roots: &'a BTreeSet<String>, parts: &BTreeSet<&'a str>, name: &str) -> Option<&'a str> {
    let same = || parts.iter().find(|root| root.eq_ignore_ascii_case(name)).copied();
    roots.get(name).map(String::as_str).or_else(same)
}

const EXPECTED: &str = "train/CLASS/FILE with test/CLASS/FILE (or val), or CLASS/FILE";

/// False for endings of files that often lie beside images and are none; the content decides about all others.
pub fn is_image_name(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    !ending.is_some_and(|ending| NOT_IMAGES.contains(&ending.as_str()))
}

/// The files of one part by class. An empty class folder and a file outside of the classes are errors.
fn classes(
    place: &str,
    part: Option<&str>,
    files: &[(Vec<String>, Bytes)],
    folders: &[Vec<String>],
) -> Result<Classes> {
    let depth = usize::from(part.is_some());
    let inside = |parts: &&Vec<String>| part.is_none() || parts.first().map(String::as_str) == part;
    let mut classes = Classes::new();
    for (parts, bytes) in files.iter().filter(|(parts, _)| inside(&parts)) {
        if parts.len() < depth + 2 {
            let problem = format!("the file {} is in no class; expected {EXPECTED}", parts.join("/"));
            return Err(Error::malformed(place, problem));
        }
        classes.entry(parts[depth].clone()).or_default().push((parts.clone(), bytes.clone()));
    }
    let empty =
        folders.iter().filter(inside).find(|f| f.len() == depth + 1 && !classes.contains_key(&f[depth]));
    match empty {
        Some(folder) => {
            let problem = format!("the class folder {} holds no image; fill or remove it", folder.join("/"));
            Err(Error::malformed(place, problem))
        }
        None => Ok(classes),
    }
}

fn same_classes(place: &str, names: [&str; 2], train: &Classes, test: &Classes) -> Result<()> {
    let only =
        |a: &Classes, b: &Classes| a.keys().filter(|k| !b.contains_key(*k)).cloned().collect::<Vec<_>>();
    let (missing, extra) = (only(train, test), only(test, train));
    if missing.is_empty() && extra.is_empty() {
        return Ok(());
    }
    let [train, part] = names;
    let problem = format!(
        "{train} and {part} have different classes: only in {train} {missing:?}, only in {part} {extra:?}; \
         give both the same folders"
    );
    Err(Error::malformed(place, problem))
}

/// Sets a fifth of each class aside. The draw of a class depends on the seed, its name and its size alone.
fn split(classes: Classes, seed: u64) -> (Classes, Classes) {
    let (mut train, mut test) = (Classes::new(), Classes::new());
    for (class, files) in classes {
        let mut order: Vec<usize> = (0..files.len()).collect();
        Rng::new(seed, &format!("split of {class}")).shuffle(&mut order);
        // At least one to measure with where there are two.
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

fn samples(classes: Classes) -> Vec<Sample> {
    let numbered = classes.into_values().zip(0..);
    numbered
        .flat_map(|(files, class)| {
            files.into_iter().map(move |(_, bytes)| Sample::new(class, bytes, Form::Encoded))
        })
        .collect()
}
