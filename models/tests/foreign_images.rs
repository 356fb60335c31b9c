//! Tests with test images of other projects, if a folder of them is given: images that Pillow reads must be read
//! alike.
//!
//! `MILENAS_TEST_IMAGES` names folders, joined as in `PATH`, for example the `tests` of image-rs/image-tiff and of
//! image-rs/image. `VIRTUAL_ENV` must have Pillow and NumPy. A folder fails if more than a tenth of its images are
//! rejected.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use milenas_models::{Limits, input};

/// Largest difference of a mean level. Decoders upsample the colour differences of JPEG in different ways.
const NEAR: f64 = 2.0;

/// Images that Pillow reads differently, with the cause.
const DIFFERENT: [(&str, &str); 11] = [
    (
        "depth/flower-rgb-planar-16.tif",
        "Pillow mixes up the bytes of planes; the chunky file is equal to ours",
    ),
    (
        "depth/flower-separated-planar-16.tif",
        "Pillow mixes up the bytes of planes; the chunky file is equal to ours",
    ),
    ("bmp/images/V5_A1_R5_G5_B5.bmp", "Pillow ignores alpha of one bit"),
    ("bmp/images/pal4rle.bmp", "Pillow loses its place in runs of 4 bits"),
    ("bmp/images/pal4rlecut.bmp", "Pillow loses its place in runs of 4 bits"),
    ("bmp/images/pal4rletrns.bmp", "Pillow loses its place in runs of 4 bits"),
    ("gif/anim/border_touching_layers.gif", "Pillow paints the background where no frame is"),
    ("gif/anim/issue_1455_undersized.gif", "Pillow paints the background where no frame is"),
    ("gif/anim/oob.gif", "a frame over the edge of the canvas: Pillow grows the canvas"),
    ("gif/simple/issue_1455_oversized.gif", "a frame over the edge of the canvas: Pillow grows the canvas"),
    ("tga/testsuite/b5-attrib.tga", "Pillow takes the attribute bit for alpha"),
];

fn mean(bytes: &[u8]) -> Result<[f64; 3], String> {
    let image = input::decode(bytes, &Limits::default()).map_err(|error| error.to_string())?;
    let over = image.over(Some([255; 3]));
    let area = (image.width() * image.height()) as f64;
    Ok([0, 1, 2].map(|c| over.iter().skip(c).step_by(3).map(|&v| f64::from(v)).sum::<f64>() / area))
}

#[test]
fn images_that_pillow_reads_are_read_alike() {
    let Some(folders) = std::env::var_os("MILENAS_TEST_IMAGES") else {
        println!("skipped: MILENAS_TEST_IMAGES names no folder");
        return;
    };
    let Some(python) = std::env::var_os("VIRTUAL_ENV").map(|place| Path::new(&place).join("bin/python"))
    else {
        println!("skipped: VIRTUAL_ENV names no environment of Python with Pillow");
        return;
    };
    let mut failed = false;
    for folder in std::env::split_paths(&folders) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pillow_means.py");
        let mut command = Command::new(&python);
        let done = command.arg(script).arg(&folder).stderr(Stdio::null()).output().unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        let (mut read, mut refused, mut wrong) = (0, 0, 0);
        for line in text.lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let path = PathBuf::from(row["path"].as_str().unwrap());
            let name = path.strip_prefix(&folder).unwrap().display().to_string();
            let found = match mean(&fs::read(&path).unwrap()) {
                Ok(found) => found,
                Err(error) => {
                    refused += 1;
                    println!("refused: {name}: {error}");
                    continue;
                }
            };
            read += 1;
            let Some(expected) = row["mean"].as_array() else { continue };
            let expected: Vec<f64> = expected.iter().map(|v| v.as_f64().unwrap()).collect();
            let far = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            if far > NEAR {
                let known = DIFFERENT.iter().find(|(file, _)| name.ends_with(file));
                wrong += usize::from(known.is_none());
                let cause = known.map_or("wrong", |(_, cause)| cause);
                println!("{cause}: {name}: {found:.2?}, Pillow has {expected:.2?}");
            }
        }
        println!("{}: {read} read, {refused} refused, {wrong} wrong", folder.display());
        failed |= wrong > 0 || refused * 10 > read + refused || read == 0;
    }
    assert!(!failed, "see the lines above");
}
