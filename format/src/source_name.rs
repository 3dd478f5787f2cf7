//! Names of sources.

use std::{error, fmt};

/// Maximum number of characters of a name.
const CHARS_MAX: usize = 64;

/// Name of a source within a repository.
///
/// A name has 1 to 64 characters and at most 255 bytes. It consists of letters, digits and signs of
/// any script, and of `.`, `_`, `-`. It does not start with a dot or a dash.
///
/// The name becomes one segment of an object's path, byte for byte. A name therefore contains no
/// separator, no space, no other ASCII punctuation, and no control or invisible character. Names
/// are neither normalised nor case-folded: two names that differ in any byte are two sources.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName(String);

/// A source name that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceNameError(pub String);

impl fmt::Display for SourceNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "source name {:?} is not allowed: use 1 to 64 letters, digits, dots, dashes and underscores (at most 255 bytes), not starting with a dot or a dash",
            self.0
        )
    }
}

impl error::Error for SourceNameError {}

impl SourceName {
    /// Maximum length of a name, bytes. The name becomes a folder name, and file systems allow 255
    /// bytes.
    pub const BYTES_MAX: usize = 255;

    /// Creates a name, if `name` is allowed.
    pub fn new(name: &str) -> Result<Self, SourceNameError> {
        let begins = name.starts_with(|c| is_allowed(c) && !matches!(c, '.' | '-'));
        let fits = name.len() <= Self::BYTES_MAX && name.chars().count() <= CHARS_MAX;
        if begins && fits && name.chars().all(is_allowed) {
            Ok(SourceName(name.to_owned()))
        } else {
            Err(SourceNameError(name.to_owned()))
        }
    }

    /// Derives a name from any text. Characters that are not allowed become `_`, and the result is
    /// cut to the maximum length. Returns `None` if nothing remains. Different texts can give the
    /// same name.
    #[must_use]
    pub fn from_lossy(text: &str) -> Option<Self> {
        let mut name = String::new();
        let chars = text.chars().map(|c| if is_allowed(c) { c } else { '_' });
        for c in chars.skip_while(|c| matches!(c, '.' | '-')).take(CHARS_MAX) {
            if name.len() + c.len_utf8() > Self::BYTES_MAX {
                break;
            }
            name.push(c);
        }
        SourceName::new(&name).ok()
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Of ASCII, the characters that every file system and object store accepts. Of other scripts,
/// everything visible, and combining marks: without these, names of many scripts would lose
/// letters.
fn is_allowed(c: char) -> bool {
    match c.is_ascii() {
        true => c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'),
        false => !c.is_control() && !c.is_whitespace() && !is_invisible(c),
    }
}

/// Unicode's format characters and separators, by range: soft hyphens, zero-width and bidirectional
/// controls, tags. A name with such a character would look like another name.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{ffff}' | '\u{e0000}'..='\u{e0fff}')
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn source_names_cannot_leave_their_folder() {
        let (long, wide) = ("x".repeat(65), "𝒳".repeat(64));
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "-x",
            ".hidden",
            "a b",
            "a\\b",
            "a:b",
            "日\u{3000}本",
            &long,
            &wide,
        ] {
            assert!(SourceName::new(bad).is_err(), "{bad}");
        }
        for good in ["app", "app.db", "_", "A-1_2.x"] {
            assert_eq!(SourceName::new(good).unwrap().as_str(), good);
        }
        assert_eq!(SourceName::from_lossy("../my db.sqlite").unwrap().as_str(), "_my_db.sqlite");
        assert_eq!(SourceName::from_lossy("..."), None);
    }

    #[test]
    fn from_lossy_keeps_the_letters_of_any_script() {
        // FAILURES 50: two names must not become one.
        for name in ["日本", "数据", "läden", "база", "हिन्दी", "e\u{301}te\u{301}", "été", "𝒳"]
        {
            assert_eq!(SourceName::from_lossy(name).unwrap().as_str(), name);
        }
        let cut = SourceName::from_lossy(&"𝒳".repeat(64)).unwrap();
        assert_eq!(cut.as_str(), "𝒳".repeat(63), "cut to the 255 bytes of a folder name");
    }

    #[test]
    fn invisible_characters_are_refused() {
        for hidden in
            ["a\u{200b}b", "a\u{202e}b", "a\u{feff}", "a\u{7f}", "a\u{85}b", "a\u{2028}b", "a\nb", "a\0"]
        {
            assert!(SourceName::new(hidden).is_err(), "{hidden:?}");
            assert!(SourceName::from_lossy(hidden).unwrap().as_str().contains('_'), "{hidden:?}");
        }
    }

    proptest! {
        #[test]
        fn from_lossy_always_gives_a_valid_name(text: String) {
            if let Some(name) = SourceName::from_lossy(&text) {
                prop_assert_eq!(SourceName::new(name.as_str()).unwrap(), name.clone());
                let inside = |c: char| c != '/' && c != '\\' && !c.is_control();
                prop_assert!(name.as_str().len() <= 255 && name.as_str().chars().all(inside));
            }
        }
    }
}
