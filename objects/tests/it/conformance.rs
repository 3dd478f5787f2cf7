//! One suite for all stores: what the crates above rely on.
//!
//! It runs on a folder and in memory, and on real servers if `cargo xtask servers test` asks for
//! them (`pitr_testkit::servers`).

use crate::put_log;
use pitr_format::SourceName;
use pitr_objects::layout::{LEASES, ObjectName};
use pitr_objects::object_store::ObjectStore;
use pitr_objects::object_store::memory::InMemory;
use pitr_objects::*;
use pitr_testkit::noise;
use pitr_testkit::servers::{Report, locally};
use std::sync::{Arc, Barrier};
use std::thread::scope;

/// Threads that race. They have a handle each, as processes have.
const RACERS: usize = 8;
/// Objects of one folder: more than one page of any store's listing.
const LISTED: usize = 1_100;

/// Opens a new handle of the repository with this name. Each suite has a repository of its own.
pub(crate) type Open<'a> = &'a (dyn Fn(&str) -> Objects + Sync);

/// A part of the suite.
type Suite = fn(Open<'_>);

/// Runs all suites.
pub(crate) fn run(open: Open<'_>, report: &mut Report) {
    let suites: [(&str, Suite); 10] = [
        ("put and read", put_and_read),
        ("create-only race", create_only_race),
        ("ranges", ranges),
        ("listing", listing),
        ("listing of many", listing_of_many),
        ("view of merged log", view_of_merged_log),
        ("delete", delete),
        ("16 MiB object", large_object),
        ("lease race", lease_race),
        ("names", names),
    ];
    for (name, suite) in suites {
        report.run(name, || suite(open));
    }
}

#[test]
fn in_memory() {
    locally("memory", |report| {
        let stores = std::sync::Mutex::new(std::collections::BTreeMap::new());
        let open = |name: &str| {
            let mut stores = stores.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let store = stores.entry(name.to_owned()).or_insert_with(|| Arc::new(InMemory::new()));
            Objects::with_store(Arc::clone(store) as Arc<dyn ObjectStore>).unwrap()
        };
        run(&open, report);
    });
}

#[test]
fn in_a_folder() {
    locally("local", |report| {
        let folder = tempfile::tempdir().unwrap();
        run(&|name| Objects::create_local(folder.path().join(name)).unwrap(), report);
    });
}

#[cfg(all(feature = "s3", feature = "azure"))]
mod servers {
    use super::*;
    use pitr_testkit::servers::{Kind, Server, with};
    use pitr_vfs::Env;

    /// Opens repositories in a bucket of a server.
    fn opened(server: &Server, bucket: &str, name: &str) -> Objects {
        let location = Location::parse(format!("{bucket}/{name}")).unwrap();
        Objects::open_with(&location, &server.options(), &Env::system()).unwrap()
    }

    fn conformance(kind: Kind) {
        with(kind, "conformance", |server, report| {
            let bucket = server.bucket("conformance").unwrap();
            run(&|name| opened(server, &bucket, name), report);
            if kind == Kind::SeaweedFs {
                report.run("kill -9 of the server", || kill(server));
            }
        });
    }

    /// What the server has acknowledged is there after a crash of its process.
    fn kill(server: &mut Server) {
        let bucket = server.bucket("killed").unwrap();
        for round in 0..3_u64 {
            let objects = opened(server, &bucket, "repository");
            for number in 0..20 {
                let bytes = noise(round * 100 + number, 10_000);
                objects.put_new(&format!("packs/{round}/{number:02}"), bytes).unwrap();
            }
            server.kill();
            server.restart().unwrap();
            let objects = opened(server, &bucket, "repository");
            assert_eq!(objects.list("packs").unwrap().len() as u64, 20 * (round + 1));
            for before in 0..=round {
                for number in 0..20 {
                    let found = objects.get(&format!("packs/{before}/{number:02}")).unwrap();
                    assert_eq!(found, noise(before * 100 + number, 10_000));
                }
            }
        }
    }

    #[test]
    fn seaweedfs() {
        conformance(Kind::SeaweedFs);
    }

    #[test]
    fn moto() {
        conformance(Kind::Moto);
    }

    #[test]
    fn azurite() {
        conformance(Kind::Azurite);
    }
}

fn put_and_read(open: Open<'_>) {
    let (objects, other) = (open("put"), open("put"));
    for (path, len) in [("empty", 0), ("one", 1), ("a/b/c/deep", 100_000)] {
        let bytes = noise(7, len);
        objects.put_new(path, bytes.clone()).unwrap();
        assert_eq!((other.size(path).unwrap(), other.exists(path).unwrap()), (len as u64, true));
        assert_eq!(other.get(path).unwrap(), bytes);
        // The same bytes again count as ours, other bytes do not, of the same length or another.
        objects.put_new(path, bytes.clone()).unwrap();
        for foreign in [noise(8, len.max(1)), noise(7, len + 1)] {
            let error = other.put_new(path, foreign).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Foreign, "{error}");
        }
        assert_eq!(other.get(path).unwrap(), bytes);
    }
    for error in [
        objects.get("absent").unwrap_err(),
        objects.size("absent").unwrap_err(),
        objects.get("a/b").unwrap_err(),
        objects.get_range("absent", 0..1).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Missing, "{error}");
    }
    assert!(!objects.exists("absent").unwrap() && !objects.exists("a/b/c").unwrap());
}

