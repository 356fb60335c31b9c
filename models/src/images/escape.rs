//! Conversion of names of arbitrary bytes to text.
//!
//! Bytes that are not UTF-8 become `\xE8`, with two upper-case hexadecimal digits per byte. If a name contains such a
//! sequence literally, its backslash becomes `\x5C`. Other names do not change, so two names never become the same
//! text. Replacing each `\xHH` by its byte restores the name.

use std::path::Path;

/// Returns the text for the bytes of a name.
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let mut valid = chunk.valid();
        while let Some(at) = valid.find("\\x") {
            let literal =
                valid.as_bytes().get(at + 2..at + 4).is_some_and(|digits| digits.iter().all(is_digit));
            text.push_str(&valid[..at]);
            text.push_str(if literal { "\\x5C" } else { "\\" });
            valid = &valid[at + 1..];
        }
        text.push_str(valid);
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02X}")));
    }
    text
}

fn is_digit(byte: &u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'A'..=b'F')
}

/// Returns the text for a path.
#[cfg(unix)]
pub fn path_name(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    escaped(path.as_os_str().as_bytes())
}

/// Returns the text for a path.
#[cfg(not(unix))]
pub fn path_name(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unescaped(text: &str) -> Vec<u8> {
        let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
        while at < bytes.len() {
            match &bytes[at..] {
                [b'\\', b'x', high, low, ..] if is_digit(high) && is_digit(low) => {
                    out.push(u8::from_str_radix(&text[at + 2..at + 4], 16).unwrap());
                    at += 4;
                }
                rest => {
                    out.push(rest[0]);
                    at += 1;
                }
            }
        }
        out
    }

    #[test]
    fn plain_names_do_not_change() {
        for name in ["pièce.png", "a\\b", "C:\\xy.png", "\\xe8", "\\x", "line\nfeed"] {
            assert_eq!(escaped(name.as_bytes()), name);
        }
        assert_eq!(escaped(b"pi\xe8ce.png"), "pi\\xE8ce.png");
        assert_eq!(escaped(b"pi\\xE8ce.png"), "pi\\x5CxE8ce.png");
    }

    proptest! {
        #[test]
        fn bytes_come_back(bytes in prop::collection::vec(prop_oneof![Just(b'\\'), Just(b'x'), Just(b'E'), Just(b'8'), any::<u8>()], 0..24)) {
            prop_assert_eq!(unescaped(&escaped(&bytes)), bytes);
        }
    }
}
