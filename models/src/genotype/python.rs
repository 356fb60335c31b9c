//! The text of the published code: `Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), ...)`.

use std::fmt;

use super::{Cell, Edge, Genotype, Pair};
use crate::{Error, Primitive, Result};

/// Bytes of text that are looked at.
const MAX_TEXT: usize = 64 << 10;

pub(super) fn print(normal: &Cell, reduce: &Cell, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let edges = |edges: &[Edge]| {
        let items = edges.iter().map(|e| format!("('{}', {})", e.primitive.name(), e.from));
        items.collect::<Vec<_>>().join(", ")
    };
    write!(
        f,
        "Genotype(normal=[{}], normal_concat={:?}, reduce=[{}], reduce_concat={:?})",
        edges(normal.edges()),
        normal.concat(),
        edges(reduce.edges()),
        reduce.concat()
    )
}

pub(super) fn parse(text: &str, place: &str) -> Result<Genotype> {
    if text.len() > MAX_TEXT {
        let found = text.len() as u64;
        return Err(Error::Limit { place: place.into(), what: "the length", found, limit: MAX_TEXT as u64 });
    }
    let mut reader = Reader { text, rest: text, place };
    // An assignment `NAME = Genotype(...)` may stand before it.
    if let Some((name, rest)) = text.split_once('=')
        && name.trim().chars().all(|c| c.is_alphanumeric() || c == '_')
        && rest.trim_start().starts_with("Genotype")
    {
        reader.rest = rest;
    }
    reader.expect("Genotype")?;
    reader.expect("(")?;
    let (normal, normal_concat) = reader.cell("normal")?;
    reader.expect(",")?;
    let (reduce, reduce_concat) = reader.cell("reduce")?;
    reader.accept(",");
    reader.expect(")")?;
    if !reader.rest.trim().is_empty() {
        return Err(reader.fail("the end"));
    }
    Pair { normal, normal_concat, reduce, reduce_concat }.try_into()
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    place: &'a str,
}

impl<'a> Reader<'a> {
    fn fail(&self, expected: &str) -> Error {
        let rest = self.rest.trim_start();
        let at = self.text.len() - rest.len();
        let found: String = rest.chars().take(20).collect();
        let help = "Help: a genotype is JSON or `Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=[2, 3, 4, 5], ...)`";
        Error::malformed(self.place, format!("byte {at}: expected {expected}, found `{found}`. {help}"))
    }

    fn accept(&mut self, token: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, token: &str) -> Result<()> {
        if self.accept(token) { Ok(()) } else { Err(self.fail(&format!("`{token}`"))) }
    }

    fn take(&mut self, what: &str, accept: impl Fn(char) -> bool) -> Result<&'a str> {
        let rest = self.rest.trim_start();
        let end = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        if end == 0 {
            return Err(self.fail(what));
        }
        self.rest = &rest[end..];
        Ok(&rest[..end])
    }

    fn number(&mut self) -> Result<usize> {
        let digits = self.take("a number", |c| c.is_ascii_digit())?;
        digits.parse().map_err(|_| self.fail("a smaller number"))
    }

    /// `NAME=[edges], NAME_concat=states`
    fn cell(&mut self, name: &str) -> Result<(Vec<Edge>, Vec<usize>)> {
        self.expect(name)?;
        self.expect("=")?;
        let edges = self.list("[", "]", Self::edge)?;
        self.expect(",")?;
        self.expect(name)?;
        self.expect("_concat")?;
        self.expect("=")?;
        if !self.accept("range") {
            return Ok((edges, self.list("[", "]", Self::number)?));
        }
        match self.list("(", ")", Self::number)?[..] {
            [start, end] if end.saturating_sub(start) <= super::cell::MAX_NODES => {
                Ok((edges, (start..end).collect()))
            }
            _ => Err(self.fail("`range(first, end)`")),
        }
    }

    fn list<T>(&mut self, open: &str, close: &str, item: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.expect(open)?;
        let mut items = Vec::new();
        while !self.accept(close) {
            items.push(item(self)?);
            if !self.accept(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(items)
    }

    /// `('sep_conv_3x3', 1)`; GDAS writes the probability as a third field, which is read over.
    fn edge(&mut self) -> Result<Edge> {
        self.expect("(")?;
        let quote = if self.accept("'") { "'" } else { "\"" };
        if quote == "\"" {
            self.expect(quote)?;
        }
        let name = self.take("a primitive's name", |c| c.is_alphanumeric() || c == '_')?;
        self.expect(quote)?;
        self.expect(",")?;
        let from = self.number()?;
        if self.accept(",") && !self.rest.trim_start().starts_with(')') {
            self.take("a probability", |c| c.is_ascii_digit() || ".e-+".contains(c))?;
        }
        self.expect(")")?;
        Ok(Edge { primitive: Primitive::parse(name)?, from })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn assignments_ranges_and_probabilities_are_read() {
        let text = "X_1 = Genotype(normal=[('none', 0, 0.25), ('skip_connect', 1)], normal_concat=range(2, 3), \
                    reduce=[(\"max_pool_3x3\", 1), ('avg_pool_3x3', 0),], reduce_concat=[2])\n";
        let genotype = parse(text, "x").unwrap();
        assert_eq!(genotype.normal.concat(), [2]);
        assert_eq!(genotype.reduce.unwrap().edges()[0].primitive, Primitive::MaxPool3x3);
    }

    #[test]
    fn the_message_says_where() {
        let message = parse("Genotype(normal=[('skip_connect', x)]", "file").unwrap_err().to_string();
        assert!(message.contains("file: byte 34: expected a number, found `x)]`"), "{message}");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,60}", cut in 0..200usize, with in "[\\[\\](),'=x0-9]{0,3}") {
            let _ = Genotype::parse(&text, "x");
            let whole = Genotype::named("DARTS_V2").unwrap().to_string();
            let cut = cut.min(whole.len());
            let _ = Genotype::parse(&format!("{}{with}{}", &whole[..cut], &whole[cut..]), "x");
            let _ = Genotype::parse(&whole[..cut], "x");
        }
    }
}
