//! The genotype, which is the result of a search. It is a value that is checked on construction.

mod arch;
mod cell;
mod class;
mod foreign;
mod live;
mod picks;
mod python;
mod topology;
mod value;
mod wiring;
mod zoo;

use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

use crate::space::{self, Space};
use crate::{Error, Result};
use value::Literal;

pub use cell::{Cell, Edge};
pub use class::Class;
pub use topology::Topology;
pub use wiring::Wiring;
pub use zoo::published;

/// Architecture of a network: a value of a search space. Only its space knows its form.
///
/// Equal forms are equal genotypes, whatever their spaces.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Plain", into = "Plain")]
pub struct Genotype {
    pub(crate) form: Form,
    /// The space that the genotype was searched or sampled in, if it is known.
    space: Option<&'static dyn Space>,
}

/// Form of a genotype.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// Two cells of DARTS.
    Pair {
        /// The cell that keeps the size of its input.
        normal: Cell,
        /// The cell that halves the size.
        reduce: Cell,
    },
    /// A cell of NAS-Bench-201, between residual blocks that halve the size.
    Single(Cell),
    /// A candidate of every choice of a space.
    Picks(Vec<usize>),
}

impl PartialEq for Genotype {
    fn eq(&self, other: &Self) -> bool {
        // Picks are numbers, which mean something in their space only.
        self.form == other.form && (!matches!(self.form, Form::Picks(_)) || self.space == other.space)
    }
}

impl Eq for Genotype {}

impl Hash for Genotype {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.form.hash(state);
    }
}

/// The JSON representation.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Plain {
    Pair(CellPair),
    Arch(Arch),
    Picks(picks::Named),
}

/// Fields of a pair of DARTS cells.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CellPair {
    normal: Vec<Edge>,
    normal_concat: Vec<usize>,
    reduce: Vec<Edge>,
    reduce_concat: Vec<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    space: Option<String>,
}

/// Fields of a NAS-Bench-201 cell.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Arch {
    arch: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    space: Option<String>,
}

impl TryFrom<Plain> for Genotype {
    type Error = Error;

    fn try_from(plain: Plain) -> Result<Self> {
        match plain {
            Plain::Pair(pair) => pair.try_into(),
            Plain::Arch(Arch { arch, space }) => arch::parse(&arch, "arch")?.named_space(space),
            Plain::Picks(named) => named.try_into(),
        }
    }
}

impl TryFrom<CellPair> for Genotype {
    type Error = Error;

    fn try_from(pair: CellPair) -> Result<Self> {
        let normal = Cell::checked_pairs("normal", pair.normal, pair.normal_concat)?;
        let reduce = Cell::checked_pairs("reduction", pair.reduce, pair.reduce_concat)?;
        Genotype::pair(normal, reduce).named_space(pair.space)
    }
}

impl From<Genotype> for Plain {
    fn from(genotype: Genotype) -> Self {
        let space = genotype.space.map(|space| space.name().to_string());
        match &genotype.form {
            Form::Pair { normal, reduce } => Plain::Pair(CellPair {
                normal: normal.edges().to_vec(),
                normal_concat: normal.concat().to_vec(),
                reduce: reduce.edges().to_vec(),
                reduce_concat: reduce.concat().to_vec(),
                space,
            }),
            Form::Single(cell) => Plain::Arch(Arch { arch: arch::print(cell), space }),
            Form::Picks(_) => Plain::Picks(picks::Named::of(&genotype)),
        }
    }
}

impl Genotype {
    /// Returns a genotype of two DARTS cells, of an unknown space.
    pub fn pair(normal: Cell, reduce: Cell) -> Self {
        Genotype { form: Form::Pair { normal, reduce }, space: None }
    }

    /// Returns a genotype of one NAS-Bench-201 cell, of an unknown space.
    pub fn single(cell: Cell) -> Self {
        Genotype { form: Form::Single(cell), space: None }
    }

    /// Returns the genotype with its space.
    pub fn of(self, space: &'static dyn Space) -> Self {
        Genotype { space: Some(space), ..self }
    }

