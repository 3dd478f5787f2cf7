//! `cargo xtask tidy`: rules that the compiler doesn't check.
//!
//! | rule | what must hold |
//! | --- | --- |
//! | `layers` | a crate depends only on crates of lower layers, as ARCHITECTURE.md lists them |
//! | `tree` | without default features, the library needs no engine and nothing of the program |
//! | `published` | each published crate has a README with compiled code, and an example |
//! | `citations` | each cited law and failure exists, and docs/failures.md lists its tests |
//! | `calls` | no clock, file, sleep or random source outside `pitr-vfs` |
//! | `columns` | comments end at column 100 |
//! | `length` | no file has more than 600 lines |
//! | `words` | no word of `xtask/tidy/words.txt` in comments, messages and pages |
//!
//! `xtask/tidy/allow.txt` holds how often each rule may be broken in which file. A count that is
//! too high fails too, so that the list only shrinks; `--shrink` lowers the counts to those found.

mod allow;
mod citations;
mod layers;
mod published;
mod sample;
mod sources;
mod text;
mod tree;

use std::path::PathBuf;

use clap::Args;

use crate::{Result, packages};
use allow::Allowed;

/// Checks rules that the compiler doesn't check.
#[derive(Debug, Args)]
pub(crate) struct Tidy {
    /// Lower the counts of `xtask/tidy/allow.txt` to the findings
    #[arg(long)]
    shrink: bool,
    /// Rewrite the lists of tests in docs/failures.md
    #[arg(long)]
    update: bool,
    /// Print this many random comments, messages and help texts instead, to judge their prose
    #[arg(long, value_name = "N", conflicts_with_all = ["shrink", "update"])]
    sample: Option<usize>,
    /// Print the dependencies of the library without its default features instead
    #[arg(long, conflicts_with_all = ["shrink", "update", "sample"])]
    tree: bool,
    /// Which sample: the same seed gives the same texts
    #[arg(long, value_name = "S", requires = "sample", default_value_t = 1)]
    seed: u64,
}

/// A place where a rule is broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    rule: &'static str,
    /// Relative to the workspace.
    path: String,
    /// Line number, from 1; 0 for the file as a whole.
    line: usize,
    what: String,
}

impl Tidy {
    /// Prints the problems. True if there are none.
    pub(crate) fn run(&self) -> Result<bool> {
        let root = root()?;
        if self.tree {
            print!("{}", tree::print(&root)?);
            return Ok(true);
        }
        let sources = sources::read(&root)?;
        if let Some(count) = self.sample {
            sample::draw(&sources, count, self.seed).iter().for_each(|text| println!("{text}"));
            return Ok(true);
        }
        let mut findings = Vec::new();
        let packages = packages::read(&root)?;
        findings.extend(layers::check(&root, &packages)?);
        findings.extend(published::check(&root, &packages)?);
        findings.extend(citations::check(&root, &sources, self.update)?);
        findings.extend(text::check(&root, &sources)?);
        findings.extend(tree::check(&root)?);
        findings.sort();
        let mut allowed = Allowed::read(&root.join("xtask/tidy/allow.txt"))?;
        let problems = if self.shrink { allowed.shrink(&findings)? } else { allowed.judge(&findings) };
        problems.iter().for_each(|problem| println!("{problem}"));
        println!(
            "tidy: {} files, {} findings, {} of them allowed, {} problems",
            sources.len(),
            findings.len(),
            allowed.total(),
            problems.len()
        );
        Ok(problems.is_empty())
    }
}

fn root() -> Result<PathBuf> {
    let own = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(own.parent().ok_or("xtask has no parent folder")?.to_owned())
}
