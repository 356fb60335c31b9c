//! Parser of files with class names, in the formats that are in use.

use serde_json::Value;

use super::literal;

/// Supported formats, for messages.
const FORMS: &str = "one name a line, `0: name` or `0 name` a line, or JSON: a list of names, an object from index to \
                     name or from name to index";

/// Parses the names in a file, in the order of the classes. Formats are one name per line, numbered lines,
/// `n01440764 name` lines, a JSON list, and JSON or a Python dict by index or by name. Blank lines and lines
/// that begin with `#` are skipped.
///
/// # Errors
/// Returns a message if the file has no supported format, because names read in another way could be wrong.
///
/// ```
/// use milenas_infer::recipe::labels;
///
/// assert_eq!(labels(b"1: dog\n0: cat\n").unwrap(), ["cat", "dog"]);
/// assert_eq!(labels(b"{0: 'cat', 1: 'dog'}").unwrap(), ["cat", "dog"]);
/// ```
pub fn labels(bytes: &[u8]) -> Result<Vec<String>, String> {
    let text = text(bytes)?;
    let text = text.trim();
    let names = match text.starts_with(['[', '{']) {
        true => {
            let value = literal(text).map_err(|problem| format!("{problem}; expected {FORMS}"))?;
            named(&value)
                .ok_or_else(|| format!("its values are not the names of classes; expected {FORMS}"))?
        }
        false => lines(text)?,
    };
    match names.is_empty() {
        true => Err(format!("it contains no name; expected {FORMS}")),
        false => Ok(names),
    }
}

/// Decodes UTF-8 with or without a byte order mark, or UTF-16 with one.
fn text(bytes: &[u8]) -> Result<String, String> {
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|b| unit([b[0], b[1]])).collect();
        String::from_utf16(&units).map_err(|_| "it is damaged UTF-16".to_string())
    };
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => text(rest),
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        _ => String::from_utf8(bytes.to_vec()).map_err(|e| {
            let line = 1 + bytes[..e.utf8_error().valid_up_to()].iter().filter(|&&b| b == b'\n').count();
            format!("line {line} is not UTF-8. help: `iconv -f latin1 -t utf-8` converts a file of Windows or Latin-1")
        }),
    }
}

/// Returns the class names in a JSON or Python value.
pub(super) fn named(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(values) => listed(values),
        Value::Object(entries) => {
            for key in ["id2label", "names", "label_names", "labels", "classes", "class_names"] {
                if let Some(inner) = entries.get(key).filter(|inner| inner.is_array() || inner.is_object()) {
                    return named(inner);
                }
            }
            let index = |text: &str| text.trim().parse::<usize>().ok();
            let by_index = entries.iter().map(|(key, value)| Some((index(key)?, name(value)?)));
            let by_name = || entries.iter().map(|(key, value)| Some((value.as_u64()? as usize, key.clone())));
            let pairs: Option<Vec<_>> = by_index.collect();
            in_order(pairs.or_else(|| by_name().collect())?, 0)
        }
        _ => None,
    }
}

/// Returns the names of a list. Its elements are names, or objects with a name and possibly an index.
fn listed(values: &[Value]) -> Option<Vec<String>> {
    let index =
        |value: &Value| ["id", "index"].iter().find_map(|key| Some(value.get(key)?.as_u64()? as usize));
    match values.iter().all(Value::is_object) && values.iter().any(|value| index(value).is_some()) {
        true => {
            let pairs: Option<Vec<_>> =
                values.iter().map(|value| Some((index(value)?, name(value)?))).collect();
            let pairs = pairs?;
            let first = pairs.iter().map(|(at, _)| *at).min().unwrap_or_default();
            in_order(pairs, first)
        }
        false => values.iter().map(name).collect(),
    }
}

/// Returns one class name: a string, the last element of `[synset, name]`, the `name` or `label` of an
/// object, or a number.
fn name(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(parts) => parts.last().and_then(Value::as_str).map(String::from),
        Value::Object(entries) => ["name", "label", "display_name"]
            .iter()
            .find_map(|key| entries.get(*key)?.as_str())
            .map(String::from),
        Value::Null | Value::Bool(_) => None,
    }
}

/// Returns the names sorted by index, if the indices are consecutive from `first`.
fn in_order(mut pairs: Vec<(usize, String)>, first: usize) -> Option<Vec<String>> {
    pairs.sort_by_key(|(index, _)| *index);
    let whole = pairs.iter().zip(first..).all(|((index, _), expected)| *index == expected);
    whole.then(|| pairs.into_iter().map(|(_, name)| name).collect())
}

