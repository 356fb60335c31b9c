//! Stages of a progressive search (DrNAS, Chen et al., ICLR 2021, section 3.3): at the start of a later stage every choice keeps
//! its best candidates, and the others see more of the channels.

use std::str::FromStr;

use crate::supernet::Alphas;

/// Later stage of a progressive search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// First epoch of the stage, counted from 0.
    pub epoch: usize,
    /// Number of candidates that each choice keeps.
    pub keep: usize,
    /// Divisor of the channels that candidates see.
    pub partial: usize,
}

impl FromStr for Stage {
    type Err = String;

    /// Parses `EPOCH:KEEP:PARTIAL`.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let numbers: Vec<usize> = text.split(':').filter_map(|part| part.trim().parse().ok()).collect();
        match numbers[..] {
            [epoch, keep, partial] if text.split(':').count() == 3 => Ok(Stage { epoch, keep, partial }),
            _ => Err(format!("`{text}`, expected EPOCH:KEEP:PARTIAL, e.g. 25:4:2")),
        }
    }
}

/// Parses stages, separated by commas.
///
/// # Errors
/// Returns a description of the first error.
pub fn parse(text: &str) -> std::result::Result<Vec<Stage>, String> {
    text.split(',').filter(|part| !part.trim().is_empty()).map(|part| part.trim().parse()).collect()
}

/// Prunes all but the `keep` best candidates of every choice, by their weights. On ties the lower index is kept.
pub fn prune(alphas: &mut Alphas, keep: usize) {
    for choice in 0..alphas.operations.len() {
        let mut order: Vec<usize> = (0..alphas.operations[choice].len()).collect();
        order.sort_by(|a, b| alphas.operations[choice][*b].total_cmp(&alphas.operations[choice][*a]));
        order.into_iter().skip(keep).for_each(|candidate| alphas.prune(choice, candidate));
    }
}

#[cfg(test)]
mod tests {
    use milenas_models::space;

    use super::*;

    #[test]
    fn stages_are_read() {
        let stage = |epoch, keep, partial| Stage { epoch, keep, partial };
        assert_eq!(parse("25:4:2, 40:2:1"), Ok(vec![stage(25, 4, 2), stage(40, 2, 1)]));
        assert_eq!(parse(""), Ok(vec![]));
        for text in ["25", "25:4", "25:4:2:1", "x:4:2"] {
            assert!(parse(text).unwrap_err().contains("expected EPOCH:KEEP:PARTIAL"), "{text}");
        }
    }

    #[test]
    fn the_best_candidates_stay() {
        let mut alphas = Alphas::zeros(&space::NASBENCH201);
        alphas.operations[1] = vec![0.3, -1.0, 2.0, 0.3, 0.1];
        prune(&mut alphas, 3);
        let open = |choice| (0..5).filter(|k| !alphas.is_pruned(choice, *k)).collect::<Vec<_>>();
        assert_eq!((open(0), open(1)), (vec![0, 1, 2], vec![0, 2, 3]));
    }
}
