//! Readers for which a file is optimised. Each has its own passes, chosen by measurement (docs/compiler.md).

use std::str::FromStr;

use milenas_models::Error;

use crate::passes::{PASSES, Pass, PassStage};

/// Reader of ONNX files. Every target writes standard ONNX that all of them read, apart from operators that
/// candle-onnx lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Any reader: only passes that never add work.
    #[default]
    Portable,
    /// ONNX Runtime on a CPU. It stores images in blocks of channels, so an operation that copies images
    /// costs twice.
    OnnxRuntime,
    /// candle-onnx, which lacks padded pools and `GlobalAveragePool`.
    CandleOnnx,
}

impl Target {
    /// List of all targets.
    pub const ALL: [Target; 3] = [Target::Portable, Target::OnnxRuntime, Target::CandleOnnx];

    /// Returns the name of the target on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Target::Portable => "portable",
            Target::OnnxRuntime => "onnxruntime",
            Target::CandleOnnx => "candle-onnx",
        }
    }

    /// Returns the passes that simplify, in order.
    pub fn simplify(self) -> Vec<&'static dyn Pass> {
        selected(|stage| matches!(stage, PassStage::Simplify { targets, .. } if targets.contains(&self)))
    }

    /// Returns the passes that simplify a network before int8 quantisation; `None` if the reader has no
    /// integer operations.
    pub fn simplify_for_int8(self) -> Option<Vec<&'static dyn Pass>> {
        match self {
            Target::Portable | Target::OnnxRuntime => {
                Some(selected(|stage| matches!(stage, PassStage::Simplify { int8: true, .. })))
            }
            Target::CandleOnnx => None,
        }
    }

    /// Returns the passes that leave only operations that the encoder and the reader support.
    pub fn lower(self) -> Vec<&'static dyn Pass> {
        selected(|stage| matches!(stage, PassStage::Lower { targets } if targets.contains(&self)))
    }
}

/// Returns the passes of some stages, in the order of the table.
fn selected(runs: impl Fn(&PassStage) -> bool) -> Vec<&'static dyn Pass> {
    PASSES.iter().filter(|entry| runs(&entry.stage)).map(|entry| entry.pass).collect()
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let known = Self::ALL.map(Self::name);
        let found = Self::ALL.into_iter().find(|target| target.name() == name);
        found.ok_or_else(|| Error::unknown("target", name, known))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use candle_onnx::onnx::ModelProto;
    use milenas_models::{Executor, Genotype, Mode, NetworkConfig, assemble};
    use prost::Message;

    use super::*;
    use crate::testing::{derived, genotype, weights};
    use crate::verify::{NetworkRef, random_inputs};
    use crate::{ExportOptions, compile, onnx};

    /// Asserts that candle-onnx computes the same from a network's file as this project from the network.
    fn assert_candle_onnx_agrees(graph: &milenas_models::Graph) {
        let numbers = weights(graph, 1);
        let options = ExportOptions { target: Target::CandleOnnx, ..ExportOptions::default() };
        let (compiled, after) =
            compile(NetworkRef { graph, weights: &numbers }, &options, &mut |_| {}).unwrap();
        let bytes = onnx::encode(&compiled, &after, &BTreeMap::new()).unwrap();
        let model = ModelProto::decode(bytes.as_slice()).unwrap();
        for inputs in random_inputs(graph, 3).unwrap() {
            let expected = Executor::new(graph, &numbers).run(&inputs, Mode::Eval).unwrap().remove(0);
            let fed = HashMap::from([("input".to_string(), inputs[0].clone())]);
            let found = candle_onnx::simple_eval(&model, fed).unwrap().remove("logits").unwrap();
            let numbers = |x: &candle_core::Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let (expected, found) = (numbers(&expected), numbers(&found));
            let scale = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            let worst = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
            assert!(expected.len() == found.len() && worst <= 1e-3 * scale, "{worst} of {scale}");
        }
    }

    #[test]
    fn candle_onnx_runs_its_files() {
        for seed in 0..6 {
            assert_candle_onnx_agrees(&derived(&genotype(seed), 3));
        }
        let odd = NetworkConfig {
            channels: 4,
            layers: 3,
            classes: 10,
            in_channels: 3,
            height: 10,
            width: 14,
            skeleton: Default::default(),
        };
        assert_candle_onnx_agrees(&assemble(&Genotype::named("DARTS_V1").unwrap(), &odd).unwrap());
    }

    #[test]
    fn every_name_is_read_and_others_are_explained() {
        assert!(Target::ALL.into_iter().all(|target| target.name().parse::<Target>().unwrap() == target));
        let message = "onnxruntme".parse::<Target>().unwrap_err().to_string();
        assert!(message.contains("onnxruntime"), "{message}");
    }
}
