//! Race of the largest networks.

mod proposals;
mod standings;

use std::collections::HashSet;

use milenas_models::Genotype;
use milenas_models::input::ImageSize;
use milenas_models::space::Space;

use super::{
    By, Evaluated, History, PopulationConfig, Proposal, Proposer, RungSize, ShortRun, SizedGenotype, Strategy,
};
use crate::config::settings::settings;
use crate::optim::SgdConfig;
use crate::Result;
use crate::score::{JacobCov, Score, aggregate};

pub use standings::{CHANCE, standings};
use standings::{rung, strongest};

settings! {
    /// Trains the largest networks within the limits, and those with the best scores, in three rungs. Every training has a
    /// whole schedule. Scores and the first two rungs have smaller images. The network has the depth and the channels of `search.layers` and `search.channels`, because short
    /// networks hide differences of deep ones. The recipe was designed on the published accuracies of NAS-Bench-201
    /// for CIFAR-10.
    pub struct Race {
        /// Number of different architectures that are drawn in a space that is too large to be listed.
        draws: usize = 2000usize, in Range::Count;
        /// Number of the largest architectures that are scored by jacob_cov.
        scored: usize = 512usize, in Range::Count;
        /// Number of the largest architectures in the first rung. Scores order architectures of equal size.
        largest: usize = 24usize, in Range::Count;
        /// Number of further architectures in the first rung, by the aggregate of jacob_cov and size.
        aggregate: usize = 8usize;
        /// Architectures that are added to the first rung: published cells of the space, none, or files and names
        /// separated by commas.
        propose: String = "published", option "propose";
        /// Folders of finished searches, separated by commas. The result of each enters the first rung, and so do the last
        /// three different architectures of a gradient-based search.
        propose_from: String = "", option "propose-from";
        /// Number of architectures in the second rung.
        second: usize = 8usize, in Range::Count;
        /// Number of architectures in the third rung. The choice has the largest accuracy there; with `shrink` 1, the largest
        /// mean of rungs two and three.
        third: usize = 3usize, in Range::Count;
        /// Steps of a training in the first rung.
        steps_first: usize = 200usize, in Range::Count;
        /// Steps of a training in the second rung.
        steps_second: usize = 500usize, in Range::Count;
        /// Steps of a training in the third rung.
        steps_third: usize = 1600usize, in Range::Count;
        /// Number of random architectures of the size of the choice that are trained as in rung three: what chance gives. They
        /// are trained last and chosen never, and can be added when a finished run is resumed.
        random: usize = 0usize, option "random-cells", resume Resume::AnyValue;
        /// Divisor of the sides of the images in scores and in rungs one and two; 1 for whole images. It is lowered until
        /// sides have at least 12 pixels.
        shrink: usize = 2usize, in Range::Count;
        /// Images per step.
        batch: usize = 64usize, in Range::Count;
        /// Largest number of images of the validation split that evaluate a training.
        valid_images: usize = 10_000usize, in Range::Count;
        /// Optimiser of the weights.
        weights: SgdConfig = SgdConfig { lr: 0.1, decay: 5e-4, ..SgdConfig::default() };
    }
}

/// Smallest side of shrunk images, in pixels.
const SMALLEST: usize = 12;

/// Largest relative difference of the size of random architectures from that of the choice.
const SAME_SIZE: f64 = 0.05;

/// Number of samples after which no further architecture is assumed to have the size of the choice.
const TRIES: usize = 10_000;

