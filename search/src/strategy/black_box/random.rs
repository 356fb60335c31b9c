//! Random search.

use super::{History, Proposal, Proposer, Strategy};
use crate::Result;
use crate::config::settings::settings;
use crate::config::unused::SHORT_TRAININGS;

settings! {
    /// Takes the fittest of a few random samples. It has no settings of its own.
    #[derive(Copy)]
    pub struct Random {}
}

impl Strategy for Random {
    fn settings(&self) -> Vec<&'static str> {
        ["search.population.trainings"].into_iter().chain(SHORT_TRAININGS).collect()
    }

    fn ask(&self, history: &History, proposer: &mut Proposer<'_>) -> Result<Option<Proposal>> {
        if history.trained.len() == proposer.config.trainings {
            return Ok(None);
        }
        Ok(Some(Proposal::fitness(proposer.sample()?)))
    }
}
