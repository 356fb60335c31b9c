//! Networks of other programs compute the same here: PyTorch's two exporters, with the logits of PyTorch
//! (`tests/golden/make_foreign.py`).
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor, safetensors};
use milenas_export::onnx;
use milenas_models::op::{Activation, ChannelShuffle, Op};
use milenas_models::{Executor, Mode};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/foreign").join(name)
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn both_exporters_of_pytorch_are_read() {
    let expected = safetensors::load(data("logits.safetensors"), &Device::Cpu).unwrap();
    for name in ["torchscript.onnx", "dynamo.onnx"] {
        let onnx::Decoded { graph, weights, .. } = onnx::read(&data(name)).unwrap();
        let found = Executor::new(&graph, &weights).run(&[expected["images"].clone()], Mode::Eval).unwrap();
        for (found, expected) in values(&found[0]).iter().zip(values(&expected["logits"])) {
            assert!((found - expected).abs() < 1e-5, "{name}: {found} {expected}");
        }
        let has = |op: Activation| graph.nodes().iter().any(|node| node.op == Op::Activation(op));
        assert!(has(Activation::RELU6) && has(Activation::Sigmoid) && has(Activation::Tanh), "{name}");
        let shuffles = graph.nodes().iter().filter(|node| node.op == ChannelShuffle { groups: 2 }.into());
        assert_eq!(shuffles.count(), 1, "{name}");
        // Written again, it is read as the same network.
        let bytes = onnx::encode(&graph, &weights, &Default::default()).unwrap();
        assert!(onnx::decode(&bytes, name).unwrap().graph == graph, "{name}");
    }
}
