//! Tests of pools.

use milenas_models::kernels::cuda::Words;
use milenas_models::kernels::cuda::pool::Pool;
use milenas_models::kernels::{Implementation, pool2d};
use milenas_models::op::{Pool2d, PoolKind};

use crate::THREADS;
use crate::host::devices;
use crate::tensors::*;

#[test]
fn pools_equal_their_definition() {
    for device in &mut devices(&THREADS) {
        for stride in [1, 2] {
            // Coarse values have many ties, where the first maximum gets the gradient.
            for (batch, input, coarse) in [
                (1, [7, 5], true),
                (3, [4, 6], false),
                (2, [1, 1], true),
                (2, [2, 9], true),
                (1, [8, 11], false),
            ] {
                let device = &mut **device;
                let output = input.map(|n: usize| n.div_ceil(stride));
                let pool = Pool { planes: 3 * batch, input, output, stride };
                let name = |what: &str| format!("{what} of {pool:?}");
                let x = leaf(tensor(&[batch, 3, input[0], input[1]], 1, coarse));
                let upstream = tensor(&[batch, 3, output[0], output[1]], 2, false);
                let values = put(device, &map(&x));
                let dy = put(device, &map(&upstream));
                let [y, means, taps] = [(); 3].map(|()| device.alloc(dy.len()).unwrap());
                let [both, before] = [3, 4].map(|seed| tensor(x.dims(), seed, false));
                let (d_both, mut expected_both) = (put(device, &map(&both)), both);
                pool.forward(device, values, y, taps, means).unwrap();
                pool.backward(device, dy, taps, dy, d_both).unwrap();
                for kind in [PoolKind::Max, PoolKind::Average { count_padding: false }] {
                    let expected =
                        pool2d(&x, &Pool2d::new(kind, 3, stride), Implementation::Reference).unwrap();
                    let gradients = weighed(&[(expected.clone(), upstream.clone())]).backward().unwrap();
                    let dx = put(device, &map(&before));
                    let gradient = gradients.get(&x).unwrap();
                    expected_both = (expected_both + gradient).unwrap();
                    let [alone, none] = [device.alloc(dy.len()).unwrap(), Words::NONE];
                    if kind == PoolKind::Max {
                        pool.forward(device, values, alone, taps, none).unwrap();
                        pool.backward(device, dy, taps, none, dx).unwrap();
                        check(device, &name("largest, with means"), y, &map(&expected));
                    } else {
                        pool.forward(device, values, none, taps, alone).unwrap();
                        pool.backward(device, none, taps, dy, dx).unwrap();
                        check(device, &name("means, with largest"), means, &map(&expected));
                    }
                    check(device, &name("y"), alone, &map(&expected));
                    check(device, &name("dx, added"), dx, &map(&(gradient + &before).unwrap()));
                }
                check(device, &name("dx of both"), d_both, &map(&expected_both));
                device.release().unwrap();
            }
        }
    }
}
