//! Gradients of the rules on losses with known derivatives.

use super::*;

/// Toy problem of DARTS, figure 2: `L_valid = a w - 2 a + 1`, `L_train = (w - a)^2`, from a = 2, w = -2.
struct Toy {
    a: f32,
    w: [f32; 1],
    gradient: [f32; 1],
    xi: f64,
}

impl Losses for Toy {
    type Saved = [f32; 1];

    fn gradient(&mut self, half: Split, weights: bool) -> Result<Vec<f32>> {
        let (a, w) = (self.a, self.w[0]);
        let (by_a, by_w) = match half {
            Split::Train => (2.0 * (a - w), 2.0 * (w - a)),
            Split::Valid => (w - 2.0, a),
        };
        if weights {
            self.gradient = [by_w];
        }
        Ok(vec![by_a])
    }

    fn visit(&mut self, visit: &mut UpdateFn) -> Result<()> {
        visit(0, &mut self.w, &self.gradient);
        Ok(())
    }

    fn step_ahead(&mut self) -> Result<()> {
        self.w[0] -= self.xi as f32 * self.gradient[0];
        Ok(())
    }

    fn rate(&self) -> f64 {
        self.xi
    }

    fn save(&mut self) -> Result<[f32; 1]> {
        Ok(self.w)
    }

    fn restore(&mut self, saved: &[f32; 1]) -> Result<()> {
        self.w = *saved;
        Ok(())
    }
}

/// Returns the limit of plain gradient steps with learning rate `rate`.
fn limit(rule: Rule, xi: f64, rate: f32, steps: usize) -> (f32, f32) {
    let mut toy = Toy { a: 2.0, w: [-2.0], gradient: [0.0], xi };
    for _ in 0..steps {
        let gradient = rule.gradient(&mut toy, false).unwrap();
        toy.a -= rate * gradient[0];
        toy.gradient(Split::Train, true).unwrap();
        toy.w[0] -= rate * toy.gradient[0];
    }
    (toy.a, toy.w[0])
}

fn rule(name: &str, lambda: f64) -> Rule {
    Rule::named(name, lambda, Compat::None).unwrap()
}

#[test]
fn the_toy_problem_converges_to_the_known_limits() {
    let ends = |name, lambda, xi, rate, expected: f32| {
        let (a, w) = limit(rule(name, lambda), xi, rate, 200_000);
        assert!((a - expected).abs() < 2e-3 && (w - expected).abs() < 2e-3, "{name} {lambda} {xi}: {a} {w}");
    };
    ends("darts-1st", 1.0, 0.0, 0.01, 2.0);
    for (lambda, rate) in [(0.1, 0.05), (1.0, 0.05), (999.0, 1e-4)] {
        ends("milenas", lambda, 0.0, rate, 2.0);
    }
    for (xi, expected) in [(0.5, 1.0), (0.01, 1.9608)] {
        ends("darts-2nd", 1.0, xi, 0.01, expected);
        ends("milenas-2nd", 1.0, xi, 0.01, expected);
    }
    let (a, w) = limit(rule("single-level", 1.0), 0.0, 0.05, 2000);
    assert!((a - w).abs() < 1e-4 && (a + 0.105).abs() < 1e-3, "{a} {w}");
}

#[test]
fn lambda_0_is_single_level_and_the_released_lambda_is_on_training() {
    assert_eq!(rule("milenas", 0.0), rule("single-level", 7.0));
    let released = Rule::named("milenas", 0.1, Compat::Released).unwrap();
    assert_eq!(released, Rule { train: 0.1, valid: 1.0, unrolled: false });
    let darts = Rule::named("darts-2nd", 0.1, Compat::Released).unwrap();
    assert_eq!(darts, rule("darts-2nd", 0.1));
}

#[test]
fn a_second_order_gradient_leaves_the_weights() {
    let mut toy = Toy { a: 0.3, w: [0.7], gradient: [0.0], xi: 0.1 };
    rule("milenas-2nd", 0.5).gradient(&mut toy, false).unwrap();
    assert_eq!(toy.w[0].to_bits(), 0.7f32.to_bits());
}

/// Mixture of three smooth operations, `f(x) = sum of softmax(alpha)_k * o_k(w_k x)`, with the mean square
/// of `f(x) - y` on two batches as losses.
#[derive(Clone)]
struct Smooth {
    alphas: [f64; 3],
    w: [f32; 3],
    gradient: [f32; 3],
}

const VELOCITY: [f64; 3] = [0.3, -0.2, 0.1];
const AHEAD: (f64, f64, f64) = (0.4, 0.9, 0.05);

impl Smooth {
    fn mixture(&self) -> [f64; 3] {
        let e = self.alphas.map(f64::exp);
        e.map(|x| x / e.iter().sum::<f64>())
    }

