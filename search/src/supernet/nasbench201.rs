//! Optimised supernet of NAS-Bench-201, a chain of cells. It is one graph of all candidates, whose results are
//! multiplied by the mixture in the sums of the fused network.

use milenas_models::fused::FusedNetwork;
use milenas_models::genotype::Wiring;
use milenas_models::graph::{Builder, Fact, Value};
use milenas_models::op::Add;
use milenas_models::primitive::Style;
use milenas_models::{Primitive, Weights, assemble};

use super::{CANDIDATES, GradRequest, PassResult, Row, Supernet, SupernetConfig, UpdateFn, fused};
use crate::data::Batch;
use crate::{Error, Result};

/// Supernet that is a chain of cells.
pub struct StackedSupernet {
    config: SupernetConfig,
    network: FusedNetwork,
    /// Cell, edge and candidate of each path, in the order of the network.
    places: Vec<[usize; 3]>,
}

impl StackedSupernet {
    /// Creates a supernet for images `[in_channels, height, width]`, with weights of zero.
    ///
    /// # Errors
    /// Fails for a space with another wiring.
    pub fn new(config: SupernetConfig, height: usize, width: usize) -> Result<Self> {
        let (mut places, mut paths) = (Vec::new(), Vec::new());
        let mut b = Builder::new();
        let image = b.input("input", Fact::image(config.in_channels, height, width))?;
        let mut last = assemble::stem(&mut b, image, config.stem_channels())?;
        for cell in 0..config.layers {
            last = b.scope(format!("cells.{cell}"), |b| match config.reduces(cell) {
                true => assemble::residual_reduction(b, last, config.channels_at(cell), Style::Supernet),
                false => emit_cell(b, &config, cell, last, &mut |place, path| {
                    places.push(place);
                    paths.push(path);
                }),
            })?;
        }
        let last = assemble::last_activation(&mut b, last)?;
        let logits = assemble::head(&mut b, last, config.classes)?;
        b.output("logits", logits);
        let unsupported = |problem| Error::Config {
            place: "search.space".into(),
            problem: format!("not supported by the fused network: {problem}"),
        };
        let network = FusedNetwork::mixed(&b.finish()?, &paths).map_err(unsupported)?;
        Ok(StackedSupernet { config, network, places })
    }

    fn flat(&self, mixture: &[&[Row]]) -> Vec<f32> {
        self.places.iter().map(|&[cell, edge, k]| mixture[cell][edge][k]).collect()
    }
}

/// Adds a cell with all candidates: each node is the sum of the results of its edges' candidates.
fn emit_cell(
    b: &mut Builder,
    config: &SupernetConfig,
    cell: usize,
    input: Value,
    path: &mut dyn FnMut([usize; 3], Value),
) -> milenas_models::Result<Value> {
    let channels = config.channels_at(cell);
    let mut states = vec![input];
    let mut sum: Option<Value> = None;
    for (edge, (from, to)) in config.space.edges().into_iter().enumerate() {
        if to > states.len() {
            states.extend(sum.take());
        }
        for (k, primitive) in config.space.primitives.iter().enumerate() {
            let style = config.style(*primitive);
            let y = b.scope(format!("edges.{edge}.{k}"), |b| {
                primitive.emit(b, states[from], channels, 1, style)
            })?;
            if *primitive != Primitive::None {
                path([cell, edge, k], y);
            }
            sum = Some(match sum {
                None => y,
                Some(sum) => b.wire(&format!("nodes.{to}.{edge}.{k}"), Add, &[sum, y])?,
            });
        }
    }
    states.extend(sum);
    Ok(states[states.len() - 1])
}

impl SupernetConfig {
    /// Returns the style of a primitive in this supernet: pools of NAS-Bench-201 have no BatchNorm.
    pub(super) fn style(&self, primitive: Primitive) -> Style {
        match self.space.wiring == Wiring::Complete && !primitive.is_convolution() {
            true => Style::Derived,
            false => Style::Supernet,
        }
    }
}

impl Supernet for StackedSupernet {
    fn config(&self) -> &SupernetConfig {
        &self.config
    }

    fn evaluate_cells(&mut self, batch: &Batch, mixture: &[&[Row]], want: GradRequest) -> Result<PassResult> {
        let weights = self.flat(mixture);
        let (loss, correct, found) =
            self.network.train_step_mixed(&batch.numbers(), &batch.labels, &weights, want.weights)?;
        let zeros =
            |cell| vec![[0.0; CANDIDATES]; self.config.edges()[usize::from(self.config.reduces(cell))]];
        let mut mixture_gradient: Vec<_> = (0..self.config.layers).map(zeros).collect();
        if want.mixture {
            for (&[cell, edge, k], gradient) in self.places.iter().zip(found) {
                mixture_gradient[cell][edge][k] = gradient;
            }
        }
        Ok(PassResult { loss, correct, mixture_gradient })
    }

    fn predict_cells(&mut self, batch: &Batch, mixture: &[&[Row]]) -> Result<Vec<f32>> {
        let weights = self.flat(mixture);
        Ok(self.network.predict_mixed(&batch.numbers(), &weights)?)
    }

    fn gradient_norm(&mut self) -> Result<f64> {
        Ok(self.network.tensors().squared_gradient_norm().sqrt())
    }

    fn gradient(&mut self, name: &str) -> Result<Vec<f32>> {
        Ok(self.network.tensors().gradient(name)?)
    }

    fn update(&mut self, step: &mut UpdateFn) -> Result<()> {
        self.network.tensors_mut().for_each_parameter(step);
        Ok(())
    }

    fn weights(&mut self) -> Result<Weights> {
        fused::adapter::named_weights(self.network.tensors())
    }

    fn load(&mut self, weights: &Weights) -> Result<()> {
        Supernet::weights(self)?.check_same(weights)?;
        Ok(self.network.tensors_mut().load(weights)?)
    }
}
