//! Tests of TIFF files from a test writer: 4x2 pixels in every storage format.

use super::*;

/// Values of type SHORT, LONG or RATIONAL; a rational has two.
#[derive(Clone)]
enum Values {
    Short(Vec<u16>),
    Long(Vec<u32>),
}

/// A file: its tags besides the size, of which later ones replace earlier ones, and the bytes of its strips or tiles.
#[derive(Clone, Default)]
struct File {
    big_endian: bool,
    big: bool,
    tags: Vec<(u16, Values)>,
    chunks: Vec<Vec<u8>>,
}

impl File {
    fn new(bits: u16, samples: u16, photometric: u16, data: Vec<u8>) -> File {
        let file = File { chunks: vec![data], ..File::default() };
        let file = file.with(256, &[4]).with(257, &[2]).with(258, &vec![bits; samples.into()]);
        file.with(259, &[1]).with(262, &[photometric]).with(277, &[samples])
    }

    fn with(mut self, tag: u16, values: &[u16]) -> File {
        self.tags.retain(|(old, _)| *old != tag);
        self.tags.push((tag, Values::Short(values.to_vec())));
        self
    }

    fn chunked(self, chunks: Vec<Vec<u8>>) -> File {
        File { chunks, ..self }
    }

    fn write(&self) -> Vec<u8> {
        let word = |out: &mut Vec<u8>, value: u64, length: usize| {
            let bytes = value.to_be_bytes();
            let bytes = &bytes[8 - length..];
            match self.big_endian {
                true => out.extend(bytes),
                false => out.extend(bytes.iter().rev()),
            }
        };
        let (offset, count) = if self.big { (8, 8) } else { (4, 2) };
        let mut out = if self.big_endian { b"MM".to_vec() } else { b"II".to_vec() };
        word(&mut out, if self.big { 43 } else { 42 }, 2);
        if self.big {
            word(&mut out, 8, 2);
            word(&mut out, 0, 2);
        }
        let mut at = if self.big { 16 } else { 8 };
        let mut offsets = Vec::new();
        for chunk in &self.chunks {
            offsets.push(at as u32);
            at += chunk.len();
        }
        word(&mut out, at as u64, offset);
        self.chunks.iter().for_each(|chunk| out.extend(chunk));
        let tiled = self.tags.iter().any(|(tag, _)| *tag == 322);
        let mut tags = self.tags.clone();
        let lengths = self.chunks.iter().map(|chunk| chunk.len() as u32).collect();
        tags.push((if tiled { 324 } else { 273 }, Values::Long(offsets)));
        tags.push((if tiled { 325 } else { 279 }, Values::Long(lengths)));
        tags.sort_by_key(|(tag, _)| *tag);
        let mut values_at = at + count + tags.len() * (4 + 2 * offset) + offset;
        let mut behind = Vec::new();
        word(&mut out, tags.len() as u64, count);
        for (tag, values) in &tags {
            let mut bytes = Vec::new();
            let (kind, number) = match values {
                Values::Short(values) => {
                    values.iter().for_each(|&value| word(&mut bytes, value.into(), 2));
                    (3, values.len())
                }
                Values::Long(values) => {
                    values.iter().for_each(|&value| word(&mut bytes, value.into(), 4));
                    (4, values.len())
                }
            };
            word(&mut out, (*tag).into(), 2);
            word(&mut out, kind, 2);
            word(&mut out, number as u64, offset);
            if bytes.len() <= offset {
                bytes.resize(offset, 0);
                out.extend(bytes);
            } else {
                word(&mut out, values_at as u64, offset);
                values_at += bytes.len();
                behind.extend(bytes);
            }
        }
        word(&mut out, 0, offset);
        [out, behind].concat()
    }
}

fn gray(image: &Image) -> Vec<u8> {
    assert!(image.is_gray());
    image.rgb().iter().copied().step_by(3).collect()
}

fn deflated(data: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(data).unwrap();
    out.finish().unwrap()
}

