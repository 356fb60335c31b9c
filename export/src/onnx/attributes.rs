//! Encoding and decoding of node attributes.

use std::cell::RefCell;

use super::schema::{AttributeProto, AttributeType, NodeProto, TensorProto};

/// Largest integer accepted as a size (kernel, stride, padding or dimension). The product of a few such sizes
/// fits a 64-bit integer.
const MAX_SIZE: i64 = 1 << 24;

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: kind.into(), ..Default::default() }
}

pub(super) fn int(name: &str, i: usize) -> AttributeProto {
    AttributeProto { i: Some(i as i64), ..attribute(name, AttributeType::Int) }
}

pub(super) fn float(name: &str, f: f64) -> AttributeProto {
    AttributeProto { f: Some(f as f32), ..attribute(name, AttributeType::Float) }
}

pub(super) fn ints(name: &str, ints: &[usize]) -> AttributeProto {
    let ints = ints.iter().map(|&i| i as i64).collect();
    AttributeProto { ints, ..attribute(name, AttributeType::Ints) }
}

/// Returns the f64 with the same shortest decimal form as `f`: 1e-5 for an attribute stored as
/// 9.999999747378752e-6.
pub(super) fn decimal(f: f32) -> f64 {
    f.to_string().parse().unwrap_or_else(|_| f64::from(f))
}

/// Converts an integer to a size; an error if it is outside 0 to [`MAX_SIZE`].
pub(super) fn size(what: &str, i: i64) -> Result<usize, String> {
    match usize::try_from(i) {
        Ok(n) if i <= MAX_SIZE => Ok(n),
        _ => Err(format!("{what} is {i}, expected 0 to {MAX_SIZE}")),
    }
}

/// Converts an axis, which may count from the end, to an index below `rank`.
pub(super) fn axis(i: i64, rank: usize) -> Result<usize, String> {
    let rank_i = rank as i64;
    match i {
        _ if (0..rank_i).contains(&i) => Ok(i as usize),
        _ if (-rank_i..0).contains(&i) => Ok((i + rank_i) as usize),
        _ => Err(format!("axis is {i}, expected one of {rank}")),
    }
}

/// Attributes of a node. Records the names that were read, so that unknown attributes are found.
pub(super) struct Attributes<'a> {
    node: &'a NodeProto,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Attributes<'a> {
    pub(super) fn of(node: &'a NodeProto) -> Self {
        Attributes { node, asked: RefCell::default() }
    }

    fn get(&self, name: &'static str, kind: AttributeType) -> Result<Option<&'a AttributeProto>, String> {
        self.asked.borrow_mut().push(name);
        let Some(found) = self.node.attribute.iter().find(|a| a.name == name) else { return Ok(None) };
        if !found.ref_attr_name.is_empty() {
            return Err(format!("attribute `{name}` refers to a function's"));
        }
        // Files of IR version 1 omit the type.
        match found.r#type() {
            AttributeType::Undefined => Ok(Some(found)),
            other if other == kind => Ok(Some(found)),
            other => Err(format!("attribute `{name}` is {}, expected {}", other, kind)),
        }
    }

    pub(super) fn int(&self, name: &'static str, default: i64) -> Result<i64, String> {
        Ok(self.get(name, AttributeType::Int)?.map_or(default, |a| a.i()))
    }

    pub(super) fn float(&self, name: &'static str, default: f32) -> Result<f32, String> {
        Ok(self.get(name, AttributeType::Float)?.map_or(default, |a| a.f()))
    }

    pub(super) fn ints(&self, name: &'static str) -> Result<Option<&'a [i64]>, String> {
        Ok(self.get(name, AttributeType::Ints)?.map(|a| a.ints.as_slice()))
    }

    pub(super) fn text(&self, name: &'static str) -> Result<Option<&'a str>, String> {
        let Some(found) = self.get(name, AttributeType::String)? else { return Ok(None) };
        std::str::from_utf8(found.s()).map(Some).map_err(|_| format!("attribute `{name}` is not UTF-8 text"))
    }

    pub(super) fn tensor(&self, name: &'static str) -> Result<Option<&'a TensorProto>, String> {
        Ok(self.get(name, AttributeType::Tensor)?.and_then(|a| a.t.as_ref()))
    }

    /// Returns `N` sizes; `default` for each if the attribute is absent.
    pub(super) fn sizes<const N: usize>(
        &self,
        name: &'static str,
        default: usize,
    ) -> Result<[usize; N], String> {
        let Some(found) = self.ints(name)? else { return Ok([default; N]) };
        let sizes = found.iter().map(|&i| size(name, i)).collect::<Result<Vec<_>, _>>()?;
        sizes
            .try_into()
            .map_err(|s: Vec<_>| format!("attribute `{name}` has {} numbers, expected {N}", s.len()))
    }

    /// Refuses an attribute with another value than `value`, the only one that this program supports.
    pub(super) fn must_be(&self, name: &'static str, value: i64, default: i64) -> Result<(), String> {
        match self.int(name, default)? {
            found if found == value => Ok(()),
            found => Err(format!("{name} is {found}, this program has only {value}")),
        }
    }

    /// Refuses a node with an attribute that was never read: the attribute may change the meaning of the
    /// node.
    pub(super) fn all_known(&self) -> Result<(), String> {
        let asked = self.asked.borrow();
        match self.node.attribute.iter().find(|a| !asked.contains(&a.name.as_str())) {
            Some(unknown) => Err(format!("unknown attribute `{}`", unknown.name)),
            None => Ok(()),
        }
    }
}
