//! Values in Python's notation: numbers, texts, lists, tuples, dicts, and calls such as `range(2, 6)`.

use crate::{Error, Result};

/// Largest depth of nested lists.
const MAX_DEPTH: usize = 16;

/// Largest number of items of a `range`.
const MAX_RANGE: usize = super::cell::MAX_NODES;

/// A value in Python's notation.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Text(String),
    Whole(usize),
    /// Any other number, and `None`, `True` or `False`.
    Other,
    /// A list or a tuple.
    List(Vec<Literal>),
    Map(Vec<(String, Literal)>),
}

impl Literal {
    /// Converts a JSON value.
    pub(super) fn from_json(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::String(text) => Literal::Text(text.clone()),
            serde_json::Value::Number(number) => match number.as_u64() {
                Some(whole) => Literal::Whole(usize::try_from(whole).unwrap_or(usize::MAX)),
                None => Literal::Other,
            },
            serde_json::Value::Array(items) => Literal::List(items.iter().map(Literal::from_json).collect()),
            serde_json::Value::Object(fields) => Literal::Map(
                fields.iter().map(|(name, value)| (name.clone(), Literal::from_json(value))).collect(),
            ),
            serde_json::Value::Null | serde_json::Value::Bool(_) => Literal::Other,
        }
    }
}

/// Reader of values from an offset in a text.
pub(super) struct ValueReader<'a> {
    text: &'a str,
    at: usize,
    place: &'a str,
}

impl<'a> ValueReader<'a> {
    pub(super) fn new(text: &'a str, at: usize, place: &'a str) -> Self {
        ValueReader { text, at, place }
    }

    /// Returns the error at the current offset.
    pub(super) fn fail(&mut self, expected: &str) -> Error {
        let rest = self.rest();
        let found: String = rest.chars().take(20).collect();
        let at = self.at;
        let help = "help: a genotype is JSON, `Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=[2, 3, 4, 5], ...)` or \
                    `|nor_conv_3x3~0|+|...|`";
        Error::malformed(self.place, format!("byte {at}: expected {expected}, found `{found}`. {help}"))
    }

    /// Returns the text from the next token on, after spaces and comments.
    fn rest(&mut self) -> &'a str {
        loop {
            let rest = &self.text[self.at..];
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            match trimmed.strip_prefix('#') {
                Some(comment) => self.at += 1 + comment.find('\n').unwrap_or(comment.len()),
                None => return trimmed,
            }
        }
    }

    pub(super) fn accept(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    pub(super) fn expect(&mut self, token: &str) -> Result<()> {
        if self.accept(token) { Ok(()) } else { Err(self.fail(&format!("`{token}`"))) }
    }

    /// Reads the arguments of a call up to `)`: the values, with their names if given.
    pub(super) fn arguments(&mut self) -> Result<Vec<(Option<String>, Literal)>> {
        let mut arguments = Vec::new();
        while !self.accept(")") {
            let before = self.at;
            let name = self.take(|c| c.is_alphanumeric() || c == '_').to_string();
            let named = !name.is_empty() && self.accept("=");
            if !named {
                self.at = before;
            }
            arguments.push((named.then_some(name), self.value(0, "a value")?));
            if !self.accept(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(arguments)
    }

    /// Reads the fields of a dict up to `}`.
    pub(super) fn fields(&mut self, depth: usize) -> Result<Vec<(String, Literal)>> {
        let mut fields = Vec::new();
        while !self.accept("}") {
            let Literal::Text(name) = self.value(depth, "a name in quotes")? else {
                return Err(self.fail("a name in quotes before `:`"));
            };
            self.expect(":")?;
            fields.push((name, self.value(depth, "a value")?));
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(fields)
    }

    fn value(&mut self, depth: usize, expected: &str) -> Result<Literal> {
        if depth > MAX_DEPTH {
            return Err(self.fail(&format!("at most {MAX_DEPTH} lists inside of lists")));
        }
        for (open, close) in [("[", "]"), ("(", ")")] {
            if self.accept(open) {
                return Ok(Literal::List(self.items(close, depth + 1)?));
            }
        }
        for quote in ["'", "\""] {
            if self.accept(quote) {
                let text = self.take_raw(|c| !matches!(c, '\'' | '"' | '\n')).to_string();
                self.expect(quote)?;
                return Ok(Literal::Text(text));
            }
        }
        if self.accept("{") {
            return Ok(Literal::Map(self.fields(depth + 1)?));
        }
        let before = self.at;
        let word = self.take(|c| c.is_alphanumeric() || "_.+-".contains(c)).to_string();
        if word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
            return Ok(word.parse().map_or(Literal::Other, Literal::Whole));
        }
        match word.as_str() {
            "None" | "True" | "False" | "nan" | "inf" | "null" | "true" | "false" => Ok(Literal::Other),
            _ if !word.is_empty() && self.accept("(") => {
                let items = self.items(")", depth + 1)?;
                self.call(&word, items)
            }
            _ => {
                self.at = before;
                Err(self.fail(expected))
            }
        }
    }

    fn items(&mut self, close: &str, depth: usize) -> Result<Vec<Literal>> {
        let mut items = Vec::new();
        while !self.accept(close) {
            // The operation of an edge precedes its source state.
            let expected =
                if matches!(items.last(), Some(Literal::Text(_))) { "a number" } else { "a value" };
            items.push(self.value(depth, expected)?);
            if !self.accept(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(items)
    }

    /// Returns the value of a call: a list for `range(2, 6)`, the argument for `np.int64(2)` or `list(...)`.
    fn call(&mut self, name: &str, mut arguments: Vec<Literal>) -> Result<Literal> {
        let last = name.rsplit('.').next().unwrap_or(name);
        if last == "range" {
            let numbers: Vec<usize> = arguments
                .iter()
                .filter_map(|a| if let Literal::Whole(n) = a { Some(*n) } else { None })
                .collect();
            let (start, end) = match numbers[..] {
                [end] if arguments.len() == 1 => (0, end),
                [start, end] if arguments.len() == 2 => (start, end),
                _ => return Err(self.fail("`range(first, end)`")),
            };
            if end.saturating_sub(start) > MAX_RANGE {
                return Err(self.fail(&format!("`range(first, end)` of at most {MAX_RANGE} states")));
            }
            return Ok(Literal::List((start..end).map(Literal::Whole).collect()));
        }
        let pair = |item: &Literal| match item {
            Literal::List(pair) => match pair.as_slice() {
                [Literal::Text(name), value] => Some((name.clone(), value.clone())),
                _ => None,
            },
            _ => None,
        };
        match (arguments.pop(), arguments.is_empty()) {
            (Some(Literal::List(items)), true) if last.ends_with("Dict") || last == "dict" => {
                let fields: Option<Vec<_>> = items.iter().map(pair).collect();
                fields.map(Literal::Map).ok_or_else(|| self.fail("pairs of a name and a value"))
            }
            (Some(value), true) => Ok(value),
            _ => Err(self.fail("one argument in a call")),
        }
    }

    fn take(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        self.rest();
        self.take_raw(accept)
    }

    fn take_raw(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let rest = &self.text[self.at..];
        let end = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }
}
