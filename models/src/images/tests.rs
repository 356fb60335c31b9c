//! Tests with folders and tars of known contents.
#![allow(clippy::unwrap_used)]

mod layouts;
mod sources;

use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};
use proptest::prelude::*;

use super::*;
use crate::input::{Image, ImageSize, InputContract, Limits, Resize};

fn png(value: u8, side: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_pixel(side, side, Rgb([value, 0, 10])).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn put(root: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn open(path: &Path, seed: u64) -> Result<Dataset> {
    Source::parse(path.to_str().unwrap()).unwrap().open(seed)
}

fn names(root: &Path, samples: &[Sample]) -> Vec<(String, u32)> {
    let prefix = format!("{}/", root.display());
    samples.iter().map(|s| (s.name().replace(&prefix, ""), s.class())).collect()
}

fn two_parts(root: &Path, test: &str) {
    for (i, name) in ["train/dog/b.png", "train/dog/a/deep.jpeg", "train/cat/1.PNG"].into_iter().enumerate() {
        put(root, name, png(i as u8, 8));
    }
    put(root, &format!("{test}/cat/2.png"), png(3, 8));
    put(root, &format!("{test}/dog/3"), png(4, 8));
    put(root, "train/dog/notes.txt", "not an image");
    put(root, "train/dog/.DS_Store", "");
}

fn pack(root: &Path, name: &str) -> std::path::PathBuf {
    let path = root.with_extension("tar");
    let mut builder = tar::Builder::new(fs::File::create(&path).unwrap());
    builder.append_dir_all(name, root).unwrap();
    builder.finish().unwrap();
    path
}

#[test]
fn a_folder_of_two_parts() {
    for part in ["test", "val"] {
        let dir = tempfile::tempdir().unwrap();
        two_parts(dir.path(), part);
        let data = open(dir.path(), 0).unwrap();
        assert_eq!(data.classes, ["cat", "dog"]);
        let expected = [("train/cat/1.PNG", 0), ("train/dog/a/deep.jpeg", 1), ("train/dog/b.png", 1)];
        assert_eq!(names(dir.path(), &data.train), expected.map(|(n, c)| (n.to_string(), c)));
        assert_eq!(data.test.len(), 2);
        assert_eq!(data.notes, ["skipped: 1 thumbnail or bin, 1 text"]);
        let image = data.train[1].image(&Limits::default()).unwrap();
        assert_eq!(image.rgb()[..3], [1, 0, 10]);
    }
}

/// Capitalisation as written by other programs and systems.
#[test]
fn parts_are_found_in_any_case() {
    for (train, test) in [("Train", "Test"), ("TRAIN", "VAL"), ("train", "Validation"), ("Train", "")] {
        let dir = tempfile::tempdir().unwrap();
        for part in [train, test].into_iter().filter(|part| !part.is_empty()) {
            for (value, class) in ["cat", "dog"].into_iter().enumerate() {
                put(dir.path(), &format!("{part}/{class}/1.png"), png(value as u8, 8));
            }
        }
        let data = open(dir.path(), 0).unwrap();
        assert_eq!(data.classes, ["cat", "dog"], "{train} {test}");
        assert_eq!((data.train.len(), data.test.len()), (2, if test.is_empty() { 0 } else { 2 }));
    }
    let dir = tempfile::tempdir().unwrap();
    two_parts(dir.path(), "test");
    put(dir.path(), "Train/bird/1.png", png(0, 8));
    put(dir.path(), "TEST/bird/1.png", png(0, 8));
    let data = open(dir.path(), 0).unwrap();
    assert_eq!(data.classes, ["cat", "dog"]);
    assert_eq!(data.notes[0], "not used: TEST, Train");

    let dir = tempfile::tempdir().unwrap();
    for class in ["Car", "Test", "Train"] {
        put(dir.path(), &format!("{class}/1.png"), png(0, 8));
    }
    assert_eq!(
        open(dir.path(), 0).unwrap().classes,
        ["Car", "Test", "Train"],
        "vehicles, and what is done with them"
    );
}

#[test]
fn a_tar_holds_what_its_folder_holds() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("data");
    two_parts(&root, "test");
    let long = format!("train/cat/{}/{}.png", "n".repeat(120), "m".repeat(120));
    put(&root, &long, png(200, 9));
    let folder = open(&root, 0).unwrap();
    for name in ["", "photos", "./photos"] {
        let tar = pack(&root, name);
        let packed = open(&tar, 0).unwrap();
        assert_eq!((&packed.classes, &packed.notes), (&folder.classes, &folder.notes));
        for (a, b) in packed.train.iter().chain(&packed.test).zip(folder.train.iter().chain(&folder.test)) {
            assert_eq!(a.class(), b.class());
            assert!(a.name().starts_with(&format!("{}:", tar.display())), "{}", a.name());
            let [a, b] = [a, b].map(|sample| sample.image(&Limits::default()).unwrap());
            assert_eq!(a, b);
        }
        let member = packed.train.iter().find(|s| s.name().ends_with(&format!("{}.png", "m".repeat(120))));
        assert_eq!(member.unwrap().image(&Limits::default()).unwrap().width(), 9);
    }
}

#[test]
fn one_folder_is_split_by_seed() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..20 {
        put(dir.path(), &format!("a/{i:02}.png"), "");
        put(dir.path(), &format!("b/{i:02}.png"), "");
    }
    put(dir.path(), "b/extra.png", "");
    let [once, again, other] = [1, 1, 2].map(|seed| open(dir.path(), seed).unwrap());
    let test = |data: &Dataset| names(dir.path(), &data.test);
    assert_eq!(test(&once), test(&again));
    assert_ne!(test(&once), test(&other));
    let count = |class| once.test.iter().filter(|s| s.class() == class).count();
    assert_eq!((count(0), count(1), once.train.len()), (4, 4, 33));
    let mut all = [names(dir.path(), &once.train), test(&once)].concat();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 41);
    put(dir.path(), "c/0.png", "");
    put(dir.path(), "c/1.png", "");
    let more = open(dir.path(), 1).unwrap();
    assert_eq!(test(&more)[..8], test(&once), "a new class leaves the others as they were");
}

