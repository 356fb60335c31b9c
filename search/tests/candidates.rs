//! Candidates of a space are never taken for others: by a supernet, by a device, or from a checkpoint.
#![allow(clippy::unwrap_used)]

use milenas_models::space::{self, CellSpace, Space};
use milenas_models::{Primitive, Rng, Weights};
use milenas_search::config::Config;
use milenas_search::data::Batch;
use milenas_search::optim::{Adam, Sgd, SgdConfig};
use milenas_search::strategy::checkpoint::{Position, SearchCheckpoint, SearchOrigin, SearchState};
use milenas_search::strategy::sizes::BestBySize;
use milenas_search::strategy::{StepContext, Stepper};
use milenas_search::supernet::reference::Reference;
use milenas_search::supernet::{Alphas, GradRequest, Supernet, SupernetConfig, cuda, new_supernet};

const SIDE: usize = 8;

/// The DARTS space with the two pools in the other order: names and shapes of all weights are the same.
const SWAPPED: CellSpace = CellSpace {
    name: "swapped",
    primitives: &[
        Primitive::None,
        Primitive::AvgPool3x3,
        Primitive::MaxPool3x3,
        Primitive::SkipConnect,
        Primitive::SepConv3x3,
        Primitive::SepConv5x5,
        Primitive::DilConv3x3,
        Primitive::DilConv5x5,
    ],
    ..space::DARTS
};

fn batch() -> Batch {
    let mut rng = Rng::new(5, "images");
    let images: Vec<f32> = (0..2 * 3 * SIDE * SIDE).map(|_| rng.normal()).collect();
    Batch { images: images.into(), labels: vec![0, 1], shape: [3, SIDE, SIDE] }
}

fn logits(net: &mut dyn Supernet, alphas: &Alphas) -> Vec<f32> {
    net.predict(&batch(), &alphas.mixture()).unwrap()
}

/// Loss, gradients and the weights after a step are those of the reference in every space.
#[test]
fn every_space_has_the_supernet_of_the_reference() {
    for space in space::SPACES {
        let config = SupernetConfig { channels: 4, layers: 3, space, ..SupernetConfig::paper(10) };
        let mut net = new_supernet(&config, SIDE, SIDE, 3, None).unwrap();
        let mut reference = Reference::new(&config, SIDE, SIDE, 3).unwrap();
        let mut alphas = Alphas::init(space, 1);
        alphas.update(|flat| flat.iter_mut().filter(|x| x.abs() < 1.0).for_each(|x| *x *= 500.0));
        let want = GradRequest { weights: true, mixture: true };
        let (mixture, name) = (alphas.mixture(), space.name());
        let found = net.evaluate(&batch(), &mixture, want).unwrap();
        let expected = reference.evaluate(&batch(), &mixture, want).unwrap();
        assert!((found.loss - expected.loss).abs() < 1e-4 * expected.loss, "{name}");
        let pairs = found.mixture_gradient.iter().flatten().zip(expected.mixture_gradient.iter().flatten());
        for (found, expected) in pairs {
            assert!((found - expected).abs() < 1e-3 * (1.0 + expected.abs()), "{name}: {found} {expected}");
        }
        let norm = reference.gradient_norm().unwrap();
        assert!((net.gradient_norm().unwrap() / norm - 1.0).abs() < 1e-3, "{name}");
        let weights = reference.weights().unwrap();
        for (weight, _) in weights.trainable() {
            let [a, b] = [net.gradient(weight).unwrap(), reference.gradient(weight).unwrap()];
            let worst = a.iter().zip(&b).fold(0f32, |worst, (a, b)| worst.max((a - b).abs()));
            assert!(f64::from(worst) < 1e-3 * norm, "{name}, {weight}: {worst} of {norm}");
        }
        for net in [&mut *net, &mut reference] {
            net.sgd_step(&mut Sgd::new(), &SgdConfig::default(), 0.05).unwrap();
        }
        let [found, expected] = [net.weights().unwrap(), reference.weights().unwrap()];
        found.check_same(&expected).unwrap();
        for (weight, var) in expected.iter() {
            let other = found.get(weight).unwrap().as_tensor();
            let worst = (var.as_tensor() - other).unwrap().abs().unwrap().max_all().unwrap();
            assert!(worst.to_scalar::<f32>().unwrap() < 1e-3, "{name}, {weight}: {worst}");
        }
    }
}

