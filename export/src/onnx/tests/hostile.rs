//! Hostile files: refused with the name of the node, in bounded time and memory, without a panic.

use super::*;

#[test]
fn small_sizes_that_multiply_to_huge_ones_are_refused() {
    let node = |op: &str, name: &str, reads: &[&str]| NodeProto {
        op_type: op.into(),
        name: name.into(),
        input: reads.iter().map(|r| r.to_string()).collect(),
        output: vec![name.into()],
        ..Default::default()
    };
    let doubled = |steps: usize| {
        changed(|g| {
            let mut before = "input".to_string();
            for i in 0..steps {
                let name = format!("twice{i}");
                let mut concat = node("Concat", &name, &[&before, &before]);
                concat.attribute.push(attributes::int("axis", 1));
                g.node.insert(i, concat);
                before = name;
            }
            g.output[0].name = before;
        })
    };
    assert!(doubled(8).is_ok());
    for steps in [26, 60, 70] {
        let message = doubled(steps).unwrap_err().to_string();
        assert!(message.contains("limit") || message.contains("output would be"), "{message}");
    }
    // The pool has one output value but reads a padded image of 2^48 values.
    let wide = 1 << 24;
    let pool = |g: &mut GraphProto| {
        let mut pool = node("MaxPool", "pool", &["input"]);
        let square = |name, n| attributes::ints(name, &[n; 2]);
        pool.attribute = vec![square("kernel_shape", 2), square("dilations", wide), square("strides", wide)];
        pool.attribute.push(attributes::ints("pads", &[wide; 4]));
        g.node = vec![pool];
        g.output[0].name = "pool".into();
    };
    assert_refused(pool, &["`pool`", "numbers in memory", "limit"]);
    // A node takes two bytes in the file and some hundred in memory.
    let many = GraphProto { node: vec![NodeProto::default(); 1 << 20], ..Default::default() };
    let bytes = ModelProto { graph: Some(many), ..Default::default() }.encode_to_vec();
    let message = decode(&bytes, "model.onnx").unwrap_err().to_string();
    assert!(message.contains("fields") && message.contains("limit"), "{message}");
}

#[test]
fn deep_nesting_is_an_error() {
    let mut bytes = Vec::new();
    for _ in 0..2000 {
        // AttributeProto.g of NodeProto.attribute of GraphProto.node: a graph in a graph.
        for tag in [0x32u8, 0x2a, 0x0a] {
            let mut longer = vec![tag];
            prost::encoding::encode_varint(bytes.len() as u64, &mut longer);
            longer.extend_from_slice(&bytes);
            bytes = longer;
        }
    }
    let mut model = vec![0x3a];
    prost::encoding::encode_varint(bytes.len() as u64, &mut model);
    model.extend_from_slice(&bytes);
    assert!(decode(&model, "deep").is_err());
}

#[test]
fn every_truncation_is_an_error() {
    let (graph, numbers) = small();
    let bytes = encode(&graph, &numbers, &BTreeMap::new()).unwrap();
    let mut rng = Rng::new(0, "truncation");
    let cuts = (0..200).map(|_| rng.below(bytes.len())).chain([0, 1, bytes.len() - 1]);
    for cut in cuts {
        let message = decode(&bytes[..cut], "model.onnx").unwrap_err().to_string();
        assert!(message.contains("model.onnx"), "{message}");
    }
}

/// Runs a decoded graph if it is small: a valid graph must not make a kernel panic.
fn run_if_small(decoded: &Decoded) {
    let graph = &decoded.graph;
    let volume: usize = graph.nodes().iter().map(|n| n.fact.volume().unwrap_or(usize::MAX) / 64).sum();
    if volume > 1 << 14 || cost(graph).macs > 1 << 24 {
        return;
    }
    let input = |v| {
        let sizes: Vec<usize> =
            graph.fact(v).dims().iter().map(|d| if let Dim::Fixed(n) = d { *n } else { 1 }).collect();
        Tensor::ones(sizes, DType::F32, &Device::Cpu).unwrap()
    };
    let inputs: Vec<_> = graph.inputs().map(input).collect();
    let _ = Executor::new(graph, &decoded.weights).run(&inputs, Mode::Eval);
}

const EXTREMES: [i64; 12] = [i64::MIN, i64::MAX, -1, 0, 1, 2, 3, 5, 1 << 16, 1 << 24, 1 << 32, 1 << 62];

