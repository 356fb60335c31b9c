//! Logits in checkpoints of version 1: for normal and for reduction cells a table with eight columns, of which a space uses
//! the first.

use milenas_models::space::Space;

use crate::Result;
use crate::checkpoint::TensorReader;
use crate::supernet::Alphas;

/// Number of columns.
const COLUMNS: usize = 8;

/// Fills `alphas`.
pub(super) fn read_alphas(reader: &TensorReader<'_>, name: &str, mut alphas: Alphas) -> Result<Alphas> {
    let groups = alphas.by_group(&alphas.operations);
    let (mut flat, mut edges) = (Vec::new(), Vec::new());
    let has_edges = reader.has(&format!("{name}.edges.0"));
    for (kind, choices) in groups.iter().enumerate() {
        flat.extend(reader.f32_of(&format!("{name}.{kind}"), &[choices.len(), COLUMNS])?);
        if has_edges {
            edges.extend(reader.f32_of(&format!("{name}.edges.{kind}"), &[choices.len()])?);
        }
    }
    let mut flat = narrow(flat, alphas.space());
    if has_edges {
        flat.extend(&edges);
        alphas.edges = Some(edges);
    }
    alphas.update(|logits| logits.copy_from_slice(&flat));
    Ok(alphas)
}

/// Removes the columns without a candidate from the values of all logits. Values of edges, which follow, stay.
pub(super) fn narrow<T: Copy>(values: Vec<T>, space: &dyn Space) -> Vec<T> {
    let mut narrow = Vec::with_capacity(values.len());
    let mut rest = &values[..];
    for choice in space.choices() {
        let (row, after) = rest.split_at(COLUMNS.min(rest.len()));
        narrow.extend(row.iter().take(choice.candidates.len()).copied());
        rest = after;
    }
    narrow.extend(rest);
    narrow
}

#[cfg(test)]
mod tests {
    use milenas_models::space::NASBENCH201;

    use super::*;

    #[test]
    fn columns_without_a_candidate_are_removed() {
        let wide: Vec<usize> = (0..6 * COLUMNS).chain([100, 101]).collect();
        let found = narrow(wide, &NASBENCH201);
        assert_eq!(found.len(), 6 * 5 + 2);
        assert_eq!((&found[..6], &found[29..]), (&[0, 1, 2, 3, 4, 8][..], &[44, 100, 101][..]));
    }
}
