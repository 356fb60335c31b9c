//! Runtime that loads ONNX Runtime from its shared library. The library is not needed to build or start this
//! program.

mod search;

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread::available_parallelism;

use half::f16;
use milenas_export::onnx::schema::DataType;
use milenas_export::onnx::{Output, Port};
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{DynValue, MapValueType, TensorRef};

use super::library::{Library, RawOutput};
use super::{Feed, Pixels, RuntimeConfig, RuntimeKind};
use crate::{Error, Result};

/// Session of ONNX Runtime on the CPU.
pub struct Ort {
    session: Mutex<Session>,
    output: Output,
}

impl Ort {
    /// Opens a session on a file.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the library is missing or unsuitable; [`Error::Model`] for a file that ONNX
    /// Runtime refuses.
    pub fn new(path: &Path, output: Output, choice: &RuntimeConfig) -> Result<Self> {
        load(&search::library(choice.ort_library.as_deref())?)?;
        let place = path.display().to_string();
        let session = open(path, choice.threads).map_err(|problem| {
            let problem = problem.replace(&format!("Load model from {place} failed:"), "");
            Error::Model { problem: format!("ONNX Runtime refuses it: {}", reason(&problem)), place }
        })?;
        Ok(Ort { session: Mutex::new(session), output })
    }

    fn run(&self, feed: &Feed, pixels: &Pixels, batch: usize) -> ort::Result<RawOutput> {
        let shape = feed.shape(batch);
        // A session stays usable after a failure.
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let input = feed.input.as_str();
        let fed = match pixels {
            Pixels::Floats(x) => ort::inputs![input => TensorRef::from_array_view((shape, &**x))?],
            Pixels::Halves(x) => ort::inputs![input => TensorRef::from_array_view((shape, x.as_slice()))?],
            Pixels::Doubles(x) => ort::inputs![input => TensorRef::from_array_view((shape, x.as_slice()))?],
            Pixels::Bytes(x) => ort::inputs![input => TensorRef::from_array_view((shape, x.as_slice()))?],
        };
        let found = session.run(fed)?;
        let Output { port: Port { name, kind, .. }, zip_map, .. } = &self.output;
        let value = &found[name.as_str()];
        match zip_map {
            Some(classes) => named_scores(value, classes),
            None => elements(value, *kind),
        }
    }
}

/// Returns the message of ONNX Runtime without its source locations.
fn reason(text: &str) -> String {
    let text = text.split_once("Status Message: ").map_or(text, |(_, message)| message);
    let inner = |word: &&str| !word.contains("onnxruntime_src") && !word.contains("onnxruntime::");
    crate::error::brief(&text.split_whitespace().filter(inner).collect::<Vec<_>>().join(" "))
}

/// Returns the elements of a tensor as float32.
fn elements(value: &DynValue, kind: DataType) -> ort::Result<RawOutput> {
    let sizes = |shape: &ort::value::Shape| shape.iter().map(|&n| n.max(0) as usize).collect();
    Ok(match kind {
        DataType::Float16 => {
            let (shape, values) = value.try_extract_tensor::<f16>()?;
            RawOutput { dims: sizes(shape), values: values.iter().map(|x| x.to_f32()).collect() }
        }
        DataType::Double => {
            let (shape, values) = value.try_extract_tensor::<f64>()?;
            RawOutput { dims: sizes(shape), values: values.iter().map(|&x| x as f32).collect() }
        }
        DataType::Uint8 => {
            let (shape, values) = value.try_extract_tensor::<u8>()?;
            RawOutput { dims: sizes(shape), values: values.iter().map(|&x| f32::from(x)).collect() }
        }
        _ => {
            let (shape, values) = value.try_extract_tensor::<f32>()?;
            RawOutput { dims: sizes(shape), values: values.to_vec() }
        }
    })
}

/// Converts the output of a `ZipMap` to rows of scores in the order of `classes`. The output has one map from
/// class to score per image.
fn named_scores(value: &DynValue, classes: &[String]) -> ort::Result<RawOutput> {
    let missing = || ort::Error::new("the map of scores has no entry for a class");
    let mut values = Vec::new();
    let mut images = 0;
    let mut add = |scores: Vec<(String, f32)>| -> ort::Result<()> {
        images += 1;
        for class in classes {
            values.push(scores.iter().find(|(name, _)| name == class).ok_or_else(missing)?.1);
        }
        Ok(())
    };
    if let Ok(maps) = value.try_extract_sequence::<MapValueType<String, f32>>() {
        maps.iter().try_for_each(|map| add(map.try_extract_key_values::<String, f32>()?))?;
    } else {
        for map in value.try_extract_sequence::<MapValueType<i64, f32>>()? {
            let scores = map.try_extract_key_values::<i64, f32>()?;
            add(scores.into_iter().map(|(class, score)| (class.to_string(), score)).collect())?;
        }
    }
    Ok(RawOutput { dims: vec![images, classes.len()], values })
}

/// Loads the library for the rest of the process. Later calls keep the library of the first call.
fn load(path: &Path) -> Result<()> {
    let refused = |problem: String| Error::Unavailable {
        name: RuntimeKind::Ort.name(),
        problem: format!("{}. help: `pip install onnxruntime` has a library that works", reason(&problem)),
    };
    let path = std::path::absolute(path).map_err(|e| refused(e.to_string()))?;
    ort::init_from(path).map_err(|e| refused(e.to_string()))?.commit();
    Ok(())
}

fn open(path: &Path, threads: usize) -> std::result::Result<Session, String> {
    let text = |e: ort::Error<ort::session::builder::SessionBuilder>| e.to_string();
    // ONNX Runtime itself would count cores that a container or an affinity mask excludes.
    let threads = if threads == 0 { available_parallelism().map_or(1, usize::from) } else { threads };
    Session::builder()
        .map_err(|e| e.to_string())?
        .with_optimization_level(GraphOptimizationLevel::Level3)
        .map_err(text)?
        .with_intra_threads(threads)
        .map_err(text)?
        // Errors are returned, so a log would only repeat them.
        .with_log_level(ort::logging::LogLevel::Fatal)
        .map_err(text)?
        .commit_from_file(path)
        .map_err(|e| e.to_string())
}

impl Library for Ort {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Ort
    }

    fn compute(&self, feed: &Feed, pixels: Pixels, batch: usize) -> Result<RawOutput> {
        let failed =
            |e: ort::Error| Error::Runtime { name: RuntimeKind::Ort.name(), problem: reason(&e.to_string()) };
        self.run(feed, &pixels, batch).map_err(failed)
    }
}
