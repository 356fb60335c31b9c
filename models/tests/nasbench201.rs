//! Tests that the cells of NAS-Bench-201 have the cost in its table.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::path::PathBuf;

use milenas_models::genotype::{Cell, Class, Edge};
use milenas_models::space::Space;
use milenas_models::{Cost, Genotype, NetworkConfig, Primitive, Skeleton, assemble, cost, space};

const BENCHMARK: NetworkConfig = NetworkConfig {
    channels: 16,
    layers: 17,
    classes: 10,
    in_channels: 3,
    height: 32,
    width: 32,
    skeleton: Skeleton::Cifar,
};

/// Parameters and multiply-accumulates of the published table, which are linear in the convolutions of a cell:
/// without any, and per 1x1 and 3x3 convolution.
const TABLE: [[u64; 3]; 2] = [[73_306, 28_000, 243_040], [7_783_050, 3_932_160, 35_389_440]];

fn all() -> Vec<Genotype> {
    (0..15_625).map(|i| space::NASBENCH201.nth(i).unwrap()).collect()
}

fn cell(genotype: &Genotype) -> &Cell {
    genotype.cell("normal").unwrap()
}

#[test]
fn all_15625_cells_have_the_parameters_and_macs_of_the_table() {
    let all = all();
    assert_eq!(all.iter().map(Genotype::to_string).collect::<HashSet<_>>().len(), 15_625);
    for genotype in &all {
        assert!(space::NASBENCH201.contains(genotype));
        let count = |p| cell(genotype).edges().iter().filter(|e| e.primitive == p).count() as u64;
        let of = |[base, one, three]: [u64; 3]| {
            base + one * count(Primitive::NorConv1x1) + three * count(Primitive::NorConv3x3)
        };
        let [params, macs] = TABLE.map(of);
        let found = cost(&assemble(genotype, &BENCHMARK).unwrap());
        // The table counts the additions of the linear layer's bias.
        let macs = macs - BENCHMARK.classes as u64;
        assert_eq!(found, Cost { params, macs }, "{genotype}");
    }
}

/// Returns the text by which the benchmark counts 6,466 different cells: skips are written as their source, but zeros
/// as terms of a sum.
fn published(genotype: &Genotype) -> String {
    let mut states = vec!["0".to_string()];
    for node in cell(genotype).nodes() {
        let term = |edge: &Edge| match (edge.primitive, &states[edge.from]) {
            (Primitive::None, _) => "#".to_string(),
            (Primitive::SkipConnect, from) => from.clone(),
            (_, from) if from == "#" => "#".to_string(),
            (primitive, from) => format!("({from})@{}", primitive.name()),
        };
        let mut terms: Vec<String> = node.iter().map(term).collect();
        terms.sort();
        states.push(terms.join("+"));
    }
    states.swap_remove(states.len() - 1)
}

#[test]
fn the_classes_are_those_of_the_benchmark_joined_where_zeros_drop_out() {
    let all = all();
    let pairs: HashSet<(String, Class)> = all.iter().map(|g| (published(g), g.class())).collect();
    let theirs: HashSet<&String> = pairs.iter().map(|(text, _)| text).collect();
    let ours: HashSet<&Class> = pairs.iter().map(|(_, class)| class).collect();
    assert_eq!((theirs.len(), pairs.len(), ours.len()), (6_466, 6_466, 4_930));
}

/// Compares the rule above with every row of the table, if the table is available.
#[test]
fn the_rule_is_the_table() {
    let shared = std::env::var("MILENAS_SHARED").map(PathBuf::from);
    let shared =
        shared.unwrap_or_else(|_| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")));
    let path = shared.join("data/nasbench201.csv");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: {} is not there", path.display());
        return;
    };
    let mut rows = 0;
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let genotype = Genotype::parse(fields[1], "table").unwrap();
        assert_eq!(genotype.to_string(), fields[1]);
        let [ones, threes] =
            ["|nor_conv_1x1", "|nor_conv_3x3"].map(|name| fields[1].matches(name).count() as u64);
        let expected = TABLE.map(|[base, one, three]| base + one * ones + three * threes);
        assert_eq!([5, 6].map(|i: usize| fields[i].parse::<u64>().unwrap()), expected, "{line}");
        rows += 1;
    }
    assert_eq!(rows, 15_625);
}
