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
