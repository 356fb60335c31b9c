//! Tests of archives with links, shards and tables, and of the images and labels for evaluation.

use super::*;
use crate::card::TrainedOn;

fn header(size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size as u64);
    header.set_mode(0o644);
    header
}

fn member(builder: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    builder.append_data(&mut header(bytes.len()), name, bytes).unwrap();
}

fn link(builder: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, name: &str, target: &str) {
    let mut header = header(0);
    header.set_entry_type(kind);
    builder.append_link(&mut header, name, target).unwrap();
}

#[test]
fn links_of_a_tar_have_the_bytes_of_their_target() {
    let dir = tempfile::tempdir().unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    member(&mut builder, "set/a/0.png", &png(7, 8));
    link(&mut builder, tar::EntryType::Link, "set/a/copy.png", "set/a/0.png");
    link(&mut builder, tar::EntryType::Link, "set/a/copy2.png", "./set/a/copy.png");
    link(&mut builder, tar::EntryType::Symlink, "set/b/early.png", "late.png");
    link(&mut builder, tar::EntryType::Symlink, "set/b/other.png", "../a/0.png");
    link(&mut builder, tar::EntryType::Symlink, "set/b/gone.png", "nothing.png");
    member(&mut builder, "set/b/late.png", &png(9, 8));
    put(dir.path(), "x.tar", builder.into_inner().unwrap());
    let data = open(&dir.path().join("x.tar"), 0).unwrap();
    assert_eq!(data.notes, ["skipped: 1 special file"]);
    let mut seen: Vec<(String, u8)> = data
        .train
        .iter()
        .chain(&data.test)
        .map(|s| {
            (s.name().rsplit('/').next().unwrap().to_string(), s.image(&Limits::default()).unwrap().rgb()[0])
        })
        .collect();
    seen.sort();
    let expected = [
        ("0.png", 7),
        ("copy.png", 7),
        ("copy2.png", 7),
        ("early.png", 9),
        ("late.png", 9),
        ("other.png", 7),
    ];
    assert_eq!(seen, expected.map(|(name, value)| (name.to_string(), value)));
}

#[test]
fn shards_hold_labels_beside_images() {
    let dir = tempfile::tempdir().unwrap();
    for (shard, labels) in [
        ("train-000000", ["0", "10", "2"]),
        ("train-000001", ["2", "0", "10"]),
        ("val-000000", ["0", "2", "10"]),
    ] {
        let mut builder = tar::Builder::new(Vec::new());
        for (i, label) in labels.iter().enumerate() {
            member(&mut builder, &format!("{i:06}.png"), &png(label.parse().unwrap(), 8));
            member(&mut builder, &format!("{i:06}.mask.png"), &png(200, 8));
            member(&mut builder, &format!("{i:06}.cls"), label.as_bytes());
            member(&mut builder, &format!("{i:06}.json"), b"{}");
        }
        member(&mut builder, "000009.png", &png(0, 8));
        put(dir.path(), &format!("{shard}.tar"), builder.into_inner().unwrap());
    }
    let data = open(dir.path(), 0).unwrap();
    assert_eq!(
        (data.classes.clone(), data.train.len(), data.test.len()),
        (["0", "2", "10"].map(String::from).to_vec(), 6, 3)
    );
    assert!(data.notes.iter().any(|note| note == "skipped: 12 images without a label"), "{:?}", data.notes);
    for sample in data.train.iter().chain(&data.test) {
        let value = sample.image(&Limits::default()).unwrap().rgb()[0];
        assert_eq!(data.classes[sample.class() as usize], value.to_string());
    }
    let one = open(&dir.path().join("val-000000.tar"), 0).unwrap();
    assert_eq!((one.train.len() + one.test.len(), one.held_out), (3, Some(0)));

    let json = tempfile::tempdir().unwrap();
    for (i, label) in ["cat", "dog", "cat", "dog"].iter().enumerate() {
        put(json.path(), &format!("s{i}.png"), png(0, 8));
        put(
            json.path(),
            &format!("s{i}.json"),
            format!("{{\"id\": {i}, \"class_name\": \"{label}\", \"label\": 3}}"),
        );
    }
    assert_eq!(open(json.path(), 0).unwrap().classes, ["cat", "dog"]);
}

#[test]
fn a_tar_for_each_class_is_a_folder_for_each() {
    let dir = tempfile::tempdir().unwrap();
    for class in ["n01", "n02"] {
        let mut builder = tar::Builder::new(Vec::new());
        (0..2).for_each(|i| member(&mut builder, &format!("{class}_{i}.JPEG"), &png(0, 8)));
        put(dir.path(), &format!("{class}.tar"), builder.into_inner().unwrap());
    }
    assert_eq!(open(dir.path(), 0).unwrap().classes, ["n01", "n02"]);
}

