//! Rehearsals of restores in a sandbox.

use crate::world::{World, name};
use pitr_dedup::ChunkStore;
use pitr_recovery::{
    ConsistencyCheck, Error as RecoveryError, FilePlace, Finding, FolderLayout, History, Layout,
    RestoreState, RestoreTarget, Restorer, Target, Unfinished,
};
use pitr_testkit::files_below;
use pitr_verify::{
    Answer, CommandProbe, Error, Probe, Queries, QueryProbe, Rehearsal, RehearsalOptions, RestoredCopy,
    rehearse,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Files under their numbers. Its own check finds a file that begins with an `X`.
#[derive(Debug)]
struct Numbered;

impl RestoreTarget for Numbered {
    fn lay_out(&self, state: &RestoreState<'_>) -> Result<Layout, RecoveryError> {
        let place = |file| FilePlace::new(file, format!("{file}"));
        let files = state.files().into_iter().map(place).collect();
        Ok(Layout::Folder(FolderLayout { folders: Vec::new(), files }))
    }

    fn consistency(&self) -> Option<&dyn ConsistencyCheck> {
        Some(self)
    }
}

impl ConsistencyCheck for Numbered {
    fn check(&self, result: &Unfinished<'_>) -> Result<Vec<Finding>, RecoveryError> {
        let harmed =
            files_below(result.path).into_iter().filter(|path| fs::read(path).unwrap().starts_with(b"X"));
        Ok(harmed.map(|path| Finding::new(format!("{} begins with X", path.display()))).collect())
    }
}

fn rehearsed(
    world: &World,
    source: &str,
    options: &RehearsalOptions,
    probes: &[&dyn Probe],
) -> Result<Rehearsal, Error> {
    let source = name(source);
    let history = History::load(&world.open().unwrap(), &source, None).unwrap();
    let (chunks, _) = ChunkStore::open_readable(history.archive().objects().clone()).unwrap();
    let plan = history.plan_for(&Target::latest()).unwrap();
    let restorer = Restorer::new(&history, &chunks, &Numbered);
    rehearse(&restorer, &source, &plan, options, probes)
}

fn sandbox() -> (tempfile::TempDir, RehearsalOptions) {
    let dir = tempfile::tempdir().unwrap();
    let options = RehearsalOptions::within(dir.path());
    (dir, options)
}

/// Notes what it sees, and harms a file of the copy.
#[derive(Default)]
struct Seen {
    path: Mutex<PathBuf>,
    content: Mutex<Vec<u8>>,
}

impl Probe for Seen {
    fn name(&self) -> String {
        "seen".to_owned()
    }

    fn check(&self, copy: &RestoredCopy<'_>) -> Result<Vec<Finding>, pitr_recovery::BoxError> {
        *self.path.lock().unwrap() = copy.path.to_owned();
        *self.content.lock().unwrap() = fs::read(&files_below(copy.path)[0])?;
        Ok(vec![Finding::new(format!("looked at {}", copy.source))])
    }
}

#[test]
fn a_rehearsal_restores_the_state_checks_it_and_leaves_nothing() {
    for encrypted in [false, true] {
        let world = World::new(encrypted);
        for source in ["one", "two"] {
            let (dir, options) = sandbox();
            let seen = Seen::default();
            let before = files_below(&world.repository()).len();
            let rehearsal = rehearsed(&world, source, &options, &[&seen]).unwrap();
            assert_eq!(rehearsal.compared_bytes, Some(rehearsal.bytes), "{rehearsal:?}");
            assert!(rehearsal.stats.is_some() && rehearsal.bytes >= 1 << 20);
            let found: Vec<String> =
                rehearsal.findings.iter().map(|found| format!("{}: {}", found.check, found.what)).collect();
            assert_eq!(found, [format!("seen: looked at {source}")]);
            if source == "one" {
                assert!(*seen.content.lock().unwrap() == world.contents[2].2, "not the newest state");
            }
            assert!(seen.path.lock().unwrap().starts_with(dir.path()));
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "left in the sandbox's folder");
            assert_eq!(files_below(&world.repository()).len(), before);
        }
    }
}