    /// Returns the loss of a split at weights `w`, and its gradients with respect to alphas and weights.
    fn at(&self, half: Split, w: [f64; 3]) -> (f64, [f64; 3], [f64; 3]) {
        let p = self.mixture();
        let (mut loss, mut by_alpha, mut by_w) = (0.0, [0.0; 3], [0.0; 3]);
        for i in 0..5 {
            let x = f64::from(i) / 2.0 - 0.8 + if half == Split::Valid { 0.2 } else { 0.0 };
            let y = (1.7 * x).cos();
            let [a, b, c] = w.map(|w| w * x);
            let o = [a.tanh(), b.sin(), 0.5 * c * c];
            let slope = [1.0 - a.tanh().powi(2), b.cos(), c];
            let f: f64 = p.iter().zip(o).map(|(p, o)| p * o).sum();
            loss += (f - y).powi(2) / 5.0;
            let outer = 2.0 * (f - y) / 5.0;
            for k in 0..3 {
                by_alpha[k] += outer * p[k] * (o[k] - f);
                by_w[k] += outer * p[k] * slope[k] * x;
            }
        }
        (loss, by_alpha, by_w)
    }

    fn ahead(&self, by_w: [f64; 3]) -> [f64; 3] {
        let (xi, momentum, decay) = AHEAD;
        std::array::from_fn(|k| {
            let w = f64::from(self.w[k]);
            w - xi * (momentum * VELOCITY[k] + by_w[k] + decay * w)
        })
    }

    /// Evaluates the whole unrolled loss.
    fn unrolled(&self, rule: Rule) -> f64 {
        let ahead = self.ahead(self.at(Split::Train, self.w.map(f64::from)).2);
        rule.terms().map(|(half, factor)| f64::from(factor) * self.at(half, ahead).0).iter().sum()
    }
}

impl Losses for Smooth {
    type Saved = [f32; 3];

    fn gradient(&mut self, half: Split, weights: bool) -> Result<Vec<f32>> {
        let (_, by_alpha, by_w) = self.at(half, self.w.map(f64::from));
        if weights {
            self.gradient = by_w.map(|g| g as f32);
        }
        Ok(by_alpha.map(|g| g as f32).to_vec())
    }

    fn visit(&mut self, visit: &mut UpdateFn) -> Result<()> {
        visit(0, &mut self.w, &self.gradient);
        Ok(())
    }

    fn step_ahead(&mut self) -> Result<()> {
        self.w = self.ahead(self.gradient.map(f64::from)).map(|w| w as f32);
        Ok(())
    }

    fn rate(&self) -> f64 {
        AHEAD.0
    }

    fn save(&mut self) -> Result<[f32; 3]> {
        Ok(self.w)
    }

    fn restore(&mut self, saved: &[f32; 3]) -> Result<()> {
        self.w = *saved;
        Ok(())
    }
}

#[test]
fn second_order_equals_finite_differences_of_the_whole_expression() {
    for (name, lambda, seed) in [("darts-2nd", 1.0, 0), ("milenas-2nd", 0.3, 1), ("milenas-2nd", 5.0, 2)] {
        let mut rng = milenas_models::Rng::new(seed, "smooth");
        let alphas = std::array::from_fn(|_| f64::from(rng.normal()));
        let mut net = Smooth { alphas, w: std::array::from_fn(|_| rng.normal()), gradient: [0.0; 3] };
        let rule = rule(name, lambda);
        let expected: [f64; 3] = std::array::from_fn(|k| {
            let moved = [1e-5, -1e-5].map(|by| {
                let mut moved = net.clone();
                moved.alphas[k] += by;
                moved.unrolled(rule)
            });
            (moved[0] - moved[1]) / 2e-5
        });
        let found = rule.gradient(&mut net, false).unwrap();
        let first = Rule { unrolled: false, ..rule }.gradient(&mut net, false).unwrap();
        let cosine = |found: &[f32]| {
            let dot: f64 = found.iter().zip(expected).map(|(a, b)| f64::from(*a) * b).sum();
            let norm = found.iter().map(|a| f64::from(*a).powi(2)).sum::<f64>().sqrt();
            dot / norm / expected.iter().map(|b| b * b).sum::<f64>().sqrt()
        };
        assert!(cosine(&found) > 0.9999, "{name} {lambda}: {}", cosine(&found));
        assert!(cosine(&first) < 0.999, "{name} {lambda}: the unrolled step must matter: {}", cosine(&first));
        let length = |g: &[f64]| g.iter().map(|x| x * x).sum::<f64>().sqrt();
        let found: Vec<f64> = found.into_iter().map(f64::from).collect();
        assert!((length(&found) / length(&expected) - 1.0).abs() < 1e-2, "{name} {lambda}");
    }
}

proptest::proptest! {
    #[test]
    fn the_gradient_is_linear_in_both_coefficients(train in 0.0f32..10.0, valid in 0.0f32..10.0, a in -3.0f32..3.0) {
        let mut toy = Toy { a, w: [0.7], gradient: [0.0], xi: 0.1 };
        let found = Rule { train, valid, unrolled: false }.gradient(&mut toy, false).unwrap();
        let [t, v] = [Split::Train, Split::Valid].map(|half| toy.gradient(half, false).unwrap()[0]);
        let mut expected = 0.0;
        if train != 0.0 { expected += train * t; }
        if valid != 0.0 { expected += valid * v; }
        proptest::prop_assert_eq!(found.first().copied().unwrap_or_default().to_bits(), expected.to_bits());
    }
}
