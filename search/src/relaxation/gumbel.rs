//! One sampled candidate per edge.

use milenas_models::Rng;

use super::{PassMixture, Relaxation, SearchProgress};
use crate::config::settings::{at_most, settings};
use crate::supernet::alphas::{is_pruned, softmax};
use crate::supernet::{Alphas, Rows, SupernetConfig};

settings! {
    /// One candidate per edge, sampled for every cell and pass. The others are not computed.
    #[derive(Copy)]
    pub struct Gumbel {
        /// Temperature in the first epoch. Low temperatures sharpen the gradient.
        tau_max: f64 = 10.0, in Range::Between(0.01, 1000.0);
        /// Final temperature, at most `tau_max`. The temperature falls linearly over the epochs, and would reach it in the
        /// epoch after the last.
        tau_min: f64 = 1.0, in Range::Between(0.01, 1000.0);
    }
}

impl Gumbel {
    /// Returns the temperature of an epoch.
    fn tau(&self, SearchProgress { epoch, epochs }: SearchProgress) -> f32 {
        (self.tau_max - (self.tau_max - self.tau_min) * epoch as f64 / epochs as f64) as f32
    }
}

impl Relaxation for Gumbel {
    fn source(&self) -> &'static str {
        "GDAS (Dong and Yang, CVPR 2019); MiLeNAS, equation 10"
    }

    fn sample(
        &self,
        alphas: &Alphas,
        config: &SupernetConfig,
        progress: SearchProgress,
        rng: &mut dyn FnMut() -> Rng,
    ) -> Box<dyn PassMixture> {
        Box::new(GumbelSample::draw(alphas, config, self.tau(progress), rng()))
    }

    fn is_sparse(&self) -> bool {
        true
    }

    fn check(&self, key: &str) -> crate::Result<()> {
        at_most([&format!("{key}.tau_min"), &format!("{key}.tau_max")], self.tau_min, self.tau_max)
    }
}

/// Samples of each site.
struct GumbelSample {
    /// Weight of the choice for the sampled candidate, 0 for the others.
    hard: Rows,
    /// Values of `softmax((alpha + noise) / tau)`, through which the gradient of the sampled candidates flows.
    soft: Rows,
    /// Temperature.
    tau: f32,
}

impl GumbelSample {
    fn draw(alphas: &Alphas, config: &SupernetConfig, tau: f32, mut rng: Rng) -> Self {
        let mut noisy = |logits: &Vec<f32>| -> Vec<f32> {
            let noisy = logits.iter().map(|a| (a, (a + noise(&mut rng)) / tau));
            softmax(&noisy.map(|(a, noisy)| if is_pruned(*a) { *a } else { noisy }).collect::<Vec<_>>())
        };
        let soft: Rows = config.for_sites(&alphas.operations).iter().map(&mut noisy).collect();
        let weights = config.for_sites(&alphas.edge_weights());
        let hard = soft.iter().zip(weights).map(|(row, w)| one_hot(row).into_iter().map(|x| x * w).collect());
        let hard = hard.collect();
        GumbelSample { hard, soft, tau }
    }
}

impl PassMixture for GumbelSample {
    fn sites(&self, _: &SupernetConfig) -> Rows {
        self.hard.clone()
    }

    /// For a sample `c` on an edge of weight `w` the gradient flows through entry `c` of `soft` (straight-through
    /// estimator). It is `w * g_c * y_c * (1[c = m] - y_m) / tau`, and `g_c` with respect to `w`.
    fn gradient(&self, alphas: &Alphas, config: &SupernetConfig, by_sites: &[Vec<f64>]) -> Alphas {
        let GumbelSample { hard, soft, tau } = self;
        let mut by_weights = vec![0.0; alphas.operations.len()];
        let mut rows = Vec::with_capacity(by_sites.len());
        let choices = config.space.sites(config.layers);
        for ((g, choice), (hard, y)) in by_sites.iter().zip(choices).zip(hard.iter().zip(soft)) {
            let drawn = hard.iter().position(|x| *x != 0.0).unwrap_or_default();
            by_weights[choice] += g[drawn] as f32;
            let slope = g[drawn] * f64::from(y[drawn] * hard[drawn] / tau);
            let one = |(m, y): (usize, &f32)| slope * (f64::from(u8::from(m == drawn)) - f64::from(*y));
            rows.push(y.iter().enumerate().map(one).collect());
        }
        alphas.with_values(config.by_choice(&rows), alphas.edge_gradient(&by_weights))
    }
}

