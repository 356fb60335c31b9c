//! Calls of supernets and trainings to a GPU, pass by pass, recorded by a device that does nothing.
#![allow(clippy::unwrap_used, unsafe_code)]

use std::sync::{Arc, Mutex};

use milenas_models::fused::Regularisers;
use milenas_models::input::{ImageSize, InputContract, Resize};
use milenas_models::kernels::cuda::{
    Arg, Call, CallOrder, Device, Gemm, Kept, LANES, LaunchGrid, Words, places,
};
use milenas_models::{Genotype, NetworkConfig, Result, Rng, Skeleton, Trainable, Weights, space};
use milenas_search::config::Config;
use milenas_search::data::{Augment, Batch, ByteBatch};
use milenas_search::engine::Engine;
use milenas_search::optim::{Sgd, SgdConfig};
use milenas_search::strategy::{StepContext, Stepper};
use milenas_search::supernet::cuda::CudaSupernet;
use milenas_search::supernet::{Alphas, GradRequest, Rows, Supernet, SupernetConfig};

/// Calls since the record was last read.
#[derive(Clone, Debug, Default, PartialEq)]
struct Asked {
    calls: Vec<Call>,
    /// Number of reads, each of which waits for the device.
    waits: usize,
}

impl Asked {
    /// Returns the number of launches, and of matrix products.
    fn count(&self) -> (usize, usize) {
        let of = |count: fn(&Call) -> bool| self.calls.iter().filter(|call| count(call)).count();
        (of(|call| matches!(call, Call::Launch(..))), of(|call| matches!(call, Call::Gemm(_))))
    }

    /// Returns the length of the longest chain of dependent calls.
    fn longest(&self) -> usize {
        let places = places(&self.calls);
        let (mut lanes, mut lengths) = ([0; LANES], Vec::new());
        for CallOrder { lane, waits } in &places {
            let before = waits.iter().map(|before| lengths[*before]).max().unwrap_or(0);
            lanes[*lane] = before.max(lanes[*lane]) + 1;
            lengths.push(lanes[*lane]);
        }
        lanes.into_iter().max().unwrap_or(0)
    }
}

struct Counter {
    /// Address of the next allocation.
    free: u64,
    kept: Kept,
    asked: Arc<Mutex<Asked>>,
}

impl Counter {
    fn new(asked: &Arc<Mutex<Asked>>) -> Counter {
        Counter { free: 4096, kept: Kept::default(), asked: asked.clone() }
    }
}

impl Device for Counter {
    fn name(&self) -> &str {
        "counter"
    }

    fn alloc(&mut self, words: usize) -> Result<Words> {
        let own = Words::new(self.free, words);
        self.free += 4 * words as u64;
        Ok(own)
    }

    fn kept(&mut self) -> &mut Kept {
        &mut self.kept
    }

    fn release(&mut self) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, _: Words, _: &[f32]) -> Result<()> {
        Ok(())
    }

    fn write_ints(&mut self, _: Words, _: &[i32]) -> Result<()> {
        Ok(())
    }

    fn clear(&mut self, at: Words) -> Result<()> {
        self.asked.lock().unwrap().calls.push(Call::Clear(at));
        Ok(())
    }

    fn read(&mut self, _: Words, out: &mut [f32]) -> Result<()> {
        self.kept.begin();
        self.asked.lock().unwrap().waits += 1;
        out.fill(0.0);
        Ok(())
    }

    unsafe fn launch(&mut self, kernel: &'static str, _: LaunchGrid, args: &[Arg]) -> Result<()> {
        self.asked.lock().unwrap().calls.push(Call::Launch(kernel, 1, args.to_vec()));
        Ok(())
    }

    fn gemm(&mut self, gemm: &Gemm) -> Result<()> {
        self.asked.lock().unwrap().calls.push(Call::Gemm(*gemm));
        Ok(())
    }
}

fn batch(seed: u64) -> Batch {
    let mut rng = Rng::new(seed, "cuda calls");
    let (mean, std) = (vec![0.5; 3], vec![0.25; 3]);
    let size = ImageSize::square(32);
    let contract = InputContract::new(size, 3, mean, std, Resize::Stretch);
    let images: Vec<u8> = (0..2 * contract.len()).map(|_| rng.below(256) as u8).collect();
    let augment = Augment { crop: 0.125, flip: true };
    let moved = images.chunks(contract.len()).map(|image| (image, augment.draw(size, &mut rng)));
    Batch {
        images: ByteBatch::new(moved, &contract).into(),
        labels: vec![1, seed as u32],
        shape: [3, 32, 32],
    }
}

