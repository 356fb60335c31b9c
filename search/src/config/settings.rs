//! Declaration of settings. Each configuration key is declared once, with its default, range, help, command-line
//! option, and whether a run may resume with another value.

use milenas_models::Skeleton;
use toml::Value;

use super::broken;
use crate::strategy::stop::StopRule;
use crate::strategy::{Compat, Derivation, Order};
use crate::{Error, Result};

/// Values that a setting accepts, besides being of its type.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Range {
    /// Every value of the type. Rules between keys may restrict it.
    #[default]
    Any,
    /// Counts from 1 to 1,048,576.
    Count,
    /// Numbers of a closed interval.
    Between(f64, f64),
    /// Numbers of at least 0 and below 1.
    Fraction,
    /// Finite numbers above 0.
    Positive,
    /// Finite numbers of at least 0.
    NotNegative,
    /// Names of a table.
    OneOf(Vec<Choice>),
}

/// Name that a setting accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Name, as written in a configuration.
    pub name: &'static str,
    /// Description; a noun phrase or a sentence without its full stop.
    pub doc: &'static str,
}

/// Largest value of a count.
const MOST: i64 = 1 << 20;

impl Range {
    /// Returns the range of names with their descriptions.
    pub fn one_of(choices: impl IntoIterator<Item = (&'static str, &'static str)>) -> Self {
        Range::OneOf(choices.into_iter().map(|(name, doc)| Choice { name, doc }).collect())
    }

    fn holds(&self, number: f64) -> bool {
        match self {
            Range::Any | Range::OneOf(_) => true,
            Range::Count => (1.0..=MOST as f64).contains(&number),
            Range::Between(low, high) => (*low..=*high).contains(&number),
            Range::Fraction => (0.0..1.0).contains(&number),
            Range::Positive => number > 0.0 && number.is_finite(),
            Range::NotNegative => number >= 0.0 && number.is_finite(),
        }
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Range::Any => f.write_str("any value"),
            Range::Count => write!(f, "1 to {MOST}"),
            Range::Between(low, high) => write!(f, "{low} to {high}"),
            Range::Fraction => f.write_str("at least 0 and less than 1"),
            Range::Positive => f.write_str("a finite number above 0"),
            Range::NotNegative => f.write_str("a finite number of 0 or more"),
            Range::OneOf(choices) => {
                let described = |Choice { name, doc }: &Choice| format!("{name}: {doc}");
                f.write_str(&choices.iter().map(described).collect::<Vec<_>>().join("; "))
            }
        }
    }
}

/// Returns the error for a value that is not allowed.
pub(super) fn out_of_range(
    key: impl std::fmt::Display,
    found: impl std::fmt::Display,
    expected: impl std::fmt::Display,
) -> Error {
    broken("values", format!("`{key}` is {found}, expected {expected}"))
}

/// Checks that the first of two settings does not exceed the second one.
///
/// # Errors
/// Fails if it does, and names both keys.
pub(crate) fn at_most(keys: [&str; 2], low: f64, high: f64) -> Result<()> {
    let [key, other] = keys;
    if low <= high {
        return Ok(());
    }
    Err(out_of_range(key, low, format_args!("0 to {high}, which `{other}` is. help: set both")))
}

/// Runs that may resume with another value of a setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resume {
    /// None: the setting affects the result.
    #[default]
    SameValue,
    /// All: the setting does not affect the result.
    AnyValue,
    /// Gradient-based searches, where the setting chooses among results. A black-box strategy uses it to decide
    /// which architectures it evaluates.
    Choice,
}

/// A configuration key with its value and its declaration.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Dotted key, e.g. `search.epochs`.
    pub key: String,
    /// Value, which is the default for the settings of `Config::default()`.
    pub value: Value,
    /// Declaration of the key.
    pub declared: Declaration,
}

