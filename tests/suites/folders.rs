//! Folders as people have them, on the whole road: which images are measured, what is skipped, by which names.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};
use milenas_tests::{TINY, run, succeed};

/// An image of one colour at `path`.
fn put(folder: &Path, path: &str, colour: [u8; 3]) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(8, 8, Rgb(colour)).save_with_format(path, ImageFormat::Png).unwrap();
}

/// Ten images of each of two classes in `set/CLASS`, a network that was trained on them, and its file.
fn prepare(folder: &Path) {
    for i in 0..10 {
        put(folder, &format!("set/dark/{i}.png"), [i, 0, 0]);
        put(folder, &format!("set/light/{i}.png"), [250 - i, 255, 255]);
    }
    succeed(folder, &format!("milenas-search train --genotype DARTS_V2 --data set --out run {TINY}"));
    succeed(folder, "milenas-export run/weights.safetensors -o model.onnx");
}

#[test]
fn the_card_says_which_images_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder);
    let measured = |source: &str, images: usize, note: &str| {
        for command in [
            "milenas-search eval --weights run/weights.safetensors --data",
            "milenas-infer evaluate model.onnx",
        ] {
            let output = succeed(folder, &format!("{command} {source}"));
            assert!(
                output.out.starts_with(&format!("{images} images")),
                "{command} {source}: {}",
                output.out
            );
            assert!(output.err.contains(note), "{command} {source}: {}", output.err);
        }
    };
    measured("set", 4, "trained on this source: measured on the 4 of 20 images");
    fs::create_dir(folder.join("elsewhere")).unwrap();
    fs::rename(folder.join("set"), folder.join("elsewhere/moved")).unwrap();
    measured("elsewhere/moved", 4, "measured on the 4 of 20 images");
    put(folder, "elsewhere/moved/dark/more.png", [3, 3, 3]);
    measured("elsewhere/moved", 21, "was not trained on this source: all 21 images are measured");

    // A test part that lacks a class; classes by name, in any order.
    put(folder, "parts/Training/dark/0.png", [0; 3]);
    put(folder, "parts/Training/light/0.png", [255; 3]);
    put(folder, "parts/Testing/light/1.png", [255; 3]);
    fs::create_dir(folder.join("parts/Testing/dark")).unwrap();
    measured("parts", 1, "the test part has no image of \"dark\"");
    let output = succeed(folder, "milenas-infer evaluate model.onnx parts");
    assert!(output.out.lines().any(|line| line.starts_with("dark        0       -")), "{}", output.out);
    fs::write(folder.join("order.txt"), "light\ndark\n").unwrap();
    let output = succeed(folder, "milenas-infer evaluate model.onnx parts --labels order.txt --json");
    let json: serde_json::Value = serde_json::from_str(&output.out).unwrap();
    assert_eq!((&json["classes"][0]["name"], &json["classes"][0]["images"]), (&"light".into(), &1.into()));
    assert!(json["classes"][1]["recall"].is_null(), "{json}");

    // Classes that are not the model's.
    put(folder, "parts/Training/bird/0.png", [9; 3]);
    for command in [
        "milenas-search eval --weights run/weights.safetensors --data parts",
        "milenas-infer evaluate model.onnx parts",
    ] {
        let output = run(folder, command);
        assert!(output.code == 1 && output.err.contains("\"bird\", unknown to the model"), "{}", output.err);
    }
}

#[cfg(unix)]
#[test]
fn a_camera_folder_is_classified_with_all_that_lies_in_it() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder);
    let photos = folder.join("photos");
    put(folder, "photos/a.png", [0; 3]);
    put(folder, "photos/b/c.png", [255; 3]);
    fs::copy(photos.join("a.png"), photos.join(OsStr::from_bytes(b"pi\xe8ce.png"))).unwrap();
    fs::copy(folder.join("model.onnx"), photos.join("model.onnx")).unwrap();
    for name in ["a.MOV", "a.CR2", "a.AAE", "scan.pdf", "album.zip", "Thumbs.db", "old.csv", "README"] {
        fs::write(photos.join(name), "no image").unwrap();
    }
    std::os::unix::fs::symlink("..", photos.join("b/up")).unwrap();
    let command = "milenas-infer classify model.onnx photos -o photos/out --format csv";
    let output = succeed(folder, command);
    let rows = fs::read_to_string(photos.join("out")).unwrap();
    let paths: Vec<&str> = rows.lines().skip(1).filter_map(|row| row.split(',').next()).collect();
    assert_eq!(paths, ["photos/a.png", "photos/b/c.png", "photos/pi\\xE8ce.png"]);
    let line = "note: skipped: 1 thumbnail or bin, 2 texts, 1 table or result, 1 model, 1 video or sound, 1 raw file, \
                1 document, 1 archive";
    assert!(output.err.contains(line) && output.err.contains("1 link in a ring"), "{}", output.err);
    assert!(output.err.contains("3 images classified"), "{}", output.err);
    // Rows are found again by these names.
    fs::write(photos.join("out"), rows.lines().take(3).map(|row| format!("{row}\n")).collect::<String>())
        .unwrap();
    succeed(folder, &format!("{command} --resume"));
    assert_eq!(fs::read_to_string(photos.join("out")).unwrap(), rows);
}

#[test]
fn a_genotype_is_taken_as_text_by_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let arch = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|nor_conv_1x1~2|";
    let size = "--channels 4 --layers 3 --size 8";
    let output = succeed(folder, &format!("milenas-export inspect {arch} {size}"));
    assert!(output.out.contains(&format!("genotype {arch}")), "{}", output.out);
    let output = succeed(folder, &format!("milenas-export inspect {arch} {size} --schedule"));
    assert!(
        output.out.contains("0  convolution stem.0.weight: stem: image -> b0, 1 x16 8x8"),
        "{}",
        output.out
    );
    assert!(output.out.contains("KiB of weights"), "{}", output.out);
    let output = succeed(folder, &format!("milenas-export inspect {arch} {size} --schedule=bf16"));
    assert!(output.out.contains("bf16: b"), "{}", output.out);
    let output = succeed(folder, &format!("milenas-search analyze {arch} --variants 1 --out wirings --json"));
    let rows: serde_json::Value = serde_json::from_str(&output.out).unwrap();
    assert_eq!(
        (&rows[0]["cells"][0]["depth"], &rows[0]["cells"][0]["operations"]["none"]),
        (&2.into(), &2.into())
    );
    assert_eq!(fs::read_dir(folder.join("wirings")).unwrap().count(), rows.as_array().unwrap().len());
    let output = succeed(folder, "milenas-search analyze DARTS_V2");
    assert!(output.out.contains("normal  width 3.50, depth 3, "), "{}", output.out);
    succeed(folder, &format!("milenas-export {arch} {size} -o arch.onnx"));
    fs::write(folder.join("arch.txt"), format!("[5] the best is Structure(4 nodes with {arch})\n")).unwrap();
    let output = succeed(folder, &format!("milenas-export inspect arch.txt {size}"));
    assert!(output.out.contains(&format!("genotype {arch}")), "{}", output.out);
}
