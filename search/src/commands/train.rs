//! `milenas-search train`.

use std::io::{Write, stdout};

use anyhow::Result;
use milenas_models::cost;
use milenas_models::images::Source;

use super::{read_data, read_genotype, resolve};
use crate::cli::RunOptions;
use crate::progress::Progress;
use crate::run::{CONFIG, WEIGHTS, open_train, run_train};

pub(super) fn train(genotype: &str, options: &RunOptions, resume: bool) -> Result<()> {
    let saved = options.out.join(CONFIG);
    let config = resolve(options, resume.then_some(&saved), Vec::new())?;
    let genotype = read_genotype(genotype)?;
    let source = Source::parse(&options.data)?;
    let mut progress = Progress::new("train");
    let data = read_data(&source, &config, &progress)?;
    let run = open_train(&options.out, &config, &data, &genotype, resume)?;
    if resume {
        let (epochs, steps) = run.done();
        progress.line(&format!("going on after {epochs} epochs and {steps} steps"));
    }
    let lines = Progress::new("train");
    let (model, accuracy) = run_train(&source, &data, run, &mut progress, &mut |r| {
        lines.line(&format!(
            "epoch {}: training loss {:.3} accuracy {:.1} %, test accuracy {:.2} %, {:.1} s",
            r.epoch + 1,
            r.train_loss,
            100.0 * r.train_accuracy,
            100.0 * r.test_accuracy,
            r.seconds
        ));
    })?;
    progress.finish();
    let (path, cost) = (options.out.join(WEIGHTS), cost(&model.graph));
    writeln!(
        stdout(),
        "test accuracy {:.2} %, {} parameters, {} multiply-accumulates per image",
        100.0 * accuracy,
        cost.params,
        cost.macs
    )?;
    writeln!(stdout(), "written to {}", path.display())?;
    writeln!(
        stdout(),
        "next: milenas-export {} -o {}",
        path.display(),
        path.with_file_name("model.onnx").display()
    )?;
    Ok(())
}
