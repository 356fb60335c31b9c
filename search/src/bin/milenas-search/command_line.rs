//! Wording of a next step as a command line.

use std::path::{Path, PathBuf};

use milenas_models::shell::{path, quoted};
use milenas_search::next::{NextStep, UNKNOWN_SOURCE};
use milenas_search::run::{CONFIG, GENOTYPE, WEIGHTS};

/// Returns the command line of a step, quoted for a shell.
pub fn command_line(step: &NextStep) -> String {
    let source = |data: &Option<String>| quoted(data.as_deref().unwrap_or(UNKNOWN_SOURCE));
    let option =
        |device: &Option<String>| device.as_ref().map(|name| format!(" --device {name}")).unwrap_or_default();
    match step {
        NextStep::ResumeSearch { run, data, device } => {
            let (data, device) = (source(data), option(device));
            format!("milenas-search run --data {data} --out {} --resume{device}", path(run))
        }
        NextStep::ResumeTraining { run, from_supernet, data, device } => {
            let from = from_supernet.as_ref().map(|search| format!(" --from-supernet {}", path(search)));
            let from = from.unwrap_or_default();
            let (genotype, data, device) = (path(&run.join(GENOTYPE)), source(data), option(device));
            let run = path(run);
            format!(
                "milenas-search train{from} --genotype {genotype} --data {data} --out {run} --resume{device}"
            )
        }
        NextStep::Train { search, data } => train(search, &source(data)),
        NextStep::Export { training } => {
            let [weights, model] = [WEIGHTS, "model.onnx"].map(|name| path(&training.join(name)));
            format!("milenas-export {weights} -o {model}")
        }
        NextStep::Compare { runs } => format!("milenas-search report {}", path(runs)),
    }
}

fn train(search: &Path, data: &str) -> String {
    // Components drop a slash at the end.
    let search: PathBuf = search.components().collect();
    let out = PathBuf::from(format!("{}-net", search.display()));
    format!(
        "milenas-search train --genotype {} --config {} --data {data} --out {}",
        path(&search.join(GENOTYPE)),
        path(&search.join(CONFIG)),
        path(&out)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_become_command_lines() {
        let run = PathBuf::from("my runs/a/");
        let (data, device) = (Some("my images/it's".to_string()), Some("cuda,tf32".to_string()));
        let resumed = |from_supernet| NextStep::ResumeTraining {
            run: "it's".into(),
            from_supernet,
            data: data.clone(),
            device: None,
        };
        for (step, expected) in [
            (
                NextStep::ResumeSearch { run: "a".into(), data: None, device: None },
                "milenas-search run --data SRC --out a --resume",
            ),
            (
                NextStep::ResumeSearch { run: "-a".into(), data: data.clone(), device },
                r"milenas-search run --data 'my images/it'\''s' --out ./-a --resume --device cuda,tf32",
            ),
            (
                resumed(None),
                r"milenas-search train --genotype 'it'\''s/genotype.json' --data 'my images/it'\''s' --out 'it'\''s' --resume",
            ),
            (
                resumed(Some("runs/s s".into())),
                r"milenas-search train --from-supernet 'runs/s s' --genotype 'it'\''s/genotype.json' --data 'my images/it'\''s' --out 'it'\''s' --resume",
            ),
            (
                NextStep::Train { search: run, data: Some("digits".into()) },
                "milenas-search train --genotype 'my runs/a/genotype.json' --config 'my runs/a/config.toml' --data digits \
                 --out 'my runs/a-net'",
            ),
            (
                NextStep::Export { training: "n".into() },
                "milenas-export n/weights.safetensors -o n/model.onnx",
            ),
            (NextStep::Compare { runs: "runs".into() }, "milenas-search report runs"),
        ] {
            assert_eq!(command_line(&step), expected);
        }
    }
}
