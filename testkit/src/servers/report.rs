//! Suites of tests against several stores, and the file of their results.
//!
//! The file has one line for each suite: suite, store, `passed`, `failed` or `skipped`, seconds,
//! reason; with tabs. `cargo xtask servers test` prints it as a table.

use super::{Kind, Server};
use std::fs::OpenOptions;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Instant;

/// Environment variable with the path of the file of results. Servers are used only if it is set.
pub const REPORT: &str = "PITR_SERVERS_REPORT";

/// The results of the suites against one store.
#[derive(Debug)]
pub struct Report {
    store: String,
    file: Option<PathBuf>,
    failed: Vec<String>,
}

impl Report {
    fn new(store: String, file: Option<PathBuf>) -> Report {
        Report { store, file, failed: Vec::new() }
    }

    /// Runs a suite. The next suites run even if it panics.
    pub fn run(&mut self, suite: &str, work: impl FnOnce()) {
        let begun = Instant::now();
        let outcome = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(()) => "passed",
            Err(_) => {
                self.failed.push(suite.to_owned());
                "failed"
            }
        };
        println!("{outcome}: {suite} on {}, {:.2} s", self.store, begun.elapsed().as_secs_f64());
        self.write(suite, outcome, begun, "");
    }

    fn write(&self, suite: &str, outcome: &str, begun: Instant, reason: &str) {
        let Some(file) = &self.file else { return };
        let line = format!(
            "{suite}\t{}\t{outcome}\t{:.3}\t{}\n",
            self.store,
            begun.elapsed().as_secs_f64(),
            reason.replace(['\n', '\t'], " ")
        );
        let mut file =
            OpenOptions::new().append(true).create(true).open(file).expect("the report can be opened");
        file.write_all(line.as_bytes()).expect("the report can be written");
    }

    /// Panics if a suite failed.
    fn finish(self) {
        assert!(self.failed.is_empty(), "failed on {}: {}", self.store, self.failed.join(", "));
    }
}

fn file() -> Option<PathBuf> {
    std::env::var_os(REPORT).map(PathBuf::from)
}

/// Runs suites against a store that needs no server.
///
/// # Panics
/// A suite failed.
pub fn locally(store: &str, suites: impl FnOnce(&mut Report)) {
    let mut report = Report::new(store.to_owned(), file());
    suites(&mut report);
    report.finish();
}

/// Starts a server and runs suites against it. Without [`REPORT`] in the environment, nothing is
/// run. A server that is not installed is reported as skipped. `tests` names these tests.
///
/// # Panics
/// The server does not start, or a suite failed.
pub fn with(kind: Kind, tests: &str, suites: impl FnOnce(&mut Server, &mut Report)) {
    let Some(file) = file() else {
        println!("skipped: {tests} on {}: run cargo xtask servers test", kind.name());
        return;
    };
    let mut report = Report::new(format!("{} {}", kind.name(), kind.version()), Some(file));
    let begun = Instant::now();
    if let Err(reason) = kind.installed() {
        println!("skipped: {tests} on {}: {reason}", kind.name());
        report.write(tests, "skipped", begun, &reason);
        return;
    }
    let folder = std::env::temp_dir().join(format!("pitr-{}-{tests}-{}", kind.name(), std::process::id()));
    let mut server = match Server::start(kind, &folder) {
        Ok(server) => server,
        Err(error) => {
            report.write(tests, "failed", begun, &error);
            panic!("{error}");
        }
    };
    println!("{} answers after {:.2} s", server.version(), begun.elapsed().as_secs_f64());
    suites(&mut server, &mut report);
    drop(server);
    let _ = std::fs::remove_dir_all(&folder);
    report.finish();
}
