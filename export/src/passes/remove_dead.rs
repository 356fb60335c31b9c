//! Removes nodes that no result depends on, with their weights.

use milenas_models::graph::{Graph, Patch};
use milenas_models::{Result, Weights};

use super::{Pass, Rewrite};

/// Pass that removes dead nodes, see the module.
#[derive(Debug)]
pub struct RemoveDead;

impl Pass for RemoveDead {
    fn name(&self) -> &'static str {
        "remove_dead"
    }

    fn next(&self, graph: &Graph, _: &Weights) -> Result<Option<Rewrite>> {
        let live = graph.live();
        let Some((_, dead)) = graph.values().find(|(v, _)| !live[v.index()]) else { return Ok(None) };
        // Applying any patch removes dead nodes, so an empty patch is enough.
        Ok(Some(Rewrite { at: dead.name.clone(), patch: Patch::new() }))
    }
}
