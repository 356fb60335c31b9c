//! Convolutions with cuDNN, which is loaded when a device is opened. Only algorithms with a fixed order of summation
//! are used.
//!
//! cuDNN computes gradients only for the layout `[image][channel][row][column]`. The layout here is
//! `[channel][image][row][column]`, which equals one image of a volume whose slices are the images. So cuDNN gets
//! convolutions of volumes, with kernels of one slice.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::c_int;
use std::sync::Arc;

use cudarc::cudnn::{self, ConvBackwardData, ConvBackwardFilter, ConvForward, CudnnError, sys};
use cudarc::driver::{self, CudaStream, DevicePtr, DevicePtrMut, DeviceSlice, SyncOnDrop};

use super::config::Rounding;
use super::convolution::{Convolution, Convolve, Way};
use super::device::device_error;
use super::open::{failed, require};
use crate::Result;

/// Forward algorithms in order of preference: the one with precomputed indices, then the one without workspace.
const FORWARD: [sys::cudnnConvolutionFwdAlgo_t; 2] = [
    sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
    sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM,
];
const TO_INPUT: sys::cudnnConvolutionBwdDataAlgo_t =
    sys::cudnnConvolutionBwdDataAlgo_t::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
const TO_WEIGHT: sys::cudnnConvolutionBwdFilterAlgo_t =
    sys::cudnnConvolutionBwdFilterAlgo_t::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;

/// Size of the workspace of the algorithms, in bytes. The gradients of weights need about 50 MB.
const WORKSPACE: usize = 128 << 20;

/// The library, and the convolutions that were described to it.
pub(super) struct Cudnn {
    library: Arc<cudnn::Cudnn>,
    stream: Arc<CudaStream>,
    math: sys::cudnnMathType_t,
    /// Address of the workspace.
    workspace: u64,
    /// Plan of each convolution; `None` for those that cuDNN does not support.
    plans: HashMap<Convolution, Option<CudnnPlan>>,
}

/// Descriptors of the tensors and of the convolution, and the forward algorithm.
struct CudnnPlan {
    x: cudnn::TensorDescriptor<f32>,
    y: cudnn::TensorDescriptor<f32>,
    w: cudnn::FilterDescriptor<f32>,
    how: cudnn::ConvDescriptor<f32>,
    forward: sys::cudnnConvolutionFwdAlgo_t,
}

/// A range of device memory, in the form that cudarc takes.
struct DeviceMemory<'a> {
    address: u64,
    bytes: usize,
    stream: &'a Arc<CudaStream>,
}

impl<T> DeviceSlice<T> for DeviceMemory<'_> {
    fn len(&self) -> usize {
        self.bytes / size_of::<T>()
    }

    fn stream(&self) -> &Arc<CudaStream> {
        self.stream
    }
}

/// The caller keeps the order of calls, so no synchronisation is needed.
impl<T> DevicePtr<T> for DeviceMemory<'_> {
    fn device_ptr<'a>(&'a self, _: &'a CudaStream) -> (u64, SyncOnDrop<'a>) {
        (self.address, SyncOnDrop::Sync(None))
    }
}

impl<T> DevicePtrMut<T> for DeviceMemory<'_> {
    fn device_ptr_mut<'a>(&'a mut self, _: &'a CudaStream) -> (u64, SyncOnDrop<'a>) {
        (self.address, SyncOnDrop::Sync(None))
    }
}

/// Returns `None` if cuDNN reports an unsupported operation; such statuses are between 3000 and 3999.
fn done<T>(what: &str, result: std::result::Result<T, CudnnError>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(CudnnError(status)) if (3000..4000).contains(&(status as u32)) => Ok(None),
        other => failed(what, other).map(Some),
    }
}

/// Converts sizes to cuDNN's `int`s.
fn ints<const N: usize>(numbers: [usize; N]) -> Result<[c_int; N]> {
    let mut out = [0; N];
    for (out, n) in out.iter_mut().zip(numbers) {
        *out = c_int::try_from(n)
            .map_err(|_| device_error("cudnn", format!("{n} is too large a size. help: a smaller batch")))?;
    }
    Ok(out)
}

impl Cudnn {
    /// Suffix of the device's name.
    pub(super) const NAME: &str = ", cuDNN";

    /// Opens the library. Its work runs in `stream`.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if the library is missing, has an unsupported version or does not
    /// start, or there is too little memory.
    pub(super) fn open(stream: &Arc<CudaStream>, rounding: Rounding) -> Result<Cudnn> {
        // SAFETY: the call only opens the library and closes it.
        let present = unsafe { sys::is_culib_present() };
        require(present, "libcudnn", "which a build with the feature `cudnn` convolves with")?;
        let version = cudnn::result::get_version();
        if version / 10_000 != 9 {
            let problem = format!(
                "found cuDNN of version {version}, expected one of 9, e.g. 92100. help: set LD_LIBRARY_PATH to its folder"
            );
            return Err(device_error("cudnn", problem));
        }
        let library = failed("opening it", cudnn::Cudnn::new(stream.clone()))?;
        let math = match rounding {
            Rounding::None => sys::cudnnMathType_t::CUDNN_FMA_MATH,
            // The default mode lets cuDNN choose how to round operands.
            Rounding::Tf32 | Rounding::Bf16 => sys::cudnnMathType_t::CUDNN_DEFAULT_MATH,
        };
        // SAFETY: the allocation has no preconditions; `drop` frees it once.
        let workspace = failed("memory", unsafe { driver::result::malloc_sync(WORKSPACE) })?;
        Ok(Cudnn { library, stream: stream.clone(), math, workspace, plans: HashMap::new() })
    }

