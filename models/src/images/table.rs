//! A table of paths and labels, CSV or TSV, as a source.
//!
//! Columns are found by their names: `path` or `filename`, `label` or `class`, and `split`. Without a header, the
//! first column is the path and the second one the label. Paths are relative to the folder of the table, or to a
//! folder in it. Without a label column, columns of 0 and 1 name the classes.

use std::fs::metadata;
use std::path::{Path, PathBuf};

use super::Dataset;
use super::classes::{ClassImage, Classes, dataset, listed};
use super::escape::path_name;
use super::parts::{PartName, PartRole};
use super::sample::ByteSource;
use super::skip::{SkipKind, Skipped};
use crate::{Error, Result, file};

/// Largest size of a table in bytes.
const MAX_TABLE: u64 = 1 << 30;

const PATHS: [&str; 22] = [
    "path",
    "filepath",
    "file_path",
    "filename",
    "file_name",
    "file",
    "image_path",
    "imagepath",
    "img_path",
    "image_name",
    "imagename",
    "img_name",
    "image_file",
    "image",
    "img",
    "images",
    "image_id",
    "img_id",
    "imageid",
    "fname",
    "id",
    "name",
];

const LABELS: [&str; 20] = [
    "label",
    "labels",
    "class",
    "class_name",
    "classname",
    "label_name",
    "category",
    "category_name",
    "target",
    "classes",
    "species",
    "breed",
    "diagnosis",
    "tag",
    "y",
    "cls",
    "class_id",
    "label_id",
    "category_id",
    "classid",
];

const SPLITS: [&str; 8] = ["split", "subset", "set", "partition", "part", "phase", "usage", "data set"];

/// Extensions that are tried after a path that is not a file.
const ENDINGS: [&str; 4] = ["jpg", "jpeg", "png", "JPG"];

/// Number of rows that are checked to find the folder of the files.
const SAMPLED: usize = 20;

/// Number of folders beside a table that are checked.
const MAX_FOLDERS: usize = 100;

/// Whether a path is a table, by its extension.
pub(super) fn is_table(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv") || e.eq_ignore_ascii_case("tsv"))
}

/// Indices of the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TableColumns {
    path: usize,
    label: usize,
    split: Option<usize>,
    /// Whether the first row is a header.
    header: bool,
}

/// Reads the table at `path`.
///
/// # Errors
/// [`Error::Malformed`] for a table without columns of path and label, with a row that is too short, without any
/// existing file, or with fewer than two classes. [`Error::Io`] if it cannot be read.
pub(super) fn open(path: &Path, seed: u64) -> Result<Dataset> {
    let place = path_name(path);
    let bytes = file::read(path, MAX_TABLE)?;
    let text = String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes));
    let first = text.lines().next().unwrap_or_default();
    let count = |delimiter: &u8| first.bytes().filter(|b| b == delimiter).count();
    let delimiter = *[b',', b';', b'\t'].iter().rev().max_by_key(|d| count(d)).unwrap_or(&b',');
    let mut reader = csv::ReaderBuilder::new();
    let reader = reader.has_headers(false).flexible(true).delimiter(delimiter).trim(csv::Trim::All);
    let mut rows = Vec::new();
    for row in reader.from_reader(text.as_bytes()).records() {
        rows.push(row.map_err(|e| Error::malformed(&*place, e.to_string()))?);
    }
    let mut notes = Vec::new();
    let mut folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
    if let Some(inner) = inner_folder(&folder, &rows) {
        notes.push(format!("the files lie in {}", path_name(&inner)));
        folder = inner;
    }
    let one_hot = one_hot(&mut rows);
    let columns = columns(rows.first(), &folder).map_err(|problem| Error::malformed(&*place, problem))?;
    let (mut train, mut test) = (Vec::new(), Vec::new());
    let (mut skipped, mut missing) = (Skipped::default(), Vec::new());
    for (number, row) in rows.iter().enumerate().skip(usize::from(columns.header)) {
        if row.iter().all(str::is_empty) {
            continue;
        }
        let (Some(name), Some(label)) = (row.get(columns.path), row.get(columns.label)) else {
            let problem =
                format!("row {} has {} columns, expected a path and a label", number + 1, row.len());
            return Err(Error::malformed(&*place, problem));
        };
        let split = columns.split.and_then(|column| row.get(column)).and_then(PartName::parse);
        let role = split.map(|part| part.role);
        if label.is_empty() || role == Some(PartRole::Unlabelled) {
            skipped.add(SkipKind::NoLabel);
            continue;
        }
        let Some((path, size)) = found(&folder, name) else {
            skipped.add(SkipKind::Missing);
            missing.push(name);
            continue;
        };
        let image = ClassImage { name: name.into(), bytes: ByteSource::File(path), size };
        match role {
            Some(PartRole::Test(rank)) => test.push((rank, label, image)),
            _ => train.push((label, image)),
        }
    }
    if train.is_empty() && test.is_empty() {
        let problem = match missing.len() {
            0 => "no row has a path and a label".to_string(),
            _ => format!(
                "no file exists that its rows name: {}; paths are relative to {}",
                listed(&missing),
                if folder.as_os_str().is_empty() { ".".into() } else { path_name(&folder) }
            ),
        };
        return Err(Error::malformed(place, problem));
    }
    if one_hot {
        notes.push("the classes are the names of the columns of 0 and 1".into());
    }
    notes.extend(skipped.note());
    if !missing.is_empty() {
        notes.push(format!("files that do not exist: {}", listed(&missing)));
    }
    let rank = test.iter().map(|(rank, ..)| *rank).min();
    let unused = test.iter().filter(|(found, ..)| Some(*found) != rank).count();
    if unused > 0 {
        notes.push(format!("not used: {unused} rows of further test parts"));
    }
    let test: Vec<_> =
        test.into_iter().filter(|(found, ..)| Some(*found) == rank).map(|(_, l, i)| (l, i)).collect();
    let test = (!test.is_empty()).then(|| by_class(test));
    dataset(place, by_class(train), test, seed, notes)
}

