//! `milenas-search analyze`: wiring, paths and cost of architectures, and other wirings of their operations.

use std::collections::BTreeMap;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use milenas_models::genotype::{Cell, Topology, Wiring};
use milenas_models::{Cost, Genotype, NetworkConfig, Skeleton, assemble, cost, file, receptive_field, space};
use milenas_search::run::GENOTYPE;
use serde::Serialize;

use super::read_genotype;
use crate::cli::AnalyzeOptions;

/// Analysis of an architecture.
#[derive(Debug, Serialize)]
struct Analysis {
    name: String,
    genotype: String,
    cells: Vec<CellAnalysis>,
    /// Parameters and multiply-accumulates without operations that do not reach the output.
    live: Cost,
    /// Rows and columns of the image that a pixel of the last feature map depends on, as if the image were unlimited.
    receptive_field: [usize; 2],
}

/// Analysis of a cell.
#[derive(Debug, Serialize)]
struct CellAnalysis {
    kind: &'static str,
    #[serde(flatten)]
    topology: Topology,
    /// Number of edges with each operation.
    operations: BTreeMap<&'static str, usize>,
}

impl CellAnalysis {
    fn new(kind: &'static str, cell: &Cell) -> Self {
        let mut operations = BTreeMap::new();
        cell.edges().iter().for_each(|edge| *operations.entry(edge.primitive.name()).or_insert(0) += 1);
        CellAnalysis { kind, topology: cell.topology(), operations }
    }
}

pub(super) fn analyze(options: &AnalyzeOptions) -> Result<()> {
    let space = space::named(&options.space)?;
    let mut all = Vec::new();
    for name in &options.genotypes {
        let folder = Path::new(name).join(GENOTYPE);
        let source = if folder.exists() { folder.display().to_string() } else { name.clone() };
        let genotype = read_genotype(&source, space)?;
        all.push((name.clone(), genotype.clone()));
        if let Some(count) = options.variants {
            all.extend(variants(name, &genotype, count)?);
        }
    }
    let files = options.out.as_deref().map(|out| write(out, &all)).transpose()?;
    let rows =
        all.iter().map(|(name, genotype)| analysis(name, genotype, options)).collect::<Result<Vec<_>>>()?;
    if options.json {
        writeln!(stdout(), "{}", serde_json::to_string(&rows)?)?;
        return Ok(());
    }
    rows.iter().try_for_each(print)?;
    if let Some(files) = files {
        let files: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
        writeln!(
            stdout(),
            "next: milenas-search compare --genotypes {} --seeds 2 --data SRC",
            files.join(",")
        )?;
    }
    Ok(())
}

/// Returns other wirings of the same operations, each once.
fn variants(name: &str, genotype: &Genotype, count: u64) -> Result<Vec<(String, Genotype)>> {
    let corners = [("widest".to_string(), Wiring::Widest), ("deepest".to_string(), Wiring::Deepest)];
    let random = (1..=count).map(|seed| (format!("wiring {seed}"), Wiring::Random(seed)));
    let mut found: Vec<(String, Genotype)> = Vec::new();
    for (wiring, of) in corners.into_iter().chain(random) {
        let other = genotype.rewired(of)?;
        if other.class() != genotype.class() && found.iter().all(|(_, known)| known.class() != other.class())
        {
            found.push((format!("{name}, {wiring}"), other));
        }
    }
    Ok(found)
}

/// Writes a genotype file for each architecture, and returns their paths.
fn write(out: &Path, all: &[(String, Genotype)]) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(out)?;
    let mut paths: Vec<PathBuf> = Vec::new();
    for (name, genotype) in all {
        let stem: String =
            name.chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { '-' }).collect();
        let path = out.join(format!("{}.json", stem.replace("--", "-")));
        if paths.contains(&path) {
            bail!("{}: two architectures have this file name. help: name each once", path.display());
        }
        file::write(&path, genotype.to_json().as_bytes())?;
        paths.push(path);
    }
    Ok(paths)
}

fn analysis(name: &str, genotype: &Genotype, options: &AnalyzeOptions) -> Result<Analysis> {
    let network = NetworkConfig {
        channels: options.channels,
        layers: options.layers,
        classes: 10,
        in_channels: 3,
        height: options.size,
        width: options.size,
        skeleton: Skeleton::Cifar,
    };
    let graph = assemble(&genotype.live(), &network)?;
    Ok(Analysis {
        name: name.into(),
        genotype: genotype.to_string(),
        cells: genotype.cells().map(|(kind, cell)| CellAnalysis::new(kind, cell)).collect(),
        live: cost(&graph),
        receptive_field: receptive_field(&graph),
    })
}

fn print(row: &Analysis) -> Result<()> {
    let mut out = stdout();
    let Analysis { name, genotype, cells, live, receptive_field: [height, width] } = row;
    writeln!(out, "{name}\n  {genotype}")?;
    for CellAnalysis { kind, topology, operations } in cells {
        let Topology { width, depth, paths, mean_path, fewest_convolutions, most_convolutions } = topology;
        let operations: Vec<String> =
            operations.iter().map(|(name, count)| format!("{count} {name}")).collect();
        writeln!(
            out,
            "  {kind:<7} width {width:.2}, depth {depth}, {paths} paths of {mean_path:.2} connections with {fewest_convolutions} to \
             {most_convolutions} convolutions; {}",
            operations.join(", ")
        )?;
    }
    writeln!(
        out,
        "  network {} parameters, {} multiply-accumulates, receptive field {height}x{width}",
        live.params, live.macs
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_differ_and_have_files() {
        let genotype = Genotype::named("DARTS_V2").unwrap();
        let mut all = vec![("DARTS_V2".to_string(), genotype.clone())];
        all.extend(variants("DARTS_V2", &genotype, 2).unwrap());
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["DARTS_V2", "DARTS_V2, widest", "DARTS_V2, deepest", "DARTS_V2, wiring 1", "DARTS_V2, wiring 2"]
        );
        let place = tempfile::tempdir().unwrap();
        let paths = write(place.path(), &all).unwrap();
        assert!(
            paths[1].ends_with("DARTS_V2-widest.json") && paths[3].ends_with("DARTS_V2-wiring-1.json"),
            "{paths:?}"
        );
        for (path, (_, genotype)) in paths.iter().zip(&all) {
            let text = std::fs::read_to_string(path).unwrap();
            assert_eq!(Genotype::parse(&text, "file").unwrap().class(), genotype.class());
        }
        // All operations on every edge are equal: no other wiring of them.
        let same = Genotype::parse(
            "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|",
            "arch",
        );
        assert!(variants("x", &same.unwrap(), 3).unwrap().is_empty());
    }
}
