//! A mixed edge: its candidates' weights and norms, and the loops over one image.
//!
//! Candidates end in a BatchNorm each, which needs the whole batch, so an edge runs in two phases:
//! everything that reads the source state, then the second halves of the separable convolutions. The maps before
//! the BatchNorms are all that is kept; the weighted sum of the normalised maps is
//! `sum of scale * map + shift` over the maps of a node's edges, in one pass.

use milenas_models::fused::parameters::Id;
use milenas_models::fused::unit::norm_gradient;
use milenas_models::fused::{ConvBlock, Im2col, Norm, Parameters, Scratch, Statistics};
use milenas_models::kernels::cpu::depthwise::DepthwiseShape;
use milenas_models::kernels::cpu::elementwise::{GateNormed, PadRelu};
use milenas_models::kernels::cpu::simd::{floats, floats_mut};
use milenas_models::kernels::cpu::{Channels, LANES, Level, MapSize, Pack};

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

/// Column of the mixture that each convolution serves.
const SERVES: [usize; 7] = [4, 5, 6, 7, 4, 5, 3];

/// A convolution and its BatchNorm.
pub(super) struct EdgeConv {
    pub(super) unit: ConvBlock,
    pub(super) norm: Norm,
}

/// One edge, from a state to a node of its cell.
pub(super) struct FusedEdge {
    /// Row of the mixture.
    pub(super) row: usize,
    /// The node, counted from the first intermediate one.
    pub(super) target: usize,
    pub(super) convolutions: Vec<EdgeConv>,
    /// The place of each convolution's map among those of the source state; `None` where it has no part in the mixture.
    pub(super) slots: [Option<usize>; 7],
    /// Whether a candidate has a part in the mixture.
    active: [bool; CANDIDATES],
    /// Of max and average pooling. The pooled maps are shared by the edges of a state.
    pub(super) pools: [Norm; 2],
}

impl FusedEdge {
    /// `prefix` as in `cells.0.edges.3`. Parameters are declared in the order of the candidates.
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

    /// Gives the convolutions of the mixture's candidates their slots from `next` on, and returns the next free one.
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

    /// Whether a candidate has a part in the mixture.
    pub(super) fn is_active(&self, column: usize) -> bool {
        self.active[column]
    }

