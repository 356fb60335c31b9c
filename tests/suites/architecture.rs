//! The arrows between the crates, from `cargo metadata`.

use std::collections::BTreeMap;
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
        assert!(!package["features"]["default"].to_string().contains("cuda"), "{}", package["name"]);
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
