//! The text format of published code: `Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), ...)`.
//!
//! The text may be part of a log or of source code. The last genotype of a text is used; it may also be a dict or
//! NAS-Bench-201's text.

use std::fmt;

use super::value::{Literal, ValueReader};
use super::{Cell, CellPair, Edge, Genotype, arch};
use crate::{Error, Primitive, Result};

/// Largest length of a text in bytes.
const MAX_TEXT: usize = 1 << 20;

/// Fields in the order of the published tuple.
const FIELDS: [&str; 4] = ["normal", "normal_concat", "reduce", "reduce_concat"];

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

/// Start of a genotype in a text.
#[derive(Clone, Copy, Debug)]
enum GenotypeStart {
    /// Offset after `Genotype(`.
    Tuple(usize),
    /// Offset after the `{` of a dict.
    Dict(usize),
    /// Start and end of NAS-Bench-201's text.
    Arch(usize, usize),
}

/// Whether a text contains the start of a genotype.
pub(super) fn is_in(text: &str) -> bool {
    text.len() <= MAX_TEXT && last(text).is_some()
}

/// Parses the last genotype of a text.
pub(super) fn parse(text: &str, place: &str) -> Result<Genotype> {
    if text.len() > MAX_TEXT {
        let found = text.len() as u64;
        return Err(Error::Limit { place: place.into(), what: "the length", found, limit: MAX_TEXT as u64 });
    }
    let fields = match last(text) {
        None => return Err(ValueReader::new(text, 0, place).fail("`Genotype`")),
        Some(GenotypeStart::Arch(from, to)) => return arch::parse(&text[from..to], place),
        Some(GenotypeStart::Dict(at)) => ValueReader::new(text, at, place).fields(0)?,
        Some(GenotypeStart::Tuple(at)) => {
            let mut reader = ValueReader::new(text, at, place);
            let mut fields = Vec::new();
            for (i, (name, value)) in reader.arguments()?.into_iter().enumerate() {
                let Some(name) = name.or_else(|| FIELDS.get(i).map(|name| name.to_string())) else {
                    return Err(Error::malformed(place, "more than four fields in `Genotype(...)`"));
                };
                fields.push((name, value));
            }
            fields
        }
    };
    of_fields(&fields, place)
}

/// Returns the start of the last genotype, ignoring lines that are comments.
fn last(text: &str) -> Option<GenotypeStart> {
    let is_comment = |at: usize| {
        let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
        text[line..at].trim_start().starts_with('#')
    };
    let tuple = text.rmatch_indices("Genotype").find_map(|(at, word)| {
        let behind = at + word.len();
        let rest = text[behind..].trim_start();
        let defines = text[..at].trim_end().ends_with("class");
        let open = text.len() - rest.len() + 1;
        (rest.starts_with('(') && !defines && !is_comment(at)).then_some((at, GenotypeStart::Tuple(open)))
    });
    let dict = text.rmatch_indices('{').find_map(|(at, _)| {
        let key = text[at + 1..].trim_start();
        let known = |field: &str| {
            let rest = key.strip_prefix(['\'', '"']).and_then(|key| key.strip_prefix(field));
            rest.is_some_and(|rest| rest.starts_with(['\'', '"']))
        };
        (FIELDS.iter().any(|field| known(field)) && !is_comment(at))
            .then_some((at, GenotypeStart::Dict(at + 1)))
    });
    let arch = text.rmatch_indices("|+|").find_map(|(at, _)| {
        let part = |c: char| c.is_ascii_alphanumeric() || "_~|+".contains(c);
        let from = text[..at]
            .rfind(|c| !part(c))
            .map_or(0, |before| before + text[before..].chars().next().map_or(1, char::len_utf8));
        let to = text[at..].find(|c| !part(c)).map_or(text.len(), |end| at + end);
        (text[from..to].starts_with('|') && !is_comment(at)).then_some((from, GenotypeStart::Arch(from, to)))
    });
    [tuple, dict, arch].into_iter().flatten().max_by_key(|(at, _)| *at).map(|(_, start)| start)
}