/// Declaration of a configuration key.
#[derive(Clone, Debug, Default)]
pub struct Declaration {
    /// Description: one or more sentences.
    pub doc: String,
    /// Values that the setting accepts.
    pub range: Range,
    /// Name of the command-line option that sets the key, if there is one.
    pub option: Option<&'static str>,
    /// Runs that may resume with another value.
    pub resume: Resume,
}

impl Setting {
    /// Checks the value against the declared range.
    ///
    /// # Errors
    /// [`Error::Config`] for a number outside the range, and the unknown name with the nearest known one.
    pub(super) fn check(&self) -> Result<()> {
        let Setting { key, value, declared: Declaration { range, option, .. } } = self;
        let number = match (value, range) {
            (Value::Integer(n), _) => *n as f64,
            (Value::Float(x), _) => *x,
            (Value::String(found), Range::OneOf(choices))
                if choices.iter().all(|known| known.name != found) =>
            {
                let names = choices.iter().map(|known| known.name);
                return Err(milenas_models::Error::unknown(option.unwrap_or("value"), found, names).into());
            }
            _ => return Ok(()),
        };
        if range.holds(number) { Ok(()) } else { Err(out_of_range(key, number, range)) }
    }
}

/// Value or group of values of a configuration.
pub trait Settings {
    /// Appends the settings at `key` and below to `out`. A group ignores `declared`, since its fields have
    /// declarations of their own.
    fn collect(&self, key: &str, declared: Declaration, out: &mut Vec<Setting>);
}

macro_rules! values {
    ($($type:ty),+ $(,)?) => {$(
        impl Settings for $type {
            fn collect(&self, key: &str, declared: Declaration, out: &mut Vec<Setting>) {
                // Only integers beyond the range of TOML, which `u64` allows, are no values of it.
                let value = Value::try_from(self).unwrap_or(Value::Integer(i64::MAX));
                out.push(Setting { key: key.into(), value, declared });
            }
        }
    )+};
}

values!(bool, f64, u64, usize, String, Skeleton, Order, Compat, Derivation, StopRule);

/// Declares a group of settings: a struct with defaults, and a declaration for each key. A field reads
/// `name: Type = default, in RANGE, option "flag", resume RULE;`, where all parts after the default are optional,
/// and its documentation is the help of the key. A field whose type is a group has a default only.
macro_rules! settings {
    (
        $(#[doc = $about:literal])+
        $(#[derive($($derived:ident),+)])?
        pub struct $name:ident {$(
            $(#[doc = $doc:literal])+
            $field:ident: $type:ty = $default:expr
            $(, in $range:expr)?
            $(, option $option:literal)?
            $(, resume $resume:expr)?
            ;
        )*}
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        $(#[derive($($derived),+)])?
        #[serde(deny_unknown_fields, default)]
        pub struct $name {$(
            $(#[doc = $doc])+
            pub $field: $type,
        )*}

        impl Default for $name {
            fn default() -> Self {
                #[allow(unused_imports)]
                use $crate::config::settings::{Range, Resume};
                Self { $($field: $default.into(),)* }
            }
        }

        impl $crate::config::settings::Settings for $name {
            fn collect(
                &self,
                key: &str,
                _: $crate::config::settings::Declaration,
                out: &mut Vec<$crate::config::settings::Setting>,
            ) {
                #[allow(unused_imports)]
                use $crate::config::settings::{Declaration, Range, Resume, Settings};
                // A group without settings uses neither.
                let _ = (key, &out);
                $({
                    #[allow(unused_mut)]
                    let mut declared = Declaration {
                        doc: concat!($($doc),+).trim().to_string(),
                        ..Declaration::default()
                    };
                    $(declared.range = $range;)?
                    $(declared.option = Some($option);)?
                    $(declared.resume = $resume;)?
                    let name = stringify!($field);
                    let key = if key.is_empty() { name.to_string() } else { format!("{key}.{name}") };
                    self.$field.collect(&key, declared, out);
                })*
            }
        }
    };
}
pub(crate) use settings;
