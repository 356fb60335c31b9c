//! Tests of JPEG files from a test encoder, which writes scans that common encoders do not.

use super::*;

/// Sampling factors of luma and two colour differences.
type Sampling = [(usize, usize); 3];

/// Components and range of coefficients of a scan.
type Scan<'a> = (&'a [usize], [u8; 2]);

const ALL: [u8; 2] = [0, 63];
const BASELINE: &[Scan] = &[(&[0, 1, 2], ALL)];
const SEPARATE: &[Scan] = &[(&[0], ALL), (&[1], ALL), (&[2], ALL)];
const TWO: &[Scan] = &[(&[0], ALL), (&[1, 2], ALL)];
const PROGRESSIVE: &[Scan] =
    &[(&[0, 1, 2], [0, 0]), (&[2], [1, 63]), (&[1], [1, 63]), (&[0], [1, 5]), (&[0], [6, 63])];
const PROGRESSIVE_SEPARATE: &[Scan] =
    &[(&[0], [0, 0]), (&[1], [0, 0]), (&[2], [0, 0]), (&[0], [1, 63]), (&[1], [1, 63]), (&[2], [1, 63])];

/// Writer of entropy-coded data.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    held: u32,
    count: u32,
}

impl Bits {
    fn put(&mut self, code: u32, length: u32) {
        for i in (0..length).rev() {
            (self.held, self.count) = (self.held << 1 | (code >> i & 1), self.count + 1);
            if self.count == 8 {
                self.bytes.push(self.held as u8);
                if self.held == 0xff {
                    self.bytes.push(0);
                }
                (self.held, self.count) = (0, 0);
            }
        }
    }

    /// Writes a value in the code of its category: negative values are decreased by one.
    fn signed(&mut self, value: i32, category: u32) {
        self.put(if value < 0 { value - 1 } else { value } as u32, category);
    }

    fn pad(&mut self) {
        self.put(0x7f, (8 - self.count) % 8);
    }
}

struct Writer {
    size: [usize; 2],
    sampling: Sampling,
    /// Number of MCUs between restart markers; 0 for none.
    restart: usize,
}

impl Writer {
    /// Level of a block minus 128: different from its neighbours, and zero for colours if `gray`.
    fn level(component: usize, x: usize, y: usize) -> i32 {
        (((x * 37 + y * 59 + component * 23) % 13) as i32 - 6) * if component == 0 { 16 } else { 7 }
    }

    fn write(&self, scans: &[Scan]) -> Vec<u8> {
        let [width, height] = self.size;
        let progressive = scans.iter().any(|scan| scan.1 != ALL);
        let mut out = vec![0xff, 0xd8];
        let segment = |out: &mut Vec<u8>, code: u8, data: &[u8]| {
            out.extend([0xff, code]);
            out.extend((data.len() as u16 + 2).to_be_bytes());
            out.extend(data);
        };
        segment(&mut out, 0xdb, &[&[0][..], &[8; 64]].concat());
        let mut frame = vec![8, (height >> 8) as u8, height as u8, (width >> 8) as u8, width as u8, 3];
        for (i, (h, v)) in self.sampling.iter().enumerate() {
            frame.extend([i as u8 + 1, (h << 4 | v) as u8, 0]);
        }
        segment(&mut out, if progressive { 0xc2 } else { 0xc0 }, &frame);
        // Twelve categories of 4 bits each; 0 ends a block, 10 is a coefficient of 1 or -1.
        segment(
            &mut out,
            0xc4,
            &[&[0, 0, 0, 0, 12][..], &[0; 12], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]].concat(),
        );
        segment(&mut out, 0xc4, &[&[0x10, 1, 1][..], &[0; 14], &[0, 1]].concat());
        if self.restart > 0 {
            segment(&mut out, 0xdd, &(self.restart as u16).to_be_bytes());
        }
        for (components, spectrum) in scans {
            let mut header = vec![components.len() as u8];
            components.iter().for_each(|&c| header.extend([c as u8 + 1, 0]));
            header.extend([spectrum[0], spectrum[1], 0]);
            segment(&mut out, 0xda, &header);
            self.scan(components, *spectrum, &mut out);
        }
        out.extend([0xff, 0xd9]);
        out
    }

    fn scan(&self, components: &[usize], [first, last]: [u8; 2], out: &mut Vec<u8>) {
        let most = |f: fn(&(usize, usize)) -> usize| self.sampling.iter().map(f).max().unwrap();
        let most = [most(|s| s.0), most(|s| s.1)];
        let units = |c: usize, axis: usize| {
            let factor = [self.sampling[c].0, self.sampling[c].1][axis];
            (self.size[axis] * factor).div_ceil(most[axis]).div_ceil(8)
        };
        // A single component is stored block by block, without the blocks that pad the last MCU.
        let alone = components.len() == 1;
        let [across, down] = match alone {
            true => [0, 1].map(|axis| units(components[0], axis)),
            false => [0, 1].map(|axis| self.size[axis].div_ceil(8 * most[axis])),
        };
        let (mut bits, mut before) = (Bits::default(), [0; 3]);
        for mcu in 0..across * down {
            if self.restart > 0 && mcu > 0 && mcu % self.restart == 0 {
                bits.pad();
                bits.bytes.extend([0xff, 0xd0 + ((mcu / self.restart - 1) % 8) as u8]);
                before = [0; 3];
            }
            for &c in components {
                let (h, v) = if alone { (1, 1) } else { self.sampling[c] };
                for (y, x) in (0..v).flat_map(|y| (0..h).map(move |x| (y, x))) {
                    let [x, y] = [mcu % across * h + x, mcu / across * v + y];
                    let level = Self::level(c, x, y);
                    if first == 0 {
                        let step = level - before[c];
                        let category = 32 - step.unsigned_abs().leading_zeros();
                        bits.put(category, 4);
                        bits.signed(step, category);
                        before[c] = level;
                    }
                    if first <= 1 && last >= 1 && c == 0 {
                        bits.put(0b10, 2);
                        bits.signed(if (x + y) % 2 == 0 { 1 } else { -1 }, 1);
                    }
                    if last > 0 {
                        bits.put(0, 1);
                    }
                }
            }
        }
        bits.pad();
        out.extend(bits.bytes);
    }
}

