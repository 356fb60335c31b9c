//! Decision which folders of a root are parts and which are classes.

use std::collections::{BTreeMap, BTreeSet};

use super::classes::listed;
use super::parts::{PartName, PartRole};

/// Distribution of the images in a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FolderShape {
    /// Number of images directly in the folder.
    direct: usize,
    /// Number of images in folders below it.
    deep: usize,
    /// Folders below it that contain images.
    folders: BTreeSet<String>,
    /// Folders that enclose these, if a single folder contains all of them.
    around: Vec<String>,
}

impl FolderShape {
    /// Returns an empty shape below folders that contain one folder each.
    pub(super) fn within(around: &[String]) -> Self {
        FolderShape { around: around.to_vec(), ..FolderShape::default() }
    }

    /// Adds an image by its path below the folder.
    pub(super) fn add(&mut self, parts: &[String]) {
        match parts {
            [] => {}
            [_] => self.direct += 1,
            [folder, ..] => {
                self.deep += 1;
                if !self.folders.contains(folder) {
                    self.folders.insert(folder.clone());
                }
            }
        }
    }

    /// Whether the folder contains class folders rather than images.
    fn holds_folders(&self) -> bool {
        self.deep > self.direct || self.folders.len() > 1
    }

    fn is_empty(&self) -> bool {
        self.direct + self.deep == 0
    }
}

/// Interpretation of the folders of a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Each folder is a class.
    Classes { note: Option<String> },
    /// Folders are parts that contain class folders.
    Parts {
        train: Option<String>,
        test: Option<String>,
        /// Note on the parts, if their names are ambiguous.
        note: Option<PartsNote>,
        /// Parts without class folders.
        unlabelled: Vec<String>,
        unused: Vec<String>,
    },
}

/// Note on which parts were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartsNote;

impl PartsNote {
    pub(super) fn note(self, train: Option<&[String]>, test: Option<&[String]>) -> String {
        let part = |role: &str, part: Option<&[String]>| {
            part.map(|part| format!("{} is the {role} part", part.join("/")))
        };
        let texts: Vec<String> = part("training", train).into_iter().chain(part("test", test)).collect();
        format!("read as parts: {}", texts.join(", "))
    }
}

/// A folder of the root with a role in its name.
struct Candidate<'a> {
    name: &'a str,
    part: PartName,
    shape: &'a FolderShape,
}

/// Decides from the names and the shapes of the folders.
///
/// # Errors
/// A description of both readings, if neither is likely.
pub(super) fn decide(shapes: &BTreeMap<String, FolderShape>) -> Result<Reading, String> {
    let candidates: Vec<Candidate> = shapes
        .iter()
        .filter_map(|(name, shape)| Some(Candidate { name, part: PartName::parse(name)?, shape }))
        .collect();
    let others: Vec<&str> = shapes
        .iter()
        .filter(|(name, shape)| {
            !shape.is_empty() && candidates.iter().all(|candidate| candidate.name != **name)
        })
        .map(|(name, _)| name.as_str())
        .collect();
    let is_test = |candidate: &&Candidate| matches!(candidate.part.role, PartRole::Test(_));
    let mut trains: Vec<&Candidate> = candidates
        .iter()
        .filter(|train| train.part.role == PartRole::Train && train.shape.holds_folders())
        .filter(|train| {
            // A name such as `training_shoes` is a part only beside another part of the same stem.
            let pairs = |other: &&Candidate| {
                other.part.role != PartRole::Train && other.part.distance(&train.part).is_some()
            };
            train.part.is_plain() || candidates.iter().any(|other| pairs(&other))
        })
        .collect();
    trains.sort_by_key(|train| (train.name != "train", !train.part.stem.is_empty(), train.name));
    let Some(train) = trains.first() else { return without_train(&candidates, &others, shapes) };
    if let Some(second) =
        trains.get(1).filter(|second| second.part.stem != train.part.stem && !train.part.is_plain())
    {
        return Err(format!(
            "{:?} and {:?} can both be the training part. help: give the folder of one data set",
            train.name, second.name
        ));
    }
    let mut tests: Vec<&Candidate> =
        candidates.iter().filter(is_test).filter(|test| !test.shape.is_empty()).collect();
    let order = |test: &&Candidate| {
        let exact = test.name.chars().any(char::is_uppercase);
        (test.part.distance(&train.part), test.part.role, exact, test.name.len())
    };
    tests.retain(|test| test.part.distance(&train.part).is_some());
    tests.sort_by_key(order);
    let shares = |test: &Candidate| {
        let mut classes = test.shape.folders.iter().chain(&test.shape.around);
        classes.any(|class| train.shape.folders.contains(class))
    };
    let labelled = tests.iter().filter(|test| test.shape.holds_folders());
    let test = labelled.clone().find(|test| shares(test));
    // A single folder below a part that is not a class contains images without labels.
    let strange = labelled.clone().find(|test| !shares(test) && test.shape.folders.len() > 1);
    if let (None, Some(strange)) = (test, strange) {
        return Err(format!(
            "{:?} and {:?} read as training and test part have no class in common: [{}] and [{}]; read as two classes \
             they would be named after parts. help: give both parts the same class folders, or rename the folders",
            train.name,
            strange.name,
            listed(&train.shape.folders),
            listed(&strange.shape.folders)
        ));
    }
    // Other sets of the same classes are not classes beside the training part.
    let beside: Vec<&&str> =
        others.iter().filter(|name| shapes[**name].folders.is_disjoint(&train.shape.folders)).collect();
    if tests.is_empty() && beside.len() > 1 {
        return Err(format!(
            "{:?} holds class folders ({}), and beside it {} hold images: read as parts, the latter would not be used; read \
             as classes, {:?} would be one of them. help: rename {:?} if it is a class, else move the others away",
            train.name,
            listed(&train.shape.folders),
            listed(&beside),
            train.name,
            train.name
        ));
    }
    let is_unlabelled = |candidate: &&Candidate| {
        let no_folders = !candidate.shape.holds_folders() || (test.is_none() && !shares(candidate));
        candidate.part.role != PartRole::Train && !candidate.shape.is_empty() && no_folders
    };
    let unlabelled: Vec<String> =
        candidates.iter().filter(is_unlabelled).map(|c| c.name.to_string()).collect();
    let test = test.map(|test| test.name.to_string());
    let used = |name: &&String| {
        **name == train.name
            || Some(*name) == test.as_ref()
            || unlabelled.contains(name)
            || shapes[*name].is_empty()
    };
    let unused = shapes.keys().filter(|name| !used(name)).cloned().collect();
    let plain = |name: &str, names: &[&str]| names.iter().any(|plain| name.eq_ignore_ascii_case(plain));
    let certain = plain(train.name, &["train"])
        && test.as_ref().is_none_or(|test| plain(test, &["test", "val", "valid", "validation"]));
    let note = (!certain).then_some(PartsNote);
    Ok(Reading::Parts { train: Some(train.name.into()), test, note, unlabelled, unused })
}

