//! Searches a cell on the built-in digits for two epochs: `cargo run -p milenas-search --example search_digits -- FOLDER`
#![allow(clippy::print_stdout)]

use std::path::Path;

use milenas_models::images::Source;
use milenas_search::config::Config;
use milenas_search::run::{Data, open_search, run_search};
use milenas_search::strategy::ProgressSink;
use milenas_search::supernet::DeviceSpec;

struct Dots;

impl ProgressSink for Dots {
    fn begin(&mut self, epoch: usize, epochs: usize, steps: usize, _done: usize) {
        println!("epoch {} of {epochs}, {steps} steps", epoch + 1);
    }

    fn step(&mut self, _loss: f64, _images: usize) {}
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: search_digits FOLDER")?;
    let settings = ["search.epochs=2", "search.channels=4", "search.layers=3", "augment.flip=false"];
    let config = Config::resolve("smoke", None, &settings.map(String::from))?;
    let data = Data::load(&Source::parse("digits")?, &config)?;
    let run = open_search(Path::new(&folder), &config, &data, DeviceSpec::Cpu, false)?;
    let found = run_search(&data, run, None, &mut Dots, &mut |record| {
        println!("validation accuracy {:.1} %", 100.0 * record.valid_accuracy);
    })?;
    println!("{}", found.genotype);
    Ok(())
}
