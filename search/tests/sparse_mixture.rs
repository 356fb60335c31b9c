//! Candidates of weight zero: the optimised supernet skips them, and still equals the reference implementation.
#![allow(clippy::unwrap_used)]

#[path = "../../models/tests/cuda/host.rs"]
mod host;

use milenas_models::{Rng, space};
use milenas_search::data::Batch;
use milenas_search::relaxation::{Gumbel, PassMixture, Relaxation, SearchProgress};
use milenas_search::supernet::cuda::CudaSupernet;
use milenas_search::supernet::reference::Reference;
use milenas_search::supernet::wired::WiredSupernet;
use milenas_search::supernet::{Alphas, GradRequest, Rows, Supernet, SupernetConfig};

const CONFIG: SupernetConfig =
    SupernetConfig { channels: 5, layers: 4, in_channels: 2, ..SupernetConfig::paper(4) };
const BOTH: GradRequest = GradRequest { weights: true, mixture: true };

fn batch(images: usize, [height, width]: [usize; 2]) -> Batch {
    let mut rng = Rng::new(3, "batch");
    let pixels: Vec<f32> = (0..images * 2 * height * width).map(|_| rng.normal()).collect();
    let labels = (0..images).map(|_| rng.below(CONFIG.classes) as u32).collect();
    Batch { images: pixels.into(), labels, shape: [2, height, width] }
}

fn pair([height, width]: [usize; 2]) -> (Reference, WiredSupernet) {
    let mut reference = Reference::new(&CONFIG, height, width, 1).unwrap();
    let mut fused = WiredSupernet::new(CONFIG).unwrap();
    Supernet::load(&mut fused, &Supernet::weights(&mut reference).unwrap()).unwrap();
    (reference, fused)
}

fn sample(seed: u64) -> Box<dyn PassMixture> {
    let alphas = Alphas::init(&space::DARTS, seed);
    // The temperature is 1 at the end.
    let end = SearchProgress { epoch: 1, epochs: 1 };
    Gumbel::default().sample(&alphas, &CONFIG, end, &mut || Rng::new(seed, "draw"))
}

/// Returns a mixture of random candidates; some edges have none.
fn sparse(seed: u64) -> Rows {
    let mut rng = Rng::new(seed, "sparse");
    let mut weight = || if rng.below(4) == 0 { rng.uniform(0.1, 1.0) } else { 0.0 };
    (0..CONFIG.layers * CONFIG.edges()).map(|_| (0..8).map(|_| weight()).collect()).collect()
}

fn close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    close_or_small(what, found, expected, tolerance, 1e-6);
}

/// Checks that values agree within a fraction of the largest element, or of `least` if that is larger.
fn close_or_small(what: &str, found: &[f64], expected: &[f64], tolerance: f64, least: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(least, |m, x| m.max(x.abs()));
    let worst = found.iter().zip(expected).fold(0f64, |m, (a, b)| m.max((a - b).abs()));
    assert!(worst <= tolerance * scale, "{what}: differs by {worst:e}, largest element {scale:e}");
}

#[test]
fn the_fused_supernet_equals_the_reference() {
    let (mut reference, mut fused) = pair([8; 2]);
    compare(&mut reference, &mut fused, &batch(6, [8; 2]));
}

/// Images of odd size: their halves are padded with zeros at the border.
#[test]
fn the_gpu_kernels_equal_the_reference() {
    for device in host::devices(&[1]) {
        let (mut reference, _) = pair([7; 2]);
        let mut found = CudaSupernet::new(CONFIG, device).unwrap();
        found.load(&Supernet::weights(&mut reference).unwrap()).unwrap();
        compare(&mut reference, &mut found, &batch(5, [7; 2]));
    }
}

