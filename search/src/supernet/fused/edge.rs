//! A mixed edge: its candidates' weights and norms, and the loops over one image.
//!
//! Candidates end in a BatchNorm each, which needs the whole batch, so an edge runs in two phases:
//! everything that reads the source state, then the second halves of the separable convolutions. The maps before
//! the BatchNorms are all that is kept; the weighted sum of the normalised maps is
//! `sum of scale * map + shift` over the maps of a node's edges, in one pass.

use milenas_models::fused::parameters::Id;
use milenas_models::fused::unit::norm_gradient;
use milenas_models::fused::{Columns, Norm, Parameters, Scratch, Statistics, Unit};
use milenas_models::kernels::blocked::depthwise::Depthwise;
use milenas_models::kernels::blocked::elementwise::{GateNormed, PadRectify};
use milenas_models::kernels::blocked::simd::{floats, floats_mut};
use milenas_models::kernels::blocked::{Channels, LANES, Level, Map, Pack};

use crate::supernet::CANDIDATES;

/// Convolutions of an edge, by the place of their map among the edge's.
pub(super) const SEP3: usize = 0;
pub(super) const SEP5: usize = 1;
pub(super) const DIL3: usize = 2;
pub(super) const DIL5: usize = 3;
pub(super) const SEP3_FIRST: usize = 4;
pub(super) const SEP5_FIRST: usize = 5;
/// Of strided edges alone.
pub(super) const SKIP: usize = 6;

/// The two halves of the separable convolutions.
const PAIRS: [(usize, usize); 2] = [(SEP3_FIRST, SEP3), (SEP5_FIRST, SEP5)];

/// Column of the mixture of each map that reaches the node: skip, both pools, four convolutions.
pub(super) const COLUMNS: [usize; 7] = [3, 1, 2, 4, 5, 6, 7];

/// A convolution and its BatchNorm.
pub(super) struct Convolution {
    pub(super) unit: Unit,
    pub(super) norm: Norm,
}

/// One edge, from a state to a node of its cell.
pub(super) struct Edge {
    /// Row of the mixture.
    pub(super) row: usize,
    /// The node, counted from the first intermediate one.
    pub(super) target: usize,
    /// The first of its maps among those of its source state.
    pub(super) slot: usize,
    pub(super) convolutions: Vec<Convolution>,
    /// Of max and average pooling. The pooled maps are shared by the edges of a state.
    pub(super) pools: [Norm; 2],
}

impl Edge {
    /// `prefix` as in `cells.0.edges.3`. Parameters are declared in the order of the candidates.
    pub(super) fn new(
        prefix: &str,
        (row, target, slot): (usize, usize, usize),
        channels: usize,
        stride: usize,
        parameters: &mut Parameters,
        statistics: &mut Statistics,
    ) -> Edge {
        let pools = [1, 2].map(|k| Norm::new(&format!("{prefix}.{k}.1"), channels, statistics));
        let one = Channels::one(channels);
        let unit = |columns, pointwise: Id| {
            let map = Map { packs: one.packs(), height: 0, width: 0 };
            Unit { columns, pointwise, input: map, output: map }
        };
        let skip = (stride == 2).then(|| Convolution {
            unit: unit(
                Columns::Parity,
                parameters.factorized(halves_of(&format!("{prefix}.3")), one, channels),
            ),
            norm: Norm::new(&format!("{prefix}.3.bn"), channels, statistics),
        });
        let mut block = |at: String, first: usize, shape: Depthwise| {
            let names = [0, 1, 2].map(|i| format!("{at}.{}", first + i));
            let depthwise = parameters.depthwise(format!("{}.weight", names[0]), channels, shape.kernel);
            let weight =
                parameters.pointwise(format!("{}.weight", names[1]), vec![channels, channels, 1, 1], one);
            let norm = Norm::new(&names[2], channels, statistics);
            Convolution { unit: unit(Columns::Depthwise(shape, depthwise), weight), norm }
        };
        let mut separable = |k: usize, kernel: usize| {
            let at = format!("{prefix}.{k}");
            let first = block(at.clone(), 1, Depthwise { kernel, dilation: 1, stride });
            (first, block(at, 5, Depthwise { kernel, dilation: 1, stride: 1 }))
        };
        let ((first3, second3), (first5, second5)) = (separable(4, 3), separable(5, 5));
        let [dilated3, dilated5] = [(6, 3), (7, 5)]
            .map(|(k, kernel)| block(format!("{prefix}.{k}"), 1, Depthwise { kernel, dilation: 2, stride }));
        let mut convolutions = vec![second3, second5, dilated3, dilated5, first3, first5];
        convolutions.extend(skip);
        Edge { row, target, slot, convolutions, pools }
    }

