//! HTML reports: document, tables and escaped text. They have no script and load nothing.

mod scores;

use std::fmt::Write;

pub use scores::{calibration, classes, confusion, frequent_confusions, summary};

/// Style sheet of every report.
const STYLE: &str = include_str!("html/style.css");

/// Report to format.
#[derive(Clone, Copy, Debug)]
pub struct HtmlReport<'a> {
    /// Title, as text.
    pub title: &'a str,
    /// Content below the title, as HTML.
    pub body: &'a str,
    /// Rules of its own, after those of every report.
    pub style: &'a str,
    /// Seconds after which the browser reloads it; `None` for a report that does not change.
    pub reload: Option<u32>,
}

impl HtmlReport<'_> {
    /// Returns the document. Its content security policy forbids loading anything.
    pub fn document(&self) -> String {
        let HtmlReport { body, style, reload, .. } = self;
        let again = reload.map_or(String::new(), |seconds| {
            format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">\n")
        });
        let title = escaped(self.title);
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             {again}<link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n<style>\n{STYLE}{style}</style>\n</head>\n<body>\n\
             <main>\n<h1>{title}</h1>\n{body}</main>\n</body>\n</html>\n"
        )
    }
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

/// Formats a table of text whose first column names the rows. It scrolls on narrow screens.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let rows = rows.iter().map(|row| {
        let cells = row.iter().skip(1).map(|cell| format!("<td>{}</td>", escaped(cell)));
        (row.first().map_or("", String::as_str), cells.collect())
    });
    table_of("", head, rows)
}

/// Formats a table with attributes, from names of rows and their cells as HTML.
fn table_of<'a>(attributes: &str, head: &[&str], rows: impl Iterator<Item = (&'a str, String)>) -> String {
    let mut text = format!("<div class=\"wide\" tabindex=\"0\"><table{attributes}><thead><tr>");
    for cell in head {
        let _ = match cell.is_empty() {
            true => write!(text, "<th></th>"),
            false => write!(text, "<th scope=\"col\">{}</th>", escaped(cell)),
        };
    }
    text.push_str("</tr></thead><tbody>\n");
    for (name, cells) in rows {
        let _ = writeln!(text, "<tr><th scope=\"row\">{}</th>{cells}</tr>", escaped(name));
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

#[cfg(test)]
mod tests;
