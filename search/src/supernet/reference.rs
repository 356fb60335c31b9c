//! Reference implementation of the supernet. It runs the graph of each candidate and mixes the results; it is
//! slow.

use candle_core::{DType, Device, Tensor, Var};
use milenas_models::assemble::preprocess;
use milenas_models::genotype::Wiring;
use milenas_models::graph::{Builder, Fact, Graph, Value};
use milenas_models::op::Identity;
use milenas_models::primitive::Style;
use milenas_models::{Executor, Mode, Primitive, Weights, assemble};

use super::{CANDIDATES, GradRequest, PassResult, Row, Supernet, SupernetConfig, UpdateFn};
use crate::data::Batch;
use crate::{Result, loss};

/// Graphs of one cell.
struct ReferenceCell {
    /// Graph from the outputs of the previous cells to the first states. In a residual block it is the whole
    /// block.
    prepare: Graph,
    /// Graph from state to addend, by edge and candidate; empty in a residual block.
    candidates: Vec<Vec<Graph>>,
}

impl ReferenceCell {
    fn new(config: &SupernetConfig, layer: usize, inputs: &[Fact]) -> Result<ReferenceCell> {
        let (space, name) = (&config.space, format!("cells.{layer}"));
        let (reduction, channels) = (config.reduces(layer), config.channels_at(layer));
        let reduced = layer > 0 && config.reduces(layer - 1);
        let facts: Vec<&Fact> = inputs.iter().collect();
        let prepare = fragment(&facts, |b, x| {
            b.scope(&name, |b| match (space.wiring, reduction) {
                (Wiring::TwoEdges, _) => {
                    Ok(preprocess(b, [x[0], x[1]], channels, reduced, Style::Supernet)?.to_vec())
                }
                (Wiring::Complete, true) => {
                    Ok(vec![assemble::residual_reduction(b, x[0], channels, Style::Supernet)?])
                }
                (Wiring::Complete, false) => Ok(vec![b.wire("pre", Identity, &[x[0]])?]),
            })
        })?;
        let mut candidates = Vec::new();
        if reduction && !space.has_reduction() {
            return Ok(ReferenceCell { prepare, candidates });
        }
        let (_, height, width) = out_fact(&prepare).chw().unwrap_or_default();
        let part = channels / config.partial;
        let input = Fact::image(part, height, width);
        let mut state = input.clone();
        for (edge, (from, _)) in space.edges().into_iter().enumerate() {
            let outer = from < space.wiring.inputs();
            let stride = if reduction && outer { 2 } else { 1 };
            let x = if outer { &input } else { &state };
            let one = |(k, primitive): (usize, &Primitive)| {
                let style = config.style(*primitive);
                fragment(&[x], |b, v| {
                    b.scope(format!("{name}.edges.{edge}.{k}"), |b| {
                        Ok(vec![primitive.emit(b, v[0], part, stride, style)?])
                    })
                })
            };
            let all = space.primitives.iter().enumerate().map(one).collect::<Result<Vec<_>>>()?;
            if edge == 0 {
                state = out_fact(&all[0]);
            }
            candidates.push(all);
        }
        Ok(ReferenceCell { prepare, candidates })
    }

    fn output(&self, config: &SupernetConfig) -> Fact {
        let state = self.candidates.first().map_or(&self.prepare, |edge| &edge[0]);
        let (channels, height, width) = out_fact(state).chw().unwrap_or_default();
        Fact::image(channels * config.partial * config.space.concat().len(), height, width)
    }
}

/// Supernet of separate graphs with shared weights.
pub struct Reference {
    stem: Graph,
    cells: Vec<ReferenceCell>,
    head: Graph,
    config: SupernetConfig,
    weights: Weights,
    /// Index among the trainable weights, name and gradient of each weight with a gradient.
    gradients: Vec<(usize, String, Vec<f32>)>,
}

fn fragment(
    inputs: &[&Fact],
    body: impl FnOnce(&mut Builder, &[Value]) -> milenas_models::Result<Vec<Value>>,
) -> Result<Graph> {
    let mut b = Builder::new();
    let inputs = inputs.iter().enumerate().map(|(i, fact)| b.input(&format!("in{i}"), (*fact).clone()));
    let inputs = inputs.collect::<milenas_models::Result<Vec<_>>>()?;
    for (i, value) in body(&mut b, &inputs)?.into_iter().enumerate() {
        b.output(&format!("out{i}"), value);
    }
    Ok(b.finish()?)
}

fn out_fact(graph: &Graph) -> Fact {
    graph.fact(graph.outputs()[0].1).clone()
}

