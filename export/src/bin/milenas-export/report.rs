//! The JSON file of `--report`.

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
    /// `equal`; `rounded` with fewer bits, equal but for them and within the gate; `differs`, and there is no file.
    verdict: &'static str,
    tolerance: Tolerance,
    /// The file beside its source; with fewer bits, beside its source with rounded numbers.
    comparison: Comparison,
    #[serde(flatten)]
    done: Option<WrittenFile<'a>>,
}

/// Part of the report about a written file.
#[derive(Serialize)]
struct WrittenFile<'a> {
    /// What fewer bits do to the results.
    #[serde(skip_serializing_if = "Option::is_none")]
    rounding: Option<Comparison>,
    #[serde(skip_serializing_if = "Option::is_none")]
    int8: &'a Option<Int8Report>,
    /// Patches a pass.
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

/// A report of a proof that failed.
pub fn differing(comparison: &Comparison, options: &ExportOptions, source: &str) -> Result<String> {
    text("differs", *comparison, None, options, source)
}

/// A report of a file that was written.
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