/// Returns the folder beside the table that contains the files of its first rows, if the folder of the table does
/// not.
fn inner_folder(folder: &Path, rows: &[csv::StringRecord]) -> Option<PathBuf> {
    let cells = || rows.iter().take(SAMPLED).flatten().filter(|cell| !cell.is_empty());
    let holds = |folder: &Path| cells().any(|cell| found(folder, cell).is_some());
    if holds(folder) {
        return None;
    }
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut inner: Vec<PathBuf> = here.read_dir().ok()?.flatten().map(|entry| entry.path()).collect();
    inner.sort();
    inner.into_iter().filter(|path| path.is_dir()).take(MAX_FOLDERS).find(|path| holds(path))
}

/// Replaces columns of 0 and 1, one per class, by a column of labels. Returns whether it did so.
fn one_hot(rows: &mut [csv::StringRecord]) -> bool {
    let Some((header, rows)) = rows.split_first_mut() else { return false };
    let names: Vec<String> = header.iter().map(str::to_lowercase).collect();
    let is_known = |known: &[&str]| names.iter().any(|name| known.contains(&name.as_str()));
    if !is_known(&PATHS) || is_known(&LABELS) || rows.is_empty() {
        return false;
    }
    let bit = |cell: &str| cell.parse::<f32>().ok().filter(|x| *x == 0.0 || *x == 1.0).map(|x| x == 1.0);
    let classes: Vec<usize> = (0..header.len())
        .filter(|&i| rows.iter().all(|row| row.get(i).is_some_and(|cell| bit(cell).is_some())))
        .collect();
    let ones = |row: &csv::StringRecord| {
        classes.iter().copied().filter(|&i| bit(&row[i]) == Some(true)).collect::<Vec<_>>()
    };
    if classes.len() < 2 || !rows.iter().all(|row| ones(row).len() == 1) {
        return false;
    }
    for row in rows.iter_mut() {
        let label = ones(row).first().and_then(|&i| header.get(i)).unwrap_or_default().to_string();
        row.push_field(&label);
    }
    header.push_field("label");
    true
}

fn by_class(images: Vec<(&str, ClassImage)>) -> Classes {
    let mut classes = Classes::new();
    for (label, image) in images {
        classes.entry(label.to_string()).or_default().push(image);
    }
    classes.values_mut().for_each(|images| images.sort_by(|a, b| a.name.cmp(&b.name)));
    classes
}

/// Finds the columns from the first row: from its names, or because it is a path and a label.
fn columns(first: Option<&csv::StringRecord>, folder: &Path) -> std::result::Result<TableColumns, String> {
    let first = first.ok_or("the table is empty")?;
    let names: Vec<String> = first.iter().map(|name| name.to_lowercase().replace([' ', '-'], "_")).collect();
    let column = |known: &[&str]| known.iter().find_map(|known| names.iter().position(|name| name == known));
    let (path, label, split) = (column(&PATHS), column(&LABELS), column(&SPLITS));
    match (path, label) {
        (Some(path), Some(label)) => return Ok(TableColumns { path, label, split, header: true }),
        _ if first.len() == 2 || (first.len() == 3 && split == Some(2)) => {}
        _ if first.len() >= 2 && found(folder, &first[0]).is_some() => {}
        _ => {
            return Err(format!(
                "its columns are {}, expected one of paths (`path`, `filename`, ...) and one of labels (`label`, `class`, ...)",
                listed(first.iter())
            ));
        }
    }
    let header = found(folder, &first[0]).is_none() && !looks_like_file(&first[0]);
    let split = split.or((first.len() == 3 && PartName::parse(&first[2]).is_some()).then_some(2));
    Ok(TableColumns {
        path: path.unwrap_or(0),
        label: label.unwrap_or(if path == Some(1) { 0 } else { 1 }),
        split,
        header,
    })
}

/// Whether a cell looks like the name of a file that does not exist.
fn looks_like_file(cell: &str) -> bool {
    Path::new(cell).extension().is_some()
}

/// Returns the file that a cell names, and its size in bytes.
fn found(folder: &Path, name: &str) -> Option<(PathBuf, u64)> {
    if name.is_empty() {
        return None;
    }
    let file = |path: PathBuf| {
        let found = metadata(&path).ok().filter(|found| found.is_file())?;
        Some((path, found.len()))
    };
    let path = folder.join(name);
    let with = |ending: &&str| {
        let mut name = path.clone().into_os_string();
        name.push(format!(".{ending}"));
        file(name.into())
    };
    file(path.clone())
        .or_else(|| file(folder.join(name.replace('\\', "/"))))
        .or_else(|| ENDINGS.iter().find_map(with))
}
