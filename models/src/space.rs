//! Search spaces: the choices that make a network, and the networks that they make.
//!
//! A space is one file with an implementation of [`Space`], and one row of the table below. [`CellSpace`] is the space of
//! the cells of a stack, [`PickSpace`] the simplest other one.

mod cells;
mod choice;
mod picks;

use std::fmt;

use crate::assemble::{NetworkConfig, Trainable};
use crate::{Error, Genotype, Result, Rng};

pub use cells::{CellForm, CellSpace, state_label};
pub use choice::{Choice, ChoiceGraph, Site, SupernetSize};
pub use picks::PickSpace;

/// Search space.
pub trait Space: fmt::Debug + Send + Sync {
    /// Returns the name, as users write it.
    fn name(&self) -> &'static str;

    /// Returns the description: a noun phrase, with the source.
    fn doc(&self) -> &'static str;

    /// Returns the choices, in the order of their logits.
    fn choices(&self) -> Vec<Choice>;

    /// Returns the choice that every site of a supernet belongs to. A choice has several sites if several cells share it.
    fn sites(&self, layers: usize) -> Vec<usize>;

    /// Returns the supernet: one graph with all candidates of all sites.
    ///
    /// # Errors
    /// Fails for images too small for the network.
    fn supernet(&self, size: &SupernetSize) -> Result<ChoiceGraph>;

    /// Returns the network of a genotype of this space, with the wires that drop path may drop, and with an auxiliary head
    /// if requested.
    ///
    /// # Errors
    /// Fails for a genotype or a size that the space does not support.
    fn network(&self, genotype: &Genotype, config: &NetworkConfig, auxiliary: bool) -> Result<Trainable>;

    /// Derives the genotype from the weights of the candidates, a row for each choice. On ties the lower index wins.
    ///
    /// # Errors
    /// Fails if there are not as many weights as candidates.
    fn derive(&'static self, weights: &[Vec<f32>]) -> Result<Genotype>;

    /// Returns the scope of each part of a derived network with the scope of the same part of the supernet, e.g.
    /// `cells.0.ops.3` and `cells.0.edges.5.4`. Other parts have equal names.
    ///
    /// # Errors
    /// Fails for a genotype with a part that is not in the supernet.
    fn origins(&self, genotype: &Genotype, network: &NetworkConfig) -> Result<Vec<(String, String)>>;

    /// Whether a search of this space can find the genotype.
    fn contains(&self, genotype: &Genotype) -> bool;

    /// Returns a uniformly drawn genotype.
    ///
    /// # Errors
    /// Does not fail for a space of the table.
    fn sample(&'static self, rng: &mut Rng) -> Result<Genotype>;

    /// Returns a genotype that differs in one choice.
    ///
    /// # Errors
    /// Fails for a genotype of another space.
    fn mutate(&'static self, genotype: &Genotype, rng: &mut Rng) -> Result<Genotype>;

    /// Returns the number of genotypes of a space that can be listed, else `None`.
    fn count(&self) -> Option<usize> {
        None
    }

    /// Returns genotype `index` of a space that can be listed.
    ///
    /// # Errors
    /// Fails for a space that cannot be listed.
    fn nth(&'static self, _index: usize) -> Result<Genotype> {
        Err(Error::Value {
            what: "space".into(),
            found: self.name().into(),
            expected: "one that can be listed".into(),
        })
    }

    /// Whether a derived genotype may contain the candidate `none`.
    fn derives_none(&self) -> bool {
        self.choices().iter().any(|choice| choice.candidates.iter().any(|name| name == "none"))
    }

    /// Returns how many choices of a node a derived network keeps; `None` for all of them.
    fn kept_choices(&self) -> Option<usize> {
        None
    }

    /// Whether candidates can see a part of the channels (PC-DARTS, section 3.2).
    fn has_partial_channels(&self) -> bool {
        false
    }

    /// Returns the space as a space of cells, for drawings and for supernets with kernels of their own.
    fn cells(&self) -> Option<&CellSpace> {
        None
    }
}

/// Spaces are equal by name.
impl PartialEq for dyn Space {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for dyn Space {}

/// Declares the table of spaces: a file and its constant for each.
macro_rules! spaces {
    ($($file:ident::$space:ident,)+) => {
        $(mod $file; pub use $file::$space;)+

        /// All spaces.
        pub static SPACES: [&dyn Space; [$(stringify!($file)),+].len()] = [$(&$space),+];
    };
}

spaces! {
    darts::DARTS,
    nasbench201::NASBENCH201,
    darts_s2::DARTS_S2,
    darts_s3::DARTS_S3,
}

/// Returns a space by name.
///
/// # Errors
/// [`Error::Unknown`] for an unknown name.
pub fn named(name: &str) -> Result<&'static dyn Space> {
    let found = SPACES.into_iter().find(|space| space.name() == name);
    found.ok_or_else(|| Error::unknown("space", name, SPACES.map(Space::name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_space_is_described_and_found_by_name() {
        for space in SPACES {
            assert_eq!(named(space.name()).unwrap(), space);
            assert!(space.doc().contains("20"), "{}", space.name());
            let choices = space.choices();
            for Choice { candidates, .. } in &choices {
                let different = (1..candidates.len()).all(|k| !candidates[..k].contains(&candidates[k]));
                assert!(different && candidates.len() > 1, "{}", space.name());
            }
            assert!(space.sites(8).into_iter().all(|choice| choice < choices.len()));
        }
        let message = named("dart").unwrap_err().to_string();
        assert!(message.contains("did you mean `darts`"), "{message}");
    }

    /// The graph has the sites that the space announces, and a wire or none for every candidate.
    #[test]
    fn supernets_have_the_announced_sites() {
        for space in SPACES {
            let size = SupernetSize { channels: 4, layers: 5, ..SupernetSize::for_images(3, 16, 16) };
            let found = space.supernet(&size).unwrap();
            let choices: Vec<usize> = found.sites.iter().map(|site| site.choice).collect();
            assert_eq!(choices, space.sites(5), "{}", space.name());
            for Site { choice, candidates } in &found.sites {
                assert_eq!(candidates.len(), space.choices()[*choice].candidates.len());
            }
        }
    }

    #[test]
    fn samples_and_mutants_are_members_and_foreign_cells_are_not() {
        for space in SPACES {
            let mut rng = Rng::new(0, "sample");
            for _ in 0..50 {
                let parent = space.sample(&mut rng).unwrap();
                let child = space.mutate(&parent, &mut rng).unwrap();
                assert!(space.contains(&parent) && space.contains(&child) && parent != child);
                assert_eq!(child.space(), Some(space));
                assert_eq!(Genotype::parse(&child.to_json(), "x").unwrap().space(), Some(space));
            }
        }
        let published = Genotype::named("DARTS_V2").unwrap();
        assert!(DARTS.contains(&published) && !NASBENCH201.contains(&published));
        assert!(!DARTS.contains(&Genotype::named("NASNet").unwrap()));
    }

    #[test]
    fn a_listed_space_has_every_genotype_once() {
        let count = NASBENCH201.count().unwrap();
        let all: std::collections::HashSet<_> = (0..count).map(|i| NASBENCH201.nth(i).unwrap()).collect();
        assert_eq!((count, all.len()), (15_625, 15_625));
        assert!(DARTS.count().is_none() && DARTS.nth(0).is_err());
    }
}
