//! Conversion of the names in a folder or a tar to classes and parts.
//!
//! Supported layouts are `PART/CLASS/FILE`, `CLASS/FILE`, `CLASS/PART/FILE`, and sets with labels in files beside the
//! images. If names are ambiguous, the structure decides: a part contains class folders, a class contains images.

use std::collections::{BTreeMap, BTreeSet};

use super::Dataset;
use super::classes::{ClassImage, Classes, EXPECTED, dataset, listed};
use super::parts::{PartName, PartRole};
use super::reading::{FolderShape, Reading, decide};
use super::sample::ByteSource;
use super::skip::{SkipKind, Skipped};
use super::webdataset;
use crate::{Error, Result};

/// A file of a source: the components of its path below the root, and the location of its bytes.
#[derive(Clone, Debug)]
pub(super) struct SourceFile {
    pub(super) parts: Vec<String>,
    pub(super) bytes: ByteSource,
    pub(super) size: u64,
}

/// Content of a source.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) place: String,
    /// Files that may be images.
    pub(super) files: Vec<SourceFile>,
    /// Files that are not images, by their names.
    pub(super) others: Vec<(SkipKind, SourceFile)>,
    pub(super) folders: Vec<Vec<String>>,
    pub(super) skipped: Skipped,
}

impl Listing {
    pub(super) fn new(place: String) -> Self {
        Listing { place, ..Listing::default() }
    }

    /// Adds a file; `other` is the reason why its name is not that of an image.
    pub(super) fn add(&mut self, file: SourceFile, other: Option<SkipKind>) {
        match other {
            None => self.files.push(file),
            Some(kind) => self.others.push((kind, file)),
        }
    }

    /// Converts the listing to a data set.
    ///
    /// # Errors
    /// [`Error::Malformed`] for an unsupported layout, or one with two possible readings.
    pub(super) fn into_dataset(mut self, seed: u64) -> Result<Dataset> {
        self.files.sort_by(|a, b| a.parts.cmp(&b.parts));
        if webdataset::applies(&self) {
            return webdataset::dataset(self, seed);
        }
        self.others.iter().for_each(|(kind, _)| self.skipped.add(*kind));
        let mut notes = Vec::new();
        let root = self.class_root(Vec::new(), |_| true);
        self.take_below(&root);
        if self.parts_in_classes()? {
            notes.push("read as CLASS/PART/FILE: each class folder has a training and a test part".into());
            self.swap();
        }
        let shapes = self.shapes();
        let reading = decide(&shapes).map_err(|problem| Error::malformed(&*self.place, problem))?;
        let (train, test) = match reading {
            Reading::Classes { note } => {
                notes.extend(note);
                (self.classes(&[], true)?, None)
            }
            Reading::Parts { train, test, note, unlabelled, unused } => {
                let train = train.map(|part| self.class_root(vec![part], |_| true));
                let classes = train.as_ref().map(|part| self.classes(part, true)).transpose()?;
                let known = classes.as_ref().map(|classes| classes.keys().cloned().collect::<BTreeSet<_>>());
                let test = test.map(|part| {
                    let is_no_class = |name: &str| known.as_ref().is_none_or(|known| !known.contains(name));
                    self.class_root(vec![part], is_no_class)
                });
                notes.extend(note.map(|note| note.note(train.as_deref(), test.as_deref())));
                for part in unlabelled {
                    notes.push(format!(
                        "{part} has no class folders, so its images have no labels and are not used"
                    ));
                }
                if !unused.is_empty() {
                    notes.push(format!("not used: {}", unused.join(", ")));
                }
                if train.is_none() {
                    notes.push("the training part is missing".into());
                }
                let test = test.map(|part| self.classes(&part, false)).transpose()?;
                (classes.unwrap_or_default(), test)
            }
        };
        notes.extend(self.skipped.note());
        dataset(self.place, train, test, seed, notes)
    }

