//! A random sample of the texts in the workspace, to be judged without the code beside them.
//!
//! A text is a block of comments, the message of an error, or a string of the command line that
//! has several words. Each has the same weight, so a rare turn shows up as often as it is read.

use std::fmt;

use super::sources::{Source, comment};
use crate::moments::Rng;

/// Shorter strings of the command line are names and separators.
const WORDS_MIN: usize = 3;

/// A text and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    path: String,
    /// Line number, from 1.
    line: usize,
    text: String,
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path, self.line)?;
        self.text.lines().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

/// At most `count` texts of the sources. The same seed gives the same texts.
pub(super) fn draw(sources: &[Source], count: usize, seed: u64) -> Vec<Text> {
    let mut texts = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        let mut found = comments(source);
        found.extend(messages(source));
        found.retain(|(_, text)| text.contains(char::is_lowercase));
        found.sort();
        let placed = |(line, text)| Text { path: source.path.clone(), line, text };
        texts.extend(found.into_iter().map(placed));
    }
    Rng(seed).sample(texts, count)
}

/// Blocks of comments without their slashes; a comment after code is a block.
fn comments(source: &Source) -> Vec<(usize, String)> {
    let mut blocks: Vec<(usize, String)> = Vec::new();
    // The slashes of the block that the next line can continue.
    let mut open = None;
    for (number, line) in source.lines() {
        let Some(full) = comment(line) else {
            open = None;
            continue;
        };
        let end = full.find(|c| c != '/' && c != '!').unwrap_or(full.len());
        let (slashes, text) = full.split_at(end);
        let is_alone = line.trim_start() == full;
        match blocks.last_mut() {
            Some((_, block)) if is_alone && open == Some(slashes) => {
                block.push('\n');
                block.push_str(text.trim());
            }
            _ => blocks.push((number, text.trim().to_owned())),
        }
        open = is_alone.then_some(slashes);
    }
    blocks
}

/// Messages of errors, and in the program every string of several words; without tests.
fn messages(source: &Source) -> Vec<(usize, String)> {
    let is_program = source.path.starts_with("cli/src/") && !source.is_test_file();
    let code: Vec<&str> = source.code().map(|(_, line)| line).collect();
    let code = code.join("\n");
    let mut found = literals(&code);
    found.retain(|(before, _, text)| {
        before.ends_with("#[error(") || is_program && text.split_whitespace().count() >= WORDS_MIN
    });
    found.into_iter().map(|(_, line, text)| (line, text)).collect()
}

/// The string literals of code, each with the code before it and its line. `\"` stays escaped.
fn literals(code: &str) -> Vec<(&str, usize, String)> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if code[at..].starts_with("//") {
            at += code[at..].find('\n').unwrap_or(code.len() - at);
        } else if code[at..].starts_with("'\"'") {
            at += 3;
        } else if bytes[at] == b'"' {
            let hashes = bytes[..at].iter().rev().take_while(|byte| **byte == b'#').count();
            let is_raw = bytes[..at - hashes].last() == Some(&b'r');
            let end = end_of_literal(code, at + 1, is_raw.then_some(hashes));
            let line = 1 + code[..at].matches('\n').count();
            // A backslash at the end of a line joins it with the next one.
            let mut parts = code[at + 1..end].split("\\\n");
            let mut text = parts.next().unwrap_or_default().to_owned();
            parts.for_each(|part| text.push_str(part.trim_start()));
            found.push((code[..at].trim_end(), line, text.trim().to_owned()));
            at = end + 1;
        } else {
            at += 1;
            while !code.is_char_boundary(at) {
                at += 1;
            }
        }
    }
    found
}

/// Where a literal that begins at `start` has its closing quote; `raw` is the number of hashes.
fn end_of_literal(code: &str, start: usize, raw: Option<usize>) -> usize {
    if let Some(hashes) = raw {
        let close = format!("\"{}", "#".repeat(hashes));
        return code[start..].find(&close).map_or(code.len(), |end| start + end);
    }
    let mut escaped = false;
    for (offset, c) in code[start..].char_indices() {
        match c {
            '"' if !escaped => return start + offset,
            _ => escaped = c == '\\' && !escaped,
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    fn texts(path: &str, text: &str) -> Vec<(usize, String)> {
        let all = draw(&[source(path, text)], usize::MAX, 0);
        all.into_iter().map(|text| (text.line, text.text)).collect()
    }

    fn lines(found: &[(usize, String)]) -> Vec<(usize, &str)> {
        found.iter().map(|(line, text)| (*line, text.as_str())).collect()
    }

    #[test]
    fn a_block_of_comments_is_one_text_and_a_comment_after_code_another() {
        let text = "//! Head,\n//! twice.\n\n/// Doc.\n// Why.\nlet a = 1; // one\n// Below.\n// FAILURES 12\n\n// LAW\n";
        let expected =
            [(1, "Head,\ntwice."), (4, "Doc."), (5, "Why."), (6, "one"), (7, "Below.\nFAILURES 12")];
        assert_eq!(lines(&texts("a/src/b.rs", text)), expected);
    }

    #[test]
    fn messages_of_errors_and_strings_of_the_program_are_texts() {
        let text = "#[error(\"no {0}\")]\nlet a = \"of four \\\n    words\\\"s here\";\nlet b = '\"'; f(r#\"a \"b\" c\"#);\n\
            #[cfg(test)]\nlet d = \"not of the tests\";\n";
        assert_eq!(lines(&texts("wal/src/e.rs", text)), [(1, "no {0}")]);
        let expected = [(1, "no {0}"), (2, "of four words\\\"s here"), (4, "a \"b\" c")];
        assert_eq!(lines(&texts("cli/src/e.rs", text)), expected);
        assert_eq!(lines(&texts("wal/README.md", text)), []);
    }

    #[test]
    fn the_seed_decides_which_texts_and_the_count_how_many() {
        let text: String = (0..50).map(|n| format!("// text {n}\n\n")).collect();
        let sources = [source("a/src/b.rs", &text)];
        assert_eq!(draw(&sources, 10, 1), draw(&sources, 10, 1));
        assert_ne!(draw(&sources, 10, 1), draw(&sources, 10, 2));
        assert_eq!(draw(&sources, 10, 1).len(), 10);
        assert_eq!(draw(&sources, 20, 1).len(), 20);
        assert_eq!(draw(&sources, 99, 1).len(), 50, "all there are");
    }
}
