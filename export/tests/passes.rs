//! The table of passes in `docs/compiler.md` is up to date.

use std::fmt::Write;
use std::path::Path;

use milenas_export::Target;
use milenas_export::passes::{PASSES, Pass};

const START: &str = "<!-- make docs writes from here -->\n";
const END: &str = "<!-- to here -->\n";

/// The table is written by this test with the environment variable `MILENAS_WRITE_DOCS` set.
#[test]
fn the_reference_of_passes_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compiler.md");
    let found = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = found.split_once(START).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let expected = format!("{before}{START}{}{END}{after}", reference());
    if std::env::var_os("MILENAS_WRITE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    } else {
        assert!(found == expected, "docs/compiler.md differs from the passes. help: make docs");
    }
}

fn reference() -> String {
    let targets = Target::ALL.map(|target| (target.name(), [target.simplify(), target.lower()].concat()));
    let portable = Target::Portable;
    let int8 = [portable.simplify_for_int8().unwrap_or_default(), portable.lower()].concat();
    let columns = targets.into_iter().chain([("`--int8`", int8)]).collect::<Vec<(_, Vec<&dyn Pass>)>>();
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let mut text = format!("| pass | effect | {} |\n| ---{} |\n", names.join(" | "), " | ---".repeat(5));
    for entry in PASSES {
        let name = entry.pass.name();
        let runs =
            |passes: &[&dyn Pass]| if passes.iter().any(|pass| pass.name() == name) { "x" } else { "" };
        let marks: Vec<&str> = columns.iter().map(|(_, passes)| runs(passes)).collect();
        let _ = writeln!(text, "| {name} | {} | {} |", entry.doc.trim_end_matches('.'), marks.join(" | "));
    }
    text
}
