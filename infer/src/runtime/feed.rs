//! How a runtime that takes a file as it is must be fed, and how its numbers become answers.

use milenas_export::onnx::{Interface, Port};

use super::{Kind, guarded};
use crate::answer::Answer;
use crate::{Error, Result};

/// The one input and the first output of a classifier of images.
#[derive(Clone, Debug, PartialEq)]
pub struct Feed {
    /// The name of the input.
    pub input: String,
    /// The name of the output.
    pub output: String,
    /// The input is uint8 `[N, H, W, C]`, else float `[N, C, H, W]`.
    pub bytes: bool,
    /// `[C, H, W]` of one image.
    pub image: [usize; 3],
    /// The one size of a batch, where the file has one.
    pub batch: Option<usize>,
}

/// A batch as the file takes it.
#[derive(Debug)]
pub enum Pixels<'a> {
    /// `[N, C, H, W]`.
    Floats(&'a [f32]),
    /// `[N, H, W, C]`.
    Bytes(Vec<u8>),
}

impl Feed {
    /// Of a file; `size` is what was asked for, height and width.
    ///
    /// # Errors
    /// A file that is no classifier of images, an open size without `size`, a fixed one against it.
    pub fn new(interface: &Interface, size: Option<[usize; 2]>, place: &str) -> Result<Self> {
        let refused = |problem: String| Error::Model { place: place.into(), problem };
        let ([input], Some(output)) = (&interface.inputs[..], interface.outputs.first()) else {
            let names: Vec<&str> = interface.inputs.iter().map(|port| port.name.as_str()).collect();
            let outputs = interface.outputs.len();
            return Err(refused(format!(
                "no classifier: inputs {names:?} and {outputs} outputs, expected one input and an output"
            )));
        };
        let (bytes, [channels, height, width]) = layout(input).ok_or_else(|| {
            refused(format!(
                "no classifier of images: its input `{}` is {}, expected FLOAT [N, 3 or 1, H, W], or UINT8 [N, H, W, 3 or 1]",
                input.name, shape(input)
            ))
        })?;
        let pick = |axis: &str, fixed: Option<usize>, asked: Option<usize>| match (fixed, asked) {
            (Some(fixed), Some(asked)) if fixed != asked => {
                Err(refused(format!("its input has {axis} {fixed}, --size says {asked}")))
            }
            (None, None) => Err(refused(format!(
                "its input `{}` is {}, of any {axis}. Help: --size HxW says which",
                input.name,
                shape(input)
            ))),
            (fixed, asked) => Ok(fixed.or(asked).unwrap_or_default()),
        };
        let height = pick("height", height, size.map(|s| s[0]))?;
        let width = pick("width", width, size.map(|s| s[1]))?;
        Ok(Feed {
            input: input.name.clone(),
            output: output.name.clone(),
            bytes,
            image: [channels.unwrap_or(3), height, width],
            batch: input.dims[0],
        })
    }

    /// Numbers of one image.
    pub fn len(&self) -> usize {
        self.image.iter().product()
    }

    /// False for every feed that [`Feed::new`] gives.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `[N, ...]` of a batch.
    pub fn shape(&self, batch: usize) -> [usize; 4] {
        let [c, h, w] = self.image;
        if self.bytes { [batch, h, w, c] } else { [batch, c, h, w] }
    }

    /// Calls `compute` on batches of the size that the file takes, the last filled up with zeros, and makes answers of
    /// the rows that it returns.
    ///
    /// # Errors
    /// Those of `compute`, a panic in it too; `kind` is the runtime that is named.
    pub fn answers(
        &self,
        images: &[f32],
        kind: Kind,
        mut compute: impl FnMut(Pixels, usize) -> Result<Vec<f32>>,
    ) -> Result<Vec<Answer>> {
        let size = self.batch.unwrap_or(images.len() / self.len()).max(1);
        let mut answers = Vec::with_capacity(images.len() / self.len());
        for images in images.chunks(size * self.len()) {
            let mut filled = std::borrow::Cow::Borrowed(images);
            if images.len() < size * self.len() {
                filled.to_mut().resize(size * self.len(), 0.0);
            }
            let pixels = match self.bytes {
                true => Pixels::Bytes(self.interleaved(&filled)),
                false => Pixels::Floats(&filled),
            };
            let numbers = guarded(kind, || compute(pixels, size))?;
            if numbers.is_empty() || !numbers.len().is_multiple_of(size) {
                let problem = format!("{} numbers for {size} images, expected a row for each", numbers.len());
                return Err(Error::Runtime { name: kind.name(), problem });
            }
            let rows = numbers.chunks(numbers.len() / size).take(images.len() / self.len());
            answers.extend(rows.map(|row| Answer { outputs: row.to_vec(), features: None }));
        }
        Ok(answers)
    }