#[test]
fn tables_name_paths_and_labels() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["img/1.png", "img/2.png", "img/3.jpg", "img/4.png"] {
        put(dir.path(), name, png(0, 8));
    }
    let table = dir.path().join("labels.csv");
    let read = |text: &str| {
        fs::write(&table, text).unwrap();
        open(&table, 0)
    };
    for text in [
        "path,label\nimg/1.png,cat\nimg/2.png,dog\nimg/3.jpg,cat\nimg/4.png,dog\n",
        "\u{feff}Label;File Name;note\r\ncat;img/1.png;x\r\ndog;img/2.png;\r\ncat;img/3.jpg;\r\ndog;img/4.png;\r\n",
        "img/1.png\tcat\nimg/2.png\tdog\nimg/3.jpg\tcat\n\nimg/4.png\tdog\n",
        "id,label\n1,cat\n2,dog\n3,cat\n4,dog\n",
        "image,cat,dog\n1,1.0,0.0\n2,0,1\n3,1,0\n4,0,1\n",
        "id,breed\nimg/1,cat\nimg/2,dog\nimg/3,cat\nimg/4,dog\n",
    ] {
        let data = read(text).unwrap();
        assert_eq!(
            (data.classes, data.train.len(), data.test.len()),
            (vec!["cat".into(), "dog".into()], 2, 2),
            "{text}"
        );
    }
    let text = "image,class,split\nimg/1.png,2,train\nimg/2.png,10,train\nimg/3.jpg,2,val\nimg/4.png,10,test\nimg/9.png,2,train\n";
    let data = read(text).unwrap();
    assert_eq!(
        (data.classes.clone(), data.train.len(), data.test.len()),
        (vec!["2".into(), "10".into()], 2, 1)
    );
    assert!(
        data.notes.iter().any(|note| note.contains("1 row whose file does not exist")),
        "{:?}",
        data.notes
    );
    assert!(data.notes.iter().any(|note| note.contains("img/9.png")), "{:?}", data.notes);
    for (text, expected) in [
        ("a,b,c\n1,2,3\n", "expected one of paths"),
        ("path,label\nx.png,a\ny.png,b\n", r#""x.png", "y.png"; paths are relative to"#),
        ("path,label\nimg/1.png\n", "row 2 has 1 columns"),
        ("", "the table is empty"),
        ("path,label\nimg/1.png,a\nimg/2.png,a\n", "found 1 class (\"a\")"),
    ] {
        let message = read(text).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("labels.csv"), "{text}: {message}");
    }
}

#[test]
fn the_fingerprint_is_of_names_and_sizes() {
    let dir = tempfile::tempdir().unwrap();
    for place in ["here", "elsewhere/deep"] {
        for name in ["a/1.png", "a/2.png", "b/1.png", "b/2.png"] {
            put(dir.path(), &format!("{place}/{name}"), png(0, 8));
        }
    }
    let [one, other] =
        ["here", "elsewhere/deep"].map(|place| open(&dir.path().join(place), 3).unwrap().fingerprint);
    assert_eq!(one, other);
    assert_eq!(open(&pack(&dir.path().join("here"), "x"), 0).unwrap().fingerprint, one);
    put(dir.path(), "here/a/3.png", png(0, 8));
    assert_ne!(open(&dir.path().join("here"), 0).unwrap().fingerprint, one);
}

#[test]
fn what_is_measured_depends_on_what_was_trained_on() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..10 {
        put(dir.path(), &format!("train/{}/{i}.png", ["a", "b"][i % 2]), png(0, 8));
    }
    let data = open(dir.path(), 0).unwrap();
    let trained = |fingerprint: Option<&str>, held_out| TrainedOn {
        fingerprint: fingerprint.map(String::from),
        held_out,
    };
    for (trained, images, expected) in [
        (None, 10, "was not trained on this source"),
        (Some(trained(None, true)), 2, "does not say what it was trained on"),
        (Some(trained(Some("x"), true)), 10, "was not trained on this source"),
        (Some(trained(Some(&data.fingerprint), true)), 2, "that were held out"),
        (Some(trained(Some(&data.fingerprint), false)), 10, "the model was trained on"),
    ] {
        let (samples, note) = data.to_measure(trained.as_ref());
        let note = note.unwrap();
        assert!(
            samples.len() == images && note.contains(expected),
            "{trained:?}: {} images, {note}",
            samples.len()
        );
    }
    put(dir.path(), "test/a/0.png", png(0, 8));
    let (samples, note) = open(dir.path(), 0).unwrap().to_measure(None);
    assert_eq!((samples.len(), note), (1, None));
}

#[test]
fn labels_are_matched_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for (class, value) in [("a", 1), ("b", 2), ("c", 3)] {
        (0..2).for_each(|i| put(dir.path(), &format!("{class}/{i}.png"), png(value, 8)));
    }
    let labels = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    let mut data = open(dir.path(), 0).unwrap();
    data.relabel(&labels(&["c", "x", "a", "b"])).unwrap();
    assert_eq!(data.classes, ["c", "x", "a", "b"]);
    for sample in data.train.iter().chain(&data.test) {
        let value = sample.image(&Limits::default()).unwrap().rgb()[0];
        assert_eq!(sample.class(), [2, 3, 0][usize::from(value) - 1]);
    }
    let refused =
        |names: &[&str]| open(dir.path(), 0).unwrap().relabel(&labels(names)).unwrap_err().to_string();
    let message = refused(&["a", "x0", "x1", "x2", "x3", "x4"]);
    assert!(message.contains(r#""b", "c", unknown to the model"#), "{message}");
    assert!(message.contains("and 1 more"), "{message}");
    let message = refused(&["a", "b", "b", "c"]);
    assert!(message.contains(r#"the label "b" is the name of 2 outputs"#), "{message}");
}
