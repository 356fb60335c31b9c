//! Plain loops on the host's memory, in place of the libraries of a GPU.

use milenas_models::Result;
use milenas_models::kernels::cuda::convolution::{Convolution, Convolve, Way};
use milenas_models::kernels::cuda::windows::Windows;
use milenas_models::kernels::cuda::{ByColumns, Gemm};

use super::floats;

/// Computes matrix products from the arguments that cuBLAS would get.
pub fn multiply(gemm: &Gemm) -> Result<()> {
    let ByColumns { sizes: [rows, columns, depth], left, right, right_transposed, leading, steps } =
        gemm.by_columns();
    let [of_left, of_right, of_c] = leading;
    for i in 0..gemm.batch {
        // SAFETY: the memory belongs to the host device, and the result does not overlap the operands.
        let (left, right, c) = unsafe {
            (
                floats(left.from(i * steps[0])?),
                floats(right.from(i * steps[1])?),
                floats(gemm.c.from(i * steps[2])?),
            )
        };
        for column in 0..columns {
            let c = &mut c[column * of_c..][..rows];
            if !gemm.add {
                c.fill(0.0);
            }
            for l in 0..depth {
                let factor =
                    right[if right_transposed { column + l * of_right } else { l + column * of_right }];
                c.iter_mut().zip(&left[l * of_left..][..rows]).for_each(|(c, x)| *c += factor * x);
            }
        }
    }
    Ok(())
}

/// Computes a convolution by its definition.
pub fn convolve(call: &Convolve) -> Result<()> {
    let Convolution { windows, outputs, groups } = call.convolution;
    let Windows { batch, input, output, kernel, stride, dilation, before, .. } = windows;
    let [_, of_group, ..] = call.convolution.weight();
    // SAFETY: the memory belongs to the host device, and the written tensor does not overlap the others.
    let (x, w, y) = unsafe { (floats(call.x), floats(call.w), floats(call.y)) };
    let [x_plane, y_plane] = [input, output].map(|[rows, columns]| rows * columns);
    if call.way == Way::ToWeight {
        w[..outputs * of_group * kernel[0] * kernel[1]].fill(0.0);
    }
    for (out, image, at) in (0..outputs * batch * y_plane)
        .map(|i| (i / (batch * y_plane), i / y_plane % batch, [i % y_plane / output[1], i % output[1]]))
    {
        let to_y = (out * batch + image) * y_plane + at[0] * output[1] + at[1];
        let mut sum = 0.0;
        for tap in 0..of_group * kernel[0] * kernel[1] {
            let to_w = out * of_group * kernel[0] * kernel[1] + tap;
            let within = [tap / kernel[1] % kernel[0], tap % kernel[1]];
            let pixel = |i: usize| {
                let at = (at[i] * stride[i] + within[i] * dilation[i]) as i64 - i64::from(before[i]);
                usize::try_from(at).ok().filter(|at| *at < input[i])
            };
            let (Some(row), Some(column)) = (pixel(0), pixel(1)) else { continue };
            let channel = out / (outputs / groups) * of_group + tap / (kernel[0] * kernel[1]);
            let to_x = (channel * batch + image) * x_plane + row * input[1] + column;
            match call.way {
                Way::Forward => sum += x[to_x] * w[to_w],
                Way::ToInput => x[to_x] += w[to_w] * y[to_y],
                Way::ToWeight => w[to_w] += x[to_x] * y[to_y],
            }
        }
        if call.way == Way::Forward {
            y[to_y] = sum;
        }
    }
    Ok(())
}
