//! Rules on single lines: forbidden calls, long comments, long files, words that make a sentence
//! hard to read.

use std::fs;
use std::path::Path;

use super::Finding;
use super::sources::{Source, comment};
use crate::Result;

const COLUMNS_MAX: usize = 100;
const LINES_MAX: usize = 600;
/// Calls that only `pitr-vfs` may make: all other code gets them from an `Env`.
const CALLS: [&str; 7] = [
    "SystemTime::now",
    "Instant::now",
    "thread::sleep",
    "std::fs",
    "getrandom::",
    "thread::spawn",
    "thread::Builder",
];
/// Folders that may call the operating system: `pitr-vfs` itself, the engine for folders, and the
/// program, which talks to a user and not to a simulation.
const FREE_TO_CALL: [&str; 3] = ["vfs", "engines/directory", "cli"];

pub(super) fn check(root: &Path, sources: &[Source]) -> Result<Vec<Finding>> {
    let words = fs::read_to_string(root.join("xtask/tidy/words.txt"))?;
    let words: Vec<&str> = words.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let mut findings = Vec::new();
    for source in sources {
        let mut found = |rule, line, what| {
            findings.push(Finding { rule, path: source.path.clone(), line, what });
        };
        if source.is_rust() {
            let lines = source.lines().count();
            if lines > LINES_MAX {
                found("length", 0, format!("{lines} lines, {LINES_MAX} at most"));
            }
        }
        for (number, line) in source.lines() {
            let columns = line.chars().count();
            if source.is_rust() && comment(line).is_some() && columns > COLUMNS_MAX {
                found("columns", number, format!("a comment of {columns} columns"));
            }
            let lower = line.to_lowercase();
            for word in words.iter().filter(|word| holds(&lower, word)) {
                found("words", number, format!("`{word}`"));
            }
        }
        if source.is_published() && !FREE_TO_CALL.contains(&source.folder()) {
            for (number, line) in source.code().filter(|(_, line)| comment(line).is_none()) {
                for call in CALLS.iter().filter(|call| line.contains(*call)) {
                    found("calls", number, format!("`{call}` outside of pitr-vfs"));
                }
            }
        }
    }
    Ok(findings)
}

/// True if a lower-case line contains the words, except as part of longer words.
fn holds(line: &str, words: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(words).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + words.len()..]);
        !is_part(before.chars().next_back()) && !is_part(after.chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_whole_words() {
        assert!(holds("// it is renewed, he says", "he"));
        assert!(!holds("the others", "he") && !holds("he_llo", "he") && !holds("", "he"));
        assert!(holds("of the two words here", "two words"));
    }

    #[test]
    fn a_comment_is_told_from_a_string() {
        assert_eq!(comment("    /// Of a thing."), Some("/// Of a thing."));
        assert_eq!(comment("let x = 1; // why"), Some("// why"));
        assert_eq!(comment(r#"let x = "a // b";"#), None);
    }
}
