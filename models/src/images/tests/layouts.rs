//! Tests of folders as users have them: names of parts, files of operating systems, stray files, classes that a part
//! lacks.

use super::*;

/// Creates a folder with an image at each of the given paths, and an empty folder where a path ends in `/`.
fn made(paths: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for path in paths {
        match path.strip_suffix('/') {
            Some(folder) => fs::create_dir_all(dir.path().join(folder)).unwrap(),
            None => put(dir.path(), path, png(1, 8)),
        }
    }
    dir
}

fn read(paths: &[&str]) -> Dataset {
    open(made(paths).path(), 0).unwrap_or_else(|error| panic!("{paths:?}: {error}"))
}

fn refused(paths: &[&str]) -> String {
    open(made(paths).path(), 0).unwrap_err().to_string()
}

fn counts(data: &Dataset) -> (Vec<&str>, usize, usize) {
    (data.classes.iter().map(String::as_str).collect(), data.train.len(), data.test.len())
}

fn has_note(data: &Dataset, text: &str) -> bool {
    data.notes.iter().any(|note| note.contains(text))
}

#[test]
fn parts_have_many_names() {
    for (train, test) in [
        ("Training", "Testing"),
        ("training_set/training_set", "test_set/test_set"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("TrainSet", "ValidationSet"),
        ("train_images", "test_images"),
        ("asl_alphabet_train", "asl_alphabet_test"),
        ("train2017", "val2017"),
        ("data/archive/train", "data/archive/valid"),
        ("train", "hold-out"),
        ("trainset", "devset"),
        ("training_data/train", "training_data/test"),
    ] {
        let paths: Vec<String> = [(train, "a"), (train, "b"), (test, "a"), (test, "b")]
            .iter()
            .flat_map(|(part, class)| (0..2).map(move |i| format!("{part}/{class}/{i}.png")))
            .collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let data = read(&paths);
        assert_eq!(counts(&data), (vec!["a", "b"], 4, 4), "{train}, {test}");
        assert_eq!(data.held_out, None);
        let certain = train.ends_with("/train");
        assert_eq!(has_note(&data, "read as parts"), !certain, "{train}, {test}: {:?}", data.notes);
    }
}

#[test]
fn the_structure_tells_parts_from_classes() {
    let data = read(&["exam/0.png", "homework/0.png", "train/0.png", "test/0.png", "train/1.png"]);
    assert_eq!(data.classes, ["exam", "homework", "test", "train"]);
    assert!(has_note(&data, r#"read as classes: "test", "train""#), "{:?}", data.notes);
    let data = read(&["valid/0.png", "invalid/0.png"]);
    assert_eq!(data.classes, ["invalid", "valid"]);
    let data = read(&["toy_train/0.png", "toy_car/x/0.png"]);
    assert_eq!(data.classes, ["toy_car", "toy_train"]);

    for paths in [&["train/0.png", "test/0.png"][..], &["Training/0.png", "Testing/0.png", "val/0.png"]] {
        let message = refused(paths);
        assert!(message.contains("read as parts") && message.contains("read as classes"), "{message}");
    }
    let message = refused(&["Training/a/0.png", "Training/b/0.png", "Testing/c/0.png", "Testing/d/0.png"]);
    assert!(message.contains("no class in common") && message.contains("read as two classes"), "{message}");
    let message = refused(&["train/steam/0.png", "train/diesel/0.png", "bus/0.png", "car/0.png"]);
    assert!(message.contains(r#"rename "train" if it is a class"#), "{message}");
}

#[test]
fn folders_that_hold_the_same_folders_are_noted() {
    let data = read(&["color/a/0.png", "color/b/0.png", "gray/a/0.png", "gray/b/0.png"]);
    assert_eq!(data.classes, ["color", "gray"]);
    assert!(has_note(&data, r#"all contain the folders "a", "b""#), "{:?}", data.notes);
}

#[test]
fn parts_may_lie_in_classes() {
    let data =
        read(&["cat/train/0.png", "cat/test/0.png", "dog/train/0.png", "dog/test/0.png", "dog/test/1.png"]);
    assert_eq!(counts(&data), (vec!["cat", "dog"], 2, 3));
    assert!(has_note(&data, "CLASS/PART/FILE"));
    let message =
        refused(&["raw/train/a/0.png", "raw/test/a/0.png", "cut/train/a/0.png", "cut/test/a/0.png"]);
    assert!(message.contains("give the folder of one data set"), "{message}");
}

#[test]
fn a_test_part_without_classes_is_not_used() {
    for test in ["test/0.png", "test/test/0.png", "Test/unknown/0.png", "pred/0.png"] {
        let data = read(&["train/a/0.png", "train/a/1.png", "train/b/0.png", "train/b/1.png", test]);
        assert_eq!(counts(&data), (vec!["a", "b"], 2, 2), "{test}");
        assert_eq!(data.held_out, Some(0));
        assert!(has_note(&data, "its images have no labels and are not used"), "{test}: {:?}", data.notes);
    }
    // A labelled part is preferred to a flat one.
    let data = read(&["train/a/0.png", "train/b/0.png", "val/a/0.png", "val/b/0.png", "test/0.png"]);
    assert_eq!((counts(&data), data.held_out), ((vec!["a", "b"], 2, 2), None));
}

#[test]
fn a_test_part_may_lack_classes() {
    for more in [&["test/"][..], &["test/c/"]] {
        let paths =
            [&["train/a/0.png", "train/b/0.png", "train/c/0.png", "test/a/0.png", "test/b/0.png"], more]
                .concat();
        let data = read(&paths);
        assert_eq!(counts(&data), (vec!["a", "b", "c"], 3, 2));
        assert_eq!(data.notes, [r#"the test part has no image of "c""#]);
    }
    let many: Vec<String> = (0..9).map(|i| format!("test/more{i}/0.png")).collect();
    let mut paths = vec!["train/a/0.png", "train/b/0.png", "test/a/0.png"];
    paths.extend(many.iter().map(String::as_str));
    let message = refused(&paths);
    assert!(
        message.contains(r#"only in train ["b"]"#) && message.contains(r#""more4" and 4 more]"#),
        "{message}"
    );
}

#[test]
fn a_test_part_alone_is_to_measure_with() {
    let data = read(&["val/a/0.png", "val/b/0.png", "test/a/0.png", "test/b/0.png"]);
    assert_eq!(counts(&data), (vec!["a", "b"], 0, 2));
    assert!(has_note(&data, "the training part is missing"));
}

#[test]
fn leftovers_and_strays_are_counted_in_one_line() {
    let paths = [
        "a/0.png",
        "a/1.png",
        "a/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg",
        "b/0.png",
        "b/1.png",
        "#recycle/old.png",
        "$RECYCLE.BIN/old.png",
        "lost+found/",
        "System Volume Information/x.png",
        "b/._0.png",
        ".git/x.png",
        "top.png",
        "README",
        "best_model.h5",
        "logs/train.log",
        "__MACOSX/a/._0.png",
    ];
    let folder = made(&paths);
    let data = open(folder.path(), 0).unwrap();
    assert_eq!(counts(&data), (vec!["a", "b"], 2, 2));
    let expected = "skipped: 7 thumbnails and bins, 1 hidden name, 2 texts, 1 model, 1 file in no class, 1 folder without images";
    assert_eq!(data.notes, [expected]);
    let packed = open(&pack(folder.path(), ""), 0).unwrap();
    assert_eq!((packed.notes, packed.train.len()), (data.notes, 2));
}

#[test]
fn numbers_are_sorted_as_numbers() {
    let paths: Vec<String> = (0..12).flat_map(|i| [format!("{i}/0.png"), format!("{i}/1.png")]).collect();
    let data = read(&paths.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(data.classes, (0..12).map(|i| i.to_string()).collect::<Vec<_>>());
    assert!(data.train.iter().chain(&data.test).all(|s| s.name().contains(&format!("/{}/", s.class()))));
    assert_eq!(read(&["10/0.png", "2/0.png", "x/0.png"]).classes, ["10", "2", "x"]);
}

#[cfg(unix)]
#[test]
fn names_need_not_be_utf8_and_rings_end() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    let folder = made(&["train/a/0.png", "train/b/0.png", "test/a/0.png", "test/b/0.png"]);
    let name = OsStr::from_bytes(b"pi\xe8ce.png");
    fs::write(folder.path().join("train/a").join(name), png(3, 8)).unwrap();
    symlink("..", folder.path().join("train/b/up")).unwrap();
    let data = open(folder.path(), 0).unwrap();
    assert_eq!(counts(&data), (vec!["a", "b"], 3, 2));
    assert!(data.train[1].name().ends_with("train/a/pi\\xE8ce.png"), "{}", data.train[1].name());
    assert_eq!(data.train[1].image(&Limits::default()).unwrap().rgb()[0], 3);
    assert_eq!(data.notes, ["skipped: 1 link in a ring"]);
}
