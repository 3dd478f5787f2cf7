//! The exceptions: how often a file may break a rule.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::Finding;
use crate::Result;

const HEAD: &str = "# rule path count: how often a rule may be broken in a file. The counts only go down.\n";

type Counts = BTreeMap<(String, String), usize>;

/// The list of exceptions.
#[derive(Debug)]
pub(super) struct Allowed {
    path: PathBuf,
    counts: Counts,
}

impl Allowed {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)?;
        let mut counts = Counts::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let parts: Vec<&str> = line.split_whitespace().collect();
            let [rule, file, count] = parts[..] else {
                return Err(format!("{}: not `rule path count`: {line}", path.display()).into());
            };
            counts.insert((rule.to_owned(), file.to_owned()), count.parse()?);
        }
        Ok(Allowed { path: path.to_owned(), counts })
    }

    pub(super) fn total(&self) -> usize {
        self.counts.values().sum()
    }

    /// Findings beyond the list, and exceptions that are no longer needed.
    pub(super) fn judge(&self, findings: &[Finding]) -> Vec<String> {
        let found = count(findings);
        let mut problems = Vec::new();
        for (key @ (rule, path), count) in &found {
            let allowed = self.counts.get(key).copied().unwrap_or(0);
            if *count > allowed {
                let here = findings.iter().filter(|finding| finding.rule == rule && finding.path == *path);
                problems.extend(here.map(|finding| {
                    let Finding { rule, path, line, what } = finding;
                    format!("{path}:{line}: {what} ({rule})")
                }));
            }
        }
        for (key @ (rule, path), allowed) in &self.counts {
            let count = found.get(key).copied().unwrap_or(0);
            if count < *allowed {
                problems.push(format!(
                    "{path}: {allowed} exceptions to `{rule}` are allowed and {count} needed: run `cargo xtask tidy --shrink`"
                ));
            }
        }
        problems
    }

    /// Lowers the counts to the number of findings, and judges the rest.
    pub(super) fn shrink(&mut self, findings: &[Finding]) -> Result<Vec<String>> {
        let found = count(findings);
        self.counts = std::mem::take(&mut self.counts)
            .into_iter()
            .filter_map(|(key, allowed)| {
                let count = allowed.min(found.get(&key).copied().unwrap_or(0));
                (count > 0).then_some((key, count))
            })
            .collect();
        let mut text = HEAD.to_owned();
        for ((rule, path), count) in &self.counts {
            writeln!(text, "{rule} {path} {count}")?;
        }
        fs::write(&self.path, text)?;
        Ok(self.judge(findings))
    }
}

fn count(findings: &[Finding]) -> Counts {
    let mut counts = Counts::new();
    for finding in findings {
        *counts.entry((finding.rule.to_owned(), finding.path.clone())).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(lines: &[usize]) -> Vec<Finding> {
        let at = |line: &usize| Finding { rule: "words", path: "a.rs".into(), line: *line, what: "x".into() };
        lines.iter().map(at).collect()
    }

    #[test]
    fn the_list_holds_no_more_and_no_less_than_what_is_found_and_only_shrinks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("allow.txt");
        fs::write(&path, "# head\nwords a.rs 2\ncalls b.rs 1\n").unwrap();
        let mut allowed = Allowed::read(&path).unwrap();
        assert_eq!(allowed.judge(&findings(&[1, 2, 3])).len(), 3 + 1, "three in a.rs; b.rs needs none");
        assert_eq!(allowed.judge(&findings(&[1, 2])).len(), 1);
        assert_eq!(allowed.shrink(&findings(&[7])).unwrap(), [""; 0]);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{HEAD}words a.rs 1\n"));
        assert_eq!(allowed.shrink(&findings(&[1, 2])).unwrap().len(), 2, "it never grows");
        assert!(fs::read_to_string(&path).unwrap().ends_with("words a.rs 1\n"));
        fs::write(&path, "words a.rs\n").unwrap();
        assert!(Allowed::read(&path).is_err());
    }
}