#[test]
fn swapped_candidates_are_computed_as_swapped() {
    // Logits that prefer the first pool.
    let mut alphas = Alphas::init(&SWAPPED, 1);
    alphas.operations.iter_mut().for_each(|row| row[1] += 4.0);
    let found = [&SWAPPED as &dyn Space, &space::DARTS].map(|space| {
        let config = SupernetConfig { channels: 4, layers: 3, space, ..SupernetConfig::paper(10) };
        let found = logits(&mut *new_supernet(&config, SIDE, SIDE, 3, None).unwrap(), &alphas);
        let expected = logits(&mut Reference::new(&config, SIDE, SIDE, 3).unwrap(), &alphas);
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - b).abs() < 1e-4 * (1.0 + b.abs()), "{}: {a} {b}", space.name());
        }
        found
    });
    let far = found[0].iter().zip(&found[1]).any(|(a, b)| (a - b).abs() > 1e-3);
    assert!(far, "the pools are the same: {found:?}");
    assert!(cuda::supports(&SWAPPED, 1).is_err());
    cuda::supports(&space::DARTS, 1).unwrap();
}

/// A space with more candidates than the hand-wired supernets have columns is searched by another supernet.
#[test]
fn a_ninth_candidate_is_not_dropped() {
    const NINE: CellSpace = CellSpace { name: "nine", primitives: &NINE_PRIMITIVES, ..space::DARTS };
    const NINE_PRIMITIVES: [Primitive; 9] = [
        Primitive::None,
        Primitive::MaxPool3x3,
        Primitive::AvgPool3x3,
        Primitive::SkipConnect,
        Primitive::SepConv3x3,
        Primitive::SepConv5x5,
        Primitive::DilConv3x3,
        Primitive::DilConv5x5,
        Primitive::SepConv7x7,
    ];
    let config = SupernetConfig { channels: 4, layers: 3, space: &NINE, ..SupernetConfig::paper(10) };
    let mut alphas = Alphas::init(&NINE, 0);
    alphas.operations[0][8] = 9.0;
    assert!(alphas.genotype().unwrap().to_string().contains("sep_conv_7x7"));
    let mut net = new_supernet(&config, SIDE, SIDE, 3, None).unwrap();
    let expected = logits(&mut Reference::new(&config, SIDE, SIDE, 3).unwrap(), &alphas);
    for (found, expected) in logits(&mut *net, &alphas).iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-4 * (1.0 + expected.abs()), "{found} {expected}");
    }
}

fn checkpoint(space: &'static dyn Space) -> (Vec<u8>, SearchOrigin) {
    let config = Config::resolve("smoke", None, &[]).unwrap();
    let origin = SearchOrigin { config, data: "images".into(), device: "cpu".into(), subject: () };
    let checkpoint = SearchCheckpoint {
        position: Position::start(0),
        state: SearchState {
            weights: Weights::default(),
            alphas: Alphas::init(space, 0),
            adam: Adam::default(),
            sgd: Sgd::new(),
            sizes: BestBySize::default(),
        },
    };
    (checkpoint.to_bytes(&origin).unwrap(), origin)
}

#[test]
fn logits_of_another_shape_are_refused() {
    let (bytes, origin) = checkpoint(&space::NASBENCH201);
    let error = SearchCheckpoint::from_bytes(&bytes, "checkpoint", &origin).unwrap_err().to_string();
    assert!(error.contains("`alphas` has the shape [30], expected [224]"), "{error}");
}

/// `none` of the largest weight is derived, and not if it is excluded; epochs that train only the weights leave the logits.
#[test]
fn none_is_excluded_and_the_first_epochs_train_weights_alone() {
    let sets =
        ["search.space=nasbench201", "search.exclude_none=true", "search.warmup_epochs=1"].map(String::from);
    let excluding = Config::resolve("smoke", None, &sets).unwrap().search;
    let config = Config::resolve("smoke", None, &sets[..1]).unwrap().search;
    let mut alphas = Alphas::init(&space::NASBENCH201, 1);
    alphas.operations.iter_mut().for_each(|row| (row[0], row[3]) = (2.0, 1.0));
    assert!(config.derive(&alphas).unwrap().is_dead());
    let found = excluding.derive(&alphas).unwrap();
    assert_eq!(found.convolutions(), [6, 0]);

    let shape =
        SupernetConfig { channels: 4, layers: 3, space: &space::NASBENCH201, ..SupernetConfig::paper(10) };
    let mut net = new_supernet(&shape, SIDE, SIDE, 3, None).unwrap();
    let before = alphas.clone();
    let mut stepper = Stepper::default();
    let mut step = |alphas: &mut Alphas, epoch: usize| {
        let weights = net.weights().unwrap();
        let at = StepContext { seed: 0, epoch, step: 0, lr: 0.05 };
        let seen = stepper.step(&mut *net, alphas, [&batch(), &batch()], &excluding, at).unwrap();
        let moved = net.weights().unwrap();
        let stem =
            |of: &Weights| of.get("stem.0.weight").unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(stem(&weights) != stem(&moved) && seen.train_loss > 0.0);
        seen.valid_loss
    };
    assert_eq!(step(&mut alphas, 0), None);
    assert_eq!(alphas, before);
    assert!(step(&mut alphas, 1).is_some());
    assert_ne!(alphas, before);
}