/// With other images, labels and weights of the same candidates the calls and their arguments stay the same, so that a GPU replays them.
/// A candidate of weight 0 changes the calls. For the paper's supernet docs/cuda.md states their number.
#[test]
fn passes_are_the_same_calls() {
    let asked = Arc::new(Mutex::new(Asked::default()));
    let device = Box::new(Counter::new(&asked));
    let mut net = CudaSupernet::new(SupernetConfig::paper(10), device).unwrap();
    let [even, moved] = [0, 1].map(|seed| Alphas::init(&space::DARTS, seed).mixture());
    assert_ne!(even, moved);
    let mut pass = |seed: u64, mixture: &Rows, [weights, of_mixture]: [bool; 2]| {
        net.evaluate(&batch(seed), mixture, GradRequest { weights, mixture: of_mixture }).unwrap();
        std::mem::take(&mut *asked.lock().unwrap())
    };
    for (want, launches, gemms, longest) in
        [([true, true], 1127, 79, 694), ([false, true], 866, 76, 613), ([false, false], 445, 28, 273)]
    {
        // The first pass also allocates memory.
        pass(0, &even, want);
        let first = pass(0, &even, want);
        assert_eq!(first.count(), (launches, gemms), "{want:?}");
        assert_eq!(first.longest(), longest, "{want:?}");
        assert!(first == pass(5, &moved, want), "{want:?}: other calls");
        let mut without = moved.clone();
        without[0][4] = 0.0;
        assert!(first != pass(5, &without, want), "{want:?}: the same calls without a candidate");
    }
}

/// A first-order step is one sequence of calls, the same for every step, and waits once for its results. For the paper's supernet
/// docs/cuda.md states the number of calls.
#[test]
fn a_step_waits_once() {
    for (order, launches, gemms, longest) in [("two-pass", 1999, 155, 1308), ("released", 2864, 231, 1905)] {
        let asked = Arc::new(Mutex::new(Asked::default()));
        let device = Box::new(Counter::new(&asked));
        let mut net = CudaSupernet::new(SupernetConfig::paper(10), device).unwrap();
        let config = Config::resolve("paper", None, &[format!("search.order={order}")]).unwrap().search;
        let (mut stepper, mut alphas) = (Stepper::default(), Alphas::init(&space::DARTS, 0));
        let mut step = |step: usize| {
            let batches = [2 * step as u64, 2 * step as u64 + 1].map(|seed| batch(seed % 10));
            let at = StepContext { seed: 0, epoch: 0, step, lr: 0.01 * step as f64 };
            stepper.step(&mut net, &mut alphas, batches.each_ref(), &config, at).unwrap();
            std::mem::take(&mut *asked.lock().unwrap())
        };
        // The first step also allocates memory.
        step(0);
        let first = step(1);
        assert_eq!(first.waits, 1, "{order}");
        assert_eq!(first.count(), (launches, gemms), "{order}");
        assert_eq!(first.longest(), longest, "{order}");
        assert!(first == step(2), "{order}: other calls");
    }
}

fn darts_v2(channels: usize, layers: usize) -> Trainable {
    let (height, width, skeleton) = (32, 32, Skeleton::Cifar);
    let shape = NetworkConfig { channels, layers, classes: 10, in_channels: 3, height, width, skeleton };
    Trainable::assemble(&Genotype::named("DARTS_V2").unwrap(), &shape, true).unwrap()
}

/// Training steps of DARTS_V2 make the same calls every time, in the number stated in docs/cuda.md. Drop path changes the calls.
#[test]
fn trainings_are_the_same_calls() {
    let asked = Arc::new(Mutex::new(Asked::default()));
    let mut device = Counter::new(&asked);
    let network = darts_v2(16, 8);
    let weights = Weights::init(&network.graph, 0).unwrap();
    let mut engine = Engine::for_training(&network, &weights, Some(&mut device)).unwrap();
    let factors = vec![1.0; 2 * network.paths.len()];
    let mut pass = |seed: u64, paths: &[f32]| {
        engine.gradients(&batch(seed), &Regularisers { smoothing: 0.0, auxiliary: 0.4, paths }).unwrap();
        std::mem::take(&mut *asked.lock().unwrap())
    };
    pass(0, &[]);
    let first = pass(0, &[]);
    assert_eq!(first.count(), (991, 45));
    assert_eq!(first.longest(), 293);
    assert!(first == pass(5, &[]), "other calls");
    assert_eq!(pass(5, &factors).count().0, first.count().0 + 2 * network.paths.len());
    // The following weight update is not waited for.
    pass(5, &[]);
    assert_eq!(first.waits, 1);
    let config = SgdConfig { lr: 0.1, lr_min: 0.0, momentum: 0.9, decay: 0.0, clip: 5.0 };
    engine.step(&mut Sgd::new(), &config, 0.1).unwrap();
    let descent = std::mem::take(&mut *asked.lock().unwrap());
    assert_eq!((descent.count(), descent.waits), ((3, 0), 0));
}

/// Allocated memory in MiB, as stated in docs/cuda.md: for 16 channels, 8 cells and a batch of 64, and for the paper's training.
#[test]
fn trainings_allocate_the_documented_memory() {
    for ([channels, layers, count], mib) in [([16, 8, 64], 1792), ([36, 20, 96], 15272)] {
        let mut device = Counter::new(&Default::default());
        let network = darts_v2(channels, layers);
        let weights = Weights::init(&network.graph, 0).unwrap();
        let images = vec![0.0; count * 3 * 32 * 32].into();
        let batch = Batch { images, labels: vec![0; count], shape: [3, 32, 32] };
        let mut engine = Engine::for_training(&network, &weights, Some(&mut device)).unwrap();
        engine.gradients(&batch, &Regularisers::default()).unwrap();
        assert_eq!(device.free >> 20, mib);
    }
}
