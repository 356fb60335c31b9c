//! Columns of the hand-wired supernets, and their use for the spaces whose candidates are among them.

use candle_core::Tensor;
use milenas_models::space::{CellForm, CellSpace, Space};
use milenas_models::{Primitive, Weights};

use super::fused::{FusedSupernet, ImageBatch};
use super::widened::widened;
use super::{GradRequest, PassResult, Rows, Supernet, SupernetConfig, UpdateFn};
use crate::Result;
use crate::data::Batch;

/// Number of candidates on an edge of a hand-wired supernet.
pub const CANDIDATES: usize = 8;

/// Weights of an edge's candidates, by column.
pub type Row = [f32; CANDIDATES];

/// Weights of the candidates in normal, then in reduction cells, with a row for each edge.
pub type Mixture = [Vec<Row>; 2];

/// Candidates of the hand-wired supernets, on the CPU and on a device, by column. Their kernels and tables assume this
/// order, which is why it does not follow [`Primitive::DARTS`].
const HAND_WIRED: [Primitive; CANDIDATES] = [
    Primitive::None,
    Primitive::MaxPool3x3,
    Primitive::AvgPool3x3,
    Primitive::SkipConnect,
    Primitive::SepConv3x3,
    Primitive::SepConv5x5,
    Primitive::DilConv3x3,
    Primitive::DilConv5x5,
];

/// Columns of a hand-wired supernet, by candidate of a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnMap {
    columns: Vec<usize>,
    /// Number of edges of a cell.
    edges: usize,
}

impl ColumnMap {
    /// Returns the columns of a space's candidates, or `None` for a space that is not hand-wired.
    pub fn new(space: &dyn Space) -> Option<Self> {
        let cells = space.cells().filter(|cells| cells.cells == CellForm::Pair)?;
        let column = |primitive: &Primitive| HAND_WIRED.iter().position(|known| known == primitive);
        let columns = cells.primitives.iter().map(column).collect::<Option<_>>()?;
        Some(ColumnMap { columns, edges: cells.edges().len() })
    }

    /// Whether every column has the candidate of its index.
    pub fn is_identity(&self) -> bool {
        self.columns.iter().copied().eq(0..CANDIDATES)
    }

    /// Moves the rows of all sites to the columns, by cell. Columns without a candidate are 0, and are not computed.
    pub(super) fn scatter(&self, rows: &[Vec<f32>]) -> Vec<Vec<Row>> {
        let wired = |row: &Vec<f32>| {
            let mut wired = [0.0; CANDIDATES];
            self.columns.iter().zip(row).for_each(|(column, weight)| wired[*column] = *weight);
            wired
        };
        rows.chunks(self.edges).map(|cell| cell.iter().map(wired).collect()).collect()
    }

    /// Moves the values of the columns to the candidates of all sites.
    pub(super) fn gather(&self, cells: &[Vec<[f64; CANDIDATES]>]) -> Rows<f64> {
        let own = |wired: &[f64; CANDIDATES]| self.columns.iter().map(|column| wired[*column]).collect();
        cells.iter().flatten().map(own).collect()
    }

    /// Replaces the candidate in a name such as `cells.0.edges.3.4.1.weight` by `change`. Returns `None` if `change`
    /// does, and names of other weights as they are.
    fn renamed(name: &str, change: impl Fn(usize) -> Option<usize>) -> Option<String> {
        let Some((cell, rest)) = name.split_once(".edges.") else { return Some(name.to_string()) };
        let mut parts = rest.splitn(3, '.');
        let (edge, candidate, rest) = (parts.next()?, parts.next()?, parts.next()?);
        Some(format!("{cell}.edges.{edge}.{}.{rest}", change(candidate.parse().ok()?)?))
    }

    fn to_wired(&self, name: &str) -> Option<String> {
        Self::renamed(name, |own| self.columns.get(own).copied())
    }

    fn to_own(&self, name: &str) -> Option<String> {
        Self::renamed(name, |wired| self.columns.iter().position(|column| *column == wired))
    }
}

/// Returns rows of all cells as slices.
pub(super) fn slices(cells: &[Vec<Row>]) -> Vec<&[Row]> {
    cells.iter().map(Vec::as_slice).collect()
}

/// Returns the rows of each cell, from those of its kind.
pub fn for_cells<'a>(config: &SupernetConfig, mixture: &'a Mixture) -> Vec<&'a [Row]> {
    (0..config.layers).map(|cell| &mixture[usize::from(config.reduces(cell))][..]).collect()
}

/// Sums the gradients of the cells of a kind.
pub(super) fn by_kind(config: &SupernetConfig, cells: &[Vec<[f64; CANDIDATES]>]) -> Mixture {
    [false, true].map(|reduction| {
        let mut sum = vec![[0.0; CANDIDATES]; config.edges()];
        for rows in (0..config.layers).rev().filter(|i| config.reduces(*i) == reduction).map(|i| &cells[i]) {
            let sum = sum.as_flattened_mut().iter_mut();
            sum.zip(rows.as_flattened()).for_each(|(total, part)| *total += part);
        }
        sum.into_iter().map(|row: [f64; CANDIDATES]| row.map(|x| x as f32)).collect()
    })
}

impl SupernetConfig {
    /// Number of nodes of a cell, and 0 in a space without cells.
    pub(super) fn nodes(&self) -> usize {
        self.space.cells().map_or(0, |cells| cells.nodes)
    }

    /// Number of edges of a cell, and 0 in a space without cells.
    pub fn edges(&self) -> usize {
        self.space.cells().map_or(0, |cells| cells.edges().len())
    }