impl Reference {
    /// Creates a supernet for images `[in_channels, height, width]`.
    pub fn new(config: &SupernetConfig, height: usize, width: usize, seed: u64) -> Result<Self> {
        let image = Fact::image(config.in_channels, height, width);
        let stem_channels = config.stem_channels();
        let stem = fragment(&[&image], |b, x| Ok(vec![assemble::stem(b, x[0], stem_channels)?]))?;
        let mut inputs = vec![out_fact(&stem); config.space.wiring.inputs()];
        let mut cells: Vec<ReferenceCell> = Vec::new();
        for layer in 0..config.layers {
            let cell = ReferenceCell::new(config, layer, &inputs)?;
            inputs.remove(0);
            inputs.push(cell.output(config));
            cells.push(cell);
        }
        let head = fragment(&[&inputs[inputs.len() - 1]], |b, x| {
            let last = match config.space.wiring {
                Wiring::TwoEdges => x[0],
                Wiring::Complete => assemble::last_activation(b, x[0])?,
            };
            Ok(vec![assemble::head(b, last, config.classes)?])
        })?;
        let mut weights = Weights::default();
        let graphs = cells.iter().flat_map(|c| c.candidates.iter().flatten().chain([&c.prepare]));
        for graph in graphs.chain([&stem, &head]) {
            weights.extend(Weights::init(graph, seed)?);
        }
        Ok(Reference { stem, cells, head, config: *config, weights, gradients: Vec::new() })
    }

    /// Returns the multiply-accumulates of a forward pass over one image, for all candidates on all edges.
    pub fn macs(&self) -> u64 {
        let cells = self.cells.iter().flat_map(|c| c.candidates.iter().flatten().chain([&c.prepare]));
        cells.chain([&self.stem, &self.head]).map(|graph| milenas_models::cost(graph).macs).sum()
    }

    fn run(&self, graph: &Graph, inputs: &[Tensor], mode: Mode) -> Result<Tensor> {
        Ok(Executor::new(graph, &self.weights).run(inputs, mode)?.remove(0))
    }

    /// Returns a node from the mixed part of its channels and, with partial channels, from the bypass. They are
    /// shuffled, so that the next edges see channels of both.
    fn node(&self, mixed: &mut Option<Tensor>, rest: &mut Option<Tensor>) -> Result<Option<Tensor>> {
        let Some(rest) = rest.take() else { return Ok(mixed.take()) };
        let all = Tensor::cat(&mixed.take().into_iter().chain([rest]).collect::<Vec<_>>(), 1)?;
        let (n, c, h, w) = all.dims4()?;
        let parts = self.config.partial;
        let shuffled = all.reshape((n, parts, c / parts, h * w))?.transpose(1, 2)?.contiguous()?;
        Ok(Some(shuffled.reshape((n, c, h, w))?))
    }

    /// Runs the network, `[N, C, H, W] -> [N, classes]`. `mixture` holds `[edges, candidates]` for each cell as
    /// tensors, and `rows` the same values as arrays.
    fn forward(&self, images: &Tensor, mixture: &[Tensor], rows: &[&[Row]], mode: Mode) -> Result<Tensor> {
        let (space, inner) = (&self.config.space, self.config.space.wiring.inputs());
        let mut inputs = vec![self.run(&self.stem, std::slice::from_ref(images), mode)?; inner];
        for (cell, (weights, rows)) in self.cells.iter().zip(mixture.iter().zip(rows)) {
            let mut states = Executor::new(&cell.prepare, &self.weights).run(&inputs, mode)?;
            let part = states[0].dim(1)? / self.config.partial;
            let (mut sum, mut rest): (Option<Tensor>, Option<Tensor>) = (None, None);
            for ((edge, candidates), (from, to)) in cell.candidates.iter().enumerate().zip(space.edges()) {
                if to > states.len() {
                    states.extend(self.node(&mut sum, &mut rest)?);
                }
                let source = states[from].narrow(1, 0, part)?;
                for (k, graph) in candidates.iter().enumerate() {
                    // The first candidate, `none`, is kept, so that every node has a term.
                    if rows[edge][k] == 0.0 && k > 0 {
                        continue;
                    }
                    let y = self.run(graph, std::slice::from_ref(&source), mode)?;
                    let weight = weights.narrow(0, edge, 1)?.narrow(1, k, 1)?.reshape((1, 1, 1, 1))?;
                    add(&mut sum, y.broadcast_mul(&weight)?)?;
                    if self.config.partial > 1 && rows[edge][k] != 0.0 {
                        let past = states[from].narrow(1, part, states[from].dim(1)? - part)?;
                        let strided = y.dims()[2..] != past.dims()[2..];
                        let past = if strided { halve(&past)? } else { past };
                        add(&mut rest, past.broadcast_mul(&weight)?)?;
                    }
                }
            }
            states.extend(self.node(&mut sum, &mut rest)?);
            let output = match space.wiring {
                Wiring::TwoEdges => Tensor::cat(&states[inner..], 1)?,
                Wiring::Complete => states.remove(states.len() - 1),
            };
            inputs.remove(0);
            inputs.push(output);
        }
        let last = inputs.remove(inner - 1);
        self.run(&self.head, &[last], mode)
    }
}

