//! Parameters of the architecture: logits over the candidates of each edge, for normal and for reduction cells.

use core::ops::Range;

use milenas_models::genotype::{Cell, Edge, Wiring};
use milenas_models::{Genotype, Primitive, Result, Rng, Space};

use super::{CANDIDATES, Mixture};

/// Logits of the architecture.
#[derive(Clone, Debug, PartialEq)]
pub struct Alphas {
    /// Logits of the candidates, in the shape of a [`Mixture`].
    pub operations: Mixture,
    /// Logits of the edges into a node, for normal and for reduction cells: the edge normalisation of PC-DARTS,
    /// section 3.3.
    pub edges: Option<[Vec<f32>; 2]>,
}

pub(crate) fn softmax(row: &[f32; CANDIDATES]) -> [f32; CANDIDATES] {
    let mut out = *row;
    softmax_in_place(&mut out);
    out
}

fn softmax_in_place(values: &mut [f32]) {
    let max = values.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
    values.iter_mut().for_each(|x| *x = (*x - max).exp());
    let sum: f32 = values.iter().sum();
    values.iter_mut().for_each(|x| *x /= sum);
}

/// Returns the range of edges into each node, for `count` edges in total.
fn nodes(count: usize) -> impl Iterator<Item = Range<usize>> {
    let starts = (2..).scan(0, |start, inputs| {
        *start += inputs;
        Some(*start - inputs..*start)
    });
    starts.take_while(move |edges| edges.end <= count)
}

impl Alphas {
    /// Logit of a column without a candidate: its weight and its gradient are 0.
    pub(crate) const ABSENT: f32 = -1e9;

    /// Samples logits from a normal distribution with standard deviation 1e-3, as DARTS.
    ///
    /// # Panics
    /// Panics for a space of more than [`CANDIDATES`] candidates.
    pub fn init(space: &Space, seed: u64) -> Self {
        let candidates = space.primitives.len();
        assert!(
            candidates <= CANDIDATES,
            "space {}: {candidates} candidates, at most {CANDIDATES}",
            space.name
        );
        let table = |name, edges: usize| {
            let (mut rng, used) = (Rng::new(seed, name), space.primitives.len());
            let logit = |rng: &mut Rng, k| if k < used { 1e-3 * rng.normal() } else { Self::ABSENT };
            (0..edges).map(|_| std::array::from_fn(|k| logit(&mut rng, k))).collect()
        };
        let edges = space.edges().len();
        Alphas::new([
            table("alphas.0", edges),
            table("alphas.1", if space.has_reduction() { edges } else { 0 }),
        ])
    }

    /// Creates logits of candidates without logits of edges.
    pub fn new(operations: Mixture) -> Self {
        Alphas { operations, edges: None }
    }

    /// Adds logits of the edges, with the same distribution.
    pub fn with_edges(mut self, seed: u64) -> Self {
        self.edges = Some([0, 1].map(|kind| {
            let mut rng = Rng::new(seed, &format!("edges.{kind}"));
            self.operations[kind].iter().map(|_| 1e-3 * rng.normal()).collect()
        }));
        self
    }

    /// Returns all logits concatenated: candidates, then edges, each of normal, then of reduction cells.
    pub fn flat(&self) -> Vec<f32> {
        let mut flat = self.operations.concat().into_flattened();
        self.edges.iter().flatten().for_each(|edges| flat.extend(edges));
        flat
    }

    /// Calls `change` on all logits in the order of [`flat`](Self::flat), and stores the result.
    pub fn update(&mut self, change: impl FnOnce(&mut [f32])) {
        let mut flat = self.flat();
        change(&mut flat);
        let mut rest = &flat[..];
        let operations = self.operations.iter_mut().map(|table| table.as_flattened_mut());
        for part in operations.chain(self.edges.iter_mut().flatten().map(Vec::as_mut_slice)) {
            let (values, after) = rest.split_at(part.len());
            part.copy_from_slice(values);
            rest = after;
        }
    }

