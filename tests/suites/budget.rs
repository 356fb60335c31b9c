//! Memory and imbalance, output before they hurt: the real programs under a limit of their address space, and a rare class.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;

use milenas_tests::{TINY, binary, succeed};

#[test]
fn what_does_not_fit_is_refused_before_it_is_allocated() {
    let folder = tempfile::tempdir().unwrap();
    let search = binary("milenas-search");
    for (command, settings) in [
        ("train --genotype DARTS_V2", "--set data.size=512 --set train.channels=4 --set train.layers=3"),
        ("run", "--set data.size=256"),
        ("run --mixture gumbel", "--set data.size=256"),
        ("run", "--set search.channels=4096"),
        ("train --genotype DARTS_V2", "--set train.channels=1024 --set train.layers=20"),
        ("run --space nasbench201", "--set data.size=256 --set search.layers=6"),
        ("train --genotype DARTS_V2", "--set data.size=2048"),
    ] {
        let line = format!(
            "ulimit -v 3000000; '{}' {command} --data digits --out '{}' {settings}",
            search.display(),
            folder.path().join("run").display()
        );
        let done = Command::new("sh").args(["-c", &line]).output().unwrap();
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains("error: memory: ") && stderr.contains("GiB") && stderr.contains("help: lower "),
            "{stderr}"
        );
        assert!(!folder.path().join("run").exists(), "nothing is left behind");
    }
}

#[test]
fn rare_classes_are_named_and_their_recall_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for (class, count) in [("common", 60), ("rare", 5)] {
        let to = folder.path().join("data").join(class);
        fs::create_dir_all(&to).unwrap();
        for i in 0..count {
            let pixels: Vec<u8> = (0..64).map(|at| (at * 3 + i * 7 + count) as u8).collect();
            fs::write(to.join(format!("{i}.pgm")), [&b"P5 8 8 255\n"[..], &pixels].concat()).unwrap();
        }
    }
    let train = succeed(
        folder.path(),
        &format!("milenas-search train --genotype DARTS_V2 --data data --out network {TINY}"),
    );
    assert!(train.err.contains("imbalanced: few training images of rare (4)"), "{}", train.err);
    assert!(train.out.contains("recall: ") && train.out.contains("% of 12"), "{}", train.out);
    let search = succeed(folder.path(), &format!("milenas-search run --data data --out search {TINY}"));
    assert!(
        search.err.contains("imbalanced") && search.out.contains("validation recall: "),
        "{}",
        search.out
    );
}

#[test]
fn a_training_without_fused_kernels_warns() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for (genotype, slow) in [("AmoebaNet", true), ("DARTS_V2", false)] {
        let train =
            format!("milenas-search train --genotype {genotype} --data digits --out {genotype} {TINY}");
        let output = succeed(root, &train);
        let warned = output.err.contains("warning: the fused kernels do not train this network");
        assert_eq!(warned, slow, "{genotype}: {}", output.err);
    }
}