    /// Whole numbers `[N, C, H, W]` of bytes, as bytes `[N, H, W, C]`.
    fn interleaved(&self, images: &[f32]) -> Vec<u8> {
        let plane = self.image[1] * self.image[2];
        let pixel = |image: &[f32], at: usize| {
            image.iter().skip(at).step_by(plane).map(|x| x.round() as u8).collect()
        };
        images
            .chunks(self.len())
            .flat_map(|image| (0..plane).flat_map(move |at| -> Vec<u8> { pixel(image, at) }))
            .collect()
    }
}

/// Whether the input takes bytes, and its channels, height and width, if it is an image of one or three channels.
fn layout(input: &Port) -> Option<(bool, [Option<usize>; 3])> {
    let channels = |c: Option<usize>| c.is_none_or(|c| c == 1 || c == 3);
    match (input.kind, &input.dims[..]) {
        // An open dimension 1 before three values is a height.
        ("FLOAT", &[_, None, _, Some(1 | 3)]) => None,
        ("FLOAT", &[_, c, h, w]) if channels(c) => Some((false, [c, h, w])),
        ("UINT8", &[_, h, w, c]) if channels(c) => Some((true, [c, h, w])),
        _ => None,
    }
}

fn shape(port: &Port) -> String {
    let dims: Vec<String> = port.dims.iter().map(|dim| dim.map_or("?".into(), |n| n.to_string())).collect();
    format!("{} [{}]", port.kind, dims.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(kind: &'static str, dims: &[Option<usize>]) -> Interface {
        let port =
            |name: &str, kind, dims: &[Option<usize>]| Port { name: name.into(), kind, dims: dims.to_vec() };
        Interface {
            inputs: vec![port("x", kind, dims)],
            outputs: vec![port("y", "FLOAT", &[None, Some(2)])],
            metadata: Default::default(),
            probabilities: false,
        }
    }

    #[test]
    fn inputs_are_images_or_refused() {
        let feed = |kind, dims: &[Option<usize>], size| Feed::new(&interface(kind, dims), size, "m.onnx");
        let open = [None, Some(3), None, None];
        assert_eq!(feed("FLOAT", &open, Some([4, 6])).unwrap().image, [3, 4, 6]);
        assert_eq!(
            feed("UINT8", &[Some(2), Some(4), Some(6), Some(1)], None).unwrap().shape(2),
            [2, 4, 6, 1]
        );
        for (kind, dims, size, expected) in [
            ("FLOAT", &open[..], None, "--size HxW"),
            ("FLOAT", &[None, Some(3), Some(4), Some(6)], Some([4, 7]), "width 6, --size says 7"),
            ("FLOAT", &[None, Some(4), Some(6), Some(3)], None, "FLOAT [?, 4, 6, 3], expected"),
            ("FLOAT", &[None, None, None, Some(3)], None, "FLOAT [?, ?, ?, 3], expected"),
            ("INT64", &open[..], Some([4, 6]), "INT64 [?, 3, ?, ?], expected"),
            ("FLOAT", &open[..3], Some([4, 6]), "[?, 3, ?], expected"),
        ] {
            let message = feed(kind, dims, size).unwrap_err().to_string();
            assert!(message.starts_with("m.onnx: ") && message.contains(expected), "{message}");
        }
    }

    #[test]
    fn batches_of_one_size_are_filled_and_bytes_interleaved() {
        let dims = [Some(2), Some(1), Some(2), Some(3)];
        let feed = Feed::new(&interface("UINT8", &dims), None, "m.onnx").unwrap();
        let images: Vec<f32> = (0..18).map(|i| i as f32).collect();
        let mut seen = Vec::new();
        let answers = feed.answers(&images, Kind::Ort, |pixels, count| {
            let Pixels::Bytes(bytes) = pixels else { panic!("{pixels:?}") };
            seen.push(bytes);
            Ok((0..2 * count).map(|i| i as f32).collect())
        });
        assert_eq!(
            seen,
            [[0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11], [12, 14, 16, 13, 15, 17, 0, 0, 0, 0, 0, 0]]
        );
        let rows: Vec<Vec<f32>> = answers.unwrap().into_iter().map(|answer| answer.outputs).collect();
        assert_eq!(rows, [[0.0, 1.0], [2.0, 3.0], [0.0, 1.0]]);
        assert!(
            feed.answers(&images, Kind::Ort, |_, _| Ok(vec![0.0]))
                .unwrap_err()
                .to_string()
                .contains("runtime ort")
        );
    }
}