fn noise(rng: &mut Rng) -> f32 {
    -(-rng.uniform(f32::MIN_POSITIVE, 1.0).ln()).max(f32::MIN_POSITIVE).ln()
}

fn one_hot(row: &[f32]) -> Vec<f32> {
    let best = row.iter().enumerate().fold(0, |best, (k, x)| if *x > row[best] { k } else { best });
    // A row of zeros is a pruned choice.
    (0..row.len()).map(|k| f32::from(u8::from(k == best && row[k] > 0.0))).collect()
}

#[cfg(test)]
mod tests {
    use milenas_models::space;

    use super::*;

    const CONFIG: SupernetConfig = SupernetConfig { channels: 4, layers: 3, ..SupernetConfig::paper(10) };

    fn draw(alphas: &Alphas, config: &SupernetConfig, seed: u64, purpose: &str) -> GumbelSample {
        GumbelSample::draw(alphas, config, 2.0, Rng::new(seed, purpose))
    }

    #[test]
    fn samples_follow_the_softmax() {
        let mut alphas = Alphas::init(&space::DARTS, 1);
        alphas.operations[3] = vec![0.0, 1.0, -1.0, 0.5, 2.0, 0.0, 0.0, 0.0];
        let mut counts = [0.0; 8];
        for seed in 0..4000 {
            let row = &draw(&alphas, &CONFIG, seed, "draw").sites(&CONFIG)[3];
            counts.iter_mut().zip(row).for_each(|(count, x)| *count += x / 4000.0);
        }
        for (count, p) in counts.iter().zip(softmax(&alphas.operations[3])) {
            assert!((count - p).abs() < 0.03, "{count} {p}");
        }
    }

    #[test]
    fn every_cell_and_pass_has_its_own_sample() {
        let alphas = Alphas::init(&space::DARTS, 1);
        let config = SupernetConfig { layers: 6, ..CONFIG };
        let [a, b] = ["a", "b"].map(|purpose| draw(&alphas, &config, 1, purpose).sites(&config));
        assert!(a[..14] != a[14..28] && a != b);
        for row in a {
            assert!(row.iter().sum::<f32>() == 1.0 && row.iter().all(|x| *x == 0.0 || *x == 1.0));
        }
    }

    /// The straight-through gradient is the derivative of `sum over sampled of g * softmax((alpha + noise) /
    /// tau)` at fixed noise.
    #[test]
    fn the_gradient_is_that_of_the_relaxed_sample() {
        let alphas = Alphas::init(&space::DARTS, 3);
        for seed in 0..20 {
            let make = |alphas: &Alphas| draw(alphas, &CONFIG, seed, "draw");
            let pass = make(&alphas);
            let mut rng = Rng::new(seed, "upstream");
            let upstream: Rows<f64> = (0..14 * CONFIG.layers)
                .map(|_| (0..8).map(|_| f64::from(rng.normal())).collect())
                .collect();
            let drawn = pass.sites(&CONFIG).concat();
            let value = |alphas: &Alphas| -> f64 {
                let GumbelSample { soft, .. } = make(alphas);
                let all = soft.iter().flatten().zip(&drawn).zip(upstream.iter().flatten());
                all.map(|((y, hard), g)| f64::from(y * hard) * g).sum()
            };
            let gradient = pass.gradient(&alphas, &CONFIG, &upstream);
            for (choice, k) in [(0, 4), (19, 0), (13, 7)] {
                let moved = [1e-2, -1e-2].map(|by| {
                    let mut moved = alphas.clone();
                    moved.operations[choice][k] += by;
                    value(&moved)
                });
                let slope = (moved[0] - moved[1]) / 2e-2;
                let error = (slope - f64::from(gradient.operations[choice][k])).abs();
                assert!(error < 1e-3, "seed {seed}: {slope}");
            }
        }
    }

    #[test]
    fn temperature_falls_by_epoch() {
        let tau = |epoch| f64::from(Gumbel::default().tau(SearchProgress { epoch, epochs: 250 }));
        assert_eq!((tau(0), tau(125)), (10.0, 5.5));
        assert!((tau(249) - (1.0 + 9.0 / 250.0)).abs() < 1e-6);
    }
}
