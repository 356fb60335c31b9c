//! Images with labels in separate files, as in WebDataset's shards: `000000.jpg`, `000000.cls`.
//!
//! Files of one sample have the same path up to the first dot of the file name. The label is the text of `.cls`, a
//! class name or an index, or a field of `.json`. The names of shards and folders determine the part of a sample.

use std::collections::{BTreeMap, BTreeSet};

use super::Dataset;
use super::classes::{ClassImage, Classes, dataset as of_classes};
use super::layout::{Listing, SourceFile};
use super::parts::{PartName, PartRole};
use super::skip::SkipKind;
use crate::Result;
use crate::input::Limits;

/// Largest size of a label file in bytes.
const MAX_LABEL: u64 = 1 << 16;

/// Fields of `.json` that contain a label, names before indices.
const FIELDS: [&str; 12] = [
    "class_name",
    "classname",
    "label_name",
    "category_name",
    "label",
    "class",
    "cls",
    "category",
    "target",
    "class_id",
    "label_id",
    "category_id",
];

/// Returns the key of a sample, and the rest of the file name after it.
fn key(parts: &[String]) -> (Vec<&str>, &str) {
    let mut key: Vec<&str> = parts.iter().map(String::as_str).collect();
    let ending = key.last_mut().map_or("", |name| {
        let (stem, ending) = name.split_once('.').unwrap_or((name, ""));
        *name = stem;
        ending
    });
    (key, ending)
}

/// Whether labels are in files beside the images.
pub(super) fn applies(listing: &Listing) -> bool {
    let mut endings = listing.others.iter().map(|(_, file)| key(&file.parts).1);
    if !endings.any(|ending| ["cls", "json"].iter().any(|known| ending.eq_ignore_ascii_case(known))) {
        return false;
    }
    let keys: BTreeSet<Vec<&str>> = listing.files.iter().map(|file| key(&file.parts).0).collect();
    let labelled = |ending: &str| {
        listing.others.iter().map(|(_, file)| file).find(|file| {
            let (key, found) = key(&file.parts);
            found.eq_ignore_ascii_case(ending) && keys.contains(&key)
        })
    };
    // If there are class folders, they are preferred as labels.
    let folders =
        || listing.files.iter().map(|file| &file.parts[..file.parts.len() - 1]).collect::<BTreeSet<_>>();
    labelled("cls").is_some()
        || (folders().len() <= 1 && labelled("json").is_some_and(|file| label(file, "json").is_some()))
}

/// Returns the data set of a listing with labels in files.
///
/// # Errors
/// [`Error::Malformed`](crate::Error::Malformed) for fewer than two classes, or classes that only the test part has.
pub(super) fn dataset(mut listing: Listing, seed: u64) -> Result<Dataset> {
    let mut labels: BTreeMap<Vec<&str>, String> = BTreeMap::new();
    for ending in ["json", "cls"] {
        for (_, file) in &listing.others {
            let (key, found) = key(&file.parts);
            if found.eq_ignore_ascii_case(ending)
                && let Some(label) = label(file, ending)
            {
                labels.insert(key, label);
            }
        }
    }
    let used = |kind: SkipKind, file: &SourceFile| {
        kind == SkipKind::Table && labels.contains_key(&key(&file.parts).0)
    };
    listing
        .others
        .iter()
        .filter(|(kind, file)| !used(*kind, file))
        .for_each(|(kind, _)| listing.skipped.add(*kind));
    let (mut train, mut test) = (Classes::new(), Classes::new());
    let mut seen: BTreeMap<Vec<&str>, &str> = BTreeMap::new();
    // If a sample has several images, the one with the simplest extension is used: `000.jpg`, not `000.mask.png`.
    for file in &listing.files {
        let (key, ending) = key(&file.parts);
        let best = seen.entry(key).or_insert(ending);
        if ending.matches('.').count() < best.matches('.').count() {
            *best = ending;
        }
    }
    for file in &listing.files {
        let (key, ending) = key(&file.parts);
        let Some(label) = labels.get(&key).filter(|_| seen.get(&key) == Some(&ending)) else {
            listing.skipped.add(SkipKind::NoLabel);
            continue;
        };
        let folders = file.parts.iter().rev().skip(1);
        let role = folders.filter_map(|name| PartName::parse(name)).map(|part| part.role).next();
        let part = if matches!(role, Some(PartRole::Test(_))) { &mut test } else { &mut train };
        let image = ClassImage { name: file.parts.join("/"), bytes: file.bytes.clone(), size: file.size };
        part.entry(label.clone()).or_default().push(image);
    }
    let mut notes = vec!["the labels are read from files beside the images".to_string()];
    notes.extend(listing.skipped.note());
    let test = (!test.is_empty() && !train.is_empty()).then(|| std::mem::take(&mut test)).or_else(|| {
        // A source with a single part is read as one without parts.
        train.append(&mut test);
        None
    });
    of_classes(listing.place, train, test, seed, notes)
}

/// Returns the label in a file, or `None` if it has none.
fn label(file: &SourceFile, ending: &str) -> Option<String> {
    let limits = Limits { max_file: MAX_LABEL, ..Limits::default() };
    let bytes = file.bytes.read(&limits).ok()?;
    let text = std::str::from_utf8(&bytes).ok()?.trim_start_matches('\u{feff}').trim();
    if ending == "cls" {
        return (!text.is_empty() && !text.contains('\n')).then(|| text.to_string());
    }
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let object = value.as_object()?;
    FIELDS.iter().find_map(|field| match object.get(*field)? {
        serde_json::Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_string()),
        serde_json::Value::Number(number) if number.is_u64() => Some(number.to_string()),
        _ => None,
    })
}
