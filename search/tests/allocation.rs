//! Memory of search and training steps, measured by a counting allocator: it is constant over the steps and linear in the batch size.
#![allow(clippy::unwrap_used, missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};

use milenas_models::fused::FusedNetwork;
use milenas_models::{Genotype, NetworkConfig, Rng, Weights, assemble, space};
use milenas_search::config::Config;
use milenas_search::data::Batch;
use milenas_search::optim::Sgd;
use milenas_search::strategy::{StepContext, Stepper};
use milenas_search::supernet::reference::Reference;
use milenas_search::supernet::wired::WiredSupernet;
use milenas_search::supernet::{Alphas, Supernet, SupernetConfig};

struct Counting;

static HELD: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);
/// Total number of allocated bytes.
static ASKED: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    /// Whether this thread counts. The thread of the steps does, those of the test harness do not.
    static COUNTS: Cell<bool> = const { Cell::new(false) };
}

fn counts() -> bool {
    COUNTS.try_with(Cell::get).unwrap_or(false)
}

fn take(size: usize) {
    if !counts() {
        return;
    }
    let size = size as isize;
    ASKED.fetch_add(size, Relaxed);
    PEAK.fetch_max(HELD.fetch_add(size, Relaxed) + size, Relaxed);
}

// SAFETY: every call is forwarded to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is that of `System`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is that of `System`.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if counts() {
            HELD.fetch_sub(layout.size() as isize, Relaxed);
        }
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is that of `System`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes of a step, without those held before the first step.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bytes {
    /// Bytes held after the step.
    held: isize,
    /// Largest number of held bytes.
    peak: isize,
    /// Allocated bytes.
    asked: isize,
}

const STEPS: usize = 12;
const SIDE: usize = 16;

/// Returns the bytes of each of twelve steps on a batch.
fn steps(mut step: impl FnMut(&Batch) + Send, images: usize) -> Vec<Bytes> {
    let mut rng = Rng::new(0, "images");
    let batch = Batch {
        images: (0..images * 3 * SIDE * SIDE).map(|_| rng.normal()).collect::<Vec<_>>().into(),
        labels: (0..images).map(|_| rng.below(10) as u32).collect(),
        shape: [3, SIDE, SIDE],
    };
    // One thread: with several, one may run its first task late, and only then allocate its scratch memory.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    HELD.store(0, Relaxed);
    let mut one = || {
        let asked = ASKED.load(Relaxed);
        PEAK.store(HELD.load(Relaxed), Relaxed);
        pool.install(|| {
            COUNTS.set(true);
            step(&batch);
        });
        let [held, peak] = [&HELD, &PEAK].map(|x| x.load(Relaxed));
        Bytes { held, peak, asked: ASKED.load(Relaxed) - asked }
    };
    (0..STEPS).map(|_| one()).collect()
}

/// Checks that the twelfth step allocates as much as the third and holds no more. It may hold some 4 KiB less, since rayon's queues free a
/// block late. Returns the largest number of held bytes.
fn settled(name: &str, steps: &[Bytes]) -> isize {
    let [early, late] = [steps[2], steps[STEPS - 1]];
    assert_eq!(early.asked, late.asked, "{name}");
    assert!(late.held <= early.held && late.peak <= early.peak, "{name}: {early:?}, then {late:?}");
    late.peak
}

fn search(images: usize) -> Vec<Bytes> {
    let shape = SupernetConfig { layers: 4, ..SupernetConfig::paper(10) };
    let start = Reference::new(&shape, SIDE, SIDE, 0).unwrap().weights().unwrap();
    let mut net = WiredSupernet::new(shape).unwrap();
    Supernet::load(&mut net, &start).unwrap();
    drop(start);
    let config = Config::resolve("paper", None, &[]).unwrap().search;
    let (mut stepper, mut alphas) = (Stepper::default(), Alphas::init(&space::DARTS, 0));
    let at = StepContext { seed: 0, epoch: 0, step: 0, lr: 0.01 };
    let step = |batch: &Batch| {
        stepper.step(&mut net, &mut alphas, [batch, batch], &config, at).unwrap();
    };
    steps(step, images)
}

fn training(images: usize) -> Vec<Bytes> {
    let shape = NetworkConfig {
        channels: 16,
        layers: 5,
        classes: 10,
        in_channels: 3,
        height: SIDE,
        width: SIDE,
        skeleton: Default::default(),
    };
    let graph = assemble(&Genotype::named("DARTS_V2").unwrap(), &shape).unwrap();
    let mut network = FusedNetwork::new(&graph).unwrap();
    network.tensors_mut().load(&Weights::init(&graph, 0).unwrap()).unwrap();
    let config = Config::resolve("paper", None, &[]).unwrap().train.weights;
    let mut sgd = Sgd::new();
    let step = |batch: &Batch| {
        network.train_step(&batch.numbers(), &batch.labels).unwrap();
        network.tensors_mut().for_each_parameter(|i, w, g| sgd.step(&config, 0.01, 1.0, i, w, g));
    };
    steps(step, images)
}

/// The file has one test, since the counters belong to the process.
#[test]
fn memory_is_flat_over_steps_and_linear_in_the_batch() {
    for (name, run) in [("search", search as fn(usize) -> Vec<Bytes>), ("training", training)] {
        let [small, middle, large] = [4, 8, 16].map(|images| settled(name, &run(images)) as f64);
        let ratio = (large - middle) / (middle - small);
        assert!((1.9..2.1).contains(&ratio), "{name}: {small} bytes at 4, {middle} at 8, {large} at 16");
    }
}
