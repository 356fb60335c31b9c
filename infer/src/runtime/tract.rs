//! tract if this program was built with it, otherwise a replacement whose error explains how to get it.

#[cfg(any(not(feature = "tract"), test))]
mod disabled;
#[cfg(feature = "tract")]
mod enabled;

#[cfg(not(feature = "tract"))]
pub use disabled::Tract;
#[cfg(feature = "tract")]
pub use enabled::Tract;