    /// Returns the space that the genotype was searched or sampled in, if it is known.
    pub fn space(&self) -> Option<&'static dyn Space> {
        self.space
    }

    /// Adds the space that a file names.
    ///
    /// # Errors
    /// [`Error::Unknown`] for an unknown space, and [`Error::Genotype`] for one that does not contain the genotype.
    fn named_space(self, name: Option<String>) -> Result<Self> {
        let Some(name) = name else { return Ok(self) };
        let space = space::named(&name)?;
        match space.contains(&self) {
            true => Ok(self.of(space)),
            false => Err(Error::malformed("space", format!("the cells are not in the space {name}"))),
        }
    }

    /// Parses JSON or the text that published code prints: `Genotype(normal=[('sep_conv_3x3', 1), ...], ...)`, a dict
    /// of these fields, or, for NAS-Bench-201, `|nor_conv_3x3~0|+|...|`. In a log or in source code, the last
    /// genotype is used.
    ///
    /// # Errors
    /// [`Error::Malformed`] with the position at which the text is not a genotype, or with the rule that the genotype
    /// violates. [`Error::Limit`] for a text that is too long. `place` names the file.
    pub fn parse(text: &str, place: &str) -> Result<Self> {
        let text = text.trim_start_matches('\u{feff}');
        match text.trim_start().chars().next() {
            Some('{') => Self::parse_json(text, place),
            Some('|') if !text.trim().contains('\n') => arch::parse(text.trim(), place),
            _ if picks::is(text) => picks::parse(text.trim(), place),
            _ => python::parse(text, place),
        }
    }

    /// Parses JSON. An untagged enum would not report which part of either form is wrong.
    fn parse_json(text: &str, place: &str) -> Result<Self> {
        let malformed = |e: serde_json::Error| Error::malformed(place, e.to_string());
        let fields: serde_json::Map<String, serde_json::Value> = match serde_json::from_str(text) {
            Ok(fields) => fields,
            Err(_) if python::is_in(text) => return python::parse(text, place),
            Err(_) if foreign::is_nni(text) => return Err(foreign::nni(place)),
            Err(error) => return Err(malformed(error)),
        };
        let genotype = match fields.get("genotype") {
            _ if fields.contains_key("arch") => {
                Plain::Arch(serde_json::from_str(text).map_err(malformed)?).try_into()
            }
            _ if fields.contains_key("choices") => {
                Plain::Picks(serde_json::from_str(text).map_err(malformed)?).try_into()
            }
            Some(serde_json::Value::String(inner)) => return Self::parse(inner, place),
            Some(inner @ serde_json::Value::Object(_)) => return Self::parse_json(&inner.to_string(), place),
            _ => match serde_json::from_str::<CellPair>(text) {
                Ok(pair) => pair.try_into(),
                Err(_) if foreign::is_nni(text) => return Err(foreign::nni(place)),
                Err(error) => {
                    let values: Vec<(String, Literal)> = fields
                        .iter()
                        .map(|(name, value)| (name.clone(), Literal::from_json(value)))
                        .collect();
                    return python::of_fields(&values, place).map_err(|_| malformed(error));
                }
            },
        };
        genotype.map_err(|e: Error| Error::malformed(place, e.to_string()))
    }

    /// Iterates over the cells with their kinds, `normal` and `reduce`; none if the genotype is not made of cells.
    pub fn cells(&self) -> impl Iterator<Item = (&'static str, &Cell)> {
        let [normal, reduce] = match &self.form {
            Form::Pair { normal, reduce } => [Some(normal), Some(reduce)],
            Form::Single(cell) => [Some(cell), None],
            Form::Picks(_) => [None, None],
        };
        normal.map(|cell| ("normal", cell)).into_iter().chain(reduce.map(|cell| ("reduce", cell)))
    }

    /// Returns the cell of a kind, `normal` or `reduce`, if the genotype has it.
    pub fn cell(&self, kind: &str) -> Option<&Cell> {
        self.cells().find(|(name, _)| *name == kind).map(|(_, cell)| cell)
    }

    /// Numbers of convolutions of the normal and of the reduction cell.
    pub fn convolutions(&self) -> [usize; 2] {
        let mut cells = self.cells().map(|(_, cell)| cell.convolutions());
        [0, 1].map(|_| cells.next().unwrap_or_default())
    }

    /// Number of skip connections of the normal cell. A large number indicates a collapsed search.
    pub fn skips(&self) -> usize {
        self.cells().next().map_or(0, |(_, cell)| cell.skips())
    }

    /// Returns a published genotype by name.
    ///
    /// # Errors
    /// [`Error::Unknown`] for an unknown name.
    pub fn named(name: &str) -> Result<Self> {
        let all = published();
        let found = all.iter().find(|(known, _)| known == name);
        found
            .map(|(_, g)| g.clone())
            .ok_or_else(|| Error::unknown("genotype", name, all.iter().map(|(n, _)| n.clone())))
    }

    /// Returns the JSON representation, with one line per field.
    pub fn to_json(&self) -> String {
        let space =
            self.space.map(|space| format!(",\n  \"space\": \"{}\"", space.name())).unwrap_or_default();
        let (normal, reduce) = match &self.form {
            Form::Pair { normal, reduce } => (normal, reduce),
            Form::Single(cell) => return format!("{{\n  \"arch\": \"{}\"{space}\n}}\n", arch::print(cell)),
            Form::Picks(_) => return picks::Named::of(self).to_json(),
        };
        let list = |edges: &[Edge]| {
            let items = edges.iter().map(|e| format!("[\"{}\", {}]", e.primitive.name(), e.from));
            items.collect::<Vec<_>>().join(", ")
        };
        format!(
            "{{\n  \"normal\": [{}],\n  \"normal_concat\": {:?},\n  \"reduce\": [{}],\n  \"reduce_concat\": {:?}{space}\n}}\n",
            list(normal.edges()),
            normal.concat(),
            list(reduce.edges()),
            reduce.concat()
        )
    }
}

