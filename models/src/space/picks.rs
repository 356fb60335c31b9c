//! Spaces whose genotypes are a candidate of every choice.

use super::{Choice, ChoiceGraph, Space, SupernetSize};
use crate::assemble::{NetworkConfig, Trainable};
use crate::{Error, Genotype, Result, Rng};

/// Search space whose genotypes are a candidate of every choice, each independent of the others. Sampling, mutation,
/// derivation, text and JSON follow from its choices.
pub trait PickSpace: std::fmt::Debug + Send + Sync {
    /// Returns the name, as users write it.
    fn name(&self) -> &'static str;

    /// Returns the description: a noun phrase, with the source.
    fn doc(&self) -> &'static str;

    /// Returns the choices, in the order of their logits.
    fn choices(&self) -> Vec<Choice>;

    /// Returns the supernet, with a site for every choice.
    ///
    /// # Errors
    /// Fails for images too small for the network.
    fn supernet(&self, size: &SupernetSize) -> Result<ChoiceGraph>;

    /// Returns the network with the candidates `picks`.
    ///
    /// # Errors
    /// Fails for a size that the space does not support.
    fn network(&self, picks: &[usize], config: &NetworkConfig, auxiliary: bool) -> Result<Trainable>;

    /// Returns the scopes of the network's parts that have other names in the supernet, with those names.
    fn origins(&self, _picks: &[usize], _network: &NetworkConfig) -> Vec<(String, String)> {
        Vec::new()
    }
}

fn picks_of<'a>(name: &str, genotype: &'a Genotype) -> Result<&'a [usize]> {
    let space = genotype.space().filter(|space| space.name() == name);
    space.and_then(|_| genotype.picks()).ok_or_else(|| Error::Value {
        what: "genotype".into(),
        found: genotype.to_string(),
        expected: format!("one of the space {name}"),
    })
}

fn genotype(space: &'static dyn Space, picks: &[usize]) -> Result<Genotype> {
    let choices = space.choices();
    let names: Vec<String> =
        choices.iter().zip(picks).map(|(choice, pick)| choice.candidates[*pick].clone()).collect();
    Genotype::named_picks(space, &names)
}

impl<T: PickSpace> Space for T {
    fn name(&self) -> &'static str {
        PickSpace::name(self)
    }

    fn doc(&self) -> &'static str {
        PickSpace::doc(self)
    }

    fn choices(&self) -> Vec<Choice> {
        PickSpace::choices(self)
    }

    fn sites(&self, _layers: usize) -> Vec<usize> {
        (0..PickSpace::choices(self).len()).collect()
    }

    fn supernet(&self, size: &SupernetSize) -> Result<ChoiceGraph> {
        PickSpace::supernet(self, size)
    }

    fn network(&self, genotype: &Genotype, config: &NetworkConfig, auxiliary: bool) -> Result<Trainable> {
        PickSpace::network(self, picks_of(PickSpace::name(self), genotype)?, config, auxiliary)
    }

    fn derive(&'static self, weights: &[Vec<f32>]) -> Result<Genotype> {
        let best =
            |row: &Vec<f32>| (0..row.len()).fold(0, |best, k| if row[k] > row[best] { k } else { best });
        let choices = PickSpace::choices(self);
        let counts = choices.iter().map(|choice| choice.candidates.len());
        if !counts.eq(weights.iter().map(Vec::len)) {
            let (found, expected) =
                (format!("{} rows", weights.len()), format!("one for each of {}", choices.len()));
            return Err(Error::Value { what: "weights of the candidates".into(), found, expected });
        }
        genotype(self, &weights.iter().map(best).collect::<Vec<_>>())
    }

    fn origins(&self, genotype: &Genotype, network: &NetworkConfig) -> Result<Vec<(String, String)>> {
        Ok(PickSpace::origins(self, picks_of(PickSpace::name(self), genotype)?, network))
    }

    fn contains(&self, genotype: &Genotype) -> bool {
        picks_of(PickSpace::name(self), genotype).is_ok()
    }

    fn sample(&'static self, rng: &mut Rng) -> Result<Genotype> {
        let draw = |choice: Choice| rng.below(choice.candidates.len());
        let picks: Vec<usize> = PickSpace::choices(self).into_iter().map(draw).collect();
        genotype(self, &picks)
    }

    fn mutate(&'static self, parent: &Genotype, rng: &mut Rng) -> Result<Genotype> {
        let mut picks = picks_of(PickSpace::name(self), parent)?.to_vec();
        let choices = PickSpace::choices(self);
        let free: Vec<usize> = (0..picks.len()).filter(|i| choices[*i].candidates.len() > 1).collect();
        let at = free[rng.below(free.len())];
        picks[at] =
            (picks[at] + 1 + rng.below(choices[at].candidates.len() - 1)) % choices[at].candidates.len();
        genotype(self, &picks)
    }
}
