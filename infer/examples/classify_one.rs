//! Classifies one image: `cargo run -p milenas-infer --example classify_one -- model.onnx photo.jpg`
#![allow(clippy::print_stdout)]

use std::error::Error;

use milenas_infer::model::Classifier;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(image)) = (arguments.next(), arguments.next()) else {
        return Err("usage: classify_one MODEL.onnx IMAGE".into());
    };
    for prediction in Classifier::open(model)?.classify_file(image)?.iter().take(5) {
        println!("{:5.1} %  {}", 100.0 * prediction.probability, prediction.label);
    }
    Ok(())
}
