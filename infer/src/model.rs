//! Loads a model file: the network, the preparation of its input and the meaning of its output.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use milenas_export::onnx::{self, Ending, Interface, Output};
use milenas_models::fused::Precision;
use milenas_models::{CARD_KEY, Card, InputContract, Rng, file, hexadecimal};
use sha2::{Digest, Sha256};

use crate::answer::OutputMeaning;
use crate::error::brief;
use crate::meaning::{decide, select};
use crate::recipe::{ASSUMED, GIVEN, GRAPH, ModelFile, Recipe, RecipePart, Resolver};
use crate::runtime::{
    CandleOnnx, Feed, InputHints, LibraryRuntime, Native, OneScore, Ort, Runtime, RuntimeConfig, RuntimeKind,
    Tract,
};
use crate::{Error, Result};

/// Classifier that is ready to run.
pub struct Classifier {
    /// Preparation of an image for the network.
    pub input: InputContract,
    /// Names of the classes.
    pub labels: Vec<String>,
    /// Meaning of the outputs.
    pub meaning: OutputMeaning,
    /// Length of the features, if they were requested.
    pub features: Option<usize>,
    /// Card of the file, if it has one.
    pub card: Option<Card>,
    /// Settings in use, each with its origin.
    pub recipe: Vec<RecipePart>,
    /// Notes for the user on the preparation of inputs.
    pub notes: Vec<String>,
    /// SHA-256 of the file and of its external data files.
    pub digest: String,
    /// Runtime that computes the answers.
    pub runtime: Box<dyn Runtime>,
}

/// Options for loading a model.
#[derive(Clone, Debug, Default)]
pub struct ClassifierOptions {
    /// Runtime and its settings.
    pub runtime: RuntimeConfig,
    /// Settings given by the user.
    pub recipe: Recipe,
    /// True if answers include the pooled features.
    pub features: bool,
}

/// Runtime, and the scores of the trial images, one row each.
type TrialRun = (Box<dyn Runtime>, Vec<Vec<f32>>);

