//! Inputs of a cell: convolved to its channels and size and normalised, they are its first two states. Forward
//! and backward.

use milenas_models::fused::norm::totals;
use milenas_models::fused::parameters::per_chunk;
use milenas_models::fused::unit::norm_gradient;
use milenas_models::fused::{self, Gradients, MapView, Profile, Statistics};
use milenas_models::kernels::cpu::Pack;
use milenas_models::kernels::cpu::elementwise::{Affine, Dots};
use milenas_models::kernels::cpu::norm::{NormCoefficient, NormMoments, Scaling};
use rayon::prelude::*;

use super::{FusedCell, gather};
use crate::supernet::fused::context::CellContext;
use crate::supernet::fused::edge::EdgeConv;

impl FusedCell {
    /// Computes the first two states.
    pub(super) fn preprocess(
        &mut self,
        c: &CellContext<'_>,
        inputs: [MapView<'_>; 2],
        statistics: &mut Statistics,
    ) {
        let (len, second) = (self.image_len(), self.place(1).offset);
        let output = self.inputs[1].unit.output;
        let sums_len = 4 * output.packs;
        self.sums.clear();
        self.sums.resize(c.batch * sums_len, Pack::ZERO);
        let tasks = c.cut(&mut self.values, len).into_par_iter().zip(c.cut(&mut self.sums, sums_len));
        let convolutions = &self.inputs;
        tasks.enumerate().for_each(|(chunk, (values, sums))| {
            let mut scratch = c.workspace.scratch();
            for (at, i) in c.images(chunk).enumerate() {
                let sums = &mut sums[at * sums_len..][..sums_len];
                for (j, (convolution, input)) in convolutions.iter().zip(inputs).enumerate() {
                    let out = &mut values[at * len + j * second..][..output.len()];
                    let sums = &mut sums[j * 2 * output.packs..];
                    convolution.unit.forward(
                        c.level,
                        c.parameters,
                        input.image(i),
                        &mut scratch.strip,
                        out,
                        sums,
                    );
                }
            }
        });
        let count = (c.batch * output.pixels()) as f64;
        for (j, convolution) in self.inputs.iter_mut().enumerate() {
            if c.training {
                let [sum, square] = [0, 1].map(|k| totals(&self.sums, sums_len, 2 * j + k, output.packs));
                convolution.norm.train(&NormMoments::of(sum, square, count), count, statistics);
            } else {
                convolution.norm.evaluate(statistics);
            }
        }
        let (convolutions, pixels) = (&self.inputs, output.pixels());
        c.cut(&mut self.values, len).into_par_iter().for_each(|values| {
            for image in values.chunks_exact_mut(len) {
                for (convolution, map) in convolutions.iter().zip(image.chunks_exact_mut(output.len())) {
                    let Scaling { scale, shift } = &convolution.norm.scaling;
                    c.level.run(Affine { pixels, scale, shift, map });
                }
            }
        });
    }

    /// Computes the gradient coefficients of input `j`'s BatchNorm, from the gradients of this cell's states.
    /// The state holds normalised values, not those before the BatchNorm.
    fn slope_input(&mut self, c: &CellContext<'_>, j: usize, gradients: &[Pack]) {
        let (place, map) = (self.place(j), self.maps[j]);
        let (sums_len, values) = (2 * map.packs, &self.values);
        self.sums.resize(c.batch * sums_len, Pack::ZERO);
        c.cut(&mut self.sums, sums_len).into_par_iter().enumerate().for_each(|(chunk, sums)| {
            for (i, out) in c.images(chunk).zip(sums.chunks_exact_mut(sums_len)) {
                let first = i * place.image + place.offset;
                let (left, right) = (&gradients[first..][..map.len()], &values[first..][..map.len()]);
                c.level.run(Dots { pixels: map.pixels(), left, right: &[right], out });
            }
        });
        let [sum, dot] = [0, 1].map(|which| totals(&self.sums, sums_len, which, map.packs));
        let count = (c.batch * map.pixels()) as f64;
        let norm = &mut self.inputs[j].norm;
        norm.slope = NormCoefficient::of(&Scaling::identity(map.packs), 1.0, &sum, &dot, count).0;
        norm.slope.scale_by(&norm.scaling.scale);
    }

    /// Runs the preprocessing of input `j` backward, from the gradients of this cell's states to that of the
    /// input, which is set, or added to with `add`.
    #[allow(clippy::too_many_arguments)]
    pub(in crate::supernet::fused) fn backward_input(
        &mut self,
        c: &CellContext<'_>,
        j: usize,
        input: MapView<'_>,
        gradients: &[Pack],
        (out, place): (&mut [Pack], fused::BufferOffset),
        add: bool,
        mut weights: Option<&mut Gradients>,
        profile: &mut Profile,
    ) {
        self.slope_input(c, j, gradients);
        let EdgeConv { unit, norm } = &self.inputs[j];
        let own = MapView { packs: gradients, place: self.place(j).into(), map: unit.output };
        let values = MapView { packs: &self.values, ..own };
        let ids: Vec<_> = unit.ids().collect();
        profile.time("backward, preprocess", || {
            let tasks =
                c.cut(out, place.image).into_par_iter().zip(per_chunk(c, weights.as_deref_mut(), &ids));
            tasks.enumerate().for_each(|(chunk, (out, mut weights))| {
                let scratch = &mut *c.workspace.scratch();
                for (at, i) in c.images(chunk).enumerate() {
                    let source = input.image(i);
                    let mut rest = weights.as_deref_mut();
                    norm_gradient(
                        c.level,
                        unit.output,
                        &norm.slope,
                        own.image(i),
                        values.image(i),
                        &mut scratch.dy,
                    );
                    unit.backward(c.level, c.parameters, source, scratch, &mut rest);
                    let out = &mut out[at * place.image + place.offset..][..input.map.len()];
                    unit.backward_input(c.level, c.parameters, source, scratch, add, out);
                }
            });
        });
        gather(c, weights, &ids, profile);
    }
}
