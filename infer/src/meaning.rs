//! Selects the output of a file that holds the class scores, and decides what the scores mean.

use milenas_export::onnx::schema::DataType;
use milenas_export::onnx::{Ending, Output};
use milenas_models::error::some_of;

use crate::answer::OutputMeaning;
use crate::{Error, Result};

/// Largest deviation from 1 of a sum of probabilities: enough for half precision and 1,000 classes.
const SUM: f64 = 5e-3;

/// Substrings of the names of score outputs, the most reliable first.
const NAMES: [&str; 6] = ["prob", "softmax", "logit", "score", "pred", "class"];

/// Returns the index of the output that holds the class scores. If there are several outputs, also returns
/// the reason for the choice. `asked` is the requested name. `classes` is the number of known class names.
///
/// # Errors
/// [`Error::Model`] for a file without such an output, or with several equally likely ones. [`Error::Recipe`]
/// if there is no output `asked`.
pub fn select(
    outputs: &[Output],
    asked: Option<&str>,
    classes: Option<usize>,
    place: &str,
) -> Result<(usize, Option<String>)> {
    let described = |output: &Output| format!("`{}` {}", output.port.name, describe(output));
    let all = || some_of(&outputs.iter().map(described).collect::<Vec<_>>());
    let refused = |problem: String| Error::Model { place: place.into(), problem };
    if let Some(name) = asked {
        let found = outputs.iter().position(|output| output.port.name == name);
        let at = found.ok_or_else(|| Error::Recipe {
            place: place.into(),
            problem: format!("it has no output `{name}`; its outputs are {}", all()),
        })?;
        return match problem(&outputs[at]) {
            None => Ok((at, None)),
            Some(problem) => Err(refused(format!("its output `{name}` {problem}"))),
        };
    }
    let fitting: Vec<usize> = (0..outputs.len()).filter(|&at| problem(&outputs[at]).is_none()).collect();
    let chosen = |at: usize, why: &str| {
        let name = &outputs[at].port.name;
        Ok((at, Some(format!("{place}: of its outputs {}, `{name}` is read: {why}", all()))))
    };
    match (outputs, &fitting[..]) {
        ([_], [at]) => Ok((*at, None)),
        ([output], []) => {
            let why = problem(output).unwrap_or_default();
            Err(refused(format!("no classifier: its output `{}` {why}", output.port.name)))
        }
        (_, []) => {
            Err(refused(format!("no classifier: none of its outputs {} holds scores of classes", all())))
        }
        (_, [at]) => chosen(*at, "the only one with scores of classes"),
        (_, several) => {
            let width = |at: &&usize| width(&outputs[**at]).is_some_and(|n| fits(n, classes));
            if let [at] = several.iter().filter(width).collect::<Vec<_>>()[..] {
                return chosen(*at, "it has as many scores as there are labels");
            }
            for part in NAMES {
                let named = |at: &&usize| {
                    let name = outputs[**at].port.name.to_lowercase();
                    // Auxiliary heads that only help training, such as GoogLeNet's, are excluded.
                    name.contains(part) && !name.contains("aux")
                };
                match several.iter().filter(named).collect::<Vec<_>>()[..] {
                    [] => {}
                    [at] => return chosen(*at, "by its name"),
                    _ => break,
                }
            }
            Err(refused(format!(
                "several of its outputs could hold the scores of classes: {}. help: set `output-name` to NAME",
                all()
            )))
        }
    }
}

/// Formats the type of an output. For a `ZipMap`, gives the number of its class names.
fn describe(output: &Output) -> String {
    match &output.zip_map {
        Some(names) => format!("scores by name of {} classes", names.len()),
        None => output.port.to_string(),
    }
}

