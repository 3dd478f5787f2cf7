//! Runs models of concurrent code, under every interleaving of their threads.

use crate::Result;
use crate::verdict::Verdict;
use crate::world;
use std::process::Command;

/// Crates that have models.
const CRATES: [&str; 2] = ["pitr-wal", "pitr-tracker"];

/// Runs loom's models of the log's commit queue and of the tracker's freeze. True if all pass.
pub(crate) fn run() -> Result<bool> {
    let command = "cargo xtask models";
    println!("{command}");
    let mut verdict = Verdict::default();
    for name in CRATES {
        let mut models = Command::new(env!("CARGO"));
        models
            .args(["test", "--package", name, "--lib", "--release", "models"])
            .env("RUSTFLAGS", "--cfg loom")
            // Other flags rebuild everything: keep them out of the shared build folder.
            .env("CARGO_TARGET_DIR", world::target().join("loom"));
        let passed = verdict.tests(name, &mut models, "an interleaving breaks a model")?;
        verdict.figure(format_args!("{passed} models of {name}, up to 3 preemptions"));
    }
    verdict.close(command)
}
