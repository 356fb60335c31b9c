//! Relaxations: how the logits of the architecture become the weights of the candidates in a pass, and how the
//! gradient comes back. A relaxation is one file, with its settings, and one row of the table below.

use milenas_models::Rng;

use crate::config::settings::settings;
use crate::supernet::{Alphas, Rows, SupernetConfig};

/// Position of a pass in a search, on which a relaxation may depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchProgress {
    /// Epoch, counted from 0.
    pub epoch: usize,
    /// Number of epochs of the search.
    pub epochs: usize,
}

/// Relaxation of the choice among an edge's candidates.
pub trait Relaxation: Sync {
    /// Returns where the relaxation was published.
    fn source(&self) -> &'static str;

    /// Samples the mixture of a pass. `rng` creates the generator of the pass; a relaxation without random numbers
    /// does not call it.
    fn sample(
        &self,
        alphas: &Alphas,
        config: &SupernetConfig,
        progress: SearchProgress,
        rng: &mut dyn FnMut() -> Rng,
    ) -> Box<dyn PassMixture>;

    /// Returns the gradient of a term that depends on the logits alone, which is added to that of the losses.
    fn regulariser(&self, _alphas: &Alphas) -> Option<Alphas> {
        None
    }

    /// Returns whether every pass has the softmax of the logits. A second-order rule needs equal mixtures in all passes
    /// of a step, and a device computes only this mixture and its gradient itself.
    fn is_softmax(&self) -> bool {
        false
    }

    /// Returns whether a pass computes one candidate per edge only.
    fn is_sparse(&self) -> bool {
        false
    }

    /// Checks rules between the settings of the relaxation, whose keys start with `key`.
    ///
    /// # Errors
    /// Fails for settings that do not fit together.
    fn check(&self, _key: &str) -> crate::Result<()> {
        Ok(())
    }
}

/// Mixture of one pass.
pub trait PassMixture {
    /// Returns the weights of the candidates, a row for each site.
    fn sites(&self, config: &SupernetConfig) -> Rows;

    /// Converts the gradient with respect to the rows of the sites into that with respect to the logits.
    fn gradient(&self, alphas: &Alphas, config: &SupernetConfig, by_sites: &[Vec<f64>]) -> Alphas;
}

/// Declares the table: description, name in settings, which is that of the module, and type.
macro_rules! relaxations {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ident,)+) => {
        $(mod $name; pub use $name::$type;)+

        settings! {
            /// Settings of the relaxations, a group for each.
            #[derive(Copy)]
            pub struct RelaxationConfig {
                $($(#[doc = $doc])+ $name: $type = $type::default();)+
            }
        }

        /// Returns the names of all relaxations with their descriptions.
        pub fn choices() -> Vec<(&'static str, &'static str)> {
            vec![$((stringify!($name), concat!($($doc),+).trim_ascii().trim_end_matches('.'))),+]
        }

        impl RelaxationConfig {
            /// Returns all relaxations with their settings.
            pub fn all(&self) -> Vec<Entry<'_>> {
                vec![$(Entry { name: stringify!($name), relaxation: &self.$name }),+]
            }
        }
    };
}

/// Row of the table.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    /// Name in the settings.
    pub name: &'static str,
    /// Relaxation with its settings.
    pub relaxation: &'a dyn Relaxation,
}

impl RelaxationConfig {
    /// Returns a relaxation by name, with its settings.
    ///
    /// # Errors
    /// Fails for an unknown name, and names the nearest known one.
    pub fn named(&self, name: &str) -> milenas_models::Result<&dyn Relaxation> {
        let found = self.all().into_iter().find(|entry| entry.name == name);
        found.map(|entry| entry.relaxation).ok_or_else(|| {
            milenas_models::Error::unknown("mixture", name, choices().into_iter().map(|(name, _)| name))
        })
    }
}

relaxations! {
    /// weighted sum of all candidates, by the softmax of their logits.
    softmax: Softmax,
    /// one candidate sampled for every edge, cell and pass, in a quarter of the time per step.
    gumbel: Gumbel,
    /// weights of all candidates sampled from a Dirichlet distribution (DrNAS).
    dirichlet: Dirichlet,
}

#[cfg(test)]
mod tests {
    use milenas_models::space::{self, Space};

    use super::*;

    const CONFIG: SupernetConfig = SupernetConfig { channels: 4, layers: 6, ..SupernetConfig::paper(10) };
    const PROGRESS: SearchProgress = SearchProgress { epoch: 3, epochs: 10 };

    #[test]
    fn every_relaxation_has_a_source_and_a_description() {
        let config = RelaxationConfig::default();
        for (Entry { name, relaxation }, (_, doc)) in config.all().into_iter().zip(choices()) {
            assert!(!relaxation.source().is_empty() && doc.len() > 10, "{name}");
        }
        let error = RelaxationConfig::default().named("gumble").err().unwrap().to_string();
        assert!(error.contains("did you mean `gumbel`"), "{error}");
    }

