//! search

pub mod fetch;