    /// Convolutions at work.
    pub(super) fn count(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Whether a convolution at work reads the rectified state.
    pub(super) fn rectifies(&self) -> bool {
        self.slots[DIL3..SKIP].iter().any(Option::is_some)
    }

    /// Parameters without a part in the mixture.
    pub(super) fn idle(&self) -> impl Iterator<Item = Id> {
        let idle = self.convolutions.iter().zip(&self.slots).filter(|(_, slot)| slot.is_none());
        idle.flat_map(|(convolution, _)| convolution.unit.ids())
    }

    /// For a source of this size.
    pub(super) fn resize(&mut self, source: MapSize) {
        for i in (DIL3..self.convolutions.len()).chain([SEP3, SEP5]) {
            let input =
                if i == SEP3 || i == SEP5 { self.convolutions[SEP3_FIRST].unit.output } else { source };
            self.convolutions[i].unit.resize(input);
        }
    }

    /// The strided skip, if the edge has one.
    pub(super) fn skip(&self) -> Option<&EdgeConv> {
        self.convolutions.get(SKIP)
    }

    /// Columns and norms of the maps that reach the node, in the order of [`COLUMNS`]; an identity has none.
    fn norms(&self) -> impl Iterator<Item = (usize, Option<&Norm>)> {
        let [max, average] = &self.pools;
        let of = |i: usize| self.convolutions.get(i).map(|c| &c.norm);
        let all = [of(SKIP), Some(max), Some(average), of(SEP3), of(SEP5), of(DIL3), of(DIL5)];
        COLUMNS.into_iter().zip(all).filter(|(column, _)| self.active[*column])
    }

    /// The same, to change.
    pub(super) fn norms_mut(&mut self) -> impl Iterator<Item = (usize, Option<&mut Norm>)> {
        let active = self.active;
        let [max, average] = &mut self.pools;
        let mut convolutions = self.convolutions.iter_mut().map(|c| &mut c.norm);
        let [sep3, sep5, dil3, dil5] = std::array::from_fn(|_| convolutions.next());
        let skip = convolutions.nth(SKIP - SEP3_FIRST);
        let all = [skip, Some(max), Some(average), sep3, sep5, dil3, dil5];
        COLUMNS.into_iter().zip(all).filter(move |(column, _)| active[*column])
    }

    /// The maps that reach the node, in the order of [`Self::norms_mut`], from those of the source state and its value.
    pub(super) fn maps<'a>(&self, maps: &'a [Pack], value: &'a [Pack], len: usize) -> Vec<&'a [Pack]> {
        let slot = |i: usize| &maps[i * len..][..len];
        let own = |i: usize| self.slots[i].map(slot);
        let pool = |which: usize| self.active[COLUMNS[1 + which]].then(|| slot(which));
        let identity = (self.skip().is_none() && self.active[COLUMNS[0]]).then_some(value);
        let skip = own(SKIP).or(identity);
        let all = [skip, pool(0), pool(1), own(SEP3), own(SEP5), own(DIL3), own(DIL5)];
        all.into_iter().flatten().collect()
    }

    /// The factors, a vector per map, and constants of the edge's part of the node.
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

    /// Convolutions at work that read the source state, with their slots.
    fn reads_source(&self) -> impl Iterator<Item = (usize, usize)> {
        (DIL3..self.convolutions.len()).filter_map(|i| Some((i, self.slots[i]?)))
    }

    /// The separable convolutions at work: each half with its slot.
    fn pairs(&self) -> impl Iterator<Item = [(usize, usize); 2]> {
        PAIRS
            .into_iter()
            .filter_map(|(first, second)| Some([(first, self.slots[first]?), (second, self.slots[second]?)]))
    }

    /// Parameters of the second halves, and of all that reads the source, in the order of their gradients.
    pub(super) fn ids(&self, second: bool) -> Vec<Id> {
        let which: Vec<usize> = match second {
            true => self.pairs().map(|[_, (second, _)]| second).collect(),
            false => self.reads_source().map(|(i, _)| i).collect(),
        };
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
        for (i, slot) in self.reads_source() {
            let unit = &self.convolutions[i].unit;
            let (len, packs) = (unit.output.len(), unit.output.packs);
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
        for [(first, first_slot), (second, slot)] in self.pairs() {
            let unit = &self.convolutions[second].unit;
            let map = unit.output;
            let (low, high) = maps.split_at_mut(first_slot * map.len());
            self.rectify_first(level, first, &high[..map.len()], scratch);
            let out = &mut low[slot * map.len()..][..map.len()];
            let sums = &mut sums[slot * 2 * map.packs..];
            unit.forward(level, parameters, scratch.a.of(map), &mut scratch.strip, out, sums);
        }
    }

    /// Puts the input of a second half, normalised, rectified and padded, into `scratch.a`.
    fn rectify_first(&self, level: Level, first: usize, source: &[Pack], scratch: &mut Scratch) {
        let EdgeConv { unit, norm } = &self.convolutions[first];
        let (map, scaling) = (unit.output, &norm.scaling);
        let out = scratch.a.of(map);
        level.run(PadRelu { map, source, scale: &scaling.scale, shift: &scaling.shift, out });
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
        for [(first, first_slot), (second, slot)] in self.pairs() {
            let EdgeConv { unit, norm } = &self.convolutions[second];
            let map = unit.output;
            let (low, high) = maps.split_at_mut(first_slot * map.len());
            let (out, source) = (&mut low[slot * map.len()..][..map.len()], &high[..map.len()]);
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
                sums: &mut sums[first_slot * 2 * map.packs..],
            });
        }
    }

    /// The gradient, in `scratch.da`, of the rectified source state for the node's gradient; added where `add`. Returns
    /// whether `scratch.da` holds one now.
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
            // That of a first half took the place of its second half's map.
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

/// Back through one convolution, from `scratch.dy` to `scratch.da`. A depthwise one finds its input in `scratch.a`.
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

/// The weights of a strided skip.
pub(super) fn halves_of(prefix: &str) -> [String; 2] {
    ["even", "odd"].map(|x| format!("{prefix}.{x}.weight"))
}
