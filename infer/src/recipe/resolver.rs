//! Resolves the recipe in use. Each setting comes from the user, else from the card, else from the file's
//! metadata, else from the defaults.

use std::fmt::Display;

use milenas_export::onnx::ImageLayout;
use milenas_models::error::some_of;
use milenas_models::input::{ChannelOrder, ExifOrientation, ImageSize, Resize};
use milenas_models::{Card, InputContract};
use serde::Serialize;

use super::{ModelFile, Recipe, ResizeRule, Statement, declared, per_byte};
use crate::answer::OutputMeaning;
use crate::runtime::{Element, Feed};
use crate::{Error, Result};

/// Mean and standard deviation of ImageNet. Most classifiers of unknown origin were trained on it.
pub(super) const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
pub(super) const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Fraction of the image that classifiers of unknown origin see: torchvision's 224 of 256 pixels.
const CROP: f64 = 0.875;

/// Setting of the recipe in use, with its origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecipePart {
    /// Name of the setting, e.g. `mean`.
    pub name: &'static str,
    /// Value, as it is written on the command line.
    pub value: String,
    /// Origin of the value, e.g. `the card`.
    pub origin: String,
}

/// Origin of a value that the user gave.
pub const GIVEN: &str = "given";
/// Origin of a default value.
pub const ASSUMED: &str = "assumed";
/// Origin of a value from the card.
const CARD: &str = "the card";
/// Origin of a value that follows from the operators and shapes of the file.
pub const GRAPH: &str = "the graph";

/// Settings of a file by origin, highest priority first, and the resolved settings.
pub struct Resolver {
    place: String,
    card: Option<Card>,
    statements: Vec<Statement>,
    /// Settings resolved so far.
    pub parts: Vec<RecipePart>,
    /// Notes for the user.
    pub notes: Vec<String>,
}

impl Resolver {
    /// Collects the settings of the user, the card, and the metadata of a file without a card.
    ///
    /// # Errors
    /// [`Error::Recipe`] if the user's mean and standard deviation are on different scales.
    pub fn new(user: &Recipe, card: Option<Card>, context: &ModelFile, place: &str) -> Result<Self> {
        let mut notes = Vec::new();
        let user = on_one_scale(user.clone(), &mut notes, place)?;
        let mut statements = vec![Statement { origin: GIVEN.into(), recipe: user, doubts: Vec::new() }];
        if card.is_none() {
            statements.extend(declared::statements(context));
        }
        for statement in &statements {
            let origin = &statement.origin;
            notes.extend(statement.doubts.iter().map(|doubt| format!("{place}: {origin}: {doubt}")));
        }
        Ok(Resolver { place: place.into(), card, statements, parts: Vec::new(), notes })
    }

    fn user(&self) -> &Recipe {
        &self.statements[0].recipe
    }

    /// Returns the first value that an origin has, with the origin.
    fn pick<T>(&self, read: impl Fn(&Recipe) -> Option<T>) -> Option<(T, String)> {
        self.statements.iter().find_map(|s| Some((read(&s.recipe)?, s.origin.clone())))
    }

    fn part(&mut self, name: &'static str, value: impl Display, origin: &str) {
        self.parts.push(RecipePart { name, value: value.to_string(), origin: origin.into() });
    }

    /// Returns whether the file has a card.
    pub fn has_card(&self) -> bool {
        self.card.is_some()
    }

    /// Returns the size that the user requested.
    pub fn size(&self) -> Option<[usize; 2]> {
        self.user().size
    }

    /// Returns the size that the file states, for an input of open size.
    pub fn declared_size(&self) -> Option<[usize; 2]> {
        let card = self.card.as_ref().map(|card| [card.input.height, card.input.width]);
        card.or_else(|| self.pick(|r| r.size).map(|(size, _)| size))
    }

    /// Returns the layout that the user requested.
    pub fn layout(&self) -> Option<ImageLayout> {
        self.user().layout
    }

    /// Returns the output that the user requested.
    pub fn output(&self) -> Option<&str> {
        self.user().output.as_deref()
    }

    /// Returns the number of known class names.
    pub fn classes(&self) -> Option<usize> {
        let card = self.card.as_ref().map(|card| card.labels.len());
        self.user()
            .labels
            .as_ref()
            .map(Vec::len)
            .or(card)
            .or_else(|| self.pick(|r| r.labels.as_ref().map(Vec::len)).map(|(n, _)| n))
    }

    /// Returns the meaning of the outputs that the user requested.
    pub fn outputs(&self) -> Option<OutputMeaning> {
        self.user().outputs
    }

