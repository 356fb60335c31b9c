//! Costs of an architecture as scores: sizes that every table of scores has beside them.

use milenas_models::cost;

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