/// Decides if no folder is a training part.
fn without_train(
    candidates: &[Candidate],
    others: &[&str],
    shapes: &BTreeMap<String, FolderShape>,
) -> Result<Reading, String> {
    let named: Vec<&Candidate> = candidates
        .iter()
        .filter(|candidate| candidate.part.is_plain() && !candidate.shape.is_empty())
        .collect();
    let is_train = |candidate: &&&Candidate| candidate.part.role == PartRole::Train;
    if others.is_empty() && !named.is_empty() && !named.iter().any(|c| is_train(&c)) {
        let mut tests: Vec<&&Candidate> = named.iter().filter(|test| test.shape.holds_folders()).collect();
        tests.sort_by_key(|test| test.part.role);
        if let Some(test) = tests.first() {
            let unused = shapes.keys().filter(|name| *name != test.name).cloned().collect();
            let (test, note) = (Some(test.name.into()), Some(PartsNote));
            return Ok(Reading::Parts { train: None, test, note, unlabelled: Vec::new(), unused });
        }
    }
    let names: BTreeSet<&str> = named.iter().map(|candidate| candidate.name).collect();
    let roles: BTreeSet<PartRole> = named.iter().map(|candidate| candidate.part.role).collect();
    // Candidates with the same stem are parts too, e.g. `seg_train` and `seg_test`.
    let mut stemmed = BTreeSet::new();
    for train in candidates.iter().filter(|c| c.part.role == PartRole::Train && !c.shape.is_empty()) {
        let same = |c: &&Candidate| c.part.role != PartRole::Train && c.part.stem == train.part.stem;
        candidates.iter().filter(same).for_each(|test| stemmed.extend([train.name, test.name]));
    }
    let suspects = if roles.len() > 1 { &names } else { &stemmed };
    let classes = shapes.values().filter(|shape| !shape.is_empty()).count();
    if !suspects.is_empty() && classes <= suspects.len() {
        return Err(format!(
            "{} hold images and no class folders: read as parts, the images have no labels; read as classes, these are the \
             names of parts. help: put the images of each part into class folders (train/CLASS/FILE, test/CLASS/FILE), take \
             a CSV file of path and label as the source, or rename the folders if they are classes",
            listed(suspects.iter().filter(|name| !shapes[**name].holds_folders()))
        ));
    }
    let note = (!names.is_empty()).then(|| {
        format!(
            "read as classes: {}, since {} class folders",
            listed(&names),
            match names.len() {
                1 => "it holds images and no",
                _ => "they hold images and no",
            }
        )
    });
    Ok(Reading::Classes { note: note.or_else(|| repeated(shapes)) })
}

/// Returns a note if all folders contain the same folders, which may be the classes.
fn repeated(shapes: &BTreeMap<String, FolderShape>) -> Option<String> {
    let mut sets = shapes.iter().filter(|(_, shape)| !shape.is_empty());
    let (_, first) = sets.clone().next()?;
    let same = sets.all(|(_, shape)| shape.direct == 0 && shape.folders == first.folders);
    (same && shapes.len() > 1 && first.folders.len() > 1).then(|| {
        format!(
            "read as classes: {}, which all contain the folders {}. help: if those are the classes, give one of the former",
            listed(shapes.keys()),
            listed(&first.folders)
        )
    })
}
