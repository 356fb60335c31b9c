//! Gamma variates with their derivative, and derivatives of the Gamma function.

use milenas_models::Rng;

/// Number of uniform variates that raise the concentration. The method below is accurate and its derivative unbiased
/// for larger ones.
const RAISED: usize = 4;

/// Logarithm of a Gamma variate of scale 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogGamma {
    /// Logarithm of the variate.
    pub value: f64,
    /// Derivative of the logarithm with respect to the concentration, at fixed random numbers.
    pub slope: f64,
}

/// Random numbers of a variate.
#[derive(Clone, Copy, Debug)]
struct Noise {
    normal: f64,
    /// Logarithms of the uniform variates.
    uniforms: [f64; RAISED],
}

impl LogGamma {
    /// Draws a variate of a positive concentration: Marsaglia and Tsang (ACM TOMS 26, 2000), with the concentration
    /// raised by [`RAISED`] uniform variates. The derivative neglects that the number of rejected draws depends on the
    /// concentration, which is small for a raised one (Naesseth et al., AISTATS 2017).
    pub(super) fn draw(concentration: f64, rng: &mut Rng) -> Self {
        let uniforms = std::array::from_fn(|_| ln_uniform(rng));
        let d = concentration + RAISED as f64 - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let normal = f64::from(rng.normal());
            let v = (1.0 + c * normal).powi(3);
            let accepted = ln_uniform(rng);
            if v > 0.0 && accepted < normal * normal / 2.0 + d - d * v + d * v.ln() {
                return Self::at(concentration, Noise { normal, uniforms });
            }
        }
    }

    /// Returns the variate of a concentration for given random numbers. With `a` the raised concentration,
    /// `d = a - 1/3`, `c = 1 / sqrt(9 d)` and `x = d (1 + c n)^3`, it is `ln x + sum of ln u_i / (concentration + i)`.
    fn at(concentration: f64, noise: Noise) -> Self {
        let d = concentration + RAISED as f64 - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        let base = 1.0 + c * noise.normal;
        let (mut value, mut slope) = (d.ln() + 3.0 * base.ln(), 1.0 / d - 1.5 * c * noise.normal / (d * base));
        for (i, uniform) in noise.uniforms.into_iter().enumerate() {
            let at = concentration + i as f64;
            value += uniform / at;
            slope -= uniform / (at * at);
        }
        LogGamma { value, slope }
    }
}

/// Returns the logarithm of a uniform variate above 0.
fn ln_uniform(rng: &mut Rng) -> f64 {
    // Half a step above 0, since the variates are multiples of 2^-24.
    (f64::from(rng.unit()) + 0.5 / f64::from(1u32 << 24)).ln()
}

/// Smallest argument of the asymptotic series, which then have an error below 1e-12.
const SERIES: f64 = 10.0;

#[cfg(test)]
/// Returns `ln Gamma(x)` for positive `x`.
pub(super) fn ln_gamma(x: f64) -> f64 {
    if x < SERIES {
        return ln_gamma(x + 1.0) - x.ln();
    }
    let y = 1.0 / (x * x);
    let series = (1.0 / 12.0 - y * (1.0 / 360.0 - y * (1.0 / 1260.0 - y * (1.0 / 1680.0 - y / 1188.0)))) / x;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series
}

/// Returns the second derivative of `ln Gamma(x)` for positive `x`.
pub(super) fn trigamma(x: f64) -> f64 {
    if x < SERIES {
        return trigamma(x + 1.0) + 1.0 / (x * x);
    }
    let y = 1.0 / (x * x);
    let series = y * (1.0 / 6.0 - y * (1.0 / 30.0 - y * (1.0 / 42.0 - y * (1.0 / 30.0 - y * 5.0 / 66.0))));
    (1.0 + 0.5 / x + series) / x
}

/// Returns the first derivative of `ln Gamma(x)` for positive `x`.
#[cfg(test)]
pub(super) fn digamma(x: f64) -> f64 {
    if x < SERIES {
        return digamma(x + 1.0) - 1.0 / x;
    }
    let y = 1.0 / (x * x);
    x.ln() - 0.5 / x - y * (1.0 / 12.0 - y * (1.0 / 120.0 - y * (1.0 / 252.0 - y * (1.0 / 240.0 - y / 132.0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_have_known_values() {
        use std::f64::consts::PI;
        let euler = 0.577_215_664_901_532_9;
        for (found, expected) in [
            (ln_gamma(0.5), PI.sqrt().ln()),
            (ln_gamma(1.0), 0.0),
            (ln_gamma(5.0), 24f64.ln()),
            (trigamma(1.0), PI * PI / 6.0),
            (trigamma(0.5), PI * PI / 2.0),
            (trigamma(2.0), PI * PI / 6.0 - 1.0),
            (digamma(1.0), -euler),
            (digamma(0.5), -euler - 2.0 * 2f64.ln()),
        ] {
            assert!((found - expected).abs() < 1e-11, "{found} {expected}");
        }
    }

    #[test]
    fn the_slope_is_the_derivative_at_fixed_random_numbers() {
        let noise = Noise { normal: 0.8, uniforms: [-0.3, -1.2, -0.05, -2.0] };
        for a in [0.05, 0.7, 1.0, 4.0] {
            let [plus, minus] = [1e-6, -1e-6].map(|by| LogGamma::at(a + by, noise).value);
            let expected = (plus - minus) / 2e-6;
            assert!((LogGamma::at(a, noise).slope - expected).abs() < 1e-6 * expected.abs().max(1.0), "{a}");
        }
    }

    /// The derivatives of `E[x] = a` and `E[x^2] = a (a + 1)` are 1 and `2 a + 1`, and that of `E[ln x]` is the trigamma
    /// function.
    #[test]
    fn moments_and_their_derivatives_are_those_of_the_distribution() {
        const DRAWS: usize = 200_000;
        for a in [0.1, 0.5, 1.0, 2.0, 5.0] {
            let mut rng = Rng::new(7, &format!("gamma {a}"));
            let mut sums = [0.0; 4];
            for _ in 0..DRAWS {
                let LogGamma { value, slope } = LogGamma::draw(a, &mut rng);
                let x = value.exp();
                let terms = [x, x * slope, 2.0 * x * x * slope, slope];
                sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term / DRAWS as f64);
            }
            for (found, expected) in sums.into_iter().zip([a, 1.0, 2.0 * a + 1.0, trigamma(a)]) {
                assert!((found / expected - 1.0).abs() < 0.02, "{a}: {found} {expected}");
            }
        }
    }
}
