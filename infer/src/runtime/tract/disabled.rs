//! What stands for tract in a program without it.

use std::convert::Infallible;
use std::path::Path;

use crate::answer::Answer;
use crate::runtime::{Feed, Runtime};
use crate::{Error, Result};

/// Never made.
pub struct Tract(Infallible);

impl Tract {
    /// On a file.
    ///
    /// # Errors
    /// Always.
    pub fn new(_: &Path, _: Feed) -> Result<Self> {
        let problem =
            "this program was built without it. Help: `cargo install --path infer --features tract`";
        Err(Error::Unavailable { name: "tract", problem: problem.into() })
    }
}

impl Runtime for Tract {
    fn run(&self, _: &[f32], _: usize) -> Result<Vec<Answer>> {
        match self.0 {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_how_to_get_it() {
        let (input, output) = ("x".into(), "y".into());
        let feed = Feed { input, output, bytes: false, image: [3, 4, 4], batch: None };
        let error = Tract::new(Path::new("model.onnx"), feed).err().unwrap().to_string();
        assert!(error.contains("cargo install --path infer --features tract"), "{error}");
    }
}
