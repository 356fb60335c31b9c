//! Tensors whose data are in other files beside the model.

use std::collections::HashMap;
use std::path::{Component, Path};

use milenas_models::Error as Model;
use milenas_models::file;
use prost::bytes::Bytes;

use super::limits::{MAX_FILE_BYTES, at_most};
use super::schema::{DataLocation, ModelProto, TensorProto};
use crate::Result;

/// Reads the data of initialisers that are in other files into the model, which was read from `path`. As in ONNX, such files
/// lie below the folder of the model.
///
/// # Errors
/// Returns an error for a file outside the folder or that cannot be read, for data outside their file, and for files that are
/// too large together.
pub fn load_external(model: &mut ModelProto, path: &Path) -> Result<()> {
    let (place, folder) = (path.display().to_string(), path.parent().unwrap_or(Path::new("")));
    let mut files: HashMap<String, Bytes> = HashMap::new();
    let mut total = 0;
    for tensor in model.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
        if tensor.data_location() != DataLocation::External {
            continue;
        }
        let fail = |tensor: &TensorProto, problem: String| {
            Model::malformed(&place, format!("initialiser `{}`: {problem}", tensor.name))
        };
        let entry =
            |key: &str| tensor.external_data.iter().find(|entry| entry.key == key).map(|e| e.value.as_str());
        let Some(name) = entry("location") else {
            return Err(fail(tensor, "its data are in a file without a name".into()).into());
        };
        let number = |key: &str| match entry(key) {
            None => Ok(None),
            Some(text) => {
                text.parse::<usize>().map(Some).map_err(|_| fail(tensor, format!("its {key} is `{text}`")))
            }
        };
        let (offset, length) = (number("offset")?.unwrap_or_default(), number("length")?);
        let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if !Path::new(name).components().all(inside) {
            return Err(fail(
                tensor,
                format!("its data are in `{name}`, expected a file below its own folder"),
            )
            .into());
        }
        if !files.contains_key(name) {
            let bytes = file::read(&folder.join(name), MAX_FILE_BYTES)?;
            total += bytes.len() as u64;
            at_most(&place, "the size of its data files in bytes", total, MAX_FILE_BYTES)?;
            files.insert(name.to_string(), bytes.into());
        }
        let bytes = &files[name];
        let end = match length {
            Some(length) => offset.checked_add(length),
            None => Some(bytes.len()),
        };
        let range = end.filter(|end| (offset..=bytes.len()).contains(end)).map(|end| offset..end);
        let Some(range) = range else {
            let problem = format!("its data are outside `{name}`, which has {} bytes", bytes.len());
            return Err(fail(tensor, problem).into());
        };
        tensor.raw_data = bytes.slice(range);
        tensor.external_data.clear();
        tensor.set_data_location(DataLocation::Default);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use milenas_models::Weights;
    use milenas_models::graph::{Builder, Fact};
    use milenas_models::op::{Conv2d, Flatten, GlobalAvgPool, Linear};
    use prost::Message;

    use super::super::schema::StringStringEntryProto;
    use super::super::{encode, proto, read};
    use super::*;

    /// A file whose weights are in `data/weights`, one after the other, with `change` applied to the entries of the first.
    fn written(folder: &Path, change: impl Fn(&mut Vec<StringStringEntryProto>)) -> std::path::PathBuf {
        let mut b = Builder::new();
        let x = b.input("x", Fact::image(3, 4, 4)).unwrap();
        let y = b.wire("conv", Conv2d::new(3, 4, 3), &[x]).unwrap();
        let y = b.wire("pool", GlobalAvgPool, &[y]).unwrap();
        let y = b.wire("flatten", Flatten { axis: 1 }, &[y]).unwrap();
        let y = b.wire("linear", Linear { in_features: 4, out_features: 2, bias: true }, &[y]).unwrap();
        b.output("y", y);
        let graph = b.finish().unwrap();
        let bytes = encode(&graph, &Weights::init(&graph, 1).unwrap(), &BTreeMap::new()).unwrap();
        std::fs::write(folder.join("whole.onnx"), &bytes).unwrap();
        let (mut model, mut data) = (proto(bytes.into(), "memory").unwrap(), Vec::new());
        for tensor in &mut model.graph.as_mut().unwrap().initializer {
            let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
            tensor.external_data = vec![
                entry("location", "data/weights".into()),
                entry("offset", data.len().to_string()),
                entry("length", tensor.raw_data.len().to_string()),
            ];
            data.extend_from_slice(&tensor.raw_data);
            tensor.raw_data = Bytes::new();
            tensor.set_data_location(DataLocation::External);
        }
        change(&mut model.graph.as_mut().unwrap().initializer[0].external_data);
        std::fs::create_dir_all(folder.join("data")).unwrap();
        std::fs::write(folder.join("data/weights"), data).unwrap();
        let path = folder.join("model.onnx");
        std::fs::write(&path, model.encode_to_vec()).unwrap();
        path
    }

    #[test]
    fn data_in_another_file_are_those_of_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let found = read(&written(folder.path(), |_| ())).unwrap();
        let whole = read(&folder.path().join("whole.onnx")).unwrap();
        let raw = |weights: &Weights| weights.to_bytes(BTreeMap::new()).unwrap();
        assert!(found.graph == whole.graph && raw(&found.weights) == raw(&whole.weights));
    }

    #[test]
    fn files_elsewhere_and_data_outside_are_refused() {
        for (key, value, problem) in [
            ("location", "../weights", "expected a file below its own folder"),
            ("location", "/etc/hostname", "expected a file below its own folder"),
            ("location", "data/none", "data/none"),
            ("location", "data", "data"),
            ("offset", "1000000", "its data are outside `data/weights`"),
            ("length", "18446744073709551615", "its data are outside `data/weights`"),
            ("length", "-1", "its length is `-1`"),
            ("length", "4", "4 bytes"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let change = |entries: &mut Vec<StringStringEntryProto>| {
                entries.iter_mut().filter(|e| e.key == key).for_each(|e| e.value = value.into());
            };
            let message = read(&written(folder.path(), change)).unwrap_err().to_string();
            assert!(message.contains(problem), "{key} {value}: {message}");
        }
    }
}
