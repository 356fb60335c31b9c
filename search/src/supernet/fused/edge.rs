//! Mixed edge: weights and BatchNorms of its candidates, and the loops over one image.
//!
//! Each candidate ends in a BatchNorm, which needs the whole batch. An edge therefore runs in two phases:
//! everything that reads the source state, then the second parts of the separable convolutions. Only the
//! feature maps before the BatchNorms are kept. The weighted sum of the normalised feature maps is `sum of
//! scale * map + shift` over those of a node's edges, in one pass.

use milenas_models::fused::parameters::Id;
use milenas_models::fused::unit::norm_gradient;
use milenas_models::fused::{ConvBlock, Im2col, Norm, Parameters, Scratch, Statistics};
use milenas_models::kernels::cpu::depthwise::DepthwiseShape;
use milenas_models::kernels::cpu::elementwise::{GateNormed, PadRelu};
use milenas_models::kernels::cpu::simd::{floats, floats_mut};
use milenas_models::kernels::cpu::{Channels, LANES, Level, MapSize, Pack};

use crate::supernet::wired::CANDIDATES;

/// Convolutions of an edge, by the index of their feature map.
pub(super) const SEP3: usize = 0;
pub(super) const SEP5: usize = 1;
pub(super) const DIL3: usize = 2;
pub(super) const DIL5: usize = 3;
pub(super) const SEP3_FIRST: usize = 4;
pub(super) const SEP5_FIRST: usize = 5;
/// Strided skip.
pub(super) const SKIP: usize = 6;

/// First and second part of the separable convolutions.
const PAIRS: [(usize, usize); 2] = [(SEP3_FIRST, SEP3), (SEP5_FIRST, SEP5)];

/// Column of the mixture of each feature map that reaches the node: skip, both pools, four convolutions.
pub(super) const COLUMNS: [usize; 7] = [3, 1, 2, 4, 5, 6, 7];

/// Column of the mixture that each convolution belongs to.
const SERVES: [usize; 7] = [4, 5, 6, 7, 4, 5, 3];

/// Convolution and its BatchNorm.
pub(super) struct EdgeConv {
    pub(super) unit: ConvBlock,
    pub(super) norm: Norm,
}

/// Edge from a state to a node of its cell.
pub(super) struct FusedEdge {
    /// Row of the mixture.
    pub(super) row: usize,
    /// Node, counted from the first intermediate one.
    pub(super) target: usize,
    pub(super) convolutions: Vec<EdgeConv>,
    /// Index of each convolution's feature map among those of the source state; `None` if it has no part in the
    /// mixture.
    pub(super) slots: [Option<usize>; 7],
    /// Whether each candidate has a part in the mixture.
    active: [bool; CANDIDATES],
    /// BatchNorms of max and average pooling. The pooled feature maps are shared by the edges of a state.
    pub(super) pools: [Norm; 2],
}

