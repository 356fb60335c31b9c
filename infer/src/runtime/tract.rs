//! tract, when this program was built with it; else the error that says how.

#[cfg(any(not(feature = "tract"), test))]
mod disabled;
#[cfg(feature = "tract")]
mod enabled;

#[cfg(not(feature = "tract"))]
pub use disabled::Tract;
#[cfg(feature = "tract")]
pub use enabled::Tract;