const SAMPLINGS: [Sampling; 4] =
    [[(1, 1), (1, 1), (1, 1)], [(2, 1), (1, 1), (1, 1)], [(1, 2), (1, 1), (1, 1)], [(2, 2), (1, 1), (1, 1)]];

/// Returns the largest and the mean difference of two images of the same size.
fn difference(a: &Image, b: &Image) -> (u8, f64) {
    assert_eq!((a.width(), a.height()), (b.width(), b.height()));
    let steps: Vec<u8> = a.rgb().iter().zip(b.rgb()).map(|(a, b)| a.abs_diff(*b)).collect();
    (*steps.iter().max().unwrap(), steps.iter().map(|&s| f64::from(s)).sum::<f64>() / steps.len() as f64)
}

#[test]
fn every_order_of_scans_gives_the_same_pixels() {
    for (sampling, restart) in SAMPLINGS.into_iter().flat_map(|s| [0, 3].map(|restart| (s, restart))) {
        for size in [[61, 47], [64, 64], [17, 90]] {
            let writer = Writer { size, sampling, restart };
            let whole = open(&writer.write(BASELINE)).unwrap();
            // The first block has the level -96 and a slope, and its colours the levels -26 and 52.
            let alone = Writer { size: [8, 8], ..writer };
            assert!(
                difference(&open(&alone.write(BASELINE)).unwrap(), &open(&alone.write(SEPARATE)).unwrap()).0
                    < 3
            );
            for scans in [SEPARATE, TWO, PROGRESSIVE, PROGRESSIVE_SEPARATE] {
                let (most, mean) = difference(&whole, &open(&writer.write(scans)).unwrap());
                let name = format!("{size:?} {sampling:?} every {restart}, {} scans", scans.len());
                // Decoders interpolate colours in different ways.
                assert!(most < 24 && mean < 2.0, "{name}: {most} at most, {mean:.2} on average");
            }
        }
    }
}

#[test]
fn levels_are_those_that_were_written() {
    let writer = Writer { size: [40, 24], sampling: SAMPLINGS[0], restart: 0 };
    for scans in [BASELINE, SEPARATE, PROGRESSIVE_SEPARATE] {
        let image = open(&writer.write(scans)).unwrap();
        for (x, y) in [(0, 0), (3, 1), (4, 2)] {
            let [luma, blue, red] = [0, 1, 2].map(|c| f64::from(Writer::level(c, x, y)));
            let expected = [luma + 1.402 * red, luma - 0.344 * blue - 0.714 * red, luma + 1.772 * blue];
            for (c, expected) in expected.into_iter().enumerate() {
                let block = (0..64).map(|i| image.rgb()[3 * ((8 * y + i / 8) * 40 + 8 * x + i % 8) + c]);
                let mean = block.map(f64::from).sum::<f64>() / 64.0;
                assert!((mean - (expected + 128.0).clamp(0.0, 255.0)).abs() < 1.5, "{x}, {y}, {c}: {mean}");
            }
        }
    }
}