    /// Resolves the input contract.
    ///
    /// # Errors
    /// [`Error::Recipe`] for values that no contract may have, or for the user's mean or standard deviation
    /// with a uint8 input. [`Error::Model`] if the size differs from that of the card.
    pub fn contract(&mut self, feed: &Feed) -> Result<InputContract> {
        let [channels, height, width] = feed.image;
        let size = ImageSize { height, width };
        let bytes = feed.element == Element::Byte;
        let refused = |problem: String| Error::Recipe { place: self.place.clone(), problem };
        if bytes && (self.user().mean.is_some() || self.user().std.is_some()) {
            return Err(refused(
                "it takes bytes: setting `mean` and setting `std` would change nothing".into(),
            ));
        }
        let own = self.card.as_ref().map(|card| card.input.clone());
        if let Some(own) = own.as_ref().filter(|own| [own.channels, own.height, own.width] != feed.image) {
            let (found, expected) = (feed.image, [own.channels, own.height, own.width]);
            let problem = format!("[C, H, W] is {found:?}, expected {expected:?} as in the card");
            return Err(Error::Model { place: self.place.clone(), problem });
        }
        let spread = |given: Vec<f32>| if given.len() == 1 { vec![given[0]; channels] } else { given };
        let fallback = if own.is_some() { CARD } else { ASSUMED };
        let mut contract = own.unwrap_or_else(|| assumed(size, channels));
        let mut origins = [(); 6].map(|()| fallback.to_string());
        let mut set = |at: usize, origin: String| origins[at] = origin;
        if let Some((mean, origin)) = self.pick(|r| r.mean.clone()) {
            contract.mean = spread(mean);
            set(0, origin);
        }
        if let Some((std, origin)) = self.pick(|r| r.std.clone()) {
            contract.std = spread(std);
            set(1, origin);
        }
        if let Some((rule, origin)) = self.pick(|r| r.resize) {
            contract.resize = ResizeRule::of(size, rule);
            set(2, origin);
        }
        if let Some((filter, origin)) = self.pick(|r| r.filter) {
            contract.filter = filter;
            set(3, origin);
        }
        if let Some((order, origin)) = self.pick(|r| r.order) {
            contract.order = order;
            set(4, origin);
        }
        if let Some((orientation, origin)) = self.pick(|r| r.orientation) {
            contract.orientation = orientation;
            set(5, origin);
        }
        contract.validate().map_err(|e| refused(e.to_string()))?;

        let layout = if feed.layout == ImageLayout::Nchw { "nchw" } else { "nhwc" };
        let by_size = match feed.open {
            true => self.pick(|r| r.size).map_or(fallback.into(), |(_, origin)| origin),
            false => GRAPH.into(),
        };
        let by_layout = if self.user().layout.is_some() { GIVEN } else { GRAPH };
        self.part("size", format!("{height}x{width}"), &by_size);
        self.part("layout", layout, by_layout);
        if !bytes {
            self.part("mean", list(&contract.mean), &origins[0]);
            self.part("std", list(&contract.std), &origins[1]);
        }
        self.part("resize", resize_name(contract.resize), &origins[2]);
        self.part("filter", contract.filter.name(), &origins[3]);
        let order = if contract.order == ChannelOrder::Bgr { "bgr" } else { "rgb" };
        if channels == 3 {
            self.part("channel-order", order, &origins[4]);
        }
        let exif = if contract.orientation == ExifOrientation::Ignore { "ignore" } else { "apply" };
        self.part("exif", exif, &origins[5]);
        self.note_contract();
        if self.card.as_ref().is_some_and(|card| card.input != contract) {
            self.notes
                .push(format!("{}: options for images differ from its card and override it", self.place));
        }
        Ok(if bytes { contract.of_bytes() } else { contract })
    }

    /// Adds one note on the default settings, and one on the settings of each origin.
    fn note_contract(&mut self) {
        let place = &self.place;
        let of = |origin: &str| -> Vec<String> {
            let scale = |part: &&RecipePart| {
                part.origin == origin && !["filter", "channel-order", "exif"].contains(&part.name)
            };
            self.parts
                .iter()
                .filter(scale)
                .map(|part| format!("set `{}` to {}", part.name, part.value))
                .collect()
        };
        let mut notes = Vec::new();
        let assumed = of(ASSUMED);
        if !assumed.is_empty() {
            let settings = assumed.join(" ");
            notes.push(format!("{place} has no metadata on image preparation; assumed: {settings}"));
        }
        let mut origins: Vec<&String> = self.statements.iter().skip(1).map(|s| &s.origin).collect();
        origins.dedup();
        for origin in origins {
            let settings = of(origin).join(" ");
            if !settings.is_empty() {
                notes.push(format!("{place}: {settings}, from {origin}"));
            }
        }
        self.notes.extend(notes);
    }