    /// For a source of this size.
    pub(super) fn resize(&mut self, source: Map) {
        for i in (DIL3..self.convolutions.len()).chain([SEP3, SEP5]) {
            let input =
                if i == SEP3 || i == SEP5 { self.convolutions[SEP3_FIRST].unit.output } else { source };
            self.convolutions[i].unit.resize(input);
        }
    }

    /// The strided skip, if the edge has one.
    pub(super) fn skip(&self) -> Option<&Convolution> {
        self.convolutions.get(SKIP)
    }

    /// The norms of the maps that reach the node, in the order of [`COLUMNS`]; an identity has none.
    pub(super) fn norms(&self) -> [Option<&Norm>; 7] {
        let [max, average] = &self.pools;
        let of = |i: usize| self.convolutions.get(i).map(|c| &c.norm);
        [of(SKIP), Some(max), Some(average), of(SEP3), of(SEP5), of(DIL3), of(DIL5)]
    }

    /// The same, to change.
    pub(super) fn norms_mut(&mut self) -> [Option<&mut Norm>; 7] {
        let [max, average] = &mut self.pools;
        let mut convolutions = self.convolutions.iter_mut().map(|c| &mut c.norm);
        let [sep3, sep5, dil3, dil5] = std::array::from_fn(|_| convolutions.next());
        let skip = convolutions.nth(SKIP - SEP3_FIRST);
        [skip, Some(max), Some(average), sep3, sep5, dil3, dil5]
    }

