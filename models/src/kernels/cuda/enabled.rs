//! An NVIDIA GPU. The driver, NVRTC and cuBLAS are loaded when a device is opened, so the program starts without
//! them.
#![allow(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cudarc::cublas;
use cudarc::driver::sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
use cudarc::driver::{self, CudaContext, CudaFunction, CudaGraph, CudaStream, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::{self, CompileError, CompileOptions, Ptx};

use super::blas::Blas;
use super::calls::{Call, Repeats};
use super::config::GpuConfig;
use super::convolution::{Convolution, Convolve};
use super::cudnn::Cudnn;
use super::device::{Arg, Device, Gemm, LaunchGrid, Words, device_error};
use super::order::{LANES, places};
use super::parts::Kept;
use super::{kernels, source};
use crate::Result;

/// Threads per block; the same as `BLOCK` in `common.cu`.
const BLOCK: u32 = 256;

/// Largest number of blocks per launch. The kernels' loops cover the remaining elements.
const BLOCKS: usize = 1 << 16;

struct Gpu {
    name: String,
    context: Arc<CudaContext>,
    /// Streams. Every sequence begins and ends in the first, which the libraries use too; the others run branches of
    /// a recorded sequence.
    streams: Vec<Arc<CudaStream>>,
    functions: HashMap<String, CudaFunction>,
    blas: Blas,
    cudnn: Cudnn,
    memory: Vec<Words>,
    kept: Kept,
    /// Calls since the last read or write.
    calls: Vec<Call>,
    repeats: Repeats<CudaGraph>,
}

/// Converts an error of a CUDA library.
pub(super) fn failed<T, E: std::fmt::Display>(what: &str, result: std::result::Result<T, E>) -> Result<T> {
    result.map_err(|error| device_error(&format!("cuda, {what}"), error.to_string()))
}

/// Returns an error if a library is missing. Without the check, its calls would panic.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device) if the library is missing.
pub(super) fn require(present: bool, library: &str, part: &str) -> Result<()> {
    match present {
        true => Ok(()),
        false => Err(device_error(
            "cuda",
            format!(
                "{library} is not found, {part}. help: set LD_LIBRARY_PATH to its folder, as docs/guide/gpu.md shows, or set `device` to cpu"
            ),
        )),
    }
}

/// Compiles the kernels to PTX for an architecture, e.g. `compute_90`. It needs NVRTC but no GPU.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device) if NVRTC is missing or does not support the architecture.
pub fn compile(architecture: &str) -> Result<String> {
    // SAFETY: the call only opens the library and closes it.
    require(unsafe { nvrtc::sys::is_culib_present() }, "libnvrtc", "CUDA's compiler for kernels")?;
    // With `-default-device`, lambdas are device functions, like all other functions.
    let architecture = format!("--gpu-architecture={architecture}");
    let options = vec!["--std=c++17".into(), "-default-device".into(), architecture];
    let options = CompileOptions { name: Some("kernels.cu".into()), options, ..CompileOptions::default() };
    let compiled = nvrtc::compile_ptx_with_opts(source(), options);
    let compiled = compiled.map_err(|error| match error {
        CompileError::CompileError { log, .. } => log.to_string_lossy().into_owned(),
        other => other.to_string(),
    });
    Ok(failed("compiling the kernels", compiled)?.to_src())
}

/// Opens a GPU and compiles the kernels for it.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device) if there is no driver or no such GPU, or a CUDA library is missing.
pub fn open(choice: GpuConfig) -> Result<Box<dyn Device>> {
    // SAFETY: the calls only open the libraries and close them.
    let (driver, blas) = unsafe { (driver::sys::is_culib_present(), cublas::sys::is_culib_present()) };
    require(driver, "libcuda", "the driver of an NVIDIA GPU")?;
    require(blas, "libcublas", "CUDA's matrix products")?;
    let count = driver::result::init().and_then(|()| CudaContext::device_count());
    let count = count
        .map_err(|error| format!("{error}. help: check the GPU with nvidia-smi, or set `device` to cpu"));
    let count = failed("asking for GPUs", count)?;
    if choice.index >= count as usize {
        let problem = format!(
            "no GPU {}: {count} found, the first has index 0. help: set `device` to cuda:0, or set `device` to cpu",
            choice.index
        );
        return Err(device_error("cuda", problem));
    }
    let context = failed("opening the GPU", CudaContext::new(choice.index))?;
    let name = failed("the GPU's name", context.name())?;
    let (major, minor) = failed("the GPU's architecture", context.compute_capability())?;
    let ptx = compile(&format!("compute_{major}{minor}"))?;
    let module = context.load_module(Ptx::from_src(ptx));
    let module = module.map_err(|error| {
        format!("{error}. help: NVRTC must not be newer than the driver; see docs/guide/gpu.md")
    });
    let module = failed("loading the kernels", module)?;
    let mut functions = HashMap::new();
    for kernel in kernels(&source()) {
        functions.insert(kernel.to_string(), failed(kernel, module.load_function(kernel))?);
    }
    let streams = (0..LANES).map(|_| failed("a stream", context.new_stream())).collect::<Result<Vec<_>>>()?;
    let blas = Blas::open(&streams[0], choice.rounding)?;
    let cudnn = Cudnn::open(&streams[0], choice.rounding)?;
    Ok(Box::new(Gpu {
        name: name + Cudnn::NAME,
        context,
        streams,
        functions,
        blas,
        cudnn,
        memory: Vec::new(),
        kept: Kept::default(),
        calls: Vec::new(),
        repeats: Repeats::new(),
    }))
}

impl Gpu {
    fn stream(&self) -> &Arc<CudaStream> {
        &self.streams[0]
    }

    /// Copies values to the device. The values may be changed or freed after the call.
    fn copy<T>(&mut self, to: Words, values: &[T]) -> Result<()> {
        let to = to.part(0, values.len())?;
        self.flush()?;
        // SAFETY: `to` has room for the values, whose elements have four bytes. The driver has copied values of
        // pageable memory when it returns.
        let done =
            unsafe { driver::result::memcpy_htod_async(to.address(), values, self.stream().cu_stream()) };
        failed("copying to the GPU", done)
    }

    /// Runs the collected calls.
    fn flush(&mut self) -> Result<()> {
        failed("memory", self.context.bind_to_thread())?;
        self.kept.begin();
        let calls = std::mem::take(&mut self.calls);
        let mut repeats = std::mem::replace(&mut self.repeats, Repeats::new());
        let done = match repeats.find(&calls) {
            Some(replay) => self.replay(&calls, replay),
            None => calls.iter().try_for_each(|call| self.make(call, 0)).map(|()| repeats.remember(calls)),
        };
        self.repeats = repeats;
        done
    }

    /// Runs the calls as one graph, which is recorded on first use.
    fn replay(&self, calls: &[Call], replay: &mut Option<CudaGraph>) -> Result<()> {
        let graph = match replay.take() {
            Some(graph) => graph,
            None => self.record(calls)?,
        };
        let done = failed("a sequence of kernels", graph.launch());
        *replay = Some(graph);
        done
    }

    /// Records the calls as a graph. They were run before, so all libraries have allocated their memory.
    fn record(&self, calls: &[Call]) -> Result<CudaGraph> {
        let what = "recording kernels";
        failed(what, self.stream().begin_capture(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL))?;
        let made = self.make_by_lanes(calls);
        let graph = self.stream().end_capture(driver::sys::CUgraphInstantiate_flags(0));
        made?;
        failed(what, graph)?.ok_or_else(|| device_error(what, "CUDA made no graph of them"))
    }

    /// Enqueues each call in its lane. All lanes begin and end in the first.
    fn make_by_lanes(&self, calls: &[Call]) -> Result<()> {
        let places = places(calls);
        let lanes = places.iter().map(|place| place.lane + 1).max().unwrap_or(0);
        let others = self.streams.iter().take(lanes).skip(1);
        let event = |stream: &Arc<CudaStream>| failed("a mark", stream.record_event(None));
        let begin = event(self.stream())?;
        others.clone().try_for_each(|stream| failed("a lane", stream.wait(&begin)))?;
        let awaited: HashSet<usize> = places.iter().flat_map(|place| &place.waits).copied().collect();
        let mut done = HashMap::new();
        for (i, (call, place)) in calls.iter().zip(&places).enumerate() {
            let stream = &self.streams[place.lane];
            for before in &place.waits {
                let before =
                    done.get(before).ok_or_else(|| device_error("a lane", "waits for a call to come"))?;
                failed("a lane", stream.wait(before))?;
            }
            self.make(call, place.lane)?;
            if awaited.contains(&i) {
                done.insert(i, event(stream)?);
            }
        }
        others.into_iter().try_for_each(|stream| failed("a lane", self.stream().wait(&event(stream)?)))
    }

    /// Enqueues one call. Libraries use lane 0.
    fn make(&self, call: &Call, lane: usize) -> Result<()> {
        match call {
            Call::Launch(kernel, blocks, args) => {
                self.make_launch(kernel, *blocks, args, &self.streams[lane])
            }
            Call::Gemm(gemm) => self.blas.make(gemm),
            Call::Convolve(convolve) => self.cudnn.make(convolve),
            Call::Clear(at) => {
                let stream = self.streams[lane].cu_stream();
                // SAFETY: the memory was allocated on this device.
                let done = unsafe { driver::result::memset_d8_async(at.address(), 0, 4 * at.len(), stream) };
                failed("memory", done)
            }
        }
    }

    fn make_launch(
        &self,
        kernel: &'static str,
        blocks: u32,
        args: &[Arg],
        stream: &Arc<CudaStream>,
    ) -> Result<()> {
        let Some(function) = self.functions.get(kernel) else {
            return Err(device_error(kernel, "unknown kernel"));
        };
        let addresses: Vec<u64> =
            args.iter().map(|arg| arg.words().map_or(0, |(words, _)| words.address())).collect();
        let mut launch = stream.launch_builder(function);
        for (arg, address) in args.iter().zip(&addresses) {
            match arg {
                Arg::Read(_) | Arg::Write(_) => launch.arg(address),
                Arg::Int(n) => launch.arg(n),
                Arg::Float(x) => launch.arg(x),
            };
        }
        let config = LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (BLOCK, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: the caller of `Device::launch` guarantees that the arguments fit the kernel.
        failed(kernel, unsafe { launch.launch(config) }).map(drop)
    }
}

impl Device for Gpu {
    fn name(&self) -> &str {
        &self.name
    }

    fn alloc(&mut self, words: usize) -> Result<Words> {
        failed("memory", self.context.bind_to_thread())?;
        // SAFETY: the allocation has no preconditions; `release` frees it once.
        let address = unsafe { driver::result::malloc_sync(4 * words.max(1)) };
        let address =
            address.map_err(|error| format!("{} MiB: {error}. help: a smaller batch", (4 * words) >> 20));
        let words = Words::new(failed("memory", address)?, words);
        self.memory.push(words);
        Ok(words)
    }

    fn kept(&mut self) -> &mut Kept {
        &mut self.kept
    }

    fn release(&mut self) -> Result<()> {
        self.kept = Kept::default();
        self.flush()?;
        self.repeats.clear();
        failed("waiting", self.stream().synchronize())?;
        for words in self.memory.drain(..) {
            // SAFETY: the memory comes from `alloc`, and the stream has finished all work that uses it.
            failed("memory", unsafe { driver::result::free_sync(words.address()) })?;
        }
        Ok(())
    }

    fn write(&mut self, to: Words, values: &[f32]) -> Result<()> {
        self.copy(to, values)
    }

    fn write_ints(&mut self, to: Words, values: &[i32]) -> Result<()> {
        self.copy(to, values)
    }

    fn clear(&mut self, at: Words) -> Result<()> {
        self.calls.push(Call::Clear(at));
        Ok(())
    }

    fn read(&mut self, from: Words, out: &mut [f32]) -> Result<()> {
        let from = from.part(0, out.len())?;
        self.flush()?;
        // SAFETY: `from` has room for `out`, which is not accessed before the stream is synchronised.
        let done =
            unsafe { driver::result::memcpy_dtoh_async(out, from.address(), self.stream().cu_stream()) };
        failed("copying from the GPU", done)?;
        failed("a kernel", self.stream().synchronize())
    }

    unsafe fn launch(&mut self, kernel: &'static str, grid: LaunchGrid, args: &[Arg]) -> Result<()> {
        let blocks = match grid {
            LaunchGrid::Each(count) => count.div_ceil(BLOCK as usize),
            LaunchGrid::Rows(rows) => rows,
        };
        self.calls.push(Call::Launch(kernel, blocks.min(BLOCKS) as u32, args.to_vec()));
        Ok(())
    }

    fn gemm(&mut self, gemm: &Gemm) -> Result<()> {
        gemm.check()?;
        self.calls.push(Call::Gemm(*gemm));
        Ok(())
    }

    fn convolves(&mut self, convolution: &Convolution) -> Result<bool> {
        failed("memory", self.context.bind_to_thread())?;
        self.cudnn.plan(convolution)
    }

    fn convolve(&mut self, convolve: &Convolve) -> Result<()> {
        convolve.check()?;
        if !self.convolves(&convolve.convolution)? {
            let problem =
                "of this size it has none, but of a larger batch. help: build with the feature `cuda` alone";
            return Err(device_error("a convolution", problem));
        }
        self.calls.push(Call::Convolve(*convolve));
        Ok(())
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // An error cannot be reported here.
        let _ = self.release();
    }
}
