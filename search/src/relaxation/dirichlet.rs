//! Weights of all candidates from a Dirichlet distribution (DrNAS).

mod gamma;

use milenas_models::Rng;

use self::gamma::{LogGamma, trigamma};
use super::{PassMixture, Relaxation, SearchProgress};
use crate::config::settings::settings;
use crate::supernet::{Alphas, Rows, SupernetConfig};

settings! {
    /// Weights of an edge's candidates from a Dirichlet distribution with concentrations `ELU(alpha) + 1`. A pass has
    /// one sample for every edge, which all cells of a kind share.
    #[derive(Copy)]
    pub struct Dirichlet {
        /// Factor of the divergence from the uniform distribution, which is added to the loss (DrNAS, equation 6), e.g.
        /// 0.001; 0 for none, as in the released code. The weight decay `search.alphas.decay` acts beside it.
        divergence: f64 = 0.0, in Range::NotNegative;
    }
}

impl Relaxation for Dirichlet {
    fn source(&self) -> &'static str {
        "DrNAS (Chen et al., ICLR 2021)"
    }

    fn sample(
        &self,
        alphas: &Alphas,
        _: &SupernetConfig,
        _: SearchProgress,
        rng: &mut dyn FnMut() -> Rng,
    ) -> Box<dyn PassMixture> {
        Box::new(DirichletSample::draw(alphas, &mut rng()))
    }

    fn regulariser(&self, alphas: &Alphas) -> Option<Alphas> {
        if self.divergence == 0.0 {
            return None;
        }
        let row = |logits: &Vec<f32>| {
            let slopes = divergence_gradient(&concentrations(logits)).into_iter().zip(logits);
            slopes.map(|(slope, x)| (self.divergence * slope * concentration_slope(*x)) as f32).collect()
        };
        let operations = alphas.operations.iter().map(row).collect();
        Some(alphas.with_values(operations, alphas.edges.as_ref().map(|edges| vec![0.0; edges.len()])))
    }
}

/// Returns the concentrations of a choice's candidates.
fn concentrations(logits: &[f32]) -> Vec<f64> {
    let one = |&logit: &f32| if logit > 0.0 { 1.0 + f64::from(logit) } else { f64::from(logit).exp() };
    logits.iter().map(one).collect()
}

/// Returns the derivative of a concentration with respect to its logit.
fn concentration_slope(logit: f32) -> f64 {
    if logit > 0.0 { 1.0 } else { f64::from(logit).exp() }
}

/// Returns the Kullback-Leibler divergence of a Dirichlet distribution from the uniform one.
#[cfg(test)]
fn divergence(concentrations: &[f64]) -> f64 {
    let sum: f64 = concentrations.iter().sum();
    let own: f64 = concentrations
        .iter()
        .map(|b| (b - 1.0) * (gamma::digamma(*b) - gamma::digamma(sum)) - gamma::ln_gamma(*b))
        .sum();
    gamma::ln_gamma(sum) - gamma::ln_gamma(concentrations.len() as f64) + own
}

/// Returns the gradient of the divergence from the uniform distribution with respect to the concentrations:
/// `(b_k - 1) psi'(b_k) - (sum b - K) psi'(sum b)`. Pruned candidates, of concentration 0, are not among the K.
fn divergence_gradient(concentrations: &[f64]) -> Vec<f64> {
    let sum: f64 = concentrations.iter().sum();
    let count = concentrations.iter().filter(|b| **b > 0.0).count();
    let common = (sum - count as f64) * trigamma(sum);
    let slope = |b: &f64| if *b > 0.0 { (b - 1.0) * trigamma(*b) - common } else { 0.0 };
    concentrations.iter().map(slope).collect()
}

/// Sample of one pass.
struct DirichletSample {
    /// Weights of the candidates, times those of the choices.
    mixture: Rows,
    /// Weights of the candidates.
    weights: Rows<f64>,
    /// Derivatives of the logarithms of the Gamma variates with respect to the logits.
    slopes: Rows<f64>,
}

impl DirichletSample {
    fn draw(alphas: &Alphas, rng: &mut Rng) -> Self {
        let (mut weights, mut slopes): (Rows<f64>, Rows<f64>) = Default::default();
        for logits in &alphas.operations {
            let (mut logarithms, mut slope) = (Vec::new(), Vec::new());
            for (concentration, logit) in concentrations(logits).into_iter().zip(logits) {
                // A pruned candidate.
                if concentration == 0.0 {
                    logarithms.push(f64::NEG_INFINITY);
                    slope.push(0.0);
                    continue;
                }
                let variate = LogGamma::draw(concentration, rng);
                logarithms.push(variate.value);
                slope.push(variate.slope * concentration_slope(*logit));
            }
            // In logarithms, because variates of small concentrations are smaller than the smallest number.
            let most = logarithms.iter().fold(f64::MIN, |most, x| most.max(*x));
            let parts: Vec<f64> = logarithms.iter().map(|x| (x - most).exp()).collect();
            let sum: f64 = parts.iter().sum();
            // All are pruned if the sum is 0.
            weights.push(parts.into_iter().map(|part| if sum > 0.0 { part / sum } else { 0.0 }).collect());
            slopes.push(slope);
        }
        let rows = weights.iter().zip(alphas.edge_weights());
        let mixture = rows.map(|(row, edge)| row.iter().map(|weight| *weight as f32 * edge).collect()).collect();
        DirichletSample { mixture, weights, slopes }
    }
}

impl PassMixture for DirichletSample {
    fn sites(&self, config: &SupernetConfig) -> Rows {
        config.for_sites(&self.mixture)
    }

