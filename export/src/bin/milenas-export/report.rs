//! JSON report that `--report` writes.

use std::collections::BTreeMap;

use anyhow::Result;
use milenas_export::int8::Int8Report;
use milenas_export::verify::{Comparison, Tolerance};
use milenas_export::{ExportOptions, ExportReport};
use milenas_models::Cost;
use serde::Serialize;

#[derive(Serialize)]
struct ReportJson<'a> {
    source: &'a str,
    target: &'a str,
    opset: i64,
    /// One of three values. `equal`: the file agrees with its source. `rounded`: the file has fewer bits and
    /// agrees with its rounded source, within the accuracy gate. `differs`: no file was written.
    verdict: &'static str,
    tolerance: Tolerance,
    /// Comparison of the file with its source; for a file with fewer bits, with its source after rounding of
    /// the weights.
    comparison: Comparison,
    #[serde(flatten)]
    done: Option<WrittenFile<'a>>,
}

/// Part of the report about a written file.
#[derive(Serialize)]
struct WrittenFile<'a> {
    /// Comparison of a file with fewer bits and the unrounded source.
    #[serde(skip_serializing_if = "Option::is_none")]
    rounding: Option<Comparison>,
    #[serde(skip_serializing_if = "Option::is_none")]
    int8: &'a Option<Int8Report>,
    /// Number of patches by pass.
    passes: &'a BTreeMap<&'static str, usize>,
    before: NetworkSize,
    after: NetworkSize,
    bytes: usize,
}

#[derive(Serialize)]
struct NetworkSize {
    nodes: usize,
    parameters: u64,
    macs: u64,
}

/// Formats the report of an export whose comparison failed.
pub fn differing(comparison: &Comparison, options: &ExportOptions, source: &str) -> Result<String> {
    text("differs", *comparison, None, options, source)
}

/// Formats the report of a written file.
pub fn json(report: &ExportReport, options: &ExportOptions, source: &str) -> Result<String> {
    let size = |i: usize| {
        let Cost { params, macs } = report.cost[i];
        NetworkSize { nodes: report.nodes[i], parameters: params, macs }
    };
    let done = WrittenFile {
        rounding: report.rounded,
        int8: &report.int8,
        passes: &report.passes,
        before: size(0),
        after: size(1),
        bytes: report.bytes,
    };
    let verdict = if report.rounded.is_some() { "rounded" } else { "equal" };
    text(verdict, report.comparison, Some(done), options, source)
}

fn text(
    verdict: &'static str,
    comparison: Comparison,
    done: Option<WrittenFile>,
    options: &ExportOptions,
    source: &str,
) -> Result<String> {
    let json = ReportJson {
        source,
        target: options.target.name(),
        opset: options.format.opset,
        verdict,
        tolerance: options.tolerance,
        comparison,
        done,
    };
    Ok(serde_json::to_string_pretty(&json)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_proof_says_so_and_by_how_much() {
        let comparison = Comparison {
            max_abs: 2.0,
            max_rel: 0.5,
            top1_agreement: 0.25,
            variation: 1.0,
            rounding: 0.0,
            images: 10,
        };
        let text = differing(&comparison, &ExportOptions::default(), "DARTS_V2").unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (json["verdict"].as_str(), json["comparison"]["max_abs"].as_f64()),
            (Some("differs"), Some(2.0))
        );
        assert!(json.get("bytes").is_none() && json.get("int8").is_none());
    }
}
