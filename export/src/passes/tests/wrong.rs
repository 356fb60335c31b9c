//! Passes that are wrong on purpose. A property, the comparison, the checker or the limit of steps stops
//! each.

use std::path::Path;

use milenas_models::graph::Patch;
use milenas_models::op::{Identity, Input};

use super::super::*;
use super::assert_sound;
use crate::testing::{derived, genotype, graph, weights};
use crate::verify::{NetworkRef, Tolerance};
use crate::{ExportOptions, export_file};

/// Wrong pass: drops the first ReLU that it finds.
struct DropRelu;

impl Pass for DropRelu {
    fn name(&self) -> &'static str {
        "drop_relu"
    }

    fn next(&self, graph: &Graph, _: &Weights) -> Checked<Option<Rewrite>> {
        let relu = graph
            .values()
            .find(|(v, n)| matches!(n.op, Op::Relu(_)) && can_stand_for(graph, n.inputs[0], *v));
        relu.map(|(v, n)| Rewrite::replace(graph, v, n.inputs[0])).transpose()
    }
}

#[test]
#[should_panic(expected = "absolute")]
fn a_wrong_pass_is_caught_by_the_properties() {
    assert_sound(&[&DropRelu], &graph(1, 12), Tolerance::ROUNDING, true);
}

#[test]
fn a_wrong_pass_is_caught_by_the_proof_and_leaves_no_file() {
    let graph = derived(&genotype(1), 3);
    let numbers = weights(&graph, 1);
    let network = NetworkRef { graph: &graph, weights: &numbers };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let options = ExportOptions { passes: vec![&DropRelu], ..ExportOptions::default() };
    let error = export_file(&path, network, &Default::default(), &options, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Differs { .. }), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    let report =
        export_file(&path, network, &Default::default(), &ExportOptions::default(), &mut |_| {}).unwrap();
    assert!(report.comparison.within(&Tolerance::ROUNDING) && report.comparison.images == 10);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let read = crate::onnx::read(Path::new(&path)).unwrap();
    let (pass, patches) = report.passes.first_key_value().unwrap();
    assert!(read.metadata[crate::PASSES_KEY].starts_with(&format!("portable: {pass} {patches}")));
}

/// Endless pass: wraps every input in one more Identity.
struct Grow;

impl Pass for Grow {
    fn name(&self) -> &'static str {
        "grow"
    }

    fn next(&self, graph: &Graph, _: &Weights) -> Checked<Option<Rewrite>> {
        let Some((value, node)) = graph.values().find(|(_, n)| matches!(n.op, Op::Input(Input { .. })))
        else {
            return Ok(None);
        };
        let mut patch = Patch::new();
        let tap = patch.tap(value);
        let new = patch.wire(graph, &node_name(graph, "more", &[]), Identity, &[tap], None)?;
        patch.shunt(graph, value, new)?;
        Ok(Some(Rewrite { at: node.name.clone(), patch }))
    }
}

#[test]
fn passes_without_end_are_stopped() {
    let mut graph = graph(2, 4);
    let mut numbers = weights(&graph, 1);
    let error = run(&[&Grow], &mut graph, &mut numbers, usize::MAX, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Endless { pass: "grow", .. }), "{error}");
}

/// Wrong pass: gives a convolution a weight of another shape.
#[derive(Debug)]
struct WrongShape;

impl Pass for WrongShape {
    fn name(&self) -> &'static str {
        "wrong_shape"
    }

    fn next(&self, graph: &Graph, _: &Weights) -> Checked<Option<Rewrite>> {
        let Some(node) = graph.nodes().iter().find(|n| matches!(n.op, Op::Conv2d(_))) else {
            return Ok(None);
        };
        let mut patch = Patch::new();
        patch.weight(
            node.params[0].name.clone(),
            Tensor::ones(3, candle_core::DType::F32, &candle_core::Device::Cpu)?,
        );
        Ok(Some(Rewrite { at: node.name.clone(), patch }))
    }
}

#[test]
fn a_wrong_pass_is_caught_by_the_checker_and_changes_nothing() {
    let graph = derived(&genotype(5), 2);
    let (mut after, mut numbers) = (graph.clone(), weights(&graph, 1));
    let old = numbers.clone();
    let message = run(&[&WrongShape], &mut after, &mut numbers, 9, &mut |_| {}).unwrap_err().to_string();
    assert!(message.contains("wrong_shape") && message.contains("step 1"), "{message}");
    assert_eq!(after, graph);
    numbers.check_same(&old).unwrap();
}
