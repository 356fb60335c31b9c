//! Groups of operations that primitives and cells share. Their names are those of PyTorch's `Sequential`.

use crate::graph::{Builder, Value};
use crate::op::{
    Add, BatchNorm, Concat, Conv2d, Flatten, GlobalAvgPool, Linear, Padding, Pool2d, PoolKind, Range, Relu,
    Slice,
};
use crate::primitive::Style;
use crate::{Error, Result, Skeleton};

/// Emits ReLU, convolution with an odd side, BatchNorm:
/// `[N, C, H, W] -> [N, channels, ceil(H/stride), ceil(W/stride)]`.
pub(crate) fn relu_conv_bn(
    b: &mut Builder,
    x: Value,
    channels: usize,
    side: usize,
    stride: usize,
    affine: bool,
) -> Result<Value> {
    let (from, ..) = b.chw(x)?;
    let conv = Conv2d::new(from, channels, side).padding(Padding::all(side / 2)).stride(stride);
    let x = b.wire("0", Relu, &[x])?;
    let x = b.wire("1", conv, &[x])?;
    b.wire("2", BatchNorm::new(channels, affine), &[x])
}

/// Emits the residual block of NAS-Bench-201 that halves the image. It adds two convolutions, the first of stride 2,
/// to an average pool with a `1x1` convolution. `[N, C, H, W] -> [N, channels, ceil(H/2), ceil(W/2)]`.
pub fn residual_reduction(b: &mut Builder, x: Value, channels: usize, style: Style) -> Result<Value> {
    let affine = style.affine();
    let a = b.scope("conv_a", |b| relu_conv_bn(b, x, channels, 3, 2, affine))?;
    let a = b.scope("conv_b", |b| relu_conv_bn(b, a, channels, 3, 1, affine))?;
    let past = b.scope("downsample", |b| {
        let (from, height, width) = b.chw(x)?;
        let padding = Padding { bottom: height % 2, right: width % 2, ..Padding::default() };
        let kind = PoolKind::Average { count_padding: false };
        let pool = Pool2d { padding, ..Pool2d::new(kind, 2, 2) };
        let x = b.wire("0", pool, &[x])?;
        b.wire("1", Conv2d::pointwise(from, channels), &[x])
    })?;
    b.wire("add", Add, &[a, past])
}

/// Emits ReLU, depthwise convolution, `1x1` convolution, BatchNorm, with names numbered from `first`.
pub(crate) fn depthwise(
    b: &mut Builder,
    first: usize,
    x: Value,
    kernel: usize,
    stride: usize,
    dilation: usize,
    affine: bool,
) -> Result<Value> {
    let (channels, ..) = b.chw(x)?;
    let name = |i: usize| (first + i).to_string();
    let x = b.wire(&name(0), Relu, &[x])?;
    let x = b.wire(&name(1), Conv2d::depthwise(channels, kernel, stride, dilation), &[x])?;
    let x = b.wire(&name(2), Conv2d::pointwise(channels, channels), &[x])?;
    b.wire(&name(3), BatchNorm::new(channels, affine), &[x])
}

/// Emits ReLU, `1 x kernel` convolution, `kernel x 1` convolution, BatchNorm. Each convolution is strided along its
/// length.
pub(crate) fn asymmetric(
    b: &mut Builder,
    x: Value,
    channels: usize,
    kernel: usize,
    stride: usize,
    affine: bool,
) -> Result<Value> {
    let reach = kernel / 2;
    let conv = |kernel, stride, rows, columns| {
        let padding = Padding { top: rows, bottom: rows, left: columns, right: columns };
        Conv2d { kernel, stride, padding, ..Conv2d::pointwise(channels, channels) }
    };
    let x = b.wire("0", Relu, &[x])?;
    let x = b.wire("1", conv([1, kernel], [1, stride], 0, reach), &[x])?;
    let x = b.wire("2", conv([kernel, 1], [stride, 1], reach, 0), &[x])?;
    b.wire("3", BatchNorm::new(channels, affine), &[x])
}

