//! Commands that follow a run, for the terminal and the report.

use std::path::{Path, PathBuf};

use milenas_models::shell::{path, quoted};

use crate::run::{CONFIG, GENOTYPE, WEIGHTS};

/// Returns the command that trains the genotype found by a search, with the configuration of the search.
pub fn train(run: &Path, data: &str) -> String {
    // Components drop a slash at the end.
    let run: PathBuf = run.components().collect();
    let net = PathBuf::from(format!("{}-net", run.display()));
    format!(
        "milenas-search train --genotype {} --config {} --data {} --out {}",
        path(&run.join(GENOTYPE)),
        path(&run.join(CONFIG)),
        quoted(data),
        path(&net)
    )
}

/// Returns the command that exports the trained network of a run.
pub fn export(run: &Path) -> String {
    format!("milenas-export {} -o {}", path(&run.join(WEIGHTS)), path(&run.join("model.onnx")))
}

/// Returns the command that compares the trainings in a folder.
pub fn report(runs: &Path) -> String {
    format!("milenas-search report {}", path(runs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_training_has_the_configuration_of_its_search() {
        assert_eq!(
            train(Path::new("my runs/a/"), "digits"),
            "milenas-search train --genotype 'my runs/a/genotype.json' --config 'my runs/a/config.toml' --data digits \
             --out 'my runs/a-net'"
        );
    }
}
