//! Properties of every pass: equal results, a valid graph, nothing left to rewrite, never more parameters or
//! work.

mod wrong;

use milenas_models::{Executor, Genotype, Mode, cost};
use proptest::prelude::*;

use crate::Target;
use crate::testing::{derived, genotype, graph};
use crate::verify::{NetworkRef, compare, random_inputs};

// The tests of a pass are in its file and read these.
pub(super) use super::*;
pub(super) use crate::testing::weights;
pub(super) use crate::verify::Tolerance;
pub(super) use milenas_models::graph::{Builder, Fact};
pub(super) use milenas_models::op::{
    Add, BatchNorm, Concat, Conv2d, GlobalAvgPool, Identity, Padding, Pool2d, PoolKind, Range, Relu, Slice,
    Zero,
};

/// Number of values that a network stores, including those that training does not change.
fn stored(graph: &Graph) -> usize {
    graph.params().map(|p| p.shape.iter().product::<usize>()).sum()
}

fn names(graph: &Graph) -> (Vec<String>, Vec<String>) {
    let inputs = graph.inputs().map(|v| graph.node(v).name.clone()).collect();
    (inputs, graph.outputs().iter().map(|(name, _)| name.clone()).collect())
}

/// Runs passes on a network and asserts the properties of all passes. Returns the number of applied patches.
pub(super) fn assert_sound(
    passes: &[&dyn Pass],
    before: &Graph,
    tolerance: Tolerance,
    cheaper: bool,
) -> usize {
    let old = weights(before, 1);
    let (mut after, mut new) = (before.clone(), old.clone());
    let steps = run(passes, &mut after, &mut new, usize::MAX, &mut |_| {}).unwrap();
    after.check().unwrap();
    new.check(&after).unwrap();
    assert_eq!(names(before), names(&after));
    let inputs = random_inputs(before, 2).unwrap();
    let pair = [NetworkRef { graph: before, weights: &old }, NetworkRef { graph: &after, weights: &new }];
    let found = compare(pair[0], pair[1], &inputs).unwrap();
    assert!(found.within(&tolerance), "{found}\n{before}\n{after}");
    if cheaper {
        assert!(stored(&after) <= stored(before), "{before}\n{after}");
        assert!(cost(&after).macs <= cost(before).macs, "{before}\n{after}");
    }
    let once = after.clone();
    assert_eq!(run(passes, &mut after, &mut new, usize::MAX, &mut |_| {}).unwrap(), 0);
    assert_eq!(once, after);
    steps
}

/// Passes that change rounding, because they compute sums in another order.
const ROUNDED: &[&str] = &["fold_batch_norm", "split_concat", "join_reduction", "lower_global_pool"];

/// Passes that add parameters or multiply-accumulates.
const COSTLY: &[&str] = &["join_reduction", "lower_batch_norm"];

/// Asserts the properties of a pass. Returns the number of applied patches.
fn assert_pass_sound(pass: &dyn Pass, graph: &Graph) -> usize {
    let tolerance = match ROUNDED.contains(&pass.name()) {
        true => Tolerance::ROUNDING,
        false => Tolerance::EXACT,
    };
    assert_sound(&[pass], graph, tolerance, !COSTLY.contains(&pass.name()))
}

/// Simplifying passes for any reader.
pub(super) fn simplify() -> Vec<&'static dyn Pass> {
    Target::Portable.simplify()
}

