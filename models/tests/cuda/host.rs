//! A device on the host: the same kernel sources, compiled by a C++ compiler, behind the trait of devices.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "libraries.rs"]
mod libraries;

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use milenas_models::kernels::cuda::convolution::{Convolution, Convolve};
use milenas_models::kernels::cuda::{
    Arg, Call, Device, Gemm, Kept, LANES, LaunchGrid, Words, kernels, places, source,
};
use milenas_models::{Error, Result};

type Launch =
    unsafe extern "C" fn(*const c_char, c_uint, c_uint, *mut *mut c_void, *const c_char, bool) -> c_int;

/// A device with memory of the host. Blocks have `threads` threads, a power of two. Like a GPU, it collects calls
/// until a result is read.
struct Host {
    launch: &'static Mutex<Launch>,
    threads: usize,
    /// Whether the device has convolutions of its own.
    convolves: bool,
    kept: Kept,
    calls: Vec<Call>,
    /// Memory, aligned to 16 bytes; a GPU's is aligned to longer lines.
    memory: Vec<Box<[u128]>>,
}

/// Declared use of an element by a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    None,
    Read,
    Written,
}

/// A NaN with a recognisable payload, in place of an element that a call must not read.
const HIDDEN: u32 = 0x7fc0_1234;

/// Largest memory, in elements, for which calls run with all undeclared elements hidden.
const CHECKED: usize = 1 << 15;

const SHIM: &str = include_str!("shim.h");

/// Returns the end of the source, after the kernels: their table, and the entry point.
fn ending(source: &str) -> String {
    let rows = kernels(source).map(|name| {
        format!("  {{\"{name}\", [](void **args) {{ unpack({name}, args); }}, arguments_of({name})}},\n")
    });
    let rows: String = rows.collect();
    format!(
        "#line 1 \"ending\"\nstatic const Kernel table[] = {{\n{rows}}};\n
extern \"C\" int launch(const char *name, unsigned grid, unsigned block, void **args, const char *kinds, bool last_first) {{
  for (const Kernel &kernel : table) {{
    if (std::strcmp(kernel.name, name) != 0) continue;
    if (kernel.arguments != kinds) return 2;
    gridDim.x = grid, blockDim.x = block, body = kernel.call, arguments = args, backwards = last_first;
    for (unsigned turn = 0; turn < grid; ++turn) {{
      blockIdx.x = backwards ? grid - 1 - turn : turn;
      run_block();
    }}
    return 0;
  }}
  return 1;
}}\n"
    )
}

/// Compiles the kernels to a library in `folder`. Returns `None` if there is no C++ compiler.
fn build(folder: &Path) -> Option<PathBuf> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    Command::new(&compiler).arg("--version").output().ok()?;
    let (text, library) = (folder.join("kernels.cpp"), folder.join("libkernels.so"));
    let kernels = source();
    std::fs::write(&text, format!("{SHIM}{kernels}{}", ending(&kernels))).unwrap();
    let done = Command::new(&compiler)
        // Fortified code treats jumps between stacks as errors.
        .args([
            "-U_FORTIFY_SOURCE",
            "-std=c++17",
            "-O2",
            "-fsanitize=alignment",
            "-fsanitize-undefined-trap-on-error",
            "-shared",
            "-fPIC",
            "-Wall",
            "-Wextra",
            "-Wno-unknown-pragmas",
        ])
        .args(["-Werror", "-o"])
        .args([&library, &text])
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "the kernels do not compile as C++: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    Some(library)
}

/// The library, compiled once for all tests. Tests use it one at a time, since the shim has a single grid.
static LIBRARY: OnceLock<Option<Mutex<Launch>>> = OnceLock::new();

fn library() -> Option<Mutex<Launch>> {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = build(folder.path()) else {
        eprintln!("skipped: no C++ compiler (c++, or $CXX) to run the CUDA kernels with on this machine");
        return None;
    };
    let path = CString::new(library.to_str().unwrap()).unwrap();
    // SAFETY: the library was just compiled, has the function with this signature, and stays loaded.
    let launch = unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        assert!(!library.is_null(), "the compiled kernels cannot be loaded");
        let found = libc::dlsym(library, c"launch".as_ptr());
        assert!(!found.is_null());
        std::mem::transmute::<*mut c_void, Launch>(found)
    };
    Some(Mutex::new(launch))
}

/// Returns the devices for tests: the GPU that `MILENAS_TEST_DEVICE` names, in the form of `--device`, else one host
/// device for each number of threads per block. Without a C++ compiler it prints a message and returns none.
pub fn devices(threads: &[usize]) -> Vec<Box<dyn Device>> {
    if let Ok(name) = std::env::var("MILENAS_TEST_DEVICE") {
        return vec![milenas_models::kernels::cuda::open(name.parse().unwrap()).unwrap()];
    }
    hosts(threads, false)
}

