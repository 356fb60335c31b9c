//! Measure a model on labelled images.

use std::sync::mpsc::sync_channel;
use std::thread::spawn;

use anyhow::Result;
use milenas_infer::Error;
use milenas_infer::model::Classifier;
use milenas_infer::pipeline::{Times, run};
use milenas_models::images::Source;
use milenas_models::metrics::{Ranked, Scores};

use crate::cli::Evaluate;

pub(super) fn execute(asked: &Evaluate) -> Result<bool> {
    let model = Classifier::load(&asked.model, false)?;
    let source = Source::parse(&asked.data)?;
    let dataset = source.open(model.seed.unwrap_or_default())?;
    if dataset.classes != model.labels {
        let (found, expected) = (dataset.classes, model.labels);
        return Err(Error::Classes { source_name: source.to_string(), found, expected }.into());
    }
    let (send, items) = sync_channel(1024);
    spawn(move || dataset.test.into_iter().try_for_each(|sample| send.send(sample)));
    let (mut ranked, mut bad) = (Vec::new(), Vec::new());
    run(&model, &super::plan(asked.sizes), &Times::default(), items, |batch| {
        for one in batch {
            match one.answer {
                Ok(answer) => ranked.push(Ranked::new(&answer.outputs, one.item.class())),
                Err(reason) => bad.push(reason),
            }
        }
        Ok(())
    })?;
    bad.iter().for_each(|reason| eprintln!("left out: {reason}"));
    let scores = Scores::new(&ranked, &model.labels);
    match asked.json {
        true => println!("{}", serde_json::to_string(&scores)?),
        false => print!("{scores}"),
    }
    Ok(bad.is_empty())
}
