//! Properties of every pass: equal results, a valid graph, nothing left to rewrite, never more parameters or
//! work.

mod wrong;

use milenas_models::graph::{Builder, Fact};
use milenas_models::op::{
    Add, BatchNorm, Concat, Conv2d, GlobalAvgPool, Identity, Padding, Pool2d, PoolKind, Range, Relu, Slice,
    Zero,
};
use milenas_models::{Executor, Genotype, Mode, cost};
use proptest::prelude::*;

use super::*;
use crate::testing::{derived, genotype, graph, weights};
use crate::verify::{NetworkRef, Tolerance, compare, random_inputs};
use crate::{LOWER, SIMPLIFY, Target};

/// Number of values that a network stores, including those that training does not change.
fn stored(graph: &Graph) -> usize {
    graph.params().map(|p| p.shape.iter().product::<usize>()).sum()
}

fn names(graph: &Graph) -> (Vec<String>, Vec<String>) {
    let inputs = graph.inputs().map(|v| graph.node(v).name.clone()).collect();
    (inputs, graph.outputs().iter().map(|(name, _)| name.clone()).collect())
}

/// Runs passes on a network and asserts the properties of all passes. Returns the number of applied patches.
fn assert_sound(passes: &[&dyn Pass], before: &Graph, tolerance: Tolerance, cheaper: bool) -> usize {
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

/// Passes that keep every value unchanged.
const EXACT: &[&dyn Pass] =
    &[&RemoveDead, &DropIdentity, &DropNone, &MergeEqual, &SplitBatchNorm, &PoolParts, &LowerPadding];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_pass_is_sound_on_random_graphs(seed: u64, nodes in 1..24usize) {
        let graph = graph(seed, nodes);
        for pass in EXACT {
            assert_sound(&[*pass], &graph, Tolerance::EXACT, true);
        }
        assert_sound(&[&FoldBatchNorm], &graph, Tolerance::ROUNDING, true);
        assert_sound(&[&PushReluIntoConcat], &graph, Tolerance::EXACT, true);
        assert_sound(&[&SplitConcat], &graph, Tolerance::ROUNDING, true);
        assert_sound(&[&JoinReduction], &graph, Tolerance::ROUNDING, false);
        assert_sound(&[&LowerGlobalPool], &graph, Tolerance::ROUNDING, true);
        assert_sound(SIMPLIFY, &graph, Tolerance::ROUNDING, true);
        assert_sound(LOWER, &graph, Tolerance::EXACT, false);
        for target in Target::ALL {
            assert_sound(target.simplify(), &graph, Tolerance::ROUNDING, target != Target::OnnxRuntime);
            assert_sound(target.lower(), &graph, Tolerance::ROUNDING, false);
        }
    }

    #[test]
    fn the_pipeline_is_sound_on_derived_networks(seed in 0..1000u64) {
        let graph = derived(&genotype(seed), 3);
        for target in Target::ALL {
            let cheaper = target != Target::OnnxRuntime;
            assert!(assert_sound(target.simplify(), &graph, Tolerance::ROUNDING, cheaper) > 0);
            assert_sound(target.lower(), &graph, Tolerance::ROUNDING, false);
        }
    }
}

fn built(body: impl FnOnce(&mut Builder, Value) -> Checked<Value>) -> Graph {
    let mut b = Builder::new();
    let x = b.input("input", Fact::image(4, 6, 6)).unwrap();
    let y = body(&mut b, x).unwrap();
    b.output("y", y);
    b.finish().unwrap()
}

fn text(passes: &[&dyn Pass], graph: &Graph) -> String {
    let (mut after, mut numbers) = (graph.clone(), weights(graph, 1));
    assert!(run(passes, &mut after, &mut numbers, usize::MAX, &mut |_| {}).unwrap() > 0);
    after.to_string()
}

#[test]
fn identities_go() {
    let graph = built(|b, x| {
        let x = b.wire("skip", Identity, &[x])?;
        let x = b.wire("alone", Concat { axis: 1 }, &[x])?;
        let x = b.wire("relu", Relu, &[x])?;
        b.wire("again", Relu, &[x])
    });
    let after = text(&[&DropIdentity], &graph);
    assert_eq!(
        after,
        "input = input() -> [N, 4, 6, 6]\nrelu = relu(input) -> [N, 4, 6, 6]\noutput y = relu\n"
    );
}

#[test]
fn an_identity_that_names_an_input_stays() {
    let graph = built(|b, x| b.wire("skip", Identity, &[x]));
    assert_eq!(run(SIMPLIFY, &mut graph.clone(), &mut Weights::default(), 9, &mut |_| {}).unwrap(), 0);
}

#[test]
fn zeros_leave_sums() {
    let graph = built(|b, x| {
        let conv = b.wire("conv", Conv2d::depthwise(4, 3, 1, 1), &[x])?;
        let zero = b.wire("none", Zero { stride: 1 }, &[conv])?;
        let still = b.wire("relu", Relu, &[zero])?;
        let still = b.wire("pool", Pool2d::new(PoolKind::Max, 3, 1), &[still])?;
        b.wire("sum", Add, &[still, conv])
    });
    let after = text(&[&DropNone], &graph);
    assert!(after.ends_with("output y = conv\n") && after.lines().count() == 3, "{after}");
}

