//! Convolutions by cuDNN, looked for when a device is opened. Of its algorithms only those that always sum in the same order.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::c_int;
use std::sync::Arc;

use cudarc::cudnn::{self, ConvBackwardData, ConvBackwardFilter, ConvForward, CudnnError, sys};
use cudarc::driver::{CudaStream, DevicePtr, DevicePtrMut, DeviceSlice, SyncOnDrop};

use super::convolution::{Convolution, Convolve, Way};
use super::device::{Rounding, device_error};
use crate::Result;

/// The one with tables made ahead, then the one that needs no memory.
const FORWARD: [sys::cudnnConvolutionFwdAlgo_t; 2] = [
    sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
    sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM,
];
const TO_INPUT: sys::cudnnConvolutionBwdDataAlgo_t =
    sys::cudnnConvolutionBwdDataAlgo_t::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
const TO_WEIGHT: sys::cudnnConvolutionBwdFilterAlgo_t =
    sys::cudnnConvolutionBwdFilterAlgo_t::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;

/// The library, and what it was told of convolutions.
pub(super) struct Cudnn {
    library: Arc<cudnn::Cudnn>,
    stream: Arc<CudaStream>,
    math: sys::cudnnMathType_t,
    /// `None` for those that it does not do.
    plans: HashMap<Convolution, Option<Plan>>,
}

/// Descriptions of maps and weight, and of what is done with them.
struct Plan {
    x: cudnn::TensorDescriptor<f32>,
    y: cudnn::TensorDescriptor<f32>,
    w: cudnn::FilterDescriptor<f32>,
    how: cudnn::ConvDescriptor<f32>,
    forward: sys::cudnnConvolutionFwdAlgo_t,
}

/// Memory of a device, as cudarc takes it.
struct At<'a> {
    address: u64,
    bytes: usize,
    stream: &'a Arc<CudaStream>,
}

impl<T> DeviceSlice<T> for At<'_> {
    fn len(&self) -> usize {
        self.bytes / size_of::<T>()
    }

    fn stream(&self) -> &Arc<CudaStream> {
        self.stream
    }
}

/// Whoever asks keeps the order of calls.
impl<T> DevicePtr<T> for At<'_> {
    fn device_ptr<'a>(&'a self, _: &'a CudaStream) -> (u64, SyncOnDrop<'a>) {
        (self.address, SyncOnDrop::Sync(None))
    }
}

impl<T> DevicePtrMut<T> for At<'_> {
    fn device_ptr_mut<'a>(&'a mut self, _: &'a CudaStream) -> (u64, SyncOnDrop<'a>) {
        (self.address, SyncOnDrop::Sync(None))
    }
}

fn failed<T>(what: &str, result: std::result::Result<T, CudnnError>) -> Result<T> {
    result.map_err(|error| device_error(&format!("cudnn, {what}"), error.to_string()))
}

/// As cuDNN's `int`s.
fn ints<const N: usize>(numbers: [usize; N]) -> Result<[c_int; N]> {
    let mut out = [0; N];
    for (out, n) in out.iter_mut().zip(numbers) {
        *out = c_int::try_from(n)
            .map_err(|_| device_error("cudnn", format!("{n} is too large a size. Help: a smaller batch")))?;
    }
    Ok(out)
}

impl Cudnn {
    /// What it does is asked for in this stream.
    ///
    /// # Errors
    /// A library that is missing or does not start.
    pub(super) fn open(stream: &Arc<CudaStream>, rounding: Rounding) -> Result<Cudnn> {
        // SAFETY: opens the library and closes it.
        if !unsafe { sys::is_culib_present() } {
            let problem = "libcudnn is not found, which this build convolves with. Help: set LD_LIBRARY_PATH to its folder, as \
                           docs/cuda.md shows, or build with the feature `cuda` alone";
            return Err(device_error("cudnn", problem));
        }
        let library = failed("opening it", cudnn::Cudnn::new(stream.clone()))?;
        let math = match rounding {
            Rounding::None => sys::cudnnMathType_t::CUDNN_FMA_MATH,
            // It rounds float32 to TF32 and no further.
            Rounding::Tf32 | Rounding::Bf16 => sys::cudnnMathType_t::CUDNN_DEFAULT_MATH,
        };
        Ok(Cudnn { library, stream: stream.clone(), math, plans: HashMap::new() })
    }

    /// Whether it convolves so, with so many bytes to work in.
    ///
    /// # Errors
    /// A size that is too large; what cuDNN says, but that it does not.
    pub(super) fn plan(&mut self, convolution: &Convolution, workspace: usize) -> Result<bool> {
        if let Some(known) = self.plans.get(convolution) {
            return Ok(known.is_some());
        }
        let found = match convolution.padding() {
            Some(padding) => self.describe(convolution, padding, workspace)?,
            None => None,
        };
        let does = found.is_some();
        self.plans.insert(*convolution, found);
        Ok(does)
    }

    /// `None` where an algorithm is not there or needs more memory.
    fn describe(
        &self,
        convolution: &Convolution,
        padding: [usize; 2],
        workspace: usize,
    ) -> Result<Option<Plan>> {
        let (what, windows, library) = ("describing a convolution", &convolution.windows, &self.library);
        let map = |channels: usize, [rows, columns]: [usize; 2], by_image: bool| {
            let plane = rows * columns;
            let [image, channel] =
                if by_image { [channels * plane, plane] } else { [plane, windows.batch * plane] };
            let sizes = ints([windows.batch, channels, rows, columns])?;
            failed(what, library.create_4d_tensor_ex(sizes, ints([image, channel, columns, 1])?))
        };
        let order = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW;
        let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        let [padding, stride, dilation] = [ints(padding)?, ints(windows.stride)?, ints(windows.dilation)?];
        let mut plan = Plan {
            x: map(windows.channels, windows.input, convolution.by_image)?,
            y: map(convolution.outputs, windows.output, false)?,
            w: failed(what, library.create_4d_filter(order, ints(convolution.weight())?))?,
            how: failed(what, library.create_conv2d(padding, stride, dilation, mode))?,
            forward: FORWARD[0],
        };
        let [groups] = ints([convolution.groups])?;
        failed(what, plan.how.set_group_count(groups))?;
        failed(what, plan.how.set_math_type(self.math))?;
        let fits = |bytes: std::result::Result<usize, CudnnError>| bytes.is_ok_and(|n| n <= workspace);
        let forward = FORWARD.into_iter().find(|way| fits(plan.forward().get_workspace_size(*way)));
        let back = fits(plan.to_input().get_workspace_size(TO_INPUT))
            && fits(plan.to_weight().get_workspace_size(TO_WEIGHT));
        Ok(forward.filter(|_| back).map(|forward| Plan { forward, ..plan }))
    }

    /// Asks for it, with so many bytes at an address to work in.
    ///
    /// # Errors
    /// One that was not planned; what cuDNN says.
    pub(super) fn make(&self, call: &Convolve, workspace: u64, bytes: usize) -> Result<()> {
        let Some(Some(plan)) = self.plans.get(&call.convolution) else {
            return Err(device_error("cudnn", "a convolution that it does not do. Help: this is a bug"));
        };
        let at = |address, bytes| At { address, bytes, stream: &self.stream };
        let [mut x, mut w, mut y] =
            [call.x, call.w, call.y].map(|words| at(words.address(), 4 * words.len()));
        let room = &mut at(workspace, bytes);
        // SAFETY: the sizes of the words are checked, and the plan describes what is in them.
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

impl Plan {
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