    /// Weights are those of the choice in sum, in every space.
    #[test]
    fn weights_of_a_choice_sum_to_its_own() {
        for space in space::SPACES {
            let config = SupernetConfig { space, ..CONFIG };
            let alphas = Alphas::init(space, 1).with_edges(2);
            let edges = config.for_sites(&alphas.edge_weights());
            for Entry { name, relaxation, .. } in RelaxationConfig::default().all() {
                let pass = relaxation.sample(&alphas, &config, PROGRESS, &mut || Rng::new(3, "pass"));
                for (row, edge) in pass.sites(&config).iter().zip(&edges) {
                    assert!((row.iter().sum::<f32>() - edge).abs() < 1e-5, "{name}, {}", space.name());
                }
            }
        }
    }

    /// A pruned candidate has weight and gradient 0 in every relaxation, at every temperature; so has a pruned choice.
    #[test]
    fn pruned_candidates_have_no_weight_and_no_gradient() {
        let mut alphas = Alphas::init(&space::DARTS, 1);
        alphas.prune(3, 5);
        alphas.prune_choice(6);
        let (sites, mut rng) = (space::DARTS.sites(CONFIG.layers), Rng::new(1, "upstream"));
        let upstream: Rows<f64> =
            sites.iter().map(|_| (0..8).map(|_| f64::from(rng.normal())).collect()).collect();
        let config =
            RelaxationConfig { gumbel: Gumbel { tau_max: 1000.0, tau_min: 1.0 }, ..Default::default() };
        let divergent = Dirichlet { divergence: 1.0 };
        let all =
            config.all().into_iter().map(|entry| entry.relaxation).chain([&divergent as &dyn Relaxation]);
        for relaxation in all {
            for seed in 0..20 {
                let pass = relaxation.sample(&alphas, &CONFIG, PROGRESS, &mut || Rng::new(seed, "pass"));
                for (row, choice) in pass.sites(&CONFIG).iter().zip(&sites) {
                    assert!(row.iter().all(|weight| weight.is_finite()));
                    assert!(
                        (*choice != 3 || row[5] == 0.0) && (*choice != 6 || row.iter().all(|w| *w == 0.0))
                    );
                }
                let mut gradient = pass.gradient(&alphas, &CONFIG, &upstream);
                if let Some(term) = relaxation.regulariser(&alphas) {
                    gradient.operations[3][5] += term.operations[3][5];
                    assert!(term.flat().iter().all(|slope| slope.is_finite()));
                }
                assert_eq!(gradient.operations[3][5], 0.0, "{}", relaxation.source());
                assert!(gradient.flat().iter().all(|slope| slope.is_finite()), "{}", relaxation.source());
            }
        }
    }

    /// The gradient is the derivative of a weighted sum of the rows at fixed random numbers. The straight-through
    /// gradient of a sparse relaxation is no derivative.
    #[test]
    fn gradients_are_derivatives() {
        for Entry { name, relaxation, .. } in RelaxationConfig::default().all() {
            if relaxation.is_sparse() {
                continue;
            }
            for seed in 0..6 {
                let mut alphas = Alphas::init(&space::DARTS, seed).with_edges(seed);
                let mut rng = Rng::new(seed, "logits");
                alphas.update(|flat| flat.iter_mut().for_each(|logit| *logit = 0.7 * rng.normal()));
                let pass = |alphas: &Alphas| {
                    relaxation.sample(alphas, &CONFIG, PROGRESS, &mut || Rng::new(seed, "pass"))
                };
                let mut rng = Rng::new(seed, "upstream");
                let upstream: Rows<f64> = (0..14 * CONFIG.layers)
                    .map(|_| (0..8).map(|_| f64::from(rng.normal())).collect())
                    .collect();
                let value = |alphas: &Alphas| -> f64 {
                    let sites = pass(alphas).sites(&CONFIG);
                    let pairs = sites.iter().flatten().zip(upstream.iter().flatten());
                    pairs.map(|(w, g)| f64::from(*w) * g).sum()
                };
                let gradient = pass(&alphas).gradient(&alphas, &CONFIG, &upstream).flat();
                for i in [0, 37, 111, 150, 223, 224, 251] {
                    let [plus, minus] = [1e-2, -1e-2].map(|by| {
                        let mut moved = alphas.clone();
                        moved.update(|flat| flat[i] += by);
                        value(&moved)
                    });
                    let slope = (plus - minus) / 2e-2;
                    let error = (slope - f64::from(gradient[i])).abs();
                    assert!(
                        error < 2e-3 * slope.abs().max(1.0),
                        "{name} {seed} {i}: {slope} {}",
                        gradient[i]
                    );
                }
            }
        }
    }
}
