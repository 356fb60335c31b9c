//! Tests of other files in folders and archives, and of names that are not UTF-8.

use super::*;

/// The names of the images, and the line that reports the counts of skipped files.
fn skipped(root: &Path, inputs: &Inputs) -> (Vec<String>, String) {
    let mut skipped = Skipped::default();
    let mut names = Vec::new();
    let _ = inputs.walk(&mut skipped, &mut |item| {
        names.push(item.name().replace(&format!("{}/", root.display()), ""));
        ControlFlow::Continue(())
    });
    (names, skipped.to_string())
}

fn of(root: &Path, arguments: &[&str]) -> Inputs {
    let arguments: Vec<PathBuf> = arguments.iter().map(|a| root.join(a)).collect();
    Inputs::new(&arguments, None, b'\n').unwrap()
}

#[test]
fn other_files_are_counted_by_kind() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    put(
        root,
        &[
            "a.JPG",
            "a.MOV",
            "a.AAE",
            "a.CR2",
            "a.xmp",
            "scan.pdf",
            "notes.ipynb",
            "album.zip",
            "model.onnx",
            "model.onnx.data",
            "w.safetensors",
            "old.csv",
            "old.csv.done",
            "README",
            "Thumbs.db",
            "@eaDir/a.JPG/m.jpg",
            "$RECYCLE.BIN/x.jpg",
            "deep/b.heic",
            "deep/.picasa.ini",
            "results",
        ],
    );
    let inputs = of(root, &[""]).without(vec![root.join("results")]);
    let (names, line) = skipped(root, &inputs);
    assert_eq!(names, ["a.JPG", "deep/b.heic"]);
    let expected = "3 thumbnails and bins, 1 hidden name, 4 texts, 2 tables and results, 3 models, 1 video or sound, \
                    1 raw file, 1 document, 1 archive, 1 output of this run";
    assert_eq!(line, expected);
    // Explicitly named files are tried whatever their names.
    assert_eq!(
        skipped(root, &of(root, &["a.MOV", "README", "model.onnx"])).0,
        ["a.MOV", "README", "model.onnx"]
    );
    let (names, line) = skipped(root, &of(root, &["*.[JMC]*", "**/*.jpg"]));
    assert_eq!(
        (names, line.as_str()),
        (vec!["a.JPG".to_string()], "2 thumbnails and bins, 1 video or sound, 1 raw file")
    );
}

#[cfg(unix)]
#[test]
fn names_that_are_not_utf8_stay_different() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for name in [&b"pi\xe8ce.png"[..], b"pi\xe9ce.png", b"pi\\xE8ce.png", "pi\u{fffd}ce.png".as_bytes()] {
        fs::write(root.join(OsStr::from_bytes(name)), "x").unwrap();
    }
    let (names, _) = skipped(root, &of(root, &[""]));
    assert_eq!(names, ["pi\\x5CxE8ce.png", "pi\\xE8ce.png", "pi\\xE9ce.png", "pi\u{fffd}ce.png"]);
}

#[cfg(unix)]
#[test]
fn rings_of_links_end() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    put(root, &["a/0.png", "b/0.png", "c/0.png"]);
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "a")] {
        for link in ["one", "two"] {
            symlink(format!("../{to}"), root.join(from).join(link)).unwrap();
        }
    }
    let (names, line) = skipped(root, &of(root, &[""]));
    assert!(names.len() <= 21 && line.ends_with("links in a ring"), "{} names, {line}", names.len());
}

#[test]
fn a_shard_has_a_row_for_each_image() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    put(root, &["x"]);
    let mut builder = tar::Builder::new(Vec::new());
    for name in ["0.jpg", "0.cls", "0.json", "1.jpg", "1.cls", "._1.jpg"] {
        builder.append_path_with_name(root.join("x"), name).unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_entry_type(tar::EntryType::Link);
    builder.append_link(&mut header, "copy.jpg", "0.jpg").unwrap();
    fs::write(root.join("s.tar"), builder.into_inner().unwrap()).unwrap();
    let (names, line) = skipped(root, &of(root, &["s.tar"]));
    assert_eq!(names, ["s.tar:0.jpg", "s.tar:1.jpg", "s.tar:copy.jpg"]);
    assert_eq!(line, "1 thumbnail or bin, 3 tables and results");
}
