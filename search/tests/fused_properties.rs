//! Properties of the optimised supernet for any values: threads, instruction sets, sizes, errors.
#![allow(clippy::unwrap_used)]

use milenas_models::Rng;
use milenas_models::kernels::cpu::Level;
use milenas_models::space::{self, CellSpace};
use milenas_search::supernet::fused::{FusedSupernet, ImageBatch};
use milenas_search::supernet::wired::{CANDIDATES, Mixture};
use milenas_search::supernet::{GradRequest, SupernetConfig};

const CONFIG: SupernetConfig = SupernetConfig {
    channels: 6,
    layers: 4,
    in_channels: 2,
    space: &CellSpace { nodes: 3, ..space::DARTS },
    ..SupernetConfig::paper(5)
};
const BOTH: GradRequest = GradRequest { weights: true, mixture: true };

fn network(level: Level) -> FusedSupernet {
    let mut network = FusedSupernet::with_level(CONFIG, level);
    let names: Vec<(String, usize)> =
        network.tensors().named().iter().map(|p| (p.name.clone(), p.shape.iter().product())).collect();
    for (name, count) in names {
        let mut rng = Rng::new(1, &name);
        let values: Vec<f32> = (0..count).map(|_| 0.5 * rng.normal()).collect();
        network.tensors_mut().set(&name, &values).unwrap();
    }
    network
}

fn mixture() -> Mixture {
    let mut rng = Rng::new(2, "mixture");
    [0, 1].map(|_| (0..CONFIG.edges()).map(|_| std::array::from_fn(|_| rng.uniform(0.05, 0.3))).collect())
}

/// Returns pixels and labels of a batch.
fn batch(images: usize, height: usize, width: usize) -> (Vec<f32>, Vec<u32>) {
    let mut rng = Rng::new(3, "batch");
    let pixels = (0..images * CONFIG.in_channels * height * width).map(|_| rng.normal()).collect();
    (pixels, (0..images).map(|_| rng.below(CONFIG.classes) as u32).collect())
}

/// Returns loss and all gradients of a pass, concatenated.
fn pass(network: &mut FusedSupernet, size: (usize, usize, usize)) -> Vec<f32> {
    let (pixels, labels) = batch(size.0, size.1, size.2);
    let images = ImageBatch { pixels: &pixels, height: size.1, width: size.2 };
    let found = network.evaluate(images, &labels, &mixture(), BOTH).unwrap();
    let mut out = vec![found.loss as f32];
    out.extend(found.mixture_gradient.iter().flatten().flatten());
    network.tensors_mut().for_each_parameter(|_, _, gradient| out.extend(gradient));
    out
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn threads_do_not_change_a_bit() {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bits(&pass(&mut network(Level::best()), (7, 8, 8))))
    };
    let one = run(1);
    for threads in 2..=4 {
        assert!(run(threads) == one, "{threads} threads");
    }
}