/// Does the same with every handle, at the same time.
fn race<T: Send>(handles: &[Objects], work: impl Fn(usize, &Objects) -> T + Sync) -> Vec<T> {
    let (barrier, work) = (&Barrier::new(handles.len()), &work);
    scope(|scope| {
        let start = |(number, objects)| {
            scope.spawn(move || {
                barrier.wait();
                work(number, objects)
            })
        };
        let threads: Vec<_> = handles.iter().enumerate().map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn create_only_race(open: Open<'_>) {
    // FAILURES 21
    let handles: Vec<Objects> = (0..RACERS).map(|_| open("race")).collect();
    for round in 0..10 {
        let path = format!("sources/db/epochs/{round:016x}-claim");
        let claim = |number: usize| noise((round * RACERS + number) as u64, 500);
        let outcomes = race(&handles, |number, objects| objects.put_new(&path, claim(number)));
        let winners: Vec<usize> = (0..RACERS).filter(|number| outcomes[*number].is_ok()).collect();
        assert_eq!(winners.len(), 1, "round {round}: {outcomes:?}");
        for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert_eq!(error.kind(), ErrorKind::Foreign, "{error}");
        }
        for objects in &handles {
            assert_eq!(objects.get(&path).unwrap(), claim(winners[0]));
        }
    }
}

fn ranges(open: Open<'_>) {
    let (objects, bytes) = (open("ranges"), noise(3, 10_000));
    objects.put_new("packs/00/x", bytes.clone()).unwrap();
    for range in [0..10_000_u64, 0..1, 9_999..10_000, 17..8_000, 0..0, 5_000..5_000, 10_000..10_000] {
        let found = objects.get_range("packs/00/x", range.clone()).unwrap();
        assert_eq!(found, &bytes[range.start as usize..range.end as usize], "{range:?}");
    }
    for range in [9_999..10_001_u64, 0..10_001, 10_000..10_001, 20_000..20_001] {
        let error = objects.get_range("packs/00/x", range.clone()).unwrap_err();
        assert!(matches!(error, Error::Truncated { len: 10_000, .. }), "{range:?}: {error}");
    }
    objects.put_new("packs/00/empty", Vec::new()).unwrap();
    for (path, len, found) in [("x", 100, 100), ("x", 10_000, 10_000), ("x", 20_000, 10_000), ("empty", 9, 0)]
    {
        let Tail { bytes: end, object_len } = objects.get_tail(&format!("packs/00/{path}"), len).unwrap();
        let whole = if path == "x" { &bytes[..] } else { &[] };
        assert_eq!(
            (&end[..], object_len),
            (&whole[whole.len() - found..], whole.len() as u64),
            "{path} {len}"
        );
    }
}

fn listing(open: Open<'_>) {
    let objects = open("listing");
    assert_eq!(objects.list("").unwrap(), []);
    // `db1` is a prefix of `db10` and of `db1-x`, but not its folder; `-` and `.` sort before `/`.
    let paths = ["sources/db1", "sources/db10", "sources/db1-x", "sources/db1.x", "sources/dB1"];
    for (size, folder) in paths.iter().enumerate() {
        objects.put_new(&format!("{folder}/log/a"), noise(1, size)).unwrap();
        objects.put_new(&format!("{folder}/points/b"), noise(1, size)).unwrap();
    }
    for (size, folder) in paths.iter().enumerate() {
        let size = size as u64;
        let entry = |path: &str| Entry { path: format!("{folder}/{path}"), size };
        assert_eq!(objects.list(folder).unwrap(), [entry("log/a"), entry("points/b")]);
        assert_eq!(objects.list(&format!("{folder}/log")).unwrap(), [entry("log/a")]);
    }
    for none in ["sources/db", "sources/db1/lo", "source", "sources/db1/log/a"] {
        assert_eq!(objects.list(none).unwrap(), [], "{none}");
    }
    let all = objects.list("").unwrap();
    assert!(all.len() == 10 && all.is_sorted() && all == objects.list("sources").unwrap(), "{all:?}");
    assert_eq!(open("listing").list("").unwrap(), all);
    // Neighbours in the same bucket are not listed.
    open("listing2").put_new("x", noise(1, 1)).unwrap();
    assert_eq!(objects.list("").unwrap(), all);
}

fn listing_of_many(open: Open<'_>) {
    let objects = open("many");
    let path = |number: usize| format!("packs/{:02x}/{number:08x}", number % 7);
    scope(|scope| {
        for first in 0..4 {
            let objects = objects.clone();
            scope.spawn(move || {
                for number in (first..LISTED).step_by(4) {
                    objects.put_new(&path(number), noise(number as u64, number % 5)).unwrap();
                }
            });
        }
    });
    let mut expected: Vec<Entry> =
        (0..LISTED).map(|number| Entry { path: path(number), size: (number % 5) as u64 }).collect();
    expected.sort();
    assert!(objects.list("packs").unwrap() == expected && objects.list("").unwrap() == expected);
    let below = objects.list("packs/03").unwrap();
    assert!(below.len() > 150 && below.iter().all(|entry| entry.path.starts_with("packs/03/")));
}

fn view_of_merged_log(open: Open<'_>) {
    let objects = open("merged");
    let folder = objects.source_folder(&SourceName::new("app").unwrap());
    scope(|scope| {
        for first in 0..4 {
            let (objects, folder) = (objects.clone(), &folder);
            let shipped = (first..720).step_by(4).map(|at| (at, at + 1));
            scope.spawn(move || put_log(&objects, folder, 0, shipped));
        }
    });
    put_log(&objects, &folder, 1, (0..7).map(|no| (no * 100, no * 100 + 100)));
    assert_eq!(objects.list("sources").unwrap().len(), 727);
    let viewed = objects.view().unwrap().list("sources").unwrap();
    let (merged, shipped) = viewed.split_at(7);
    assert!(merged.iter().all(|entry| entry.path.ends_with("-1")), "{viewed:?}");
    let first = "sources/app/log/00000001/0000000000000001/00000000000002bc-00000000000002bd";
    assert_eq!((shipped.len(), shipped[0].path.as_str()), (20, first));
}

fn delete(open: Open<'_>) {
    let objects = open("delete");
    objects.put_new("packs/00/x", noise(1, 10)).unwrap();
    objects.put_new("packs/00/y", noise(2, 10)).unwrap();
    for _ in 0..2 {
        objects.delete("packs/00/x").unwrap(); // a missing object is no error
        objects.delete("packs/11/never").unwrap();
    }
    assert!(!objects.exists("packs/00/x").unwrap() && objects.exists("packs/00/y").unwrap());
    assert_eq!(objects.list("packs").unwrap().len(), 1);
    // The name is free again.
    objects.put_new("packs/00/x", noise(3, 11)).unwrap();
    assert_eq!(open("delete").get("packs/00/x").unwrap(), noise(3, 11));

    let many: Vec<String> = (0..40).map(|no| format!("packs/22/{no:02}")).collect();
    many.iter().skip(1).for_each(|path| objects.put_new(path, noise(4, 5)).unwrap());
    objects.delete_all(&many[..39]).unwrap(); // of which the first never was
    let left: Vec<String> = objects.list("packs/22").unwrap().into_iter().map(|entry| entry.path).collect();
    assert_eq!(left, many[39..]);
    assert!(objects.delete_all(&["../x".to_owned()]).is_err());
}

fn large_object(open: Open<'_>) {
    let (objects, bytes) = (open("large"), noise(9, 16 << 20));
    objects.put_new("sources/db/log/large", bytes.clone()).unwrap();
    let other = open("large");
    assert_eq!(other.size("sources/db/log/large").unwrap(), 16 << 20);
    assert!(other.get("sources/db/log/large").unwrap() == bytes);
    let end = other.get_range("sources/db/log/large", (16 << 20) - 1000..16 << 20).unwrap();
    assert!(end == bytes[(16 << 20) - 1000..]);
    let error = other.put_new("sources/db/log/large", noise(10, 16 << 20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Foreign, "{error}");
    other.put_new("sources/db/log/large", bytes).unwrap();
}

fn lease_race(open: Open<'_>) {
    // FAILURES 21
    let handles: Vec<Objects> = (0..RACERS).map(|_| open("leases")).collect();
    let leases: Vec<Lease> = race(&handles, |_, objects| objects.lease(LeaseRole::Use).unwrap());
    let seen = open("leases").leases().unwrap();
    assert_eq!(seen.len(), RACERS);
    for lease in &leases {
        lease.check().unwrap();
        let ours = seen.iter().find(|seen| seen.id == lease.id()).unwrap();
        assert_eq!(handles[0].role_of(ours).unwrap(), Some(LeaseRole::Use));
    }
    // Several collectors end the same lease: its holder sees it, the others are untouched.
    let lapsed = seen.iter().find(|seen| seen.id == leases[0].id()).unwrap();
    race(&handles, |_, objects| assert!(objects.end_lapsed(lapsed).unwrap()));
    assert_eq!(leases[0].check().unwrap_err().kind(), ErrorKind::Lapsed);
    leases[1..].iter().for_each(|lease| lease.check().unwrap());
    drop(leases);
    assert_eq!(open("leases").list(LEASES).unwrap(), []);
}

fn names(open: Open<'_>) {
    let objects = open("names");
    // Sources have names in any script; two that differ in any byte are two. `a\u{308}` and `ä`
    // look the same.
    let sources = ["Ünï", "a\u{308}", "ä", "日本語.db", "db-1_x.sqlite", "DB-1_x.sqlite", "€→½", "हिन्दी"];
    let mark = "0123456789abcdef0123456789abcdef";
    let mut paths = vec![format!("packs/ff/{}", "f".repeat(64))];
    paths.extend(sources.map(|source| format!("sources/{source}/points/{mark}")));
    for path in &paths {
        assert!(ObjectName::parse(path).is_some(), "the layout has {path}");
    }
    for (number, path) in paths.iter().enumerate() {
        objects.put_new(path, noise(number as u64, 100 + number)).unwrap();
    }
    paths.sort();
    let listed: Vec<String> = objects.list("").unwrap().into_iter().map(|entry| entry.path).collect();
    assert_eq!(listed, paths);
    for path in &paths {
        let (folder, _) = path.rsplit_once('/').unwrap();
        assert_eq!(objects.list(folder).unwrap().len(), 1, "{folder}");
        assert_eq!(objects.get(path).unwrap().len() as u64, objects.size(path).unwrap());
        objects.delete(path).unwrap();
    }
    assert_eq!(objects.list("").unwrap(), []);
    for refused in ["", "/a", "a//b", "a/../b", "a/", "a/\u{1}"] {
        assert!(objects.put_new(refused, noise(1, 1)).is_err(), "{refused:?}");
    }
}