    /// Resolves the names of `classes` classes.
    ///
    /// # Errors
    /// [`Error::Recipe`] if the user gave another number of labels; [`Error::Model`] if the card has another
    /// number.
    pub fn labels(&mut self, classes: usize, zip_map: Option<&[String]>) -> Result<Vec<String>> {
        let place = self.place.clone();
        if let Some(given) = self.user().labels.clone() {
            if given.len() != classes {
                return Err(Error::Recipe { place, problem: mismatch(&given, classes) });
            }
            if self.card.as_ref().is_some_and(|card| card.labels != given) {
                self.notes.push(format!("{place}: setting `labels` differs from its card and overrides it"));
            }
            self.part("labels", shown(&given), GIVEN);
            return Ok(given);
        }
        if let Some(own) = self.card.as_ref().map(|card| card.labels.clone()) {
            if own.len() != classes {
                let problem = format!("{classes} classes, expected {} as in the card", own.len());
                return Err(Error::Model { place, problem });
            }
            self.part("labels", shown(&own), CARD);
            return Ok(own);
        }
        let given = self.statements.iter().filter_map(|s| Some((s.recipe.labels.clone()?, s.origin.clone())));
        let zip_map = zip_map.map(|names| (names.to_vec(), "its ZipMap".to_string()));
        let (fitting, others): (Vec<_>, Vec<_>) =
            zip_map.into_iter().chain(given).partition(|(names, _)| names.len() == classes);
        if fitting.is_empty() {
            for (names, origin) in &others {
                let found = names.len();
                self.notes.push(format!(
                    "{place}: the {found} labels of {origin} do not fit the network's {classes} classes and are not used"
                ));
            }
        }
        let (names, origin) = fitting
            .into_iter()
            .next()
            .unwrap_or_else(|| ((0..classes).map(|i| format!("class_{i}")).collect(), ASSUMED.into()));
        if origin != ASSUMED {
            self.notes.push(format!("{place}: labels by {origin}: {}", shown(&names)));
        }
        self.part("labels", shown(&names), &origin);
        Ok(names)
    }
}

/// Explains a number of labels that differs from the number of classes.
fn mismatch(given: &[String], classes: usize) -> String {
    let count = format!("setting `labels` has {} names, the network {classes} classes", given.len());
    let background =
        |name: &str| ["background", "dummy", "__background__", "tench"].contains(&&*name.to_lowercase());
    match (given.first(), given.len().wrapping_sub(classes)) {
        (Some(first), 1) if background(first) => {
            format!(
                "{count}: one more. help: remove the first name, `{first}`, if the network was trained without it"
            )
        }
        (_, 1) => format!("{count}: one more"),
        (_, usize::MAX) => format!(
            "{count}: one fewer. help: networks of TensorFlow often have a class `background` before all others"
        ),
        _ => count,
    }
}

fn shown(names: &[String]) -> String {
    some_of(names)
}

fn list(numbers: &[f32]) -> String {
    numbers.iter().map(f32::to_string).collect::<Vec<_>>().join(",")
}

fn resize_name(resize: Resize) -> String {
    match resize {
        Resize::Stretch => "stretch".into(),
        Resize::ShorterSide { side } => side.to_string(),
        Resize::Letterbox { fill: [r, g, b] } => format!("letterbox:{r},{g},{b}"),
    }
}

/// Converts the user's mean and standard deviation to pixels of 0..1. Values above 1 are for pixels of
/// 0..255.
///
/// # Errors
/// [`Error::Recipe`] if mean and standard deviation are on different scales.
fn on_one_scale(mut user: Recipe, notes: &mut Vec<String>, place: &str) -> Result<Recipe> {
    let above = |values: &Option<Vec<f32>>| values.iter().flatten().any(|&x| x > 1.0);
    if !above(&user.mean) && !above(&user.std) {
        return Ok(user);
    }
    if !above(&user.mean) && user.mean.iter().flatten().any(|&x| x != 0.0) {
        let problem =
            "setting `std` is for pixels of 0 to 255, setting `mean` for pixels of 0 to 1: give both on one scale".into();
        return Err(Error::Recipe { place: place.into(), problem });
    }
    let mut given = Vec::new();
    for (name, values) in [("mean", &mut user.mean), ("std", &mut user.std)] {
        if let Some(values) = values {
            values.iter_mut().for_each(|x| *x = per_byte(*x));
            given.push(format!("set `{name}` to {}", list(values)));
        }
    }
    notes.push(format!("{place}: values above 1 are of pixels of 0 to 255: taken as {}", given.join(" ")));
    Ok(user)
}

/// Returns torchvision's preparation for ImageNet; for one channel, pixels of 0..1 without normalisation.
fn assumed(size: ImageSize, channels: usize) -> InputContract {
    let (mean, std) = match channels {
        3 => (MEAN.to_vec(), STD.to_vec()),
        _ => (vec![0.0; channels], vec![1.0; channels]),
    };
    let side = (size.height.max(size.width) as f64 / CROP).ceil() as usize;
    InputContract::new(size, channels, mean, std, Resize::ShorterSide { side })
}
