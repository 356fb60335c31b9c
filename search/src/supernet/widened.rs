//! Weights of a supernet whose candidates see more channels than before.

use candle_core::{Device, Tensor};
use milenas_models::{Graph, Rng, Weights};

use crate::Result;

/// Returns weights for a supernet with more channels in its candidates: new channels are copies of random old ones, as in the
/// released code of DrNAS. Their scale is left to BatchNorm.
///
/// # Errors
/// Fails if a weight is missing, or larger than in the new supernet.
pub(super) fn widened(weights: &Weights, graph: &Graph, seed: u64) -> Result<Weights> {
    let mut wide = Weights::default();
    for param in graph.params() {
        let mut tensor: Tensor = weights.require(&param.name)?.as_detached_tensor();
        for (axis, count) in param.shape.iter().enumerate() {
            let old = tensor.dim(axis)?;
            if *count > old {
                let mut rng = Rng::new(seed, &format!("widened.{}.{axis}", param.name));
                let sources = (0..*count).map(|i| if i < old { i } else { rng.below(old) } as u32);
                let sources = Tensor::from_vec(sources.collect::<Vec<_>>(), *count, &Device::Cpu)?;
                tensor = tensor.index_select(&sources, axis)?;
            }
        }
        wide.insert(&param.name, tensor)?;
    }
    wide.check(graph)?;
    Ok(wide)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supernet::SupernetConfig;

    /// Old channels stay where they are; a new one is the copy of an old one, along every axis and with its BatchNorm.
    #[test]
    fn new_channels_are_copies() {
        let config =
            |partial| SupernetConfig { channels: 8, layers: 3, partial, ..SupernetConfig::paper(10) };
        let graph = |partial| config(partial).choices(16, 16).unwrap().graph;
        let old = Weights::init(&graph(4), 1).unwrap();
        let wide = widened(&old, &graph(2), 5).unwrap();
        let mut grown = 0;
        for (name, var) in wide.iter() {
            let (new, old) = (var.as_tensor(), old.get(name).unwrap().as_tensor());
            let inner = old
                .dims()
                .iter()
                .enumerate()
                .fold(new.clone(), |t, (axis, n)| t.narrow(axis, 0, *n).unwrap());
            let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values(&inner), values(old), "{name}");
            if new.dims() != old.dims() {
                grown += 1;
                let known = values(old);
                assert!(values(new).iter().all(|value| known.contains(value)), "{name}");
            }
        }
        assert!(grown > 100, "{grown}");
        assert!(widened(&wide, &graph(4), 5).is_err());
    }
}
