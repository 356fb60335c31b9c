//! Merging of TOML tables. Only keys of the base table are accepted.

use toml::{Table, Value};

use super::broken;
use crate::Result;

/// Former names of keys, which are read as the present ones.
const RENAMED: [(&str, &str); 2] = [
    ("search.tau_max", "search.relaxation.gumbel.tau_max"),
    ("search.tau_min", "search.relaxation.gumbel.tau_min"),
];

/// Overwrites values of `base` with those of `over`.
///
/// # Errors
/// Fails for a key that `base` lacks and for a value of another type; `place` names the file.
pub(super) fn lay(base: &mut Table, mut over: Table, place: &str) -> Result<()> {
    for (former, present) in RENAMED {
        if let Some(value) = take(&mut over, former) {
            let Value::Table(renamed) = nested(present, value) else { continue };
            lay_at(base, renamed, place, "")?;
        }
    }
    lay_at(base, over, place, "")
}

/// Removes and returns the value of a dotted key.
fn take(table: &mut Table, key: &str) -> Option<Value> {
    match key.split_once('.') {
        Some((group, rest)) => take(table.get_mut(group)?.as_table_mut()?, rest),
        None => table.remove(key),
    }
}

/// Returns the tables that hold the value of a dotted key.
fn nested(key: &str, mut value: Value) -> Value {
    for part in key.rsplit('.') {
        value = Value::Table(Table::from_iter([(part.to_string(), value)]));
    }
    value
}

fn lay_at(base: &mut Table, over: Table, place: &str, path: &str) -> Result<()> {
    for (key, value) in over {
        let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let Some(slot) = base.get_mut(&key) else {
            let (mut known, mut found) = (Vec::new(), Vec::new());
            leaves(base, path, &mut known);
            leaves(&Table::from_iter([(key, value)]), path, &mut found);
            let found = found.into_iter().next().unwrap_or(full);
            return Err(milenas_models::Error::unknown("configuration key", found, known).into());
        };
        match (slot, value) {
            (Value::Table(base), Value::Table(over)) => lay_at(base, over, place, &full)?,
            (Value::Table(_), _) => {
                return Err(broken(place, format!("`{full}` is a group of keys, not a value")));
            }
            (Value::Float(slot), Value::Integer(n)) => *slot = n as f64,
            (slot, value) if slot.type_str() == value.type_str() => *slot = value,
            (slot, value) => {
                let problem =
                    format!("`{full}` is {value}, expected {} {}", article(slot.type_str()), slot.type_str());
                return Err(broken(place, problem));
            }
        }
    }
    Ok(())
}

/// Returns the indefinite article for a noun.
fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

/// Appends the dotted paths of all values below `table` to `out`.
pub(super) fn leaves(table: &Table, path: &str, out: &mut Vec<String>) {
    for (key, value) in table {
        let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match value {
            Value::Table(inner) => leaves(inner, &full, out),
            _ => out.push(full),
        }
    }
}

/// Parses `a.b=3` into nested tables. A value that is not valid TOML becomes a string.
pub(super) fn assignment(text: &str) -> Result<Table> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| broken("setting `set`", format!("`{text}`, expected KEY=VALUE")))?;
    let parsed = format!("x = {value}").parse::<Table>().ok().and_then(|mut t| t.remove("x"));
    let value = parsed.unwrap_or_else(|| Value::String(value.trim().into()));
    match nested(key.trim(), value) {
        Value::Table(table) => Ok(table),
        _ => Err(broken("setting `set`", format!("`{text}`, expected KEY=VALUE"))),
    }
}