    /// Returns whether the library supports a convolution, and remembers its plan.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if a size is too large, or with an error of cuDNN other than an
    /// unsupported operation.
    pub(super) fn plan(&mut self, convolution: &Convolution) -> Result<bool> {
        if let Some(known) = self.plans.get(convolution) {
            return Ok(known.is_some());
        }
        let found = match convolution.padding() {
            Some(padding) => self.describe(convolution, padding)?,
            None => None,
        };
        let does = found.is_some();
        self.plans.insert(*convolution, found);
        Ok(does)
    }

    /// Returns `None` if an algorithm is missing or needs more memory than the workspace.
    fn describe(&self, convolution: &Convolution, padding: [usize; 2]) -> Result<Option<CudnnPlan>> {
        let (what, windows, library) = ("describing a convolution", &convolution.windows, &self.library);
        let map = |channels: usize, [rows, columns]: [usize; 2]| {
            let (plane, images) = (rows * columns, windows.batch);
            let sizes = ints([1, channels, images, rows, columns])?;
            let steps = ints([channels * images * plane, images * plane, plane, columns, 1])?;
            done(what, library.create_nd_tensor(&sizes, &steps))
        };
        let [outputs, inputs, rows, columns] = convolution.weight();
        let weight = ints([outputs, inputs, 1, rows, columns])?;
        let [padding, stride, dilation] = [(0, padding), (1, windows.stride), (1, windows.dilation)]
            .map(|(slices, [rows, columns])| ints([slices, rows, columns]));
        let order = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW;
        let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        let (Some(x), Some(y), Some(w), Some(mut how)) = (
            map(windows.channels, windows.input)?,
            map(outputs, windows.output)?,
            done(what, library.create_5d_filter(order, weight))?,
            done(what, library.create_convnd(&padding?, &stride?, &dilation?, mode))?,
        ) else {
            return Ok(None);
        };
        let [groups] = ints([convolution.groups])?;
        if done(what, how.set_group_count(groups))?.and(done(what, how.set_math_type(self.math))?).is_none() {
            return Ok(None);
        }
        let mut plan = CudnnPlan { x, y, w, how, forward: FORWARD[0] };
        let fits = |bytes| Ok::<_, crate::Error>(done(what, bytes)?.is_some_and(|n: usize| n <= WORKSPACE));
        for forward in FORWARD {
            plan.forward = forward;
            if fits(plan.forward().get_workspace_size(forward))? {
                let back = fits(plan.to_input().get_workspace_size(TO_INPUT))?
                    && fits(plan.to_weight().get_workspace_size(TO_WEIGHT))?;
                return Ok(back.then_some(plan));
            }
        }
        Ok(None)
    }

    /// Enqueues a convolution.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if the convolution was not planned, or with the status of cuDNN.
    pub(super) fn make(&self, call: &Convolve) -> Result<()> {
        let Some(Some(plan)) = self.plans.get(&call.convolution) else {
            return Err(device_error("cudnn", "a convolution that it does not do. help: this is a bug"));
        };
        let at = |address, bytes| DeviceMemory { address, bytes, stream: &self.stream };
        let [mut x, mut w, mut y] =
            [call.x, call.w, call.y].map(|words| at(words.address(), 4 * words.len()));
        let room = &mut at(self.workspace, WORKSPACE);
        // SAFETY: `Convolve::check` has checked the sizes of the tensors, and the plan describes their shapes.
        let done = unsafe {
            match call.way {
                Way::Forward => plan.forward().launch(plan.forward, Some(room), (1.0, 0.0), &x, &w, &mut y),
                Way::ToInput => plan.to_input().launch(TO_INPUT, Some(room), (1.0, 1.0), &mut x, &w, &y),
                Way::ToWeight => plan.to_weight().launch(TO_WEIGHT, Some(room), (1.0, 0.0), &x, &mut w, &y),
            }
        };
        failed("a convolution", done)
    }
}

impl Drop for Cudnn {
    fn drop(&mut self) {
        // SAFETY: the memory comes from `malloc_sync`, and the device has finished all work that uses it.
        let _ = unsafe { driver::result::free_sync(self.workspace) };
    }
}

impl CudnnPlan {
    fn forward(&self) -> ConvForward<'_, f32, f32, f32> {
        ConvForward { conv: &self.how, x: &self.x, w: &self.w, y: &self.y }
    }

    fn to_input(&self) -> ConvBackwardData<'_, f32, f32, f32> {
        ConvBackwardData { conv: &self.how, dx: &self.x, w: &self.w, dy: &self.y }
    }

    fn to_weight(&self) -> ConvBackwardFilter<'_, f32, f32, f32> {
        ConvBackwardFilter { conv: &self.how, x: &self.x, dw: &self.w, dy: &self.y }
    }
}