impl fmt::Display for Genotype {
    /// Writes the text that published code prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.form {
            Form::Pair { normal, reduce } => python::print(normal, reduce, f),
            Form::Single(cell) => f.write_str(&arch::print(cell)),
            Form::Picks(_) => picks::Named::of(self).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_published_genotype_survives_both_forms() {
        for (name, genotype) in published() {
            assert_eq!(Genotype::parse(&genotype.to_json(), name).unwrap(), *genotype);
            assert_eq!(Genotype::parse(&genotype.to_string(), name).unwrap(), *genotype);
            let json = serde_json::to_string(genotype).unwrap();
            assert_eq!(Genotype::parse(&json, name).unwrap(), *genotype);
        }
    }

    #[test]
    fn a_file_names_a_space_that_contains_its_cells() {
        let darts = Genotype::named("DARTS_V2").unwrap().of(&space::DARTS);
        assert_eq!(
            Genotype::parse(&darts.to_json(), "x").unwrap().space(),
            Some(&space::DARTS as &dyn Space)
        );
        for (text, expected) in [
            (
                darts.to_json().replace("\"darts\"", "\"nasbench201\""),
                "the cells are not in the space nasbench201",
            ),
            (darts.to_json().replace("\"darts\"", "\"dart\""), "unknown space `dart`, did you mean `darts`?"),
            ("{\"arch\": \"|none~0|\", \"space\": \"nasbench201\"}".into(), "not in the space nasbench201"),
        ] {
            let message = Genotype::parse(&text, "x").unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn an_edge_from_a_later_node_is_refused_by_place() {
        let text = Genotype::named("DARTS_V2").unwrap().to_json().replacen(
            "[\"sep_conv_3x3\", 1]",
            "[\"sep_conv_3x3\", 2]",
            1,
        );
        let message = Genotype::parse(&text, "x").unwrap_err().to_string();
        assert!(message.contains("normal cell, node 2, edge 1") && message.contains("0 to 1"), "{message}");
    }

    #[test]
    fn a_near_name_is_suggested() {
        let message = Genotype::named("DARTS_V3").unwrap_err().to_string();
        assert!(message.contains("did you mean `DARTS_V"), "{message}");
    }
}
