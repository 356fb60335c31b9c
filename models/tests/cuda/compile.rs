//! Tests of the compilation of the kernels with NVRTC, which needs no GPU, and of the errors of a build that cannot
//! open a GPU.

use milenas_models::kernels::cuda::{SOURCES, compile, kernels, open, source};

#[test]
fn every_file_is_part_of_the_source() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/kernels/cuda");
    let names =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut found: Vec<String> = names.filter(|name| name.ends_with(".cu")).collect();
    let mut known = SOURCES.map(|(name, _)| name.to_string()).to_vec();
    found.sort();
    known.sort();
    assert_eq!(found, known);
}

/// Compiles for architectures from Ampere to Blackwell, and checks that no kernel keeps an array outside of registers
/// and shared memory. Runs only if `MILENAS_NVRTC` is set, as in `make check-cuda`.
#[test]
fn nvrtc_compiles_the_kernels() {
    if std::env::var_os("MILENAS_NVRTC").is_none() {
        eprintln!("skipped: MILENAS_NVRTC is not set; `make check-cuda` compiles the kernels with NVRTC");
        return;
    }
    let source = source();
    for architecture in ["compute_80", "compute_90", "compute_100"] {
        let ptx = compile(architecture).unwrap();
        for kernel in kernels(&source) {
            assert!(ptx.contains(&format!(".entry {kernel}(")), "{architecture}: {kernel}");
        }
        assert!(!ptx.contains(".local"), "{architecture}: an array in local memory");
    }
}

/// Runs only on a machine without a GPU.
#[test]
fn no_gpu_is_told_with_what_to_do() {
    if std::env::var_os("MILENAS_TEST_DEVICE").is_some() {
        return;
    }
    let Err(error) = open("cuda:99".parse().unwrap()) else { panic!("there is a hundredth GPU") };
    let error = error.to_string();
    assert!(error.contains("cuda") && error.contains("help: "), "{error}");
}
