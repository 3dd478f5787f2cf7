//! The drills. Each file describes its drill in its head and reports through [`Verdict`].

mod archive;
mod busy;
mod damage;
mod exact;
mod fleet;
mod history;
mod increment;
mod kill;
mod live;
mod memory;
mod misuse;
pub(crate) mod recovery;
mod resume;
mod shapes;
mod verification;

use crate::Result;
use crate::application::{self, Application};
use crate::moments::micros;
use crate::program::Program;
use crate::verdict::Verdict;
use crate::world::World;
use clap::{Args, Subcommand};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(crate) enum Drill {
    /// Random transactions: each restored by number, and the state before it; moments restored by
    /// time
    Exact(exact::Exact),
    /// The watcher killed while the application writes and truncates its -wal file
    Kill(kill::Kill),
    /// Page sizes, vacuums, big and spilled transactions, replaced and large files
    Shapes(shapes::Shapes),
    /// The cost of watching for a writer that does not wait
    Busy(busy::Busy),
    /// Hundreds of databases in one folder under one watch
    Fleet(fleet::Fleet),
    /// A full snapshot, then changes to a share of the pages: what the increment stores and reads
    Increment(increment::Increment),
    /// First backups killed midway: what the next ones store, and what a prune leaves
    Resume(resume::Resume),
    /// Some hundred backups of a folder: their duration, the number of objects, and what a prune
    /// leaves
    History(history::History),
    /// Every command on databases of growing size: peak memory
    Memory(memory::Memory),
    /// Every object harmed in turn: found by `verify`, and no restore wrong in silence
    Damage(damage::Damage),
    /// A live database against its archive: equal beside a writer, and every fault found
    Live(live::Live),
    /// Verification of large repositories: its rate and its bound, and queries on restored copies
    Verify(verification::Verification),
    /// Wrong use and damage: exit codes, one line each
    Misuse(misuse::Misuse),
    /// A base and a log of the given sizes, restored to a transaction: exactness of every block,
    /// time, memory, and the bound of the machine
    Recovery(recovery::Recovery),
    /// The archive on real object stores: faults, kills, a store that is away, requests
    Archive(archive::Archive),
    /// Other processes of `archive`
    #[command(subcommand, hide = true)]
    ArchivePart(archive::Part),
    /// Other processes of `recovery`
    #[command(subcommand, hide = true)]
    RecoveryPart(recovery::Part),
    /// All drills but `memory`, with default options
    All(Seed),
}

/// The seed of all random choices.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Seed {
    /// The same seed writes the same data
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

impl Drill {
    /// Runs the drill. True if it passed.
    pub(crate) fn run(self) -> Result<bool> {
        match self {
            Drill::Exact(drill) => drill.run(),
            Drill::Kill(drill) => drill.run(),
            Drill::Shapes(drill) => drill.run(),
            Drill::Busy(drill) => drill.run(),
            Drill::Fleet(drill) => drill.run(),
            Drill::Increment(drill) => drill.run(),
            Drill::Resume(drill) => drill.run(),
            Drill::History(drill) => drill.run(),
            Drill::Memory(drill) => drill.run(),
            Drill::Damage(drill) => drill.run(),
            Drill::Live(drill) => drill.run(),
            Drill::Verify(drill) => drill.run(),
            Drill::Misuse(drill) => drill.run(),
            Drill::Recovery(drill) => drill.run(),
            Drill::RecoveryPart(part) => part.run(),
            Drill::Archive(drill) => drill.run(),
            Drill::ArchivePart(part) => part.run(),
            Drill::All(seed) => {
                let [reference, sqlite] = recovery::Recovery::both(seed.seed);
                let drills: [&dyn Fn() -> Result<bool>; 14] = [
                    &|| misuse::Misuse { seed }.run(),
                    &|| damage::Damage { transactions: 180, targets: 4, seed }.run(),
                    &|| live::Live { seconds: 30, faults: 210, pairs: 6, seed }.run(),
                    &|| exact::Exact { transactions: 400, sample: None, seed }.run(),
                    &|| kill::Kill { rounds: 3, slow: None, store: None, delay: 0, seed }.run(),
                    &|| shapes::Shapes { only: None, seed }.run(),
                    &|| busy::Busy { seconds: 60 }.run(),
                    &|| fleet::Fleet { databases: 300, seconds: 130 }.run(),
                    &|| increment::Increment { megabytes: 1000, share: 0.05, level: 3, seed }.run(),
                    &|| resume::Resume { megabytes: 4000, at: vec![0.4, 0.9] }.run(),
                    &|| history::History { files: 20_000, backups: 300 }.run(),
                    &|| archive::Archive::small(seed).run(),
                    &|| reference.run(),
                    &|| sqlite.run(),
                ];
                // A drill that aborts must not prevent the others.
                let mut passed = true;
                for drill in drills {
                    passed &= drill().unwrap_or_else(|error| {
                        eprintln!("xtask: {error}");
                        false
                    });
                }
                Ok(passed)
            }
        }
    }
}

