//! `milenas-search run`.

use anyhow::Result;
use milenas_models::images::Source;

use super::{read_data, resolve, sets_of};
use crate::cli::{RunOptions, SearchOptions};
use crate::progress::Progress;
use crate::run::{CONFIG, GENOTYPE, open_search, run_search};

pub(super) fn run(options: &RunOptions, search: &SearchOptions) -> Result<()> {
    let saved = options.out.join(CONFIG);
    let mut sets = sets_of(&search.rule);
    sets.extend(search.bilevel_epochs.map(|n| format!("search.bilevel_epochs={n}")));
    let config = resolve(options, search.resume.then_some(&saved), sets)?;
    let source = Source::parse(&options.data)?;
    let mut progress = Progress::new("search");
    let data = read_data(&source, &config, &progress)?;
    let run = open_search(&options.out, &config, &data, search.resume)?;
    if search.resume {
        let (epochs, steps) = run.done();
        progress.line(&format!("going on after {epochs} epochs and {steps} steps"));
    }
    let path = run.folder.join(GENOTYPE);
    let lines = Progress::new("search");
    let genotype = run_search(&data, run, &mut progress, &mut |r| {
        lines.line(&format!(
            "epoch {}: training loss {:.3} accuracy {:.1} %, validation accuracy {:.1} %, entropy {:.2} {:.2}, \
             convolutions {} {}, {:.1} s",
            r.epoch + 1,
            r.train_loss,
            100.0 * r.train_accuracy,
            100.0 * r.valid_accuracy,
            r.entropy[0],
            r.entropy[1],
            r.convolutions[0],
            r.convolutions[1],
            r.seconds
        ));
    })?;
    progress.finish();
    println!("{genotype}\nwritten to {}", path.display());
    println!(
        "next: milenas-search train --genotype {} --data {} --out {}-net",
        path.display(),
        options.data,
        options.out.display()
    );
    Ok(())
}
