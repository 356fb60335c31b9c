//! Parameters of the architecture: logits over the candidates of each choice of a space.

use core::ops::Range;
use std::sync::Arc;

use milenas_models::space::Space;
use milenas_models::{Genotype, Result, Rng};

use super::Rows;

/// Logit of a pruned candidate. Its weight is exactly 0 in every relaxation, at every temperature, and no number of steps
/// brings it back.
const PRUNED: f32 = -1e6;

/// Logits of the architecture.
#[derive(Clone, Debug, PartialEq)]
pub struct Alphas {
    /// Logits of the candidates, a row for each choice.
    pub operations: Rows,
    /// Logits of the choices of a node: the edge normalisation of PC-DARTS, section 3.3.
    pub edges: Option<Vec<f32>>,
    space: &'static dyn Space,
    /// Choices of each group, and of each node.
    parts: Arc<Parts>,
}

#[derive(Debug, Default, PartialEq)]
struct Parts {
    groups: Vec<(&'static str, Range<usize>)>,
    nodes: Vec<Range<usize>>,
}

impl Parts {
    fn of(space: &dyn Space) -> Self {
        let Parts { mut groups, mut nodes } = Parts::default();
        let mut last = None;
        for (at, choice) in space.choices().iter().enumerate() {
            match groups.last_mut().filter(|(name, _)| *name == choice.group) {
                Some((_, range)) => range.end = at + 1,
                None => groups.push((choice.group, at..at + 1)),
            }
            match nodes.last_mut().filter(|_| last == Some((choice.group, choice.node))) {
                Some(range) => range.end = at + 1,
                None => nodes.push(at..at + 1),
            }
            last = Some((choice.group, choice.node));
        }
        Parts { groups, nodes }
    }
}

/// Whether a logit is that of a pruned candidate.
pub(crate) fn is_pruned(logit: f32) -> bool {
    logit < PRUNED / 2.0
}

pub(crate) fn softmax(row: &[f32]) -> Vec<f32> {
    let mut out = row.to_vec();
    softmax_in_place(&mut out);
    out
}

/// Computes the softmax; zeros if all candidates are pruned.
fn softmax_in_place(values: &mut [f32]) {
    if values.iter().all(|logit| is_pruned(*logit)) {
        return values.fill(0.0);
    }
    let max = values.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
    values.iter_mut().for_each(|x| *x = (*x - max).exp());
    let sum: f32 = values.iter().sum();
    values.iter_mut().for_each(|x| *x /= sum);
}

impl Alphas {
    /// Samples logits from a normal distribution with standard deviation 1e-3, as DARTS.
    pub fn init(space: &'static dyn Space, seed: u64) -> Self {
        let mut alphas = Alphas::zeros(space);
        for (group, (_, choices)) in alphas.parts.clone().groups.iter().enumerate() {
            let mut rng = Rng::new(seed, &format!("alphas.{group}"));
            let logits = alphas.operations[choices.clone()].iter_mut().flatten();
            logits.for_each(|logit| *logit = 1e-3 * rng.normal());
        }
        alphas
    }

    /// Returns logits of zero, without logits of edges.
    pub fn zeros(space: &'static dyn Space) -> Self {
        let row = |choice: milenas_models::space::Choice| vec![0.0; choice.candidates.len()];
        let operations = space.choices().into_iter().map(row).collect();
        Alphas { operations, edges: None, space, parts: Arc::new(Parts::of(space)) }
    }

    /// Returns values in the place of these logits, such as their gradient.
    pub(crate) fn with_values(&self, operations: Rows, edges: Option<Vec<f32>>) -> Self {
        Alphas { operations, edges, ..self.clone() }
    }

    /// Adds logits of the edges, with the same distribution.
    pub fn with_edges(mut self, seed: u64) -> Self {
        let groups = self.parts.groups.iter().enumerate();
        let edges = groups.flat_map(|(group, (_, choices))| {
            let mut rng = Rng::new(seed, &format!("edges.{group}"));
            choices.clone().map(|_| 1e-3 * rng.normal()).collect::<Vec<_>>()
        });
        self.edges = Some(edges.collect());
        self
    }

    /// Returns the space.
    pub fn space(&self) -> &'static dyn Space {
        self.space
    }

    /// Returns all logits concatenated: candidates, then edges.
    pub fn flat(&self) -> Vec<f32> {
        let mut flat = self.operations.concat();
        self.edges.iter().for_each(|edges| flat.extend(edges));
        flat
    }

    /// Calls `change` on all logits in the order of [`flat`](Self::flat), and stores the result.
    pub fn update(&mut self, change: impl FnOnce(&mut [f32])) {
        let mut flat = self.flat();
        change(&mut flat);
        let mut rest = &flat[..];
        for row in self.operations.iter_mut().chain(&mut self.edges) {
            let (own, after) = rest.split_at(row.len());
            row.copy_from_slice(own);
            rest = after;
        }
    }

    /// Prunes a candidate of a choice: its weight stays 0. The weights of the others grow by a common factor.
    pub fn prune(&mut self, choice: usize, candidate: usize) {
        self.operations[choice][candidate] = PRUNED;
    }

    /// Prunes a choice as a whole: the sum of its weights stays 0.
    pub fn prune_choice(&mut self, choice: usize) {
        self.operations[choice].fill(PRUNED);
        self.edges.iter_mut().for_each(|edges| edges[choice] = PRUNED);
    }

    /// Whether a candidate is pruned.
    pub fn is_pruned(&self, choice: usize, candidate: usize) -> bool {
        is_pruned(self.operations[choice][candidate])
    }

