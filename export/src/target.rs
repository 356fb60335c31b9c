//! For which reader a file is made: each has passes of its own, chosen by measurement (docs/compiler.md).

use std::str::FromStr;

use milenas_models::Error;

use crate::passes::{
    DropIdentity, DropNone, FoldBatchNorm, JoinReduction, LowerBatchNorm, LowerGlobalPool, LowerNone,
    LowerPadding, MergeEqual, Pass, PoolParts, RectifyParts, RemoveDead, SplitBatchNorm, SplitConcat,
};

/// A reader of ONNX files. Every file is plain ONNX that each of them reads, but for what candle-onnx lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Nothing that costs a reader anything.
    #[default]
    Portable,
    /// ONNX Runtime on a CPU, which keeps images in blocks of channels: what copies them costs twice.
    OnnxRuntime,
    /// candle-onnx, which has neither padded pools nor `GlobalAveragePool`.
    CandleOnnx,
}

impl Target {
    /// Every target.
    pub const ALL: [Target; 3] = [Target::Portable, Target::OnnxRuntime, Target::CandleOnnx];

    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Target::Portable => "portable",
            Target::OnnxRuntime => "onnxruntime",
            Target::CandleOnnx => "candle-onnx",
        }
    }

    /// The passes that simplify, in their order.
    pub fn simplify(self) -> &'static [&'static dyn Pass] {
        match self {
            Target::Portable | Target::CandleOnnx => SIMPLIFY,
            Target::OnnxRuntime => SIMPLIFY_FOR_ONNX_RUNTIME,
        }
    }

    /// The passes that simplify what is then rounded to eight bits; `None` for a reader without integers.
    pub fn simplify_for_int8(self) -> Option<&'static [&'static dyn Pass]> {
        match self {
            Target::Portable | Target::OnnxRuntime => Some(SIMPLIFY_FOR_INT8),
            Target::CandleOnnx => None,
        }
    }

    /// The passes that leave only operations the encoder and the reader have.
    pub fn lower(self) -> &'static [&'static dyn Pass] {
        match self {
            Target::Portable | Target::OnnxRuntime => LOWER,
            Target::CandleOnnx => LOWER_FOR_CANDLE_ONNX,
        }
    }
}

/// Never more parameters or multiply-accumulates than before.
pub const SIMPLIFY: &[&dyn Pass] =
    &[&RemoveDead, &DropIdentity, &DropNone, &MergeEqual, &SplitBatchNorm, &FoldBatchNorm];

/// [`JoinReduction`] multiplies more to copy less.
const SIMPLIFY_FOR_ONNX_RUNTIME: &[&dyn Pass] = &[
    &RemoveDead,
    &DropIdentity,
    &DropNone,
    &MergeEqual,
    &SplitBatchNorm,
    &FoldBatchNorm,
    &PoolParts,
    &JoinReduction,
    &SplitConcat,
];

/// On integers a sum is an operation of its own, so rows of images stay; a ReLU is free where it is all that is kept.
const SIMPLIFY_FOR_INT8: &[&dyn Pass] =
    &[&RemoveDead, &DropIdentity, &DropNone, &MergeEqual, &SplitBatchNorm, &FoldBatchNorm, &RectifyParts];

/// Afterwards the encoder has a word for every operation.
pub const LOWER: &[&dyn Pass] = &[&LowerNone, &LowerBatchNorm];

const LOWER_FOR_CANDLE_ONNX: &[&dyn Pass] = &[&LowerNone, &LowerBatchNorm, &LowerGlobalPool, &LowerPadding];

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

    /// The file of a network, run by candle-onnx, beside the network run by ours.
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
