//! Commands in README.md and docs/guide run, and links in the documents lead to files.
//!
//! Every block fenced as `sh` runs in order, page by page, in an empty folder. A block fenced as `sh no-run` is skipped: it
//! needs a GPU, a cluster, a server or a download. A page with the line `<!-- guide test: photos -->` starts with a folder
//! `photos/` of small images.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use image::{Rgb, RgbImage};
use milenas_tests::binary;

/// Largest number of lines of README.md.
const README_LINES: usize = 120;

/// Pages without commands to run.
const EXEMPT: [&str; 1] = ["docs/guide/README.md"];

/// Line of a page that asks for the folder `photos/`.
const PHOTOS: &str = "<!-- guide test: photos -->";

/// Root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Markdown files of a folder and, if `deep`, of the folders in it, sorted, relative to the root.
fn markdown(folder: &str, deep: bool) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
        if deep && path.is_dir() {
            found.extend(markdown(&name, deep));
        } else if path.extension().is_some_and(|end| end == "md") {
            found.push(name);
        }
    }
    found.sort();
    found
}

fn read(page: &str) -> String {
    fs::read_to_string(root().join(page)).unwrap()
}

/// A fenced block: its info string, its text, and the number of its first line.
struct Block {
    info: String,
    text: String,
    line: usize,
}

/// Fenced blocks of a page, in order.
fn blocks(page: &str, text: &str) -> Vec<Block> {
    let (mut found, mut open) = (Vec::new(), None::<Block>);
    for (i, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(info), None) => {
                open = Some(Block { info: info.trim().to_string(), text: String::new(), line: i + 2 });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => (),
        }
    }
    assert!(open.is_none(), "{page}: the last block has no end");
    found
}

/// Two classes of 40 training and 10 test images each, 48x36 pixels: green noise and gray noise.
fn photos(folder: &Path) {
    let mut state = 1_u32;
    let mut noise = |low: u32, high: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        u8::try_from(low + (state >> 16) % (high - low)).unwrap()
    };
    for (part, count) in [("train", 40), ("test", 10)] {
        for class in ["leaf", "stone"] {
            let class_folder = folder.join("photos").join(part).join(class);
            fs::create_dir_all(&class_folder).unwrap();
            for i in 0..count {
                let mut image = RgbImage::new(48, 36);
                for pixel in image.pixels_mut() {
                    let gray = noise(80, 200);
                    *pixel = match class {
                        "leaf" => Rgb([noise(0, 80), noise(120, 220), noise(0, 80)]),
                        _ => Rgb([gray; 3]),
                    };
                }
                image.save(class_folder.join(format!("{i:02}.png"))).unwrap();
            }
        }
    }
}

/// Runs the commands of a page in a folder of its own. Returns a description of the block that fails.
#[cfg(unix)]
fn run(page: &str) -> Result<(), String> {
    let (text, start) = (read(page), Instant::now());
    let folder = tempfile::tempdir().unwrap();
    if text.lines().any(|line| line == PHOTOS) {
        photos(folder.path());
    }
    let programs = ["milenas-search", "milenas-export", "milenas-infer"].map(binary);
    let programs = programs.iter().map(|path| path.parent().unwrap().to_path_buf());
    let system = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(programs.chain(std::env::split_paths(&system))).unwrap();
    let commands: Vec<Block> = blocks(page, &text).into_iter().filter(|block| block.info == "sh").collect();
    if commands.is_empty() && !EXEMPT.contains(&page) {
        return Err(format!("{page}: no block of commands runs"));
    }
    for block in &commands {
        let done = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &block.text])
            .current_dir(folder.path())
            .env("PATH", &path)
            .output()
            .unwrap();
        if !done.status.success() {
            let shown = [&done.stdout, &done.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            return Err(format!(
                "{page}, line {}: {}\n{}\nstdout:\n{}\nstderr:\n{}",
                block.line, done.status, block.text, shown[0], shown[1]
            ));
        }
    }
    eprintln!("{page}: {} blocks in {:.1} s", commands.len(), start.elapsed().as_secs_f64());
    Ok(())
}

#[cfg(unix)]
#[test]
fn commands_of_the_guide_run() {
    let pages = ["README.md".to_string()].into_iter().chain(markdown("docs/guide", false));
    let failed: Vec<String> = pages.filter_map(|page| run(&page).err()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= README_LINES, "README.md has {lines} lines, expected at most {README_LINES}");
}

/// Targets of the links and images of a page, without its code.
fn links(text: &str) -> Vec<String> {
    let (mut found, mut code) = (Vec::new(), false);
    for line in text.lines() {
        if line.starts_with("```") {
            code = !code;
        } else if !code {
            let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            found.extend(targets.map(String::from));
        }
    }
    found
}

/// Anchor that a heading gets: lower case, hyphens for spaces, no punctuation.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// Whether a page has a heading with this anchor.
fn has_anchor(page: &Path, wanted: &str) -> bool {
    let text = fs::read_to_string(page).unwrap();
    let mut headings = text.lines().filter(|line| line.starts_with('#'));
    headings.any(|line| anchor(line.trim_start_matches('#').trim()) == wanted)
}

#[test]
fn links_lead_to_files() {
    let pages = markdown("", false).into_iter().chain(markdown("docs", true));
    let mut broken = Vec::new();
    for page in pages {
        for link in links(&read(&page)) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, part) = link.split_once('#').unwrap_or((&link, ""));
            let target: PathBuf = match path {
                "" => root().join(&page),
                path => root().join(&page).parent().unwrap().join(path),
            };
            if !target.exists() || (!part.is_empty() && !has_anchor(&target, part)) {
                broken.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "links without a target:\n{}", broken.join("\n"));
}

#[test]
fn blocks_are_found_by_their_info_string() {
    let text = "# A\n```sh\na\nb\n```\n```sh no-run\nc\n```\n```text\nd\n```\n";
    let found: Vec<_> =
        blocks("a page", text).into_iter().map(|block| (block.info, block.text, block.line)).collect();
    let expected = [("sh", "a\nb\n", 3), ("sh no-run", "c\n", 7), ("text", "d\n", 10)];
    assert_eq!(found, expected.map(|(info, text, line)| (info.to_string(), text.to_string(), line)));
    assert_eq!(anchor("8 bits, `--int8`"), "8-bits---int8");
    assert_eq!(links("[a](b.md) ![c](d.svg)\n```\n[x](y)\n```\n"), ["b.md", "d.svg"]);
}
