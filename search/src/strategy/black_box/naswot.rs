//! Search without training (NASWOT).

use super::{History, Proposal, Proposer, Strategy};
use crate::Result;
use crate::config::settings::settings;
use crate::score::{Naswot, Score};

settings! {
    /// Takes the best score of many samples (Mellor et al., ICML 2021, algorithm 1). It has no settings of its own.
    #[derive(Copy)]
    pub struct NaswotSearch {}
}

impl Strategy for NaswotSearch {
    fn score(&self) -> Option<&'static dyn Score> {
        Some(&Naswot)
    }

    fn trains(&self) -> bool {
        false
    }

    fn settings(&self) -> Vec<&'static str> {
        vec!["search.population.draws"]
    }

    fn ask(&self, history: &History, proposer: &mut Proposer<'_>) -> Result<Option<Proposal>> {
        if history.scored.len() == proposer.config.draws {
            return Ok(None);
        }
        Ok(Some(Proposal::score(proposer.sample()?)))
    }
}
