//! Helpers of this crate's integration tests.

use std::path::PathBuf;

/// Returns a folder of the shared material beside the repository (or in `MILENAS_SHARED`). Prints that the test is
/// skipped if there is none.
pub(crate) fn shared(folder: &str) -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared");
    let root = std::env::var_os("MILENAS_SHARED").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let path = root.join(folder);
    if !path.exists() {
        eprintln!("skipped: {} does not exist", path.display());
        return None;
    }
    Some(path)
}
