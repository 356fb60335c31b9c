//! What `--report` writes.

use std::collections::BTreeMap;

use anyhow::Result;
use milenas_export::verify::{Comparison, Tolerance};
use milenas_export::{Options, Report};
use milenas_models::Cost;
use serde::Serialize;

#[derive(Serialize)]
struct Json<'a> {
    source: &'a str,
    target: &'a str,
    opset: i64,
    verdict: &'static str,
    tolerance: Tolerance,
    /// The file beside its source.
    comparison: Comparison,
    /// In half precision: what the rounding of weights does.
    #[serde(skip_serializing_if = "Option::is_none")]
    float16: Option<Comparison>,
    /// Patches a pass.
    passes: &'a BTreeMap<&'static str, usize>,
    before: Size,
    after: Size,
    bytes: usize,
}

#[derive(Serialize)]
struct Size {
    nodes: usize,
    parameters: u64,
    macs: u64,
}

/// A report as JSON; there is one only of files that were proved equal.
pub fn json(report: &Report, options: &Options, source: &str) -> Result<String> {
    let size = |i: usize| {
        let Cost { params, macs } = report.cost[i];
        Size { nodes: report.nodes[i], parameters: params, macs }
    };
    let json = Json {
        source,
        target: options.target.name(),
        opset: options.format.opset,
        verdict: "equal",
        tolerance: options.tolerance,
        comparison: report.comparison,
        float16: report.half,
        passes: &report.passes,
        before: size(0),
        after: size(1),
        bytes: report.bytes,
    };
    Ok(serde_json::to_string_pretty(&json)? + "\n")
}