/// Returns host devices with convolutions of their own, like a GPU with cuDNN; none if tests run on a GPU.
#[allow(dead_code, reason = "not every test that has this file has a use for them")]
pub fn convolving(threads: &[usize]) -> Vec<Box<dyn Device>> {
    match std::env::var("MILENAS_TEST_DEVICE") {
        Ok(_) => Vec::new(),
        Err(_) => hosts(threads, true),
    }
}

fn hosts(threads: &[usize], convolves: bool) -> Vec<Box<dyn Device>> {
    let Some(launch) = LIBRARY.get_or_init(library) else { return Vec::new() };
    let host = |&threads| {
        let (calls, memory) = (Vec::new(), Vec::new());
        Box::new(Host { launch, threads, convolves, kept: Kept::default(), calls, memory }) as Box<dyn Device>
    };
    threads.iter().map(host).collect()
}

fn fail(what: &str, problem: &str) -> Error {
    Error::Device { what: what.into(), problem: problem.into() }
}

/// Returns the elements as floats.
///
/// # Safety
/// The elements must be memory of the host, without other references to them.
unsafe fn floats<'a>(words: Words) -> &'a mut [f32] {
    if words.is_empty() {
        return &mut [];
    }
    // SAFETY: the caller guarantees that the elements are memory of the host, with no other references to them.
    unsafe { std::slice::from_raw_parts_mut(words.address() as *mut f32, words.len()) }
}

/// Returns the declared use of each element by a call.
fn uses(call: &Call, words: &[u32]) -> Vec<Use> {
    let (at, mut uses) = (words.as_ptr() as u64, vec![Use::None; words.len()]);
    for (touched, written) in call.touches() {
        let own = if written { Use::Written } else { Use::Read };
        for (i, of) in uses.iter_mut().enumerate() {
            let from = (at + 4 * i as u64).wrapping_sub(touched.address());
            if from < 4 * touched.len() as u64 {
                *of = own.max(*of);
            }
        }
    }
    uses
}

impl Host {
    /// Runs the collected calls in the order that their lanes allow and that is farthest from the original one:
    /// always from the last lane that need not wait. Every other call runs its blocks and threads in reverse order.
    fn flush(&mut self) -> Result<()> {
        self.kept.begin();
        let calls = std::mem::take(&mut self.calls);
        let places = &places(&calls);
        let of_lane = |lane| (0..places.len()).filter(move |i: &usize| places[*i].lane == lane);
        let mut lanes: Vec<_> = (0..LANES).map(|lane| of_lane(lane).peekable()).collect();
        let mut done = vec![false; calls.len()];
        for turn in 0..calls.len() {
            let may = |i: &usize| places[*i].waits.iter().all(|before| done[*before]);
            let next = lanes.iter_mut().rev().find_map(|lane| lane.next_if(may)).unwrap();
            self.make_alone(&calls[next], turn % 2 == 1)?;
            done[next] = true;
        }
        Ok(())
    }

    /// Runs a call with all elements hidden that it does not declare, if the memory is small enough. It runs blocks
    /// and threads in both orders. This checks the declarations, which determine the calls that may run at the same
    /// time, and that the order does not matter.
    fn make_alone(&mut self, call: &Call, backwards: bool) -> Result<()> {
        if self.memory.iter().map(|block| 4 * block.len()).sum::<usize>() > CHECKED {
            return self.make(call, backwards);
        }
        let before: Vec<Vec<u32>> = self.blocks().map(|words| words.to_vec()).collect();
        let uses: Vec<Vec<Use>> = self.blocks().map(|words| uses(call, words)).collect();
        let mut made = Vec::new();
        for last_first in [false, true] {
            for (words, (before, uses)) in self.blocks().zip(before.iter().zip(&uses)) {
                let all = words.iter_mut().zip(before).zip(uses);
                all.for_each(|((word, before), of)| *word = if *of == Use::None { HIDDEN } else { *before });
            }
            self.make(call, last_first)?;
            made.push(self.blocks().map(|words| words.to_vec()).collect::<Vec<_>>());
        }
        assert!(
            made[0] == made[1],
            "{call:?} comes to something else where the last thread or block is the first"
        );
        for (words, (before, uses)) in self.blocks().zip(before.iter().zip(&uses)) {
            for ((word, before), of) in words.iter_mut().zip(before).zip(uses) {
                match of {
                    Use::None => {
                        assert_eq!(*word, HIDDEN, "{call:?} writes outside its declared arguments");
                        *word = *before;
                    }
                    Use::Read => {
                        assert_eq!(word, before, "{call:?} writes an argument that is declared as read")
                    }
                    Use::Written => {}
                }
            }
        }
        Ok(())
    }

    fn blocks(&mut self) -> impl Iterator<Item = &mut [u32]> {
        // SAFETY: memory is whole 4-byte elements, in which any bits are valid.
        self.memory.iter_mut().map(|block| unsafe { block.align_to_mut::<u32>().1 })
    }

