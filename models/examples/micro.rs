use milenas_models::kernels::blocked::*;
use std::{hint::black_box, time::Instant};
fn time(mut f: impl FnMut()) -> f64 {
    f();
    let mut best = f64::MAX;
    for _ in 0..300 {
        let t = Instant::now();
        for _ in 0..10 {
            f();
        }
        best = best.min(t.elapsed().as_secs_f64() / 10.0);
    }
    best
}
fn main() {
    let level = Level::available()[std::env::args().nth(1).map_or(0, |a| a.parse().unwrap())];
    println!("{level:?}");
    for (packs, h) in [(1, 32), (2, 16), (4, 8)] {
        let map = Map { packs, height: h, width: h };
        let v = |n: usize| vec![Pack([0.01; 16]); n];
        let (a, plain, mut out) = (v(map.padded_len()), v(map.len()), v(map.len()));
        let mut pad = v(map.padded_len());
        let w = v(packs * 25);
        let pw = v(packs * packs * 16);
        let mut grad = v(packs * packs * 16 + packs * 25);
        let mut s = v(packs * 8);
        let el = (map.len() * 16) as f64;
        let gf = |n: &str, t: f64, macs: f64| {
            println!("C={:2} {n:22} {:7.2} us {:6.1} GFLOP/s", packs * 16, t * 1e6, 2.0 * macs * el / t / 1e9)
        };
        let gb = |n: &str, t: f64, m: f64| {
            println!("C={:2} {n:22} {:7.2} us {:6.1} GB/s", packs * 16, t * 1e6, 4.0 * m * el / t / 1e9)
        };
        for (k, d) in [(3, 1), (5, 1), (3, 2), (5, 2)] {
            let shape = depthwise::Depthwise { kernel: k, dilation: d, stride: 1 };
            gf(
                &format!("dw {k} d{d}"),
                time(|| {
                    level.run(depthwise::Forward {
                        shape,
                        map,
                        source: black_box(&a),
                        weight: &w,
                        rows: 0..h,
                        out: &mut out,
                    })
                }),
                (k * k) as f64,
            );
            gf(
                &format!("dw {k} d{d} dx add"),
                time(|| {
                    level.run(depthwise::InputGradient {
                        shape,
                        map,
                        gradient: black_box(&a),
                        weight: &w,
                        add: true,
                        out: &mut out,
                    })
                }),
                (k * k) as f64,
            );
            gf(
                &format!("dw {k} d{d} dw"),
                time(|| {
                    level.run(depthwise::WeightGradient {
                        shape,
                        map,
                        source: black_box(&a),
                        gradient: &pad,
                        out: &mut grad,
                    })
                }),
                (k * k) as f64,
            );
        }
        let n = map.pixels();
        gf(
            "pw",
            time(|| {
                let (s0, s1) = s.split_at_mut(packs);
                level.run(pointwise::Pointwise {
                    inputs: packs,
                    outputs: packs,
                    rows: 1,
                    width: n,
                    source: black_box(&plain),
                    source_plane: n,
                    weight: &pw,
                    out: &mut out,
                    out_plane: n,
                    out_step: n,
                    sums: Some([s0, &mut s1[..packs]]),
                })
            }),
            packs as f64 * 16.0,
        );
        gf(
            "pw padded",
            time(|| {
                level.run(pointwise::Pointwise {
                    inputs: packs,
                    outputs: packs,
                    rows: h,
                    width: h,
                    source: black_box(&plain),
                    source_plane: n,
                    weight: &pw,
                    out: &mut pad[HALO..],
                    out_plane: h * map.padded_width(),
                    out_step: map.padded_width(),
                    sums: None,
                })
            }),
            packs as f64 * 16.0,
        );
        gf(
            "pw dw",
            time(|| {
                level.run(pointwise::WeightGradient {
                    inputs: packs,
                    outputs: packs,
                    pixels: n,
                    source: black_box(&plain),
                    source_plane: n,
                    gradient: &out,
                    gradient_plane: n,
                    out: &mut grad,
                })
            }),
            packs as f64 * 16.0,
        );
        let id = norm::Scaling::identity(packs);
        gb(
            "pad",
            time(|| {
                level.run(elementwise::PadRectify {
                    map,
                    source: black_box(&plain),
                    scale: &id.scale,
                    shift: &id.shift,
                    out: &mut pad,
                })
            }),
            2.0,
        );
        let mut m = v(map.len());
        gb(
            "pools",
            time(|| {
                level.run(pool::Forward {
                    stride: 1,
                    map,
                    source: black_box(&plain),
                    max: &mut m,
                    average: &mut out,
                    sums: &mut s,
                })
            }),
            3.0,
        );
        let mut scratch = v(2 * n + h + 2);
        gb(
            "max grad",
            time(|| {
                level.run(pool::MaxBackward {
                    stride: 1,
                    map,
                    source: black_box(&plain),
                    max: &m,
                    gradient: &a[..map.len()],
                    scratch: &mut scratch,
                    out: &mut out,
                })
            }),
            4.0,
        );
        gb(
            "avg grad",
            time(|| {
                level.run(pool::AverageBackward {
                    stride: 1,
                    map,
                    gradient: black_box(&plain),
                    scratch: &mut scratch,
                    out: &mut out,
                })
            }),
            3.0,
        );
        let t: Vec<_> = (0..6).map(|_| elementwise::Term { scale: &id.scale, map: &m }).collect();
        gb(
            "weighted sum 6",
            time(|| {
                level.run(elementwise::WeightedSum {
                    map,
                    terms: black_box(&t),
                    add: false,
                    bias: &id.shift,
                    out: &mut out,
                })
            }),
            7.0,
        );
        let r: Vec<&[Pack]> = (0..6).map(|_| &m[..]).collect();
        let mut d = v(7 * packs);
        gb(
            "dots 6",
            time(|| {
                level.run(elementwise::Dots { pixels: n, left: black_box(&plain), right: &r, out: &mut d })
            }),
            7.0,
        );
    }
}
