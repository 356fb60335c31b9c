//! A derived network with a supernet's weights computes what the supernet computes with its genotype's candidates alone.
#![allow(clippy::unwrap_used)]

use milenas_models::fused::FusedNetwork;
use milenas_models::images::Source;
use milenas_models::metrics::Scores;
use milenas_models::{
    Genotype, NetworkConfig, Primitive, Rng, Skeleton, Trainable, Weights, assemble,
    space::{self, Space},
};
use milenas_search::config::Config;
use milenas_search::data::Batch;
use milenas_search::run::{Data, InitialWeights, TrainedSupernet as Inherited, open_train, run_train};
use milenas_search::strategy::ProgressSink;
use milenas_search::strategy::checkpoint::{Position, SearchCheckpoint, SearchOrigin, SearchState};
use milenas_search::supernet::{
    Alphas, DeviceSpec, GradRequest, Rows, Supernet, SupernetConfig, new_supernet,
};
use milenas_search::train::{estimate_statistics, evaluate};

const CONFIG: SupernetConfig =
    SupernetConfig { channels: 4, layers: 4, in_channels: 2, ..SupernetConfig::paper(5) };
const NETWORK: NetworkConfig = NetworkConfig {
    channels: 4,
    layers: 4,
    classes: 5,
    in_channels: 2,
    height: 12,
    width: 12,
    skeleton: Skeleton::Cifar,
};

/// Returns a genotype without pools: a supernet has a BatchNorm behind each pool, a derived network has none.
fn genotype(seed: u64) -> Genotype {
    let text = space::DARTS.sample(&mut Rng::new(seed, "genotype")).unwrap().to_json();
    let text = text.replace("max_pool_3x3", "dil_conv_5x5").replace("avg_pool_3x3", "sep_conv_5x5");
    Genotype::parse(&text, "test").unwrap()
}

/// Returns a mixture with weight 1 on the genotype's candidates, so that a node is the sum of two.
fn mixture(genotype: &Genotype) -> Rows {
    let edges = space::DARTS.edges();
    let mut rows = vec![vec![0.0; 8]; 2 * edges.len()];
    for (kind, (_, cell)) in genotype.cells().enumerate() {
        for (node, kept) in cell.nodes().enumerate() {
            for edge in kept {
                let row = edges.iter().position(|&e| e == (edge.from, node + 2)).unwrap();
                let column = Primitive::ALL.iter().position(|p| *p == edge.primitive).unwrap();
                rows[kind * edges.len() + row][column] = 1.0;
            }
        }
    }
    rows
}

fn save(folder: &std::path::Path, net: &mut dyn Supernet, sets: &[String]) {
    let config = Config::resolve("smoke", None, sets).unwrap();
    let alphas = Alphas::init(&space::DARTS, 0);
    let checkpoint = SearchCheckpoint {
        position: Position::start(1),
        state: SearchState {
            weights: net.weights().unwrap(),
            alphas,
            adam: Default::default(),
            sgd: Default::default(),
            sizes: Default::default(),
        },
    };
    let path = folder.join("checkpoint.safetensors");
    checkpoint
        .save(&path, &SearchOrigin { config, data: "made up".into(), device: "cpu".into(), subject: () })
        .unwrap();
}

