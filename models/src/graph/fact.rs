//! The shape of a wire. Every wire is f32, and only the batch dimension may be symbolic.

use std::fmt;

/// A dimension of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// The number of images, which is chosen when the graph is run.
    Batch,
    /// A size that is known when the graph is built.
    Fixed(usize),
}

impl Dim {
    /// Returns the size, if known.
    pub fn fixed(self) -> Option<usize> {
        match self {
            Dim::Batch => None,
            Dim::Fixed(n) => Some(n),
        }
    }
}

/// The shape of a wire.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fact(Vec<Dim>);

impl Fact {
    /// Returns a shape of any rank.
    pub fn new(dims: Vec<Dim>) -> Self {
        Fact(dims)
    }

    /// Returns `[N, channels, height, width]`.
    pub fn image(channels: usize, height: usize, width: usize) -> Self {
        Fact::batched(&[channels, height, width])
    }

    /// Returns `[N, sizes...]`.
    pub fn batched(sizes: &[usize]) -> Self {
        Fact(std::iter::once(Dim::Batch).chain(sizes.iter().map(|&n| Dim::Fixed(n))).collect())
    }

    /// Returns a shape without a symbolic dimension.
    pub fn fixed(sizes: &[usize]) -> Self {
        Fact(sizes.iter().map(|&n| Dim::Fixed(n)).collect())
    }

    /// Returns the dimensions, outermost first.
    pub fn dims(&self) -> &[Dim] {
        &self.0
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// Returns `(channels, height, width)` of a rank-4 wire with known image dimensions.
    pub fn chw(&self) -> Option<(usize, usize, usize)> {
        match self.0[..] {
            [_, Dim::Fixed(c), Dim::Fixed(h), Dim::Fixed(w)] => Some((c, h, w)),
            _ => None,
        }
    }

    /// Returns the number of elements of one image: the product of the fixed dimensions, or `None` if it exceeds
    /// `usize`.
    pub fn volume(&self) -> Option<usize> {
        self.0.iter().filter_map(|d| d.fixed()).try_fold(1usize, usize::checked_mul)
    }

    /// Whether a tensor of this size fits the wire.
    pub fn accepts(&self, sizes: &[usize]) -> bool {
        self.rank() == sizes.len() && self.0.iter().zip(sizes).all(|(d, &n)| d.fixed().is_none_or(|m| m == n))
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims = self.0.iter().map(|d| d.fixed().map_or("N".into(), |n| n.to_string()));
        write!(f, "[{}]", dims.collect::<Vec<_>>().join(", "))
    }
}