#[test]
fn an_end_that_is_missing_or_padded_does_not_matter() {
    let writer = Writer { size: [61, 47], sampling: SAMPLINGS[3], restart: 0 };
    let rewritten = encode(&drawing(61, 47), ImageFormat::Jpeg);
    let scripts = [BASELINE, SEPARATE, TWO, PROGRESSIVE, PROGRESSIVE_SEPARATE];
    for file in scripts.iter().map(|scans| writer.write(scans)).chain([rewritten]) {
        let whole = open(&file).unwrap();
        let body = &file[..file.len() - 2];
        for (name, end) in [
            ("none", &b""[..]),
            ("half", b"\xff"),
            ("zeros", &[0; 4096]),
            ("two zeros", &[0; 2]),
            ("zeros behind", &[&b"\xff\xd9"[..], &[0; 900]].concat()),
            ("trailer of a camera", b"\xff\xd9\0\0\x01\x0aImage_UTC_Data1SEFHk\0\0\0SEFT"),
        ] {
            // Zeros that belong to the pixels cannot be distinguished from padding.
            let zeros = body.iter().rev().take_while(|&&byte| byte == 0).count();
            if name == "zeros" && zeros > 1 {
                continue;
            }
            let found = open(&[body, end].concat());
            assert!(found.is_ok_and(|image| image == whole), "{name} behind {} bytes", body.len());
        }
    }
}

#[test]
fn cut_scans_are_refused_or_whole() {
    let writer = Writer { size: [61, 47], sampling: SAMPLINGS[3], restart: 0 };
    for scans in [BASELINE, SEPARATE, TWO, PROGRESSIVE, PROGRESSIVE_SEPARATE] {
        let file = writer.write(scans);
        let whole = open(&file).unwrap();
        for (length, zeros) in (4..file.len() - 2).flat_map(|length| [0, 500].map(|zeros| (length, zeros))) {
            match open(&[&file[..length], &vec![0; zeros][..]].concat()) {
                // A byte of padding may be decoded as data, of a few of the last blocks.
                Ok(image) => {
                    let (most, mean) = difference(&image, &whole);
                    let place = format!("{length} of {} bytes and {zeros} zeros", file.len());
                    assert!(length >= file.len() - if zeros == 0 { 3 } else { 8 }, "{place}");
                    assert!(
                        most == 0 || zeros > 0 && mean < 4.0,
                        "{place}: {most} at most, {mean:.2} on average"
                    );
                }
                Err(Error::Truncated { .. }) => {}
                Err(error) => assert!(length < 300, "{length} of {}: {error}", file.len()),
            }
        }
    }
}

/// A decoder makes up the missing pixels of a truncated file, with or without an end-of-image marker after the cut.
#[test]
fn a_cut_file_with_an_end_marker_is_refused() {
    let photograph = image::RgbImage::from_fn(160, 128, |x, y| {
        image::Rgb([0, 85, 170].map(|phase| ((x * x + 3 * y * (x % 11) + phase) % 251) as u8))
    });
    let photograph = encode(&photograph.into(), ImageFormat::Jpeg);
    let ours = Writer { size: [161, 130], sampling: SAMPLINGS[3], restart: 0 };
    for file in [photograph, ours.write(BASELINE), ours.write(SEPARATE)] {
        open(&file).unwrap();
        let scan = file.windows(2).rposition(|pair| pair == [0xff, 0xda]).unwrap() + 14;
        for tenth in 1..9 {
            let cut = &file[..scan + (file.len() - scan) * tenth / 10];
            let cut = cut.strip_suffix(b"\xff").unwrap_or(cut);
            let error = open(&[cut, b"\xff\xd9"].concat()).unwrap_err().to_string();
            assert!(error.contains("before the end-of-image marker"), "{tenth}: {error}");
        }
    }
    // A single colour does not indicate a truncated file.
    let white = image::RgbImage::from_pixel(160, 128, image::Rgb([255, 254, 250]));
    open(&encode(&white.into(), ImageFormat::Jpeg)).unwrap();
}

#[test]
fn sampling_factors_of_zero_never_panic() {
    let file = Writer { size: [40, 24], sampling: SAMPLINGS[0], restart: 0 }.write(BASELINE);
    let frame = file.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    for components in 1..=3 {
        let mut file = file.clone();
        (0..components).for_each(|i| file[frame + 11 + 3 * i] = 0);
        let _ = open(&file);
    }
}

#[test]
fn kinds_that_are_not_read_are_named() {
    let file = Writer { size: [16, 16], sampling: SAMPLINGS[0], restart: 0 }.write(BASELINE);
    let frame = file.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    for (code, bits, expected) in [
        (0xc9, 8, "JPEG with arithmetic coding; help: convert"),
        (0xca, 8, "JPEG with arithmetic coding"),
        (0xc3, 8, "lossless JPEG"),
        (0xc1, 12, "12 bits a sample"),
        (0xf7, 8, "JPEG-LS"),
        (0xc5, 8, "hierarchical JPEG"),
    ] {
        let mut other = file.clone();
        (other[frame + 1], other[frame + 4]) = (code, bits);
        let error = open(&other).unwrap_err().to_string();
        assert!(error.contains("format not read") && error.contains(expected), "{code:x}: {error}");
    }
}
