//! Images that are hard to decode: classified or refused with a reason, close to Pillow's pixels, in little memory and time.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use milenas_models::input::{Limits, decode};
use milenas_tests::{TINY, binary, peak_kib, shared, succeed};

/// Largest difference between the mean over all pixels and Pillow's.
const NEAR: f64 = 3.0;

/// Largest memory of a run over decompression bombs.
const MEMORY_KIB: u64 = 300 << 10;

const PATIENCE: Duration = Duration::from_secs(120);

/// Files that only one of the two reads, or reads otherwise, with the cause.
const DIFFERENT: [(&str, &str); 4] = [
    (
        "animated/issue_1455_oversized.gif",
        "a frame over the edge of the canvas: Pillow grows the canvas, here it is cut",
    ),
    (
        "animated/issue_1455_undersized.gif",
        "where no frame is, Pillow paints the background, here it is transparent",
    ),
    ("animated/no_palette.gif", "Pillow invents a palette of grays where the file has none"),
    ("pngsuite/xcsn0g01.png", "Pillow does not look at the checksum of pixel data"),
];

/// A PNG of equal pixels, `row` bytes each row, compressed as far as it goes.
fn png(width: u32, height: u32, depth: u8, colour: u8, row: usize) -> Vec<u8> {
    let mut zeros = ZlibEncoder::new(Vec::new(), Compression::best());
    (0..height).for_each(|_| zeros.write_all(&vec![0; 1 + row]).unwrap());
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, colour, 0, 0, 0]].concat();
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", header), (b"IDAT", zeros.finish().unwrap()), (b"IEND", Vec::new())] {
        let mut sum = Crc::new();
        sum.update(kind);
        sum.update(&data);
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(kind);
        bytes.extend(data);
        bytes.extend(sum.sum().to_be_bytes());
    }
    bytes
}

/// Images, each with a part of the reason why it is refused, or `None` if it is read.
fn drawn() -> Vec<(&'static str, Vec<u8>, Option<&'static str>)> {
    let deep = png(40, 30, 16, 2, 240);
    let cmyk = include_bytes!("../golden/cmyk.jpg").to_vec();
    let gif =
        b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x44\x01\0;"
            .to_vec();
    let mut bitmap = vec![0; 54];
    bitmap[..2].copy_from_slice(b"BM");
    for (at, value) in [(10, 54u32), (14, 40), (18, 60_000), (22, 60_000), (26, 1 | 24 << 16)] {
        bitmap[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    vec![
        ("bomb-1-bit.png", png(10_000, 10_000, 1, 0, 1250), Some("decoded bytes for each byte")),
        ("bomb-rgb.png", png(10_000, 10_000, 8, 2, 30_000), Some("decoded bytes for each byte")),
        ("bomb-16-bits.png", png(9000, 9000, 16, 6, 72_000), Some("decoded bytes for each byte")),
        ("wide.png", png(60_000, 1, 8, 0, 60_000), None),
        ("claims.png", png(60_000, 60_000, 8, 2, 0), Some("number of pixels is 3600000000")),
        ("claims.gif", gif, Some("number of pixels is 4294836225")),
        ("claims.bmp", bitmap, Some("number of pixels is 3600000000")),
        ("claims.ppm", b"P6 50000 50000 255\nxyz".to_vec(), Some("number of pixels is 2500000000")),
        ("deep.png", deep.clone(), None),
        ("cut.png", deep[..deep.len() - 30].to_vec(), Some("truncated")),
        ("cmyk.jpg", cmyk.clone(), None),
        ("cut.jpg", cmyk[..cmyk.len() * 3 / 4].to_vec(), Some("truncated")),
        ("without_end.jpg", cmyk[..cmyk.len() - 2].to_vec(), None),
        ("short.ppm", b"P6 20 20 255\nxyz".to_vec(), Some("truncated")),
        ("empty.jpg", Vec::new(), Some("the file is empty")),
        ("notes.jpg", b"this is no image".to_vec(), Some("no known image format")),
    ]
}

/// Results of the real program for each file, and its peak memory in KiB.
fn classified(root: &Path, files: &[PathBuf]) -> (Vec<(String, Option<String>)>, u64) {
    succeed(root, &format!("milenas-search train --genotype DARTS_V2 --data digits --out network {TINY}"));
    succeed(root, "milenas-export network/weights.safetensors -o model.onnx");
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    fs::write(root.join("list"), names.join("\n")).unwrap();
    let mut command = Command::new(binary("milenas-infer"));
    command.args("classify model.onnx --list list -o rows.jsonl".split(' ')).current_dir(root);
    let child = command.stderr(Stdio::null()).spawn().unwrap();
    let (code, most) = peak_kib(child, PATIENCE);
    assert_eq!(code, Some(2), "some images are refused, and none ends the program");
    let rows = fs::read_to_string(root.join("rows.jsonl")).unwrap();
    let row = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let error = row["error"].as_str().map(String::from);
        assert_eq!(error.is_none(), !row["predictions"].as_array().unwrap().is_empty(), "{line}");
        (row["path"].as_str().unwrap().to_string(), error)
    };
    let rows: Vec<_> = rows.lines().map(row).collect();
    assert!(rows.iter().map(|(path, _)| path).eq(&names), "a row for each file, in their order");
    (rows, most)
}

#[test]
fn bombs_and_damage_cost_little_and_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let drawn = drawn();
    let files: Vec<PathBuf> = drawn.iter().map(|(name, ..)| folder.path().join(name)).collect();
    files.iter().zip(&drawn).for_each(|(file, (_, bytes, _))| fs::write(file, bytes).unwrap());
    let (rows, most) = classified(folder.path(), &files);
    for ((path, error), (_, _, expected)) in rows.iter().zip(&drawn) {
        match (error, expected) {
            (None, None) => {}
            (Some(error), Some(expected)) => assert!(error.contains(expected), "{path}: {error}"),
            (error, expected) => panic!("{path}: {error:?}, expected {expected:?}"),
        }
    }
    eprintln!("{} MiB at most", most >> 10);
    assert!(cfg!(not(target_os = "linux")) || (1..MEMORY_KIB).contains(&most), "{most} KiB");
}