    /// Returns the files below a folder. They are consecutive, since files are sorted.
    fn below(&self, prefix: &[String]) -> &[SourceFile] {
        let first = self.files.partition_point(|file| file.parts.as_slice() < prefix);
        let rest = &self.files[first..];
        &rest[..rest.partition_point(|file| file.parts.starts_with(prefix))]
    }

    /// Returns the folder below `prefix` that contains all class folders. It looks through folders that contain
    /// only one folder, as archives and downloads have them. `may` decides whether a name is allowed.
    fn class_root(&self, mut prefix: Vec<String>, may: impl Fn(&str) -> bool) -> Vec<String> {
        loop {
            let depth = prefix.len();
            let files = self.below(&prefix);
            let mut names =
                files.iter().filter(|file| file.parts.len() > depth + 1).map(|file| &file.parts[depth]);
            let Some(only) = names.next().cloned() else { return prefix };
            let inner = [prefix.clone(), vec![only.clone()]].concat();
            let images = self.below(&inner);
            let direct = images.iter().filter(|file| file.parts.len() == depth + 2).count();
            let trains =
                |name: &String| PartName::parse(name).is_some_and(|part| part.role == PartRole::Train);
            // A part, or a data set of that name that contains the parts.
            let around =
                images.iter().any(|file| file.parts.len() > depth + 3 && trains(&file.parts[depth + 1]));
            let is_part = depth == 0 && trains(&only) && !around;
            let alone = names.all(|name| *name == only)
                && 2 * images.len() > files.len()
                && !self.has_empty_folder(&prefix, &only);
            if !alone || is_part || 2 * direct > images.len() || direct == images.len() || !may(&only) {
                return prefix;
            }
            prefix = inner;
        }
    }

    /// Whether a folder beside `prefix/only` contains no file at all.
    fn has_empty_folder(&self, prefix: &[String], only: &String) -> bool {
        let beside = |f: &&Vec<String>| {
            f.len() == prefix.len() + 1 && f.starts_with(prefix) && f[prefix.len()] != *only
        };
        let is_empty =
            |folder: &Vec<String>| !self.others.iter().any(|(_, file)| file.parts.starts_with(folder));
        self.folders.iter().filter(beside).any(is_empty)
    }

    /// Keeps only the content of a folder. Images outside of it are in no class.
    fn take_below(&mut self, root: &[String]) {
        let depth = root.len();
        if depth == 0 {
            return;
        }
        let before = self.files.len();
        let cut = |parts: &mut Vec<String>| {
            let inside = parts.len() > depth && parts.starts_with(root);
            if inside {
                parts.drain(..depth);
            }
            inside
        };
        self.files.retain_mut(|file| cut(&mut file.parts));
        self.others.retain_mut(|(_, file)| cut(&mut file.parts));
        self.folders.retain_mut(cut);
        self.skipped.add_many(SkipKind::NoClass, before - self.files.len());
    }

    /// Whether every folder contains images only in parts, and these include training and test parts.
    ///
    /// # Errors
    /// [`Error::Malformed`] for folders that are data sets with parts and classes of their own.
    fn parts_in_classes(&self) -> Result<bool> {
        let mut roles = BTreeSet::new();
        let mut classes: BTreeMap<&String, bool> = BTreeMap::new();
        for file in self.files.iter().filter(|file| file.parts.len() > 1) {
            let part = (file.parts.len() > 2).then(|| PartName::parse(&file.parts[1])).flatten();
            let Some(part) = part.filter(PartName::is_plain) else { return Ok(false) };
            let trains = part.role == PartRole::Train;
            roles.insert(trains);
            *classes.entry(&file.parts[0]).or_default() |= trains;
        }
        let named = classes.keys().any(|name| PartName::parse(name).is_none());
        if roles.len() < 2 || classes.len() < 2 || !named || !classes.values().all(|trains| *trains) {
            return Ok(false);
        }
        let deep = self.files.iter().filter(|file| file.parts.len() > 3).count();
        if 2 * deep > self.files.len() {
            let problem = format!(
                "{} each hold a training and a test part with folders in them: read as data sets, the source is one of them; \
                 read as classes, these folders are none. help: give the folder of one data set",
                listed(classes.keys())
            );
            return Err(Error::malformed(&*self.place, problem));
        }
        Ok(true)
    }