    /// Returns the weights of the edges, which sum to 1 over the edges into a node. Without logits of edges
    /// each weight is 1.
    pub fn edge_weights(&self) -> [Vec<f32>; 2] {
        [0, 1].map(|kind| match &self.edges {
            None => vec![1.0; self.operations[kind].len()],
            Some(edges) => {
                let mut weights = edges[kind].clone();
                nodes(weights.len()).for_each(|node| softmax_in_place(&mut weights[node]));
                weights
            }
        })
    }

    /// Returns the softmax of each edge, times the edge's weight.
    pub fn mixture(&self) -> Mixture {
        let weights = self.edge_weights();
        [0, 1].map(|kind| {
            let rows = self.operations[kind].iter().zip(&weights[kind]);
            rows.map(|(logits, weight)| softmax(logits).map(|p| p * weight)).collect()
        })
    }

    /// Converts the gradient with respect to the mixture into that with respect to the logits: `p w (g - sum p
    /// g)` on each edge of weight `w`. The gradient of the edges' logits follows from `sum p g`.
    pub fn gradient(&self, by_mixture: &Mixture) -> Alphas {
        let weights = self.edge_weights();
        let mut means = [Vec::new(), Vec::new()];
        let operations = [0, 1].map(|kind| {
            let rows = self.operations[kind].iter().zip(&by_mixture[kind]).zip(&weights[kind]);
            rows.map(|((logits, g), weight)| {
                let p = softmax(logits);
                let mean: f32 = p.iter().zip(g).map(|(p, g)| p * g).sum();
                means[kind].push(mean);
                std::array::from_fn(|k| weight * (p[k] * (g[k] - mean)))
            })
            .collect()
        });
        Alphas { operations, edges: self.edge_gradient(&means) }
    }

    /// Converts the gradient with respect to the edges' weights into that with respect to their logits.
    pub(crate) fn edge_gradient(&self, by_weights: &[Vec<f32>; 2]) -> Option<[Vec<f32>; 2]> {
        self.edges.as_ref()?;
        let weights = self.edge_weights();
        Some([0, 1].map(|kind| {
            let mut out = vec![0.0; weights[kind].len()];
            for node in nodes(out.len()) {
                let (w, g) = (&weights[kind][node.clone()], &by_weights[kind][node.clone()]);
                let mean: f32 = w.iter().zip(g).map(|(w, g)| w * g).sum();
                out[node].iter_mut().zip(w.iter().zip(g)).for_each(|(out, (w, g))| *out = w * (g - mean));
            }
            out
        }))
    }

    /// Returns the mean entropy of an edge's mixture in nats, for normal and for reduction cells: `ln 8` at the
    /// start, 0 when all choices are made.
    pub fn entropy(&self) -> [f64; 2] {
        let row = |logits: &[f32; CANDIDATES]| -> f64 {
            softmax(logits).iter().map(|p| f64::from(*p)).filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum()
        };
        self.operations.each_ref().map(|table| table.iter().map(row).sum::<f64>() / table.len().max(1) as f64)
    }

    /// Derives the architecture (DARTS, section 2.4): each node keeps its two strongest edges, an edge its best
    /// operation. With logits of edges, the strength is the product of both weights (PC-DARTS, section 3.3).
    /// `none` counts in the softmax and is never chosen. A cell of NAS-Bench-201 keeps all edges, and `none`
    /// can be chosen. On ties the lower index wins.
    pub fn genotype(&self, space: &Space) -> Result<Genotype> {
        let reduce = space.has_reduction().then(|| self.cell(space, 1)).transpose()?;
        Ok(Genotype::new(self.cell(space, 0)?, reduce).of(*space))
    }

