//! The text and the JSON of a genotype that is a candidate of every choice of a space: `NAME[first, second, ...]`, and
//! `{"space": NAME, "choices": [...]}`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Form, Genotype};
use crate::space::{self, Space};
use crate::{Error, Result};

/// Candidates by name.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    space: String,
    choices: Vec<String>,
}

impl Named {
    /// Returns the names of a genotype's candidates; empty for a genotype of another form.
    pub(super) fn of(genotype: &Genotype) -> Self {
        let (Form::Picks(picks), Some(space)) = (&genotype.form, genotype.space) else {
            return Named { space: String::new(), choices: Vec::new() };
        };
        let choices = space.choices();
        let name = |(choice, pick): (&space::Choice, &usize)| choice.candidates[*pick].clone();
        Named { space: space.name().into(), choices: choices.iter().zip(picks).map(name).collect() }
    }

    pub(super) fn to_json(&self) -> String {
        let names: Vec<String> = self.choices.iter().map(|name| format!("\"{name}\"")).collect();
        format!("{{\n  \"space\": \"{}\",\n  \"choices\": [{}]\n}}\n", self.space, names.join(", "))
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.space, self.choices.join(", "))
    }
}

impl TryFrom<Named> for Genotype {
    type Error = Error;

    fn try_from(Named { space, choices }: Named) -> Result<Self> {
        Genotype::named_picks(space::named(&space)?, &choices)
    }
}

impl Genotype {
    /// Returns the genotype with a candidate of every choice of a space, by name.
    ///
    /// # Errors
    /// [`Error::Malformed`] for another number of names than choices, and [`Error::Unknown`] for a name that is no
    /// candidate of its choice.
    pub fn named_picks(space: &'static dyn Space, names: &[String]) -> Result<Self> {
        let choices = space.choices();
        if choices.len() != names.len() {
            let problem =
                format!("{} names, the space {} has {} choices", names.len(), space.name(), choices.len());
            return Err(Error::malformed("choices", problem));
        }
        let pick = |(choice, name): (&space::Choice, &String)| {
            let found = choice.candidates.iter().position(|candidate| candidate == name);
            found.ok_or_else(|| Error::unknown("candidate", name, choice.candidates.clone()))
        };
        let picks = choices.iter().zip(names).map(pick).collect::<Result<Vec<_>>>()?;
        Ok(Genotype { form: Form::Picks(picks), space: Some(space) })
    }

    /// Returns the index of the candidate of every choice, for a genotype of a space without cells.
    pub fn picks(&self) -> Option<&[usize]> {
        match &self.form {
            Form::Picks(picks) => Some(picks),
            Form::Pair { .. } | Form::Single(_) => None,
        }
    }
}

/// Whether a text is `NAME[...]` with the name of a space.
pub(super) fn is(text: &str) -> bool {
    let name = text.trim().strip_suffix(']').and_then(|text| text.split_once('['));
    name.is_some_and(|(name, _)| space::named(name).is_ok())
}

/// Parses `NAME[first, second, ...]`.
pub(super) fn parse(text: &str, place: &str) -> Result<Genotype> {
    let parts = text.strip_suffix(']').and_then(|text| text.split_once('['));
    let Some((name, names)) = parts else {
        return Err(Error::malformed(place, format!("`{text}`, expected NAME[first, second, ...]")));
    };
    let choices = names.split(',').map(|name| name.trim().to_string()).collect();
    Named { space: name.into(), choices }
        .try_into()
        .map_err(|e: Error| Error::malformed(place, e.to_string()))
}
