//! Tests that published genotypes have their published sizes.

#![allow(clippy::unwrap_used)]

use milenas_models::{Genotype, NetworkConfig, Skeleton, assemble, cost, genotype::published};

const PAPER: NetworkConfig = NetworkConfig {
    channels: 36,
    layers: 20,
    classes: 10,
    in_channels: 3,
    height: 32,
    width: 32,
    skeleton: Skeleton::Cifar,
};

fn params(genotype: &Genotype) -> u64 {
    cost(&assemble(genotype, &PAPER).unwrap()).params
}

#[test]
fn parameter_counts_to_the_unit() {
    let counts = [
        ("DARTS_V2", 3_349_342),
        ("DARTS_V1", 3_169_414),
        ("r101_e50_48_n7r3", 3_874_222),
        ("V2_r2_e100", 2_857_942),
        ("GDAS_MIXED_LEVEL2", 4_033_198),
        ("r118_e100_92_n4r1", 2_866_150),
        ("v2_r5_e200", 2_089_846),
    ];
    for (name, count) in counts {
        assert_eq!(params(&Genotype::named(name).unwrap()), count, "{name}");
    }
}

/// Name, convolutions of the normal and the reduction cell, millions of parameters. The paper does not count the 7x7
/// convolutions of NASNet and AmoebaNet; here they are counted.
#[rustfmt::skip]
const PUBLISHED: [(&str, &str, f64); 50] = [
    ("NASNet", "n5 r5", 3.831),
    ("AmoebaNet", "n4 r5", 3.145),
    ("DARTS_V1", "n5 r0", 3.169),
    ("DARTS_V2", "n6 r0", 3.349),
    ("V2_r2_e50", "n6 r0", 3.398),
    ("V2_r2_e100", "n4 r0", 2.858),
    ("V2_r3_e50", "n6 r0", 3.529),
    ("V2_r3_e100", "n6 r2", 3.593),
    ("V2_r4_e50", "n7 r0", 3.889),
    ("V2_r4_e100", "n5 r0", 2.989),
    ("V2_r5_e50", "n6 r0", 3.529),
    ("V2_r5_e100", "n3 r1", 2.478),
    ("v2_r2_e200", "n1 r0", 1.730),
    ("v2_r3_e200", "n2 r2", 2.153),
    ("v2_r4_e200", "n0 r0", 1.370),
    ("v2_r5_e200", "n2 r0", 2.090),
    ("l1_r0_e200", "n1 r0", 1.730),
    ("l05_r2_e200", "n1 r0", 1.730),
    ("r112_e50_48_n6_r2", "n6 r2", 3.488),
    ("r116_e100_92_n5_r1", "n5 r1", 3.072),
    ("r116_e100_69_n5_r0", "n5 r0", 3.218),
    ("r100_e50_48_n7r1", "n7 r1", 3.456),
    ("r101_e50_48_n7r3", "n7 r3", 3.874),
    ("r102_e50_45_n8r1", "n8 r1", 4.222),
    ("r103_e50_45_n7r2", "n7 r2", 4.065),
    ("r116_e100_95_n3r0", "n3 r0", 2.450),
    ("r117_e100_98_n3r0", "n3 r0", 2.450),
    ("r118_e100_92_n4r1", "n4 r1", 2.866),
    ("r119_e100_86_n4r0", "n4 r0", 2.810),
    ("r104_e200_185_n1r0_91_116", "n1 r0", 1.550),
    ("r104_e200_197_n2r0_91_188", "n2 r0", 1.910),
    ("r104_e200_131_n3r0_90_528", "n3 r0", 2.450),
    ("r104_e200_120_n4r0_90_32", "n4 r0", 2.810),
    ("r104_e200_106_n5r0_89_776", "n5 r0", 3.169),
    ("r104_e200_50_n6r0_87_056", "n6 r0", 3.529),
    ("r104_e200_43_n7r0_85_824", "n7 r0", 3.889),
    ("r306_2nd_e50_49_n7r8", "n7 r8", 4.286),
    ("r803_2nd_e50_46_n7r1", "n7 r1", 3.816),
    ("r904_e80_75_n4_r0", "n4 r0", 2.630),
    ("r902_e200_192_n2_r1", "n2 r1", 1.967),
    ("r902_e200_198_n2_r2", "n2 r2", 1.995),
    ("r902_e200_155_n3_r1", "n3 r1", 2.326),
    ("r902_e200_136_n4_r1", "n4 r1", 2.686),
    ("r902_e200_104_n4_r2", "n4 r2", 2.894),
    ("r902_e200_62_n5_r0", "n5 r0", 2.989),
    ("r902_e200_64_n5_r1", "n5 r1", 3.046),
    ("r902_e200_42_n6_r0", "n6 r0", 3.529),
    ("r2001_e50_45_n8_r3", "n8 r3", 4.089),
    ("GDAS_MIXED_LEVEL1", "n2 r8", 2.632),
    ("GDAS_MIXED_LEVEL2", "n8 r3", 4.033),
];

#[test]
fn the_zoo_is_whole_and_has_its_sizes() {
    let zoo = published();
    assert_eq!(zoo.len(), PUBLISHED.len());
    for ((name, genotype), (expected, sizes, millions)) in zoo.iter().zip(PUBLISHED) {
        assert_eq!(name, expected);
        let [n, r] = genotype.convolutions();
        let found = format!("n{n} r{r}");
        assert_eq!(found, sizes, "{name}");
        assert!((params(genotype) as f64 / 1e6 - millions).abs() < 6e-4, "{name}: {}", params(genotype));
    }
}

#[test]
fn the_form_for_imagenet_has_its_published_sizes() {
    let config = NetworkConfig {
        channels: 48,
        layers: 14,
        classes: 1000,
        height: 224,
        width: 224,
        skeleton: Skeleton::ImageNet,
        ..PAPER
    };
    for (name, params) in [("DARTS_V2", 4_718_752), ("r101_e50_48_n7r3", 5_380_000)] {
        let genotype = Genotype::named(name).unwrap();
        assert_eq!(cost(&assemble(&genotype, &config).unwrap()).params, params, "{name}");
    }
    let graph = assemble(&Genotype::named("DARTS_V2").unwrap(), &config).unwrap();
    let sides =
        graph.nodes().iter().filter(|n| n.name.ends_with(".concat") && n.name.split('.').count() == 3);
    let sides: Vec<usize> = sides.map(|n| n.fact.chw().unwrap().1).collect();
    assert_eq!(sides, [[28; 4].as_slice(), &[14; 5], &[7; 5]].concat());
}