#[test]
fn inks_are_mixed_as_pillow_mixes_them() {
    let mean = mean(include_bytes!("../golden/cmyk.jpg")).unwrap();
    // Pillow 12 of the same file.
    for (found, expected) in mean.into_iter().zip([145.69, 145.69, 158.84]) {
        assert!((found - expected).abs() < 1.0, "{mean:?}");
    }
}

fn mean(bytes: &[u8]) -> Result<[f64; 3], String> {
    let image = decode(bytes, &Limits::default()).map_err(|e| e.to_string())?;
    let area = (image.width() * image.height()) as f64;
    let sum = |c: usize| image.rgb().iter().skip(c).step_by(3).map(|&v| f64::from(v)).sum::<f64>();
    Ok([0, 1, 2].map(|c| sum(c) / area))
}

#[test]
fn the_collection_is_read_as_pillow_reads_it_or_refused_with_a_reason() {
    let root = shared().join("data/photos_hard");
    if !root.exists() {
        println!("skipped: {} is not there", root.display());
        return;
    }
    let mut table = csv::Reader::from_path(root.join("expectations.csv")).unwrap();
    let columns = table.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    let value = |row: &csv::StringRecord, name: &str| {
        row[columns.iter().position(|column| column == name).unwrap()].to_string()
    };
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<PathBuf> = rows.iter().map(|row| root.join(value(row, "file"))).collect();
    let (reported, most) = classified(folder.path(), &files);
    let (mut wrong, mut different, mut worst) = (Vec::new(), Vec::new(), 0f64);
    for (row, (path, error)) in rows.iter().zip(&reported) {
        let name = value(row, "file");
        let read = (value(row, "pillow_ok") == "True", error.is_none());
        let expected = ["mean_r", "mean_g", "mean_b"].map(|c| value(row, c).parse::<f64>());
        let found = mean(&fs::read(path).unwrap());
        assert_eq!(found.is_ok(), read.1, "{name}: {found:?}");
        let problem = match (read, found) {
            ((true, true), Ok(found)) => {
                let pairs = found.iter().zip(&expected);
                let far = pairs.map(|(a, b)| (a - b.as_ref().unwrap()).abs()).fold(0.0, f64::max);
                worst = if far > NEAR { worst } else { worst.max(far) };
                (far > NEAR).then(|| format!("the mean colour is {found:.2?}, Pillow's {expected:.2?}"))
            }
            ((false, false), _) => None,
            ((pillow, ours), _) => Some(format!("read by Pillow: {pillow}, here: {ours}, {error:?}")),
        };
        match problem {
            None => {}
            Some(problem) => match DIFFERENT.iter().find(|(file, _)| *file == name) {
                None => wrong.push(format!("{name}: {problem}")),
                Some((_, cause)) => {
                    println!("{name}: {problem}: {cause}");
                    different.push(name.clone());
                }
            },
        }
        if value(row, "error").contains("truncated") {
            let output = error.as_ref().is_some_and(|error| error.contains("truncated"));
            assert!(output, "{name}: {error:?}");
        }
    }
    println!("{} files, {most} KiB at most, means within {worst:.2} of Pillow's", rows.len());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert_eq!(different, DIFFERENT.map(|(file, _)| file), "the list of differences is the truth");
    assert!(most < MEMORY_KIB, "{most} KiB");
}
