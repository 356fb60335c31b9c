//! Costs of an architecture as scores: sizes that every table of scores has beside them.

use milenas_models::{Cost, assemble, cost};

use super::{Score, Subject};
use crate::Result;

/// The score `params`.
#[derive(Debug)]
pub struct Params;

impl Score for Params {
    fn name(&self) -> &'static str {
        "params"
    }

    fn doc(&self) -> &'static str {
        "number of parameters"
    }

    fn value(&self, subject: &mut Subject<'_>) -> Result<f64> {
        Ok(cost(subject.graph).params as f64)
    }
}

/// The score `macs`.
#[derive(Debug)]
pub struct Macs;

impl Score for Macs {
    fn name(&self) -> &'static str {
        "macs"
    }

    fn doc(&self) -> &'static str {
        "multiply-accumulates per image"
    }

    fn value(&self, subject: &mut Subject<'_>) -> Result<f64> {
        Ok(cost(subject.graph).macs as f64)
    }
}

/// The score `live_params`.
#[derive(Debug)]
pub struct LiveParams;

impl Score for LiveParams {
    fn name(&self) -> &'static str {
        "live_params"
    }

    fn doc(&self) -> &'static str {
        "number of parameters without operations that do not reach the output"
    }

    fn value(&self, subject: &mut Subject<'_>) -> Result<f64> {
        Ok(live(subject)?.params as f64)
    }
}

/// The score `live_macs`.
#[derive(Debug)]
pub struct LiveMacs;

impl Score for LiveMacs {
    fn name(&self) -> &'static str {
        "live_macs"
    }

    fn doc(&self) -> &'static str {
        "multiply-accumulates per image without operations that do not reach the output"
    }

    fn value(&self, subject: &mut Subject<'_>) -> Result<f64> {
        Ok(live(subject)?.macs as f64)
    }
}

/// Returns the cost of the operations that reach the output.
fn live(subject: &Subject<'_>) -> Result<Cost> {
    Ok(cost(&assemble(&subject.genotype.live(), subject.config)?))
}

/// The score `convolutions`.
#[derive(Debug)]
pub struct Convolutions;

impl Score for Convolutions {
    fn name(&self) -> &'static str {
        "convolutions"
    }

    fn doc(&self) -> &'static str {
        "number of convolutions in the cells"
    }

    fn value(&self, subject: &mut Subject<'_>) -> Result<f64> {
        Ok(subject.genotype.convolutions().iter().sum::<usize>() as f64)
    }
}
