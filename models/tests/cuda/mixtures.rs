//! Tests of mixtures: two edges from one state, whose terms share a feature map, use one alone, or use the state
//! itself.

use candle_core::Tensor;
use milenas_models::kernels::cuda::mixture::{Edges, Sources};
use milenas_models::kernels::cuda::norm::{self, CudaMoments, CudaScaling, TermMaps, Terms, Weight};

use crate::THREADS;
use crate::host::devices;
use crate::norms::{normalised, slopes};
use crate::tensors::*;

const CHANNELS: usize = 3;

/// Feature map (or -1) and node of each term. Sorted by feature map, the state last.
const TERMS: [(i32, i32); 6] = [(0, 2), (1, 1), (1, 2), (2, 1), (-1, 1), (-1, 2)];
/// Index of the first term of each feature map, and last of the state.
const FIRST: [i32; 5] = [0, 1, 3, 4, 6];
/// Terms of nodes 1 and 2.
const EDGES: [&[i32]; 2] = [&[1, 3, 4], &[0, 2, 5]];

#[test]
fn mixtures_equal_their_definition() {
    for device in &mut devices(&THREADS) {
        for (batch, [rows, columns], add) in [(1, [3, 5], false), (4, [2, 2], true), (9, [16, 17], true)] {
            let device = &mut **device;
            let (length, shape) = (batch * rows * columns, [batch, CHANNELS, rows, columns]);
            let maps: Vec<_> = (0..3).map(|i| leaf(tensor(&shape, i, false))).collect();
            let x = leaf(tensor(&shape, 9, false));
            let weights: Vec<_> = (0..6).map(|i| leaf(tensor(&[1, 1, 1, 1], 20 + i, false))).collect();
            let before = tensor(&[3, batch, CHANNELS, rows, columns], 7, false);
            let upstream = tensor(before.dims(), 8, false);
            let node = |tensor: &Tensor, at: usize| tensor.get(at).unwrap();
            let results: Vec<Tensor> = EDGES
                .iter()
                .enumerate()
                .map(|(edge, terms)| {
                    let term = |&t: &i32| {
                        let map =
                            usize::try_from(TERMS[t as usize].0).ok().map(|i| normalised(&maps[i], None));
                        map.unwrap_or_else(|| x.as_tensor().clone())
                            .broadcast_mul(&weights[t as usize])
                            .unwrap()
                    };
                    let sum = terms.iter().map(term).reduce(|a, b| (a + b).unwrap()).unwrap();
                    if add { (sum + node(&before, edge + 1)).unwrap() } else { sum }
                })
                .collect();
            let pairs: Vec<_> =
                results.iter().cloned().zip([node(&upstream, 1), node(&upstream, 2)]).collect();
            let gradients = weighed(&pairs).backward().unwrap();

            let z = put(device, &maps.iter().flat_map(|x| map(x)).collect::<Vec<_>>());
            let state = put(device, &map(&x));
            let all = |t: &Tensor| (0..3).flat_map(|i| map(&node(t, i))).collect::<Vec<_>>();
            let (nodes, gradient) = (put(device, &all(&before)), put(device, &all(&upstream)));
            let moments =
                CudaMoments { mean: zeros(device, 3 * CHANNELS), variance: zeros(device, 3 * CHANNELS) };
            norm::moments(device, z, moments, 3 * CHANNELS, length).unwrap();
            let terms = Terms {
                count: 6,
                channels: CHANNELS,
                source: put_ints(device, &TERMS.map(|(map, _)| map)),
                target: put_ints(device, &TERMS.map(|(_, node)| node)),
                weight: Weight::OfTerm(put(
                    device,
                    &weights.iter().flat_map(|w| flat(w)).collect::<Vec<_>>(),
                )),
            };
            let factors =
                CudaScaling { scale: zeros(device, 6 * CHANNELS), shift: zeros(device, 6 * CHANNELS) };
            terms.scaling(device, moments, milenas_models::kernels::cuda::Words::NONE, factors).unwrap();
            let edges = Edges {
                count: 2,
                first: put_ints(device, &[0, 3, 6]),
                terms: put_ints(device, &EDGES.concat()),
                target: put_ints(device, &[1, 2]),
                length,
            };
            let term_maps = TermMaps { z, x: state };
            edges.forward(device, &terms, term_maps, factors, nodes, add).unwrap();
            let expected: Vec<f32> =
                map(&node(&before, 0)).into_iter().chain(results.iter().flat_map(map)).collect();
            check(device, "nodes", nodes, &expected);

            let slopes = slopes(device, 6 * CHANNELS);
            terms.coefficients(device, gradient, term_maps, length, moments, &slopes).unwrap();
            let found: Vec<f32> =
                get(device, slopes.reach).chunks_exact(CHANNELS).map(|c| c.iter().sum()).collect();
            let expected: Vec<f32> = weights.iter().flat_map(|w| flat(gradients.get(w).unwrap())).collect();
            assert_close("gradients of the weights", &found, &expected, VALUES);
            let first = put_ints(device, &FIRST);
            let sources = Sources { count: 3, first, target: terms.target, size: [CHANNELS, length] };
            sources.backward(device, gradient, z, &slopes, z, false).unwrap();
            let expected: Vec<f32> = maps.iter().flat_map(|x| map(gradients.get(x).unwrap())).collect();
            assert_close("gradients of the maps", &get(device, z), &expected, VALUES);
            let before = tensor(&shape, 11, false);
            let dx = put(device, &map(&before));
            let sources = Sources {
                count: 1,
                first: first.part(3, 2).unwrap(),
                target: terms.target,
                size: [CHANNELS, length],
            };
            sources.backward(device, gradient, state, &slopes, dx, true).unwrap();
            check(
                device,
                "gradient of the state, added",
                dx,
                &map(&(gradients.get(&x).unwrap() + before).unwrap()),
            );
            device.release().unwrap();
        }
    }
}
