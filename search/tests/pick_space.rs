//! A space that is not made of cells: one file with its choices and its networks is enough to sample, search and write it.
#![allow(clippy::unwrap_used)]

use milenas_models::graph::{Builder, Fact, Value};
use milenas_models::op::{Add, BatchNorm, Conv2d, Flatten, GlobalAvgPool, Linear, Padding};
use milenas_models::primitive::Style;
use milenas_models::space::{Choice, ChoiceGraph, PickSpace, Site, Space, SupernetSize};
use milenas_models::{Genotype, NetworkConfig, Primitive, Result, Rng, Skeleton, Trainable, cost};
use milenas_search::config::Config;
use milenas_search::data::Batch;
use milenas_search::strategy::{StepContext, Stepper};
use milenas_search::supernet::compiled::CompiledSupernet;
use milenas_search::supernet::reference::Reference;
use milenas_search::supernet::{Alphas, GradRequest, Supernet, SupernetConfig, new_supernet};

/// A chain of layers, each a convolution or none.
#[derive(Debug)]
struct Chain;

static CHAIN: Chain = Chain;
const LAYERS: usize = 3;
const CANDIDATES: [Primitive; 3] = [Primitive::NorConv3x3, Primitive::NorConv1x1, Primitive::SkipConnect];
const CONFIG: SupernetConfig = SupernetConfig { channels: 4, space: &CHAIN, ..SupernetConfig::paper(5) };

/// Emits stem and classifier around the layers.
fn around(
    size: [usize; 5],
    layers: impl FnOnce(&mut Builder, Value) -> Result<Value>,
) -> Result<milenas_models::Graph> {
    let [channels, classes, in_channels, height, width] = size;
    let mut b = Builder::new();
    let image = b.input("input", Fact::image(in_channels, height, width))?;
    let stem = Conv2d::new(in_channels, channels, 3).padding(Padding::all(1));
    let x = b.wire("stem.0", stem, &[image])?;
    let x = b.wire("stem.1", BatchNorm::new(channels, true), &[x])?;
    let x = layers(&mut b, x)?;
    let x = b.wire("pool", GlobalAvgPool, &[x])?;
    let x = b.wire("flatten", Flatten { axis: 1 }, &[x])?;
    let linear = Linear { in_features: channels, out_features: classes, bias: true };
    let x = b.wire("classifier", linear, &[x])?;
    b.output("logits", x);
    b.finish()
}

impl PickSpace for Chain {
    fn name(&self) -> &'static str {
        "chain"
    }

    fn doc(&self) -> &'static str {
        "a chain of three layers"
    }

    fn choices(&self) -> Vec<Choice> {
        let candidates: Vec<String> = CANDIDATES.iter().map(|p| p.name().into()).collect();
        let choice = |layer: usize| Choice {
            group: "chain",
            name: format!("layer {layer}"),
            node: layer,
            candidates: candidates[..3 - layer % 2].to_vec(),
        };
        (0..LAYERS).map(choice).collect()
    }

    fn supernet(&self, size: &SupernetSize) -> Result<ChoiceGraph> {
        let mut sites = Vec::new();
        let sizes = [size.channels, size.classes, size.in_channels, size.height, size.width];
        let graph = around(sizes, |b, mut x| {
            for (choice, Choice { candidates, .. }) in PickSpace::choices(self).iter().enumerate() {
                let (mut wires, mut sum) = (Vec::new(), None);
                for (k, name) in candidates.iter().enumerate() {
                    let y = b.scope(format!("layers.{choice}.{k}"), |b| {
                        Primitive::parse(name)?.emit(b, x, size.channels, 1, Style::Supernet)
                    })?;
                    wires.push(vec![y]);
                    sum = Some(match sum {
                        None => y,
                        Some(sum) => b.wire(&format!("sums.{choice}.{k}"), Add, &[sum, y])?,
                    });
                }
                x = sum.unwrap();
                sites.push(Site { choice, candidates: wires });
            }
            Ok(x)
        })?;
        Ok(ChoiceGraph { graph, sites })
    }

    fn network(&self, picks: &[usize], size: &NetworkConfig, _auxiliary: bool) -> Result<Trainable> {
        let sizes = [size.channels, size.classes, size.in_channels, size.height, size.width];
        let graph = around(sizes, |b, mut x| {
            for (layer, pick) in picks.iter().enumerate() {
                x = b.scope(format!("layers.{layer}"), |b| {
                    CANDIDATES[*pick].emit(b, x, size.channels, 1, Style::Derived)
                })?;
            }
            Ok(x)
        })?;
        Ok(Trainable { graph, paths: Vec::new(), cells: Vec::new() })
    }
}