    /// With `w_k = x_k / sum x` and Gamma variates `x_k` of concentration `b_k`, the derivative of `w_i` with respect
    /// to `b_k` is `(1[i = k] - w_i) w_k d ln x_k / d b_k`.
    fn gradient(&self, alphas: &Alphas, config: &SupernetConfig, by_sites: &[Vec<f64>]) -> Alphas {
        let by_mixture = config.by_choice(by_sites);
        let mut means = Vec::new();
        let rows = self.weights.iter().zip(&self.slopes).zip(by_mixture.iter().zip(alphas.edge_weights()));
        let operations = rows
            .map(|((weights, slopes), (g, edge))| {
                let mean: f64 = weights.iter().zip(g).map(|(w, g)| w * f64::from(*g)).sum();
                means.push(mean as f32);
                let parts = weights.iter().zip(slopes).zip(g);
                parts
                    .map(|((w, slope), g)| (f64::from(edge) * slope * w * (f64::from(*g) - mean)) as f32)
                    .collect()
            })
            .collect();
        alphas.with_values(operations, alphas.edge_gradient(&means))
    }
}

#[cfg(test)]
mod tests {
    use milenas_models::space;

    use super::*;

    /// Mean `b_k / b` and variance `m (1 - m) / (b + 1)` of a component.
    #[test]
    fn samples_have_the_moments_of_the_distribution() {
        let mut alphas = Alphas::init(&space::NASBENCH201, 1);
        alphas.operations[2] = vec![0.5, -1.0, 0.0, 2.0, -1.5];
        let expected = concentrations(&alphas.operations[2]);
        let total: f64 = expected.iter().sum();
        const DRAWS: u64 = 20_000;
        let (mut sum, mut square) = ([0.0; 5], [0.0; 5]);
        for seed in 0..DRAWS {
            let sample = DirichletSample::draw(&alphas, &mut Rng::new(seed, "draw"));
            for k in 0..5 {
                let weight = sample.weights[2][k];
                sum[k] += weight / DRAWS as f64;
                square[k] += weight * weight / DRAWS as f64;
            }
        }
        for k in 0..5 {
            let mean = expected[k] / total;
            let variance = mean * (1.0 - mean) / (total + 1.0);
            assert!((sum[k] - mean).abs() < 4.0 * (variance / DRAWS as f64).sqrt(), "{k}: {} {mean}", sum[k]);
            assert!((square[k] - sum[k] * sum[k] - variance).abs() < 0.06 * variance, "{k}: {variance}");
        }
    }

    /// Averaged over samples, the gradient of `E[w_i]` is the derivative of `b_i / b`.
    #[test]
    fn the_mean_gradient_is_that_of_the_mean() {
        let mut alphas = Alphas::init(&space::NASBENCH201, 1);
        alphas.operations[0] = vec![0.5, -0.5, 0.1, 1.0, -2.0];
        let config = SupernetConfig { space: &space::NASBENCH201, layers: 5, ..SupernetConfig::paper(10) };
        let b = concentrations(&alphas.operations[0]);
        let total: f64 = b.iter().sum();
        const DRAWS: u64 = 20_000;
        let mut mean = [0.0; 5];
        let mut upstream = vec![vec![0.0; 5]; config.space.sites(5).len()];
        upstream[0][3] = 1.0;
        for seed in 0..DRAWS {
            let sample = DirichletSample::draw(&alphas, &mut Rng::new(seed, "gradient"));
            let gradient = sample.gradient(&alphas, &config, &upstream);
            for (mean, slope) in mean.iter_mut().zip(&gradient.operations[0]) {
                *mean += f64::from(*slope) / DRAWS as f64;
            }
        }
        for (k, found) in mean.into_iter().enumerate() {
            let own = f64::from(u8::from(k == 3));
            let expected =
                (own / total - b[3] / (total * total)) * concentration_slope(alphas.operations[0][k]);
            assert!((found - expected).abs() < 3e-3, "{k}: {found} {expected}");
        }
    }

    #[test]
    fn the_regulariser_is_the_derivative_of_the_divergence() {
        assert!(divergence(&[1.0; 5]).abs() < 1e-12);
        let b = [0.3, 1.7, 1.0, 2.5];
        for (k, slope) in divergence_gradient(&b).into_iter().enumerate() {
            let [plus, minus] = [1e-5, -1e-5].map(|by| {
                let mut moved = b;
                moved[k] += by;
                divergence(&moved)
            });
            assert!((slope - (plus - minus) / 2e-5).abs() < 1e-6, "{k}");
        }
        let alphas = Alphas::init(&space::NASBENCH201, 1);
        assert!(Dirichlet::default().regulariser(&alphas).is_none());
        let gradient = Dirichlet { divergence: 2.0 }.regulariser(&alphas).unwrap();
        let expected = 2.0 * divergence_gradient(&concentrations(&alphas.operations[1]))[4]
            * concentration_slope(alphas.operations[1][4]);
        assert!((f64::from(gradient.operations[1][4]) - expected).abs() < 1e-8);
    }

    /// At a logit of -40 the concentration is 4e-18: all weight is on the other candidates, and nothing is NaN.
    #[test]
    fn vanishing_concentrations_stay_finite() {
        let mut alphas = Alphas::init(&space::DARTS, 1);
        alphas.operations[0] = vec![-40.0, -40.0, -40.0, 0.5, 1.0, -40.0, 0.0, -40.0];
        alphas.operations[1] = vec![-60.0; 8];
        for seed in 0..50 {
            let sample = DirichletSample::draw(&alphas, &mut Rng::new(seed, "draw"));
            for row in &sample.mixture[..2] {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{row:?}");
            }
            assert!(sample.slopes.iter().flatten().all(|slope| slope.is_finite()));
        }
    }
}
