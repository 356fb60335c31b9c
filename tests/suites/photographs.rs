//! Search, training and export on a realistic folder: photographs of any size, imbalanced classes, gray and colour mixed, some
//! broken. Broken files are named and omitted; the exported file agrees with the weights on every image.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, Rgb};
use milenas_models::Rng;
use milenas_tests::{TINY, run, succeed};

/// Image of stripes, with direction and colours by class.
fn photograph(class: usize, i: usize, gray: bool) -> DynamicImage {
    let (width, height) = (40 + 13 * (i as u32 % 5), 64 - 7 * (i as u32 % 4));
    let level = |x: u32, y: u32| {
        let along = [x, y, x + y][class] as usize;
        ((along / (4 + i % 3) % 2) * 150 + 40 + 5 * i % 60) as u8
    };
    match gray {
        true => ImageBuffer::from_fn(width, height, |x, y| Luma([level(x, y)])).into(),
        false => ImageBuffer::from_fn(width, height, |x, y| {
            let v = level(x, y);
            Rgb([v, 255 - v, (80 * class) as u8])
        })
        .into(),
    }
}

/// Photographs that a package of Python brings, cut and scaled; none where it is not installed.
struct Package(Vec<Vec<DynamicImage>>);

impl Package {
    /// By class; the files themselves are gray and coloured too.
    const FILES: [&[&str]; 3] = [
        &["chelsea.png", "rocket.jpg"],
        &["astronaut.png", "camera.png"],
        &["coins.png", "brick.png", "moon.png"],
    ];

    fn installed() -> Option<Package> {
        let lib = std::env::var_os("VIRTUAL_ENV").map(|place| Path::new(&place).join("lib"))?;
        let mut data =
            fs::read_dir(lib).ok()?.flatten().map(|entry| entry.path().join("site-packages/skimage/data"));
        let data = data.find(|path| path.is_dir())?;
        let open = |name: &&str| image::open(data.join(name)).unwrap();
        Some(Package(Self::FILES.iter().map(|names| names.iter().map(open).collect()).collect()))
    }

    /// A part of one of a class's photographs, of 40 to 200 pixels a side.
    fn photograph(&self, class: usize, i: usize, gray: bool) -> DynamicImage {
        let rng = &mut Rng::new(i as u64, &format!("photograph/{class}"));
        let photo = &self.0[class][i % self.0[class].len()];
        let [width, height] = [(); 2].map(|()| 40 + rng.below(161) as u32);
        let [left, top] = [(photo.width(), width), (photo.height(), height)]
            .map(|(whole, part)| rng.below((whole - part) as usize) as u32);
        let part = photo.crop_imm(left, top, width, height);
        if gray { part.into_luma8().into() } else { part.into_rgb8().into() }
    }
}

/// Files that are no images, or cut.
const BROKEN: [&str; 3] = ["cut.jpg", "empty.png", "letter.jpg"];

/// `photos/CLASS/*`, 8, 20 and 36 images, with the broken files.
fn prepare(folder: &Path, photograph: impl Fn(usize, usize, bool) -> DynamicImage) {
    for (class, (name, count)) in [("few", 8), ("some", 20), ("many", 36)].into_iter().enumerate() {
        let to = folder.join("photos").join(name);
        fs::create_dir_all(&to).unwrap();
        for i in 0..count {
            let (ending, format) =
                [("jpg", ImageFormat::Jpeg), ("png", ImageFormat::Png), ("bmp", ImageFormat::Bmp)][i % 3];
            let path = to.join(format!("{i:02}.{ending}"));
            photograph(class, i, i % 4 == 3).save_with_format(path, format).unwrap();
        }
    }
    let many = folder.join("photos/many");
    let whole = fs::read(many.join("00.jpg")).unwrap();
    fs::write(many.join("cut.jpg"), &whole[..whole.len() / 2]).unwrap();
    fs::write(many.join("empty.png"), "").unwrap();
    fs::write(folder.join("photos/few/letter.jpg"), "not a photograph").unwrap();
}

fn table(path: &Path) -> Vec<Vec<String>> {
    let rows = csv::Reader::from_path(path).unwrap().into_records();
    rows.map(|row| row.unwrap().iter().map(String::from).collect()).collect()
}

#[test]
fn a_users_folder_takes_the_whole_road() {
    takes_the_whole_road(photograph);
}

#[test]
fn so_do_photographs() {
    match Package::installed() {
        Some(package) => takes_the_whole_road(|class, i, gray| package.photograph(class, i, gray)),
        None => eprintln!("skipped: no scikit-image in $VIRTUAL_ENV, see `make .venv/photographs`"),
    }
}

