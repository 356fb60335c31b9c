//! Tests of decoding, resizing and normalising small drawn images with known results.
#![allow(clippy::unwrap_used)]

mod jpeg;
mod tiff;

use std::io::Cursor;

use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{DynamicImage, ImageBuffer, ImageEncoder, ImageFormat, Luma, Rgb, Rgba};
use proptest::prelude::*;

use super::*;

const FORMATS: [ImageFormat; 9] = [
    ImageFormat::Jpeg,
    ImageFormat::Png,
    ImageFormat::WebP,
    ImageFormat::Gif,
    ImageFormat::Bmp,
    ImageFormat::Tiff,
    ImageFormat::Pnm,
    ImageFormat::Qoi,
    ImageFormat::Tga,
];

fn encode(original: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    original.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn open(bytes: &[u8]) -> Result<Image> {
    decode(bytes, &Limits::default())
}

/// Draws an image with few colours, which GIF can store exactly.
fn drawing(width: u32, height: u32) -> DynamicImage {
    let paint = |x: u32, y: u32| Rgb([(x * 40 % 240) as u8, (y * 60 % 240) as u8, ((x * y) % 3 * 80) as u8]);
    ImageBuffer::from_fn(width, height, paint).into()
}

fn contract(height: usize, width: usize, resize: Resize) -> InputContract {
    let (mean, std) = (vec![0.0; 3], vec![1.0; 3]);
    InputContract::new(ImageSize { height, width }, 3, mean, std, resize)
}

#[test]
fn every_format_gives_the_pixels_that_were_drawn() {
    let original = drawing(7, 5);
    for format in FORMATS {
        let image = open(&encode(&original, format)).unwrap();
        assert_eq!((image.width(), image.height(), image.alpha()), (7, 5, None), "{format:?}");
        let difference =
            image.rgb().iter().zip(original.as_bytes()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        match format {
            ImageFormat::Jpeg => assert!(open(&encode(&drawing(7, 5), format)).is_ok()),
            _ => assert_eq!(difference, 0, "{format:?}"),
        }
    }
}

#[test]
fn the_eight_orientations_stand_upright() {
    let (w, h) = (3, 2);
    let source = drawing(w, h).into_rgb8();
    for orientation in 1..=8u8 {
        let exif = [
            b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".as_slice(),
            &[orientation, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        fn written(mut encoder: impl ImageEncoder, exif: Vec<u8>, source: &ImageBuffer<Rgb<u8>, Vec<u8>>) {
            encoder.set_exif_metadata(exif).unwrap();
            let (w, h) = source.dimensions();
            encoder.write_image(source.as_raw(), w, h, image::ExtendedColorType::Rgb8).unwrap();
        }
        let mut png = Vec::new();
        written(PngEncoder::new(&mut png), exif.clone(), &source);
        let image = open(&png).unwrap();
        for exif in [exif.clone(), [b"Exif\0\0", exif.as_slice()].concat()] {
            let mut webp = Vec::new();
            written(WebPEncoder::new_lossless(&mut webp), exif, &source);
            assert_eq!(open(&webp).unwrap(), image, "{orientation}");
        }
        assert_eq!(image.orientation(), orientation);
        let stored = image.as_stored();
        assert_eq!((stored.rgb(), stored.orientation()), (source.as_raw().as_slice(), 1), "{orientation}");
        let turned = orientation >= 5;
        assert_eq!((image.width(), image.height()), if turned { (2, 3) } else { (3, 2) });
        for y in 0..image.height() as u32 {
            for x in 0..image.width() as u32 {
                // EXIF 2.3, tag 0x0112: position at which the stored row 0 and column 0 are displayed.
                let (sx, sy) = match orientation {
                    1 => (x, y),
                    2 => (w - 1 - x, y),
                    3 => (w - 1 - x, h - 1 - y),
                    4 => (x, h - 1 - y),
                    5 => (y, x),
                    6 => (y, h - 1 - x),
                    7 => (w - 1 - y, h - 1 - x),
                    _ => (w - 1 - y, x),
                };
                let at = 3 * (y as usize * image.width() + x as usize);
                assert_eq!(image.rgb()[at..at + 3], source.get_pixel(sx, sy).0, "{orientation}: {x}, {y}");
            }
        }
    }
}

#[test]
fn alpha_is_laid_over_the_background() {
    let pixels = [Rgba([200u8, 100, 0, 255]), Rgba([200, 100, 0, 0]), Rgba([200, 100, 0, 51])];
    let original: DynamicImage = ImageBuffer::from_fn(3, 1, |x, _| pixels[x as usize]).into();
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Tiff, ImageFormat::Qoi] {
        let image = open(&encode(&original, format)).unwrap();
        assert_eq!(image.alpha(), Some(&[255, 0, 51][..]), "{format:?}");
        // A fifth of the colour and four fifths of white.
        assert_eq!(*image.over(white()), [200, 100, 0, 255, 255, 255, 244, 224, 204]);
        assert_eq!(*image.over(Some([0, 0, 10])), [200, 100, 0, 0, 0, 10, 40, 20, 8]);
        assert_eq!(*image.over(None), [200, 100, 0, 200, 100, 0, 200, 100, 0]);
    }
}

#[test]
fn gray_and_sixteen_bits() {
    let gray: DynamicImage = ImageBuffer::from_fn(2, 1, |x, _| Luma([x as u8 * 90])).into();
    let image = open(&encode(&gray, ImageFormat::Png)).unwrap();
    assert_eq!((image.rgb(), image.is_gray()), (&[0, 0, 0, 90, 90, 90][..], true));
    let deep = [0u16, 257 * 100 + 100, 257 * 100 + 200, 65535];
    let deep: DynamicImage = ImageBuffer::from_fn(4, 1, |x, _| Luma([deep[x as usize]])).into();
    for format in [ImageFormat::Png, ImageFormat::Tiff, ImageFormat::Pnm] {
        let image = open(&encode(&deep, format)).unwrap();
        let first: Vec<u8> = image.rgb().iter().copied().step_by(3).collect();
        assert_eq!(first, [0, 100, 101, 255], "{format:?}");
    }
    assert!(!open(&encode(&drawing(4, 4), ImageFormat::Png)).unwrap().is_gray());
}

#[test]
fn a_cut_file_is_an_error_or_whole() {
    let original = drawing(61, 47);
    for format in FORMATS {
        let bytes = encode(&original, format);
        let whole = open(&bytes).unwrap();
        let (mut refused, mut truncated) = (0, 0);
        for length in (0..bytes.len()).step_by(1 + bytes.len() / 200) {
            match open(&bytes[..length]) {
                Ok(image) => assert!(image == whole, "{format:?}: {length} of {} bytes", bytes.len()),
                Err(error) => {
                    refused += 1;
                    truncated += usize::from(matches!(error, Error::Truncated { .. }));
                    let starts = matches!(error, Error::Truncated { .. }) || length < 60;
                    assert!(starts, "{format:?}: {length} of {} bytes: {error}", bytes.len());
                }
            }
        }
        assert!(refused > 20 && truncated > 20, "{format:?}: {refused} refused, {truncated} as truncated");
    }
}

#[test]
fn a_thumbnail_is_not_the_end_of_a_jpeg() {
    let jpeg = encode(&drawing(40, 40), ImageFormat::Jpeg);
    let thumbnail = encode(&drawing(8, 8), ImageFormat::Jpeg);
    let length = (thumbnail.len() as u16 + 2).to_be_bytes();
    let nested = [&jpeg[..2], &[0xff, 0xe5], &length, &thumbnail, &jpeg[2..]].concat();
    assert_eq!(open(&nested).unwrap(), open(&jpeg).unwrap());
    let error = open(&nested[..nested.len() * 2 / 3]).unwrap_err();
    assert!(error.to_string().contains("without the end-of-image marker"), "{error}");
}

#[test]
fn limits_name_what_was_asked_for() {
    let bytes = encode(&drawing(60, 40), ImageFormat::Png);
    let limits = Limits::default();
    let cases = [
        (Limits { max_width: 59, ..limits }, "width in pixels is 60, the limit is 59"),
        (Limits { max_height: 39, ..limits }, "height in pixels is 40, the limit is 39"),
        (Limits { max_pixels: 2399, ..limits }, "number of pixels is 2400, the limit is 2399"),
        (Limits { max_memory: 20_000, ..limits }, "the limit is 20000"),
        (Limits { max_file: 50, ..limits }, "the limit is 50"),
    ];
    for (limits, expected) in cases {
        let error = decode(&bytes, &limits).unwrap_err();
        assert!(matches!(error, Error::Limit { .. }) && error.to_string().contains(expected), "{error}");
    }
    let larger = limits.with_max_pixels(220_000_000);
    assert_eq!((larger.max_pixels, larger.max_memory), (220_000_000, 2 * limits.max_memory));
    assert_eq!(limits.with_max_pixels(5).max_memory, limits.max_memory);
    let page = encode(&DynamicImage::new_rgb8(4200, 5400), ImageFormat::Png);
    assert_eq!(open(&page).unwrap().height(), 5400, "a blank page");
    let blank = encode(&DynamicImage::new_luma8(9000, 8000), ImageFormat::Png);
    let expansion = 72_000_000 / blank.len() as u64;
    assert!(decode(&blank, &Limits { max_expansion: expansion, ..limits }).is_ok());
    let error = decode(&blank, &Limits { max_expansion: expansion - 1, ..limits }).unwrap_err().to_string();
    assert!(error.contains(&format!("decoded bytes for each byte of the file is {expansion}")), "{error}");
    let error = open(b"hello, I am a text file").unwrap_err().within("a.jpg").to_string();
    assert!(error.starts_with("a.jpg, image: the content is of no known"), "{error}");
}

#[test]
fn resizing_equals_the_triangle_filter_by_hand() {
    let row = |values: &[u8]| {
        Image::new(values.len(), 1, values.iter().flat_map(|&v| [v; 3]).collect(), None).unwrap()
    };
    let first = |pixels: Vec<u8>| pixels.into_iter().step_by(3).collect::<Vec<_>>();
    let image = row(&[7, 70, 140, 210]);
    // Halving: a triangle of radius 2 around 1 and 3, so (3a + 3b + c) / 7 and (b + 3c + 3d) / 7.
    let halved = contract(1, 2, Resize::Stretch).prepare(&image).unwrap();
    assert_eq!(first(halved), [53, 160]);
    let doubled = contract(1, 4, Resize::Stretch).prepare(&row(&[40, 80])).unwrap();
    assert_eq!(first(doubled), [40, 50, 70, 80]);
    // An image of the same size is unchanged by any rule.
    let same = contract(1, 4, Resize::ShorterSide { side: 4 }).prepare(&image).unwrap();
    assert_eq!(same, image.rgb());
}

#[test]
fn the_centre_is_cropped() {
    let image = open(&encode(&drawing(9, 4), ImageFormat::Png)).unwrap();
    let cropped = contract(4, 4, Resize::ShorterSide { side: 4 }).prepare(&image).unwrap();
    // (9 - 4) / 2 = 2.5 rounds to the even 2.
    let expected: Vec<u8> =
        (0..4).flat_map(|y| image.rgb()[3 * (9 * y + 2)..3 * (9 * y + 6)].to_vec()).collect();
    assert_eq!(cropped, expected);
    // Cropping a box of the source equals cropping the resized image.
    let image = open(&encode(&drawing(50, 30), ImageFormat::Png)).unwrap();
    let whole = contract(12, 20, Resize::Stretch).prepare(&image).unwrap();
    let centre = contract(12, 12, Resize::ShorterSide { side: 12 }).prepare(&image).unwrap();
    let expected: Vec<u8> = whole.chunks_exact(60).flat_map(|row| row[12..48].to_vec()).collect();
    assert!(centre.iter().zip(&expected).all(|(a, b)| a.abs_diff(*b) <= 1));
}

#[test]
fn an_extreme_aspect_ratio_is_prepared() {
    let image = Image::new(60_000, 1, vec![9; 180_000], None).unwrap();
    let prepared = contract(224, 224, Resize::ShorterSide { side: 256 }).prepare(&image).unwrap();
    assert!(prepared.len() == 224 * 224 * 3 && prepared.iter().all(|&v| v == 9));
}

#[test]
fn luma_and_normalising() {
    let mut contract = contract(1, 2, Resize::Stretch);
    (contract.mean, contract.std) = (vec![0.0, 0.5, 1.0], vec![1.0, 0.5, 0.1]);
    let mut floats = [0.0; 6];
    contract.normalise(&[0, 255, 255, 51, 0, 0], &mut floats);
    assert_eq!(floats, [0.0, 0.2, 1.0, -1.0, 0.0, -10.0]);
    // 0.299 R + 0.587 G + 0.114 B
    assert_eq!(luma(&[255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255]), [76, 150, 29, 255]);
}

/// Decodes a file of a camera that was held upright: 3 by 2 stored pixels that are displayed as 2 by 3.
#[test]
fn orientations_are_ignored_where_asked_for() {
    let mut bytes = Vec::new();
    let mut encoder = PngEncoder::new(&mut bytes);
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    encoder.set_exif_metadata(exif.to_vec()).unwrap();
    let stored = drawing(3, 2);
    encoder.write_image(stored.as_bytes(), 3, 2, image::ExtendedColorType::Rgb8).unwrap();
    let image = open(&bytes).unwrap();
    assert_eq!((image.width(), image.height()), (2, 3));
    let mut contract = contract(2, 3, Resize::Stretch);
    contract.orientation = ExifOrientation::Ignore;
    assert_eq!(contract.prepare(&image).unwrap(), stored.as_bytes());
}

#[test]
fn blue_comes_first_where_asked_for() {
    let image = Image::new(2, 1, vec![10, 20, 30, 40, 50, 60], None).unwrap();
    let mut bgr = contract(1, 2, Resize::Stretch);
    bgr.order = ChannelOrder::Bgr;
    assert_eq!(bgr.prepare(&image).unwrap(), [30, 20, 10, 60, 50, 40]);
    bgr.channels = 1;
    (bgr.mean, bgr.std) = (vec![0.0], vec![1.0]);
    assert!(bgr.validate().unwrap_err().to_string().contains("order"));
}

/// Files of versions without these parts are read, and written unchanged.
#[test]
fn parts_at_their_defaults_are_not_written() {
    let plain = contract(2, 2, Resize::Stretch);
    let json = serde_json::to_string(&plain).unwrap();
    assert!(!["filter", "order", "orientation"].iter().any(|key| json.contains(key)), "{json}");
    assert_eq!(serde_json::from_str::<InputContract>(&json).unwrap(), plain);
    let other = InputContract {
        filter: Filter::Lanczos,
        order: ChannelOrder::Bgr,
        orientation: ExifOrientation::Ignore,
        resize: Resize::Letterbox { fill: [1, 2, 3] },
        ..plain
    };
    let json = serde_json::to_string(&other).unwrap();
    assert_eq!(serde_json::from_str::<InputContract>(&json).unwrap(), other);
}

#[test]
fn contracts_are_checked_when_read() {
    let whole = contract(8, 8, Resize::ShorterSide { side: 9 });
    let json = serde_json::to_string(&whole).unwrap();
    assert_eq!(serde_json::from_str::<InputContract>(&json).unwrap(), whole);
    for (from, to, expected) in [
        (r#""height":8"#, r#""height":0"#, "height is 0, expected 1 to 8192"),
        (r#""channels":3"#, r#""channels":4"#, "channels is 4"),
        (
            r#""mean":[0.0,0.0,0.0]"#,
            r#""mean":[0.0]"#,
            "mean is [0.0], expected one finite number per channel",
        ),
        (r#""std":[1.0,"#, r#""std":[0.0,"#, "expected numbers above 0"),
        (r#""side":9"#, r#""side":7"#, "side is 7, expected at least height and width"),
        (r#""width":8"#, r#""width":8,"colour":1"#, "unknown field `colour`"),
    ] {
        let broken = json.replace(from, to);
        assert_ne!(broken, json);
        let error = serde_json::from_str::<InputContract>(&broken).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let without = json.replace(r#","background":[255,255,255]"#, "");
    assert_eq!(serde_json::from_str::<InputContract>(&without).unwrap().background, white());
}

fn not_a_panic(bytes: &[u8]) {
    let limits = Limits { max_pixels: 1 << 20, max_memory: 1 << 26, ..Limits::default() };
    if let Err(error) = decode(bytes, &limits) {
        assert!(!error.to_string().contains("panicked"), "{error}: {bytes:02x?}");
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(format in 0..FORMATS.len(), head in 0..40usize, tail: Vec<u8>) {
        let valid = encode(&drawing(5, 4), FORMATS[format]);
        not_a_panic(&[&valid[..head.min(valid.len())], &tail].concat());
    }

    #[test]
    fn damaged_files_never_panic(
        format in 0..FORMATS.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        keep in any::<bool>(),
    ) {
        let mut bytes = encode(&drawing(21, 17), FORMATS[format]);
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let length = if keep { bytes.len() } else { cut.index(bytes.len()) };
        not_a_panic(&bytes[..length]);
    }
}
