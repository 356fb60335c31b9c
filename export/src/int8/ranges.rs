//! Range of each activation on the calibration images, and the part of the range to keep.

use std::str::FromStr;

use candle_core::Tensor;
use milenas_models::{Error, Executor, Graph, Mode, Result, Weights};

use crate::verify::NetworkRef;

/// Number of histogram bins. Each of the [`LEVELS`] covers about eight bins.
const BINS: usize = 2048;
/// Fraction of an activation's values that [`Method::Percentile`] keeps.
const KEPT: f64 = 0.9999;
/// Number of ranges that [`Method::Entropy`] compares, from the full range down to an eighth of it.
const CANDIDATES: usize = 57;
/// Number of quantisation steps in an 8-bit range.
const LEVELS: usize = 255;

/// Method that sets the range of an activation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Range from the smallest to the largest value.
    #[default]
    MinMax,
    /// Range without the outermost 0.01 % of the values.
    Percentile,
    /// Range whose quantised distribution has the least Kullback-Leibler divergence from the distribution of
    /// all values (Migacz, "8-bit inference with TensorRT", 2017). Here the ranges may extend to both sides
    /// of 0.
    Entropy,
}

impl Method {
    /// List of all methods.
    pub const ALL: [Method; 3] = [Method::MinMax, Method::Percentile, Method::Entropy];

    /// Returns the name of the method on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Method::MinMax => "min-max",
            Method::Percentile => "percentile",
            Method::Entropy => "entropy",
        }
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|method| method.name() == name);
        found.ok_or_else(|| Error::unknown("calibration method", name, Self::ALL.map(Self::name)))
    }
}

/// Histogram of one activation's values over all images. The range always contains 0.
#[derive(Clone, Debug)]
struct Histogram {
    low: f32,
    high: f32,
    bins: Vec<u64>,
}

/// Returns the range (low, high) of every node's output, by node index.
///
/// # Errors
/// Returns an error if the inputs do not fit the graph.
pub(super) fn observe(
    network: NetworkRef,
    inputs: &[Vec<Tensor>],
    method: Method,
) -> Result<Vec<(f32, f32)>> {
    let wires = network.graph.nodes().len();
    let mut seen = vec![Histogram { low: 0.0, high: 0.0, bins: Vec::new() }; wires];
    each(network.graph, network.weights, inputs, &mut |i, x| {
        for &x in x {
            seen[i].low = seen[i].low.min(x);
            seen[i].high = seen[i].high.max(x);
        }
    })?;
    if method == Method::MinMax {
        return Ok(seen.iter().map(|h| (h.low, h.high)).collect());
    }
    seen.iter_mut().for_each(|h| h.bins = vec![0; BINS]);
    each(network.graph, network.weights, inputs, &mut |i, x| {
        let Histogram { low, high, bins } = &mut seen[i];
        let per = BINS as f32 / (*high - *low).max(f32::MIN_POSITIVE);
        for x in x {
            bins[(((x - *low) * per) as usize).min(BINS - 1)] += 1;
        }
    })?;
    Ok(seen.iter().map(|h| if method == Method::Percentile { h.percentile() } else { h.entropy() }).collect())
}

