//! Laws and failures: each number that a comment cites exists, and docs/failures.md lists the tests of each.
//!
//! A test covers a failure if a comment in it, or right above it, says `FAILURES n`. The head of a file of tests
//! covers it with the whole file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::Finding;
use super::sources::{Source, comment};
use crate::Result;

const FAILURES: &str = "docs/failures.md";
const LAWS: &str = "docs/laws.md";
/// First word of the line that lists the tests of a failure.
const TESTS: &str = "Tests: ";
/// Begins that line of a failure that has no test yet. The text after it names the reason.
const PENDING: &str = "Pending: ";

pub(super) fn check(root: &Path, sources: &[Source], update: bool) -> Result<Vec<Finding>> {
    let path = root.join(FAILURES);
    let page = fs::read_to_string(&path)?;
    let (laws, failures) = (numbers(&fs::read_to_string(root.join(LAWS))?), numbers(&page));
    let mut findings = Vec::new();
    let mut tests: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    for source in sources.iter().filter(|source| source.is_rust() && !source.path.contains("/tidy")) {
        for (line, word, number, test) in citations(source) {
            let known = if word == "law" { &laws } else { &failures };
            if !known.contains(&number) {
                let what = format!("{word} {number} is in no list");
                findings.push(Finding { rule: "citations", path: source.path.clone(), line, what });
            } else if let Some(test) = test.filter(|_| word == "failure") {
                tests.entry(number).or_default().insert(test);
            }
        }
    }
    let written = with_tests(&page, &tests);
    if update {
        fs::write(&path, &written)?;
    } else if written != page {
        let what =
            "the lists of tests are not what the tests cite: run `cargo xtask tidy --update`".to_owned();
        findings.push(Finding { rule: "citations", path: FAILURES.to_owned(), line: 0, what });
    }
    for (line, text) in written.lines().enumerate() {
        if let Some(waits) = text.strip_prefix(PENDING) {
            let (line, what) = (line + 1, format!("a failure without a test, which waits for {waits}"));
            findings.push(Finding { rule: "pending", path: FAILURES.to_owned(), line, what });
        }
    }
    Ok(findings)
}

/// The numbers of a page's items: lines that begin with `### n. `.
fn numbers(page: &str) -> BTreeSet<u32> {
    page.lines().filter_map(item).collect()
}

fn item(line: &str) -> Option<u32> {
    line.strip_prefix("### ")?.split_once(". ")?.0.parse().ok()
}

/// The page with the current tests of each failure.
fn with_tests(page: &str, tests: &BTreeMap<u32, BTreeSet<String>>) -> String {
    let mut current = None;
    let mut written = String::new();
    for line in page.lines() {
        current = item(line).or(current);
        let of = current.and_then(|number| tests.get(&number));
        match of {
            Some(tests) if line.starts_with(TESTS) || line.starts_with(PENDING) => {
                let tests: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
                written.push_str(TESTS);
                written.push_str(&tests.join(", "));
            }
            None if line.starts_with(TESTS) => written.push_str("Pending: a test."),
            _ => written.push_str(line),
        }
        written.push('\n');
    }
    written
}

/// Line, `law` or `failure`, number, and the test that contains the citation, if any.
fn citations(source: &Source) -> Vec<(usize, &'static str, u32, Option<String>)> {
    let mut found = Vec::new();
    let mut in_tests = source.is_test_file();
    let mut test: Option<String> = None;
    let lines: Vec<&str> = source.text.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        in_tests |= line.trim() == "#[cfg(test)]";
        if let Some(name) = function(line) {
            test = is_test(&lines[..number]).then(|| name.to_owned());
        }
        let Some(text) = comment(line) else { continue };
        let whole = text.starts_with("//!") && source.is_test_file();
        let above = || next_test(&lines[number..]);
        let place = match (in_tests, whole) {
            (true, true) => Some(source.path.clone()),
            (true, false) => above().or_else(|| test.clone()).map(|test| format!("{} {test}", source.path)),
            (false, _) => None,
        };
        for (word, cited) in cited(text) {
            found.push((number + 1, word, cited, place.clone()));
        }
    }
    found
}