fn takes_the_whole_road(photograph: impl Fn(usize, usize, bool) -> DynamicImage) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder, photograph);
    let set = format!("--data photos --set data.split=1 {TINY}");
    // Done, but for what cannot be read.
    let but_some = |command: &str| {
        let output = run(folder, command);
        assert_eq!(output.code, 2, "{command}\n{}{}", output.out, output.err);
        output
    };
    assert!(but_some("milenas-search data info photos").out.contains("unreadable: "));
    let output = but_some(&format!("milenas-search run --seed 3 --out search {set}"));
    for name in BROKEN {
        assert_eq!(output.err.matches(name).count(), 1, "{name} is named once:\n{}", output.err);
    }
    let note = "different ones, most often";
    assert!(output.err.contains(note) && output.err.contains("set data.size=N"), "{}", output.err);
    // With parts that only training has: an auxiliary head, drop path, averaged weights. Crops come from whole images with a
    // shorter side of 40 pixels, test images are the centre 32 pixels, as the file states.
    let more = "--set data.size=32 --set data.resize=40 --set train.resized_crop=0.3 --set train.auxiliary=0.4 \
         --set train.drop_path=0.3 --set train.ema=0.5 --set train.cutout=0.5";
    let train = format!("milenas-search train --genotype search/genotype.json {set} {more}");
    let output = but_some(&format!("{train} --seed 5 --out run"));
    assert!(BROKEN.iter().all(|name| output.err.contains(name)), "{}", output.err);
    let own = says_the_same(folder, "run");
    let holds =
        |name: &str| fs::read(folder.join(name)).unwrap().windows(14).any(|bytes| bytes == b"auxiliary_head");
    assert!(holds("run/checkpoint.safetensors"));
    assert!(!holds("run/weights.safetensors") && !holds("run.onnx"), "the auxiliary head came along");

    // As DARTS trains on photographs: two stems that shrink by 8, another auxiliary head, crops and colours, 224 of 256 pixels.
    let form = "--preset imagenet --set data.split=1 --set train.epochs=1 --set train.steps=2 --set train.batch=4 \
         --set train.channels=2 --set train.layers=3";
    but_some(&format!(
        "milenas-search train --genotype search/genotype.json --data photos {form} --out form"
    ));
    assert_eq!(says_the_same(folder, "form"), own);

    // Another seed is measured with the same images, another split with others.
    let names = |out: &str, more: &str| -> Vec<String> {
        but_some(&format!("{train} --out {out} {more}"));
        but_some(&format!(
            "milenas-search eval --weights {out}/weights.safetensors --data photos --predictions {out}.csv"
        ));
        table(&folder.join(format!("{out}.csv"))).into_iter().map(|row| row[0].clone()).collect()
    };
    assert_eq!(names("seed", "--seed 6"), own);
    assert_ne!(names("split", "--set data.split=99"), own);
}

/// Exports the network trained in `out`, checks that it agrees with its weights on every test image, and returns their names.
fn says_the_same(folder: &Path, out: &str) -> Vec<String> {
    succeed(folder, &format!("milenas-export {out}/weights.safetensors -o {out}.onnx"));
    let scored = |command: &str| -> serde_json::Value {
        let output = run(folder, command);
        assert_eq!(output.code, 2, "{command}\n{}{}", output.out, output.err);
        serde_json::from_str(&output.out).unwrap()
    };
    let scores = scored(&format!(
        "milenas-search eval --weights {out}/weights.safetensors --data photos --predictions {out}-eval.csv --json"
    ));
    let eval = table(&folder.join(format!("{out}-eval.csv")));
    // One in five is held out for testing, of every class.
    assert!((10..=16).contains(&eval.len()), "{} test images", eval.len());
    assert!(["few", "some", "many"].iter().all(|class| eval.iter().any(|row| row[0].contains(class))));
    assert!(eval.iter().any(|row| !row[4].is_empty()), "none of the broken is a test image");
    let names: Vec<String> = eval.iter().map(|row| row[0].clone()).collect();
    fs::write(folder.join("list.txt"), names.join("\n")).unwrap();
    run(folder, &format!("milenas-infer classify {out}.onnx --list list.txt -o {out}-infer.csv"));
    let infer = table(&folder.join(format!("{out}-infer.csv")));
    assert_eq!(eval.len(), infer.len());
    let mut readable = 0;
    for (ours, theirs) in eval.iter().zip(&infer) {
        assert_eq!(ours[..3], theirs[..3]);
        assert_eq!(ours[4].is_empty(), theirs[4].is_empty(), "{ours:?} {theirs:?}");
        if ours[4].is_empty() {
            let [a, b] = [ours, theirs].map(|row| row[3].parse::<f64>().unwrap());
            assert!((a - b).abs() < 1e-4, "{ours:?} {theirs:?}");
            readable += 1;
        }
    }
    assert_eq!(scores["images"], readable);
    let theirs = scored(&format!("milenas-infer evaluate {out}.onnx photos --json"));
    assert_eq!((&theirs["images"], &theirs["top1"]), (&scores["images"], &scores["top1"]));
    names
}