#[test]
fn strided_zeros_let_go_of_what_they_read() {
    let graph = built(|b, x| {
        let conv = b.wire("conv", Conv2d::depthwise(4, 3, 1, 1), &[x])?;
        let zero = b.wire("none", Zero { stride: 2 }, &[conv])?;
        b.wire("conv2", Conv2d::depthwise(4, 3, 2, 1), &[zero])
    });
    let after = text(&[&DropNone], &graph);
    assert!(after.contains("conv2 = zero[stride 4](input)") && after.lines().count() == 3, "{after}");
    let lowered = text(&[&DropNone, &LowerNone], &graph);
    assert!(lowered.contains("conv2 = zero[stride 1](conv2.stride)"), "{lowered}");
}

#[test]
fn equal_nodes_become_one() {
    let graph = built(|b, x| {
        let [a, c] = ["a", "c"].map(|name| b.wire(name, Relu, &[x]));
        let (a, c) = (a?, c?);
        let left = b.wire("left", Add, &[a, x])?;
        let right = b.wire("right", Add, &[x, c])?;
        b.wire("both", Concat { axis: 1 }, &[left, right])
    });
    let after = text(&[&MergeEqual], &graph);
    assert!(after.contains("both = concat[axis 1](left, left)"), "{after}");
}

#[test]
fn batch_norm_behind_a_factorized_reduction_folds_away() {
    let graph = built(|b, x| {
        let parts = ["a", "c"].map(|name| b.wire(name, Conv2d::pointwise(4, 3), &[x]));
        let [a, c] = parts;
        let both = b.wire("concat", Concat { axis: 1 }, &[a?, c?])?;
        b.wire("bn", BatchNorm::new(6, true), &[both])
    });
    assert_eq!(assert_sound(&[&SplitBatchNorm, &FoldBatchNorm], &graph, Tolerance::ROUNDING, true), 3);
    let after = text(SIMPLIFY, &graph);
    assert!(!after.contains("batch_norm") && after.contains("concat = concat[axis 1](a, c)"), "{after}");
}

#[test]
fn a_convolution_over_a_row_of_images_becomes_a_sum() {
    let graph = built(|b, x| {
        let [a, c] = ["a", "c"].map(|name| b.wire(name, Conv2d::depthwise(4, 3, 1, 1), &[x]));
        let both = b.wire("both", Concat { axis: 1 }, &[a?, c?, x])?;
        let relu = b.wire("relu", Relu, &[both])?;
        let first = b.wire("first", Conv2d::pointwise(12, 3).bias(true), &[relu])?;
        let second = b.wire("second", Conv2d::new(12, 3, 3).padding(Padding::all(1)), &[relu])?;
        let third = b.wire("third", Conv2d::pointwise(12, 3), &[both])?;
        let sum = b.wire("sum", Add, &[first, second])?;
        b.wire("all", Add, &[sum, third])
    });
    assert_eq!(assert_sound(&[&SplitConcat], &graph, Tolerance::ROUNDING, true), 1);
    let after = text(&[&SplitConcat, &MergeEqual], &graph);
    assert!(!after.contains("concat") && after.matches(" = relu(").count() == 3, "{after}");
    assert_eq!(after.matches("bias true").count(), 1, "{after}");
}

#[test]
fn a_row_of_images_that_something_else_reads_stays() {
    let graph = built(|b, x| {
        let both = b.wire("both", Concat { axis: 1 }, &[x, x])?;
        let conv = b.wire("conv", Conv2d::pointwise(8, 8), &[both])?;
        b.wire("sum", Add, &[conv, both])
    });
    assert_eq!(assert_sound(&[&SplitConcat], &graph, Tolerance::EXACT, true), 0);
}

#[test]
fn the_mean_goes_before_the_row() {
    let graph = built(|b, x| {
        let relu = b.wire("relu", Relu, &[x])?;
        let both = b.wire("both", Concat { axis: 1 }, &[relu, x])?;
        b.wire("mean", GlobalAvgPool, &[both])
    });
    let after = text(&[&PoolParts], &graph);
    assert!(after.contains("both = concat[axis 1](mean.0, mean.1) -> [N, 8, 1, 1]"), "{after}");
    let lowered = text(&[&PoolParts, &LowerGlobalPool], &graph);
    assert!(!lowered.contains("global_avg_pool") && lowered.contains("kernel [6, 6]"), "{lowered}");
}

