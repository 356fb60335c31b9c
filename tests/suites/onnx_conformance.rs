//! The operator tests of the onnx package (1.16.2), decoded and executed.
//!
//! Every case must give its outputs, except those that `onnx_conformance.tsv` lists with the reason; a listed case that
//! passes fails the test too, so the list is the truth. `MILENAS_REVIEW=1` prints what each failing case says.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use candle_core::{Device, Tensor};
use milenas_export::onnx::decode;
use milenas_export::onnx::schema::DataType;
use milenas_export::onnx::schema::{ModelProto, TensorProto};
use milenas_models::{Executor, Mode};
use prost::Message;

/// Tolerances of onnx's own runner.
const RELATIVE: f32 = 1e-3;
const ABSOLUTE: f32 = 1e-7;

/// Operators all of whose inputs are data; of the others only the first, the rest is what a trained file holds.
const ALL_INPUTS_ARE_DATA: [&str; 4] = ["Add", "Concat", "Mul", "Sum"];

/// The files of one case by their names in its folder.
type Case = BTreeMap<String, Vec<u8>>;

#[test]
fn cases_pass_or_are_listed() {
    let path = milenas_tests::shared().join("data/onnx_backend_subset.tar");
    if !path.exists() {
        println!("skipped: {} is not there", path.display());
        return;
    }
    let cases = read_cases(std::fs::File::open(&path).unwrap());
    let listed: BTreeMap<&str, &str> = include_str!("onnx_conformance.tsv")
        .lines()
        .skip(1)
        .map(|line| line.split_once('\t').unwrap())
        .collect();
    let review = std::env::var_os("MILENAS_REVIEW").is_some();
    let (mut passed, mut wrong) = (0, Vec::new());
    for (name, case) in &cases {
        match (run(case), listed.get(name.as_str())) {
            (Ok(()), None) => passed += 1,
            (Ok(()), Some(reason)) => wrong.push(format!("{name} passes, but is listed: {reason}")),
            (Err(problem), None) => wrong.push(format!("{name}\t{problem}")),
            (Err(problem), Some(reason)) if review => println!("{name}\t{reason}\t<- {problem}"),
            (Err(_), Some(_)) => {}
        }
    }
    let known: BTreeSet<&str> = cases.keys().map(String::as_str).collect();
    wrong.extend(
        listed.keys().filter(|n| !known.contains(**n)).map(|n| format!("{n} is listed, but is no case")),
    );
    println!("{passed} of {} cases pass, {} are listed", cases.len(), listed.len());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert_eq!(passed + listed.len(), cases.len());
}

fn read_cases(tar: impl Read) -> BTreeMap<String, Case> {
    let mut cases: BTreeMap<String, Case> = BTreeMap::new();
    for entry in tar::Archive::new(tar).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let parts: Vec<&str> = path.splitn(3, '/').collect();
        let [group, name, file] = parts[..] else { continue };
        if entry.header().entry_type().is_file() {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            cases.entry(format!("{group}/{name}")).or_default().insert(file.to_string(), bytes);
        }
    }
    cases
}

/// Decodes and executes each data set of a case.
fn run(case: &Case) -> Result<(), String> {
    let model = ModelProto::decode(case["model.onnx"].as_slice()).map_err(|e| e.to_string())?;
    let mut sets = 0;
    for set in 0.. {
        let tensors = |kind: &str| -> Vec<TensorProto> {
            let files = (0..).map_while(|i| case.get(&format!("test_data_set_{set}/{kind}_{i}.pb")));
            files.map(|bytes| TensorProto::decode(bytes.as_slice()).unwrap()).collect()
        };
        let (inputs, outputs) = (tensors("input"), tensors("output"));
        if outputs.is_empty() {
            break;
        }
        run_set(model.clone(), inputs, &outputs)?;
        sets += 1;
    }
    if sets > 0 { Ok(()) } else { Err("it has no data".into()) }
}

fn run_set(mut model: ModelProto, inputs: Vec<TensorProto>, outputs: &[TensorProto]) -> Result<(), String> {
    let graph = model.graph.as_mut().ok_or("it has no graph")?;
    let all = graph.node.iter().any(|n| ALL_INPUTS_ARE_DATA.contains(&n.op_type.as_str()));
    let is_initialiser = |name: &str| graph.initializer.iter().any(|t| t.name == name);
    let free: Vec<String> =
        graph.input.iter().map(|i| i.name.clone()).filter(|name| !is_initialiser(name)).collect();
    let data = graph.node.first().and_then(|n| n.input.first()).filter(|name| free.contains(name)).cloned();
    let data = data.or(free.first().cloned());
    let mut fed = Vec::new();
    for (name, tensor) in free.iter().zip(inputs) {
        if all || Some(name) == data.as_ref() {
            fed.push(floats(&tensor).ok_or("an input that is not FLOAT")?);
        } else {
            graph.input.retain(|input| &input.name != name);
            graph.initializer.push(TensorProto { name: name.clone(), ..tensor });
        }
    }
    let decoded = decode(&model.encode_to_vec(), "case").map_err(|e| e.to_string())?;
    let found =
        Executor::new(&decoded.graph, &decoded.weights).run(&fed, Mode::Eval).map_err(|e| e.to_string())?;
    if found.len() != outputs.len() {
        return Err(format!("{} outputs, expected {}", found.len(), outputs.len()));
    }
    found.iter().zip(outputs).try_for_each(|(found, expected)| {
        let expected = floats(expected).ok_or("an output that is not FLOAT")?;
        same(found, &expected)
    })
}

fn floats(tensor: &TensorProto) -> Option<Tensor> {
    let dims: Vec<usize> = tensor.dims.iter().map(|&n| n as usize).collect();
    let data: Vec<f32> = match tensor.raw_data.is_empty() {
        true => tensor.float_data.clone(),
        false => tensor.raw_data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
    };
    (tensor.data_type == DataType::Float as i32).then(|| Tensor::from_vec(data, dims, &Device::Cpu).unwrap())
}

fn same(found: &Tensor, expected: &Tensor) -> Result<(), String> {
    if found.dims() != expected.dims() {
        return Err(format!("shape {:?}, expected {:?}", found.dims(), expected.dims()));
    }
    let numbers = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let pairs = numbers(found).into_iter().zip(numbers(expected));
    match pairs
        .into_iter()
        .find(|(a, b)| (a - b).abs() > ABSOLUTE + RELATIVE * b.abs() || a.is_nan() != b.is_nan())
    {
        Some((a, b)) => Err(format!("{a}, expected {b}")),
        None => Ok(()),
    }
}