/// Returns a genotype from named fields.
///
/// # Errors
/// [`Error::Malformed`] for a field that is missing, unknown, given twice or of the wrong form. [`Error::Genotype`]
/// for a cell that violates a rule.
pub(super) fn of_fields(fields: &[(String, Literal)], place: &str) -> Result<Genotype> {
    let wrong = |problem: String| Error::malformed(place, problem);
    if let Some((name, _)) = fields.iter().find(|(name, _)| !FIELDS.contains(&name.as_str())) {
        return Err(wrong(format!("unknown field `{name}`, expected {}", FIELDS.join(", "))));
    }
    let field = |name: &str| {
        let mut found = fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value);
        match (found.next(), found.next()) {
            (Some(value), None) => Ok(value),
            (Some(_), Some(_)) => Err(wrong(format!("field `{name}` occurs twice"))),
            (None, _) => Err(wrong(format!("`{name}` is missing, expected {}", FIELDS.join(", ")))),
        }
    };
    let [normal, normal_concat, reduce, reduce_concat] = FIELDS;
    let edges = |name: &str| edges(field(name)?, name, place);
    let states =
        |name: &str| states(field(name)?).ok_or_else(|| wrong(format!("`{name}` is not a list of states")));
    CellPair {
        normal: edges(normal)?,
        normal_concat: states(normal_concat)?,
        reduce: edges(reduce)?,
        reduce_concat: states(reduce_concat)?,
        space: None,
    }
    .try_into()
}

fn states(value: &Literal) -> Option<Vec<usize>> {
    let Literal::List(items) = value else { return None };
    items.iter().map(|item| if let Literal::Whole(state) = item { Some(*state) } else { None }).collect()
}

/// Reads the edges of a cell: a list of `('sep_conv_3x3', 1)`, or a list with the two edges of each node.
fn edges(value: &Literal, name: &str, place: &str) -> Result<Vec<Edge>> {
    let wrong = |at: String, what: String| Error::malformed(place, format!("`{name}`{at}: {what}"));
    let Literal::List(items) = value else {
        return Err(wrong(String::new(), "expected a list of edges".into()));
    };
    let mut edges = Vec::new();
    let mut add = |value: &Literal, at: &dyn Fn() -> String| {
        edges.push(edge(value).map_err(|what| wrong(at(), what))?);
        Ok::<_, Error>(())
    };
    for (i, item) in items.iter().enumerate() {
        match item {
            Literal::List(node) if matches!(node.first(), Some(Literal::List(_))) => {
                if node.len() != 2 {
                    return Err(wrong(format!(", node {i}"), format!("{} edges, expected two", node.len())));
                }
                for (j, value) in node.iter().enumerate() {
                    add(value, &|| format!(", node {i}, edge {j}"))?;
                }
            }
            item => add(item, &|| format!(", edge {i}"))?,
        }
    }
    Ok(edges)
}

