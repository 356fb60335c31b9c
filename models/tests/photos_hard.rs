//! Tests of images that loaders often get wrong, compared with Pillow.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs;

use milenas_models::{Error, Image, Limits, input};

/// Files on which this crate differs from Pillow, with the reason.
const DIFFERENCES: [(&str, &str); 4] = [
    (
        "animated/issue_1455_oversized.gif",
        "a frame larger than the screen: we crop to the screen, Pillow enlarges it",
    ),
    (
        "animated/issue_1455_undersized.gif",
        "a frame smaller than the screen: we leave the rest transparent, Pillow paints it",
    ),
    ("animated/no_palette.gif", "no colour table: refused, Pillow makes up a gray one"),
    ("pngsuite/xcsn0g01.png", "a wrong checksum: refused, Pillow passes over it"),
];

fn means(image: &Image) -> [f64; 3] {
    let mut sums = [0u64; 3];
    for pixel in image.rgb().chunks_exact(3) {
        (0..3).for_each(|c| sums[c] += u64::from(pixel[c]));
    }
    sums.map(|sum| sum as f64 / (image.width() * image.height()) as f64)
}

#[test]
fn sizes_and_means_are_pillows() {
    let Some(folder) = common::shared("data/photos_hard") else { return };
    let differences = BTreeMap::from(DIFFERENCES);
    let mut reader = csv::Reader::from_path(folder.join("expectations.csv")).unwrap();
    let headers = reader.headers().unwrap().clone();
    let (mut equal, mut refused, mut problems) = (0, 0, Vec::new());
    for row in reader.records() {
        let row = row.unwrap();
        let field = |name: &str| row.get(headers.iter().position(|h| h == name).unwrap()).unwrap();
        let number = |name: &str| field(name).parse::<f64>().unwrap();
        let file = field("file");
        let result = input::decode(&fs::read(folder.join(file)).unwrap(), &Limits::default());
        let problem = match (&result, field("pillow_ok")) {
            (Ok(image), "True") => {
                let expected = ["mean_r", "mean_g", "mean_b"].map(number);
                let found = means(image);
                let size = (image.width() as f64, image.height() as f64);
                if size != (number("oriented_width"), number("oriented_height")) {
                    format!("size {size:?}")
                } else if expected.iter().zip(found).any(|(e, f)| (e - f).abs() > 3.0) {
                    format!("mean {found:.2?}, expected {expected:?}")
                } else {
                    equal += 1;
                    continue;
                }
            }
            (Err(error), "True") => format!("refused: {error}"),
            (Ok(_), _) => format!("accepted, Pillow reports {}", field("error")),
            (Err(error), _) => {
                let cut = matches!(error, Error::Truncated { .. });
                if field("error").contains("truncated") && !cut {
                    format!("not reported as truncated: {error}")
                } else {
                    refused += 1;
                    eprintln!("{file}: {error}");
                    continue;
                }
            }
        };
        if !differences.contains_key(file) {
            problems.push(format!("{file}: {problem}"));
        }
    }
    eprintln!("{equal} equal, {refused} refused by both, {} known differences", differences.len());
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    for (file, cause) in DIFFERENCES {
        let result = input::decode(&fs::read(folder.join(file)).unwrap(), &Limits::default());
        assert_eq!(result.is_err(), cause.contains("refused"), "{file}: {cause}");
    }
    assert_eq!(equal + refused + differences.len(), 270);
}

#[test]
fn the_same_photograph_in_seven_orientations() {
    let Some(folder) = common::shared("data/photos_hard/exif") else { return };
    let open = |n: u8| {
        let bytes = fs::read(folder.join(format!("Landscape_{n}.jpg"))).unwrap();
        input::decode(&bytes, &Limits::default()).unwrap()
    };
    let first = open(2);
    let row = 3 * first.width();
    let mirrored: Vec<u8> = first
        .rgb()
        .chunks_exact(row)
        .flat_map(|row| row.rchunks_exact(3).flatten().copied().collect::<Vec<_>>())
        .collect();
    let difference = |a: &[u8], b: &[u8]| {
        let total: u64 = a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        total as f64 / a.len() as f64
    };
    assert!(difference(first.rgb(), &mirrored) > 20.0, "the photograph is not symmetric");
    // They differ in compression, and in the digit drawn on them.
    for other in (3..=8).map(open) {
        let found = difference(first.rgb(), other.rgb());
        assert!(found < 10.0, "{found}");
    }
}

#[test]
fn a_cut_photograph_is_truncated_at_any_length() {
    let Some(folder) = common::shared("data/photos_hard") else { return };
    let files = ["photos/china.jpg", "modes/tower_progressive.jpg", "photos/kodim07.png", "animated/chi.gif"];
    for file in files.into_iter().chain(["animated/anim.webp", "exif/hopper_orientation_6.webp"]) {
        let bytes = fs::read(folder.join(file)).unwrap();
        let whole = input::decode(&bytes, &Limits::default()).unwrap();
        for tenth in 1..10 {
            match input::decode(&bytes[..bytes.len() * tenth / 10], &Limits::default()) {
                // The first frame of an animation may be complete before the end of the file.
                Ok(image) => assert!(image == whole && file.contains("animated"), "{file}, {tenth}/10"),
                Err(error) => assert!(error.to_string().contains("truncated"), "{file}, {tenth}/10: {error}"),
            }
        }
    }
}
