//! The genotype, which is the result of a search. It is a value that is checked on construction.

mod arch;
mod cell;
mod class;
mod foreign;
mod live;
mod python;
mod value;
mod zoo;

use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, Space};
use value::Literal;

pub use cell::{Cell, Edge, Wiring};
pub use class::Class;
pub use zoo::published;

/// The cells that a network consists of.
///
/// Genotypes with equal cells are equal, whatever their spaces.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Plain", into = "Plain")]
pub struct Genotype {
    /// The cell that keeps the size of its input.
    pub normal: Cell,
    /// The cell that halves the size; `None` for a residual block, as in NAS-Bench-201.
    pub reduce: Option<Cell>,
    /// The space that the genotype was searched or sampled in, if it is known.
    space: Option<Space>,
}

impl PartialEq for Genotype {
    fn eq(&self, other: &Self) -> bool {
        (&self.normal, &self.reduce) == (&other.normal, &other.reduce)
    }
}

impl Eq for Genotype {}

impl Hash for Genotype {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.normal, &self.reduce).hash(state);
    }
}

/// The JSON representation.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Plain {
    Pair(CellPair),
    Arch(Arch),
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
        }
    }
}

impl TryFrom<CellPair> for Genotype {
    type Error = Error;

    fn try_from(pair: CellPair) -> Result<Self> {
        let normal = Cell::checked("normal", Wiring::TwoEdges, pair.normal, pair.normal_concat)?;
        let reduce = Cell::checked("reduction", Wiring::TwoEdges, pair.reduce, pair.reduce_concat)?;
        Genotype::new(normal, Some(reduce)).named_space(pair.space)
    }
}

impl From<Genotype> for Plain {
    fn from(genotype: Genotype) -> Self {
        let space = genotype.space.map(|space| space.name.to_string());
        match genotype.reduce {
            Some(reduce) => Plain::Pair(CellPair {
                normal: genotype.normal.edges().to_vec(),
                normal_concat: genotype.normal.concat().to_vec(),
                reduce: reduce.edges().to_vec(),
                reduce_concat: reduce.concat().to_vec(),
                space,
            }),
            None => Plain::Arch(Arch { arch: arch::print(&genotype.normal), space }),
        }
    }
}

impl Genotype {
    /// Returns a genotype of an unknown space.
    pub fn new(normal: Cell, reduce: Option<Cell>) -> Self {
        Genotype { normal, reduce, space: None }
    }

    /// Returns the genotype with its space.
    pub fn of(self, space: Space) -> Self {
        Genotype { space: Some(space), ..self }
    }

    /// Returns the space that the genotype was searched or sampled in, if it is known.
    pub fn space(&self) -> Option<Space> {
        self.space
    }

    /// Adds the space that a file names.
    ///
    /// # Errors
    /// [`Error::Unknown`] for an unknown space, and [`Error::Genotype`] for one that does not contain the genotype.
    fn named_space(self, name: Option<String>) -> Result<Self> {
        let Some(name) = name else { return Ok(self) };
        let space = Space::named(&name)?;
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

    /// Returns the wiring of the cells.
    pub fn wiring(&self) -> Wiring {
        self.normal.wiring()
    }

    /// Iterates over the cells with their kinds, `normal` and `reduce`.
    pub fn cells(&self) -> impl Iterator<Item = (&'static str, &Cell)> {
        [("normal", &self.normal)].into_iter().chain(self.reduce.as_ref().map(|cell| ("reduce", cell)))
    }

    /// Numbers of convolutions of the normal and of the reduction cell.
    pub fn convolutions(&self) -> [usize; 2] {
        [self.normal.convolutions(), self.reduce.as_ref().map_or(0, Cell::convolutions)]
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
        let space = self.space.map(|space| format!(",\n  \"space\": \"{}\"", space.name)).unwrap_or_default();
        let Some(reduce) = &self.reduce else {
            return format!("{{\n  \"arch\": \"{}\"{space}\n}}\n", arch::print(&self.normal));
        };
        let list = |edges: &[Edge]| {
            let items = edges.iter().map(|e| format!("[\"{}\", {}]", e.primitive.name(), e.from));
            items.collect::<Vec<_>>().join(", ")
        };
        format!(
            "{{\n  \"normal\": [{}],\n  \"normal_concat\": {:?},\n  \"reduce\": [{}],\n  \"reduce_concat\": {:?}{space}\n}}\n",
            list(self.normal.edges()),
            self.normal.concat(),
            list(reduce.edges()),
            reduce.concat()
        )
    }
}

impl fmt::Display for Genotype {
    /// Writes the text that published code prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reduce {
            Some(reduce) => python::print(&self.normal, reduce, f),
            None => f.write_str(&arch::print(&self.normal)),
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
        let darts = Genotype::named("DARTS_V2").unwrap().of(Space::DARTS);
        assert_eq!(Genotype::parse(&darts.to_json(), "x").unwrap().space(), Some(Space::DARTS));
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
