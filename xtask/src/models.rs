//! Models of concurrent code, under every order of their threads' steps.

use crate::Result;
use crate::verdict::Verdict;
use crate::world;
use std::process::Command;

/// Crates that have models.
const CRATES: [&str; 2] = ["pitr-wal", "pitr-tracker"];

/// Runs loom's models of the log's commit queue and of the tracker's freeze; whether all pass.
pub(crate) fn run() -> Result<bool> {
    let command = "cargo xtask models";
    println!("{command}");
    let mut verdict = Verdict::default();
    for name in CRATES {
        let output = Command::new(env!("CARGO"))
            .args(["test", "--package", name, "--lib", "--release", "models"])
            .current_dir(world::root())
            .env("RUSTFLAGS", "--cfg loom")
            // Other flags build everything anew: not over what others use.
            .env("CARGO_TARGET_DIR", world::target().join("loom"))
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let passed =
            text.lines().filter(|line| line.starts_with("test ") && line.ends_with("... ok")).count();
        verdict.check(output.status.success() && passed > 0, format_args!("{name}: an order breaks a model"));
        if !output.status.success() {
            eprintln!("{text}{}", String::from_utf8_lossy(&output.stderr));
        }
        verdict.figure(format_args!("{passed} models of {name}, up to 3 preemptions"));
    }
    verdict.close(command)
}