impl FusedEdge {
    /// Creates an edge with a `prefix` such as `cells.0.edges.3`. Parameters are added in the order of the
    /// candidates.
    pub(super) fn new(
        prefix: &str,
        (row, target): (usize, usize),
        channels: usize,
        stride: usize,
        parameters: &mut Parameters,
        statistics: &mut Statistics,
    ) -> FusedEdge {
        let pools = [1, 2].map(|k| Norm::new(&format!("{prefix}.{k}.1"), channels, statistics));
        let one = Channels::one(channels);
        let unit = |columns, pointwise: Id| {
            let map = MapSize { packs: one.packs(), height: 0, width: 0 };
            ConvBlock { columns, pointwise, input: map, output: map }
        };
        let skip = (stride == 2).then(|| EdgeConv {
            unit: unit(
                Im2col::Parity,
                parameters.factorized(halves_of(&format!("{prefix}.3")), one, channels),
            ),
            norm: Norm::new(&format!("{prefix}.3.bn"), channels, statistics),
        });
        let mut block = |at: String, first: usize, shape: DepthwiseShape| {
            let names = [0, 1, 2].map(|i| format!("{at}.{}", first + i));
            let depthwise = parameters.depthwise(format!("{}.weight", names[0]), channels, shape.kernel);
            let weight =
                parameters.pointwise(format!("{}.weight", names[1]), vec![channels, channels, 1, 1], one);
            let norm = Norm::new(&names[2], channels, statistics);
            EdgeConv { unit: unit(Im2col::Depthwise(shape, depthwise), weight), norm }
        };
        let mut separable = |k: usize, kernel: usize| {
            let at = format!("{prefix}.{k}");
            let first = block(at.clone(), 1, DepthwiseShape { kernel, dilation: 1, stride });
            (first, block(at, 5, DepthwiseShape { kernel, dilation: 1, stride: 1 }))
        };
        let ((first3, second3), (first5, second5)) = (separable(4, 3), separable(5, 5));
        let [dilated3, dilated5] = [(6, 3), (7, 5)].map(|(k, kernel)| {
            block(format!("{prefix}.{k}"), 1, DepthwiseShape { kernel, dilation: 2, stride })
        });
        let mut convolutions = vec![second3, second5, dilated3, dilated5, first3, first5];
        convolutions.extend(skip);
        FusedEdge { row, target, convolutions, slots: [None; 7], active: [false; CANDIDATES], pools }
    }

    /// Assigns slots from `next` on to the convolutions of the mixture's candidates, and returns the next free
    /// slot.
    pub(super) fn activate(&mut self, mixture: &[f32; CANDIDATES], mut next: usize) -> usize {
        self.active = mixture.map(|weight| weight != 0.0);
        self.slots = [None; 7];
        for (slot, column) in self.slots.iter_mut().zip(SERVES).take(self.convolutions.len()) {
            if self.active[column] {
                *slot = Some(next);
                next += 1;
            }
        }
        next
    }

    /// Returns whether a candidate has a part in the mixture.
    pub(super) fn is_active(&self, column: usize) -> bool {
        self.active[column]
    }

