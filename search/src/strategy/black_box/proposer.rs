//! Source of new architectures within the limits of a search.

use std::cmp::Reverse;
use std::collections::HashSet;

use milenas_models::space::Space;
use milenas_models::{Genotype, Rng};

use super::{Evaluated, Evaluator, PopulationConfig, RungSize, ShortRun};
use crate::{Error, Result};

/// Architecture within the limits, with its size.
#[derive(Clone, Debug, PartialEq)]
pub struct SizedGenotype {
    /// The architecture.
    pub genotype: Genotype,
    /// Multiply-accumulates, or parameters if they are limited, without operations that do not reach the output.
    pub size: u64,
}

/// Source of new architectures within the limits of a search.
pub struct Proposer<'a> {
    /// Search space.
    pub space: &'static dyn Space,
    /// Sizes of the search.
    pub config: &'a PopulationConfig,
    pub(super) rng: &'a mut Rng,
    pub(super) evaluator: &'a mut dyn Evaluator,
    pub(super) pool: &'a mut Option<Vec<SizedGenotype>>,
}

/// Largest number of architectures of a space that are listed; of a larger space some are drawn.
const LISTED: usize = 1 << 17;

/// Number of draws without a new architecture after which a space is assumed to have no more.
const MISSES: usize = 1000;

impl Proposer<'_> {
    /// Returns a uniform sample of the space.
    ///
    /// # Errors
    /// Fails if no sample is within the limits.
    pub fn sample(&mut self) -> Result<Genotype> {
        let Proposer { space, rng, evaluator, .. } = self;
        evaluator.pick(&mut || Ok(space.sample(rng)?))
    }

    /// Returns a mutant of the winner of a tournament: the fittest of some uniformly drawn members of `population`, the
    /// first drawn on ties.
    ///
    /// # Errors
    /// Fails if no mutant is within the limits.
    pub fn child(&mut self, population: &[Evaluated]) -> Result<Genotype> {
        let Proposer { space, config, rng, evaluator, .. } = self;
        let entrants = (0..config.tournament.max(1)).map(|_| rng.below(population.len()));
        let fitter =
            |best: usize, i: usize| if population[i].value > population[best].value { i } else { best };
        let parent = entrants.reduce(fitter).unwrap_or(0);
        evaluator.pick(&mut || Ok(space.mutate(&population[parent].genotype, rng)?))
    }

    /// Returns different networks within the limits, largest first: all of a small space, else `draws` of an evolution
    /// towards larger ones. Networks without a path from input to output are omitted. Later calls return the same list.
    ///
    /// # Errors
    /// Fails if none is within the limits.
    pub fn largest(&mut self, draws: usize) -> Result<&[SizedGenotype]> {
        if self.pool.is_none() {
            let mut found = match self.space.count().filter(|count| *count <= LISTED) {
                Some(count) => self.listed(count)?,
                None => self.evolved(draws)?,
            };
            if found.is_empty() {
                // Explains the limits, unless a sample is within them after all.
                let genotype = self.sample()?;
                found.extend(self.sized(genotype)?);
            }
            if found.is_empty() {
                let problem = "no network with a path from input to output was found within the limits";
                return Err(Error::Data { problem: format!("{problem}. help: raise the limits") });
            }
            found.sort_by_key(|sized| Reverse(sized.size));
            *self.pool = Some(found);
        }
        Ok(self.pool.as_deref().unwrap_or_default())
    }

    fn listed(&mut self, count: usize) -> Result<Vec<SizedGenotype>> {
        let mut seen = HashSet::new();
        let all = (0..count).map(|index| Ok(self.space.nth(index)?)).collect::<Result<Vec<_>>>()?;
        let new = all.into_iter().filter(|genotype| seen.insert(genotype.class())).collect::<Vec<_>>();
        new.into_iter().filter_map(|genotype| self.sized(genotype).transpose()).collect()
    }

    fn evolved(&mut self, draws: usize) -> Result<Vec<SizedGenotype>> {
        let (mut found, mut seen, mut misses): (Vec<SizedGenotype>, _, _) = (Vec::new(), HashSet::new(), 0);
        while found.len() < draws && misses < MISSES {
            let Proposer { space, config, rng, .. } = self;
            // The first quarter is a uniform sample.
            let genotype = if found.len() < draws.div_ceil(4) {
                space.sample(rng)?
            } else {
                let entrants = (0..config.tournament.max(1)).map(|_| rng.below(found.len()));
                let parent = entrants.max_by_key(|i| found[*i].size).unwrap_or(0);
                space.mutate(&found[parent].genotype, rng)?
            };
            let new = if seen.insert(genotype.class()) { self.sized(genotype)? } else { None };
            misses = if new.is_some() { 0 } else { misses + 1 };
            found.extend(new);
        }
        Ok(found)
    }

    /// Returns an architecture with its size, or `None` outside the limits and for a network without a path.
    ///
    /// # Errors
    /// Fails if the network cannot be assembled.
    pub fn sized(&mut self, genotype: Genotype) -> Result<Option<SizedGenotype>> {
        if genotype.is_dead() {
            return Ok(None);
        }
        let size = self.evaluator.live_size(&genotype)?;
        Ok(size.map(|size| SizedGenotype { genotype, size }))
    }

    /// Returns the trainings of each rung. A time budget shortens all of them alike.
    ///
    /// # Errors
    /// Fails if a stored plan cannot be read or written.
    pub fn plan(&mut self, rungs: &[RungSize], largest: &Genotype) -> Result<Vec<ShortRun>> {
        self.evaluator.plan(rungs, largest)
    }
}
