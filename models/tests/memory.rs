//! Tests that decoding stays within its memory limit, measured with a counting allocator.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Cursor;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, Rgb, Rgba};
use milenas_models::{Limits, input};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is forwarded unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of the trait, and the call is forwarded unchanged.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of the trait, and the call is forwarded unchanged.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of the trait, and the call is forwarded unchanged.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Returns the peak memory of `decode` in bytes, and whether it returned an image.
fn peak(bytes: &[u8], limits: &Limits) -> (usize, bool) {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = input::decode(bytes, limits);
    (PEAK.load(Relaxed) - before, result.is_ok())
}

/// Returns the peak memory at the smallest memory limit under which the file is accepted, and that limit.
fn tightest(bytes: &[u8]) -> (usize, usize) {
    let limits = |max_memory| Limits { max_memory, ..Limits::default() };
    let (mut refused, mut accepted) = (0, Limits::default().max_memory);
    while accepted - refused > 1 {
        let middle = (accepted + refused) / 2;
        if peak(bytes, &limits(middle)).1 { accepted = middle } else { refused = middle }
    }
    (peak(bytes, &limits(accepted)).0, accepted as usize)
}

fn encode(original: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    original.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// All cases are one test, since the counter is global to the process.
#[test]
fn memory_stays_within_the_limit() {
    let noise = |x: u32, y: u32| (x.wrapping_mul(2654435761) ^ y.wrapping_mul(40503) ^ (x * y)) >> 3;
    let (w, h) = (900, 700);
    let rgb: DynamicImage =
        ImageBuffer::from_fn(w, h, |x, y| Rgb([noise(x, y) as u8, x as u8, y as u8])).into();
    let rgba: DynamicImage =
        ImageBuffer::from_fn(w, h, |x, y| Rgba([noise(x, y) as u8, x as u8, y as u8, x as u8])).into();
    let deep: DynamicImage = ImageBuffer::from_fn(w, h, |x, y| Luma([noise(x, y) as u16])).into();
    let mut files = Vec::new();
    for format in [ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::Bmp, ImageFormat::Pnm] {
        files.push((format!("{format:?} RGB"), encode(&rgb, format)));
    }
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Tiff, ImageFormat::Qoi] {
        files.push((format!("{format:?} RGB"), encode(&rgb, format)));
        files.push((format!("{format:?} RGBA"), encode(&rgba, format)));
    }
    files.push(("Png L16".into(), encode(&deep, ImageFormat::Png)));
    if let Some(folder) = common::shared("data/photos_hard") {
        for file in ["modes/tower_progressive.jpg", "exif/Landscape_6.jpg", "modes/pil_sample_cmyk.jpg"]
            .into_iter()
            .chain(["exif/hopper_orientation_6.webp", "animated/rotating-squares.webp"])
        {
            files.push((file.into(), std::fs::read(folder.join(file)).unwrap()));
        }
    }
    for (name, bytes) in files {
        let (peak, limit) = tightest(&bytes);
        eprintln!("{name}: {peak} of {limit} bytes, file {}", bytes.len());
        assert!(peak <= limit + bytes.len() + (256 << 10), "{name}: {peak} of {limit}");
    }

    let bomb: DynamicImage = ImageBuffer::<Luma<u8>, _>::new(9000, 9000).into();
    let limits = Limits { max_memory: 16 << 20, ..Limits::default() };
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::Tiff, ImageFormat::Qoi]
    {
        let bomb = match format {
            ImageFormat::Gif | ImageFormat::Qoi => DynamicImage::from(bomb.to_rgb8()),
            _ => bomb.clone(),
        };
        let bytes = encode(&bomb, format);
        let (held, accepted) = peak(&bytes, &limits);
        assert!(!accepted && held < bytes.len() + (1 << 20), "{format:?}: {held} bytes");
    }

    // Files with headers of the largest sizes, and no pixels.
    let png =
        [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x10\x06\0\0\0", &[0u8; 40][..]]
            .concat();
    let gif = [b"GIF89a\xff\xff\xff\xff\0\0\0\x2c\0\0\0\0\xff\xff\xff\xff\0\x08", &[0u8; 40][..]].concat();
    let bmp =
        [&b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\xff\xff\0\0\xff\xff\0\0\x01\0\x18\0"[..], &[0u8; 64]];
    let qoi = [&b"qoif\0\xff\xff\xff\0\xff\xff\xff\x04\0"[..], &[0u8; 40]].concat();
    let pnm = b"P6 2000000000 2000000000 65535\n123456".to_vec();
    for bytes in [png, gif, bmp.concat(), qoi, pnm] {
        let (held, accepted) = peak(&bytes, &Limits::default());
        assert!(!accepted && held < 1 << 20, "{:?}: {held} bytes", &bytes[..4]);
    }
}