    /// Returns the edges of a cell, `(from state, to state)`.
    pub(super) fn cell_edges(&self) -> Vec<(usize, usize)> {
        self.space.cells().map(CellSpace::edges).unwrap_or_default()
    }
}

/// Optimised supernet on the CPU of a space whose candidates are columns of [`FusedSupernet`]. Weights of the other columns
/// exist, and are never computed, updated or saved.
pub struct WiredSupernet {
    net: FusedSupernet,
    map: ColumnMap,
}

impl WiredSupernet {
    /// Returns the supernet with weights of zero, or `None` for a space that is not hand-wired.
    pub fn new(config: SupernetConfig) -> Option<Self> {
        ColumnMap::new(config.space).map(|map| WiredSupernet { net: FusedSupernet::new(config), map })
    }

    /// Returns the supernet with all its columns.
    pub fn fused(&mut self) -> &mut FusedSupernet {
        &mut self.net
    }
}

fn images<'a>(batch: &Batch, pixels: &'a [f32]) -> ImageBatch<'a> {
    let [_, height, width] = batch.shape;
    ImageBatch { pixels, height, width }
}

impl Supernet for WiredSupernet {
    fn config(&self) -> &SupernetConfig {
        self.net.config()
    }

    fn widen(&mut self, partial: usize, seed: u64) -> Result<()> {
        let config = SupernetConfig { partial, ..*self.config() };
        // Weights do not depend on the size of the images.
        let graph = config.choices(32, 32)?.graph;
        let weights = widened(&self.weights()?, &graph, seed)?;
        self.net = FusedSupernet::new(config);
        self.load(&weights)
    }

    fn evaluate_sites(
        &mut self,
        batch: &Batch,
        mixture: &[Vec<f32>],
        want: GradRequest,
    ) -> Result<PassResult> {
        let (wired, numbers) = (self.map.scatter(mixture), batch.numbers());
        let found = self.net.evaluate_cells(images(batch, &numbers), &batch.labels, &slices(&wired), want)?;
        Ok(found.map(|cells| self.map.gather(&cells)))
    }

    fn predict_sites(&mut self, batch: &Batch, mixture: &[Vec<f32>]) -> Result<Vec<f32>> {
        let (wired, numbers) = (self.map.scatter(mixture), batch.numbers());
        Ok(self.net.predict_cells(images(batch, &numbers), &slices(&wired))?)
    }

    fn gradient_norm(&mut self) -> Result<f64> {
        Ok(self.net.tensors().squared_gradient_norm().sqrt())
    }

    fn gradient(&mut self, name: &str) -> Result<Vec<f32>> {
        match self.map.to_wired(name) {
            Some(name) => Ok(self.net.tensors().gradient(&name)?),
            None => Err(milenas_models::Error::unknown("weight", name, [""; 0]).into()),
        }
    }

    fn update(&mut self, step: &mut UpdateFn) -> Result<()> {
        self.net.tensors_mut().for_each_parameter(step);
        Ok(())
    }

    fn weights(&mut self) -> Result<Weights> {
        let mut own = Weights::default();
        for (name, var) in self.net.tensors().to_weights()?.iter() {
            if let Some(name) = self.map.to_own(name) {
                own.insert(&name, var.as_tensor().clone())?;
            }
        }
        Ok(own)
    }

    fn load(&mut self, weights: &Weights) -> Result<()> {
        Supernet::weights(self)?.check_same(weights)?;
        let mut wired = Weights::default();
        for (name, var) in self.net.tensors().to_weights()?.iter() {
            let own = self.map.to_own(name).and_then(|name| weights.get(&name));
            let tensor: &Tensor = own.unwrap_or(var).as_tensor();
            wired.insert(name, tensor.clone())?;
        }
        Ok(self.net.tensors_mut().load(&wired)?)
    }

    fn profile(&self) -> &[(&'static str, f64)] {
        self.net.profile()
    }

    fn reset_profile(&mut self) {
        self.net.reset_profile();
    }
}

#[cfg(test)]
mod tests {
    use milenas_models::space;

    use super::*;

    #[test]
    fn names_and_rows_move_to_hand_wired_columns() {
        let map = ColumnMap::new(&space::DARTS_S3).unwrap();
        assert_eq!(map.to_wired("cells.0.edges.3.2.1.weight").unwrap(), "cells.0.edges.3.4.1.weight");
        assert_eq!(map.to_own("cells.0.edges.3.4.1.weight").unwrap(), "cells.0.edges.3.2.1.weight");
        assert_eq!(map.to_own("cells.0.edges.3.5.1.weight"), None);
        assert_eq!(map.to_wired("stem.0.weight").unwrap(), "stem.0.weight");
        let rows: Rows = vec![vec![0.1, 0.2, 0.7]; 28];
        let cells = map.scatter(&rows);
        assert_eq!((cells.len(), cells[1][13]), (2, [0.1, 0.0, 0.0, 0.2, 0.7, 0.0, 0.0, 0.0]));
        let wide: Vec<Vec<[f64; CANDIDATES]>> =
            cells.iter().map(|rows| rows.iter().map(|row| row.map(f64::from)).collect()).collect();
        assert_eq!(map.gather(&wide)[27], [0.1f32, 0.2, 0.7].map(f64::from));
        assert!(ColumnMap::new(&space::NASBENCH201).is_none() && !map.is_identity());
        assert!(ColumnMap::new(&space::DARTS).unwrap().is_identity());
    }
}