fn lines(text: &str) -> Result<Vec<String>, String> {
    let kept = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let mut lines: Vec<&str> = text.lines().map(str::trim).filter(kept).collect();
    // Headers of YAML and CSV.
    let is_header = |line: &str| {
        let parts: Vec<_> =
            line.split([',', ';', '\t']).map(|part| part.trim().to_ascii_lowercase()).collect();
        let index = ["id", "index", "idx", "class_id", "label_id", "class_index", "class"];
        line == "names:" || (parts.len() == 2 && index.contains(&&*parts[0]))
    };
    let numbered =
        |lines: &[&str]| -> Option<Vec<(usize, String)>> { lines.iter().map(|l| number(l)).collect() };
    if lines.len() > 1 && is_header(lines[0]) && (lines[0] == "names:" || numbered(&lines[1..]).is_some()) {
        lines.remove(0);
    }
    if lines.iter().all(|line| line.starts_with("- ")) {
        lines = lines.iter().map(|line| line[2..].trim()).collect();
    }
    if let Some(pairs) = numbered(&lines) {
        let first = pairs.iter().map(|(index, _)| *index).min().unwrap_or_default();
        let indices: Vec<usize> = pairs.iter().map(|(index, _)| *index).collect();
        return in_order(pairs, first).filter(|_| first <= 1).ok_or_else(|| {
            format!(
                "its lines are numbered, but not from 0 or 1 on without a gap: {}; expected {FORMS}",
                milenas_models::error::some_of(&indices)
            )
        });
    }
    let synsets: Option<Vec<&str>> = lines.iter().map(|line| synset(line)).collect();
    Ok(synsets.unwrap_or(lines).into_iter().map(String::from).collect())
}

/// Parses `0: name`, `0 name`, `0,name` and similar lines.
fn number(line: &str) -> Option<(usize, String)> {
    let digits = line.find(|c: char| !c.is_ascii_digit())?;
    let (index, rest) = line.split_at(digits);
    let name = rest.trim_start_matches([':', ',', ';', '\t', ' ', '=', '.', ')']);
    let separated = rest.len() > name.len() && !name.is_empty();
    Some((index.parse().ok()?, unquoted(name.trim()).into())).filter(|_| separated)
}

fn unquoted(name: &str) -> &str {
    let inner = |quote: char| name.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(name)
}

/// Returns the name in `n01440764 tench, Tinca tinca`.
fn synset(line: &str) -> Option<&str> {
    let (id, name) = line.split_once([' ', '\t'])?;
    let digits = id.strip_prefix('n').filter(|digits| digits.len() == 8)?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_every_form() {
        for text in [
            "cat\ndog\ncow",
            "cat\r\ndog\r\ncow\r\n\r\n\r\n",
            "\u{feff}cat\ndog\ncow\n",
            "# animals\ncat\n\n dog \ncow\n",
            "0: cat\n1: dog\n2: cow",
            "0:cat\n2:cow\n1:dog",
            "0 cat\n1 dog\n2 cow\n",
            "1 cat\n2 dog\n3 cow\n",
            "0,cat\n1,dog\n2,cow",
            "id,name\n0,cat\n1,dog\n2,cow",
            "names:\n  0: cat\n  1: 'dog'\n  2: \"cow\"",
            "names:\n- cat\n- dog\n- cow",
            "n01440764 cat\nn01443537 dog\nn01484850\tcow",
            r#"["cat", "dog", "cow"]"#,
            r#"{"0": "cat", "1": "dog", "2": "cow"}"#,
            r#"{"2": ["n01484850", "cow"], "0": ["n01440764", "cat"], "1": ["n01443537", "dog"]}"#,
            r#"{"cow": 2, "cat": 0, "dog": 1}"#,
            r#"{"id2label": {"0": "cat", "1": "dog", "2": "cow"}, "model_type": "vit"}"#,
            r#"[{"id": 3, "name": "cow"}, {"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]"#,
            "{0: 'cat',\n 1: 'dog',\n 2: 'cow'}",
        ] {
            assert_eq!(labels(text.as_bytes()).unwrap(), ["cat", "dog", "cow"], "{text}");
        }
        let wide: Vec<u8> = "\u{feff}café\nthé".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(labels(&wide).unwrap(), ["café", "thé"]);
    }

    #[test]
    fn names_that_look_like_numbers_stay() {
        assert_eq!(labels(b"0\n1\n2").unwrap(), ["0", "1", "2"]);
        assert_eq!(labels(b"7up\ncola").unwrap(), ["7up", "cola"]);
        assert_eq!(labels(b"cat, tabby\ntiger cat").unwrap(), ["cat, tabby", "tiger cat"]);
    }

    #[test]
    fn what_would_be_taken_wrongly_is_refused() {
        for (bytes, word) in [
            (&b"caf\xe9\nth\xe9"[..], "line 1 is not UTF-8"),
            (b"0: cat\n2: dog", "without a gap: 0, 2"),
            (b"{\"0\": \"cat\", \"2\": \"dog\"}", "expected one name a line"),
            (b"[1, [2]]", "expected one name a line"),
            (b"{'a'", "expected one name a line"),
            (b"\n\n", "contains no name"),
        ] {
            assert!(labels(bytes).unwrap_err().contains(word), "{bytes:?}: {:?}", labels(bytes));
        }
    }
}
