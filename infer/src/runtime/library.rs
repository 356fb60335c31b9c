//! Runs a library on a file in batches that the file accepts, and converts its output to rows of scores.

use std::borrow::Cow;

use rayon::prelude::*;

use super::{Feed, Pixels, Runtime, RuntimeKind, guarded};
use crate::answer::Answer;
use crate::{Error, Result};

/// Largest difference between two computations of the same image, relative to the largest score. Quantisation
/// with a range that depends on the batch changes scores by about 1 %.
const SAME: f32 = 0.05;

/// Library with a loaded file.
pub trait Library: Send + Sync {
    /// Returns the kind of the runtime.
    fn kind(&self) -> RuntimeKind;

    /// Computes the output of one batch.
    ///
    /// # Errors
    /// [`Error::Runtime`] with the message of the library.
    fn compute(&self, feed: &Feed, pixels: Pixels, batch: usize) -> Result<RawOutput>;

    /// Returns whether batches are computed in parallel, because the library itself uses one thread.
    fn side_by_side(&self) -> bool {
        false
    }
}

/// Output of a library.
#[derive(Clone, Debug, PartialEq)]
pub struct RawOutput {
    /// Shape.
    pub dims: Vec<usize>,
    /// Elements in row-major order.
    pub values: Vec<f32>,
}

impl RawOutput {
    /// Returns one row of scores for each of `batch` images. The output is `[N, classes]`, possibly with more
    /// dimensions of size 1.
    fn rows(&self, batch: usize) -> std::result::Result<Vec<Vec<f32>>, String> {
        let by_image = batch == 1 || self.dims.first() == Some(&batch);
        let inner = if batch == 1 { &self.dims[..] } else { self.dims.get(1..).unwrap_or_default() };
        let flat = inner.iter().filter(|&&n| n > 1).count() <= 1;
        let whole = !self.values.is_empty() && self.values.len().is_multiple_of(batch);
        match by_image && flat && whole {
            true => Ok(self.values.chunks(self.values.len() / batch).map(<[f32]>::to_vec).collect()),
            false => {
                Err(format!("its output is {:?} for {batch} images, expected [{batch}, classes]", self.dims))
            }
        }
    }
}

/// File loaded in a library, with its feed.
pub struct LibraryRuntime {
    library: Box<dyn Library>,
    feed: Feed,
}

impl LibraryRuntime {
    /// Wraps a loaded file with its feed.
    pub fn new(library: impl Library + 'static, feed: Feed) -> Self {
        LibraryRuntime { library: Box::new(library), feed }
    }

    /// Computes the rows of two different images `[2, C, H, W]`, one by one. If the file accepts any batch
    /// size, also computes both together. If that fails or gives other scores, the file has a hidden fixed
    /// batch. All later images are then computed one by one, and the reason is returned.
    ///
    /// # Errors
    /// [`Error::Runtime`] from the library; [`Error::Model`] for an output without a row of scores per image.
    pub fn probe(&mut self, images: &[f32], place: &str) -> Result<(Vec<Vec<f32>>, Option<String>)> {
        let size = self.feed.batch.unwrap_or(1);
        let mut rows = Vec::new();
        for image in images.chunks(self.feed.len()) {
            let refused = |problem| Error::Model { place: place.into(), problem };
            rows.push(self.compute(image, size)?.rows(size).map_err(refused)?.swap_remove(0));
        }
        if self.feed.batch.is_some() {
            return Ok((rows, None));
        }
        let together = self.compute(images, rows.len()).map_err(|e| e.to_string());
        let reason = match together.and_then(|raw| raw.rows(rows.len())) {
            Ok(together) if together.iter().zip(&rows).all(|(a, b)| is_same(a, b)) => {
                return Ok((rows, None));
            }
            Ok(_) => "scores depend on the other images of a batch".into(),
            Err(reason) => reason,
        };
        self.feed.batch = Some(1);
        Ok((rows, Some(reason)))
    }

    fn compute(&self, images: &[f32], size: usize) -> Result<RawOutput> {
        let length = size * self.feed.len();
        let mut filled = Cow::Borrowed(images);
        if images.len() < length {
            filled.to_mut().resize(length, 0.0);
        }
        let pixels = self.feed.pixels(filled);
        guarded(self.library.kind(), || self.library.compute(&self.feed, pixels, size))
    }

    /// Computes the answers of one batch. A smaller batch is filled up with zeros.
    fn batch(&self, images: &[f32], size: usize) -> Result<Vec<Answer>> {
        let failed = |problem| Error::Runtime { name: self.library.kind().name(), problem };
        let rows = self.compute(images, size)?.rows(size).map_err(failed)?;
        let rows = rows.into_iter().take(images.len() / self.feed.len());
        Ok(rows.map(|outputs| Answer { outputs, features: None }).collect())
    }
}

