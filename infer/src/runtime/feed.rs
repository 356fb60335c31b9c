//! Input of a file that a runtime runs unchanged: name, layout, element type and size.

use std::borrow::Cow;

use half::f16;
use milenas_export::onnx::schema::DataType;
use milenas_export::onnx::{ImageLayout, Interface};

use crate::{Error, Result};

/// Input of an image classifier, which has exactly one.
#[derive(Clone, Debug, PartialEq)]
pub struct Feed {
    /// Name of the input.
    pub input: String,
    /// Order of the input's dimensions.
    pub layout: ImageLayout,
    /// Element type of the input.
    pub element: Element,
    /// Shape of one image, `[C, H, W]`.
    pub image: [usize; 3],
    /// Batch size that the file requires; `None` for any.
    pub batch: Option<usize>,
    /// True if the file accepts images of any height or width.
    pub open: bool,
}

/// Element type of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Normalised values as float32.
    Float,
    /// Normalised values as float16.
    Half,
    /// Normalised values as float64.
    Double,
    /// Unnormalised bytes, uint8.
    Byte,
}

/// Batch in the layout and element type of the file.
#[derive(Debug, PartialEq)]
pub enum Pixels<'a> {
    /// Elements as float32.
    Floats(Cow<'a, [f32]>),
    /// Elements as float16.
    Halves(Vec<f16>),
    /// Elements as float64.
    Doubles(Vec<f64>),
    /// Elements as uint8, not normalised.
    Bytes(Vec<u8>),
}

/// Size and layout from the user or the metadata, for an input whose shape leaves them open.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct InputHints {
    /// Height and width that the user requested.
    pub size: Option<[usize; 2]>,
    /// Height and width for a file that accepts any, if the user requested none.
    pub open_size: Option<[usize; 2]>,
    /// Order of the dimensions.
    pub layout: Option<ImageLayout>,
}

impl Feed {
    /// Determines the feed of a file.
    ///
    /// # Errors
    /// [`Error::Model`] for a file that is not an image classifier. The same error for an open size or layout
    /// that `hints` does not fix, or for a fixed size that contradicts `hints`.
    pub fn new(interface: &Interface, hints: InputHints, place: &str) -> Result<Self> {
        let refused = |problem: String| Error::Model { place: place.into(), problem };
        let [input] = &interface.inputs[..] else {
            let names: Vec<String> = interface.inputs.iter().map(|port| format!("`{}`", port.name)).collect();
            let names = milenas_models::error::some_of(&names);
            return Err(refused(format!("no classifier of images: its inputs are {names}, expected one")));
        };
        let no_image = || {
            refused(format!(
                "no classifier of images: its input `{}` is {input}, expected FLOAT, FLOAT16, DOUBLE or UINT8 \
                 [N, 3 or 1, H, W] or [N, H, W, 3 or 1]",
                input.name
            ))
        };
        let element = match input.kind {
            DataType::Float => Element::Float,
            DataType::Float16 => Element::Half,
            DataType::Double => Element::Double,
            DataType::Uint8 => Element::Byte,
            _ => return Err(no_image()),
        };
        let dims = match &input.dims {
            None => [None; 4],
            Some(dims) => <[_; 4]>::try_from(dims.as_slice()).map_err(|_| no_image())?,
        };
        let layout = match hints.layout.or_else(|| layout(&dims, interface.layout, element)) {
            Some(layout) => layout,
            None => {
                let problem = format!(
                    "its input `{}` is {input}, of unknown layout. help: set `layout` to nchw if the channels are \
                     the second dimension, or set `layout` to nhwc if they are the last",
                    input.name
                );
                return Err(refused(problem));
            }
        };
        let [channels, height, width] = match layout {
            ImageLayout::Nchw => [dims[1], dims[2], dims[3]],
            ImageLayout::Nhwc => [dims[3], dims[1], dims[2]],
        };
        let channels = channels.or(interface.channels).unwrap_or(3);
        if channels != 1 && channels != 3 {
            return Err(no_image());
        }
        let pick = |axis: usize, fixed: Option<usize>| match (fixed, hints.size.map(|size| size[axis])) {
            (Some(fixed), Some(given)) if fixed != given => {
                let axis = ["height", "width"][axis];
                Err(refused(format!("its input has {axis} {fixed}, setting `size` is {given}")))
            }
            (None, None) if hints.open_size.is_none() => Err(refused(format!(
                "its input `{}` is {input}, of any {}. help: set `size` to HxW",
                input.name,
                ["height", "width"][axis]
            ))),
            (fixed, asked) => {
                Ok(fixed.or(asked).or(hints.open_size.map(|size| size[axis])).unwrap_or_default())
            }
        };
        let open = height.is_none() || width.is_none();
        let (height, width) = (pick(0, height)?, pick(1, width)?);
        Ok(Feed {
            input: input.name.clone(),
            layout,
            element,
            image: [channels, height, width],
            batch: dims[0],
            open,
        })
    }

    /// Returns the number of elements of one image.
    pub fn len(&self) -> usize {
        self.image.iter().product()
    }

    /// Returns whether an image has no elements; false for every feed from [`Feed::new`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the shape of a batch, in the layout of the file.
    pub fn shape(&self, batch: usize) -> [usize; 4] {
        let [c, h, w] = self.image;
        match self.layout {
            ImageLayout::Nchw => [batch, c, h, w],
            ImageLayout::Nhwc => [batch, h, w, c],
        }
    }

