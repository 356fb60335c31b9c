//! Nodes that no result needs leave, with their weights.

use milenas_models::graph::{Graph, Patch};
use milenas_models::{Result, Weights};

use super::{Pass, Rewrite};

/// See the module.
#[derive(Debug)]
pub struct RemoveDead;

impl Pass for RemoveDead {
    fn name(&self) -> &'static str {
        "remove_dead"
    }

    fn next(&self, graph: &Graph, _: &Weights) -> Result<Option<Rewrite>> {
        let live = graph.live();
        let Some((_, dead)) = graph.values().find(|(v, _)| !live[v.index()]) else { return Ok(None) };
        // Applying any patch leaves out what is dead, so an empty one is enough.
        Ok(Some(Rewrite { at: dead.name.clone(), patch: Patch::new() }))
    }
}
