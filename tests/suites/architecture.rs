//! The arrows between the crates, from `cargo metadata`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Crate to the crates of this workspace that it may use.
const ARROWS: [(&str, &[&str]); 5] = [
    ("milenas-models", &[]),
    ("milenas-search", &["milenas-models"]),
    ("milenas-export", &["milenas-models"]),
    ("milenas-infer", &["milenas-export", "milenas-models"]),
    ("milenas-tests", &["milenas-export", "milenas-infer", "milenas-models", "milenas-search"]),
];

fn packages() -> Vec<serde_json::Value> {
    let done = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// CUDA is for builds that ask for it.
#[test]
fn no_default_build_has_cuda() {
    let mut users = Vec::new();
    for package in packages() {
        let default = package["features"]["default"].to_string();
        assert!(!["cuda", "cudnn"].iter().any(|feature| default.contains(feature)), "{}", package["name"]);
        for dependency in package["dependencies"].as_array().unwrap() {
            if dependency["name"] == "cudarc" {
                users.push((package["name"].clone(), dependency["optional"].clone()));
            }
        }
    }
    assert_eq!(users, [("milenas-models".into(), true.into())]);
}

#[test]
fn crates_depend_as_the_architecture_says() {
    let mut found = BTreeMap::new();
    for package in packages() {
        let uses = package["dependencies"].as_array().unwrap().iter().filter_map(|d| d["name"].as_str());
        let mut uses: Vec<String> =
            uses.filter(|name| name.starts_with("milenas-")).map(String::from).collect();
        uses.sort();
        uses.dedup();
        found.insert(package["name"].as_str().unwrap().to_string(), uses);
    }
    let expected =
        ARROWS.map(|(name, uses)| (name.to_string(), uses.iter().map(|u| u.to_string()).collect()));
    assert_eq!(found, BTreeMap::from(expected));
}

/// The files that may hold unsafe code, as ARCHITECTURE.md says; every library denies it elsewhere.
#[test]
fn unsafe_code_is_where_the_architecture_says() {
    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => sources(&path, found),
                false if path.extension().is_some_and(|end| end == "rs") => found.push(path),
                false => (),
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (mut allowed, mut denied) = (Vec::new(), Vec::new());
    for library in ["models", "search", "export", "infer"] {
        let mut files = Vec::new();
        sources(&root.join(library).join("src"), &mut files);
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let name = file.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
            if text.contains("allow(unsafe_code)") {
                allowed.push(name);
            } else if text.contains("deny(unsafe_code)") {
                denied.push(name);
            }
        }
    }
    allowed.sort();
    denied.sort();
    assert_eq!(
        denied,
        ["export", "infer", "models", "search"].map(|library| format!("{library}/src/lib.rs"))
    );
    let expected = [
        "models/src/kernels/cpu/simd.rs",
        "models/src/kernels/cuda/blas.rs",
        "models/src/kernels/cuda/cudnn_enabled.rs",
        "models/src/kernels/cuda/device.rs",
        "models/src/kernels/cuda/enabled.rs",
        "models/src/kernels/matmul.rs",
        "search/src/memory.rs",
    ];
    assert_eq!(allowed, expected);
}
