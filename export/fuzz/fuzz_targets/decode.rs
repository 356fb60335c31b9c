//! Fuzz target of the ONNX decoder. Any bytes must decode to a valid network or return an error. A decoded
//! network that can be encoded must decode to the same graph again.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use milenas_export::onnx::{OnnxFormat, decode, encode_as};

fuzz_target!(|bytes: &[u8]| {
    let Ok(read) = decode(bytes, "fuzzed") else { return };
    if let Err(error) = read.graph.check().and(read.weights.check(&read.graph)) {
        panic!("{error}");
    }
    let format = OnnxFormat { bytes: read.bytes, ..OnnxFormat::default() };
    // The decoder accepts some operations that the encoder refuses, such as average pooling with dilation.
    let Ok(written) = encode_as(&read.graph, &read.weights, &BTreeMap::new(), &format) else { return };
    match decode(&written, "written again") {
        Ok(again) => assert_eq!(again.graph, read.graph),
        Err(error) => panic!("{error}"),
    }
});
