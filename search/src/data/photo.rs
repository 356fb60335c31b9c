//! Augmentation of photographs: random resized crops and colour jitter, as in torchvision.

use milenas_models::Rng;
use milenas_models::input::{ChannelOrder, Image, ImageSize, InputContract, Resize};

/// Number of tries to find a crop of a sampled area and aspect ratio that fits; then a central crop is taken.
const TRIES: usize = 10;

/// A part of an image, in pixels.
#[derive(Clone, Copy)]
struct Crop {
    top: usize,
    left: usize,
    rows: usize,
    columns: usize,
}

/// Samples a crop of `least` to 1 of the area, with aspect ratio 3/4 to 4/3 (torchvision's
/// `RandomResizedCrop`).
fn draw(size: ImageSize, least: f64, rng: &mut Rng) -> Crop {
    let ImageSize { height, width } = size;
    let area = size.area() as f64;
    let ratio = 0.75f32.ln();
    for _ in 0..TRIES {
        let target = area * f64::from(rng.uniform(least as f32, 1.0));
        let shape = f64::from(rng.uniform(ratio, -ratio)).exp();
        let rows = (target / shape).sqrt().round() as usize;
        let columns = (target * shape).sqrt().round() as usize;
        if (1..=height).contains(&rows) && (1..=width).contains(&columns) {
            let (top, left) = (rng.below(height - rows + 1), rng.below(width - columns + 1));
            return Crop { top, left, rows, columns };
        }
    }
    let rows = height.min(width * 4 / 3).max(1);
    let columns = width.min(height * 4 / 3).max(1);
    Crop { top: (height - rows) / 2, left: (width - columns) / 2, rows, columns }
}

/// Crops `image` `[H, W, C]` at random, and resizes the crop to the contract's size.
pub(super) fn resized_crop(
    image: &[u8],
    size: ImageSize,
    contract: &InputContract,
    least: f64,
    rng: &mut Rng,
) -> Vec<u8> {
    cropped(image, size.width, contract, draw(size, least, rng))
}

fn cropped(image: &[u8], width: usize, contract: &InputContract, crop: Crop) -> Vec<u8> {
    let (Crop { top, left, rows, columns }, channels) = (crop, contract.channels);
    let mut rgb = Vec::with_capacity(rows * columns * 3);
    for row in image.chunks_exact(width * channels).skip(top).take(rows) {
        for pixel in row.chunks_exact(channels).skip(left).take(columns) {
            rgb.extend((0..3).map(|c| pixel[c % channels]));
        }
    }
    // The channels are already in the contract's order.
    let stretch = InputContract { resize: Resize::Stretch, order: ChannelOrder::Rgb, ..contract.clone() };
    let resized = Image::new(columns, rows, rgb, None).and_then(|crop| stretch.prepare(&crop));
    resized.expect("a crop of a valid image is valid")
}

/// Resizes `image` `[H, W, C]` to the contract's size.
pub(super) fn resized(image: &[u8], size: ImageSize, contract: &InputContract) -> Vec<u8> {
    cropped(image, size.width, contract, Crop { top: 0, left: 0, rows: size.height, columns: size.width })
}

/// Changes brightness, contrast and saturation by factors of `1 - strength` to `1 + strength`, and the hue by
/// up to half of `strength` of its circle, in random order (torchvision's `ColorJitter`). Gray images have
/// brightness and contrast only.
pub(super) fn jitter(image: &mut [u8], channels: usize, strength: f64, rng: &mut Rng) {
    let mut order: Vec<usize> = (0..4).collect();
    rng.shuffle(&mut order);
    let s = strength as f32;
    for change in order {
        let factor = rng.uniform(1.0 - s, 1.0 + s);
        match (change, channels) {
            (0, _) => blend(image, factor, |_| 0.0),
            (1, _) => {
                let count = image.len() / channels;
                let mean = image.chunks_exact(channels).map(luma).sum::<f32>() / count as f32;
                image.iter_mut().for_each(|x| *x = mix(*x, mean.round(), factor));
            }
            (2, 3) => image.chunks_exact_mut(3).for_each(|pixel| {
                let gray = luma(pixel);
                blend(pixel, factor, |_| gray);
            }),
            (3, 3) => image.chunks_exact_mut(3).for_each(|pixel| turn(pixel, (factor - 1.0) / 2.0)),
            _ => {}
        }
    }
}

fn mix(x: u8, other: f32, factor: f32) -> u8 {
    (factor * f32::from(x) + (1.0 - factor) * other).round().clamp(0.0, 255.0) as u8
}

fn blend(image: &mut [u8], factor: f32, other: impl Fn(u8) -> f32) {
    image.iter_mut().for_each(|x| *x = mix(*x, other(*x), factor));
}

fn luma(pixel: &[u8]) -> f32 {
    match *pixel {
        [r, g, b] => 0.299 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b),
        _ => f32::from(pixel[0]),
    }
}