/// Emits FactorizedReduce, which halves the image without losing pixels. It is ReLU, two concatenated `1x1`
/// convolutions of stride 2, the second shifted by one row and column, and BatchNorm.
/// `[N, C, H, W] -> [N, channels, ceil(H/2), ceil(W/2)]`.
///
/// PyTorch's variant needs even sizes. For an odd size, the second convolution reads zeros past the edge.
pub(crate) fn factorized_reduce(b: &mut Builder, x: Value, channels: usize, affine: bool) -> Result<Value> {
    let (from, height, width) = b.chw(x)?;
    let half = |channels| Conv2d::pointwise(from, channels).stride(2);
    let odd = Padding { bottom: height % 2, right: width % 2, ..Padding::default() };
    let x = b.wire("relu", Relu, &[x])?;
    // An axis of one pixel has no shifted pixel: only the padding is read.
    let from = |axis, size: usize| Range { axis, start: usize::from(size > 1), end: size };
    let shift = Slice { ranges: vec![from(2, height), from(3, width)] };
    let shifted = b.wire("shift", shift, &[x])?;
    let even = b.wire("even", half(channels / 2), &[x])?;
    let odd = b.wire("odd", half(channels - channels / 2).padding(odd), &[shifted])?;
    let x = b.wire("concat", Concat { axis: 1 }, &[even, odd])?;
    b.wire("bn", BatchNorm::new(channels, affine), &[x])
}

/// Emits a `3x3` convolution and BatchNorm on the image: `[N, C, H, W] -> [N, channels, H, W]`.
pub fn stem(b: &mut Builder, x: Value, channels: usize) -> Result<Value> {
    let (from, ..) = b.chw(x)?;
    b.scope("stem", |b| {
        let x = b.wire("0", Conv2d::new(from, channels, 3).padding(Padding::all(1)), &[x])?;
        b.wire("1", BatchNorm::new(channels, true), &[x])
    })
}

/// Emits BatchNorm and ReLU, which end NAS-Bench-201's network. `[N, C, H, W] -> [N, C, H, W]`.
pub fn last_activation(b: &mut Builder, x: Value) -> Result<Value> {
    let (channels, ..) = b.chw(x)?;
    b.scope("lastact", |b| {
        let x = b.wire("0", BatchNorm::new(channels, true), &[x])?;
        b.wire("1", Relu, &[x])
    })
}

/// Emits two consecutive stems (DARTS, `NetworkImageNet`). The first has two strided `3x3` convolutions with BatchNorms,
/// and a ReLU between them: `[N, C, H, W] -> [N, channels, H/4, W/4]`. The second has a ReLU, one more strided
/// convolution and a BatchNorm: `[N, channels, H/8, W/8]`.
pub(crate) fn shrinking_stems(b: &mut Builder, x: Value, channels: usize) -> Result<[Value; 2]> {
    let (from, ..) = b.chw(x)?;
    let half = |from, to| Conv2d::new(from, to, 3).padding(Padding::all(1)).stride(2);
    let first = b.scope("stem0", |b| {
        let x = b.wire("0", half(from, channels.div_ceil(2)), &[x])?;
        let x = b.wire("1", BatchNorm::new(channels.div_ceil(2), true), &[x])?;
        let x = b.wire("2", Relu, &[x])?;
        let x = b.wire("3", half(channels.div_ceil(2), channels), &[x])?;
        b.wire("4", BatchNorm::new(channels, true), &[x])
    })?;
    let second = b.scope("stem1", |b| {
        let x = b.wire("0", Relu, &[first])?;
        let x = b.wire("1", half(channels, channels), &[x])?;
        b.wire("2", BatchNorm::new(channels, true), &[x])
    })?;
    Ok([first, second])
}

/// Emits the mean over the image and a linear layer: `[N, C, H, W] -> [N, classes]`.
pub fn head(b: &mut Builder, x: Value, classes: usize) -> Result<Value> {
    let (channels, ..) = b.chw(x)?;
    let x = b.wire("pool", GlobalAvgPool, &[x])?;
    let x = b.wire("flatten", Flatten { axis: 1 }, &[x])?;
    b.wire("classifier", Linear { in_features: channels, out_features: classes, bias: true }, &[x])
}

