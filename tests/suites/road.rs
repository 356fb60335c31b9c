//! The whole road by the three binaries, on the built-in digits; twice the same, and different by another seed.

use std::fs;
use std::path::Path;

use milenas_tests::{TINY, succeed};

fn road(folder: &Path, name: &str, seed: u64) -> [Vec<u8>; 3] {
    let set = format!("--data digits --seed {seed} {TINY}");
    succeed(folder, &format!("milenas-search run --out {name}-search {set}"));
    succeed(
        folder,
        &format!("milenas-search train --genotype {name}-search/genotype.json --out {name} {set}"),
    );
    succeed(folder, &format!("milenas-export {name}/weights.safetensors -o {name}/model.onnx"));
    [
        format!("{name}-search/genotype.json"),
        format!("{name}/weights.safetensors"),
        format!("{name}/model.onnx"),
    ]
    .map(|file| fs::read(folder.join(file)).unwrap())
}

#[test]
fn same_seed_same_bytes_and_the_file_scores_as_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let [first, again, other] = [("a", 1), ("b", 1), ("c", 2)].map(|(name, seed)| road(folder, name, seed));
    assert_eq!(first[0], again[0], "genotype");
    assert!(first[1] == again[1] && first[2] == again[2], "weights and ONNX are the same bytes");
    assert!(first[1] != other[1], "another seed gives other weights");
    assert_ne!(first[0], other[0], "another seed gives another genotype");

    let before =
        succeed(folder, "milenas-search eval --weights a/weights.safetensors --data digits --json").out;
    let after = succeed(folder, "milenas-infer evaluate a/model.onnx digits --json").out;
    let [mut before, mut after]: [serde_json::Value; 2] =
        [before, after].map(|text| serde_json::from_str(&text).unwrap());
    // Counts are equal; confidence is a sum of floats, which compiling rounds otherwise.
    let calibration =
        [&mut before, &mut after].map(|scores| scores["calibration_error"].take().as_f64().unwrap());
    assert!((calibration[0] - calibration[1]).abs() < 1e-5, "{calibration:?}");
    assert_eq!(before, after);
    assert_eq!(after["images"], 360);
}