#[test]
fn every_pass_is_documented_runs_for_a_target_and_fires_on_its_example() {
    for (i, (entry, example)) in PASSES.iter().zip(examples()).enumerate() {
        let name = entry.pass.name();
        assert!(PASSES[..i].iter().all(|other| other.pass.name() != name), "{name}");
        assert!(entry.doc.ends_with('.') && entry.doc.len() > 15, "{name}: {}", entry.doc);
        let int8 = Target::ALL.into_iter().filter_map(Target::simplify_for_int8).flatten();
        let lists = Target::ALL.into_iter().flat_map(|target| [target.simplify(), target.lower()]);
        assert!(lists.flatten().chain(int8).any(|pass| pass.name() == name), "{name}");
        assert!(assert_pass_sound(entry.pass, &example) > 0, "{name} finds nothing in\n{example}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_pass_is_sound_on_random_graphs(seed: u64, nodes in 1..24usize) {
        let graph = graph(seed, nodes);
        for entry in PASSES {
            assert_pass_sound(entry.pass, &graph);
        }
        assert_sound(&Target::Portable.lower(), &graph, Tolerance::EXACT, false);
        for target in Target::ALL {
            assert_sound(&target.simplify(), &graph, Tolerance::ROUNDING, target != Target::OnnxRuntime);
            assert_sound(&target.lower(), &graph, Tolerance::ROUNDING, false);
        }
    }

    #[test]
    fn the_pipeline_is_sound_on_derived_networks(seed in 0..1000u64) {
        let graph = derived(&genotype(seed), 3);
        for target in Target::ALL {
            let cheaper = target != Target::OnnxRuntime;
            assert!(assert_sound(&target.simplify(), &graph, Tolerance::ROUNDING, cheaper) > 0);
            assert_sound(&target.lower(), &graph, Tolerance::ROUNDING, false);
        }
    }
}

/// Graph of one image `[N, 4, 6, 6]` and one result.
pub(super) fn built(body: impl FnOnce(&mut Builder, Value) -> Checked<Value>) -> Graph {
    let mut b = Builder::new();
    let x = b.input("input", Fact::image(4, 6, 6)).unwrap();
    let y = body(&mut b, x).unwrap();
    b.output("y", y);
    b.finish().unwrap()
}

/// Text of the graph after passes, of which at least one fires.
pub(super) fn text(passes: &[&dyn Pass], graph: &Graph) -> String {
    let (mut after, mut numbers) = (graph.clone(), weights(graph, 1));
    assert!(run(passes, &mut after, &mut numbers, usize::MAX, &mut |_| {}).unwrap() > 0);
    after.to_string()
}

#[test]
fn an_identity_that_names_an_input_stays() {
    let graph = built(|b, x| b.wire("skip", Identity, &[x]));
    assert_eq!(run(&simplify(), &mut graph.clone(), &mut Weights::default(), 9, &mut |_| {}).unwrap(), 0);
}

#[test]
fn steps_can_be_limited_and_are_logged() {
    let graph = derived(&genotype(3), 3);
    let (mut after, mut numbers, mut log) = (graph.clone(), weights(&graph, 1), Vec::new());
    assert_eq!(run(&simplify(), &mut after, &mut numbers, 5, &mut |s| log.push(s.clone())).unwrap(), 5);
    assert_eq!(log.iter().map(|s| s.number).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(log[4].nodes, after.nodes().len());
}

/// The fused kernels of training also run what the portable passes produce: biases of folded norms, two
/// convolutions in a reduction. The executor runs graphs with a node of `none` alone, or with the 2x2
/// convolutions of another target.
#[test]
fn the_fused_network_runs_simplified_graphs() {
    for name in ["DARTS_V1", "DARTS_V2", "r101_e50_48_n7r3", "V2_r2_e100", "GDAS_MIXED_LEVEL2"] {
        let source = derived(&Genotype::named(name).unwrap(), 5);
        let (mut graph, mut numbers) = (source.clone(), weights(&source, 3).detached().unwrap());
        run(&simplify(), &mut graph, &mut numbers, usize::MAX, &mut |_| {}).unwrap();
        let mut network = milenas_models::fused::FusedNetwork::new(&graph).unwrap_or_else(|e| panic!("{e}"));
        network.tensors_mut().load(&numbers).unwrap();
        for inputs in random_inputs(&graph, 3).unwrap() {
            let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let expected = flat(&Executor::new(&graph, &numbers).run(&inputs, Mode::Eval).unwrap()[0]);
            let found = network.predict(&flat(&inputs[0])).unwrap();
            let scale = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            let worst = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
            assert!(expected.len() == found.len() && worst <= 1e-4 * scale, "{worst} of {scale}");
        }
    }
}
