//! Hand-wired supernet for spaces with fewer candidates, or in another order, than its own.

use candle_core::Tensor;
use milenas_models::{Primitive, Space, Weights};

use super::{CANDIDATES, GradRequest, HAND_WIRED, PassResult, Row, Supernet, SupernetConfig, UpdateFn};
use crate::Result;
use crate::data::Batch;

/// Columns of the hand-wired supernets, by candidate of a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnMap {
    /// Hand-wired column of each candidate; `None` behind the last one.
    columns: [Option<usize>; CANDIDATES],
}

impl ColumnMap {
    /// Returns the columns of a space's candidates, or `None` for a candidate that is not hand-wired.
    pub fn new(space: &Space) -> Option<Self> {
        let mut columns = [None; CANDIDATES];
        for (column, primitive) in columns.iter_mut().zip(space.primitives) {
            *column = Some(HAND_WIRED.iter().position(|known: &Primitive| known == primitive)?);
        }
        Some(ColumnMap { columns })
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        self.columns.into_iter().enumerate().filter_map(|(own, wired)| Some((own, wired?)))
    }

    /// Moves the values of a row to the hand-wired columns. The others are 0, and are not computed.
    fn scatter(&self, row: &Row) -> Row {
        let mut wired = [0.0; CANDIDATES];
        self.pairs().for_each(|(own, column)| wired[column] = row[own]);
        wired
    }

    /// Moves the values of the hand-wired columns to those of the space.
    fn gather(&self, wired: &[f64; CANDIDATES]) -> [f64; CANDIDATES] {
        let mut row = [0.0; CANDIDATES];
        self.pairs().for_each(|(own, column)| row[own] = wired[column]);
        row
    }

    /// Replaces the candidate in a name such as `cells.0.edges.3.4.1.weight` by `change`. Returns `None` if `change`
    /// does, and names of other weights as they are.
    fn renamed(name: &str, change: impl Fn(usize) -> Option<usize>) -> Option<String> {
        let Some((cell, rest)) = name.split_once(".edges.") else { return Some(name.to_string()) };
        let mut parts = rest.splitn(3, '.');
        let (edge, candidate, rest) = (parts.next()?, parts.next()?, parts.next()?);
        Some(format!("{cell}.edges.{edge}.{}.{rest}", change(candidate.parse().ok()?)?))
    }

    fn to_wired(self, name: &str) -> Option<String> {
        Self::renamed(name, |own| *self.columns.get(own)?)
    }

    fn to_own(self, name: &str) -> Option<String> {
        Self::renamed(name, |wired| self.pairs().find(|(_, column)| *column == wired).map(|(own, _)| own))
    }
}

/// Supernet of a space whose candidates are columns of a hand-wired supernet. Weights of the other columns exist, and are
/// never computed, updated or saved.
pub struct ColumnSupernet<Net> {
    net: Net,
    config: SupernetConfig,
    map: ColumnMap,
}

impl<Net: Supernet> ColumnSupernet<Net> {
    /// Returns the supernet of `config`, whose space has the columns of `map` in `net`.
    pub fn new(net: Net, config: SupernetConfig, map: ColumnMap) -> Self {
        ColumnSupernet { net, config, map }
    }

    fn mixture(&self, mixture: &[&[Row]]) -> Vec<Vec<Row>> {
        mixture.iter().map(|rows| rows.iter().map(|row| self.map.scatter(row)).collect()).collect()
    }
}

fn rows(mixture: &[Vec<Row>]) -> Vec<&[Row]> {
    mixture.iter().map(Vec::as_slice).collect()
}

impl<Net: Supernet> Supernet for ColumnSupernet<Net> {
    fn config(&self) -> &SupernetConfig {
        &self.config
    }

    fn takes_bytes(&self) -> bool {
        self.net.takes_bytes()
    }

    fn evaluate_cells(&mut self, batch: &Batch, mixture: &[&[Row]], want: GradRequest) -> Result<PassResult> {
        let mixture = self.mixture(mixture);
        let found = self.net.evaluate_cells(batch, &rows(&mixture), want)?;
        let gather = |rows: &Vec<[f64; CANDIDATES]>| rows.iter().map(|row| self.map.gather(row)).collect();
        let mixture_gradient = found.mixture_gradient.iter().map(gather).collect();
        Ok(PassResult { mixture_gradient, ..found })
    }

    fn predict_cells(&mut self, batch: &Batch, mixture: &[&[Row]]) -> Result<Vec<f32>> {
        let mixture = self.mixture(mixture);
        self.net.predict_cells(batch, &rows(&mixture))
    }

    fn gradient_norm(&mut self) -> Result<f64> {
        self.net.gradient_norm()
    }

    fn gradient(&mut self, name: &str) -> Result<Vec<f32>> {
        match self.map.to_wired(name) {
            Some(name) => self.net.gradient(&name),
            None => Err(milenas_models::Error::unknown("weight", name, [""; 0]).into()),
        }
    }

    fn update(&mut self, step: &mut UpdateFn) -> Result<()> {
        self.net.update(step)
    }

    fn weights(&mut self) -> Result<Weights> {
        let mut own = Weights::default();
        for (name, var) in self.net.weights()?.iter() {
            if let Some(name) = self.map.to_own(name) {
                own.insert(&name, var.as_tensor().clone())?;
            }
        }
        Ok(own)
    }

    fn load(&mut self, weights: &Weights) -> Result<()> {
        Supernet::weights(self)?.check_same(weights)?;
        let mut wired = Weights::default();
        for (name, var) in self.net.weights()?.iter() {
            let own = self.map.to_own(name).and_then(|name| weights.get(&name));
            let tensor: &Tensor = own.unwrap_or(var).as_tensor();
            wired.insert(name, tensor.clone())?;
        }
        self.net.load(&wired)
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
    use super::*;

    const THREE: Space = Space {
        primitives: &[Primitive::None, Primitive::SkipConnect, Primitive::SepConv3x3],
        ..Space::DARTS
    };

    #[test]
    fn names_and_rows_move_to_hand_wired_columns() {
        let map = ColumnMap::new(&THREE).unwrap();
        assert_eq!(map.to_wired("cells.0.edges.3.2.1.weight").unwrap(), "cells.0.edges.3.4.1.weight");
        assert_eq!(map.to_own("cells.0.edges.3.4.1.weight").unwrap(), "cells.0.edges.3.2.1.weight");
        assert_eq!(map.to_own("cells.0.edges.3.5.1.weight"), None);
        assert_eq!(map.to_wired("stem.0.weight").unwrap(), "stem.0.weight");
        let row = [0.1, 0.2, 0.7, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(map.scatter(&row), [0.1, 0.0, 0.0, 0.2, 0.7, 0.0, 0.0, 0.0]);
        assert_eq!(map.gather(&map.scatter(&row).map(f64::from)), row.map(f64::from));
        assert!(ColumnMap::new(&Space::NASBENCH201).is_none());
    }
}