impl Strategy for Race {
    fn score(&self) -> Option<&'static dyn Score> {
        Some(&JacobCov)
    }

    fn settings(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn shortens(&self) -> bool {
        true
    }

    fn evaluations(&self, by: By, _: &PopulationConfig) -> usize {
        match by {
            By::Score => self.scored,
            By::Fitness => self.largest + self.aggregate + self.second + self.third + self.random,
        }
    }

    fn ask(&self, history: &History, proposer: &mut Proposer<'_>) -> Result<Option<Proposal>> {
        let pool = proposer.largest(self.draws)?;
        let pool = pool[..pool.len().min(self.scored)].to_vec();
        if let Some(next) = pool.get(history.scored.len()) {
            return Ok(Some(Proposal::score(next.genotype.clone())));
        }
        let mut list = self.list(&pool, &history.scored);
        for genotype in self.proposals(proposer.space)? {
            let new = list.iter().all(|known| known.class() != genotype.class());
            list.extend(proposer.sized(genotype)?.filter(|_| new).map(|sized| sized.genotype));
        }
        let rungs = [
            RungSize { trainings: list.len(), steps: self.steps_first, whole: false },
            RungSize { trainings: self.second, steps: self.steps_second, whole: false },
            RungSize { trainings: self.third + self.random, steps: self.steps_third, whole: true },
        ];
        let mut entrants = list;
        let plan = proposer.plan(&rungs, &pool[0].genotype)?;
        for (&run, next) in plan.iter().zip([self.second, self.third, 0]) {
            let done = rung(&history.trained, run.rung);
            if let Some(genotype) = entrants.get(done.len()) {
                return Ok(Some(Proposal { genotype: genotype.clone(), by: By::Fitness, run: Some(run) }));
            }
            entrants = strongest(&done, next);
        }
        match (plan.last(), rung(&history.trained, CHANCE).len() < self.random) {
            (Some(last), true) => self.chance(ShortRun { rung: CHANCE, ..*last }, history, proposer),
            _ => Ok(None),
        }
    }

    fn choose(&self, history: &History) -> Option<Evaluated> {
        standings(&history.trained).into_iter().next()
    }

    fn check(&self, space: &'static dyn Space) -> Result<()> {
        self.proposals(space).map(|_| ())
    }
}

impl Race {
    /// Returns the size of the images in scores and in rungs one and two.
    pub fn small(&self, whole: ImageSize) -> ImageSize {
        let divided = |by: usize| ImageSize { height: whole.height / by, width: whole.width / by };
        let large = |size: &ImageSize| size.height.min(size.width) >= SMALLEST;
        (2..=self.shrink).rev().map(divided).find(large).unwrap_or(whole)
    }

    /// Returns the architectures that the user proposes.
    fn proposals(&self, space: &'static dyn Space) -> Result<Vec<Genotype>> {
        let mut all = proposals::proposed(&self.propose, space)?;
        all.extend(proposals::found(&self.propose_from, space)?);
        Ok(all)
    }

    /// Returns a random architecture of the size of the choice that was not trained yet, or `None` if none is found.
    fn chance(
        &self,
        run: ShortRun,
        history: &History,
        proposer: &mut Proposer<'_>,
    ) -> Result<Option<Proposal>> {
        let Some(choice) = self.choose(history) else { return Ok(None) };
        let Some(chosen) = proposer.sized(choice.genotype)? else { return Ok(None) };
        let trained: HashSet<_> = history.trained.iter().map(|found| found.genotype.class()).collect();
        for _ in 0..TRIES {
            // None within the limits was drawn.
            let Ok(genotype) = proposer.sample() else { return Ok(None) };
            if trained.contains(&genotype.class()) {
                continue;
            }
            let same = |sized: &SizedGenotype| sized.size.abs_diff(chosen.size) as f64 <= SAME_SIZE * chosen.size as f64;
            if let Some(SizedGenotype { genotype, .. }) = proposer.sized(genotype)?.filter(same) {
                return Ok(Some(Proposal { genotype, by: By::Fitness, run: Some(run) }));
            }
        }
        Ok(None)
    }

