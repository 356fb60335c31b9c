//! What to type after a run: the same on the terminal and on its page.

use std::path::{Path, PathBuf};

use crate::run::{CONFIG, GENOTYPE, WEIGHTS};

/// Trains what the search in a folder found, at its configuration.
pub fn train(run: &Path, data: &str) -> String {
    // Without a slash at its end.
    let run: PathBuf = run.components().collect();
    let net = format!("{}-net", run.display());
    format!(
        "milenas-search train --genotype {} --config {} --data {} --out {}",
        path(&run.join(GENOTYPE)),
        path(&run.join(CONFIG)),
        quoted(data),
        quoted(&net)
    )
}

/// Compiles what was trained in a folder.
pub fn export(run: &Path) -> String {
    format!("milenas-export {} -o {}", path(&run.join(WEIGHTS)), path(&run.join("model.onnx")))
}

/// A path as [`quoted`] has it.
pub fn path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// As a word that a shell takes as it is.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%,=".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("/runs/a-1_b.c"), "/runs/a-1_b.c");
        for word in ["sp ace", "it's", "$HOME", "a;b", "*", ""] {
            let said = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", quoted(word))])
                .output();
            assert_eq!(String::from_utf8(said.unwrap().stdout).unwrap(), word);
        }
    }

    #[test]
    fn a_training_has_the_configuration_of_its_search() {
        assert_eq!(
            train(Path::new("my runs/a/"), "digits"),
            "milenas-search train --genotype 'my runs/a/genotype.json' --config 'my runs/a/config.toml' --data digits \
             --out 'my runs/a-net'"
        );
    }
}
