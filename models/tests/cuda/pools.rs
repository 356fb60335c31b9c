//! Pools.

use milenas_models::kernels::cuda::pool::Pool;
use milenas_models::kernels::{Form, pool2d};
use milenas_models::op::{Pool2d, PoolKind};

use crate::THREADS;
use crate::host::devices;
use crate::tensors::*;

#[test]
fn pools_equal_their_definition() {
    for device in &mut devices(&THREADS) {
        for stride in [1, 2] {
            // Of coarse numbers many are equal: the first maximum has the gradient.
            for (batch, input, coarse) in
                [(1, [7, 5], true), (3, [4, 6], false), (2, [1, 1], true), (2, [2, 9], true)]
            {
                let device = &mut **device;
                let output = input.map(|n: usize| n.div_ceil(stride));
                let pool = Pool { planes: 3 * batch, input, output, stride };
                let name = |what: &str| format!("{what} of {pool:?}");
                let x = leaf(tensor(&[batch, 3, input[0], input[1]], 1, coarse));
                let upstream = tensor(&[batch, 3, output[0], output[1]], 2, false);
                let values = put(device, &map(&x));
                let dy = put(device, &map(&upstream));
                let y = device.alloc(dy.len()).unwrap();
                let taps = device.alloc(dy.len()).unwrap();
                for kind in [PoolKind::Max, PoolKind::Average { count_padding: false }] {
                    let expected = pool2d(&x, &Pool2d::new(kind, 3, stride), Form::Slow).unwrap();
                    let gradients = weighed(&[(expected.clone(), upstream.clone())]).backward().unwrap();
                    let before = tensor(x.dims(), 3, false);
                    let dx = put(device, &map(&before));
                    match kind {
                        PoolKind::Max => {
                            pool.max(device, values, y, taps).unwrap();
                            pool.max_gradient(device, dy, taps, dx).unwrap();
                        }
                        PoolKind::Average { .. } => {
                            pool.average(device, values, y).unwrap();
                            pool.average_gradient(device, dy, dx).unwrap();
                        }
                    }
                    check(device, &name("y"), y, &map(&expected));
                    let expected = map(&(gradients.get(&x).unwrap() + before).unwrap());
                    check(device, &name("dx, added"), dx, &expected);
                }
                device.release().unwrap();
            }
        }
    }
}
