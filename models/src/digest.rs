//! Text form of digests.

/// Returns the hexadecimal text of a digest, two digits per byte.
pub fn hexadecimal(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
