//! Receptive field of a network: the pixels of the image that a pixel of the last feature map depends on.

use crate::graph::Graph;
use crate::op::{Conv2d, Op, Pool2d};

/// Receptive field of a feature map along one axis.
#[derive(Clone, Copy, PartialEq)]
struct Field {
    /// Pixels of the image that a pixel depends on, as if the image were unlimited.
    size: usize,
    /// Pixels of the image between neighbouring pixels.
    jump: usize,
}

/// Returns rows and columns of the image that a pixel of the last feature map depends on, as if the image were unlimited: the
/// largest over all paths. The last feature map is that before the global pool; without one it is the output.
pub fn receptive_field(graph: &Graph) -> [usize; 2] {
    let mut fields: Vec<[Field; 2]> = Vec::with_capacity(graph.nodes().len());
    let mut last = None;
    for node in graph.nodes() {
        let inputs = node.inputs.iter().map(|value| fields[value.index()]);
        let into = inputs.reduce(|a, b| {
            [0, 1].map(|axis| Field {
                size: a[axis].size.max(b[axis].size),
                jump: a[axis].jump.max(b[axis].jump),
            })
        });
        let before = into.unwrap_or([Field { size: 1, jump: 1 }; 2]);
        let own = match &node.op {
            Op::Conv2d(Conv2d { kernel, stride, dilation, .. })
            | Op::Pool2d(Pool2d { kernel, stride, dilation, .. }) => [0, 1].map(|axis| Field {
                size: before[axis].size + (kernel[axis] - 1) * dilation[axis] * before[axis].jump,
                jump: before[axis].jump * stride[axis],
            }),
            Op::GlobalAvgPool(_) => {
                last = last.or(Some(before));
                before
            }
            _ => before,
        };
        fields.push(own);
    }
    let output = graph.outputs().first().map(|(_, value)| fields[value.index()]);
    last.or(output).map_or([1; 2], |field| field.map(|field| field.size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Genotype, NetworkConfig, Skeleton, assemble};

    /// By hand: stem 3; per cell two 3x3 convolutions in a row; two reductions with a 3x3 of stride 2 and one of stride 1.
    #[test]
    fn fields_grow_by_kernels_and_strides() {
        let config = |layers| NetworkConfig {
            channels: 4,
            layers,
            classes: 2,
            in_channels: 3,
            height: 32,
            width: 32,
            skeleton: Skeleton::Cifar,
        };
        let arch = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|none~2|";
        let genotype = Genotype::parse(arch, "arch").unwrap();
        let field = |layers| receptive_field(&assemble(&genotype.live(), &config(layers)).unwrap());
        // Cells whose output is their input: only the stem and the two reductions count.
        assert_eq!(field(5), [3 + 2 + 2 * 2 + 2 * 2 + 4 * 2; 2]);
        let deep = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|nor_conv_1x1~2|";
        let genotype = Genotype::parse(deep, "arch").unwrap();
        // Three normal cells, at jumps 1, 2 and 4, each with 2 * 2 pixels.
        let deep = receptive_field(&assemble(&genotype, &config(5)).unwrap());
        assert_eq!(deep, [21 + 4 + 8 + 16; 2]);
    }
}
