//! Shell quoting of commands that are printed for the user.

use std::path::Path;

/// Quotes a word so that a shell takes it literally.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%,=".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// Quotes a path like [`quoted`], in a form that programs do not take for an option.
pub fn path(path: &Path) -> String {
    let text = path.display().to_string();
    if text.starts_with('-') { quoted(&format!("./{text}")) } else { quoted(&text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("/runs/a-1_b.c"), "/runs/a-1_b.c");
        assert_eq!(path(Path::new("-a b")), "'./-a b'");
        for word in ["sp ace", "it's", "$HOME", "a;b", "*", ""] {
            let printed = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", quoted(word))])
                .output();
            assert_eq!(String::from_utf8(printed.unwrap().stdout).unwrap(), word);
        }
    }
}