/// Calls `see` with the index and the output values of every node, for each batch.
fn each(
    graph: &Graph,
    weights: &Weights,
    inputs: &[Vec<Tensor>],
    see: &mut dyn FnMut(usize, &[f32]),
) -> Result<()> {
    let executor = Executor::new(graph, weights);
    for inputs in inputs {
        let mut place = 0;
        let mut failed = None;
        executor.run_observed(inputs, Mode::Eval, &mut |_, tensor| {
            match tensor.flatten_all().and_then(|x| x.to_vec1::<f32>()) {
                Ok(numbers) => see(place, &numbers),
                Err(error) => failed = Some(error),
            }
            place += 1;
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
    }
    Ok(())
}

impl Histogram {
    fn edge(&self, bin: usize) -> f32 {
        self.low + (self.high - self.low) * bin as f32 / BINS as f32
    }

    fn total(&self) -> u64 {
        self.bins.iter().sum()
    }

    /// Returns the range without the outermost values: the same fraction of all values is cut at each end.
    fn percentile(&self) -> (f32, f32) {
        let spare = ((1.0 - KEPT) / 2.0 * self.total() as f64) as u64;
        let beyond = |bins: &mut dyn Iterator<Item = &u64>| {
            let mut sum = 0;
            bins.take_while(|n| {
                sum += **n;
                sum <= spare
            })
            .count()
        };
        let (below, above) = (beyond(&mut self.bins.iter()), beyond(&mut self.bins.iter().rev()));
        (self.edge(below).min(0.0), self.edge(BINS - above).max(0.0))
    }

    /// Returns the range with the least divergence. Candidates scale both ends towards 0 by the same factor.
    fn entropy(&self) -> (f32, f32) {
        let candidates = (0..CANDIDATES).map(|i| 1.0 - i as f32 / 64.0);
        let divergence = |part: f32| {
            let bin = |x: f32| ((x - self.low) / (self.high - self.low) * BINS as f32).round() as usize;
            self.divergence(bin(part * self.low).min(BINS - 1), bin(part * self.high).min(BINS))
        };
        let best = candidates.map(|part| (divergence(part), part)).min_by(|a, b| a.0.total_cmp(&b.0));
        let part = best.map_or(1.0, |(_, part)| part);
        (part * self.low, part * self.high)
    }

    /// Returns the Kullback-Leibler divergence between two distributions. The first is the histogram with all
    /// values outside `first..last` moved to its end bins. The second is the quantised inside: the count of
    /// each level spreads evenly over those of its bins that are not empty.
    fn divergence(&self, first: usize, last: usize) -> f64 {
        let inside = &self.bins[first..last];
        if inside.len() < 2 {
            return f64::INFINITY;
        }
        let mut clipped = inside.to_vec();
        clipped[0] += self.bins[..first].iter().sum::<u64>();
        clipped[inside.len() - 1] += self.bins[last..].iter().sum::<u64>();
        let level = |bin: usize| bin * LEVELS / inside.len();
        let mut levels = vec![(0u64, 0u64); LEVELS];
        for (bin, n) in inside.iter().enumerate() {
            let (sum, filled) = &mut levels[level(bin)];
            *sum += n;
            *filled += u64::from(clipped[bin] > 0);
        }
        let total = self.total().max(1) as f64;
        let kept = inside.iter().sum::<u64>().max(1) as f64;
        let term = |(bin, n): (usize, &u64)| {
            let (sum, filled) = levels[level(bin)];
            let p = *n as f64 / total;
            // A level filled only by moved outliers has almost no share of its own.
            let q = (sum as f64 / kept / filled.max(1) as f64).max(1e-12);
            if *n == 0 { 0.0 } else { p * (p / q).ln() }
        };
        clipped.iter().enumerate().map(term).sum()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use milenas_models::Rng;
    use milenas_models::graph::{Builder, Fact};
    use milenas_models::op::Relu;

    use super::*;

    /// Ranges of 4,000 standard normal values and one value of 40.
    fn ranges(method: Method) -> Vec<(f32, f32)> {
        let mut b = Builder::new();
        let x = b.input("x", Fact::image(1, 1, 1)).unwrap();
        let y = b.wire("y", Relu, &[x]).unwrap();
        b.output("y", y);
        let mut rng = Rng::new(1, "ranges");
        let mut numbers: Vec<f32> = (0..4000).map(|_| rng.normal().clamp(-3.0, 3.0)).collect();
        numbers.push(40.0);
        let x = Tensor::from_vec(numbers, (4001, 1, 1, 1), &Device::Cpu).unwrap();
        let (graph, weights) = (b.finish().unwrap(), Weights::default());
        observe(NetworkRef { graph: &graph, weights: &weights }, &[vec![x]], method).unwrap()
    }

    #[test]
    fn all_that_was_seen_and_0() {
        let found = ranges(Method::MinMax);
        assert!((-3.0..-2.5).contains(&found[0].0) && found[0].1 == 40.0, "{found:?}");
        assert_eq!(found[1], (0.0, 40.0));
    }

    #[test]
    fn an_outlier_is_left_out_by_entropy_and_a_rare_one_by_percentile() {
        let entropy = ranges(Method::Entropy);
        assert!(entropy[1].1 < 15.0 && entropy[1].1 > 2.0, "{entropy:?}");
        let mut rare = Histogram { low: -1.0, high: 1.0, bins: vec![100; BINS] };
        rare.bins[BINS - 1] = 1;
        let (low, high) = rare.percentile();
        assert!(low <= -0.999 && (0.99..1.0).contains(&high), "{low} {high}");
    }
}
