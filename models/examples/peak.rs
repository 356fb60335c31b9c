//! Upper bounds of performance for docs/benchmarks.md: multiply-adds and memory traffic of this machine.
//!
//!     cargo run -p milenas-models --example peak -- --threads 2
#![allow(clippy::print_stdout, missing_docs)]

use std::hint::black_box;
use std::time::Instant;

use milenas_models::kernels::cpu::simd::{Kernel, Lanes};
use milenas_models::kernels::cpu::{LANES, Level, Pack};
use rayon::prelude::*;

/// Kernel with `rounds` multiply-adds in each of twelve independent registers.
struct MultiplyAdds {
    rounds: usize,
    by: Pack,
}

impl Kernel for MultiplyAdds {
    type Output = Pack;
    #[inline(always)]
    fn run<L: Lanes>(self) -> Pack {
        let by = L::load(&self.by, 0);
        let mut sums = [by; 12];
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = sum.fma(by, by);
            }
        }
        let mut out = Pack::ZERO;
        sums.into_iter().reduce(|a, b| a.add(b)).unwrap_or(by).store(&mut out, 0);
        out
    }
}

/// Kernel that sums all packs, part by part, to measure the speed of reading.
struct Read<'a>(&'a [Pack]);

impl Kernel for Read<'_> {
    type Output = Pack;
    #[inline(always)]
    fn run<L: Lanes>(self) -> Pack {
        let mut sums = [[L::zero(); 4]; 4];
        let (fours, _) = self.0.as_chunks::<4>();
        for four in fours {
            for (sums, pack) in sums.iter_mut().zip(four) {
                for (part, sum) in sums.iter_mut().enumerate().take(L::PARTS) {
                    *sum = sum.add(L::load(pack, part));
                }
            }
        }
        let mut out = Pack::ZERO;
        sums.into_iter().flatten().reduce(|a, b| a.add(b)).unwrap_or(L::zero()).store(&mut out, 0);
        out
    }
}

/// Kernel that returns the number of registers of a pack, to count its operations.
struct Parts;

impl Kernel for Parts {
    type Output = usize;
    #[inline(always)]
    fn run<L: Lanes>(self) -> usize {
        L::PARTS
    }
}

/// Returns the shortest time of ten runs on all threads of the pool, in seconds.
fn shortest(run: impl Fn(usize) -> Pack + Sync) -> f64 {
    let once = || {
        let start = Instant::now();
        (0..rayon::current_num_threads()).into_par_iter().for_each(|thread| {
            black_box(run(thread));
        });
        start.elapsed().as_secs_f64()
    };
    (0..10).map(|_| once()).fold(f64::INFINITY, f64::min)
}

const ROUNDS: usize = 4_000_000;
/// Number of packs of a thread's memory: 128 MiB, more than every cache.
const PACKS: usize = 2 << 20;

fn measure() {
    let (level, threads) = (Level::best(), rayon::current_num_threads());
    let by = black_box(Pack([0.5; LANES]));
    let seconds = shortest(|_| level.run(MultiplyAdds { rounds: ROUNDS, by }));
    let flops = 2.0 * 12.0 * (LANES / level.run(Parts)) as f64 * ROUNDS as f64 * threads as f64;
    println!("{level:?}, {threads} threads");
    println!("multiply-adds: {:.0} GFLOP/s", flops / seconds / 1e9);
    let memory: Vec<Vec<Pack>> = (0..threads).map(|_| vec![Pack::ONE; PACKS]).collect();
    let seconds = shortest(|thread| level.run(Read(&memory[thread])));
    println!("reading: {:.1} GB/s", (threads * PACKS * size_of::<Pack>()) as f64 / seconds / 1e9);
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let threads = match (arguments.next().as_deref(), arguments.next().map(|n| n.parse())) {
        (None, _) => 0,
        (Some("--threads"), Some(Ok(threads))) => threads,
        _ => return println!("usage: peak [--threads N]"),
    };
    match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
        Ok(pool) => pool.install(measure),
        Err(error) => println!("{error}"),
    }
}