    /// The maps that reach the node, from those of the source state and its value.
    pub(super) fn maps<'a>(&self, maps: &'a [Pack], value: &'a [Pack], len: usize) -> [&'a [Pack]; 7] {
        let slot = |i: usize| &maps[i * len..][..len];
        let own = |i: usize| slot(self.slot + i);
        let skip = if self.skip().is_some() { own(SKIP) } else { value };
        [skip, slot(0), slot(1), own(SEP3), own(SEP5), own(DIL3), own(DIL5)]
    }

    /// The factors, a vector per map, and constants of the edge's part of the node.
    pub(super) fn sum_weights(
        &self,
        mixture: &[f32; CANDIDATES],
        packs: usize,
    ) -> (Vec<Vec<Pack>>, Vec<Pack>) {
        let (mut scales, mut bias) = (Vec::with_capacity(COLUMNS.len()), vec![Pack::ZERO; packs]);
        for (norm, column) in self.norms().into_iter().zip(COLUMNS) {
            let weight = mixture[column];
            let mut scale = vec![Pack([weight; LANES]); packs];
            if let Some(norm) = norm {
                let scaling = floats(&norm.scaling.scale).iter().zip(floats(&norm.scaling.shift));
                let out = floats_mut(&mut scale).iter_mut().zip(floats_mut(&mut bias));
                for ((scale, bias), (factor, shift)) in out.zip(scaling) {
                    *scale *= factor;
                    *bias += weight * shift;
                }
            }
            scales.push(scale);
        }
        (scales, bias)
    }

    /// Convolutions that read the source state.
    fn reads_source(&self) -> impl Iterator<Item = usize> {
        DIL3..self.convolutions.len()
    }

    /// Parameters of the second halves, and of all that reads the source, in the order of their gradients.
    pub(super) fn ids(&self, second: bool) -> Vec<Id> {
        let which: Vec<usize> = if second { vec![SEP3, SEP5] } else { self.reads_source().collect() };
        which.into_iter().flat_map(|i| self.convolutions[i].unit.ids()).collect()
    }

    /// Everything that reads the source state of one image: `value` plain, `scratch.a` rectified and padded.
    /// `maps` and `sums` are those of the source state.
    pub(super) fn forward(
        &self,
        level: Level,
        parameters: &Parameters,
        value: &[Pack],
        scratch: &mut Scratch,
        maps: &mut [Pack],
        sums: &mut [Pack],
    ) {
        for i in self.reads_source() {
            let unit = &self.convolutions[i].unit;
            let (len, packs, slot) = (unit.output.len(), unit.output.packs, self.slot + i);
            let source = if i == SKIP { value } else { scratch.a.of(unit.input) };
            let sums = &mut sums[slot * 2 * packs..];
            unit.forward(level, parameters, source, &mut scratch.strip, &mut maps[slot * len..][..len], sums);
        }
    }

    /// The second halves of the separable convolutions.
    pub(super) fn forward_second(
        &self,
        level: Level,
        parameters: &Parameters,
        scratch: &mut Scratch,
        maps: &mut [Pack],
        sums: &mut [Pack],
    ) {
        for (first, second) in PAIRS {
            let unit = &self.convolutions[second].unit;
            let (map, slot) = (unit.output, self.slot + second);
            let (low, high) = maps.split_at_mut((self.slot + first) * map.len());
            self.rectify_first(level, first, &high[..map.len()], scratch);
            let out = &mut low[slot * map.len()..][..map.len()];
            let sums = &mut sums[slot * 2 * map.packs..];
            unit.forward(level, parameters, scratch.a.of(map), &mut scratch.strip, out, sums);
        }
    }

    /// Puts the input of a second half, normalised, rectified and padded, into `scratch.a`.
    fn rectify_first(&self, level: Level, first: usize, source: &[Pack], scratch: &mut Scratch) {
        let Convolution { unit, norm } = &self.convolutions[first];
        let (map, scaling) = (unit.output, &norm.scaling);
        let out = scratch.a.of(map);
        level.run(PadRectify { map, source, scale: &scaling.scale, shift: &scaling.shift, out });
    }

    /// The gradient of the second halves for the node's gradient; that of the first halves' normalised outputs takes the
    /// place of the second halves' maps, with its sums in `sums`.
    pub(super) fn backward_second(
        &self,
        level: Level,
        parameters: &Parameters,
        node: &[Pack],
        scratch: &mut Scratch,
        (maps, sums): (&mut [Pack], &mut [Pack]),
        gradients: &mut Option<&mut [Pack]>,
    ) {
        for (first, second) in PAIRS {
            let Convolution { unit, norm } = &self.convolutions[second];
            let map = unit.output;
            let (low, high) = maps.split_at_mut((self.slot + first) * map.len());
            let (out, source) =
                (&mut low[(self.slot + second) * map.len()..][..map.len()], &high[..map.len()]);
            norm_gradient(level, map, &norm.slope, node, out, &mut scratch.dy);
            if gradients.is_some() {
                self.rectify_first(level, first, source, scratch);
            }
            backward(level, parameters, unit, &[], scratch, gradients, false);
            let scaling = &self.convolutions[first].norm.scaling;
            level.run(GateNormed {
                pixels: map.pixels(),
                gradient: &scratch.da,
                source,
                scale: &scaling.scale,
                shift: &scaling.shift,
                out,
                sums: &mut sums[(self.slot + first) * 2 * map.packs..],
            });
        }
    }

    /// The gradient, in `scratch.da`, of the rectified source state for the node's gradient; added where `add`.
    pub(super) fn backward(
        &self,
        level: Level,
        parameters: &Parameters,
        (value, node, maps): (&[Pack], &[Pack], &[Pack]),
        scratch: &mut Scratch,
        gradients: &mut Option<&mut [Pack]>,
        mut add: bool,
    ) {
        for i in self.reads_source() {
            let Convolution { unit, norm } = &self.convolutions[i];
            let len = unit.output.len();
            let own = |i: usize| &maps[(self.slot + i) * len..][..len];
            let gradient = match i {
                SEP3_FIRST => own(SEP3),
                SEP5_FIRST => own(SEP5),
                _ => node,
            };
            norm_gradient(level, unit.output, &norm.slope, gradient, own(i), &mut scratch.dy);
            backward(level, parameters, unit, value, scratch, gradients, add);
            add = true;
        }
    }
}

/// Back through one convolution, from `scratch.dy` to `scratch.da`. A depthwise one finds its input in `scratch.a`.
fn backward(
    level: Level,
    parameters: &Parameters,
    unit: &Unit,
    value: &[Pack],
    scratch: &mut Scratch,
    gradients: &mut Option<&mut [Pack]>,
    add: bool,
) {
    if matches!(unit.columns, Columns::Depthwise(..)) {
        let mut a = std::mem::take(&mut scratch.a);
        unit.backward(level, parameters, a.of(unit.input), scratch, gradients);
        scratch.a = a;
    } else {
        unit.backward(level, parameters, value, scratch, gradients);
    }
    unit.backward_columns(level, parameters, scratch, add);
}

/// The weights of a strided skip.
pub(super) fn halves_of(prefix: &str) -> [String; 2] {
    ["even", "odd"].map(|x| format!("{prefix}.{x}.weight"))
}
