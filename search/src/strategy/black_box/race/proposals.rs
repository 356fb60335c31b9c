//! Architectures that users propose for a race: published ones, files, and those that searches found.

use std::path::Path;

use milenas_models::genotype::published;
use milenas_models::space::Space;
use milenas_models::{Genotype, file};
use serde::Deserialize;

use crate::{Error, Result};

/// Largest genotype file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// Largest `metrics.jsonl` that is read, in bytes: ten thousand epochs of a search.
const MAX_METRICS: u64 = 64 << 20;
/// Number of the last different architectures of a search that are proposed beside its result.
const LAST: usize = 3;

/// Returns the architectures of a list: `published` for the published ones of the space, `none`, or files and names
/// separated by commas.
///
/// # Errors
/// Fails for a file that cannot be read, for an unknown name, and for an architecture of another space.
pub(super) fn proposed(list: &str, space: &'static dyn Space) -> Result<Vec<Genotype>> {
    let all = || published().iter().map(|(_, genotype)| genotype);
    match list {
        "none" => Ok(Vec::new()),
        "published" => Ok(all().filter(|genotype| space.contains(genotype)).cloned().collect()),
        names => names.split(',').map(|name| named(name.trim(), space)).collect(),
    }
}

/// Returns the architectures that searches found: the result of each run folder, and its last different ones.
///
/// # Errors
/// Fails for a folder without a finished search, and for an architecture of another space.
pub(super) fn found(runs: &str, space: &'static dyn Space) -> Result<Vec<Genotype>> {
    let mut all = Vec::new();
    for run in runs.split(',').map(str::trim).filter(|run| !run.is_empty()) {
        let path = Path::new(run);
        let result = path.join(crate::run::GENOTYPE);
        if !result.exists() {
            return Err(broken("propose_from", format!("{run} holds no finished search. help: name run folders with a {}", crate::run::GENOTYPE)));
        }
        let mut own = vec![read(&result, MAX_BYTES)?];
        own.extend(last(&path.join(crate::run::METRICS), &own[0])?);
        for genotype in own {
            all.push(of_space(genotype, run, space, "propose_from")?);
        }
    }
    Ok(all)
}

/// Line of `metrics.jsonl` of a search.
#[derive(Deserialize)]
struct Line {
    genotype: Option<Genotype>,
}

/// Returns the last different architectures of a search by gradients, newest first; none of other searches.
fn last(metrics: &Path, result: &Genotype) -> Result<Vec<Genotype>> {
    let mut found: Vec<Genotype> = Vec::new();
    if !metrics.exists() {
        return Ok(found);
    }
    let bytes = file::read(metrics, MAX_METRICS)?;
    for line in String::from_utf8_lossy(&bytes).lines().rev() {
        let line: Line = serde_json::from_str(line).map_err(|e| broken("propose_from", format!("{}: {e}", metrics.display())))?;
        let new = |genotype: &Genotype| genotype.class() != result.class() && found.iter().all(|known| known.class() != genotype.class());
        found.extend(line.genotype.filter(|genotype| new(genotype)));
        if found.len() == LAST {
            break;
        }
    }
    Ok(found)
}

/// Returns a genotype of a space by file or published name.
fn named(name: &str, space: &dyn Space) -> Result<Genotype> {
    let path = Path::new(name);
    let genotype = if path.exists() { read(path, MAX_BYTES)? } else { Genotype::named(name)? };
    of_space(genotype, name, space, "propose")
}

fn read(path: &Path, limit: u64) -> Result<Genotype> {
    Ok(Genotype::parse(&String::from_utf8_lossy(&file::read(path, limit)?), &path.display().to_string())?)
}

fn of_space(genotype: Genotype, name: &str, space: &dyn Space, key: &str) -> Result<Genotype> {
    if space.contains(&genotype) {
        return Ok(genotype);
    }
    let problem = format!("{name} is not in the space {}. help: propose genotypes of this space", space.name());
    Err(broken(key, problem))
}

fn broken(key: &str, problem: String) -> Error {
    Error::Config { place: format!("search.strategies.race.{key}"), problem }
}
