//! Rank correlations with ties, and the aggregate of several rankings.

use core::cmp::Ordering;

/// Returns ranks from 1; ties get their mean rank.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    for group in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let first = order.iter().position(|i| *i == group[0]).unwrap_or_default();
        let mean = first as f64 + (group.len() as f64 + 1.0) / 2.0;
        group.iter().for_each(|&i| ranks[i] = mean);
    }
    ranks
}

/// Returns Spearman's rank correlation; ties get their mean rank. It is 0 if one side is constant.
pub fn spearman(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() as f64 + 1.0) / 2.0;
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    let scale = (product(&a, &a) * product(&b, &b)).sqrt();
    if scale == 0.0 { 0.0 } else { product(&a, &b) / scale }
}

/// Returns Kendall's tau-b, which excludes ties of either side. It is 0 if one side is constant.
pub fn kendall(a: &[f64], b: &[f64]) -> f64 {
    let (mut agreement, mut left, mut right) = (0i64, 0i64, 0i64);
    for i in 0..a.len() {
        for j in 0..i {
            let sign = |x: &[f64]| match x[i].total_cmp(&x[j]) {
                _ if x[i] == x[j] => 0,
                Ordering::Less => -1,
                Ordering::Equal => 0,
                Ordering::Greater => 1,
            };
            let (x, y) = (sign(a), sign(b));
            agreement += x * y;
            left += x * x;
            right += y * y;
        }
    }
    let scale = (left as f64 * right as f64).sqrt();
    if scale == 0.0 { 0.0 } else { agreement as f64 / scale }
}

/// Combines several columns of scores: the sum of `ln(rank / count)` over the columns (Lee and Ham, CVPR 2024).
/// So an architecture that is last in one column is rarely the best in the aggregate.
pub fn aggregate(columns: &[Vec<f64>]) -> Vec<f64> {
    let count = columns.first().map_or(0, Vec::len);
    let mut sums = vec![0.0; count];
    for column in columns {
        let logs = ranks(column).into_iter().map(|rank| (rank / count as f64).ln());
        sums.iter_mut().zip(logs).for_each(|(sum, x)| *sum += x);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found}, expected {expected}");
    }

    /// Worked by hand: the ranks are 1, 2.5, 2.5, 4, 5 and 2, 1, 3.5, 3.5, 5. Of ten pairs one disagrees and
    /// two are tied.
    #[test]
    fn correlations_with_ties() {
        let (a, b) = ([1.0, 2.0, 2.0, 3.0, 5.0], [2.0, 1.0, 3.0, 3.0, 4.0]);
        close(spearman(&a, &b), 0.763_157_894_736_842_1);
        close(kendall(&a, &b), 0.666_666_666_666_666_7);
        close(spearman(&a, &[7.0; 5]), 0.0);
        close(kendall(&a, &a), 1.0);
    }

    #[test]
    fn minus_infinity_ranks_last() {
        let x = [f64::NEG_INFINITY, 1.0, f64::NEG_INFINITY, 0.0];
        assert_eq!(ranks(&x), [1.5, 4.0, 1.5, 3.0]);
        close(kendall(&x, &[0.0, 4.0, 0.0, 2.0]), 1.0);
    }

    #[test]
    fn the_aggregate_prefers_a_good_rank_in_all_columns() {
        let sums = aggregate(&[vec![3.0, 2.0, 1.0], vec![1.0, 2.0, 3.0], vec![2.0, 3.0, 1.0]]);
        assert!(sums[1] > sums[0] && sums[1] > sums[2]);
    }
}