#[test]
fn instruction_sets_agree() {
    let results: Vec<(Level, Vec<f32>)> =
        Level::available().into_iter().map(|level| (level, pass(&mut network(level), (4, 8, 8)))).collect();
    let (fastest, expected) = &results[0];
    let scale = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
    for (level, found) in &results[1..] {
        let worst = found.iter().zip(expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(worst < 1e-3 * scale, "{level:?} and {fastest:?} differ by {worst} of {scale}");
        if *level != Level::PORTABLE {
            assert!(bits(found) == bits(expected), "{level:?} and {fastest:?} round differently");
        }
    }
}

#[test]
fn buffers_of_earlier_sizes_leave_no_trace() {
    let mut used = network(Level::best());
    for size in [(5, 9, 7), (1, 4, 4), (3, 16, 12), (2, 5, 6)] {
        assert!(bits(&pass(&mut used, size)) == bits(&pass(&mut network(Level::best()), size)), "{size:?}");
    }
}

/// Along a random direction in all weights and the mixture, the loss changes as the gradients predict.
#[test]
fn gradients_equal_finite_differences() {
    for size in [(6, 9, 7), (8, 8, 5), (16, 4, 4)] {
        let (pixels, labels) = batch(size.0, size.1, size.2);
        let images = ImageBatch { pixels: &pixels, height: size.1, width: size.2 };
        let mut rng = Rng::new(4, "direction");
        let mut net = network(Level::best());
        let found = net.evaluate(images, &labels, &mixture(), BOTH).unwrap();
        let names: Vec<String> = net.tensors().named().iter().map(|p| p.name.clone()).collect();
        // The direction follows the gradient with noise, so that the derivative is far from zero.
        let mut expected = 0.0;
        let mut steps = Vec::new();
        for name in &names {
            let gradient = net.tensors().gradient(name).unwrap();
            let step: Vec<f32> = gradient.iter().map(|g| g * rng.uniform(0.0, 2.0)).collect();
            expected += gradient.iter().zip(&step).map(|(g, s)| f64::from(g * s)).sum::<f64>();
            steps.push((name, net.tensors().get(name).unwrap(), step));
        }
        let flat: Vec<f32> = found.mixture_gradient.iter().flatten().flatten().copied().collect();
        let direction: Vec<f32> = flat.iter().map(|g| g * rng.uniform(0.0, 2.0)).collect();
        expected += flat.iter().zip(&direction).map(|(g, s)| f64::from(g * s)).sum::<f64>();
        let mut loss = |t: f32| {
            for (name, start, step) in &steps {
                let values: Vec<f32> = start.iter().zip(step).map(|(x, s)| x + t * s).collect();
                net.tensors_mut().set(name, &values).unwrap();
            }
            let mut moved = mixture();
            let cells = moved.iter_mut().flatten().flatten();
            cells.zip(&direction).for_each(|(x, s)| *x += t * s);
            net.evaluate(images, &labels, &moved, GradRequest { weights: false, mixture: false })
                .unwrap()
                .loss
        };
        let t = (1e-3 / expected) as f32;
        let slope = (loss(t) - loss(-t)) / (2.0 * f64::from(t));
        assert!((slope - expected).abs() < 0.02 * expected, "{size:?}: {slope}, expected {expected}");
    }
}

#[test]
fn mixture_gradient_needs_no_weight_gradients() {
    let (pixels, labels) = batch(3, 8, 8);
    let images = ImageBatch { pixels: &pixels, height: 8, width: 8 };
    let mut net = network(Level::best());
    let both = net.evaluate(images, &labels, &mixture(), BOTH).unwrap();
    let want = GradRequest { weights: false, mixture: true };
    let alone = net.evaluate(images, &labels, &mixture(), want).unwrap();
    assert_eq!(both.mixture_gradient, alone.mixture_gradient);
    assert!(both.mixture_gradient.iter().flatten().all(|row: &[f32; CANDIDATES]| row[0] == 0.0));
}

#[test]
fn filling_lanes_stay_zero_without_gradient() {
    let mut net = network(Level::best());
    let named: usize = net.tensors().named().iter().map(|p| p.shape.iter().product::<usize>()).sum();
    pass(&mut net, (3, 8, 8));
    let (mut values_set, mut gradients_set) = (0, 0);
    net.tensors_mut().for_each_parameter(|_, values, gradient| {
        values_set += values.iter().filter(|x| **x != 0.0).count();
        gradients_set += gradient.iter().filter(|x| **x != 0.0).count();
        assert!(values.iter().zip(gradient).all(|(x, g)| *x != 0.0 || *g == 0.0));
    });
    assert_eq!(values_set, named);
    assert!(gradients_set > named / 2);
}

#[test]
fn prediction_leaves_the_statistics() {
    let (pixels, _) = batch(3, 8, 8);
    let images = ImageBatch { pixels: &pixels, height: 8, width: 8 };
    let mut net = network(Level::best());
    let name = net.tensors().statistic_names()[0].clone();
    let before = net.tensors().get(&name).unwrap();
    let logits = net.predict(images, &mixture()).unwrap();
    assert_eq!(logits.len(), 3 * CONFIG.classes);
    assert_eq!(net.tensors().get(&name).unwrap(), before);
    assert_eq!(net.predict(images, &mixture()).unwrap(), logits);
    // An image's logits do not depend on its batch.
    let one = ImageBatch { pixels: &pixels[..2 * 64], ..images };
    assert_eq!(net.predict(one, &mixture()).unwrap(), logits[..CONFIG.classes]);
}

#[test]
fn refusals_say_what_is_wrong() {
    let (pixels, labels) = batch(2, 8, 8);
    let images = ImageBatch { pixels: &pixels, height: 8, width: 8 };
    let mut net = network(Level::best());
    let message = |r: milenas_models::Result<()>| r.unwrap_err().to_string();
    assert!(message(net.tensors_mut().set("stem.0.wieght", &[])).contains("did you mean `stem.0.weight`"));
    assert!(message(net.tensors_mut().set("stem.0.weight", &[1.0])).contains("has 324 elements, found 1"));
    let small = ImageBatch { height: 2, width: 32, ..images };
    assert!(message(net.predict(small, &mixture()).map(drop)).contains("at least 4x4"));
    let cut = ImageBatch { pixels: &pixels[1..], ..images };
    assert!(message(net.predict(cut, &mixture()).map(drop)).contains("multiple of 128"));
    assert!(
        message(net.evaluate(images, &labels[1..], &mixture(), BOTH).map(drop)).contains("one per image")
    );
    assert!(message(net.evaluate(images, &[0, 9], &mixture(), BOTH).map(drop)).contains("5 classes"));
    assert!(message(net.predict(images, &[vec![], vec![]]).map(drop)).contains("9 of each"));
}
