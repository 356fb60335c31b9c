//! Access to tensors in main memory as slices.

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor};

/// Returns the values of a contiguous f32 storage.
pub(super) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| candle_core::Error::Msg("a kernel needs a contiguous tensor".into()))?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// Calls `f` with the values of a tensor in row-major order.
pub(super) fn with_slice<T>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(f(slice(storage, layout)?)),
        Storage::Cuda(_) | Storage::Metal(_) => {
            Err(candle_core::Error::Msg("this kernel runs on the CPU only".into()))
        }
    }
}