/// Name scope of the auxiliary head.
pub(crate) const AUXILIARY: &str = "auxiliary_head";

/// Emits a second classifier, used only in training: ReLU, mean over windows of `5x5`, `1x1` convolution, BatchNorm,
/// ReLU, `2x2` convolution, BatchNorm, ReLU, head (DARTS, `AuxiliaryHeadCIFAR`): `[N, C, H, W] -> [N, classes]`.
/// DARTS flattens instead of taking the mean over the image. For its feature maps of `8x8` one pixel remains, and
/// both are equal.
///
/// For ImageNet's feature maps of `7x7` the windows have stride two instead of three, and the last BatchNorm is
/// missing, "to be consistent with the experiments in the paper" (`AuxiliaryHeadImageNet`).
///
/// # Errors
/// [`Error::Value`] for a smaller feature map.
pub(crate) fn auxiliary_head(b: &mut Builder, x: Value, classes: usize, skeleton: Skeleton) -> Result<Value> {
    let (from, height, width) = b.chw(x)?;
    let (stride, least, image) = match skeleton {
        Skeleton::Cifar => (3, 8, 32),
        Skeleton::ImageNet => (2, 7, 224),
    };
    if height.min(width) < least {
        return Err(Error::Value {
            what: "map of the auxiliary head".into(),
            found: format!("{height}x{width}"),
            expected: format!(
                "{least}x{least} or more, as of images of {image}x{image}. help: train without it, train.auxiliary=0"
            ),
        });
    }
    let pool = Pool2d::new(PoolKind::Average { count_padding: false }, 5, stride);
    let pool = Pool2d { padding: Padding::default(), ..pool };
    b.scope(AUXILIARY, |b| {
        let x = b.scope("features", |b| {
            let x = b.wire("0", Relu, &[x])?;
            let x = b.wire("1", pool, &[x])?;
            let x = b.wire("2", Conv2d::pointwise(from, 128), &[x])?;
            let x = b.wire("3", BatchNorm::new(128, true), &[x])?;
            let x = b.wire("4", Relu, &[x])?;
            let x = b.wire("5", Conv2d::new(128, 768, 2), &[x])?;
            match skeleton {
                Skeleton::Cifar => {
                    let x = b.wire("6", BatchNorm::new(768, true), &[x])?;
                    b.wire("7", Relu, &[x])
                }
                Skeleton::ImageNet => b.wire("6", Relu, &[x]),
            }
        })?;
        head(b, x, classes)
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::{auxiliary_head, shrinking_stems};
    use crate::graph::{Builder, Fact};
    use crate::{Executor, Graph, Mode, Skeleton, Weights};

    fn wave(count: usize, phase: usize, size: f32) -> Vec<f32> {
        (0..count).map(|i| ((i as f64 * 0.7 + phase as f64).sin() * 0.1) as f32 * size).collect()
    }

    /// Runs a graph in training mode with artificial weights and inputs. `norms` are the suffixes of the weights that
    /// have values near one.
    fn run(graph: &Graph, norms: &[&str], shape: (usize, usize, usize, usize), size: f32) -> Vec<Vec<f32>> {
        let weights = Weights::init(graph, 0).unwrap();
        for (phase, param) in graph.params().filter(|p| p.role.is_trainable()).enumerate() {
            let norm = norms.iter().any(|end| param.name.ends_with(end));
            let new = wave(param.shape.iter().product(), phase, 1.0);
            let set = |w: &mut [f32]| w.iter_mut().zip(new).for_each(|(w, x)| *w = x + f32::from(norm));
            weights.modify(&param.name, set).unwrap();
        }
        let x = wave(shape.0 * shape.1 * shape.2 * shape.3, 9, size);
        let x = Tensor::from_vec(x, shape, &Device::Cpu).unwrap();
        let found = Executor::new(graph, &weights).run(&[x], Mode::Train).unwrap();
        found.iter().map(|y| y.flatten_all().unwrap().to_vec1().unwrap()).collect()
    }

    /// Returns the logits of the head for a feature map with `side` rows and columns.
    fn logits(skeleton: Skeleton, side: usize) -> Vec<f32> {
        let mut b = Builder::new();
        let x = b.input("input", Fact::image(16, side, side)).unwrap();
        let y = auxiliary_head(&mut b, x, 3, skeleton).unwrap();
        b.output("auxiliary", y);
        run(&b.finish().unwrap(), &["3.weight", "6.weight"], (2, 16, side, side), 10.0).remove(0)
    }

    // import torch; from torch import nn
    // def wave(s, k): i = torch.arange(torch.Size(s).numel()).double(); return ((i * 0.7 + k).sin() * 0.1).float().reshape(s)
    // for side, stride, last in (8, 3, [nn.BatchNorm2d(768)]), (7, 2, []):
    //   f = nn.Sequential(nn.ReLU(), nn.AvgPool2d(5, stride, 0, count_include_pad=False), nn.Conv2d(16, 128, 1, bias=False),
    //       nn.BatchNorm2d(128), nn.ReLU(), nn.Conv2d(128, 768, 2, bias=False), *last, nn.ReLU())
    //   c = nn.Linear(768, 3)
    //   for k, p in enumerate([*f.parameters(), *c.parameters()]): p.data = wave(p.shape, k)
    //   for m in [f[3], *last]: m.weight.data += 1
    //   print(c(f(wave((2, 16, side, side), 9) * 10).view(2, -1)))
    #[test]
    fn auxiliary_heads_equal_pytorch() {
        let small = [0.464_205_5, 0.882_567_76, -1.764_236_5, 0.445_581_7, 1.048_752_4, -2.053_319];
        let large = [-0.122_031_3, -0.036_764_03, 0.003_901_22, -0.098_213_86, -0.050_422_91, 0.005_374_51];
        for (skeleton, side, expected) in [(Skeleton::Cifar, 8, small), (Skeleton::ImageNet, 7, large)] {
            let found = logits(skeleton, side);
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4), "{skeleton:?}: {found:?}");
        }
    }

    // stem0 = nn.Sequential(nn.Conv2d(3, 2, 3, 2, 1, bias=False), nn.BatchNorm2d(2), nn.ReLU(),
    //     nn.Conv2d(2, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4))
    // stem1 = nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4))
    // for k, p in enumerate([*stem0.parameters(), *stem1.parameters()]): p.data = wave(p.shape, k)
    // for m in [stem0[1], stem0[4], stem1[2]]: m.weight.data += 1
    // x = stem0(wave((2, 3, 16, 8), 9) * 10); y = stem1(x)
    // print(x.shape, x.flatten()[::9], y.flatten())
    #[test]
    fn shrinking_stems_equal_pytorch() {
        let mut b = Builder::new();
        let x = b.input("input", Fact::image(3, 16, 8)).unwrap();
        let [x, y] = shrinking_stems(&mut b, x, 4).unwrap();
        b.output("first", x);
        b.output("second", y);
        let norms = ["stem0.1.weight", "stem0.4.weight", "stem1.2.weight"];
        let found = run(&b.finish().unwrap(), &norms, (2, 3, 16, 8), 10.0);
        let first = [
            -0.434_620_8,
            1.036_773_7,
            0.941_809,
            -1.376_596_2,
            -1.854_982_5,
            0.404_474_8,
            1.466_613_3,
            -1.156_822_1,
        ];
        let second = [
            -0.412_207_3,
            1.906_255,
            -0.567_801_2,
            1.922_366_6,
            -0.722_617_4,
            1.821_493_5,
            -0.839_257,
            1.647_070_2,
            -0.844_472_6,
            -0.253_831_6,
            -0.887_602_3,
            -0.201_775_4,
            -0.918_177,
            -0.170_788_8,
            -0.914_717_7,
            -0.143_123_7,
        ];
        assert_eq!((found[0].len(), found[1].len()), (64, 16));
        let close = |found: &mut dyn Iterator<Item = &f32>, expected: &[f32]| {
            found.zip(expected).all(|(a, b)| (a - b).abs() < 1e-4)
        };
        assert!(close(&mut found[0].iter().step_by(9), &first), "{:?}", found[0]);
        assert!(close(&mut found[1].iter(), &second), "{:?}", found[1]);
    }
}