fn add(sum: &mut Option<Tensor>, term: Tensor) -> Result<()> {
    *sum = Some(match sum.take() {
        None => term,
        Some(sum) => (sum + term)?,
    });
    Ok(())
}

/// Computes 2x2 maxima with stride 2. A last row or column without a partner is kept. Candle's own pool loses
/// three quarters of the gradient.
fn halve(x: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let x = x.pad_with_same(2, 0, h % 2)?.pad_with_same(3, 0, w % 2)?;
    let (h, w) = (h.div_ceil(2), w.div_ceil(2));
    let x = x.reshape((n * c, h, 2, w, 2))?;
    let rows = x.narrow(2, 0, 1)?.maximum(&x.narrow(2, 1, 1)?)?;
    Ok(rows.narrow(4, 0, 1)?.maximum(&rows.narrow(4, 1, 1)?)?.reshape((n, c, h, w))?)
}

fn table(rows: &[[f32; CANDIDATES]]) -> candle_core::Result<Tensor> {
    // A tensor has at least one row.
    if rows.is_empty() {
        return Tensor::zeros((1, CANDIDATES), DType::F32, &Device::Cpu);
    }
    Tensor::from_slice(rows.as_flattened(), (rows.len(), CANDIDATES), &Device::Cpu)
}

impl Supernet for Reference {
    fn config(&self) -> &SupernetConfig {
        &self.config
    }

    fn evaluate_cells(&mut self, batch: &Batch, mixture: &[&[Row]], want: GradRequest) -> Result<PassResult> {
        let vars = mixture
            .iter()
            .map(|rows| Var::from_tensor(&table(rows)?))
            .collect::<candle_core::Result<Vec<_>>>()?;
        let tensors =
            vars.iter().map(|v| if want.mixture { v.as_tensor().clone() } else { v.as_detached_tensor() });
        let logits = self.forward(&batch.tensor()?, &tensors.collect::<Vec<_>>(), mixture, Mode::Train)?;
        let (loss, correct) = loss::cross_entropy(&logits, &batch.labels, 0.0)?;
        let gradients = loss.backward()?;
        if want.weights {
            self.gradients.clear();
            for (index, (name, var)) in self.weights.trainable().enumerate() {
                if let Some(gradient) = gradients.get(var) {
                    self.gradients.push((index, name.to_string(), gradient.flatten_all()?.to_vec1()?));
                }
            }
        }
        let rows = |var: &Var| -> Result<Vec<[f64; CANDIDATES]>> {
            let zeros = vec![0.0; var.elem_count()];
            let flat =
                gradients.get(var).map(|g| g.flatten_all()?.to_vec1::<f32>()).transpose()?.unwrap_or(zeros);
            Ok(flat.as_chunks::<CANDIDATES>().0.iter().map(|row| row.map(f64::from)).collect())
        };
        let mut mixture_gradient = vars.iter().map(rows).collect::<Result<Vec<_>>>()?;
        mixture_gradient.iter_mut().zip(mixture).for_each(|(g, rows)| g.truncate(rows.len()));
        Ok(PassResult { loss: f64::from(loss.to_scalar::<f32>()?), correct, mixture_gradient })
    }

    fn predict_cells(&mut self, batch: &Batch, mixture: &[&[Row]]) -> Result<Vec<f32>> {
        let tables = mixture.iter().map(|rows| table(rows)).collect::<candle_core::Result<Vec<_>>>()?;
        Ok(self.forward(&batch.tensor()?, &tables, mixture, Mode::Eval)?.flatten_all()?.to_vec1()?)
    }

    fn gradient_norm(&mut self) -> Result<f64> {
        Ok(self.gradients.iter().map(|(.., g)| crate::optim::squared_norm(g)).sum::<f64>().sqrt())
    }

    fn gradient(&mut self, name: &str) -> Result<Vec<f32>> {
        let found = self.gradients.iter().find(|(_, known, _)| known == name).map(|(.., g)| g.clone());
        Ok(match found {
            Some(gradient) => gradient,
            None => {
                let names = self.weights.iter().map(|(known, _)| known);
                let var = self.weights.get(name);
                let var = var.ok_or_else(|| milenas_models::Error::unknown("weight", name, names))?;
                vec![0.0; var.elem_count()]
            }
        })
    }

    fn update(&mut self, step: &mut UpdateFn) -> Result<()> {
        for (index, name, gradient) in &self.gradients {
            self.weights.modify(name, |w| step(*index, w, gradient))?;
        }
        Ok(())
    }

    fn weights(&mut self) -> Result<Weights> {
        Ok(self.weights.detached()?)
    }

    fn load(&mut self, weights: &Weights) -> Result<()> {
        self.weights.check_same(weights)?;
        self.weights = weights.detached()?;
        Ok(())
    }
}