#[test]
fn the_network_is_the_supernet_with_its_candidates_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut net = new_supernet(&CONFIG, 12, 12, 3, None).unwrap();
    save(folder.path(), &mut *net, &[]);
    let mut rng = Rng::new(3, "batch");
    let images: Vec<f32> = (0..6 * 2 * 144).map(|_| rng.normal()).collect();
    let batch = Batch { images: images.into(), labels: vec![0, 1, 2, 3, 4, 0], shape: [2, 12, 12] };
    for seed in 0..4 {
        let genotype = genotype(seed);
        let graph = assemble(&genotype, &NETWORK).unwrap();
        let weights = Weights::init(&graph, 9).unwrap();
        let copied = Inherited::load(folder.path()).unwrap().inherit(&genotype, &NETWORK, &weights).unwrap();
        let affine = graph.nodes().iter().filter(|n| matches!(n.op, milenas_models::Op::BatchNorm(_)));
        let affine: usize = affine.map(|n| 2 * n.params[0].shape[0]).sum();
        let all: usize = weights.iter().map(|(_, var)| var.elem_count()).sum();
        // The stem's BatchNorm has weight and bias in both networks.
        assert_eq!(copied, all - affine + 2 * 3 * CONFIG.channels);

        let want = GradRequest { weights: false, mixture: false };
        let expected = net.evaluate(&batch, &mixture(&genotype), want).unwrap();
        let mut network = FusedNetwork::new(&graph).unwrap();
        network.tensors_mut().load(&weights).unwrap();
        let (loss, correct) = network.train_step(&batch.numbers(), &batch.labels).unwrap();
        assert!((loss - expected.loss).abs() < 1e-4, "seed {seed}: {loss}, {}", expected.loss);
        assert_eq!(correct, expected.correct);
    }
}

#[test]
fn errors_explain_failed_inheritance() {
    let folder = tempfile::tempdir().unwrap();
    let message = Inherited::load(folder.path()).unwrap_err().to_string();
    assert!(message.contains("checkpoint.safetensors"), "{message}");
    let mut net = new_supernet(&CONFIG, 12, 12, 3, None).unwrap();
    save(folder.path(), &mut *net, &[]);
    let wider = NetworkConfig { channels: 6, ..NETWORK };
    let weights = Weights::init(&assemble(&genotype(0), &wider).unwrap(), 9).unwrap();
    let supernet = Inherited::load(folder.path()).unwrap();
    let message = supernet.inherit(&genotype(0), &wider, &weights).unwrap_err().to_string();
    assert!(message.contains("has shape") && message.contains("help"), "{message}");
    save(folder.path(), &mut *net, &["search.partial_channels=4".into()]);
    let message = Inherited::load(folder.path()).unwrap_err().to_string();
    assert!(message.contains("1/4 of a state's channels") && message.contains("help"), "{message}");
}

/// Inherited weights need estimated statistics: the supernet's BatchNorms have other inputs, and initial statistics change the accuracy.
#[test]
fn a_training_begins_with_statistics_of_its_images() {
    let folder = tempfile::tempdir().unwrap();
    let sets =
        ["channels=4", "layers=4", "batch=50", "epochs=1", "steps=1"].map(|set| format!("train.{set}"));
    let config = Config::resolve("smoke", None, &sets).unwrap();
    let data = Data::load(&Source::Digits, &config).unwrap();
    let shape = SupernetConfig { in_channels: 1, ..SupernetConfig { classes: 10, ..CONFIG } };
    let mut net = new_supernet(&shape, 8, 8, 3, None).unwrap();
    save(folder.path(), &mut *net, &[]);
    let supernet = Inherited::load(folder.path()).unwrap();

    let genotype = genotype(1);
    let network = Trainable::assemble(&genotype, &data.derived(&config.train), false).unwrap();
    let weights = Weights::init(&network.graph, config.seed).unwrap();
    supernet.inherit(&genotype, &data.derived(&config.train), &weights).unwrap();
    let accuracy = || {
        let ranked = evaluate(&network.graph, &weights, &data.test, 64).unwrap();
        Scores::new(&ranked, &data.classes).top1
    };
    let born = accuracy();
    estimate_statistics(&network, &weights, &data.train, &config, None).unwrap();
    let estimated = accuracy();
    assert_ne!(born, estimated);

    let start = InitialWeights::Supernet(Box::new(supernet));
    let run = open_train(&folder.path().join("n"), &config, &data, &genotype, &start, DeviceSpec::Cpu, false)
        .unwrap();
    let mut reported = None;
    run_train(&data, run, None, &mut Silent, &mut |before, _| reported = before).unwrap();
    assert_eq!(reported, Some(estimated));
}

struct Silent;

impl ProgressSink for Silent {
    fn begin(&mut self, _: usize, _: usize, _: usize, _: usize) {}
    fn step(&mut self, _: f64, _: usize) {}
}
