//! Drop path: in training, results of operations are dropped at random, per image (Larsson et al., 2017; as in
//! DARTS).

use milenas_models::Rng;

/// Returns the factors of the results, `[path][image]`: 0 with probability `p`, else `1 / (1 - p)`, which keeps
/// the mean. Empty for `p` 0.
pub fn factors(p: f64, paths: usize, images: usize, rng: &mut Rng) -> Vec<f32> {
    if p == 0.0 {
        return Vec::new();
    }
    let kept = (1.0 / (1.0 - p)) as f32;
    (0..paths * images).map(|_| if rng.chance(p as f32) { 0.0 } else { kept }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_dropped_and_the_mean_stays() {
        let (paths, images) = (40, 500);
        let drawn = factors(0.2, paths, images, &mut Rng::new(0, "drop_path"));
        assert!(drawn.iter().all(|x| *x == 0.0 || *x == 1.25));
        let mean = |values: &mut dyn Iterator<Item = f32>| values.map(f64::from).sum::<f64>();
        assert!((mean(&mut drawn.iter().copied()) / 20_000.0 - 1.0).abs() < 0.02);
        // Paths and images are independent: no row or column is constant, and their variance is that of the
        // binomial.
        for row in drawn.chunks(images) {
            let dropped = row.iter().filter(|x| **x == 0.0).count();
            assert!((60..140).contains(&dropped), "{dropped} of 500");
        }
        let columns: Vec<usize> =
            (0..images).map(|i| (0..paths).filter(|p| drawn[p * images + i] == 0.0).count()).collect();
        let variance = columns.iter().map(|n| (*n as f64 - 8.0).powi(2)).sum::<f64>() / images as f64;
        assert!((5.0..8.0).contains(&variance), "{variance}, expected 6.4");
    }

    #[test]
    fn a_probability_of_zero_uses_no_random_numbers() {
        let mut rng = Rng::new(0, "drop_path");
        assert!(factors(0.0, 3, 2, &mut rng).is_empty());
        assert_eq!(rng.position(), 0);
    }
}