/// Changes one part of a model as an attacker would: an integer, a name, a shape or an operator.
fn tamper(model: &mut ModelProto, rng: &mut Rng) {
    let operators =
        ["Add", "Gemm", "Conv", "Slice", "Concat", "Reshape", "MaxPool", "Softmax", "Flatten", "Sum", "Clip"];
    let extreme = EXTREMES[rng.below(EXTREMES.len())];
    let graph = model.graph.as_mut().unwrap();
    let other = graph.node[rng.below(graph.node.len())].output[0].clone();
    let node = rng.below(graph.node.len());
    let node = &mut graph.node[node];
    match rng.below(7) {
        0 | 1 if !node.attribute.is_empty() => {
            let at = rng.below(node.attribute.len());
            let attribute = &mut node.attribute[at];
            attribute.i = Some(extreme);
            if !attribute.ints.is_empty() {
                let at = rng.below(attribute.ints.len());
                attribute.ints[at] = extreme;
            }
        }
        2 if !node.input.is_empty() => {
            let at = rng.below(node.input.len());
            node.input[at] = other;
        }
        3 => node.op_type = operators[rng.below(operators.len())].into(),
        4 if !node.input.is_empty() => {
            node.input.pop();
        }
        5 if !node.attribute.is_empty() => {
            node.attribute.pop();
        }
        _ => {
            let at = rng.below(graph.initializer.len());
            let TensorProto { dims, raw_data, .. } = &mut graph.initializer[at];
            match dims.len() {
                0 => dims.push(extreme),
                n => dims[rng.below(n)] = extreme,
            }
            if rng.chance(0.5) {
                let count: i128 = dims.iter().map(|d| i128::from(*d)).product();
                if (0..1 << 16).contains(&count) {
                    *raw_data = vec![0; 4 * count as usize].into();
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(&bytes, "random");
    }

    #[test]
    fn damaged_files_never_panic(seed: u64, changes in 1..6usize) {
        let (graph, numbers) = small();
        let mut bytes = encode(&graph, &numbers, &BTreeMap::new()).unwrap();
        let mut rng = Rng::new(seed, "damage");
        for _ in 0..changes {
            let at = rng.below(bytes.len());
            match rng.below(3) {
                0 => bytes[at] = rng.word() as u8,
                1 => { bytes.remove(at); }
                _ => bytes.insert(at, rng.word() as u8),
            }
        }
        if let Ok(decoded) = decode(&bytes, "damaged") {
            run_if_small(&decoded);
        }
    }

    #[test]
    fn tampered_files_never_panic(seed: u64, changes in 1..4usize, nodes in 2..16usize) {
        let (graph, numbers) = lowered(&graph(seed, nodes), seed % 2 == 0);
        let bytes = encode(&graph, &numbers, &BTreeMap::new()).unwrap();
        let mut model = ModelProto::decode(bytes.as_slice()).unwrap();
        let mut rng = Rng::new(seed, "tamper");
        for _ in 0..changes {
            tamper(&mut model, &mut rng);
        }
        if let Ok(decoded) = decode(&model.encode_to_vec(), "tampered") {
            run_if_small(&decoded);
        }
    }
}

#[test]
fn hostile_graphs_name_their_node() {
    // A cycle: the first convolution reads the output of the last node.
    assert_refused(
        |g| {
            let last = g.node.last().unwrap().output[0].clone();
            g.node[0].input[0] = last;
        },
        &["node `", "earlier node"],
    );
    // A missing initialiser of a convolution with a name.
    let (graph, _) = small();
    let conv = graph.nodes().iter().find(|n| matches!(n.op, Op::Conv2d(_))).unwrap();
    let (node, weight) = (conv.name.clone(), conv.params[0].name.clone());
    let (quoted, missing) = (format!("`{node}`"), format!("`{weight}`"));
    assert_refused(|g| g.initializer.retain(|t| t.name != weight), &[&quoted, &missing]);
    // A weight of a wrong shape: its channels do not fit.
    let swap = |g: &mut GraphProto| {
        let at = g.initializer.iter().position(|t| t.name == weight).unwrap();
        g.initializer[at].dims.swap(0, 1);
    };
    assert_refused(swap, &[&quoted]);
}

#[test]
fn ten_thousand_nodes_deep_is_read_and_a_break_at_the_bottom_is_named() {
    let deep = |broken: bool| {
        changed(|g| {
            let mut before = g.output[0].name.clone();
            for i in 0..10_000 {
                let name = format!("deep{i}");
                g.node.push(NodeProto {
                    op_type: "Relu".into(),
                    name: name.clone(),
                    input: vec![if broken && i == 9_999 { "nothing".into() } else { before }],
                    output: vec![name.clone()],
                    ..Default::default()
                });
                before = name;
            }
            g.output[0].name = before;
        })
    };
    let read = deep(false).unwrap();
    assert!(read.graph.nodes().len() > 10_000);
    let (c, h, w) = read.graph.fact(read.graph.inputs().next().unwrap()).chw().unwrap();
    let input = Tensor::zeros((1, c, h, w), DType::F32, &Device::Cpu).unwrap();
    Executor::new(&read.graph, &read.weights).run(&[input], Mode::Eval).unwrap();
    let message = deep(true).unwrap_err().to_string();
    assert!(message.contains("`deep9999`") && message.contains("`nothing`"), "{message}");
}
