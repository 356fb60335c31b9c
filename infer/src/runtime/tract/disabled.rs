//! Replacement for tract in a build without it.

use std::convert::Infallible;
use std::path::Path;

use crate::runtime::library::{Library, RawOutput};
use crate::runtime::{Feed, Pixels, RuntimeKind};
use crate::{Error, Result};

/// Runtime that cannot be constructed.
pub struct Tract(Infallible);

impl Tract {
    /// Refuses every file.
    ///
    /// # Errors
    /// [`Error::Unavailable`], always.
    pub fn new(_: &Path, _: &mut Feed, _: usize) -> Result<Self> {
        let problem = "this program was built without it. help: build it with the cargo feature `tract`";
        Err(Error::Unavailable { name: "tract", problem: problem.into() })
    }
}

impl Library for Tract {
    fn kind(&self) -> RuntimeKind {
        match self.0 {}
    }

    fn compute(&self, _: &Feed, _: Pixels, _: usize) -> Result<RawOutput> {
        match self.0 {}
    }
}

#[cfg(test)]
mod tests {
    use milenas_export::onnx::ImageLayout;

    use super::*;
    use crate::runtime::feed::Element;

    #[test]
    fn it_says_how_to_get_it() {
        let (layout, element) = (ImageLayout::Nchw, Element::Float);
        let mut feed =
            Feed { input: "x".into(), layout, element, image: [3, 4, 4], batch: None, open: false };
        let error = Tract::new(Path::new("model.onnx"), &mut feed, 0).err().unwrap().to_string();
        assert!(error.contains("the cargo feature `tract`"), "{error}");
    }
}