    /// Returns the rows of each group of choices, in order.
    pub fn by_group<T: Clone>(&self, rows: &[T]) -> Vec<Vec<T>> {
        self.parts.groups.iter().map(|(_, choices)| rows[choices.clone()].to_vec()).collect()
    }

    /// Returns the names of the groups of choices.
    pub fn groups(&self) -> impl Iterator<Item = &'static str> {
        self.parts.groups.iter().map(|(name, _)| *name)
    }

    /// Returns the choices of each group, in order.
    pub(crate) fn group_ranges(&self) -> impl Iterator<Item = Range<usize>> {
        self.parts.groups.iter().map(|(_, choices)| choices.clone())
    }

    /// Returns the choices of each node, in order.
    pub(crate) fn node_ranges(&self) -> impl Iterator<Item = Range<usize>> {
        self.parts.nodes.iter().cloned()
    }

    /// Returns the weights of the choices, which sum to 1 over those of a node. Without logits of edges each weight is
    /// 1.
    pub fn edge_weights(&self) -> Vec<f32> {
        match &self.edges {
            None => vec![1.0; self.operations.len()],
            Some(edges) => {
                let mut weights = edges.clone();
                self.parts.nodes.iter().for_each(|node| softmax_in_place(&mut weights[node.clone()]));
                weights
            }
        }
    }

    /// Returns the softmax of each choice, times its weight.
    pub fn mixture(&self) -> Rows {
        let rows = self.operations.iter().zip(self.edge_weights());
        rows.map(|(logits, weight)| softmax(logits).into_iter().map(|p| p * weight).collect()).collect()
    }

    /// Converts the gradient with respect to the mixture into that with respect to the logits: `p w (g - sum p
    /// g)` for a choice of weight `w`. The gradient of the edges' logits follows from `sum p g`.
    pub fn gradient(&self, by_mixture: &Rows) -> Alphas {
        let mut means = Vec::with_capacity(self.operations.len());
        let rows = self.operations.iter().zip(by_mixture).zip(self.edge_weights());
        let operations = rows
            .map(|((logits, g), weight)| {
                let p = softmax(logits);
                let mean: f32 = p.iter().zip(g).map(|(p, g)| p * g).sum();
                means.push(mean);
                p.iter().zip(g).map(|(p, g)| weight * (p * (g - mean))).collect()
            })
            .collect();
        self.with_values(operations, self.edge_gradient(&means))
    }

    /// Converts the gradient with respect to the edges' weights into that with respect to their logits.
    pub(crate) fn edge_gradient(&self, by_weights: &[f32]) -> Option<Vec<f32>> {
        self.edges.as_ref()?;
        let weights = self.edge_weights();
        let mut out = vec![0.0; weights.len()];
        for node in &self.parts.nodes {
            let (w, g) = (&weights[node.clone()], &by_weights[node.clone()]);
            let mean: f32 = w.iter().zip(g).map(|(w, g)| w * g).sum();
            let out = out[node.clone()].iter_mut().zip(w.iter().zip(g));
            out.for_each(|(out, (w, g))| *out = w * (g - mean));
        }
        Some(out)
    }

    /// Returns the mean entropy of a mixture in nats, for each group of choices: `ln 8` at the start of a search in the
    /// DARTS space, 0 when all choices are made.
    pub fn entropy(&self) -> Vec<f64> {
        let row = |logits: &Vec<f32>| -> f64 {
            softmax(logits).iter().map(|p| f64::from(*p)).filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum()
        };
        let groups = self.parts.groups.iter().map(|(_, choices)| &self.operations[choices.clone()]);
        groups.map(|rows| rows.iter().map(row).sum::<f64>() / rows.len() as f64).collect()
    }

    /// Derives the architecture from the mixture. In the DARTS space (section 2.4) each node keeps its two strongest
    /// edges, an edge its best operation. With logits of edges, the strength is the product of both weights (PC-DARTS,
    /// section 3.3). `none` counts in the softmax and is never chosen. A cell of NAS-Bench-201 keeps all edges, and
    /// `none` can be chosen. On ties the lower index wins.
    ///
    /// # Errors
    /// Does not fail for logits of the space's form.
    pub fn genotype(&self) -> Result<Genotype> {
        self.space.derive(&self.mixture())
    }
}

#[cfg(test)]
mod tests {
    use milenas_models::space;

    use super::*;

    #[test]
    fn gradient_is_the_derivative_of_the_softmax() {
        let alphas = Alphas::init(&space::DARTS, 1).with_edges(1);
        let mut rng = Rng::new(2, "upstream");
        let g: Rows = (0..28).map(|_| (0..8).map(|_| rng.normal()).collect()).collect();
        let value = |a: &Alphas| -> f64 {
            let pairs = a.mixture().into_iter().flatten().zip(g.iter().flatten());
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
        let mut alphas = Alphas::init(&space::DARTS, 1).with_edges(1);
        for node in [0..2, 2..5, 5..9, 9..14, 14..16, 23..28] {
            assert!((alphas.edge_weights()[node].iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
        // All operations are nearly tied, so the edges decide.
        alphas.edges = Some((0..28).map(|e| if e % 14 == 6 || e % 14 == 8 { 1.0 } else { 0.0 }).collect());
        let genotype = alphas.genotype().unwrap();
        assert_eq!([4, 5].map(|e| genotype.cell("normal").unwrap().edges()[e].from), [1, 3]);
    }

    #[test]
    fn entropy_starts_at_the_logarithm_of_the_number_of_candidates() {
        for space in space::SPACES {
            let alphas = Alphas::init(space, 0);
            let expected = (alphas.operations[0].len() as f64).ln();
            assert!(alphas.entropy().iter().all(|e| (e - expected).abs() < 1e-4));
            assert_eq!(alphas.groups().count(), alphas.entropy().len());
        }
    }
}
