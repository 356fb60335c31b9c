//! Parser of Python and JSON literals, as found in metadata and label files: `{0: 'disc', 1: "it's a
//! square"}`.

use serde_json::{Map, Number, Value};

/// Largest depth of nested lists and dicts.
const DEEP: usize = 8;

/// Parses a text as a value. Tuples become lists, and keys become strings. The order of the text is kept.
///
/// # Errors
/// Returns a message with position and reason if the text is not a literal.
///
/// ```
/// use milenas_infer::recipe::literal;
///
/// assert_eq!(literal("{0: 'disc', 1: \"it's a square\"}").unwrap()["1"], "it's a square");
/// assert_eq!(literal("[32, 32]").unwrap()[0], 32);
/// ```
pub fn literal(text: &str) -> Result<Value, String> {
    let mut parser = Parser { text, at: 0 };
    let value = parser.value(0)?;
    match parser.peek() {
        None => Ok(value),
        Some(c) => Err(parser.unexpected(c)),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    /// Returns the next character that is not white space.
    fn peek(&mut self) -> Option<char> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        self.rest().chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn takes(&mut self, expected: char) -> bool {
        let found = self.peek() == Some(expected);
        if found {
            self.at += expected.len_utf8();
        }
        found
    }

    fn unexpected(&self, c: char) -> String {
        format!("`{c}` at byte {} is not expected there", self.at)
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > DEEP {
            return Err(format!("more than {DEEP} nested lists"));
        }
        match self.peek() {
            None => Err("it ends too early".into()),
            Some('[') => self.list(']', depth),
            Some('(') => self.list(')', depth),
            Some('{') => self.dict(depth),
            Some(quote @ ('\'' | '"')) => self.string(quote).map(Value::String),
            Some(_) => self.word(),
        }
    }

    fn list(&mut self, end: char, depth: usize) -> Result<Value, String> {
        self.take();
        let mut values = Vec::new();
        while !self.takes(end) {
            values.push(self.value(depth + 1)?);
            if !self.takes(',') && self.peek() != Some(end) {
                return Err(format!("`,` or `{end}` is missing at byte {}", self.at));
            }
        }
        Ok(Value::Array(values))
    }

    fn dict(&mut self, depth: usize) -> Result<Value, String> {
        self.take();
        let mut entries = Map::new();
        while !self.takes('}') {
            let key = match self.value(depth + 1)? {
                Value::String(key) => key,
                key @ Value::Number(_) => key.to_string(),
                other => return Err(format!("{other} is not a key")),
            };
            if !self.takes(':') {
                return Err(format!("`:` is missing at byte {}", self.at));
            }
            let value = self.value(depth + 1)?;
            if entries.insert(key.clone(), value).is_some() {
                return Err(format!("the key `{key}` comes twice"));
            }
            if !self.takes(',') && self.peek() != Some('}') {
                return Err(format!("`,` or `}}` is missing at byte {}", self.at));
            }
        }
        Ok(Value::Object(entries))
    }

    fn string(&mut self, quote: char) -> Result<String, String> {
        self.take();
        let mut text = String::new();
        loop {
            match self.take() {
                None => return Err("a text has no end".into()),
                Some(c) if c == quote => return Ok(text),
                Some('\\') => text.push(self.escaped()?),
                Some(c) => text.push(c),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, String> {
        match self.take() {
            Some('n') => Ok('\n'),
            Some('t') => Ok('\t'),
            Some('r') => Ok('\r'),
            Some('b') => Ok('\u{8}'),
            Some('f') => Ok('\u{c}'),
            Some('x') => self.code(2),
            Some('U') => self.code(8),
            Some('u') => match self.hex(4)? {
                // JSON writes a character outside the basic plane as a surrogate pair.
                high @ 0xd800..0xdc00 if self.rest().starts_with("\\u") => {
                    self.at += 2;
                    let low = self.hex(4)?.checked_sub(0xdc00).filter(|low| *low < 0x400);
                    let code = low.map(|low| 0x10000 + ((high - 0xd800) << 10) + low);
                    code.and_then(char::from_u32).ok_or_else(|| "half a character".into())
                }
                code => char::from_u32(code).ok_or_else(|| "half a character".into()),
            },
            Some(c) => Ok(c),
            None => Err("a text has no end".into()),
        }
    }

    fn code(&mut self, digits: usize) -> Result<char, String> {
        let code = self.hex(digits)?;
        char::from_u32(code).ok_or_else(|| format!("{code:x} is not a character"))
    }

    fn hex(&mut self, digits: usize) -> Result<u32, String> {
        let code = self.rest().get(..digits).and_then(|text| u32::from_str_radix(text, 16).ok());
        self.at += if code.is_some() { digits } else { 0 };
        code.ok_or_else(|| format!("byte {} is not a code of {digits} digits", self.at))
    }

    /// Parses a number or a constant.
    fn word(&mut self) -> Result<Value, String> {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_alphanumeric() && !"+-._".contains(c)).unwrap_or(rest.len());
        let word = &rest[..end];
        let value = match word {
            "None" | "null" => Value::Null,
            "True" | "true" => Value::Bool(true),
            "False" | "false" => Value::Bool(false),
            _ => {
                let whole = word.parse::<i64>().ok().map(Number::from);
                let number = whole.or_else(|| word.parse().ok().and_then(Number::from_f64));
                Value::Number(number.ok_or_else(|| format!("`{word}` at byte {} is not a value", self.at))?)
            }
        };
        self.at += end;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_and_json_are_read() {
        let read = |text: &str| literal(text).unwrap().to_string();
        assert_eq!(read("{0: 'a', 1: \"it's\", 2: 'b, c',}"), r#"{"0":"a","1":"it's","2":"b, c"}"#);
        assert_eq!(read("[ (1, 2.5), [] , {'x': None} ]"), r#"[[1,2.5],[],{"x":null}]"#);
        assert_eq!(read(r#"{"a": [true, false, null, -3, 1e-3]}"#), r#"{"a":[true,false,null,-3,0.001]}"#);
        assert_eq!(read(r"'\'\\\n\x41é\U0001f600\ud83d\ude00'"), "\"'\\\\\\nAé😀😀\"");
    }

    #[test]
    fn other_texts_are_refused() {
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "[1",
            "{1 2}",
            "'a",
            "disc",
            "[1] 2",
            "{[]: 1}",
            "{1: 2, 1: 3}",
            "'\\x4'",
            "'\\ud83d'",
            &deep,
        ] {
            assert!(literal(text).is_err(), "{text}");
        }
    }
}