impl Classifier {
    /// Loads a model file.
    ///
    /// # Errors
    /// [`Error::Model`] for a file that is not an image classifier or that the runtime cannot run.
    /// [`Error::Recipe`] if `options` contradict the file. [`Error::Unavailable`] for a missing runtime.
    /// [`Error::Runtime`] if the trial run fails. [`Error::Export`] or [`Error::Models`] for a file that cannot be
    /// read or decoded.
    pub fn load(path: &Path, options: &ClassifierOptions) -> Result<Self> {
        let (place, kind) = (path.display().to_string(), options.runtime.kind);
        check_runtime(options)?;
        let most = if kind == RuntimeKind::Native { onnx::MAX_FILE_BYTES } else { onnx::MAX_INTERFACE_BYTES };
        let bytes = file::read(path, most).map_err(|error| match error {
            milenas_models::Error::Limit { found, limit, .. } if kind == RuntimeKind::Native => {
                let problem = format!(
                    "it has {found} bytes, the native runtime reads {limit} at most. help: set `runtime` to ort, which reads 2 GiB"
                );
                Error::Model { place: place.clone(), problem }
            }
            error => error.into(),
        })?;
        let mut hash = Sha256::new_with_prefix(&bytes);
        // candle-onnx parses the file itself, including fields that this program ignores.
        let candle = (kind == RuntimeKind::CandleOnnx).then(|| bytes.clone());
        let proto = onnx::proto(bytes.into(), &place)?;
        let interface = onnx::interface(&proto, &place)?;
        let digest = digest(path, &interface, &mut hash)?;
        let card = card(&interface, &place)?;

        let context = ModelFile { path, metadata: &interface.metadata };
        let mut resolver = Resolver::new(&options.recipe, card.clone(), &context, &place)?;
        let (at, why) = select(&interface.outputs, resolver.output(), resolver.classes(), &place)?;
        resolver.notes.extend(why);
        let output = interface.outputs[at].clone();
        let ports =
            interface.inputs.iter().take(1).map(|port| ("input", port)).chain([("output", &output.port)]);
        resolver.parts.extend(ports.map(|(name, port)| RecipePart {
            name,
            value: format!("`{}` {port}", port.name),
            origin: GRAPH.into(),
        }));
        let shape = InputHints {
            size: resolver.size(),
            open_size: resolver.declared_size(),
            layout: resolver.layout(),
        };
        let mut feed = Feed::new(&interface, shape, &place)?;
        let mut input = resolver.contract(&feed)?;

        let trial = trial(&input);
        let probed = |mut runtime: LibraryRuntime, notes: &mut Vec<String>| -> Result<TrialRun> {
            let (rows, reason) = runtime.probe(&trial, &place)?;
            notes.extend(reason.map(|reason| {
                format!("{place}: images are computed one by one, as with a batch of 1, since it cannot take two: {reason}")
            }));
            Ok((Box::new(runtime), rows))
        };
        let (mut ending, mut features) = (output.ending, None);
        let (runtime, rows): TrialRun = match kind {
            RuntimeKind::Native => {
                drop(trial);
                let mut proto = onnx::only_output(proto, &output.port.name);
                onnx::load_external(&mut proto, path)?;
                let native = native(&proto, &mut input, options, card.is_some(), &place)?;
                // `native` may have removed the softmax.
                if ending == Ending::Softmax && native.meaning() == OutputMeaning::Logits {
                    ending = Ending::Unbounded;
                }
                features = native.features();
                let help = match card {
                    Some(_) => "export the network in float32 for any reader, or set `runtime` to ort",
                    None => "set `runtime` to ort, which runs files of other programs faster",
                };
                resolver.notes.extend(native.hindrance().map(|reason| {
                    format!(
                        "{place}: the fused kernels do not run it ({reason}), so it takes several times as long. help: {help}"
                    )
                }));
                let images = self::trial(&input);
                let rows = native.run(&images, 2)?.into_iter().map(|answer| answer.outputs).collect();
                (Box::new(native), rows)
            }
            RuntimeKind::Ort => {
                drop(proto);
                let ort = Ort::new(path, output.clone(), &options.runtime)?;
                probed(LibraryRuntime::new(ort, feed), &mut resolver.notes)?
            }
            RuntimeKind::Tract => {
                drop(proto);
                let tract = Tract::new(path, &mut feed, at)?;
                probed(LibraryRuntime::new(tract, feed), &mut resolver.notes)?
            }
            RuntimeKind::CandleOnnx => {
                drop(proto);
                let bytes = candle.unwrap_or_default();
                let candle = CandleOnnx::new(&bytes, &output.port.name, &place)?;
                probed(LibraryRuntime::new(candle, feed), &mut resolver.notes)?
            }
        };
        let output = Output { ending, ..output };
        let meaning = meaning(&output, &rows, &mut resolver, &place)?;
        let classes = rows.first().map_or(0, Vec::len);
        let (runtime, meaning, classes) = match classes {
            1 => one_score(runtime, meaning, &mut resolver, &place),
            _ => (runtime, meaning, classes),
        };
        let labels = resolver.labels(classes, output.zip_map.as_deref())?;
        Ok(Classifier {
            input,
            labels,
            meaning,
            features,
            card,
            recipe: resolver.parts,
            notes: resolver.notes,
            digest,
            runtime,
        })
    }
}

/// Refuses options that only the native runtime supports.
fn check_runtime(options: &ClassifierOptions) -> Result<()> {
    let kind = options.runtime.kind;
    let problem = match kind {
        RuntimeKind::Native => return Ok(()),
        _ if options.features => "it outputs no features. help: set `runtime` to native",
        _ if options.runtime.precision != Precision::Float32 => {
            "it computes in the precision of the file. help: set `runtime` to native for bf16"
        }
        _ => return Ok(()),
    };
    Err(Error::Unavailable { name: kind.name(), problem: problem.into() })
}

fn card(interface: &Interface, place: &str) -> Result<Option<Card>> {
    let card = interface.metadata.contains_key(CARD_KEY);
    let metadata = interface.metadata.clone().into_iter().collect();
    Ok(card.then(|| Card::from_metadata(&metadata, place)).transpose()?)
}

/// Returns the digest of a model file and of its external data files. `hash` already contains the bytes of
/// the model file.
///
/// # Errors
/// [`Error::Model`] or [`Error::Models`] for an external data file that cannot be read.
fn digest(model: &Path, interface: &Interface, hash: &mut Sha256) -> Result<String> {
    let folder = model.parent().map(Path::to_path_buf).unwrap_or_default();
    let files: BTreeMap<&String, PathBuf> =
        interface.external.iter().map(|name| (name, folder.join(name))).collect();
    for (name, path) in files {
        // As in ONNX: the path must lie below the model's folder and name a regular file.
        let inside =
            Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !inside || path.metadata().is_ok_and(|found| !found.is_file()) {
            let problem = format!("its data are in `{name}`, expected a file below its own folder");
            return Err(Error::Model { place: model.display().to_string(), problem });
        }
        hash.update(name.as_bytes());
        update(&path, hash).map_err(milenas_models::Error::io(&path))?;
    }
    Ok(hexadecimal(hash.clone().finalize()))
}

