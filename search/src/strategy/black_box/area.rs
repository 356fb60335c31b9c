//! Regularised evolution with a start from scores (AREA).

use super::evolution::next_child;
use super::{History, PopulationConfig, Proposal, Proposer, Strategy};
use crate::Result;
use crate::config::settings::settings;
use crate::config::unused::SHORT_TRAININGS;
use crate::score::{Naswot, Score};

settings! {
    /// Evolves the architectures with the best scores of many samples (Mellor et al., ICML 2021, algorithm 2). It has no
    /// settings of its own.
    #[derive(Copy)]
    pub struct Area {}
}

impl Strategy for Area {
    fn score(&self) -> Option<&'static dyn Score> {
        Some(&Naswot)
    }

    fn settings(&self) -> Vec<&'static str> {
        ["search.population."].into_iter().chain(SHORT_TRAININGS).collect()
    }

    fn ask(&self, history: &History, proposer: &mut Proposer<'_>) -> Result<Option<Proposal>> {
        let PopulationConfig { draws, trainings, size, .. } = *proposer.config;
        if history.scored.len() < draws {
            return Ok(Some(Proposal::score(proposer.sample()?)));
        }
        let mut scored: Vec<_> = history.scored.iter().collect();
        scored.sort_by(|a, b| b.value.total_cmp(&a.value));
        scored.dedup_by(|a, b| a.genotype == b.genotype);
        scored.truncate(size.min(trainings));
        match scored.get(history.trained.len()) {
            Some(next) => Ok(Some(Proposal::fitness(next.genotype.clone()))),
            None => next_child(&history.trained, scored.len(), proposer),
        }
    }
}