/// Reads an edge, `('sep_conv_3x3', 1)`. GDAS writes the probability as a third field, which is ignored.
fn edge(value: &Literal) -> std::result::Result<Edge, String> {
    let items = if let Literal::List(items) = value { items.as_slice() } else { &[] };
    match items {
        [Literal::Text(name), Literal::Whole(from)] | [Literal::Text(name), Literal::Whole(from), _] => {
            let primitive = Primitive::parse(name).map_err(|error| error.to_string())?;
            Ok(Edge { primitive, from: *from })
        }
        _ => Err("expected `('sep_conv_3x3', 1)`, an operation and a state".into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Genotype {
        Genotype::parse(text, "x").unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn assignments_ranges_and_probabilities_are_read() {
        let text = "X_1 = Genotype(normal=[('none', 0, 0.25), ('skip_connect', 1)], normal_concat=range(2, 3), \
                    reduce=[(\"max_pool_3x3\", 1), ('avg_pool_3x3', 0),], reduce_concat=[2])\n";
        let genotype = read(text);
        assert_eq!(genotype.cell("normal").unwrap().concat(), [2]);
        assert_eq!(genotype.cell("reduce").unwrap().edges()[0].primitive, Primitive::MaxPool3x3);
    }

    #[test]
    fn every_form_of_other_programs_is_read() {
        let expected = Genotype::named("DARTS_V2").unwrap();
        let [normal, reduce] = ["normal", "reduce"].map(|kind| expected.cell(kind).unwrap());
        let flat = |cell: &Cell, [open, close]: [&str; 2]| {
            let edge = |e: &Edge| format!("{open}'{}', {}{close}", e.primitive.name(), e.from);
            format!("[{}]", cell.edges().iter().map(edge).collect::<Vec<_>>().join(", "))
        };
        let nested = |cell: &Cell, [open, close]: [&str; 2]| {
            let edge = |e: &Edge| format!("('{}', np.int64({}))", e.primitive.name(), e.from);
            let node = |n: &[Edge]| format!("{open}{}, {}{close}", edge(&n[0]), edge(&n[1]));
            format!("[{}]", cell.nodes().map(node).collect::<Vec<_>>().join(", "))
        };
        let (round, square) = (["(", ")"], ["[", "]"]);
        let (n, r) = (flat(normal, round), flat(reduce, round));
        let [nn, nr] = [normal, reduce].map(|cell| nested(cell, square));
        let [tn, tr] = [normal, reduce].map(|cell| nested(cell, round));
        let [ln, lr] = [normal, reduce].map(|cell| flat(cell, square));
        let other = Genotype::named("DARTS_V1").unwrap();
        for text in [
            format!("Genotype(reduce_concat=[2,3,4,5], reduce={r}, normal_concat=(2, 3, 4, 5), normal={n})"),
            format!(
                "# best\nD = Genotype(\n  normal={n},  # the cell\n  normal_concat=range(2, 6),\n reduce={r}, reduce_concat=list(range(2, 6)),\n)\n"
            ),
            format!("Genotype({n}, range(2, 6), {r}, range(2, 6))"),
            format!(
                "Genotype(normal={nn}, normal_concat=range(2, 6), reduce={nr}, reduce_concat=range(2, 6))"
            ),
            format!(
                "Genotype(normal={tn}, normal_concat=range(2, 6), reduce={tr}, reduce_concat=range(2, 6))"
            ),
            format!(
                "{{'normal': {n}, 'normal_concat': range(2, 6), 'reduce': {r}, 'reduce_concat': [2, 3, 4, 5]}}"
            ),
            format!(
                "OrderedDict([('normal', {n})])\n{{'reduce': {ln}, 'normal': {ln}, 'normal_concat': range(2, 6), 'reduce_concat': [2]}}\n\
                     {{'normal': {ln}, 'normal_concat': range(2, 6), 'reduce': {lr}, 'reduce_concat': [2, 3, 4, 5]}}"
            ),
            format!(
                "01/02 09:00:00 AM genotype = {other}\n01/02 09:00:01 AM don't # train 000 1.2\n01/02 10:00:00 AM genotype = {expected} best\n\
                 01/02 10:00:01 AM epoch 2\n# {other}\n"
            ),
            format!(
                "from collections import namedtuple\nGenotype = namedtuple('Genotype', 'normal normal_concat')\nA = {other}\nB = {expected}\nC = B\n"
            ),
            format!("{{\"genotype\": \"{expected}\"}}"),
            format!("{{\"epoch\": 1, \"genotype\": {}}}", serde_json::to_string(&expected).unwrap()),
            format!(
                "{{\"epoch\": 1}}\n{{\"epoch\": 2, \"genotype\": {}}}\n",
                serde_json::to_string(&expected).unwrap()
            ),
        ] {
            assert_eq!(read(&text), expected, "{text}");
        }
        let arch = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|skip_connect~0|nor_conv_3x3~1|none~2|";
        let log = format!(
            "[10] genotype : Structure(4 nodes with |none~0|+|none~0|none~1|+|none~0|none~1|none~2|)\n[11] é{arch})\n"
        );
        assert_eq!(read(&log).to_string(), arch);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cell = "[('skip_connect', 0), ('skip_connect', 1)]";
        for (text, expected) in [
            (
                format!("Genotype(normal={cell}, normal_concat=[2], reduce={cell})"),
                "`reduce_concat` is missing",
            ),
            (format!("Genotype(normal={cell}, normal={cell})"), "field `normal` occurs twice"),
            (format!("Genotype(normals={cell})"), "unknown field `normals`"),
            (
                "Genotype(normal=[[('skip_connect', 0)]], normal_concat=[2], reduce=[], reduce_concat=[2])"
                    .into(),
                "`normal`, node 0: 1 edges, expected two",
            ),
            (
                "Genotype(normal=[('conv_9', 0)], normal_concat=[2], reduce=[], reduce_concat=[2])".into(),
                "conv_9",
            ),
            (format!("Genotype(normal={cell}, normal_concat=range(2, 999))"), "at most 64 states"),
            (format!("Genotype(normal={}", "[".repeat(50)), "at most 16 lists"),
            ("{\"normal/op_2_0\": \"sep_conv_3x3\", \"normal/input_2_0\": 0}".into(), "NNI"),
            ("{'normal/op_2_0': 'sep_conv_3x3'}".into(), "NNI"),
            ("nothing of it".into(), "byte 0: expected `Genotype`"),
        ] {
            let message = Genotype::parse(&text, "file").unwrap_err().to_string();
            assert!(message.contains(expected) && message.contains("file"), "{text}: {message}");
        }
    }

    #[test]
    fn the_message_says_where() {
        let message = parse("Genotype(normal=[('skip_connect', x)]", "file").unwrap_err().to_string();
        assert!(message.contains("file: byte 34: expected a number, found `x)]`"), "{message}");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,60}", cut in 0..200usize, with in "[\\[\\](){}|+#\n,'=x0-9]{0,3}") {
            let _ = Genotype::parse(&text, "x");
            let whole = Genotype::named("DARTS_V2").unwrap().to_string();
            let cut = cut.min(whole.len());
            let _ = Genotype::parse(&format!("{}{with}{}", &whole[..cut], &whole[cut..]), "x");
            let _ = Genotype::parse(&whole[..cut], "x");
        }
    }
}