fn batch() -> Batch {
    let mut rng = Rng::new(1, "images");
    Batch {
        images: (0..6 * 3 * 64).map(|_| rng.uniform(-1.0, 1.0)).collect::<Vec<_>>().into(),
        shape: [3, 8, 8],
        labels: (0..6).map(|i| i % 5).collect(),
    }
}

#[test]
fn genotypes_are_sampled_changed_and_named() {
    let mut rng = Rng::new(3, "sample");
    for _ in 0..20 {
        let parent = CHAIN.sample(&mut rng).unwrap();
        let child = CHAIN.mutate(&parent, &mut rng).unwrap();
        let changed = parent.picks().unwrap().iter().zip(child.picks().unwrap()).filter(|(a, b)| a != b);
        assert_eq!(changed.count(), 1);
        assert!(Space::contains(&CHAIN, &child) && parent.class() != child.class());
    }
    let genotype = CHAIN.derive(&[vec![0.1, 0.2, 0.7], vec![0.6, 0.4], vec![0.3, 0.4, 0.3]]).unwrap();
    assert_eq!(genotype.to_string(), "chain[skip_connect, nor_conv_3x3, nor_conv_1x1]");
    assert!(
        genotype.to_json().contains("\"choices\": [\"skip_connect\", \"nor_conv_3x3\", \"nor_conv_1x1\"]")
    );
    let names = ["skip_connect", "nor_conv_3x3", "nor_conv_1x1"].map(String::from);
    assert_eq!(Genotype::named_picks(&CHAIN, &names).unwrap(), genotype);
    for (names, expected) in [
        (&names[..2], "2 names"),
        (&["none".into(), names[1].clone(), names[2].clone()], "unknown candidate"),
    ] {
        let error = Genotype::named_picks(&CHAIN, names).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(CHAIN.derive(&[vec![0.5; 3]]).is_err());
    let darts = Genotype::named("DARTS_V2").unwrap();
    assert!(!Space::contains(&CHAIN, &darts) && CHAIN.mutate(&darts, &mut rng).is_err());
}

#[test]
fn a_genotype_is_a_network() {
    let config = NetworkConfig {
        channels: 4,
        layers: 1,
        classes: 5,
        in_channels: 3,
        height: 8,
        width: 8,
        skeleton: Skeleton::Cifar,
    };
    let names = ["skip_connect", "nor_conv_3x3", "nor_conv_1x1"].map(String::from);
    let genotype = Genotype::named_picks(&CHAIN, &names).unwrap();
    let graph = milenas_models::assemble(&genotype, &config).unwrap();
    // Stem, 3x3 and 1x1 convolution, each with BatchNorm, and classifier.
    assert_eq!(cost(&graph).params, (27 * 4 + 8) + (9 * 16 + 8) + (16 + 8) + (4 * 5 + 5));
}

/// The compiled supernet computes what the reference does, and a search moves the logits.
#[test]
fn it_is_searched_by_the_compiled_supernet() {
    let mut fast = CompiledSupernet::new(CONFIG, &CONFIG.choices(8, 8).unwrap()).unwrap();
    let mut slow = Reference::new(&CONFIG, 8, 8, 7).unwrap();
    fast.load(&slow.weights().unwrap()).unwrap();
    let alphas = Alphas::init(&CHAIN, 1);
    assert_eq!(alphas.operations.iter().map(Vec::len).collect::<Vec<_>>(), [3, 2, 3]);
    let want = GradRequest { weights: true, mixture: true };
    let found = fast.evaluate(&batch(), &alphas.mixture(), want).unwrap();
    let expected = slow.evaluate(&batch(), &alphas.mixture(), want).unwrap();
    assert!((found.loss - expected.loss).abs() < 1e-4);
    for (a, b) in found.mixture_gradient.concat().iter().zip(expected.mixture_gradient.concat()) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
    let norm = slow.gradient_norm().unwrap();
    assert!((fast.gradient_norm().unwrap() / norm - 1.0).abs() < 1e-3);

    let mut net = new_supernet(&CONFIG, 8, 8, 7, None).unwrap();
    assert_eq!(net.slow_because(), None);
    let config = Config::resolve("paper", None, &[]).unwrap().search;
    let (mut stepper, mut moved) = (Stepper::default(), alphas.clone());
    for step in 0..3 {
        let at = StepContext { seed: 0, epoch: 0, step, lr: 0.01 };
        stepper.step(&mut *net, &mut moved, [&batch(), &batch()], &config, at).unwrap();
    }
    assert!(moved != alphas && moved.flat().iter().all(|x| x.is_finite()));
    assert!(Space::contains(&CHAIN, &moved.genotype().unwrap()));
}