    /// Converts images `[N, C, H, W]` to the layout and element type of the file. For bytes, the values must
    /// be 0 to 255.
    pub fn pixels<'a>(&self, images: Cow<'a, [f32]>) -> Pixels<'a> {
        let images = match self.layout {
            ImageLayout::Nchw => images,
            ImageLayout::Nhwc => Cow::Owned(self.interleaved(&images)),
        };
        match self.element {
            Element::Float => Pixels::Floats(images),
            Element::Half => Pixels::Halves(images.iter().map(|&x| f16::from_f32(x)).collect()),
            Element::Double => Pixels::Doubles(images.iter().map(|&x| f64::from(x)).collect()),
            Element::Byte => Pixels::Bytes(images.iter().map(|x| x.round() as u8).collect()),
        }
    }

    /// Converts `[N, C, H, W]` to `[N, H, W, C]`.
    fn interleaved(&self, images: &[f32]) -> Vec<f32> {
        let [channels, height, width] = self.image;
        let plane = height * width;
        let mut out = Vec::with_capacity(images.len());
        for image in images.chunks_exact(channels * plane) {
            for at in 0..plane {
                out.extend((0..channels).map(|c| image[c * plane + at]));
            }
        }
        out
    }
}

/// Returns the layout that the shape shows, else the one that the operators show, else `None`. A uint8 input
/// of open shape is `[N, H, W, C]`, the layout of decoded images.
fn layout(dims: &[Option<usize>; 4], shown: Option<ImageLayout>, element: Element) -> Option<ImageLayout> {
    let channels = |dim: Option<usize>| dim == Some(1) || dim == Some(3);
    match (channels(dims[1]), channels(dims[3])) {
        (true, false) => Some(ImageLayout::Nchw),
        (false, true) => Some(ImageLayout::Nhwc),
        _ => shown.or(match element {
            Element::Byte if dims[1].is_none() && dims[3].is_none() => Some(ImageLayout::Nhwc),
            _ => (dims[1].is_some() && channels(dims[1])).then_some(ImageLayout::Nchw),
        }),
    }
}

#[cfg(test)]
mod tests {
    use milenas_export::onnx::Port;

    use super::*;

    fn interface(kind: DataType, dims: &[Option<usize>], layout: Option<ImageLayout>) -> Interface {
        let inputs = vec![Port { name: "x".into(), kind, dims: Some(dims.to_vec()) }];
        let (outputs, metadata, external) = (Vec::new(), Default::default(), Vec::new());
        Interface { inputs, outputs, metadata, layout, channels: None, external }
    }

    const OPEN: [Option<usize>; 4] = [None, Some(3), None, None];

    #[test]
    fn images_are_fed_in_their_layout_or_refused() {
        let sized = |size| InputHints { size, ..InputHints::default() };
        let feed = |kind, dims: &[_], hints, shown| Feed::new(&interface(kind, dims, shown), hints, "m.onnx");
        let layout = |dims: [Option<usize>; 4], shown| {
            let feed = feed(DataType::Float, &dims, sized(Some([4, 6])), shown).unwrap();
            assert_eq!(feed.image, [3, 4, 6]);
            feed.layout
        };
        assert_eq!(layout(OPEN, None), ImageLayout::Nchw);
        assert_eq!(layout([None, None, None, Some(3)], None), ImageLayout::Nhwc);
        assert_eq!(layout([None, Some(4), Some(6), Some(3)], Some(ImageLayout::Nchw)), ImageLayout::Nhwc);
        assert_eq!(layout([None; 4], Some(ImageLayout::Nhwc)), ImageLayout::Nhwc);
        let bytes = [Some(2), Some(4), Some(6), Some(1)];
        assert_eq!(feed(DataType::Uint8, &bytes, sized(None), None).unwrap().shape(2), [2, 4, 6, 1]);
        let open_size = InputHints { open_size: Some([5, 7]), ..InputHints::default() };
        assert_eq!(feed(DataType::Float16, &OPEN, open_size, None).unwrap().image, [3, 5, 7]);
        // A fixed shape overrides metadata.
        let fixed = [None, Some(3), Some(4), Some(6)];
        assert_eq!(feed(DataType::Double, &fixed, open_size, None).unwrap().image, [3, 4, 6]);
        for (kind, dims, size, expected) in [
            (DataType::Float, &OPEN[..], None, "set `size` to HxW"),
            (DataType::Float, &fixed, Some([4, 7]), "width 6, setting `size` is 7"),
            (DataType::Float, &[None; 4], Some([4, 7]), "set `layout` to nhwc if"),
            (DataType::Float, &[None, Some(12), Some(4), Some(6)], None, "layout"),
            (DataType::Int64, &OPEN, Some([4, 6]), "INT64 [?, 3, ?, ?], expected"),
            (DataType::Float, &OPEN[..3], Some([4, 6]), "[?, 3, ?], expected"),
        ] {
            let message = feed(kind, dims, sized(size), None).unwrap_err().to_string();
            assert!(message.starts_with("m.onnx: ") && message.contains(expected), "{message}");
        }
    }

    #[test]
    fn elements_are_converted_and_interleaved() {
        let images: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let feed = |layout, element| {
            let feed =
                Feed { input: "x".into(), layout, element, image: [3, 1, 2], batch: None, open: false };
            feed.pixels(images.clone().into())
        };
        let by_pixel = [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11];
        assert_eq!(feed(ImageLayout::Nhwc, Element::Byte), Pixels::Bytes(by_pixel.to_vec()));
        assert_eq!(feed(ImageLayout::Nchw, Element::Byte), Pixels::Bytes((0..12).collect()));
        let numbers = by_pixel.map(f32::from).to_vec();
        assert_eq!(feed(ImageLayout::Nhwc, Element::Float), Pixels::Floats(numbers.into()));
        let halves = (0..12).map(|i| f16::from_f32(i as f32)).collect();
        assert_eq!(feed(ImageLayout::Nchw, Element::Half), Pixels::Halves(halves));
    }
}
