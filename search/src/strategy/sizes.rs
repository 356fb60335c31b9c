//! Best architecture of every model size (MiLeNAS, section 3.3), and the choice among them.
//!
//! The supernet's validation accuracy rises while skips replace convolutions. Across sizes the highest accuracy
//! therefore selects the worst network (figure 3c), so accuracies are compared only within a size.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use milenas_models::{Cost, Genotype, NetworkConfig, assemble, cost};

use crate::limit::NetworkLimits;
use crate::supernet::Alphas;
use crate::{Error, Result};

/// Model size of MiLeNAS: the number of convolutions among the eight operations of each derived cell.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub struct ModelSize {
    /// Convolutions in the normal cell.
    pub n: usize,
    /// Convolutions in the reduction cell.
    pub r: usize,
}

impl ModelSize {
    /// Returns the size of an architecture.
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

    /// Parses `n=6,r=0`.
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

/// Best architecture of a size.
#[derive(Clone, Debug, PartialEq)]
pub struct Best {
    /// Epoch at whose end the architecture was derived, counted from 0.
    pub epoch: usize,
    /// Number of validation images that the supernet classified correctly, and number of all.
    pub accuracy: (usize, usize),
    /// Derived architecture.
    pub genotype: Genotype,
    /// Logits of the architecture.
    pub alphas: Alphas,
}

/// Best architecture of every size that the search has found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BestBySize(pub BTreeMap<ModelSize, Best>);

impl BestBySize {
    /// Keeps `found` if it is the best of its size so far. On a tie the earlier one stays.
    pub fn see(&mut self, found: Best) {
        let size = ModelSize::of(&found.genotype);
        // Counts of one run refer to the same images.
        if self.0.get(&size).is_none_or(|best| best.accuracy.0 < found.accuracy.0) {
            self.0.insert(size, found);
        }
    }

    /// Chooses an architecture: the one of the final size, or, under limits, the largest within them.
    ///
    /// # Errors
    /// Fails if no size is within the limits, and names the smallest one.
    pub fn choose(
        &self,
        end: &Genotype,
        limits: &NetworkLimits,
        network: &NetworkConfig,
    ) -> Result<Option<ModelSize>> {
        let size = ModelSize::of(end);
        if limits.is_empty() {
            return Ok(self.0.contains_key(&size).then_some(size));
        }
        let costs = self.0.iter().map(|(size, best)| Ok((*size, limits.measure(&best.genotype, network)?)));
        let costs = costs.collect::<Result<Vec<_>>>()?;
        let fitting = costs.iter().filter(|(_, cost)| limits.hold(cost));
        if let Some((size, _)) = fitting.max_by_key(|(_, cost)| limits.rank(cost)) {
            return Ok(Some(*size));
        }
        let smallest = costs.iter().min_by_key(|(_, cost)| limits.rank(cost));
        let smallest = smallest.map_or("there is none yet".into(), |(size, cost)| {
            format!("the smallest, {size}, has {}", limits.format(cost))
        });
        let problem = format!(
            "no genotype found has at most {limits} at {} channels and {} layers; {smallest}. help: \
             resume (setting `resume`) with a larger {} to choose again without a new search",
            network.channels,
            network.layers,
            limits.keys()
        );
        Err(Error::Data { problem })
    }
}

/// Returns the cost of an architecture as a network for evaluation.
pub fn measure(genotype: &Genotype, network: &NetworkConfig) -> Result<Cost> {
    Ok(cost(&assemble(genotype, network)?))
}

#[cfg(test)]
mod tests {
    use milenas_models::space;

    use super::*;
    use crate::strategy::stop::StopConfig;

    const NETWORK: NetworkConfig = NetworkConfig {
        channels: 4,
        layers: 3,
        classes: 10,
        in_channels: 3,
        height: 16,
        width: 16,
        skeleton: milenas_models::Skeleton::Cifar,
    };

    /// Best architecture with `n` convolutions in the normal cell and `r` in the reduction cell.
    fn found(epoch: usize, n: usize, r: usize, right: usize) -> Best {
        let mut alphas = Alphas::init(&space::DARTS, 0);
        for (table, convolutions) in alphas.operations.chunks_mut(14).zip([n, r]) {
            // The first two edges of each node are selected.
            for (i, edge) in [0, 1, 2, 3, 5, 6, 9, 10].into_iter().enumerate() {
                table[edge][if i < convolutions { 4 } else { 3 }] = 5.0;
            }
        }
        let genotype = alphas.genotype().unwrap();
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
        let choose = |params, macs| {
            let limits = StopConfig { max_params: params, max_macs: macs, ..StopConfig::default() }.limits();
            sizes.choose(&end, &limits, &NETWORK)
        };
        assert_eq!(choose(0, 0).unwrap(), Some(ModelSize { n: 6, r: 2 }));
        let costs: Vec<Cost> =
            sizes.0.values().map(|best| measure(&best.genotype, &NETWORK).unwrap()).collect();
        assert!(costs.is_sorted_by(|a, b| a.params < b.params && a.macs < b.macs), "{costs:?}");
        for (i, (size, _)) in sizes.0.iter().enumerate() {
            let Cost { params, macs } = costs[i];
            assert_eq!(choose(params, 0).unwrap(), Some(*size));
            assert_eq!(choose(0, macs).unwrap(), Some(*size));
            assert_eq!(choose(costs[2].params, macs).unwrap(), Some(*size));
        }
        let message = choose(costs[0].params - 1, 0).unwrap_err().to_string();
        assert!(message.contains("the smallest, n1_r0, has") && message.contains("`resume`"), "{message}");
        let other = found(0, 5, 5, 0).genotype;
        assert_eq!(sizes.choose(&other, &StopConfig::default().limits(), &NETWORK).unwrap(), None);
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