#[test]
fn a_damaged_pack_is_a_finding_and_a_missing_sandbox_is_an_error() {
    // FAILURES 29
    let world = World::new(false);
    let (dir, options) = sandbox();
    let missing = RehearsalOptions::within(dir.path().join("missing"));
    assert!(matches!(rehearsed(&world, "one", &missing, &[]), Err(Error::Io { .. })));
    let small = RehearsalOptions { max_bytes: Some(1 << 20), ..options.clone() };
    let refused = rehearsed(&world, "one", &small, &[]);
    assert!(matches!(refused, Err(Error::SandboxTooSmall { needed, max }) if needed > max), "{refused:?}");
    let packs: Vec<PathBuf> = files_below(&world.repository().join("packs"));
    for path in packs {
        let mut bytes = fs::read(&path).unwrap();
        bytes[100] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    let rehearsal = rehearsed(&world, "one", &options, &[]).unwrap();
    assert!(rehearsal.stats.is_none() && rehearsal.findings[0].check == "restore", "{rehearsal:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn leftovers_of_dead_rehearsals_are_removed_and_those_of_living_ones_are_not() {
    let world = World::new(false);
    let (dir, options) = sandbox();
    let left = dir.path().join("pitr-sandbox-00000000000000aa");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("copy"), b"x").unwrap();
    fs::write(dir.path().join("pitr-sandbox-00000000000000aa.lock"), b"").unwrap();
    fs::write(dir.path().join("other"), b"x").unwrap();
    /// Rehearses beside a rehearsal.
    struct Beside<'a>(&'a World, &'a RehearsalOptions);
    impl Probe for Beside<'_> {
        fn name(&self) -> String {
            "beside".to_owned()
        }
        fn check(&self, copy: &RestoredCopy<'_>) -> Result<Vec<Finding>, pitr_recovery::BoxError> {
            rehearsed(self.0, "two", self.1, &[])?;
            assert!(copy.path.exists(), "the other rehearsal has removed this one's copy");
            Ok(Vec::new())
        }
    }
    assert!(rehearsed(&world, "one", &options, &[&Beside(&world, &options)]).unwrap().is_sound());
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["other"]);
}

#[test]
fn a_command_sees_the_copy_and_its_end_and_its_time_count() {
    let world = World::new(false);
    let (dir, options) = sandbox();
    let run = |command: &str, limit| {
        let options = RehearsalOptions { limit, ..options.clone() };
        let probe = CommandProbe::new(command);
        let findings = rehearsed(&world, "one", &options, &[&probe]).unwrap().findings;
        findings.into_iter().map(|found| found.what).collect::<Vec<String>>()
    };
    let minute = Duration::from_secs(60);
    assert_eq!(
        run(
            "test -d \"$PITR_COPY\" && test \"$PITR_SOURCE\" = one && test \"$PWD/copy\" = \"$PITR_COPY\"",
            minute
        ),
        [""; 0]
    );
    assert_eq!(run("echo wrong; exit 3", minute), ["ended with exit status: 3: wrong"]);
    assert_eq!(run("kill -9 $$", minute), ["ended with signal: 9 (SIGKILL)"]);
    let many = run("yes | head -c 2000000; exit 1", minute).remove(0);
    assert!(many.len() < 500, "{many}");
    // What the command has started is killed too.
    let (mark, begun) = (dir.path().join("mark"), Instant::now());
    let command = format!("(sleep 2; touch {}) & sleep 600", mark.display());
    assert_eq!(run(&command, Duration::from_millis(100)), ["did not end within 0.1 s"]);
    assert!(begun.elapsed() < Duration::from_secs(60));
    std::thread::sleep(Duration::from_millis(2500).saturating_sub(begun.elapsed()));
    assert!(!mark.exists(), "a process of the command goes on");
}

/// Answers with the length of the copy's first file.
struct Lengths;

impl Queries for Lengths {
    fn first_value(&self, copy: &RestoredCopy<'_>, query: &str) -> Result<Answer, pitr_recovery::BoxError> {
        let len = |path: &Path| path.metadata().map(|found| found.len() as i64);
        match query {
            "length" => Ok(Answer::Integer(len(&files_below(copy.path)[0])?)),
            "nothing" => Ok(Answer::NoRow),
            other => Err(format!("unknown: {other}").into()),
        }
    }
}

#[test]
fn queries_hold_or_are_findings_with_their_answers() {
    let world = World::new(false);
    let (_dir, options) = sandbox();
    let probes = ["length", "nothing", "mistake"].map(|query| QueryProbe::new(&Lengths, query));
    let probes: Vec<&dyn Probe> = probes.iter().map(|probe| probe as &dyn Probe).collect();
    let found = rehearsed(&world, "one", &options, &probes).unwrap().findings;
    let found: Vec<(&str, &str)> =
        found.iter().map(|found| (found.check.as_str(), found.what.as_str())).collect();
    assert_eq!(found, [("nothing", "answered no row"), ("mistake", "unknown: mistake")]);
}
