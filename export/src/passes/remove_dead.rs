//! Removes nodes that no result depends on, with their weights.

use milenas_models::graph::{Graph, Patch};
use milenas_models::{Result, Weights};

use super::Rewrite;

/// Returns the first rewrite.
pub(super) fn next(graph: &Graph, _: &Weights) -> Result<Option<Rewrite>> {
    let live = graph.live();
    let Some((_, dead)) = graph.values().find(|(v, _)| !live[v.index()]) else { return Ok(None) };
    // Applying any patch removes dead nodes, so an empty patch is enough.
    Ok(Some(Rewrite { at: dead.name.clone(), patch: Patch::new() }))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::*;

    /// Graph on which the pass fires.
    pub fn example() -> Graph {
        built(|b, x| {
            b.wire("dead", Conv2d::pointwise(4, 4), &[x])?;
            b.wire("relu", Relu, &[x])
        })
    }

    #[test]
    fn dead_nodes_leave_with_their_numbers() {
        let graph = example();
        assert!(!text(&[&RemoveDead], &graph).contains("dead"));
    }
}