/// The name of the function that begins in a line.
fn function(line: &str) -> Option<&str> {
    let rest = line.trim_start();
    let rest = rest.strip_prefix("pub(crate) ").or(rest.strip_prefix("pub ")).unwrap_or(rest);
    let name = rest.strip_prefix("fn ")?;
    name.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

/// True if the lines before a function make it a test.
fn is_test(before: &[&str]) -> bool {
    let attached = before.iter().rev().take_while(|line| {
        let line = line.trim_start();
        line.starts_with('#') || line.starts_with("//")
    });
    attached.into_iter().any(|line| line.trim() == "#[test]")
}

/// The test whose comments and attributes begin on this line.
fn next_test(lines: &[&str]) -> Option<String> {
    let attached = |line: &&&str| line.trim_start().starts_with("//") || line.trim_start().starts_with('#');
    let count = lines.iter().take_while(attached).count();
    let has_attribute = lines[..count].iter().any(|line| line.trim() == "#[test]");
    has_attribute.then(|| function(lines.get(count)?).map(str::to_owned)).flatten()
}

/// The laws and failures that a comment cites: `law 3`, `laws 1 and 2`, `FAILURES 5, 6 and 45`, `FAILURES 8 to 10`.
fn cited(text: &str) -> Vec<(&'static str, u32)> {
    let mut found = Vec::new();
    for (key, word) in [("FAILURES ", "failure"), ("law ", "law"), ("laws ", "law")] {
        for (at, _) in text.match_indices(key) {
            let before = text[..at].chars().next_back();
            if before.is_none_or(|c| !c.is_alphanumeric()) {
                found.extend(list(&text[at + key.len()..]).into_iter().map(|number| (word, number)));
            }
        }
    }
    found
}

/// The numbers that a text begins with.
fn list(text: &str) -> Vec<u32> {
    let mut numbers: Vec<u32> = Vec::new();
    let mut rest = text;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let Ok(number) = rest[..digits].parse::<u32>() else { return numbers };
        numbers.push(number);
        rest = &rest[digits..];
        if let Some(after) = rest.strip_prefix(" to ") {
            let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
            if let Ok(last) = after[..digits].parse::<u32>() {
                numbers.extend(number.saturating_add(1)..=last.min(number.saturating_add(99)));
            }
            return numbers;
        }
        match rest.strip_prefix(", ").or(rest.strip_prefix(" and ")) {
            Some(after) => rest = after,
            None => return numbers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers_are_read() {
        let numbers = |text| cited(text).into_iter().map(|(_, number)| number).collect::<Vec<_>>();
        assert_eq!(numbers("// FAILURES 5, 6 and 45: shrunk"), [5, 6, 45]);
        assert_eq!(numbers("// FAILURES 8 to 10."), [8, 9, 10]);
        assert_eq!(numbers("// (law 3), laws 1 and 2; outlaw 7"), [3, 1, 2]);
        assert!(numbers("// FAILURES of others").is_empty());
    }

    #[test]
    fn a_citation_belongs_to_the_test_around_it_or_below_it() {
        let text = "//! FAILURES 1\n// FAILURES 2\n#[test]\nfn a() {\n    // FAILURES 3\n}\nfn b() {\n    // FAILURES 4\n}\n";
        let source = Source { path: "x/tests/it/y.rs".to_owned(), text: text.to_owned() };
        let found: Vec<_> =
            citations(&source).into_iter().map(|(_, _, number, test)| (number, test)).collect();
        let place = |test: &str| Some(format!("x/tests/it/y.rs{test}"));
        assert_eq!(found, [(1, place("")), (2, place(" a")), (3, place(" a")), (4, None)]);
    }

    #[test]
    fn the_page_lists_the_tests_of_each_failure() {
        let page = "### 1. A\nTests: `old`\n### 2. B\nPending: the cloud.\n### 3. C\nTests: `gone`\n";
        let tests = BTreeMap::from([(1, BTreeSet::from(["new".to_owned()]))]);
        let written = with_tests(page, &tests);
        assert_eq!(
            written,
            "### 1. A\nTests: `new`\n### 2. B\nPending: the cloud.\n### 3. C\nPending: a test.\n"
        );
        assert_eq!(numbers(&written), BTreeSet::from([1, 2, 3]));
    }
}