#[test]
fn relu_moves_into_a_concatenation_that_only_relu_reads() {
    let row = |b: &mut Builder, x| {
        let y = b.wire("y", Conv2d::pointwise(4, 4), &[x])?;
        b.wire("both", Concat { axis: 1 }, &[x, y])
    };
    let graph = built(|b, x| {
        let both = row(b, x)?;
        let [a, c] = ["a", "c"].map(|name| b.wire(name, Relu, &[both]));
        b.wire("sum", Add, &[a?, c?])
    });
    let after = text(&[&PushReluIntoConcat], &graph);
    assert!(
        after.contains("both = concat[axis 1](a.0, a.1)") && after.contains("add(both, both)"),
        "{after}"
    );
    let graph = built(|b, x| {
        let both = row(b, x)?;
        let relu = b.wire("relu", Relu, &[both])?;
        b.wire("sum", Add, &[relu, both])
    });
    assert!(PushReluIntoConcat.next(&graph, &weights(&graph, 1)).unwrap().is_none());
}

#[test]
fn a_factorized_reduction_is_one_convolution_at_even_and_odd_sizes() {
    for (size, edge) in [(6, 0), (7, 1)] {
        let mut b = Builder::new();
        let x = b.input("input", Fact::image(4, size, size)).unwrap();
        let ranges = vec![Range { axis: 2, start: 1, end: size }, Range { axis: 3, start: 1, end: size }];
        let shift = b.wire("shift", Slice { ranges }, &[x]).unwrap();
        let even = b.wire("even", Conv2d::pointwise(4, 2).stride(2).bias(true), &[x]).unwrap();
        let past = Padding { bottom: edge, right: edge, ..Padding::default() };
        let odd = b.wire("odd", Conv2d::pointwise(4, 3).stride(2).padding(past), &[shift]).unwrap();
        let both = b.wire("both", Concat { axis: 1 }, &[even, odd]).unwrap();
        b.output("y", both);
        let graph = b.finish().unwrap();
        assert_eq!(assert_sound(&[&JoinReduction], &graph, Tolerance::ROUNDING, false), 1);
        let after = text(&[&JoinReduction], &graph);
        assert!(after.contains("conv2d[4->5 kernel [2, 2]") && after.lines().count() == 3, "{after}");
    }
}

#[test]
fn padded_pools_become_pools_of_parts() {
    for kind in [PoolKind::Max, PoolKind::Average { count_padding: false }] {
        for (kernel, stride, size) in
            [(3, 1, 6), (3, 2, 6), (3, 2, 7), (5, 1, 6), (5, 3, 9), (3, 1, 2), (3, 2, 1)]
        {
            let mut b = Builder::new();
            let x = b.input("input", Fact::image(2, size, size + 1)).unwrap();
            let y = b.wire("pool", Pool2d::new(kind, kernel, stride), &[x]).unwrap();
            b.output("y", y);
            let graph = b.finish().unwrap();
            assert_eq!(assert_sound(&[&LowerPadding], &graph, Tolerance::ROUNDING, true), 1);
            let after = text(&[&LowerPadding], &graph);
            let pools = after.lines().filter(|l| l.contains("pool2d")).count();
            assert_eq!(after.matches("pads [0, 0, 0, 0]").count(), pools, "{after}");
        }
    }
}

#[test]
fn a_convolution_with_another_reader_keeps_its_numbers() {
    let graph = built(|b, x| {
        let conv = b.wire("conv", Conv2d::pointwise(4, 4), &[x])?;
        let bn = b.wire("bn", BatchNorm::new(4, true), &[conv])?;
        b.wire("sum", Add, &[bn, conv])
    });
    assert_eq!(assert_sound(SIMPLIFY, &graph, Tolerance::EXACT, true), 0);
}

#[test]
fn numbers_that_another_convolution_reads_stay_as_they_are() {
    let graph = built(|b, x| {
        let shared = || Some(vec!["first.weight".to_string()]);
        let first = b.wire_with("first", Conv2d::pointwise(4, 4), &[x], shared())?;
        let bn = b.wire("bn", BatchNorm::new(4, true), &[first])?;
        b.wire_with("second", Conv2d::pointwise(4, 4), &[bn], shared())
    });
    let (mut after, mut new) = (graph.clone(), weights(&graph, 1));
    let before = numbers(&new, &graph.nodes()[1], ParamRole::Weight).unwrap();
    assert_eq!(run(SIMPLIFY, &mut after, &mut new, usize::MAX, &mut |_| {}).unwrap(), 1);
    assert_eq!(after.nodes()[1].param(ParamRole::Weight), Some("first.weight_"));
    assert_eq!(before, numbers(&new, &graph.nodes()[1], ParamRole::Weight).unwrap());
}

#[test]
fn dead_nodes_leave_with_their_numbers() {
    let graph = built(|b, x| {
        b.wire("dead", Conv2d::pointwise(4, 4), &[x])?;
        b.wire("relu", Relu, &[x])
    });
    assert!(!text(&[&RemoveDead], &graph).contains("dead"));
}

#[test]
fn steps_can_be_limited_and_are_logged() {
    let graph = derived(&genotype(3), 3);
    let (mut after, mut numbers, mut log) = (graph.clone(), weights(&graph, 1), Vec::new());
    assert_eq!(run(SIMPLIFY, &mut after, &mut numbers, 5, &mut |s| log.push(s.clone())).unwrap(), 5);
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
        run(SIMPLIFY, &mut graph, &mut numbers, usize::MAX, &mut |_| {}).unwrap();
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