    /// Returns the architectures of the first rung, without proposed ones.
    fn list(&self, pool: &[SizedGenotype], scored: &[Evaluated]) -> Vec<Genotype> {
        let mut order: Vec<usize> = (0..pool.len()).collect();
        order.sort_by(|a, b| {
            let by_score = || scored[*b].value.total_cmp(&scored[*a].value);
            pool[*b].size.cmp(&pool[*a].size).then_with(by_score)
        });
        let scores: Vec<f64> = scored.iter().map(|found| found.value).collect();
        let together = aggregate(&[scores, pool.iter().map(|sized| sized.size as f64).collect()]);
        let mut list: Vec<usize> = order[..self.largest.min(order.len())].to_vec();
        order.sort_by(|a, b| together[*b].total_cmp(&together[*a]));
        let rest: Vec<usize> =
            order.into_iter().filter(|i| !list.contains(i)).take(self.aggregate).collect();
        list.extend(rest);
        list.into_iter().map(|i| pool[i].genotype.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use milenas_models::Rng;
    use milenas_models::space;

    use super::super::{Evaluator, PopulationOutcome, search};
    use super::*;

    const SMALL: fn() -> Race = || Race {
        scored: 40,
        largest: 5,
        aggregate: 3,
        second: 3,
        third: 2,
        draws: 60,
        propose: "none".into(),
        ..Race::default()
    };

    /// Evaluator with the number of skip connections as score and fitness, limited to a size.
    struct Counts {
        limit: Option<u64>,
        /// Side of the images in rung three.
        side: usize,
        seen: Vec<(Genotype, ShortRun)>,
    }

    impl Default for Counts {
        fn default() -> Self {
            Counts { limit: None, side: 16, seen: Vec::new() }
        }
    }

    fn size(genotype: &Genotype) -> u64 {
        genotype.live().convolutions().iter().sum::<usize>() as u64
    }

    fn skips(genotype: &Genotype) -> f64 {
        genotype.cells().map(|(_, cell)| cell.skips()).sum::<usize>() as f64
    }

    impl Evaluator for Counts {
        fn pick(&mut self, draw: &mut dyn FnMut() -> Result<Genotype>) -> Result<Genotype> {
            draw()
        }

        fn score(&mut self, genotype: &Genotype) -> Result<f64> {
            Ok(skips(genotype))
        }

        fn fitness(&mut self, genotype: &Genotype, run: Option<ShortRun>) -> Result<f64> {
            self.seen.push((genotype.clone(), run.unwrap()));
            // Rungs differ a little.
            Ok(skips(genotype) + 0.01 * run.unwrap().rung as f64)
        }

        fn live_size(&mut self, genotype: &Genotype) -> Result<Option<u64>> {
            Ok(Some(size(genotype)).filter(|size| self.limit.is_none_or(|limit| *size <= limit)))
        }

        fn plan(&mut self, rungs: &[RungSize], _: &Genotype) -> Result<Vec<ShortRun>> {
            let run = |(i, rung): (usize, &RungSize)| {
                let size = ImageSize::square(if rung.whole { self.side } else { 16 });
                ShortRun { rung: i + 1, steps: rung.steps, size, seed: 7 + i as u64 }
            };
            Ok(rungs.iter().enumerate().map(run).collect())
        }

        fn out_of_time(&self) -> bool {
            true
        }
    }

    fn run(race: &Race, space: &'static dyn Space, evaluator: &mut Counts) -> PopulationOutcome {
        search(race, space, &PopulationConfig::default(), &mut Rng::new(1, "race"), evaluator).unwrap()
    }

    #[test]
    fn rungs_keep_the_best_and_the_choice_is_the_mean_of_the_late_ones() {
        let mut evaluator = Counts::default();
        let outcome = run(&SMALL(), &space::NASBENCH201, &mut evaluator);
        assert!(!outcome.late);
        let rungs: Vec<usize> = evaluator.seen.iter().map(|(_, run)| run.rung).collect();
        assert_eq!(rungs, [[1; 8].as_slice(), &[2; 3], &[3; 2]].concat());
        let of = |number: usize| evaluator.seen.iter().filter(move |(_, run)| run.rung == number);
        let least = of(2).map(|(genotype, _)| skips(genotype)).fold(f64::INFINITY, f64::min);
        let all = of(1).filter(|(genotype, _)| !of(2).any(|(kept, _)| kept == genotype));
        assert!(all.map(|(genotype, _)| skips(genotype)).all(|value| value <= least));
        assert_eq!(outcome.chosen.value, skips(&outcome.chosen.genotype) + 0.025);
        assert_eq!(outcome.chosen.run.unwrap().rung, 3);
        // Rung two does not count if its images were smaller.
        let larger = run(&SMALL(), &space::NASBENCH201, &mut Counts { side: 32, ..Counts::default() });
        assert_eq!(larger.chosen.value, skips(&larger.chosen.genotype) + 0.03);
        // Random architectures of the same size are trained last, and chosen never.
        let mut evaluator = Counts::default();
        let random = run(&Race { random: 2, ..SMALL() }, &space::NASBENCH201, &mut evaluator);
        assert_eq!(random.chosen, outcome.chosen);
        let [.., one, two] = &evaluator.seen[..] else { panic!("{:?}", evaluator.seen) };
        assert!([one, two].iter().all(|(_, run)| (run.rung, run.steps) == (CHANCE, SMALL().steps_third)));
        assert!([one, two].iter().all(|(genotype, _)| size(genotype) == size(&outcome.chosen.genotype)));
        assert_ne!(one.0.class(), two.0.class());
        assert_eq!(evaluator.seen.len(), outcome.evaluated.len() + 2);
        // A second search is the same.
        assert_eq!(run(&SMALL(), &space::NASBENCH201, &mut Counts::default()).evaluated, outcome.evaluated);
    }

    #[test]
    fn images_shrink_to_twelve_pixels_at_least() {
        for (shrink, whole, small) in [(2, 32, 16), (2, 28, 14), (2, 23, 23), (3, 32, 16), (3, 40, 13), (1, 64, 64)] {
            let found = Race { shrink, ..Race::default() }.small(ImageSize::square(whole));
            assert_eq!(found, ImageSize::square(small), "{whole} by {shrink}");
        }
        let found = Race::default().small(ImageSize { height: 32, width: 40 });
        assert_eq!(found, ImageSize { height: 16, width: 20 });
    }

    /// The first rung has the largest networks; scores order those of equal size.
    #[test]
    fn the_list_is_the_largest_with_ties_by_score() {
        let mut evaluator = Counts::default();
        run(&SMALL(), &space::NASBENCH201, &mut evaluator);
        let first: Vec<&Genotype> = evaluator.seen[..5].iter().map(|(genotype, _)| genotype).collect();
        assert_eq!(size(first[0]), 6);
        assert!(first.windows(2).all(|w| (size(w[0]), skips(w[0])) >= (size(w[1]), skips(w[1]))));
        let classes: std::collections::HashSet<_> = first.iter().map(|genotype| genotype.class()).collect();
        assert_eq!(classes.len(), 5);
    }

    #[test]
    fn a_large_space_is_drawn_within_the_limit() {
        let race = Race { propose: "DARTS_V2, DARTS_V1".into(), ..SMALL() };
        let mut evaluator = Counts { limit: Some(9), ..Counts::default() };
        run(&race, &space::DARTS, &mut evaluator);
        assert!(evaluator.seen.iter().all(|(genotype, _)| size(genotype) <= 9));
        let proposed = Genotype::named("DARTS_V2").unwrap();
        let within = size(&proposed) <= 9;
        assert_eq!(evaluator.seen.iter().any(|(genotype, _)| *genotype == proposed), within);
        let foreign = Race { propose: "NASNet".into(), ..SMALL() };
        let error = foreign.check(&space::DARTS).unwrap_err().to_string();
        assert!(error.contains("NASNet is not in the space darts"), "{error}");
        assert!(Race { propose: "DARTS_V9".into(), ..SMALL() }.check(&space::DARTS).is_err());
    }
}
