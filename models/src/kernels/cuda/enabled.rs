//! An NVIDIA GPU: the driver, NVRTC and cuBLAS, looked for when a device is opened, so that the program starts without them.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;

use cudarc::cublas::{self, CudaBlas};
use cudarc::driver::{self, CudaContext, CudaFunction, CudaStream, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::{self, CompileError, CompileOptions, Ptx};

use super::device::{Arg, ByColumns, Choice, Device, Gemm, Grid, Words, device_error};
use super::{kernels, source};
use crate::Result;

/// Threads of a block; `BLOCK` in `common.cu`.
const BLOCK: u32 = 256;

/// Most blocks of a launch; each goes on with what no other has taken.
const BLOCKS: usize = 1 << 16;

struct Gpu {
    name: String,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    functions: HashMap<String, CudaFunction>,
    blas: CudaBlas,
    compute: cublas::sys::cublasComputeType_t,
    memory: Vec<Words>,
    scratch: Words,
}

/// What a library of CUDA said.
fn failed<T, E: std::fmt::Display>(what: &str, result: std::result::Result<T, E>) -> Result<T> {
    result.map_err(|error| device_error(&format!("cuda, {what}"), error.to_string()))
}

/// # Errors
/// A library that is missing, whose calls would panic.
fn require(present: bool, library: &str, part: &str) -> Result<()> {
    match present {
        true => Ok(()),
        false => Err(device_error(
            "cuda",
            format!(
                "{library} is not found, {part}. Help: set LD_LIBRARY_PATH to its folder, as docs/cuda.md shows, or leave --device out"
            ),
        )),
    }
}

/// The kernels as PTX for an architecture, e.g. `compute_90`; needs NVRTC and no GPU.
///
/// # Errors
/// NVRTC is missing, or does not know the architecture.
pub fn compile(architecture: &str) -> Result<String> {
    // SAFETY: opens the library and closes it.
    require(unsafe { nvrtc::sys::is_culib_present() }, "libnvrtc", "CUDA's compiler for kernels")?;
    let options = vec![format!("--gpu-architecture={architecture}"), "--std=c++17".into()];
    let options = CompileOptions { name: Some("kernels.cu".into()), options, ..CompileOptions::default() };
    let compiled = nvrtc::compile_ptx_with_opts(source(), options);
    let compiled = compiled.map_err(|error| match error {
        CompileError::CompileError { log, .. } => log.to_string_lossy().into_owned(),
        other => other.to_string(),
    });
    Ok(failed("compiling the kernels", compiled)?.to_src())
}

/// The GPU, with the kernels compiled for it.
///
/// # Errors
/// No driver, no such GPU, a library of CUDA that is missing.
pub fn open(choice: Choice) -> Result<Box<dyn Device>> {
    // SAFETY: opens the libraries and closes them.
    let (driver, blas) = unsafe { (driver::sys::is_culib_present(), cublas::sys::is_culib_present()) };
    require(driver, "libcuda", "the driver of an NVIDIA GPU")?;
    require(blas, "libcublas", "CUDA's matrix products")?;
    let count = driver::result::init().and_then(|()| CudaContext::device_count());
    let count =
        count.map_err(|error| format!("{error}. Help: see what nvidia-smi says, or leave --device out"));
    let count = failed("asking for GPUs", count)?;
    if choice.index >= count as usize {
        let problem = format!(
            "there is no GPU {}, but {count}, counted from 0. Help: --device cuda:0, or leave --device out",
            choice.index
        );
        return Err(device_error("cuda", problem));
    }
    let context = failed("opening the GPU", CudaContext::new(choice.index))?;
    let name = failed("the GPU's name", context.name())?;
    let (major, minor) = failed("the GPU's architecture", context.compute_capability())?;
    let ptx = compile(&format!("compute_{major}{minor}"))?;
    let module = context.load_module(Ptx::from_src(ptx));
    let module = module
        .map_err(|error| format!("{error}. Help: NVRTC must not be newer than the driver; see docs/cuda.md"));
    let module = failed("loading the kernels", module)?;
    let mut functions = HashMap::new();
    for kernel in kernels(&source()) {
        functions.insert(kernel.to_string(), failed(kernel, module.load_function(kernel))?);
    }
    let stream = failed("a stream", context.new_stream())?;
    let blas = failed("opening cuBLAS", CudaBlas::new(stream.clone()))?;
    let compute = match choice.tf32 {
        true => cublas::sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
        false => cublas::sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
    };
    Ok(Box::new(Gpu {
        name,
        context,
        stream,
        functions,
        blas,
        compute,
        memory: Vec::new(),
        scratch: Words::NONE,
    }))
}

impl Gpu {
    /// To the device; the values are free again when it returns.
    fn copy<T>(&self, to: Words, values: &[T]) -> Result<()> {
        let to = to.part(0, values.len())?;
        failed("memory", self.context.bind_to_thread())?;
        // SAFETY: `to` has as many words of four bytes, and the driver has copied values of ordinary memory when it returns.
        let done =
            unsafe { driver::result::memcpy_htod_async(to.address(), values, self.stream.cu_stream()) };
        failed("copying to the GPU", done)
    }
}

impl Device for Gpu {
    fn name(&self) -> &str {
        &self.name
    }

    fn alloc(&mut self, words: usize) -> Result<Words> {
        failed("memory", self.context.bind_to_thread())?;
        // SAFETY: freed once, in `release`.
        let address = unsafe { driver::result::malloc_sync(4 * words.max(1)) };
        let address =
            address.map_err(|error| format!("{} MiB: {error}. Help: a smaller batch", (4 * words) >> 20));
        let words = Words::new(failed("memory", address)?, words);
        self.memory.push(words);
        Ok(words)
    }

    fn scratch(&mut self, words: usize) -> Result<Words> {
        // One that is too small may still be in use, and goes with all the rest.
        if self.scratch.len() < words {
            self.scratch = self.alloc(words.next_power_of_two())?;
        }
        self.scratch.part(0, words)
    }

    fn release(&mut self) -> Result<()> {
        self.scratch = Words::NONE;
        failed("memory", self.context.bind_to_thread())?;
        failed("waiting", self.stream.synchronize())?;
        for words in self.memory.drain(..) {
            // SAFETY: from `alloc`, and nothing runs that could use it.
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
        failed("memory", self.context.bind_to_thread())?;
        // SAFETY: the words are the device's.
        let done = unsafe {
            driver::result::memset_d8_async(at.address(), 0, 4 * at.len(), self.stream.cu_stream())
        };
        failed("memory", done)
    }

    fn read(&mut self, from: Words, out: &mut [f32]) -> Result<()> {
        let from = from.part(0, out.len())?;
        failed("memory", self.context.bind_to_thread())?;
        // SAFETY: `from` has as many words, and `out` is not touched before the stream has come to an end.
        let done = unsafe { driver::result::memcpy_dtoh_async(out, from.address(), self.stream.cu_stream()) };
        failed("copying from the GPU", done)?;
        failed("a kernel", self.stream.synchronize())
    }

    unsafe fn launch(&mut self, kernel: &'static str, grid: Grid, args: &[Arg]) -> Result<()> {
        let Some(function) = self.functions.get(kernel) else {
            return Err(device_error(kernel, "there is no such kernel"));
        };
        let blocks = match grid {
            Grid::Each(count) => count.div_ceil(BLOCK as usize),
            Grid::Rows(rows) => rows,
        };
        let blocks = blocks.min(BLOCKS) as u32;
        let addresses: Vec<u64> =
            args.iter().map(|arg| if let Arg::Words(words) = arg { words.address() } else { 0 }).collect();
        let mut launch = self.stream.launch_builder(function);
        for (arg, address) in args.iter().zip(&addresses) {
            match arg {
                Arg::Words(_) => launch.arg(address),
                Arg::Int(n) => launch.arg(n),
                Arg::Float(x) => launch.arg(x),
            };
        }
        let config = LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (BLOCK, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: the caller's.
        failed(kernel, unsafe { launch.launch(config) }).map(drop)
    }

    fn gemm(&mut self, gemm: &Gemm) -> Result<()> {
        use cublas::sys::cublasGemmAlgo_t::CUBLAS_GEMM_DFALT;
        use cublas::sys::cublasOperation_t::{CUBLAS_OP_N, CUBLAS_OP_T};
        use cublas::sys::cudaDataType_t::CUDA_R_32F;

        gemm.check()?;
        let ByColumns { sizes, left, right, right_transposed, leading, steps } = gemm.by_columns();
        if gemm.batch == 0 || sizes[0] == 0 || sizes[1] == 0 {
            return Ok(());
        }
        failed("memory", self.context.bind_to_thread())?;
        let ([rows, columns, depth], [of_left, of_right, of_c]) =
            (sizes.map(|n| n as i32), leading.map(|n| n as i32));
        let [left_step, right_step, c_step] = steps.map(|step| step as i64);
        let (alpha, beta) = (1f32, f32::from(u8::from(gemm.add)));
        // SAFETY: the sizes are checked, and the factors are read before it returns.
        let done = unsafe {
            cublas::result::gemm_strided_batched_ex(
                *self.blas.handle(),
                CUBLAS_OP_N,
                if right_transposed { CUBLAS_OP_T } else { CUBLAS_OP_N },
                rows,
                columns,
                depth,
                (&raw const alpha).cast(),
                left.address() as *const _,
                CUDA_R_32F,
                of_left,
                left_step,
                right.address() as *const _,
                CUDA_R_32F,
                of_right,
                right_step,
                (&raw const beta).cast(),
                gemm.c.address() as *mut _,
                CUDA_R_32F,
                of_c,
                c_step,
                gemm.batch as i32,
                self.compute,
                CUBLAS_GEMM_DFALT,
            )
        };
        failed("a matrix product", done)
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.release();
    }
}