/// Returns the reason why an output holds no class scores; `None` if it may hold them.
fn problem(output: &Output) -> Option<String> {
    if output.zip_map.is_some() {
        return None;
    }
    let port = &output.port;
    match port.kind {
        DataType::Undefined => return Some("is not a tensor".into()),
        DataType::Float | DataType::Float16 | DataType::Double | DataType::Uint8 => {}
        DataType::Int32 | DataType::Int64 => {
            return Some(format!("is {port}: it is the index of a class, expected scores"));
        }
        _ => return Some(format!("is {port}, expected floats [N, classes]")),
    }
    if output.ending == Ending::Index {
        return Some(format!("is {port}: it is the index or the order of classes, expected scores by class"));
    }
    let wide =
        |dims: &Vec<Option<usize>>| dims.iter().skip(1).filter(|dim| dim.is_some_and(|n| n > 1)).count();
    match &port.dims {
        Some(dims) if wide(dims) > 1 || dims.len() > 5 => {
            Some(format!("is {port}, expected one row of scores an image, [N, classes]"))
        }
        _ => None,
    }
}

/// Returns the number of scores per image, if the shape shows it.
fn width(output: &Output) -> Option<usize> {
    if let Some(names) = &output.zip_map {
        return Some(names.len());
    }
    output.port.dims.as_ref()?.get(1..)?.iter().try_fold(1, |n, dim| Some(n * (*dim)?))
}

/// Returns whether this number of scores suits `classes` classes. Two classes have one score or two.
fn fits(scores: usize, classes: Option<usize>) -> bool {
    classes.is_some_and(|classes| classes == scores || (classes == 2 && scores == 1))
}

/// Decides the meaning of the scores, with the reason. The decision uses the operator that computes the
/// scores and the rows of a trial run.
///
/// # Errors
/// [`Error::Model`] for a uint8 output, whose scale is unknown, and for a softmax of one score.
pub fn decide(output: &Output, rows: &[Vec<f32>], place: &str) -> Result<(OutputMeaning, &'static str)> {
    if output.port.kind == DataType::Uint8 {
        let problem = format!(
            "its output `{}` is {}, whose scale is unknown. help: set `outputs-are` to logits or probabilities",
            output.port.name, output.port
        );
        return Err(Error::Model { place: place.into(), problem });
    }
    if output.ending == Ending::Softmax && rows.iter().all(|row| row.len() == 1) {
        let problem =
            format!("no classifier: its output `{}` is a softmax of one score, always 1", output.port.name);
        return Err(Error::Model { place: place.into(), problem });
    }
    let finite = || rows.iter().filter(|row| row.iter().all(|x| x.is_finite()));
    let sum = |row: &[f32]| row.iter().map(|&x| f64::from(x)).sum::<f64>();
    let positive = finite().flatten().all(|&x| x >= 0.0);
    let below_one = finite().flatten().all(|&x| x <= 1.0 + SUM as f32);
    let several = finite().all(|row| row.len() > 1);
    let any = finite().next().is_some();
    if any && several && positive && finite().all(|row| (sum(row) - 1.0).abs() < SUM) {
        return Ok((OutputMeaning::Probabilities, "each row of a trial run sums to 1"));
    }
    let name = output.port.name.to_lowercase();
    Ok(match output.ending {
        Ending::Softmax if !any => (OutputMeaning::Probabilities, "the network ends in a softmax"),
        Ending::Sigmoid => (OutputMeaning::Independent, "the network ends in a sigmoid"),
        Ending::Softmax => {
            (OutputMeaning::Independent, "the network ends in a softmax, and its rows do not sum to 1")
        }
        Ending::Unbounded => (OutputMeaning::Logits, "the network ends in a linear operator"),
        _ if any && positive && below_one && !name.contains("logit") => (
            OutputMeaning::Independent,
            "all values of a trial run lie within 0 to 1, and rows do not sum to 1",
        ),
        _ => (OutputMeaning::Logits, "values of a trial run lie outside of 0 to 1"),
    })
}

#[cfg(test)]
mod tests {
    use milenas_export::onnx::Port;

    use super::*;

    fn output(name: &str, kind: DataType, dims: &[Option<usize>]) -> Output {
        let port = Port { name: name.into(), kind, dims: Some(dims.to_vec()) };
        Output { port, ending: Ending::Other, zip_map: None }
    }

    const ROWS: [Option<usize>; 2] = [None, Some(5)];