/// Compares pass after pass through the same networks. Earlier mixtures must not affect the results.
fn compare(reference: &mut Reference, fused: &mut dyn Supernet, batch: &Batch) {
    let mut names = Supernet::weights(reference).unwrap();
    names.retain(|name| !name.ends_with("running_mean") && !name.ends_with("running_var"));
    let mixtures = (0..3).flat_map(|seed| [sample(seed).sites(&CONFIG), sparse(seed)]);
    for (round, mixture) in mixtures.enumerate() {
        let expected = reference.evaluate_sites(batch, &mixture, BOTH).unwrap();
        let found = fused.evaluate_sites(batch, &mixture, BOTH).unwrap();
        close(&format!("loss {round}"), &[found.loss], &[expected.loss], 1e-4);
        let [found, expected] = [found, expected].map(|found| found.mixture_gradient);
        for (cell, rows) in mixture.chunks(CONFIG.edges()).enumerate() {
            let active = rows.iter().flatten().map(|weight| f64::from(u8::from(*weight != 0.0)));
            let [found, expected] =
                [&found, &expected].map(|rows| rows.chunks(CONFIG.edges()).nth(cell).unwrap().concat());
            let expected: Vec<f64> = expected.iter().zip(active).map(|(g, active)| g * active).collect();
            close(&format!("mixture {round} {cell}"), &found, &expected, 2e-3);
        }
        let norm = reference.gradient_norm().unwrap();
        for (name, _) in names.iter() {
            let [found, expected] = [fused.gradient(name).unwrap(), reference.gradient(name).unwrap()]
                .map(|g| g.iter().map(|x| f64::from(*x) / norm).collect::<Vec<_>>());
            let worst = found.iter().zip(&expected).fold(0f64, |m, (a, b)| m.max((a - b).abs()));
            assert!(worst < 1e-4, "round {round}, {name}: differs by {worst:e} of the whole norm");
        }
    }
    let mixture = sparse(9);
    let [expected, found] =
        [reference.predict_sites(batch, &mixture).unwrap(), fused.predict_sites(batch, &mixture).unwrap()]
            .map(|logits| logits.into_iter().map(f64::from).collect::<Vec<_>>());
    close("logits", &found, &expected, 1e-3);
}

/// Compares loss, mixture gradient and weight gradients for all candidates, with one to four threads. For a single image the
/// classifier reads means of normalised feature maps, which are zero: all gradients except that of its bias are rounding errors.
#[test]
fn all_candidates_equal_the_reference_at_odd_sizes() {
    for (images, size) in [(1, [9, 7]), (2, [9, 7]), (3, [13, 10]), (2, [8, 8])] {
        let (mut reference, mut fused) = pair(size);
        let batch = batch(images, size);
        let mixture = Alphas::init(&space::DARTS, 4).mixture();
        let expected = reference.evaluate(&batch, &mixture, BOTH).unwrap();
        let norm = reference.gradient_norm().unwrap();
        // Gradients that cancel consist of rounding errors.
        let least = norm * if images == 1 { 1.0 } else { 1e-4 };
        let mut names = Supernet::weights(&mut reference).unwrap();
        names.retain(|name| !name.ends_with("running_mean") && !name.ends_with("running_var"));
        for threads in 1..=4 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let found = pool.install(|| Supernet::evaluate(&mut fused, &batch, &mixture, BOTH).unwrap());
            let what = format!("{images} images of {size:?}, {threads} threads");
            close(&format!("{what}: loss"), &[found.loss], &[expected.loss], 1e-4);
            let [found, expected] = [&found, &expected].map(|found| {
                let rows = found.mixture_gradient.concat();
                rows.into_iter().map(f64::from).collect::<Vec<_>>()
            });
            close_or_small(&format!("{what}: mixture"), &found, &expected, 1e-3, least);
            for (name, _) in names.iter() {
                let [found, expected] =
                    [Supernet::gradient(&mut fused, name).unwrap(), reference.gradient(name).unwrap()]
                        .map(|g| g.into_iter().map(f64::from).collect::<Vec<_>>());
                close_or_small(&format!("{what}: {name}"), &found, &expected, 1e-3, least);
            }
        }
    }
}

/// The weights of candidates of weight 0 get no gradient, so the optimiser does not visit them.
#[test]
fn weights_of_unchosen_candidates_are_not_visited() {
    let (_, mut fused) = pair([8; 2]);
    let sites = sample(5).sites(&CONFIG);
    fused.evaluate_sites(&batch(3, [8; 2]), &sites, BOTH).unwrap();
    let fused = fused.fused();
    let named: Vec<(String, usize)> =
        fused.tensors().named().iter().map(|n| (n.name.clone(), n.shape.iter().product())).collect();
    let mut chosen = 0;
    for (name, size) in &named {
        let place: Vec<&str> = name.split('.').collect();
        let ["cells", cell, "edges", edge, candidate, ..] = place[..] else {
            chosen += size;
            continue;
        };
        let [cell, edge, candidate] = [cell, edge, candidate].map(|n| n.parse::<usize>().unwrap());
        let gradient = fused.tensors().gradient(name).unwrap();
        if sites[cell * CONFIG.edges() + edge][candidate] == 0.0 {
            assert!(gradient.iter().all(|g| *g == 0.0), "{name}");
        } else {
            chosen += size;
        }
    }
    let mut visited = 0;
    fused
        .tensors_mut()
        .for_each_parameter(|_, values, _| visited += values.iter().filter(|x| **x != 0.0).count());
    let all: usize = named.iter().map(|(_, size)| size).sum();
    // All weights are random values except the stem's bias, which starts at zero.
    assert_eq!(visited, chosen - CONFIG.stem_multiplier * CONFIG.channels);
    assert!(visited < all / 2);
}
