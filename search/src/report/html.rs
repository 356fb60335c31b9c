//! HTML around the charts: style, tables, escaped text.

use std::fmt::Write;

/// Style sheet of the report. The report has no script and loads nothing. Operations have the colours of their
/// columns in alpha.
pub const STYLE: &str = "\
:root { color-scheme: light dark; --back: #fff; --text: #1b1f24; --soft: #59636e; --line: #d5dae0; --fill: #f3f5f7;
  --0: #8a929b; --1: #d97b00; --2: #a38a00; --3: #c0508f; --4: #0969c7; --5: #3ba3dd; --6: #00875f; --7: #c8401e }
@media (prefers-color-scheme: dark) { :root { --back: #15181c; --text: #e6e9ec; --soft: #9aa4ae; --line: #343a41;
  --fill: #1f242a; --0: #87909a; --1: #f09a2e; --2: #d0b93c; --3: #e07bb4; --4: #4a9df0; --5: #7cc7f2; --6: #2fbf92; --7: #f0714e } }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem; background: var(--back); color: var(--text) }
h1 { font-size: 1.5rem; margin: .5rem 0; overflow-wrap: anywhere } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem } h3 { font-size: 1rem; margin: .8rem 0 .2rem }
a { color: var(--4) } :focus-visible { outline: 2px solid var(--4); outline-offset: 2px }
.facts { display: flex; flex-wrap: wrap; gap: .5rem 2rem; margin: 1rem 0; padding: 0 } .facts div { min-width: 7rem }
.facts dt { color: var(--soft); font-size: 13px } .facts dd { margin: 0; font-size: 1.15rem }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); gap: 1rem 1.5rem }
.cells { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(28rem, 100%), 1fr)); gap: 0 1.5rem }
.small { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .5rem .8rem }
figure { margin: 0; min-width: 0 } figcaption { font-size: 13px; color: var(--soft) }
svg { width: 100%; height: auto; display: block } .small svg { height: 3.6rem; border: 1px solid var(--line) }
.small polygon { stroke: var(--back); stroke-width: .6px; vector-effect: non-scaling-stroke }
svg text { font: 11px system-ui, sans-serif; fill: var(--text) } svg line.grid { stroke: var(--line) }
svg .label { paint-order: stroke; stroke: var(--back); stroke-width: 8px; font-size: 12px }
.d1 { stroke-dasharray: 6 3 } .d2 { stroke-dasharray: 2 2 } .d3 { stroke-dasharray: 8 2 2 2 }
.line { fill: none; stroke-width: 2; stroke-linejoin: round } .state { fill: var(--fill); stroke: var(--soft) } .kept { stroke-width: 2; stroke: var(--text) }
.legend { margin: .1rem 0 .4rem; font-size: 13px; color: var(--soft) } .legend span { display: inline-block; margin-right: .9rem }
.legend svg { width: .7rem; height: .7rem; display: inline-block; margin-right: .3rem; border: 0 } .legend .key { width: 1.7rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
td, th { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap } th { font-weight: 600 } tbody th { font-weight: inherit }
.matrix th { font-weight: 600 }
td:first-child, th:first-child { text-align: left } tr:hover td { background: var(--fill) }
code, pre { font: 13px ui-monospace, monospace } pre { background: var(--fill); padding: .6rem .8rem; overflow-x: auto }
.note { border-left: 3px solid var(--1); padding-left: .8rem } details { margin: .5rem 0 } summary { cursor: pointer }
.c0 { stroke: var(--0) } .c1 { stroke: var(--1) } .c2 { stroke: var(--2) } .c3 { stroke: var(--3) } .c4 { stroke: var(--4) } .c5 { stroke: var(--5) } .c6 { stroke: var(--6) } .c7 { stroke: var(--7) }
.f0 { fill: var(--0) } .f1 { fill: var(--1) } .f2 { fill: var(--2) } .f3 { fill: var(--3) } .f4 { fill: var(--4) } .f5 { fill: var(--5) } .f6 { fill: var(--6) } .f7 { fill: var(--7) }
.curves .c0 { stroke: var(--4) } .curves .c1 { stroke: var(--7) } .curves .c4 { stroke: var(--0) } .curves .c7 { stroke: var(--1) }
.curves .f0 { fill: var(--4) } .curves .f1 { fill: var(--7) } .curves .f4 { fill: var(--0) } .curves .f7 { fill: var(--1) }
@media print { * { -webkit-print-color-adjust: exact; print-color-adjust: exact } body { max-width: none } figure, table, pre { break-inside: avoid } .wide { overflow: visible }
  details::details-content { content-visibility: visible; height: auto } }
";

/// Seconds after which the browser reloads the report of an unfinished run.
const AGAIN: u32 = 30;

/// Returns a page with a title. With `grows` the browser reloads it at intervals. Its content security policy
/// forbids loading anything.
pub fn page(title: &str, body: &str, grows: bool) -> String {
    let again = match grows {
        true => format!("<meta http-equiv=\"refresh\" content=\"{AGAIN}\">\n"),
        false => String::new(),
    };
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         {again}<link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <main>\n<h1>{title}</h1>\n{body}</main>\n</body>\n</html>\n"
    )
}

/// Formats names and values for the head of a report.
pub fn facts(facts: &[(&str, String)]) -> String {
    let mut text = String::from("<dl class=\"facts\">");
    for (name, value) in facts {
        let _ = write!(text, "<div><dt>{}</dt><dd>{}</dd></div>", escaped(name), escaped(value));
    }
    text + "</dl>\n"
}

/// Formats an image with a caption; empty without an image.
pub fn figure(caption: &str, image: &str) -> String {
    match image {
        "" => String::new(),
        _ => format!("<figure><h3>{}</h3>{image}</figure>\n", escaped(caption)),
    }
}

/// Formats a table whose first column names the rows. It scrolls on narrow screens.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = String::from("<div class=\"wide\" tabindex=\"0\"><table><thead><tr>");
    head.iter().for_each(|cell| {
        let _ = write!(text, "<th scope=\"col\">{}</th>", escaped(cell));
    });
    text.push_str("</tr></thead><tbody>\n");
    for row in rows {
        text.push_str("<tr>");
        for (i, cell) in row.iter().enumerate() {
            let cell = escaped(cell);
            let _ = match i {
                0 => write!(text, "<th scope=\"row\">{cell}</th>"),
                _ => write!(text, "<td>{cell}</td>"),
            };
        }
        text.push_str("</tr>\n");
    }
    text + "</tbody></table></div>\n"
}

/// Formats a fraction of 1 as percent; a dash for a value that is not known yet.
pub fn percent(part: f64) -> String {
    match part.is_finite() {
        true => format!("{:.2} %", 100.0 * part),
        false => "-".into(),
    }
}

/// Escapes text for use in HTML elements and attributes.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
