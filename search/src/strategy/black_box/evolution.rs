//! Regularised evolution.

use super::{Evaluated, History, Proposal, Proposer, Strategy};
use crate::Result;
use crate::config::settings::settings;
use crate::config::unused::SHORT_TRAININGS;

settings! {
    /// Evolves trained samples: each child of a tournament's winner replaces the oldest member of the population (Real
    /// et al., AAAI 2019). It has no settings of its own.
    #[derive(Copy)]
    pub struct Evolution {}
}

impl Strategy for Evolution {
    fn settings(&self) -> Vec<&'static str> {
        let own = ["search.population.trainings", "search.population.size", "search.population.tournament"];
        own.into_iter().chain(SHORT_TRAININGS).collect()
    }

    fn ask(&self, history: &History, proposer: &mut Proposer<'_>) -> Result<Option<Proposal>> {
        let size = proposer.config.size.min(proposer.config.trainings);
        if history.trained.len() < size {
            return Ok(Some(Proposal::fitness(proposer.sample()?)));
        }
        next_child(&history.trained, size, proposer)
    }
}

/// Returns a child of the `size` youngest of the trained architectures, or `None` at the end of the search.
pub(super) fn next_child(
    trained: &[Evaluated],
    size: usize,
    proposer: &mut Proposer<'_>,
) -> Result<Option<Proposal>> {
    if trained.len() >= proposer.config.trainings {
        return Ok(None);
    }
    let genotype = proposer.child(&trained[trained.len() - size..])?;
    Ok(Some(Proposal::fitness(genotype)))
}
