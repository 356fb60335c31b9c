//! Reference implementation of convolution, which is its definition:
//! `y[n, o, p] = sum over i, k of w[o, i, k] x[n, i, p * stride + k * dilation - padding]`.

use super::{ConvGeometry, ReferenceKernel};

pub(super) struct Direct;

/// Calls `f(y index, x index, w index)` for every product of the sum.
fn each_product(g: &ConvGeometry, mut f: impl FnMut(usize, usize, usize)) {
    let (ins, outs) = (g.in_channels / g.groups, g.out_channels / g.groups);
    for n in 0..g.batch {
        for o in 0..g.out_channels {
            for i in 0..ins {
                let channel = o / outs * ins + i;
                for at in 0..g.out_plane() {
                    let (row, column) = (at / g.output[1], at % g.output[1]);
                    for tap in 0..g.taps() {
                        let r = row * g.stride[0] + tap / g.kernel[1] * g.dilation[0];
                        let c = column * g.stride[1] + tap % g.kernel[1] * g.dilation[1];
                        let (Some(r), Some(c)) =
                            (r.checked_sub(g.padding.top), c.checked_sub(g.padding.left))
                        else {
                            continue;
                        };
                        if r < g.input[0] && c < g.input[1] {
                            let x = (n * g.in_channels + channel) * g.in_plane() + r * g.input[1] + c;
                            f(
                                (n * g.out_channels + o) * g.out_plane() + at,
                                x,
                                (o * ins + i) * g.taps() + tap,
                            );
                        }
                    }
                }
            }
        }
    }
}

impl ReferenceKernel for Direct {
    fn forward(&self, g: &ConvGeometry, x: &[f32], w: &[f32], y: &mut [f32]) {
        each_product(g, |iy, ix, iw| y[iy] += w[iw] * x[ix]);
    }

    fn input_gradient(&self, g: &ConvGeometry, dy: &[f32], w: &[f32], dx: &mut [f32]) {
        each_product(g, |iy, ix, iw| dx[ix] += w[iw] * dy[iy]);
    }

    fn weight_gradient(&self, g: &ConvGeometry, dy: &[f32], x: &[f32], dw: &mut [f32]) {
        each_product(g, |iy, ix, iw| dw[iw] += x[ix] * dy[iy]);
    }
}