    fn cell(&self, space: &Space, kind: usize) -> Result<Cell> {
        let (mut kept, weights) = (Vec::new(), &self.edge_weights()[kind]);
        for (index, node) in space.states().enumerate() {
            let edges = space.edges().into_iter().zip(self.operations[kind].iter().zip(weights));
            let mut ranked: Vec<(f32, Edge)> = edges
                .filter(|((_, to), _)| *to == node)
                .map(|((from, _), (logits, weight))| {
                    let operations =
                        space.primitives.iter().copied().zip(softmax(logits).map(|p| p * weight));
                    let operations =
                        operations.filter(|(primitive, _)| space.choices().any(|p| p == *primitive));
                    let first = (f32::NEG_INFINITY, Edge { primitive: Primitive::None, from });
                    operations.fold(
                        first,
                        |best, (primitive, p)| if p > best.0 { (p, Edge { primitive, from }) } else { best },
                    )
                })
                .collect();
            if space.wiring == Wiring::TwoEdges {
                ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
            }
            let count = space.wiring.edges_into(index);
            kept.extend(ranked.into_iter().take(count).map(|(_, edge)| edge));
        }
        Cell::new(space.wiring, kept, space.concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_competes_but_is_never_chosen() {
        let space = Space::DARTS;
        let mut alphas = Alphas::new([vec![[0.0; 8]; 14], vec![[0.0; 8]; 14]]);
        for row in &mut alphas.operations[0] {
            row[0] = 5.0;
        }
        alphas.operations[0][4][5] = 6.0; // second node, from the first one
        let genotype = alphas.genotype(&space).unwrap();
        assert!(space.contains(&genotype));
        let second = genotype.normal.edges()[2..4].to_vec();
        assert_eq!(second[0], Edge { primitive: Primitive::SepConv5x5, from: 2 });
        // All other choices are tied: the lowest edge and the first operation win.
        assert_eq!(second[1], Edge { primitive: Primitive::MaxPool3x3, from: 0 });
    }

    #[test]
    fn gradient_is_the_derivative_of_the_softmax() {
        let alphas = Alphas::init(&Space::DARTS, 1).with_edges(1);
        let mut rng = Rng::new(2, "upstream");
        let g: Mixture = [0, 1].map(|_| (0..14).map(|_| std::array::from_fn(|_| rng.normal())).collect());
        let value = |a: &Alphas| -> f64 {
            let pairs = a.mixture().into_iter().flatten().flatten().zip(g.iter().flatten().flatten());
            pairs.map(|(p, g)| f64::from(p) * f64::from(*g)).sum()
        };
        let gradient = alphas.gradient(&g).flat();
        for i in [0, 112 + 3 * 8 + 2, 223, 224, 229, 224 + 14, 251] {
            let [plus, minus] = [1e-2, -1e-2].map(|by| {
                let mut moved = alphas.clone();
                moved.update(|flat| flat[i] += by);
                value(&moved)
            });
            let slope = (plus - minus) / 2e-2;
            assert!((slope - f64::from(gradient[i])).abs() < 1e-4, "{i}: {slope} {}", gradient[i]);
        }
    }

    #[test]
    fn a_nodes_edges_share_one_and_rank_by_both_weights() {
        let mut alphas = Alphas::init(&Space::DARTS, 1).with_edges(1);
        let sums = |alphas: &Alphas, node: Range<usize>| alphas.edge_weights()[1][node].iter().sum::<f32>();
        for node in [0..2, 2..5, 5..9, 9..14] {
            assert!((sums(&alphas, node) - 1.0).abs() < 1e-6);
        }
        // All operations are nearly tied, so the edges decide.
        alphas.edges =
            Some([0, 1].map(|_| (0..14).map(|e| if e == 6 || e == 8 { 1.0 } else { 0.0 }).collect()));
        let genotype = alphas.genotype(&Space::DARTS).unwrap();
        assert_eq!([4, 5].map(|e| genotype.normal.edges()[e].from), [1, 3]);
    }

    #[test]
    fn entropy_starts_at_ln_8() {
        let entropy = Alphas::init(&Space::DARTS, 0).entropy();
        assert!(entropy.iter().all(|e| (e - 8f64.ln()).abs() < 1e-4));
    }
}