fn words(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn gray_of_every_number_of_bits_is_read() {
    let rising = [0, 36, 73, 109, 146, 182, 219, 255];
    let cases: [(&str, File, [u8; 8]); 13] = [
        ("1 bit", File::new(1, 1, 1, vec![0b0101_0000, 0b1100_0000]), [0, 255, 0, 255, 255, 255, 0, 0]),
        ("white is 0", File::new(1, 1, 0, vec![0b0101_0000, 0b1100_0000]), [255, 0, 255, 0, 0, 0, 255, 255]),
        (
            "2 bits",
            File::new(2, 1, 1, vec![0b00_01_10_11, 0b11_10_01_00]),
            [0, 85, 170, 255, 255, 170, 85, 0],
        ),
        ("4 bits", File::new(4, 1, 1, vec![0x01, 0x23, 0xcd, 0xef]), [0, 17, 34, 51, 204, 221, 238, 255]),
        ("3 bits", File::new(3, 1, 1, vec![0x05, 0x30, 0x97, 0x70]), rising),
        ("8 bits", File::new(8, 1, 1, rising.to_vec()), rising),
        (
            "12 bits",
            File::new(12, 1, 1, vec![0x00, 0x08, 0x00, 0xff, 0xf1, 0x00, 0x7f, 0xf0, 0x00, 0x10, 0x08, 0x00]),
            [0, 128, 255, 16, 127, 0, 16, 128],
        ),
        ("16 bits", File::new(16, 1, 1, words(&rising.map(|v| u16::from(v) * 257))), rising),
        ("32 bits", File::new(32, 1, 1, rising.iter().flat_map(|&v| [0, 0, 0, v]).collect()), rising),
        (
            "signed 16 bits",
            File::new(16, 1, 1, words(&rising.map(|v| (u16::from(v) * 257) ^ 0x8000))).with(339, &[2]),
            rising,
        ),
        (
            "float",
            File::new(32, 1, 1, rising.iter().flat_map(|&v| (f32::from(v) / 255.0).to_le_bytes()).collect())
                .with(339, &[3]),
            rising,
        ),
        (
            "float to 255",
            File::new(32, 1, 1, rising.iter().flat_map(|&v| f32::from(v).to_le_bytes()).collect())
                .with(339, &[3]),
            rising,
        ),
        (
            "half float",
            File::new(
                16,
                1,
                1,
                [0.0, 0.25, 0.5, 0.75, 1.0, 0.0, 0.5, 1.0]
                    .iter()
                    .flat_map(|&v| half::f16::from_f64(v).to_le_bytes())
                    .collect(),
            )
            .with(339, &[3]),
            [0, 64, 128, 191, 255, 0, 128, 255],
        ),
    ];
    for (name, file, expected) in cases {
        let image = open(&file.write()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let close = gray(&image).iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 1);
        assert!(close, "{name}: {:?}, expected {expected:?}", gray(&image));
    }
}

#[test]
fn palettes_are_looked_up() {
    let map = |count: usize| -> Vec<u16> {
        let level = |i: usize| (i * 65535 / (count - 1)) as u16;
        let planes: [Vec<u16>; 3] =
            [0, 1, 2].map(|c| (0..count).map(|i| if c == 1 { 65535 - level(i) } else { level(i) }).collect());
        planes.concat()
    };
    for (bits, data) in [(2, vec![0b00_01_10_11, 0b11_10_01_00]), (8, vec![0, 85, 170, 255, 255, 170, 85, 0])]
    {
        let image = open(&File::new(bits, 1, 3, data).with(320, &map(1 << bits)).write()).unwrap();
        assert_eq!(image.rgb()[..12], [0, 255, 0, 85, 170, 85, 170, 85, 170, 255, 0, 255], "{bits} bits");
    }
    // Some writers store 8 bits.
    let map: Vec<u16> = map(4).into_iter().map(|level| level / 257).collect();
    let file = File::new(2, 1, 3, vec![0b00_01_10_11, 0b11_10_01_00]);
    assert_eq!(open(&file.clone().with(320, &map).write()).unwrap().rgb()[3..6], [85, 170, 85]);
    let error = open(&file.with(320, &map[..5]).write()).unwrap_err().to_string();
    assert!(error.contains("the palette has 5 values, expected 12"), "{error}");
}

#[test]
fn alpha_is_multiplied_once() {
    let pixels = [[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 51], [10, 20, 30, 128]];
    let rgba: Vec<u8> = pixels.iter().chain(&pixels).flatten().copied().collect();
    let times = |c: u8, a: u8| ((u16::from(c) * u16::from(a) + 127) / 255) as u8;
    let premultiplied: Vec<u8> = rgba
        .chunks_exact(4)
        .flat_map(|p| [times(p[0], p[3]), times(p[1], p[3]), times(p[2], p[3]), p[3]])
        .collect();
    let plain = open(&File::new(8, 4, 2, rgba.clone()).with(338, &[2]).write()).unwrap();
    assert_eq!(plain.alpha().unwrap()[..4], [255, 0, 51, 128]);
    assert_eq!(plain.over(white())[6..9], [244, 224, 204]);
    assert_eq!(open(&File::new(8, 4, 2, rgba.clone()).write()).unwrap(), plain, "nothing said of the fourth");
    let multiplied = open(&File::new(8, 4, 2, premultiplied.clone()).with(338, &[1]).write()).unwrap();
    for (a, b) in multiplied.over(white()).iter().zip(plain.over(white()).iter()) {
        assert!(a.abs_diff(*b) <= 1, "{multiplied:?}");
    }
    let deep: Vec<u16> = rgba
        .chunks_exact(4)
        .flat_map(|p| {
            [0, 1, 2, 3]
                .map(|c| (u32::from(p[c]) * if c < 3 { u32::from(p[3]) } else { 255 } * 65535 / 65025) as u16)
        })
        .collect();
    let deep = open(&File::new(16, 4, 2, words(&deep)).with(338, &[1]).write()).unwrap();
    for (a, b) in deep.over(white()).iter().zip(plain.over(white()).iter()) {
        assert!(a.abs_diff(*b) <= 1);
    }
    // The fourth sample is not alpha.
    let without = open(&File::new(8, 4, 2, rgba).with(338, &[0]).write()).unwrap();
    assert_eq!((without.alpha(), &without.rgb()[3..6]), (None, &[200, 100, 0][..]));
    let gray = File::new(8, 2, 1, vec![10, 255, 20, 0, 30, 51, 40, 255, 50, 255, 60, 255, 70, 255, 80, 255]);
    let gray = open(&gray.with(338, &[2]).write()).unwrap();
    assert_eq!((gray.rgb()[6], gray.alpha().unwrap()[..3].to_vec()), (30, vec![255, 0, 51]));
}

#[test]
fn colours_strips_tiles_and_planes() {
    let rgb: Vec<u8> = (0..24).map(|i| i * 10).collect();
    let plane = |c: usize| -> Vec<u8> { rgb.iter().copied().skip(c).step_by(3).collect() };
    let chunky = File::new(8, 3, 2, rgb.clone());
    let rows = vec![rgb[..12].to_vec(), rgb[12..].to_vec()];
    let mut tile = vec![0; 16 * 16 * 3];
    (0..2).for_each(|y| tile[48 * y..48 * y + 12].copy_from_slice(&rgb[12 * y..][..12]));
    let mut left = rgb.clone();
    (0..2).for_each(|y| {
        (3..12).rev().for_each(|i| left[12 * y + i] = left[12 * y + i].wrapping_sub(left[12 * y + i - 3]))
    });
    let packed = [&[11][..], &rgb[..12], &[11], &rgb[12..]].concat();
    let files = [
        ("one strip", chunky.clone()),
        ("a strip for each row", chunky.clone().with(278, &[1]).chunked(rows.clone())),
        ("planes", chunky.clone().with(284, &[2]).chunked((0..3).map(plane).collect())),
        ("a tile", chunky.clone().with(322, &[16]).with(323, &[16]).chunked(vec![tile])),
        ("BigTIFF", File { big: true, ..chunky.clone() }),
        ("big-endian", File { big_endian: true, ..chunky.clone() }),
        ("big-endian BigTIFF", File { big: true, big_endian: true, ..chunky.clone() }),
        ("deflate", chunky.clone().with(259, &[8]).chunked(vec![deflated(&rgb)])),
        ("predictor", chunky.clone().with(259, &[8]).with(317, &[2]).chunked(vec![deflated(&left)])),
        ("PackBits", chunky.clone().with(259, &[32773]).chunked(vec![packed])),
        (
            "reversed bits",
            chunky.clone().with(266, &[2]).chunked(vec![rgb.iter().map(|b| b.reverse_bits()).collect()]),
        ),
    ];
    for (name, file) in files {
        let image = open(&file.write()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(image.rgb(), rgb, "{name}");
        let cut = file.chunked(file_cut(&rows));
        assert!(open(&cut.write()).is_err(), "{name}, and a strip too short");
    }
    let inks: Vec<u8> = [[0, 128, 255, 0], [255, 0, 0, 0], [0, 0, 0, 255], [0, 0, 0, 51]].concat().repeat(2);
    let expected = [255, 127, 0, 0, 255, 255, 0, 0, 0, 204, 204, 204];
    let file = File::new(8, 4, 5, inks.clone());
    let planes = (0..4).map(|c| inks.iter().copied().skip(c).step_by(4).collect()).collect();
    for file in [file.clone(), file.with(284, &[2]).chunked(planes)] {
        assert_eq!(open(&file.write()).unwrap().rgb()[..12], expected);
    }
}

/// Returns strips, the last one a byte short.
fn file_cut(rows: &[Vec<u8>]) -> Vec<Vec<u8>> {
    vec![rows[0][..3].to_vec()]
}

#[test]
fn luma_and_colour_differences() {
    // Red by ITU-R 601.
    let full = [76, 85, 255].repeat(8);
    let halves = [&[76; 4][..], &[85, 255]].concat().repeat(2);
    for (subsampling, data) in [([1, 1], full), ([2, 2], halves)] {
        let image = open(&File::new(8, 3, 6, data).with(530, &subsampling).write()).unwrap();
        let near = image.rgb().chunks_exact(3).all(|p| p[0] > 250 && p[1] < 4 && p[2] < 4);
        assert!(near, "{subsampling:?}: {:?}", image.rgb());
    }
    let original: DynamicImage = ImageBuffer::from_pixel(4, 2, Rgb([200u8, 40, 90])).into();
    let file = File::new(8, 3, 6, encode(&original, ImageFormat::Jpeg)).with(259, &[7]);
    let image = open(&file.write()).unwrap();
    assert!(
        image.rgb().chunks_exact(3).all(|p| p[0].abs_diff(200) < 4 && p[1].abs_diff(40) < 4),
        "{image:?}"
    );
    let gray =
        encode(&DynamicImage::ImageLuma8(ImageBuffer::from_pixel(4, 2, Luma([77]))), ImageFormat::Jpeg);
    let image = open(&File::new(8, 1, 1, gray).with(259, &[7]).write()).unwrap();
    assert!(image.rgb().iter().all(|v| v.abs_diff(77) < 3));
}

#[test]
fn what_is_not_read_is_named() {
    let gray = File::new(8, 1, 1, vec![0; 8]);
    let floats = |v: f32| [v; 8].iter().flat_map(|v| v.to_le_bytes()).collect();
    let files = [
        (gray.clone().with(259, &[6]), "old-style JPEG"),
        (gray.clone().with(259, &[50000]), "Zstandard"),
        (gray.clone().with(259, &[12345]), "compression 12345"),
        (gray.clone().with(262, &[32845]), "LogLuv"),
        (gray.clone().with(262, &[8]), "L*a*b*"),
        (gray.clone().with(262, &[32803]), "camera raw file"),
        (gray.clone().with(50706, &[1, 4]), "camera raw file (DNG)"),
        (gray.clone().with(254, &[1]).with(330, &[8, 0]), "camera raw file (NEF"),
        (gray.clone().with(339, &[2]), "signed 8-bit integers"),
        (gray.clone().with(339, &[5]), "complex numbers"),
        (File::new(8, 5, 1, vec![0; 40]), "5 bands of unknown meaning"),
        (File::new(32, 1, 1, floats(-3.5)).with(339, &[3]), "floating-point values from -3.5 to -3.5"),
        (File::new(32, 1, 1, floats(7000.0)).with(339, &[3]), "from 7000 to 7000"),
        (File::new(8, 3, 2, vec![0; 24]).with(258, &[5, 6, 5]), "samples of different numbers of bits"),
    ];
    for (file, expected) in files {
        let error = open(&file.write()).unwrap_err().to_string();
        assert!(error.contains("format not read") && error.contains(expected), "{expected}: {error}");
    }
    let short = gray.write();
    assert!(matches!(open(&short[..short.len() - 40]), Err(Error::Truncated { .. })));
    let bare = open(b"II*\0\x08\0\0\0\0\0\0\0\0\0").unwrap_err().to_string();
    assert!(bare.contains("the size is 0x0"), "{bare}");
}
