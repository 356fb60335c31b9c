//! What a search found of every model size (MiLeNAS, section 3.3), and which of them is chosen.
//!
//! The supernet's validation accuracy rises while convolutions give way to skips, so across sizes the highest one picks
//! the worst network (figure 3c). It decides inside a size, never across sizes.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use milenas_models::{Cost, Genotype, NetworkConfig, assemble, cost};

use crate::supernet::Alphas;
use crate::{Error, Result};

/// MiLeNAS' size of a model: convolutions among the eight operations of each derived cell.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub struct ModelSize {
    /// Of the normal cell.
    pub n: usize,
    /// Of the reduction cell.
    pub r: usize,
}

impl ModelSize {
    /// Of an architecture.
    pub fn of(genotype: &Genotype) -> ModelSize {
        let [n, r] = genotype.convolutions();
        ModelSize { n, r }
    }
}

impl fmt::Display for ModelSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}_r{}", self.n, self.r)
    }
}

impl FromStr for ModelSize {
    type Err = String;

    /// Reads `n=6,r=0`.
    fn from_str(text: &str) -> std::result::Result<ModelSize, String> {
        let part = |part: Option<&str>, name: &str| {
            let (key, value) = part?.split_once('=')?;
            (key.trim() == name).then(|| value.trim().parse().ok())?
        };
        let mut parts = text.split(',');
        match (part(parts.next(), "n"), part(parts.next(), "r"), parts.next()) {
            (Some(n), Some(r), None) => Ok(ModelSize { n, r }),
            _ => {
                Err(format!("`{text}`, expected n=N,r=R: convolutions of the normal and the reduction cell"))
            }
        }
    }
}

/// The best of a size.
#[derive(Clone, Debug, PartialEq)]
pub struct Best {
    /// Whose end it was derived at.
    pub epoch: usize,
    /// Validation images that the supernet had right, and all of them.
    pub accuracy: (usize, usize),
    /// The architecture.
    pub genotype: Genotype,
    /// The logits it comes from.
    pub alphas: Alphas,
}

/// The best of every size that was met.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BestBySize(pub BTreeMap<ModelSize, Best>);

impl BestBySize {
    /// Keeps `found` if no earlier one of its size is as good.
    pub fn see(&mut self, found: Best) {
        let size = ModelSize::of(&found.genotype);
        // Of one run, so all counts are of the same images.
        if self.0.get(&size).is_none_or(|best| best.accuracy.0 < found.accuracy.0) {
            self.0.insert(size, found);
        }
    }

    /// The one to take: of the size that the search ended at, or, under limits, the largest within them.
    ///
    /// # Errors
    /// No size within the limits; the smallest that there is is named.
    pub fn choose(
        &self,
        end: &Genotype,
        limits: &CostLimits,
        network: &NetworkConfig,
    ) -> Result<Option<ModelSize>> {
        let size = ModelSize::of(end);
        if *limits == CostLimits::default() {
            return Ok(self.0.contains_key(&size).then_some(size));
        }
        let costs = self.0.iter().map(|(size, best)| Ok((*size, measure(&best.genotype, network)?)));
        let costs = costs.collect::<Result<Vec<_>>>()?;
        let fitting = costs.iter().filter(|(_, cost)| limits.hold(cost));
        let rank = |cost: &Cost| if limits.params == 0 { (cost.macs, 0) } else { (cost.params, cost.macs) };
        if let Some((size, _)) = fitting.max_by_key(|(_, cost)| rank(cost)) {
            return Ok(Some(*size));
        }
        let smallest = costs.iter().min_by_key(|(_, cost)| rank(cost));
        let smallest = smallest.map_or("there is none yet".into(), |(size, cost)| {
            let Cost { params, macs } = *cost;
            format!("the smallest, {size}, has {}", CostLimits { params, macs })
        });
        let problem = format!(
            "no genotype found has at most {limits} at {} channels and {} layers; {smallest}. Help: \
             --resume with larger --max-params or --max-macs chooses again without searching again",
            network.channels, network.layers
        );
        Err(Error::Data { problem })
    }
}

/// The most that a chosen network may have; 0 for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CostLimits {
    /// Parameters.
    pub params: u64,
    /// Multiply-accumulates of an image.
    pub macs: u64,
}

impl CostLimits {
    /// Whether a cost is within them.
    pub fn hold(&self, cost: &Cost) -> bool {
        (self.params == 0 || cost.params <= self.params) && (self.macs == 0 || cost.macs <= self.macs)
    }
}