    /// Swaps class and part.
    fn swap(&mut self) {
        let swap = |parts: &mut Vec<String>| {
            if parts.len() > 1 {
                parts.swap(0, 1);
            }
        };
        self.files.iter_mut().for_each(|file| swap(&mut file.parts));
        self.others.iter_mut().for_each(|(_, file)| swap(&mut file.parts));
        self.folders.retain(|parts| parts.len() > 1);
        self.folders.iter_mut().for_each(swap);
        self.files.sort_by(|a, b| a.parts.cmp(&b.parts));
    }

    /// Returns each folder of the root with the distribution of its images.
    fn shapes(&self) -> BTreeMap<String, FolderShape> {
        let mut shapes: BTreeMap<String, FolderShape> = BTreeMap::new();
        for folder in self.folders.iter().filter(|folder| folder.len() == 1) {
            shapes.entry(folder[0].clone()).or_default();
        }
        for file in self.files.iter().filter(|file| file.parts.len() > 1) {
            shapes.entry(file.parts[0].clone()).or_default().add(&file.parts[1..]);
        }
        for (name, shape) in shapes.iter_mut().filter(|(name, _)| PartName::parse(name).is_some()) {
            let inner = self.class_root(vec![name.clone()], |_| true);
            if inner.len() > 1 {
                *shape = FolderShape::within(&inner[1..]);
                self.below(&inner).iter().for_each(|file| shape.add(&file.parts[inner.len()..]));
            }
        }
        shapes
    }

    /// Returns the images below `prefix` by class. Images beside the class folders, and folders that contain only
    /// other files, are skipped.
    ///
    /// # Errors
    /// [`Error::Malformed`] for an empty class folder, if `complete`, and for at least as many images beside the
    /// class folders as in them.
    fn classes(&mut self, prefix: &[String], complete: bool) -> Result<Classes> {
        let depth = prefix.len();
        let mut classes = Classes::new();
        let mut strays = Vec::new();
        for file in self.below(prefix) {
            if file.parts.len() < depth + 2 {
                strays.push(file.parts.join("/"));
                continue;
            }
            let name = file.parts[depth + 1..].join("/");
            let image = ClassImage { name, bytes: file.bytes.clone(), size: file.size };
            classes.entry(file.parts[depth].clone()).or_default().push(image);
        }
        let images: usize = classes.values().map(Vec::len).sum();
        if let Some(first) = strays.first().filter(|_| strays.len() >= images) {
            let are = match strays.len() {
                1 => "is".to_string(),
                n => format!("and {} more are", n - 1),
            };
            let problem = format!("the file {first} {are} in no class; expected {EXPECTED}");
            return Err(Error::malformed(&*self.place, problem));
        }
        self.skipped.add_many(SkipKind::NoClass, strays.len());
        let folders = self.folders.iter().filter(|f| f.len() == depth + 1 && f.starts_with(prefix));
        let empty: Vec<&Vec<String>> = folders.filter(|f| !classes.contains_key(&f[depth])).collect();
        let is_class = |folder: &&Vec<String>| {
            let inside = || self.others.iter().filter(|(_, file)| file.parts.starts_with(folder));
            inside().next().is_none()
                || inside().any(|(kind, _)| matches!(kind, SkipKind::Raw | SkipKind::Video))
        };
        if let Some(folder) = empty.iter().copied().find(is_class).filter(|_| complete) {
            let problem =
                format!("the class folder {} contains no image. help: fill or remove it", folder.join("/"));
            return Err(Error::malformed(&*self.place, problem));
        }
        let harmless = empty.into_iter().filter(|folder| complete && !is_class(folder)).count();
        self.skipped.add_many(SkipKind::NoImages, harmless);
        Ok(classes)
    }
}