/// Runs `body`. If it returns an error, the drill fails and keeps the findings so far.
pub(crate) fn judged(command: &str, body: impl FnOnce(&mut Verdict) -> Result<()>) -> Result<bool> {
    println!("{command}");
    let mut verdict = Verdict::default();
    if let Err(error) = body(&mut verdict) {
        verdict.fail(error);
    }
    verdict.close(command)
}

/// A folder with a repository, and an application that is ready and waits.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) application: Application,
    pub(crate) program: Program,
    pub(crate) database: PathBuf,
    pub(crate) ready: Value,
    // Dropped last: the other fields use this folder.
    pub(crate) world: World,
}

impl Stage {
    /// Creates the stage. The application's first argument is its folder.
    pub(crate) fn new(name: &str, script: &str, args: &[&str]) -> Result<Stage> {
        let world = World::new(name)?;
        let program = Program::with_repository(&world.path("repository"))?;
        Self::begin(world, program, script, args)
    }

    /// Like [`new`](Self::new), with a repository that exists.
    pub(crate) fn with(name: &str, script: &str, args: &[&str], program: Program) -> Result<Stage> {
        Self::begin(World::new(name)?, program, script, args)
    }

    fn begin(world: World, program: Program, script: &str, args: &[&str]) -> Result<Stage> {
        let folder = world.path("application");
        std::fs::create_dir(&folder)?;
        let folder = folder.to_string_lossy().into_owned();
        let application = Application::start(script, &[&[folder.as_str()], args].concat())?;
        let ready = application.event("ready")?;
        let database = application::path(&ready, "database")?;
        Ok(Stage { application, program, database, ready, world })
    }

    /// The transactions that `pitr log` lists.
    pub(crate) fn log(&self) -> Result<Vec<Value>> {
        let answer = self.program.call(["log"])?.done()?;
        answer["transactions"]
            .as_array()
            .cloned()
            .ok_or_else(|| "no transactions in the answer of log".into())
    }

    /// The only source in the answer of `pitr info`.
    pub(crate) fn source(&self) -> Result<Value> {
        let answer = self.program.call(["info"])?.done()?;
        Ok(answer["sources"][0].clone())
    }
}

/// The stored bytes in the answer of `pitr backup`.
pub(crate) fn stored_bytes(answer: &Value) -> Result<u64> {
    answer["stored_bytes"].as_u64().ok_or_else(|| "no stored_bytes in the answer of backup".into())
}

/// Gives the watcher time for one more look before it is asked to stop.
pub(crate) fn settle() {
    std::thread::sleep(Duration::from_millis(500));
}

/// Checks that numbers and positions in the output of `pitr log` grow. Times may repeat.
pub(crate) fn check_order(log: &[Value], verdict: &mut Verdict) {
    for pair in log.windows(2) {
        let grows = |key: &str| pair[0][key].as_u64() < pair[1][key].as_u64();
        let in_order = micros(&pair[0]["time"]) <= micros(&pair[1]["time"]);
        verdict.check(
            grows("tx") && grows("lsn") && in_order,
            format_args!("the log is out of order: {} before {}", pair[0], pair[1]),
        );
    }
}