impl Runtime for LibraryRuntime {
    fn run(&self, images: &[f32], batch: usize) -> Result<Vec<Answer>> {
        let size = self.feed.batch.unwrap_or(batch).max(1);
        let chunk = size * self.feed.len();
        let answers: Result<Vec<Vec<Answer>>> = match self.library.side_by_side() {
            true => images.par_chunks(chunk).map(|images| self.batch(images, size)).collect(),
            false => images.chunks(chunk).map(|images| self.batch(images, size)).collect(),
        };
        Ok(answers?.concat())
    }
}

fn is_same(a: &[f32], b: &[f32]) -> bool {
    let largest = a.iter().chain(b).filter(|x| x.is_finite()).fold(0f32, |most, x| most.max(x.abs()));
    let close = |(a, b): (&f32, &f32)| !a.is_finite() || !b.is_finite() || (a - b).abs() <= SAME * largest;
    a.len() == b.len() && a.iter().zip(b).all(close)
}

#[cfg(test)]
mod tests {
    use milenas_export::onnx::ImageLayout;

    use super::super::feed::Element;
    use super::*;

    /// Library that returns sums of the images, with shape and elements changed by a function.
    struct Sums(fn(usize, Vec<f32>) -> Result<RawOutput>);

    impl Library for Sums {
        fn kind(&self) -> RuntimeKind {
            RuntimeKind::Ort
        }

        fn compute(&self, feed: &Feed, pixels: Pixels, batch: usize) -> Result<RawOutput> {
            let Pixels::Floats(x) = pixels else { panic!("{pixels:?}") };
            assert_eq!(x.len(), batch * feed.len());
            (self.0)(batch, x.chunks(feed.len()).flat_map(|x| [x.iter().sum(), x[0]]).collect())
        }
    }

    fn runtime_with(batch: Option<usize>, rule: fn(usize, Vec<f32>) -> Result<RawOutput>) -> LibraryRuntime {
        let (layout, element) = (ImageLayout::Nchw, Element::Float);
        LibraryRuntime::new(
            Sums(rule),
            Feed { input: "x".into(), layout, element, image: [1, 1, 3], batch, open: false },
        )
    }

    const IMAGES: [f32; 6] = [1.0, 2.0, 3.0, 10.0, 20.0, 30.0];

    #[test]
    fn rows_are_taken_as_the_shape_says() {
        let plain = |batch: usize, values: Vec<f32>| Ok(RawOutput { dims: vec![batch, 2], values });
        let deep = |batch: usize, values: Vec<f32>| Ok(RawOutput { dims: vec![batch, 1, 2, 1], values });
        for rule in [plain, deep] {
            let mut runtime = runtime_with(None, rule);
            assert_eq!(runtime.probe(&IMAGES, "m").unwrap(), (vec![vec![6.0, 1.0], vec![60.0, 10.0]], None));
            assert_eq!(runtime.run(&IMAGES, 2).unwrap()[1].outputs, [60.0, 10.0]);
        }
    }

    #[test]
    fn a_batch_of_one_size_is_filled_up() {
        let mut runtime =
            runtime_with(Some(4), |batch, values| Ok(RawOutput { dims: vec![batch, 2], values }));
        assert_eq!(runtime.probe(&IMAGES, "m").unwrap().0[1], [60.0, 10.0]);
        let rows: Vec<_> =
            runtime.run(&IMAGES, 2).unwrap().into_iter().map(|answer| answer.outputs).collect();
        assert_eq!(rows, [[6.0, 1.0], [60.0, 10.0]]);
    }

    /// Three cases: a reshape to `[1, -1]`, transposed rows and columns, and a result that mixes images.
    #[test]
    fn images_of_a_file_that_fixes_its_batch_are_computed_one_by_one() {
        let baked = |batch: usize, values: Vec<f32>| Ok(RawOutput { dims: vec![1, 2 * batch], values });
        let columns = |batch: usize, values: Vec<f32>| {
            let values = (0..2 * batch).map(|i| values[i % batch * 2 + i / batch]).collect();
            Ok(RawOutput { dims: vec![2, batch], values })
        };
        let mixed = |batch: usize, mut values: Vec<f32>| {
            values.reverse();
            if batch == 1 {
                values.reverse();
            }
            Ok(RawOutput { dims: vec![batch, 2], values })
        };
        let failing = |batch: usize, values: Vec<f32>| match batch {
            1 => Ok(RawOutput { dims: vec![1, 2], values }),
            _ => Err(Error::Runtime { name: "ort", problem: "no".into() }),
        };
        for rule in [baked, columns, mixed, failing] {
            let mut runtime = runtime_with(None, rule);
            let (rows, reason) = runtime.probe(&IMAGES, "m").unwrap();
            assert_eq!(rows, [[6.0, 1.0], [60.0, 10.0]]);
            assert!(reason.is_some());
            assert_eq!(runtime.run(&IMAGES, 2).unwrap()[1].outputs, [60.0, 10.0]);
        }
    }

    #[test]
    fn maps_and_sequences_are_no_scores() {
        for dims in [vec![1, 2, 2, 2], vec![1, 2, 4]] {
            let raw = RawOutput { values: vec![0.0; dims.iter().product()], dims };
            assert!(raw.rows(1).unwrap_err().contains("expected [1, classes]"));
        }
    }
}
