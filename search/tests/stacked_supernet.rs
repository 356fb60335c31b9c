//! The optimised supernet of NAS-Bench-201 equals the reference implementation: losses, gradients, statistics, predictions; for sparse
//! mixtures, odd sizes and any number of threads.
#![allow(clippy::unwrap_used)]

use milenas_models::{Rng, space};
use milenas_search::data::Batch;
use milenas_search::supernet::compiled::CompiledSupernet;
use milenas_search::supernet::reference::Reference;
use milenas_search::supernet::{GradRequest, Rows, Supernet, SupernetConfig};

const CONFIG: SupernetConfig =
    SupernetConfig { channels: 6, layers: 5, space: &space::NASBENCH201, ..SupernetConfig::paper(5) };
const BOTH: GradRequest = GradRequest { weights: true, mixture: true };

fn batch([height, width]: [usize; 2], count: usize) -> Batch {
    let mut rng = Rng::new(1, "images");
    Batch {
        images: (0..count * 3 * height * width).map(|_| rng.uniform(-1.0, 1.0)).collect::<Vec<_>>().into(),
        shape: [3, height, width],
        labels: (0..count as u32).map(|i| i % 5).collect(),
    }
}

/// Returns a random row for each site; if `sparse`, about half of the candidates have weight 0.
fn mixture(sparse: bool) -> Rows {
    let mut rng = Rng::new(2, "mixture");
    let mut weight = || if sparse && rng.below(2) == 0 { 0.0 } else { rng.uniform(0.1, 0.6) };
    let sites = CONFIG.space.sites(CONFIG.layers).len();
    (0..sites).map(|_| (0..5).map(|_| weight()).collect()).collect()
}

fn close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-6f64, |m, x| m.max(x.abs()));
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst <= tolerance * scale, "{what}: differs by {worst}, its largest is {scale}");
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

fn equals_definition(size: [usize; 2], count: usize, sparse: bool) {
    let [height, width] = size;
    let (batch, mixture) = (batch(size, count), mixture(sparse));
    let mut slow = Reference::new(&CONFIG, height, width, 7).unwrap();
    let mut fast = CompiledSupernet::new(CONFIG, &CONFIG.choices(height, width).unwrap()).unwrap();
    fast.load(&slow.weights().unwrap()).unwrap();

    let expected = slow.evaluate_sites(&batch, &mixture, BOTH).unwrap();
    let found = fast.evaluate_sites(&batch, &mixture, BOTH).unwrap();
    close("loss", &[found.loss], &[expected.loss], 1e-4);
    assert_eq!(found.correct, expected.correct);
    let weights = mixture.concat();
    let masked: Vec<f64> = expected
        .mixture_gradient
        .concat()
        .into_iter()
        .zip(&weights)
        .map(|(g, w)| if *w == 0.0 { 0.0 } else { g })
        .collect();
    // The gradient of `none` is 0 in both.
    close("mixture", &found.mixture_gradient.concat(), &masked, 1e-3);
    let names: Vec<String> = slow.weights().unwrap().trainable().map(|(name, _)| name.to_string()).collect();
    let all = |net: &mut dyn Supernet| {
        names.iter().flat_map(|n| wide(&net.gradient(n).unwrap())).collect::<Vec<_>>()
    };
    close("gradients", &all(&mut fast), &all(&mut slow), 1e-3);
    let (left, right) = (fast.weights().unwrap(), slow.weights().unwrap());
    for (name, expected) in right.iter().filter(|(name, _)| name.contains("running")) {
        let of = |t: &candle_core::Tensor| wide(&t.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        close(name, &of(left.get(name).unwrap()), &of(expected), 1e-4);
    }
    let [found, expected] =
        [fast.predict_sites(&batch, &mixture).unwrap(), slow.predict_sites(&batch, &mixture).unwrap()];
    close("predictions", &wide(&found), &wide(&expected), 1e-3);

    // A pass for the mixture only does not change the weights' gradients.
    let before = all(&mut fast);
    let again = fast.evaluate_sites(&batch, &mixture, GradRequest { weights: false, mixture: true }).unwrap();
    close("mixture again", &again.mixture_gradient.concat(), &masked, 1e-3);
    assert_eq!(all(&mut fast), before);
}

#[test]
fn fast_equals_reference() {
    equals_definition([16, 16], 3, false);
    equals_definition([11, 14], 2, false);
    equals_definition([16, 16], 3, true);
}

#[test]
fn threads_do_not_matter() {
    let (batch, mixture) = (batch([16, 16], 5), mixture(false));
    let start = Reference::new(&CONFIG, 16, 16, 7).unwrap().weights().unwrap();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut net = CompiledSupernet::new(CONFIG, &CONFIG.choices(16, 16).unwrap()).unwrap();
            net.load(&start).unwrap();
            let found = net.evaluate_sites(&batch, &mixture, BOTH).unwrap();
            (found.loss, found.mixture_gradient, net.gradient_norm().unwrap())
        })
    };
    let one = run(1);
    (2..4).for_each(|threads| assert_eq!(run(threads), one));
}
