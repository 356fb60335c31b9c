//! The architecture's parameters: logits over the candidates of each edge, for normal and for reduction cells.

use milenas_models::genotype::{Cell, Edge};
use milenas_models::{Genotype, Primitive, Result, Rng, Space};

use super::{CANDIDATES, Mixture};

/// Logits, in the shape of a [`Mixture`].
#[derive(Clone, Debug, PartialEq)]
pub struct Alphas(pub Mixture);

pub(crate) fn softmax(row: &[f32; CANDIDATES]) -> [f32; CANDIDATES] {
    let max = row.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
    let exp = row.map(|x| (x - max).exp());
    let sum: f32 = exp.iter().sum();
    exp.map(|e| e / sum)
}

impl Alphas {
    /// Normal with deviation 1e-3, as DARTS starts.
    pub fn init(space: &Space, seed: u64) -> Self {
        let table = |name| {
            let mut rng = Rng::new(seed, name);
            space.edges().iter().map(|_| std::array::from_fn(|_| 1e-3 * rng.normal())).collect()
        };
        Alphas([table("alphas.0"), table("alphas.1")])
    }

    /// Changes all logits, shown one after the other.
    pub fn update(&mut self, change: impl FnOnce(&mut [f32])) {
        let mut flat = self.0.concat();
        change(flat.as_flattened_mut());
        let reduce = flat.split_off(self.0[0].len());
        self.0 = [flat, reduce];
    }

    /// The softmax of each edge.
    pub fn mixture(&self) -> Mixture {
        self.0.each_ref().map(|table| table.iter().map(softmax).collect())
    }

    /// The gradient by the logits from that by the mixture: `p (g - sum p g)` on each edge.
    pub fn gradient(&self, by_mixture: &Mixture) -> Mixture {
        let row = |(logits, g): (&[f32; CANDIDATES], &[f32; CANDIDATES])| {
            let p = softmax(logits);
            let mean: f32 = p.iter().zip(g).map(|(p, g)| p * g).sum();
            std::array::from_fn(|k| p[k] * (g[k] - mean))
        };
        [0, 1].map(|kind| self.0[kind].iter().zip(&by_mixture[kind]).map(row).collect())
    }

    /// The mean entropy of an edge's mixture, in nats, for normal and for reduction cells: `ln 8` at the start,
    /// 0 when every choice is made.
    pub fn entropy(&self) -> [f64; 2] {
        let row = |logits: &[f32; CANDIDATES]| -> f64 {
            softmax(logits).iter().map(|p| f64::from(*p)).filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum()
        };
        self.0.each_ref().map(|table| table.iter().map(row).sum::<f64>() / table.len().max(1) as f64)
    }

    /// The architecture they stand for (DARTS, section 2.4): each node keeps its two strongest edges, an edge its best
    /// operation. `none` counts in the softmax and is never chosen; ties keep the lower index.
    pub fn genotype(&self, space: &Space) -> Result<Genotype> {
        Ok(Genotype { normal: self.cell(space, 0)?, reduce: self.cell(space, 1)? })
    }

    fn cell(&self, space: &Space, kind: usize) -> Result<Cell> {
        let mut kept = Vec::new();
        for node in space.concat() {
            let edges = space.edges().into_iter().zip(&self.0[kind]).filter(|((_, to), _)| *to == node);
            let mut ranked: Vec<(f32, Edge)> = edges
                .map(|((from, _), logits)| {
                    let operations = space.primitives.iter().copied().zip(softmax(logits));
                    let operations = operations.filter(|(primitive, _)| *primitive != Primitive::None);
                    let first = (f32::NEG_INFINITY, Edge { primitive: Primitive::None, from });
                    operations.fold(
                        first,
                        |best, (primitive, p)| if p > best.0 { (p, Edge { primitive, from }) } else { best },
                    )
                })
                .collect();
            ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
            kept.extend(ranked.into_iter().take(2).map(|(_, edge)| edge));
        }
        Cell::new(kept, space.concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_competes_but_is_never_chosen() {
        let space = Space::darts();
        let mut alphas = Alphas([vec![[0.0; 8]; 14], vec![[0.0; 8]; 14]]);
        for row in &mut alphas.0[0] {
            row[0] = 5.0;
        }
        alphas.0[0][4][5] = 6.0; // second node, from the first one
        let genotype = alphas.genotype(&space).unwrap();
        assert!(space.contains(&genotype));
        let second = genotype.normal.edges()[2..4].to_vec();
        assert_eq!(second[0], Edge { primitive: Primitive::SepConv5x5, from: 2 });
        // All else is tied: the lowest edge and the first operation.
        assert_eq!(second[1], Edge { primitive: Primitive::MaxPool3x3, from: 0 });
    }

    #[test]
    fn gradient_is_the_slope_of_the_softmax() {
        let alphas = Alphas::init(&Space::darts(), 1);
        let mut rng = Rng::new(2, "upstream");
        let g: Mixture = [0, 1].map(|_| (0..14).map(|_| std::array::from_fn(|_| rng.normal())).collect());
        let value = |a: &Alphas| -> f64 {
            let pairs = a.mixture().into_iter().flatten().flatten().zip(g.iter().flatten().flatten());
            pairs.map(|(p, g)| f64::from(p) * f64::from(*g)).sum()
        };
        let mut moved = [alphas.clone(), alphas.clone()];
        moved[0].0[1][3][2] += 1e-2;
        moved[1].0[1][3][2] -= 1e-2;
        let slope = (value(&moved[0]) - value(&moved[1])) / 2e-2;
        assert!((slope - f64::from(alphas.gradient(&g)[1][3][2])).abs() < 1e-4);
    }

    #[test]
    fn entropy_starts_at_ln_8() {
        let entropy = Alphas::init(&Space::darts(), 0).entropy();
        assert!(entropy.iter().all(|e| (e - 8f64.ln()).abs() < 1e-4));
    }
}
