//! Random search.

use super::{History, Proposal, Proposer, Strategy};
use crate::Result;
use crate::config::settings::settings;

settings! {
    /// Takes the fittest of a few random samples. It has no settings of its own.
    #[derive(Copy)]
    pub struct Random {}
}

impl Strategy for Random {
    fn ask(&self, history: &History, proposer: &mut Proposer<'_>) -> Result<Option<Proposal>> {
        if history.trained.len() == proposer.config.trainings {
            return Ok(None);
        }
        Ok(Some(Proposal::fitness(proposer.sample()?)))
    }
}
