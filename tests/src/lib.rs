//! Shared parts of the suites: the real binaries, a small model, and a browser.

pub mod browser;

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Output of a program.
#[derive(Debug)]
pub struct ProgramOutput {
    /// Its exit status.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

/// The path of a binary of this workspace, beside the running test.
///
/// # Panics
/// When it was not built: `cargo build --workspace` builds it.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let folder = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST");
    let path = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{} is not there: run `cargo build --workspace` first", path.display());
    path
}

/// Runs a binary in `folder`; arguments are separated by spaces.
///
/// # Panics
/// When it cannot be started.
pub fn run(folder: &Path, command: &str) -> ProgramOutput {
    let mut words = command.split(' ').filter(|w| !w.is_empty());
    let name = words.next().expect("a command");
    let done = Command::new(binary(name)).args(words).current_dir(folder).output().expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    ProgramOutput { code: done.status.code().unwrap_or(-1), out: text(done.stdout), err: text(done.stderr) }
}

/// [`run`] that must succeed.
///
/// # Panics
/// When it does not.
#[track_caller]
pub fn succeed(folder: &Path, command: &str) -> ProgramOutput {
    let output = run(folder, command);
    assert_eq!(output.code, 0, "{command}\n{}{}", output.out, output.err);
    output
}

/// The folder of data that is no part of the repository; it may be missing.
pub fn shared() -> PathBuf {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared"));
    std::env::var("MILENAS_SHARED").map_or_else(|_| beside(), PathBuf::from)
}

/// Waits for a process: its exit status, and the KiB that it held at most by the kernel's account; 0 where `/proc` does
/// not say it.
///
/// # Panics
/// When it is not done after `patience`; it is killed then.
pub fn peak_kib(mut child: Child, patience: Duration) -> (Option<i32>, u64) {
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let (start, mut most) = (Instant::now(), 0);
    loop {
        if let Some(done) = child.try_wait().expect("a child can be waited for") {
            return (done.code(), most);
        }
        if start.elapsed() > patience {
            let _ = child.kill();
            panic!("not done after {patience:?}");
        }
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let held = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        most = held.and_then(|held| held.split_whitespace().next()?.parse().ok()).unwrap_or(most);
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Kills a run once it has come as far as `done` says.
///
/// # Panics
/// When it ends before that.
#[track_caller]
pub fn kill_when(mut child: Child, mut done: impl FnMut() -> bool) {
    while !done() {
        let ended = child.try_wait().expect("a child can be waited for");
        assert!(ended.is_none(), "it ends before it is killed");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().and_then(|()| child.wait()).expect("it is killed");
}

/// Options that make a run as short as can be.
pub const TINY: &str = "--set search.epochs=1 --set search.steps=2 --set search.batch=8 --set search.layers=3 \
     --set train.epochs=1 --set train.steps=2 --set train.batch=8 --set train.channels=2 --set train.layers=3";