    /// Returns the number of active convolutions.
    pub(super) fn count(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Returns whether an active convolution reads the ReLU of the state.
    pub(super) fn applies_relu(&self) -> bool {
        self.slots[DIL3..SKIP].iter().any(Option::is_some)
    }

    /// Returns the parameters without a part in the mixture.
    pub(super) fn idle(&self) -> impl Iterator<Item = Id> {
        let idle = self.convolutions.iter().zip(&self.slots).filter(|(_, slot)| slot.is_none());
        idle.flat_map(|(convolution, _)| convolution.unit.ids())
    }

    /// Sets the sizes for a source state of this size.
    pub(super) fn resize(&mut self, source: MapSize) {
        for i in (DIL3..self.convolutions.len()).chain([SEP3, SEP5]) {
            let input =
                if i == SEP3 || i == SEP5 { self.convolutions[SEP3_FIRST].unit.output } else { source };
            self.convolutions[i].unit.resize(input);
        }
    }

    /// Returns the strided skip, if the edge has one.
    pub(super) fn skip(&self) -> Option<&EdgeConv> {
        self.convolutions.get(SKIP)
    }

    /// Returns columns and BatchNorms of the feature maps that reach the node, in the order of [`COLUMNS`]. An
    /// identity has no BatchNorm.
    fn norms(&self) -> impl Iterator<Item = (usize, Option<&Norm>)> {
        let [max, average] = &self.pools;
        let of = |i: usize| self.convolutions.get(i).map(|c| &c.norm);
        let all = [of(SKIP), Some(max), Some(average), of(SEP3), of(SEP5), of(DIL3), of(DIL5)];
        COLUMNS.into_iter().zip(all).filter(|(column, _)| self.active[*column])
    }

    /// Returns the items of [`Self::norms`] as mutable references.
    pub(super) fn norms_mut(&mut self) -> impl Iterator<Item = (usize, Option<&mut Norm>)> {
        let active = self.active;
        let [max, average] = &mut self.pools;
        let mut convolutions = self.convolutions.iter_mut().map(|c| &mut c.norm);
        let [sep3, sep5, dil3, dil5] = std::array::from_fn(|_| convolutions.next());
        let skip = convolutions.nth(SKIP - SEP3_FIRST);
        let all = [skip, Some(max), Some(average), sep3, sep5, dil3, dil5];
        COLUMNS.into_iter().zip(all).filter(move |(column, _)| active[*column])
    }

    /// Returns the feature maps that reach the node, in the order of [`Self::norms_mut`], from those of the
    /// source state and from its value.
    pub(super) fn maps<'a>(&self, maps: &'a [Pack], value: &'a [Pack], len: usize) -> Vec<&'a [Pack]> {
        let slot = |i: usize| &maps[i * len..][..len];
        let own = |i: usize| self.slots[i].map(slot);
        let pool = |which: usize| self.active[COLUMNS[1 + which]].then(|| slot(which));
        let identity = (self.skip().is_none() && self.active[COLUMNS[0]]).then_some(value);
        let skip = own(SKIP).or(identity);
        let all = [skip, pool(0), pool(1), own(SEP3), own(SEP5), own(DIL3), own(DIL5)];
        all.into_iter().flatten().collect()
    }

    /// Returns the factors (a vector per feature map) and the constants of the edge's part of the node.
    pub(super) fn sum_weights(
        &self,
        mixture: &[f32; CANDIDATES],
        packs: usize,
    ) -> (Vec<Vec<Pack>>, Vec<Pack>) {
        let (mut scales, mut bias) = (Vec::with_capacity(COLUMNS.len()), vec![Pack::ZERO; packs]);
        for (column, norm) in self.norms() {
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

    /// Returns the active convolutions that read the source state, with their slots.
    fn reads_source(&self) -> impl Iterator<Item = (usize, usize)> {
        (DIL3..self.convolutions.len()).filter_map(|i| Some((i, self.slots[i]?)))
    }

    /// Returns the active separable convolutions: each part with its slot.
    fn pairs(&self) -> impl Iterator<Item = [(usize, usize); 2]> {
        PAIRS
            .into_iter()
            .filter_map(|(first, second)| Some([(first, self.slots[first]?), (second, self.slots[second]?)]))
    }

    /// Returns the parameters of the second parts, or of everything that reads the source, in the order of
    /// their gradients.
    pub(super) fn ids(&self, second: bool) -> Vec<Id> {
        let which: Vec<usize> = match second {
            true => self.pairs().map(|[_, (second, _)]| second).collect(),
            false => self.reads_source().map(|(i, _)| i).collect(),
        };
        which.into_iter().flat_map(|i| self.convolutions[i].unit.ids()).collect()
    }

    /// Runs everything that reads the source state of one image. `value` is the state, and `scratch.a` its ReLU
    /// with padding. `maps` and `sums` are those of the source state.
    pub(super) fn forward(
        &self,
        level: Level,
        parameters: &Parameters,
        value: &[Pack],
        scratch: &mut Scratch,
        maps: &mut [Pack],
        sums: &mut [Pack],
    ) {
        for (i, slot) in self.reads_source() {
            let unit = &self.convolutions[i].unit;
            let (len, packs) = (unit.output.len(), unit.output.packs);
            let source = if i == SKIP { value } else { scratch.a.of(unit.input) };
            let sums = &mut sums[slot * 2 * packs..];
            unit.forward(level, parameters, source, &mut scratch.strip, &mut maps[slot * len..][..len], sums);
        }
    }

    /// Runs the second parts of the separable convolutions.
    pub(super) fn forward_second(
        &self,
        level: Level,
        parameters: &Parameters,
        scratch: &mut Scratch,
        maps: &mut [Pack],
        sums: &mut [Pack],
    ) {
        for [(first, first_slot), (second, slot)] in self.pairs() {
            let unit = &self.convolutions[second].unit;
            let map = unit.output;
            let (low, high) = maps.split_at_mut(first_slot * map.len());
            self.relu_first(level, first, &high[..map.len()], scratch);
            let out = &mut low[slot * map.len()..][..map.len()];
            let sums = &mut sums[slot * 2 * map.packs..];
            unit.forward(level, parameters, scratch.a.of(map), &mut scratch.strip, out, sums);
        }
    }

    /// Writes the input of a second part into `scratch.a`: normalised, with ReLU and padding.
    fn relu_first(&self, level: Level, first: usize, source: &[Pack], scratch: &mut Scratch) {
        let EdgeConv { unit, norm } = &self.convolutions[first];
        let (map, scaling) = (unit.output, &norm.scaling);
        let out = scratch.a.of(map);
        level.run(PadRelu { map, source, scale: &scaling.scale, shift: &scaling.shift, out });
    }

    /// Computes the gradient of the second parts from the node's gradient. The gradient of the first parts'
    /// normalised outputs overwrites the second parts' feature maps, and its sums are written to `sums`.
    pub(super) fn backward_second(
        &self,
        level: Level,
        parameters: &Parameters,
        node: &[Pack],
        scratch: &mut Scratch,
        (maps, sums): (&mut [Pack], &mut [Pack]),
        gradients: &mut Option<&mut [Pack]>,
    ) {
        for [(first, first_slot), (second, slot)] in self.pairs() {
            let EdgeConv { unit, norm } = &self.convolutions[second];
            let map = unit.output;
            let (low, high) = maps.split_at_mut(first_slot * map.len());
            let (out, source) = (&mut low[slot * map.len()..][..map.len()], &high[..map.len()]);
            norm_gradient(level, map, &norm.slope, node, out, &mut scratch.dy);
            if gradients.is_some() {
                self.relu_first(level, first, source, scratch);
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
                sums: &mut sums[first_slot * 2 * map.packs..],
            });
        }
    }

    /// Computes the gradient of the state's ReLU in `scratch.da` from the node's gradient, or adds to it with
    /// `add`. Returns whether `scratch.da` holds a gradient now.
    pub(super) fn backward(
        &self,
        level: Level,
        parameters: &Parameters,
        (value, node, maps): (&[Pack], &[Pack], &[Pack]),
        scratch: &mut Scratch,
        gradients: &mut Option<&mut [Pack]>,
        mut add: bool,
    ) -> bool {
        for (i, slot) in self.reads_source() {
            let EdgeConv { unit, norm } = &self.convolutions[i];
            let len = unit.output.len();
            let at = |slot: usize| &maps[slot * len..][..len];
            // The gradient of a first part overwrote the feature map of its second part.
            let second =
                PAIRS.iter().find(|(first, _)| *first == i).and_then(|(_, second)| self.slots[*second]);
            let gradient = second.map_or(node, at);
            norm_gradient(level, unit.output, &norm.slope, gradient, at(slot), &mut scratch.dy);
            backward(level, parameters, unit, value, scratch, gradients, add);
            add = true;
        }
        add
    }
}

/// Runs one convolution backward, from `scratch.dy` to `scratch.da`. A depthwise one reads its input from
/// `scratch.a`.
fn backward(
    level: Level,
    parameters: &Parameters,
    unit: &ConvBlock,
    value: &[Pack],
    scratch: &mut Scratch,
    gradients: &mut Option<&mut [Pack]>,
    add: bool,
) {
    if matches!(unit.columns, Im2col::Depthwise(..)) {
        let mut a = std::mem::take(&mut scratch.a);
        unit.backward(level, parameters, a.of(unit.input), scratch, gradients);
        scratch.a = a;
    } else {
        unit.backward(level, parameters, value, scratch, gradients);
    }
    unit.backward_columns(level, parameters, scratch, add);
}

/// Returns the names of the weights of a strided skip.
pub(super) fn halves_of(prefix: &str) -> [String; 2] {
    ["even", "odd"].map(|x| format!("{prefix}.{x}.weight"))
}
