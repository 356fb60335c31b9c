//! Search for the library of ONNX Runtime.

use std::env::consts::{DLL_EXTENSION, DLL_PREFIX};
use std::env::var_os;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, Result};

/// Returns the path of the library: `asked`, else `ORT_DYLIB_PATH`, else the library of the Python package in
/// the active environment, in `./.venv` or of `python3`.
///
/// # Errors
/// [`Error::Unavailable`] if none is found, or if the named one does not exist.
pub(super) fn library(asked: Option<&Path>) -> Result<PathBuf> {
    let missing = |problem: String| Error::Unavailable {
        name: "ort",
        problem: format!(
            "{problem}. help: `pip install onnxruntime`, or name its library by setting `ort-lib` or ORT_DYLIB_PATH"
        ),
    };
    let variable = || var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()).map(PathBuf::from);
    if let Some(path) = asked.map(Path::to_path_buf).or_else(variable) {
        return match path.is_file() {
            true => Ok(path),
            false => Err(missing(format!("{} is not a file", path.display()))),
        };
    }
    let environments = var_os("VIRTUAL_ENV").map(PathBuf::from).into_iter().chain([".venv".into()]);
    let found = environments.flat_map(|environment| packages(&environment)).find_map(|at| within(&at));
    found
        .or_else(|| within(&python()?))
        .ok_or_else(|| missing(format!("no {DLL_PREFIX}onnxruntime of the Python package was found")))
}

/// Returns the folders in which an environment may have the package.
fn packages(environment: &Path) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(environment.join("lib")).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> =
        folders.map(|folder| folder.path().join("site-packages/onnxruntime")).collect();
    folders.sort();
    folders.push(environment.join("Lib/site-packages/onnxruntime"));
    folders
}

/// Returns the folder of the package that `python3` would import.
fn python() -> Option<PathBuf> {
    let code = "import importlib.util as u; print(u.find_spec('onnxruntime').submodule_search_locations[0])";
    let output =
        Command::new("python3").args(["-c", code]).output().ok().filter(|output| output.status.success())?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim_end()))
}

/// Returns the library in the folder of a package: `capi/libonnxruntime.so.1.23.2`, or its name on this
/// system.
fn within(package: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(package.join("capi")).ok()?.flatten().map(|file| file.path());
    let name = format!("{DLL_PREFIX}onnxruntime.");
    files
        .filter(|path| {
            let found = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            found.strip_prefix(&name).is_some_and(|rest| rest.split('.').any(|part| part == DLL_EXTENSION))
        })
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_of_a_package_is_told_from_its_neighbours() {
        let folder = tempfile::tempdir().unwrap();
        let capi = packages(folder.path()).pop().unwrap().join("capi");
        std::fs::create_dir_all(&capi).unwrap();
        let expected = format!("{DLL_PREFIX}onnxruntime.{DLL_EXTENSION}");
        let others = [
            format!("{DLL_PREFIX}onnxruntime_providers_shared.{DLL_EXTENSION}"),
            format!("{DLL_PREFIX}onnxruntime.txt"),
        ];
        for name in &others {
            std::fs::write(capi.join(name), "").unwrap();
        }
        assert_eq!(packages(folder.path()).iter().find_map(|at| within(at)), None);
        std::fs::write(capi.join(&expected), "").unwrap();
        assert_eq!(packages(folder.path()).iter().find_map(|at| within(at)), Some(capi.join(&expected)));
        assert_eq!(library(Some(&capi.join(&expected))).unwrap(), capi.join(&expected));
        let message = library(Some(&capi.join("none"))).unwrap_err().to_string();
        assert!(
            message.contains("none is not a file") && message.contains("pip install onnxruntime"),
            "{message}"
        );
    }
}