fn update(path: &Path, hash: &mut Sha256) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let mut part = vec![0; 1 << 20];
    loop {
        match file.read(&mut part)? {
            0 => return Ok(()),
            read => hash.update(&part[..read]),
        }
    }
}

/// Returns two different noise images `[2, C, H, W]`, prepared by the contract.
fn trial(contract: &InputContract) -> Vec<f32> {
    let mut rng = Rng::new(0, "trial");
    let mut images = vec![0.0; 2 * contract.len()];
    for image in images.chunks_mut(contract.len()) {
        let pixels: Vec<u8> = (0..contract.len()).map(|_| rng.below(256) as u8).collect();
        contract.normalise(&pixels, image);
    }
    images
}

/// Returns the meaning of the scores: the user's setting if given, else decided from the file and a trial
/// run. Adds a note for files without a card.
fn meaning(
    output: &Output,
    rows: &[Vec<f32>],
    resolver: &mut Resolver,
    place: &str,
) -> Result<OutputMeaning> {
    let part = |meaning: OutputMeaning, origin: &str| RecipePart {
        name: "outputs-are",
        value: meaning.name().into(),
        origin: origin.into(),
    };
    match (resolver.outputs(), output.ending) {
        (Some(OutputMeaning::Logits), Ending::Softmax | Ending::Sigmoid) => {
            let problem = "it ends in a softmax or sigmoid, setting `outputs-are` cannot be logits".into();
            Err(Error::Recipe { place: place.into(), problem })
        }
        (Some(meaning), _) => {
            resolver.parts.push(part(meaning, GIVEN));
            Ok(meaning)
        }
        (None, _) => {
            let (meaning, why) = decide(output, rows, place)?;
            if !resolver.has_card() {
                let name = meaning.name();
                resolver.notes.push(format!(
                    "{place}: its outputs are taken as {name}: {why} (setting `outputs-are` overrides it)"
                ));
            }
            resolver.parts.push(part(meaning, GRAPH));
            Ok(meaning)
        }
    }
}

/// Wraps a runtime with one score per image. The score belongs to the second of two classes, or to the only
/// named class.
fn one_score(
    runtime: Box<dyn Runtime>,
    meaning: OutputMeaning,
    resolver: &mut Resolver,
    place: &str,
) -> (Box<dyn Runtime>, OutputMeaning, usize) {
    let single = resolver.classes() == Some(1);
    let classes = if single { 1 } else { 2 };
    if !single {
        resolver.notes.push(format!("{place}: its one score an image is that of the second of two classes"));
    }
    resolver.parts.push(RecipePart { name: "classes", value: classes.to_string(), origin: ASSUMED.into() });
    let logit = meaning == OutputMeaning::Logits;
    let meaning = if single { OutputMeaning::Independent } else { OutputMeaning::Probabilities };
    (Box::new(OneScore::new(runtime, logit, single)), meaning, classes)
}

/// Builds this project's runtime for a file. Normalisation and softmax inside the file are removed from the
/// network. The normalisation of a uint8 input becomes mean and standard deviation of `input`.
fn native(
    proto: &onnx::schema::ModelProto,
    input: &mut InputContract,
    options: &ClassifierOptions,
    own: bool,
    place: &str,
) -> Result<Native> {
    let decoded = onnx::decode_proto(proto, place);
    let decoded = decoded.map_err(|error| if own { error.into() } else { undecoded(&error, place) })?;
    let onnx::Decoded { mut graph, mut weights, bytes, .. } = decoded;
    milenas_export::unwrap_io(&mut graph, &mut weights, bytes.then_some(input))?;
    Native::new(graph, weights, options.features, options.runtime.precision, place)
}

/// Explains why the native runtime cannot run a file of another program.
fn undecoded(error: &milenas_export::Error, place: &str) -> Error {
    let text = error.to_string();
    let problem = text.strip_prefix(place).unwrap_or(&text).trim_start_matches([':', ',', ' ']);
    // The exporter's help is for files that this project wrote.
    let problem = problem.split(". help: ").next().unwrap_or(problem);
    let problem = format!("{}. help: set `runtime` to ort, which has every operator", brief(problem));
    Error::Model { place: place.into(), problem }
}
