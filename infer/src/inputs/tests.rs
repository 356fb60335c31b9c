//! Tests with folders, lists, patterns and archives that are created for each test.

mod skips;

use std::fs;

use super::*;

fn put(root: &Path, names: &[&str]) {
    for name in names {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
}

/// The names of the listed items relative to `root`. An item that cannot be used includes its reason.
fn names(root: &Path, inputs: &Inputs) -> Vec<String> {
    let mut names = Vec::new();
    let prefix = format!("{}/", root.display());
    let _ = inputs.walk(&mut Skipped::default(), &mut |item| {
        let name = item.name().replace(&prefix, "");
        names.push(match item {
            Item::Image(_) => name,
            Item::Unusable { reason, .. } => format!("{name}: {reason}"),
        });
        ControlFlow::Continue(())
    });
    names
}

fn given(root: &Path, arguments: &[&str]) -> Result<Vec<String>> {
    let arguments: Vec<PathBuf> = arguments.iter().map(|a| root.join(a)).collect();
    Ok(names(root, &Inputs::new(&arguments, None, b'\n')?))
}

#[test]
fn folders_are_sorted_and_files_keep_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    put(root, &["b/2.png", "b/1.jpg", "a.png", "b/notes.txt", ".hidden.png", "b/.cache/3.png"]);
    assert_eq!(given(root, &["b/2.png", ""]).unwrap(), ["b/2.png", "a.png", "b/1.jpg", "b/2.png"]);
    assert!(matches!(given(root, &["missing"]), Err(Error::Input { .. })));
    assert!(matches!(Inputs::new(&[], None, b'\n'), Err(Error::Nothing)));
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_not_in_a_circle() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    put(root, &["images/a.png", "elsewhere/b.png"]);
    std::os::unix::fs::symlink(root.join("images"), root.join("images/again")).unwrap();
    std::os::unix::fs::symlink(root.join("elsewhere"), root.join("images/other")).unwrap();
    std::os::unix::fs::symlink(root.join("nothing"), root.join("images/z.png")).unwrap();
    let expected = ["images/a.png", "images/other/b.png", "images/z.png"];
    assert_eq!(given(root, &["images"]).unwrap(), expected);
}

#[test]
fn patterns_match_what_is_no_path() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    put(root, &["a/1.png", "a/2.jpg", "b/3.png", "b/4.png", "c[1].png"]);
    assert_eq!(given(root, &["*/*.png"]).unwrap(), ["a/1.png", "b/3.png", "b/4.png"]);
    assert_eq!(given(root, &["[ab]"]).unwrap(), ["a/1.png", "a/2.jpg", "b/3.png", "b/4.png"]);
    assert_eq!(given(root, &["c[1].png"]).unwrap(), ["c[1].png"]);
    assert!(matches!(given(root, &["*/*.gif"]), Err(Error::Pattern { .. })));
}

#[test]
fn lists_name_files_and_folders() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    put(root, &["a/1.png", "a/2.png", "line\nfeed.png"]);
    let list = root.join("list");
    for (text, separator) in [("{}/a\r\n\n{}/a/1.png\n{}/gone.png", '\n'), ("{}/line\nfeed.png\0", '\0')] {
        fs::write(&list, text.replace("{}", &root.display().to_string())).unwrap();
        let inputs = Inputs::new(&[], Some(&list), separator as u8).unwrap();
        let expected = match separator {
            '\n' => vec!["a/1.png", "a/2.png", "a/1.png", "gone.png"],
            _ => vec!["line\nfeed.png"],
        };
        assert_eq!(names(root, &inputs), expected);
        assert!(inputs.repeatable());
    }
    fs::write(&list, vec![b'x'; 1 << 17]).unwrap();
    let inputs = Inputs::new(&[], Some(&list), b'\n').unwrap();
    assert_eq!(names(root, &inputs), ["list: a path of more than 65536 bytes; is it a list of paths?"]);
}

#[test]
fn archives_are_opened_by_content_and_cut_ones_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    put(root, &["in/b.png", "in/a.png", "in/notes.txt"]);
    let mut builder = tar::Builder::new(Vec::new());
    for name in ["b.png", "a.png", "notes.txt"] {
        builder.append_path_with_name(root.join("in").join(name), format!("./x/{name}")).unwrap();
    }
    let bytes = builder.into_inner().unwrap();
    fs::create_dir(root.join("shards")).unwrap();
    fs::write(root.join("shards/1.tar"), &bytes).unwrap();
    fs::write(root.join("shard"), &bytes).unwrap();
    assert_eq!(given(root, &["shard"]).unwrap(), ["shard:x/b.png", "shard:x/a.png"]);
    assert_eq!(given(root, &["shards"]).unwrap(), ["shards/1.tar:x/b.png", "shards/1.tar:x/a.png"]);
    fs::write(root.join("shard"), &bytes[..1024]).unwrap();
    let cut = given(root, &["shard"]).unwrap();
    assert!(cut.len() == 2 && cut[1].contains("truncated"), "{cut:?}");
    fs::write(root.join("x.tar.gz"), [0x1f, 0x8b, 8, 0]).unwrap();
    assert!(given(root, &["x.tar.gz"]).unwrap_err().to_string().contains("unpack the compression"));
}

#[test]
fn a_listing_ends_when_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), &["a/1.png", "a/2.png", "b/3.png"]);
    let inputs = Inputs::new(&[folder.path().into()], None, b'\n').unwrap();
    let mut seen = 0;
    let ended = inputs.walk(&mut Skipped::default(), &mut |_| {
        seen += 1;
        if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(ended.is_break() && seen == 2);
}