    #[test]
    fn outputs_of_classifiers_are_found() {
        let floats = |name: &str, dims: &[_]| output(name, DataType::Float, dims);
        let at = |outputs: &[Output], asked, classes| select(outputs, asked, classes, "m").unwrap().0;
        let index = output("label", DataType::Int64, &[None]);
        assert_eq!(at(&[floats("y", &ROWS)], None, None), 0);
        assert_eq!(at(&[floats("y", &[None, Some(5), Some(1), Some(1)])], None, None), 0);
        assert_eq!(at(&[index.clone(), floats("y", &ROWS)], None, None), 1);
        let two = [floats("embedding", &[None, Some(768)]), floats("logits", &ROWS)];
        assert_eq!(at(&two, None, Some(768)), 0);
        assert_eq!(at(&two, None, Some(9)), 1);
        assert_eq!(at(&two, None, None), 1);
        assert_eq!(at(&two, Some("embedding"), None), 0);
        assert_eq!(at(&[floats("aux_logits", &ROWS), floats("logits", &ROWS)], None, Some(5)), 1);
        // A single score belongs to two classes.
        assert_eq!(at(&[floats("a", &[None, Some(1)]), floats("b", &ROWS)], None, Some(2)), 0);
    }

    #[test]
    fn other_outputs_are_refused_with_what_they_are() {
        let floats = |name: &str, dims: &[_]| output(name, DataType::Float, dims);
        let refused = |outputs: &[Output], asked| select(outputs, asked, None, "m").unwrap_err().to_string();
        let maps = floats("maps", &[None, Some(2), Some(32), Some(32)]);
        assert!(
            refused(std::slice::from_ref(&maps), None).contains("FLOAT [?, 2, 32, 32], expected one row")
        );
        assert!(refused(&[output("y", DataType::Int64, &[None])], None).contains("index of a class"));
        let ranked = Output { ending: Ending::Index, ..floats("y", &ROWS) };
        assert!(refused(&[ranked], None).contains("order of classes"));
        assert!(
            refused(&[maps.clone(), output("s", DataType::String, &ROWS)], None)
                .contains("none of its outputs")
        );
        let heads = [floats("age_logits", &ROWS), floats("sex_logits", &ROWS)];
        assert!(refused(&heads, None).contains("`output-name`"));
        assert!(refused(&heads, Some("height")).contains("no output `height`; its outputs are `age_logits`"));
        assert!(refused(&[maps], Some("maps")).contains("expected one row"));
    }

    #[test]
    fn meanings_follow_the_rows_and_the_last_operator() {
        let rows = |rows: &[[f32; 3]]| rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>();
        let decided = |ending, rows: &[Vec<f32>]| {
            decide(&Output { ending, ..output("y", DataType::Float, &ROWS) }, rows, "m").unwrap().0
        };
        let (softmax, sigmoid) =
            (rows(&[[0.2, 0.7, 0.1], [0.0, 0.0, 1.0]]), rows(&[[0.2, 0.9, 0.0], [0.0; 3]]));
        let logits = rows(&[[0.2, -0.7, 3.0], [0.1, 0.2, 0.3]]);
        for ending in [Ending::Softmax, Ending::Other, Ending::Unbounded] {
            assert_eq!(decided(ending, &softmax), OutputMeaning::Probabilities);
        }
        assert_eq!(decided(Ending::Sigmoid, &sigmoid), OutputMeaning::Independent);
        assert_eq!(decided(Ending::Other, &sigmoid), OutputMeaning::Independent);
        assert_eq!(decided(Ending::Unbounded, &sigmoid), OutputMeaning::Logits);
        assert_eq!(decided(Ending::Other, &logits), OutputMeaning::Logits);
        // If the trial gives no finite values, the last operator still decides.
        let nothing = rows(&[[f32::NAN; 3]]);
        assert_eq!(decided(Ending::Softmax, &nothing), OutputMeaning::Probabilities);
        assert_eq!(decided(Ending::Other, &nothing), OutputMeaning::Logits);
        let bytes = decide(&output("y", DataType::Uint8, &ROWS), &softmax, "m").unwrap_err().to_string();
        assert!(bytes.contains("`outputs-are`"), "{bytes}");
        let one = Output { ending: Ending::Softmax, ..output("y", DataType::Float, &ROWS) };
        assert!(decide(&one, &[vec![1.0]], "m").unwrap_err().to_string().contains("softmax of one score"));
    }
}
