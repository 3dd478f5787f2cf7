//! `cargo xtask servers`: real object stores for tests.
//!
//! `install` puts them into `target/servers/`, one folder each. `test` runs the tests that use them
//! and prints a table. A server whose interpreter this machine lacks is skipped, by name.

mod table;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::{Args, Subcommand};
use pitr_testkit::servers::{Kind, REPORT};

use crate::{Result, world};
use table::Table;

/// Versions of the packages on which moto's behaviour as a server depends.
const MOTO_CONSTRAINTS: &str = include_str!("servers/moto.txt");

/// Tests that use servers: the binaries that have them, and how their names begin. The binaries of
/// the whole workspace are those of `cargo test --workspace`: nothing is built again.
const TESTS: [(&[&str], &[&str]); 2] =
    [(&["--lib"], &["servers::tests"]), (&["--test", "it"], &["conformance::", "story::"])];

#[derive(Debug, Subcommand)]
pub(crate) enum Servers {
    /// Installs SeaweedFS and moto (with Python) and Azurite (with Node) into the build folder
    Install,
    /// Runs the tests that use the servers
    Test(Test),
}

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// A server that is not installed is a failure
    #[arg(long)]
    complete: bool,
}

impl Servers {
    pub(crate) fn run(&self) -> Result<bool> {
        match self {
            Servers::Install => install(),
            Servers::Test(test) => test.run(),
        }
    }
}

/// Installs what is missing. True unless an installation failed.
fn install() -> Result<bool> {
    let mut passed = true;
    for kind in Kind::ALL {
        let (begun, package) = (Instant::now(), kind.package());
        let outcome = match (kind.installed(), missing(kind)) {
            (Ok(_), _) => "is already installed".to_owned(),
            (Err(_), Some(reason)) => format!("skipped: {reason}"),
            (Err(_), None) => match install_one(kind) {
                Ok(()) => format!("installed in {:.0} s", begun.elapsed().as_secs_f64()),
                Err(error) => {
                    passed = false;
                    format!("FAILED: {error}")
                }
            },
        };
        println!("{:<10} {package}: {outcome}", kind.name());
    }
    Ok(passed)
}

/// What this machine lacks for a server.
fn missing(kind: Kind) -> Option<String> {
    let works = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    match kind {
        Kind::SeaweedFs | Kind::Moto => {
            let modules = "import venv, ensurepip";
            (!works("python3", &["-c", modules]))
                .then(|| "python3 with its module venv is not installed".to_owned())
        }
        Kind::Azurite => ["node", "npm"]
            .into_iter()
            .find(|program| !works(program, &["--version"]))
            .map(|program| format!("{program} is not installed")),
    }
}

/// Installs a server into an empty folder. The mark is written last: an interrupted installation is
/// repeated.
fn install_one(kind: Kind) -> Result<()> {
    let folder = kind.folder();
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => fs::create_dir_all(&folder)?,
    }
    match kind {
        Kind::SeaweedFs | Kind::Moto => {
            run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
            let constraints = folder.join("constraints.txt");
            fs::write(&constraints, if kind == Kind::Moto { MOTO_CONSTRAINTS } else { "" })?;
            let mut pip = Command::new(folder.join("bin/python"));
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint"]);
            run(pip.arg(constraints).arg(kind.package()))?;
        }
        Kind::Azurite => {
            // Without a manifest here, npm installs into a parent folder that has one.
            fs::write(folder.join("package.json"), "{\"private\": true}\n")?;
            let mut npm = Command::new("npm");
            npm.args(["install", "--loglevel=error", "--no-audit", "--no-fund", "--no-save"]);
            run(npm.arg(kind.package()).current_dir(&folder))?;
        }
    }
    fs::write(kind.mark(), kind.package())?;
    kind.installed().map(drop).map_err(Into::into)
}

/// Runs a command. Its output is part of the error.
fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let program = Path::new(command.get_program()).display().to_string();
    Err(format!("{program} ended with {}:\n{}", output.status, String::from_utf8_lossy(&text)).into())
}

impl Test {
    /// True if all tests passed; with `complete`, also only if none was skipped.
    fn run(&self) -> Result<bool> {
        let (begun, report) = (Instant::now(), world::target().join("servers/report.tsv"));
        fs::create_dir_all(world::target().join("servers"))?;
        fs::write(&report, "")?;
        let mut failed = Vec::new();
        for (binaries, tests) in TESTS {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["test", "--workspace"]).args(binaries).arg("--").args(tests);
            // One server at a time: it has the machine for itself, and its seconds mean something.
            cargo.arg("--test-threads=1");
            let output = cargo.env(REPORT, &report).current_dir(world::root()).output()?;
            if !output.status.success() {
                failed.push(tests.join(" "));
                let text = [output.stdout, output.stderr].concat();
                println!("{}", String::from_utf8_lossy(&text));
            }
        }
        let table = Table::parse(&fs::read_to_string(&report)?)?;
        print!("{table}");
        let (passed, failures, skipped) = table.counts();
        println!("{:.0} s", begun.elapsed().as_secs_f64());
        println!("{passed} passed, {failures} failed, {skipped} skipped");
        if !failed.is_empty() {
            println!("FAIL: {}", failed.join(" "));
        }
        let is_complete = skipped == 0 || !self.complete;
        Ok(failed.is_empty() && failures == 0 && passed > 0 && is_complete)
    }
}
