//! Matrix products with cuBLAS.
#![allow(unsafe_code)]

use std::sync::Arc;

use cudarc::cublas::{CudaBlas, result, sys};
use cudarc::driver::{self, CudaStream};

use super::config::Rounding;
use super::device::{ByColumns, Gemm};
use super::open::failed;
use crate::Result;

/// Size of the workspace of cuBLAS, in bytes.
const WORKSPACE: usize = 32 << 20;

/// The cuBLAS library.
pub(super) struct Blas {
    library: CudaBlas,
    compute: sys::cublasComputeType_t,
    /// Address of the workspace. Without it, cuBLAS would allocate one while a sequence is recorded.
    workspace: u64,
}

impl Blas {
    /// Opens the library, which must be present. Its work runs in `stream`.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if the library does not start or there is too little memory.
    pub(super) fn open(stream: &Arc<CudaStream>, rounding: Rounding) -> Result<Blas> {
        let library = failed("opening cuBLAS", CudaBlas::new(stream.clone()))?;
        let compute = match rounding {
            Rounding::None => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            Rounding::Tf32 => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
            Rounding::Bf16 => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_16BF,
        };
        // SAFETY: the allocation has no preconditions; `drop` frees it once.
        let workspace = failed("memory", unsafe { driver::result::malloc_sync(WORKSPACE) })?;
        let blas = Blas { library, compute, workspace };
        // SAFETY: the handle is open, and the workspace has WORKSPACE bytes.
        let status =
            unsafe { sys::cublasSetWorkspace_v2(*blas.library.handle(), workspace as *mut _, WORKSPACE) };
        failed("opening cuBLAS", status.result())?;
        Ok(blas)
    }

    /// Enqueues a matrix product.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) with the status of cuBLAS.
    pub(super) fn make(&self, gemm: &Gemm) -> Result<()> {
        use sys::cublasGemmAlgo_t::CUBLAS_GEMM_DFALT;
        use sys::cublasOperation_t::{CUBLAS_OP_N, CUBLAS_OP_T};
        use sys::cudaDataType_t::CUDA_R_32F;

        let ByColumns { sizes, left, right, right_transposed, leading, steps } = gemm.by_columns();
        if gemm.batch == 0 || sizes[0] == 0 || sizes[1] == 0 {
            return Ok(());
        }
        let ([rows, columns, depth], [of_left, of_right, of_c]) =
            (sizes.map(|n| n as i32), leading.map(|n| n as i32));
        let [left_step, right_step, c_step] = steps.map(|step| step as i64);
        let (alpha, beta) = (1f32, f32::from(u8::from(gemm.add)));
        // SAFETY: `Gemm::check` has checked the sizes, and `alpha` and `beta` are read before the call returns.
        let done = unsafe {
            result::gemm_strided_batched_ex(
                *self.library.handle(),
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

impl Drop for Blas {
    fn drop(&mut self) {
        // SAFETY: the memory comes from `malloc_sync`, and the device has finished all work that uses it.
        let _ = unsafe { driver::result::free_sync(self.workspace) };
    }
}
