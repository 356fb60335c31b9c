//! One sampled candidate per edge.

use milenas_models::Rng;

use super::{PassMixture, Relaxation, SearchProgress};
use crate::config::settings::{at_most, settings};
use crate::supernet::{Alphas, CANDIDATES, Row, SupernetConfig, alphas::softmax, by_kind, for_cells};

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

/// Samples of each cell.
struct GumbelSample {
    /// Weight of the edge for the sampled candidate, 0 for the others.
    hard: Vec<Vec<Row>>,
    /// Values of `softmax((alpha + noise) / tau)`, through which the gradient of the sampled candidates flows.
    soft: Vec<Vec<Row>>,
    /// Temperature.
    tau: f32,
}

impl GumbelSample {
    fn draw(alphas: &Alphas, config: &SupernetConfig, tau: f32, mut rng: Rng) -> Self {
        let mut noisy = |logits: &Row| softmax(&logits.map(|a| (a + noise(&mut rng)) / tau));
        let soft: Vec<Vec<Row>> = for_cells(config, &alphas.operations)
            .iter()
            .map(|rows| rows.iter().map(&mut noisy).collect())
            .collect();
        let weights = alphas.edge_weights();
        let cells =
            soft.iter().enumerate().map(|(cell, rows)| (rows, &weights[usize::from(config.reduces(cell))]));
        let hard =
            cells.map(|(rows, w)| rows.iter().zip(w).map(|(row, w)| one_hot(row).map(|x| x * w)).collect());
        let hard = hard.collect();
        GumbelSample { hard, soft, tau }
    }
}

impl PassMixture for GumbelSample {
    fn cells<'a>(&'a self, _: &SupernetConfig) -> Vec<&'a [Row]> {
        self.hard.iter().map(Vec::as_slice).collect()
    }

    /// For a sample `c` on an edge of weight `w` the gradient flows through entry `c` of `soft` (straight-through
    /// estimator). It is `w * g_c * y_c * (1[c = m] - y_m) / tau`, and `g_c` with respect to `w`.
    fn gradient(
        &self,
        alphas: &Alphas,
        config: &SupernetConfig,
        by_cells: &[Vec<[f64; CANDIDATES]>],
    ) -> Alphas {
        let GumbelSample { hard, soft, tau } = self;
        let mut by_weights = alphas.edge_weights().map(|edges| vec![0.0; edges.len()]);
        let mut cells = Vec::with_capacity(by_cells.len());
        for (cell, (g, (hard, soft))) in by_cells.iter().zip(hard.iter().zip(soft)).enumerate() {
            let edges = &mut by_weights[usize::from(config.reduces(cell))];
            let rows = g.iter().zip(hard.iter().zip(soft)).zip(edges);
            let row = |((g, (hard, y)), edge): ((&[f64; CANDIDATES], (&Row, &Row)), &mut f32)| {
                let drawn = hard.iter().position(|x| *x != 0.0).unwrap_or_default();
                *edge += g[drawn] as f32;
                let slope = g[drawn] * f64::from(y[drawn] * hard[drawn] / tau);
                std::array::from_fn(|m| slope * (f64::from(u8::from(m == drawn)) - f64::from(y[m])))
            };
            cells.push(rows.map(row).collect());
        }
        Alphas { operations: by_kind(config, &cells), edges: alphas.edge_gradient(&by_weights) }
    }
}

fn noise(rng: &mut Rng) -> f32 {
    -(-rng.uniform(f32::MIN_POSITIVE, 1.0).ln()).max(f32::MIN_POSITIVE).ln()
}

fn one_hot(row: &Row) -> Row {
    let best = row.iter().enumerate().fold(0, |best, (k, x)| if *x > row[best] { k } else { best });
    std::array::from_fn(|k| f32::from(u8::from(k == best)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use milenas_models::Space;

    const CONFIG: SupernetConfig = SupernetConfig { channels: 4, layers: 3, ..SupernetConfig::paper(10) };

    fn draw(alphas: &Alphas, config: &SupernetConfig, seed: u64, purpose: &str) -> GumbelSample {
        GumbelSample::draw(alphas, config, 2.0, Rng::new(seed, purpose))
    }

    #[test]
    fn samples_follow_the_softmax() {
        let mut alphas = Alphas::init(&Space::DARTS, 1);
        alphas.operations[0][3] = [0.0, 1.0, -1.0, 0.5, 2.0, 0.0, 0.0, 0.0];
        let mut counts = [0.0; CANDIDATES];
        for seed in 0..4000 {
            let pass = draw(&alphas, &CONFIG, seed, "draw");
            let row = pass.cells(&CONFIG)[0][3];
            counts.iter_mut().zip(row).for_each(|(count, x)| *count += x / 4000.0);
        }
        for (count, p) in counts.iter().zip(softmax(&alphas.operations[0][3])) {
            assert!((count - p).abs() < 0.03, "{count} {p}");
        }
    }

    #[test]
    fn every_cell_and_pass_has_its_own_sample() {
        let alphas = Alphas::init(&Space::DARTS, 1);
        let config = SupernetConfig { layers: 6, ..CONFIG };
        let [a, b] =
            ["a", "b"].map(|purpose| draw(&alphas, &config, 1, purpose));
        let (a, b) = (a.cells(&config), b.cells(&config));
        assert!(a[0] != a[1] && a != b);
        for row in a.concat() {
            assert!(row.iter().sum::<f32>() == 1.0 && row.iter().all(|x| *x == 0.0 || *x == 1.0));
        }
    }

    /// The straight-through gradient is the derivative of `sum over sampled of g * softmax((alpha + noise) /
    /// tau)` at fixed noise.
    #[test]
    fn the_gradient_is_that_of_the_relaxed_sample() {
        let alphas = Alphas::init(&Space::DARTS, 3);
        for seed in 0..20 {
            let make = |alphas: &Alphas| draw(alphas, &CONFIG, seed, "draw");
            let pass = make(&alphas);
            let mut rng = Rng::new(seed, "upstream");
            let rows = |_| {
                (0..CONFIG.edges()[0]).map(|_| std::array::from_fn(|_| f64::from(rng.normal()))).collect()
            };
            let upstream: Vec<Vec<[f64; CANDIDATES]>> = (0..CONFIG.layers).map(rows).collect();
            let drawn = pass.cells(&CONFIG).into_iter().map(<[Row]>::to_vec).collect::<Vec<_>>();
            let value = |alphas: &Alphas| -> f64 {
                let GumbelSample { soft, .. } = make(alphas);
                let all = soft.iter().flatten().zip(drawn.iter().flatten()).zip(upstream.iter().flatten());
                all.flat_map(|((y, hard), g)| (0..CANDIDATES).map(move |k| f64::from(y[k] * hard[k]) * g[k]))
                    .sum()
            };
            let gradient = pass.gradient(&alphas, &CONFIG, &upstream);
            for (kind, edge, k) in [(0, 0, 4), (1, 5, 0), (0, 13, 7)] {
                let moved = [1e-2, -1e-2].map(|by| {
                    let mut moved = alphas.clone();
                    moved.operations[kind][edge][k] += by;
                    value(&moved)
                });
                let slope = (moved[0] - moved[1]) / 2e-2;
                assert!(
                    (slope - f64::from(gradient.operations[kind][edge][k])).abs() < 1e-3,
                    "seed {seed}: {slope}"
                );
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