impl fmt::Display for CostLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.params, self.macs) {
            (params, 0) => write!(f, "{params} parameters"),
            (0, macs) => write!(f, "{macs} multiply-accumulates"),
            (params, macs) => write!(f, "{params} parameters and {macs} multiply-accumulates"),
        }
    }
}

/// What an architecture costs as a network for evaluation.
pub fn measure(genotype: &Genotype, network: &NetworkConfig) -> Result<Cost> {
    Ok(cost(&assemble(genotype, network)?))
}

#[cfg(test)]
mod tests {
    use milenas_models::Space;

    use super::*;

    const NETWORK: NetworkConfig = NetworkConfig {
        channels: 4,
        layers: 3,
        classes: 10,
        in_channels: 3,
        height: 16,
        width: 16,
        skeleton: milenas_models::Skeleton::Cifar,
    };

    /// Normal cells of `n` convolutions, reduction cells of `r`.
    fn found(epoch: usize, n: usize, r: usize, right: usize) -> Best {
        let mut alphas = Alphas::init(&Space::DARTS, 0);
        for (table, convolutions) in alphas.operations.iter_mut().zip([n, r]) {
            // The first two edges of each node are kept.
            for (i, edge) in [0, 1, 2, 3, 5, 6, 9, 10].into_iter().enumerate() {
                table[edge][if i < convolutions { 4 } else { 3 }] = 5.0;
            }
        }
        let genotype = alphas.genotype(&Space::DARTS).unwrap();
        assert_eq!(ModelSize::of(&genotype), ModelSize { n, r });
        Best { epoch, accuracy: (right, 100), genotype, alphas }
    }

    fn sizes() -> BestBySize {
        let mut sizes = BestBySize::default();
        for (epoch, (n, r, right)) in
            [(8, 4, 10), (6, 2, 50), (6, 2, 60), (6, 2, 60), (6, 2, 40), (1, 0, 90)].into_iter().enumerate()
        {
            sizes.see(found(epoch, n, r, right));
        }
        sizes
    }

    #[test]
    fn the_first_best_of_a_size_is_kept() {
        let sizes = sizes();
        let kept: Vec<_> = sizes.0.iter().map(|(size, best)| (size.to_string(), best.epoch)).collect();
        assert_eq!(kept, [("n1_r0".into(), 5), ("n6_r2".into(), 2), ("n8_r4".into(), 0)]);
    }

    #[test]
    fn accuracy_never_chooses_across_sizes() {
        let sizes = sizes();
        let end = found(0, 6, 2, 0).genotype;
        let choose = |limits| sizes.choose(&end, &limits, &NETWORK);
        assert_eq!(choose(CostLimits::default()).unwrap(), Some(ModelSize { n: 6, r: 2 }));
        let costs: Vec<Cost> =
            sizes.0.values().map(|best| measure(&best.genotype, &NETWORK).unwrap()).collect();
        assert!(costs.is_sorted_by(|a, b| a.params < b.params && a.macs < b.macs), "{costs:?}");
        for (i, (size, _)) in sizes.0.iter().enumerate() {
            let Cost { params, macs } = costs[i];
            assert_eq!(choose(CostLimits { params, macs: 0 }).unwrap(), Some(*size));
            assert_eq!(choose(CostLimits { params: 0, macs }).unwrap(), Some(*size));
            assert_eq!(choose(CostLimits { params: costs[2].params, macs }).unwrap(), Some(*size));
        }
        let message = choose(CostLimits { params: costs[0].params - 1, macs: 0 }).unwrap_err().to_string();
        assert!(message.contains("the smallest, n1_r0, has") && message.contains("--resume"), "{message}");
        let other = found(0, 5, 5, 0).genotype;
        assert_eq!(sizes.choose(&other, &CostLimits::default(), &NETWORK).unwrap(), None);
    }

    #[test]
    fn a_size_is_read_strictly() {
        assert_eq!("n=6,r=0".parse(), Ok(ModelSize { n: 6, r: 0 }));
        assert_eq!(" n=6, r=12 ".parse(), Ok(ModelSize { n: 6, r: 12 }));
        for wrong in ["", "6,0", "r=0,n=6", "n=6", "n=6,r=0,x=1", "n=-1,r=0", "n=6,r=zero"] {
            assert!(wrong.parse::<ModelSize>().unwrap_err().contains("n=N,r=R"), "{wrong}");
        }
    }
}
