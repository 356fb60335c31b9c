//! What to type after a run: the same on the terminal and on its page.

use std::path::{Path, PathBuf};

use milenas_models::shell::{path, quoted};

use crate::run::{CONFIG, GENOTYPE, WEIGHTS};

/// Trains what the search in a folder found, at its configuration.
pub fn train(run: &Path, data: &str) -> String {
    // Without a slash at its end.
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

/// Compiles what was trained in a folder.
pub fn export(run: &Path) -> String {
    format!("milenas-export {} -o {}", path(&run.join(WEIGHTS)), path(&run.join("model.onnx")))
}

/// Compares the trainings in a folder.
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
