//! Tests of sums of feature maps, and of feature maps times factors.

use milenas_models::kernels::cuda::sums::{accumulate, weigh};

use crate::THREADS;
use crate::host::devices;
use crate::tensors::*;

#[test]
fn maps_are_added_up_and_images_weighed() {
    for device in &mut devices(&THREADS) {
        let device = &mut **device;
        let [x, y, factors] =
            [[3, 5, 2, 7], [3, 5, 2, 7], [1, 5, 1, 1]].map(|shape| tensor(&shape, 1, false));
        let y = (y * 2.0).unwrap();
        let (from, to, by_image) =
            (put(device, &flat(&x)), put(device, &flat(&y)), put(device, &flat(&factors)));
        accumulate(device, from, to, from.len(), true).unwrap();
        let sum = (&x + y).unwrap();
        check(device, "sum", to, &flat(&sum));
        weigh(device, to, by_image, 3, 5, 14).unwrap();
        check(device, "weighed", to, &flat(&sum.broadcast_mul(&factors).unwrap()));
        accumulate(device, from, to, from.len(), false).unwrap();
        check(device, "copy", to, &flat(&x));
    }
}