/// Rotates the hue by a fraction of its circle. The largest and the smallest colour value stay.
fn turn(pixel: &mut [u8], by: f32) {
    let [r, g, b] = [0, 1, 2].map(|c| f32::from(pixel[c]));
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    let span = high - low;
    if span == 0.0 {
        return;
    }
    let sixth = match high {
        _ if high == r => (g - b) / span,
        _ if high == g => (b - r) / span + 2.0,
        _ => (r - g) / span + 4.0,
    };
    let hue = (sixth / 6.0 + by).rem_euclid(1.0) * 6.0;
    for (c, shift) in [5.0, 3.0, 1.0].into_iter().enumerate() {
        let k = (hue + shift) % 6.0;
        let part = k.min(4.0 - k).clamp(0.0, 1.0);
        pixel[c] = (high - span * part).round() as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The statistics cover crops that fit with any aspect ratio; the largest of them have half the area.
    #[test]
    fn crops_have_their_areas_shapes_and_places() {
        let mut rng = Rng::new(0, "crop");
        let (mut areas, mut shapes, mut tops, mut lefts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let place = |first: usize, size: usize| (first as f64 + 0.5) / (1000 - size + 1) as f64;
        for _ in 0..4000 {
            let Crop { top, left, rows, columns } = draw(ImageSize::square(1000), 0.08, &mut rng);
            assert!(top + rows <= 1000 && left + columns <= 1000);
            let shape = (columns as f64 / rows as f64).ln() / (4f64 / 3.0).ln();
            assert!(shape.abs() < 1.02, "{shape}");
            let area = (rows * columns) as f64 / 1e6;
            areas.push(area);
            if area < 0.5 {
                shapes.push((shape + 1.0) / 2.0);
                tops.push(place(top, rows));
                lefts.push(place(left, columns));
            }
        }
        let least = areas.iter().copied().fold(1.0, f64::min);
        assert!((0.075..0.1).contains(&least), "{least}");
        // The distribution is uniform up to the area where crops of extreme aspect ratios no longer fit.
        let below = areas.iter().filter(|a| **a < 0.54).count() as f64 / 4000.0;
        assert!((0.5..0.62).contains(&below), "{below}");
        for (values, what) in [(shapes, "logarithm of the shape"), (tops, "top"), (lefts, "left")] {
            uniform(values, what);
        }
    }

    fn contract(height: usize, width: usize, channels: usize) -> InputContract {
        InputContract::new(
            ImageSize { height, width },
            channels,
            vec![0.0; channels],
            vec![1.0; channels],
            Resize::ShorterSide { side: height.min(width) },
        )
    }

    #[test]
    fn a_crop_contains_its_region_at_the_networks_size() {
        for channels in [1, 3] {
            let contract = contract(8, 6, channels);
            // Each quarter has one colour; quarters are numbered row by row.
            let quarter = |i: usize| (i / (6 * channels) / 4 * 2 + i % (6 * channels) / (3 * channels)) as u8;
            let quarter_at = |top, left| Crop { top, left, rows: 4, columns: 3 };
            let image: Vec<u8> = (0..48 * channels).map(|i| 40 * quarter(i) + (i % channels) as u8).collect();
            assert_eq!(cropped(&image, 6, &contract, Crop { top: 0, left: 0, rows: 8, columns: 6 }), image);
            for (q, [top, left]) in [[0, 0], [0, 3], [4, 0], [4, 3]].into_iter().enumerate() {
                let pixel = (0..channels).map(|c| (40 * q + c) as u8).collect::<Vec<_>>();
                assert_eq!(
                    cropped(&image, 6, &contract, quarter_at(top, left)),
                    pixel.repeat(48),
                    "quarter {q}"
                );
            }
            // The crops are resized to another size.
            let small = InputContract { height: 4, width: 3, ..contract };
            for (q, [top, left]) in [[0, 0], [0, 3], [4, 0], [4, 3]].into_iter().enumerate() {
                let pixel = (0..channels).map(|c| (40 * q + c) as u8).collect::<Vec<_>>();
                assert_eq!(
                    cropped(&image, 6, &small, quarter_at(top, left)),
                    pixel.repeat(12),
                    "quarter {q}"
                );
            }
        }
    }

    /// Every row of the image has its own value. So has every row of a crop, and some crop reaches each end.
    #[test]
    fn crops_of_a_rectangular_image_lie_in_it() {
        let contract = contract(16, 16, 1);
        let image: Vec<u8> = (0..40 * 30).map(|i| (i / 30 * 6) as u8).collect();
        let (mut rng, mut highest, mut lowest) = (Rng::new(0, "crop"), 255, 0);
        for _ in 0..200 {
            let cropped = resized_crop(&image, ImageSize { height: 40, width: 30 }, &contract, 0.3, &mut rng);
            let rows: Vec<u8> = cropped.chunks_exact(16).map(|row| row[0]).collect();
            assert!(cropped.chunks_exact(16).all(|row| row.iter().all(|x| *x == row[0])), "rows are mixed");
            assert!(rows.is_sorted());
            highest = highest.min(rows[0]);
            lowest = lowest.max(rows[15]);
        }
        assert!(highest <= 6 && lowest >= 228, "{highest} {lowest}");
    }

    #[test]
    fn the_hue_turns_around_its_circle() {
        let turned = |by: f32| {
            let mut pixel = [200, 100, 50];
            turn(&mut pixel, by);
            pixel
        };
        assert_eq!(turned(0.0), [200, 100, 50]);
        assert_eq!(turned(1.0 / 3.0), [50, 200, 100]);
        assert_eq!(turned(-1.0 / 3.0), [100, 50, 200]);
        let mut gray = [90; 3];
        turn(&mut gray, 0.3);
        assert_eq!(gray, [90; 3]);
    }

    /// A mid gray changes with brightness only: contrast leaves it, so the spread is that of brightness.
    #[test]
    fn brightness_spreads_evenly_within_its_strength() {
        let mut values = Vec::new();
        for seed in 0..2000 {
            let mut image = [100; 12];
            jitter(&mut image, 3, 0.4, &mut Rng::new(seed, "x"));
            assert!(image.iter().all(|x| *x == image[0]));
            values.push(f64::from(image[0]));
        }
        let (low, high) =
            (values.iter().copied().fold(255.0, f64::min), values.iter().copied().fold(0.0, f64::max));
        assert!((60.0..61.5).contains(&low) && (138.5..=140.0).contains(&high), "{low} {high}");
        let mean = values.iter().sum::<f64>() / 2000.0;
        let below = values.iter().filter(|x| **x < 80.0).count();
        assert!((mean - 100.0).abs() < 1.5 && (420..580).contains(&below), "{mean} {below}");
    }

    /// Checks that values of 0 to 1 are uniform, by the Kolmogorov-Smirnov statistic at a level of 0.001. With
    /// many more values the rounding to integers would be visible.
    fn uniform(mut values: Vec<f64>, what: &str) {
        values.sort_by(f64::total_cmp);
        let n = values.len() as f64;
        let far = |(i, x): (usize, &f64)| (x - i as f64 / n).abs().max((x - (i + 1) as f64 / n).abs());
        let most = values.iter().enumerate().map(far).fold(0.0, f64::max);
        assert!(most < 1.95 / n.sqrt(), "{what}: {most}");
    }

    /// Each factor is computed from pixels that no other change affects, in any order.
    #[test]
    fn contrast_saturation_and_hue_spread_evenly_within_their_strengths() {
        const STRENGTH: f64 = 0.2;
        let place = |factor: f64| ((factor - 1.0) / STRENGTH + 1.0) / 2.0;
        let (mut contrasts, mut saturations, mut hues) = (Vec::new(), Vec::new(), Vec::new());
        for seed in 0..1000 {
            let jittered = |image: &[u8], channels: usize| -> Vec<f64> {
                let mut image = image.to_vec();
                jitter(&mut image, channels, STRENGTH, &mut Rng::new(seed, "x"));
                image.into_iter().map(f64::from).collect()
            };
            // Brightness scales both levels, so their distance over their sum depends on contrast only. It is
            // 0.6 at first.
            let levels = jittered(&[40, 160, 40, 160], 1);
            contrasts.push(place((levels[1] - levels[0]) / (levels[1] + levels[0]) / 0.6));
            // Two grays show the effect of brightness and contrast on a distance; the rest of a colour's change
            // is saturation.
            let pixels = jittered(&[60, 60, 60, 180, 180, 180, 80, 160, 80], 3);
            let [r, g, b] = [pixels[6], pixels[7], pixels[8]];
            let span = g - r.min(b);
            saturations.push(place(span / 80.0 * 120.0 / (pixels[3] - pixels[0])));
            // The largest value is green in all cases, as a tenth of the circle reaches neither yellow nor
            // cyan.
            hues.push((b - r) / span / 6.0 / STRENGTH + 0.5);
        }
        for (values, what) in [(contrasts, "contrast"), (saturations, "saturation"), (hues, "hue")] {
            assert!(values.iter().all(|x| (-0.1..1.1).contains(x)), "{what}");
            uniform(values, what);
        }
    }

    #[test]
    fn contrast_keeps_the_mean_and_saturation_the_luma() {
        // Contrast keeps the mean of a gray image.
        let mut gray = [50, 150, 50, 150];
        gray.iter_mut().for_each(|x| *x = mix(*x, 100.0, 1.2));
        assert_eq!(gray, [40, 160, 40, 160]);
        // Without saturation a pixel becomes gray with the same luma.
        let mut pixel = [200, 100, 50];
        let gray = luma(&pixel);
        blend(&mut pixel, 0.0, |_| gray);
        assert_eq!(pixel, [124; 3]);
    }
}