    fn make(&self, call: &Call, backwards: bool) -> Result<()> {
        match call {
            Call::Launch(kernel, blocks, args) => self.make_launch(kernel, *blocks, args, backwards),
            Call::Gemm(gemm) => libraries::multiply(gemm),
            Call::Convolve(convolve) => libraries::convolve(convolve),
            Call::Clear(at) => {
                // SAFETY: the memory belongs to this device, and there are no other references to it.
                unsafe { floats(*at) }.fill(0.0);
                Ok(())
            }
        }
    }

    fn make_launch(&self, kernel: &'static str, blocks: u32, args: &[Arg], backwards: bool) -> Result<()> {
        let word = |arg: &Arg| match arg {
            Arg::Read(words) | Arg::Write(words) => words.address(),
            Arg::Int(n) => u64::from(*n as u32),
            Arg::Float(x) => u64::from(x.to_bits()),
        };
        let kind = |arg: &Arg| match arg {
            Arg::Read(_) => 'r',
            Arg::Write(_) => 'w',
            Arg::Int(_) | Arg::Float(_) => 'n',
        };
        let mut words: Vec<u64> = args.iter().map(word).collect();
        let mut pointers: Vec<*mut c_void> = words.iter_mut().map(|word| (&raw mut *word).cast()).collect();
        let kinds: String = args.iter().map(kind).collect();
        let [name, letters] = [kernel, &kinds].map(|text| CString::new(text).unwrap());
        let threads = self.threads as c_uint;
        let (words, letters) = (pointers.as_mut_ptr(), letters.as_ptr());
        let launch = self.launch.lock().unwrap();
        // SAFETY: the caller of `Device::launch` guarantees that the arguments fit. They are little-endian 4-byte
        // elements, like the kernels' types.
        match unsafe { launch(name.as_ptr(), blocks, threads, words, letters, backwards) } {
            0 => Ok(()),
            1 => Err(fail(kernel, "unknown kernel")),
            _ => Err(fail(kernel, &format!("does not take arguments {kinds}"))),
        }
    }
}

impl Device for Host {
    fn name(&self) -> &str {
        "host"
    }

    fn alloc(&mut self, words: usize) -> Result<Words> {
        // A NaN, which shows if an element is read before it is written.
        let nan = u128::from(f32::NAN.to_bits());
        let mut memory = vec![nan << 96 | nan << 64 | nan << 32 | nan; words.div_ceil(4)].into_boxed_slice();
        let address = memory.as_mut_ptr() as u64;
        self.memory.push(memory);
        Ok(Words::new(address, words))
    }

    fn kept(&mut self) -> &mut Kept {
        &mut self.kept
    }

    fn release(&mut self) -> Result<()> {
        self.flush()?;
        self.kept = Kept::default();
        self.memory.clear();
        Ok(())
    }

    fn write(&mut self, to: Words, values: &[f32]) -> Result<()> {
        let to = to.part(0, values.len())?;
        self.flush()?;
        // SAFETY: the memory belongs to this device, and there are no other references to it.
        unsafe { floats(to) }.copy_from_slice(values);
        Ok(())
    }

    fn write_ints(&mut self, to: Words, values: &[i32]) -> Result<()> {
        let bits: Vec<f32> = values.iter().map(|n| f32::from_bits(*n as u32)).collect();
        self.write(to, &bits)
    }

    fn clear(&mut self, at: Words) -> Result<()> {
        self.calls.push(Call::Clear(at));
        Ok(())
    }

    fn read(&mut self, from: Words, out: &mut [f32]) -> Result<()> {
        self.flush()?;
        // SAFETY: the memory belongs to this device, and there are no other references to it.
        out.copy_from_slice(unsafe { floats(from.part(0, out.len())?) });
        Ok(())
    }

    unsafe fn launch(&mut self, kernel: &'static str, grid: LaunchGrid, args: &[Arg]) -> Result<()> {
        let blocks = match grid {
            LaunchGrid::Each(count) => count.div_ceil(self.threads),
            LaunchGrid::Rows(rows) => rows,
        };
        // One block less than requested: each must also process elements of the missing block.
        let blocks = blocks.saturating_sub(1).max(1) as c_uint;
        self.calls.push(Call::Launch(kernel, blocks, args.to_vec()));
        Ok(())
    }

    fn gemm(&mut self, gemm: &Gemm) -> Result<()> {
        gemm.check()?;
        self.calls.push(Call::Gemm(*gemm));
        Ok(())
    }

    fn convolves(&mut self, convolution: &Convolution) -> Result<bool> {
        Ok(self.convolves && convolution.padding().is_some())
    }

    fn convolve(&mut self, convolve: &Convolve) -> Result<()> {
        convolve.check()?;
        assert!(self.convolves(&convolve.convolution)?);
        self.calls.push(Call::Convolve(*convolve));
        Ok(())
    }
}