#[test]
fn mistakes_in_the_layout_are_named() {
    let error = |make: &dyn Fn(&Path)| {
        let dir = tempfile::tempdir().unwrap();
        two_parts(dir.path(), "test");
        make(dir.path());
        open(dir.path(), 0).unwrap_err().to_string()
    };
    let empty = error(&|root| fs::create_dir(root.join("train/bird")).unwrap());
    assert!(empty.contains("the class folder train/bird contains no image"), "{empty}");
    let differ = error(&|root| put(root, "test/bird/1.png", ""));
    assert!(differ.contains(r#"only in train [], only in test ["bird"]"#), "{differ}");
    let strays = error(&|root| (1..9).for_each(|i| put(root, &format!("train/{i}.png"), "")));
    assert!(strays.contains("the file train/1.png and 7 more are in no class"), "{strays}");
    let one = error(&|root| {
        ["train/dog", "test/dog"].iter().for_each(|class| fs::remove_dir_all(root.join(class)).unwrap());
    });
    assert!(one.contains("found 1 class (\"cat\"), expected two or more"), "{one}");
}

#[test]
fn mistakes_in_the_source_are_named() {
    let dir = tempfile::tempdir().unwrap();
    for (bytes, expected) in [
        (&b"\x1f\x8b rest"[..], "gunzip"),
        (b"PK\x03\x04", "zip archive"),
        (b"words", "not a tar"),
        (b"", "not a tar"),
    ] {
        put(dir.path(), "x.tar", bytes);
        let error = open(&dir.path().join("x.tar"), 0).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    for text in ["cifar10", "cifar10:", "", "no/such/folder"] {
        let error = Source::parse(text).and_then(|source| source.open(0)).unwrap_err().to_string();
        assert!(error.contains("expected digits, cifar10:DIR"), "{error}");
    }
    for text in ["digits", "cifar10:some/where", "a/b"] {
        assert_eq!(Source::parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn a_cut_tar_and_a_large_member_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("data");
    two_parts(&root, "test");
    let tar = pack(&root, "");
    let data = open(&tar, 0).unwrap();
    let limits = Limits { max_file: 20, ..Limits::default() };
    let error = data.train[0].image(&limits).unwrap_err().to_string();
    assert!(error.contains("train/cat/1.PNG") && error.contains("the limit is 20"), "{error}");
    let bytes = fs::read(&tar).unwrap();
    for length in (512..bytes.len() - 1024).step_by(300) {
        fs::write(&tar, &bytes[..length]).unwrap();
        let error = open(&tar, 0).unwrap_err().to_string();
        assert!(error.contains("truncated") || error.contains("damaged tar"), "{length}: {error}");
    }
}

#[test]
fn loading_keeps_order_and_survives_bad_images() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..9 {
        put(dir.path(), &format!("train/{}/{i}.png", i % 2), png(i, 8));
    }
    put(dir.path(), "train/0/bad.png", &png(0, 8)[..40]);
    put(dir.path(), "train/1/4.png", "words");
    put(dir.path(), "test/0/x.png", png(0, 8));
    put(dir.path(), "test/1/x.png", png(0, 8));
    let data = open(dir.path(), 0).unwrap();
    let contract = InputContract::new(ImageSize::square(4), 3, vec![0.0; 3], vec![1.0; 3], Resize::Stretch);
    let done = std::sync::Mutex::new(Vec::new());
    let progress = |n| done.lock().unwrap().push(n);
    let (loaded, bad) = Dataset::load(&data.train, &contract, &Limits::default(), &progress);
    let first: Vec<u8> = loaded.pixels.chunks_exact(48).map(|image| image[0]).collect();
    assert_eq!((first, loaded.labels), (vec![0, 2, 4, 6, 8, 1, 3, 5, 7], vec![0, 0, 0, 0, 0, 1, 1, 1, 1]));
    // Results of `more` correspond to the images; if it fails, the image is omitted.
    let corner = |image: &Image| match image.rgb()[0] {
        6 => Err(Error::malformed("image", "refused")),
        level => Ok(level),
    };
    let (fewer, corners, worse) =
        Dataset::load_with(&data.train, &contract, &Limits::default(), &|_| {}, &corner);
    let first: Vec<u8> = fewer.pixels.chunks_exact(48).map(|image| image[0]).collect();
    assert_eq!((&first, &corners), (&vec![0, 2, 4, 8, 1, 3, 5, 7], &first));
    assert!(worse.len() == 3 && worse.iter().any(|(_, error)| error.to_string().contains("refused")));
    assert_eq!(bad.len(), 2);
    assert!(bad[0].0.ends_with("train/0/bad.png") && bad[0].1.to_string().contains("truncated"), "{bad:?}");
    assert!(
        bad[1].0.ends_with("train/1/4.png") && bad[1].1.to_string().contains("no known image"),
        "{bad:?}"
    );
    let mut done = done.into_inner().unwrap();
    done.sort();
    assert_eq!(done, (1..=11).collect::<Vec<_>>());
}

#[test]
fn suggestions_follow_the_images() {
    let limits = Limits::default();
    let digits = Source::Digits.open(0).unwrap();
    let contract = digits.suggest_contract(None, &limits).unwrap();
    assert_eq!((contract.height, contract.width, contract.channels), (8, 8, 1));
    let (loaded, bad) = Dataset::load(&digits.train, &contract, &limits, &|_| ());
    assert!(bad.is_empty());
    let mut floats = vec![0.0; loaded.pixels.len()];
    loaded.pixels.chunks(64).zip(floats.chunks_mut(64)).for_each(|(p, f)| contract.normalise(p, f));
    let n = floats.len() as f64;
    let mean = floats.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let variance = floats.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / n;
    assert!(mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-5, "{mean} {variance}");

    let dir = tempfile::tempdir().unwrap();
    for (i, side) in [(0, 8), (1, 9), (2, 8), (3, 8)] {
        put(dir.path(), &format!("{}/{i}.png", i % 2), png(40, side));
    }
    let mixed = open(dir.path(), 0).unwrap();
    let summary = mixed.summary(&limits);
    assert_eq!((summary.train, summary.test, summary.gray), (2, 2, false));
    assert_eq!(summary.classes[1], ClassCount { name: "1".into(), train: 1, test: 1 });
    let contract = mixed.suggest_contract(Some([6, 7]), &limits).unwrap();
    assert_eq!((contract.height, contract.resize), (6, Resize::ShorterSide { side: 7 }));
    assert!((contract.mean[0] - 40.0 / 255.0).abs() < 1e-6 && contract.std == [1.0; 3]);
    for i in 0..4 {
        put(dir.path(), &format!("{}/{i}.png", i % 2), png(40, 65));
    }
    let error = open(dir.path(), 0).unwrap().suggest_contract(None, &limits).unwrap_err().to_string();
    assert!(error.contains("the size of the images is 65x65"), "{error}");
}

proptest! {
    #[test]
    fn a_damaged_tar_never_panics(
        edits in prop::collection::vec((0..6144usize, any::<u8>()), 0..8),
        length in 0..6144usize,
        random: Vec<u8>,
    ) {
        let mut builder = tar::Builder::new(Vec::new());
        for name in ["train/a/1.png", "test/b/2.png", &format!("train/{}/3.png", "x".repeat(150))] {
            let mut header = tar::Header::new_gnu();
            header.set_size(9);
            header.set_cksum();
            builder.append_data(&mut header, name, &b"123456789"[..]).unwrap();
        }
        let mut bytes = builder.into_inner().unwrap();
        edits.iter().for_each(|&(at, value)| if let Some(b) = bytes.get_mut(at) { *b = value });
        for bytes in [&bytes[..length.min(bytes.len())], &random] {
            let listing = tarball::list(Cursor::new(bytes), bytes.len() as u64, Path::new("x.tar"));
            let _ = listing.and_then(|listing| listing.into_dataset(0));
        }
    }
}
