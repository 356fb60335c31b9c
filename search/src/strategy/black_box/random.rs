//! Random search.

use super::{By, History, PopulationConfig, Proposal, Proposer, Strategy};
use crate::Result;
use crate::config::settings::settings;
use crate::score::Score;

settings! {
    /// Takes the fittest of a few random samples. It has no settings of its own.
    #[derive(Copy)]
    pub struct Random {}
}

impl Strategy for Random {
    fn score(&self) -> Option<&'static dyn Score> {
        None
    }

    fn trains(&self) -> bool {
        true
    }

    fn evaluations(&self, by: By, config: &PopulationConfig) -> usize {
        if by == By::Fitness { config.trainings } else { 0 }
    }

    fn ask(&self, history: &History, proposer: &mut Proposer<'_>) -> Result<Option<Proposal>> {
        if history.trained.len() == proposer.config.trainings {
            return Ok(None);
        }
        Ok(Some(Proposal { genotype: proposer.sample()?, by: By::Fitness }))
    }
}
