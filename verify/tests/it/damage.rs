//! One damaged object at a time: it is found and reported with the affected snapshots.

use crate::world::World;
use pitr_testkit::files_below;
use pitr_verify::{Depth, Fault, Options, Report, verify};
use std::fs;
use std::num::NonZeroU32;

const DEEP: Options = Options::deep();

fn report(world: &World, options: Options) -> Result<Report, String> {
    let objects = world.open().map_err(|error| error.to_string())?;
    verify(&objects, options, &|_| {}).map_err(|error| error.to_string())
}

#[test]
fn a_sound_repository_has_no_fault_and_every_byte_is_read() {
    for encrypted in [false, true] {
        let world = World::new(encrypted);
        let size: u64 =
            files_below(&world.repository()).iter().map(|path| path.metadata().unwrap().len()).sum();
        for options in [Options::default(), DEEP] {
            let report = report(&world, options).unwrap();
            assert!(report.is_sound() && report.strangers.is_empty(), "{report:?}");
            assert_eq!((report.bytes, report.snapshots), (size, 4));
            assert_eq!(report.objects as usize, files_below(&world.repository()).len());
        }
    }
}

/// Applies `harm` to each object in turn. The report must agree with what can be read.
fn one_after_the_other(encrypted: bool, options: Options, harm: impl Fn(&[u8], usize) -> Option<Vec<u8>>) {
    let world = World::new(encrypted);
    let root = world.repository();
    for (no, path) in files_below(&root).into_iter().enumerate() {
        let object = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        let sound = fs::read(&path).unwrap();
        match harm(&sound, no) {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        match report(&world, options) {
            // Without the repository object and the key ring the repository can't be opened.
            Err(_) if object == "repository" || object.starts_with("keys/") => {}
            Err(error) => panic!("{object}: {error}"),
            Ok(report) => {
                let lost = !path.exists();
                let named = report.faults.iter().any(|fault| fault.object == object);
                // The loss of an object that no other object refers to is not found: a root, a
                // claim, the newest log.
                let missed = object.starts_with("packs/") || object.starts_with("index/");
                assert!(named || lost && !missed || !report.is_sound() && lost, "{object}: {report:?}");
                for (no, (source, manifest, _)) in world.contents.iter().enumerate() {
                    let spoiled =
                        |fault: &Fault| fault.snapshots.contains(&(source.clone(), manifest.snapshot.id));
                    let root_gone = object == manifest.snapshot.path(&world.open().unwrap());
                    if !world.reads(no) {
                        assert!(
                            report.faults.iter().any(spoiled) || root_gone,
                            "{object} spoils {no}: {report:?}"
                        );
                    } else if object.starts_with("packs/") {
                        // A pack that is damaged as a whole counts for all of its chunks.
                        let of_chunks = |fault: &&Fault| fault.what.starts_with("chunk");
                        let wrongly = report.faults.iter().filter(of_chunks).any(spoiled);
                        assert!(!wrongly, "{object} does not spoil {no}: {report:?}");
                    }
                }
            }
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, sound).unwrap();
    }
    assert!(report(&world, DEEP).unwrap().is_sound());
}

#[test]
fn a_flipped_bit_in_any_object_is_found() {
    // FAILURES 29
    for encrypted in [false, true] {
        one_after_the_other(encrypted, Options::default(), |sound, no| {
            let mut bytes = sound.to_vec();
            let at = no * 7919 % bytes.len();
            bytes[at] ^= 1 << (no % 8);
            Some(bytes)
        });
    }
}

#[test]
fn a_truncated_an_empty_and_a_missing_object_are_found() {
    // FAILURES 29, 55
    one_after_the_other(false, Options::default(), |sound, _| Some(sound[..sound.len() - 1].to_vec()));
    one_after_the_other(true, DEEP, |_, _| Some(Vec::new()));
    one_after_the_other(false, Options::default(), |_, _| None);
}

#[test]
fn each_depth_finds_what_it_reads() {
    // FAILURES 29
    let world = World::new(false);
    let all = files_below(&world.repository());
    let size: u64 = all.iter().map(|path| path.metadata().unwrap().len()).sum();
    let at = |depth, metadata| Options { depth, metadata };
    let sample = |frames| Depth::Sample(NonZeroU32::new(frames).unwrap());
    for options in [at(Depth::Footers, true), at(Depth::Footers, false), at(sample(1), true)] {
        let report = report(&world, options).unwrap();
        assert!(report.is_sound() && report.bytes < size, "{options:?}: {report:?}");
        assert_eq!((report.snapshots > 0, report.objects as usize), (options.metadata, all.len()));
    }
    let packs = all.iter().filter(|path| path.to_string_lossy().contains("/packs/"));
    let pack = packs.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let sound = fs::read(pack).unwrap();
    let found = |options| !report(&world, options).unwrap().is_sound();

    // A bit of a frame is found by each depth that reads the frame.
    let mut harmed = sound.clone();
    harmed[100] ^= 1;
    fs::write(pack, &harmed).unwrap();
    assert!(!found(at(Depth::Footers, false)));
    assert!(found(at(sample(u32::MAX), false)) && found(at(Depth::Whole, false)));
    let of_all = report(&world, at(sample(u32::MAX), true)).unwrap();
    assert!(of_all.faults.iter().all(|fault| !fault.snapshots.is_empty()), "{of_all:?}");
    // The last byte belongs to the footer.
    let mut harmed = sound.clone();
    *harmed.last_mut().unwrap() ^= 1;
    fs::write(pack, &harmed).unwrap();
    assert!(found(at(Depth::Footers, false)) && found(at(sample(1), false)));
    fs::write(pack, &sound).unwrap();
    // A missing object damages no other one.
    fs::remove_file(pack).unwrap();
    assert!(!found(at(Depth::Whole, false)) && found(at(Depth::Footers, true)));
}

#[test]
fn swapped_objects_are_found() {
    // FAILURES 29
    for encrypted in [false, true] {
        let world = World::new(encrypted);
        let root = world.repository();
        let files = files_below(&root);
        for folder in ["packs", "index", "/log/", "/snapshots/", "/points/"] {
            let some: Vec<_> = files.iter().filter(|path| path.to_string_lossy().contains(folder)).collect();
            let (a, b) = (some[0], some[1]);
            let (of_a, of_b) = (fs::read(a).unwrap(), fs::read(b).unwrap());
            fs::write(a, &of_b).unwrap();
            fs::write(b, &of_a).unwrap();
            for depth in [Depth::Whole, Depth::Footers] {
                let report = report(&world, Options { depth, metadata: true }).unwrap();
                for path in [a, b] {
                    let object = path.strip_prefix(&root).unwrap().to_string_lossy();
                    assert!(report.faults.iter().any(|fault| fault.object == object), "{object}: {report:?}");
                }
            }
            fs::write(a, of_a).unwrap();
            fs::write(b, of_b).unwrap();
        }
    }
}

#[test]
fn a_lost_part_of_a_log_is_a_fault_and_a_foreign_file_is_not() {
    // FAILURES 11
    let world = World::new(false);
    let logs: Vec<_> = files_below(&world.repository())
        .into_iter()
        .filter(|path| path.to_string_lossy().contains("/log/"))
        .collect();
    assert_eq!(logs.len(), 3);
    fs::remove_file(&logs[1]).unwrap();
    fs::write(world.repository().join("notes.txt"), "mine").unwrap();
    let report = report(&world, Options::default()).unwrap();
    assert_eq!(report.strangers, ["notes.txt"]);
    // The point of the last commit needs the lost part too (FAILURES 25).
    let (points, rest): (Vec<&Fault>, Vec<_>) =
        report.faults.iter().partition(|fault| fault.object.contains("/points/"));
    assert!(
        matches!(rest[..], [one] if one.object == "sources/two/log" && one.what.contains("is missing")),
        "{report:?}"
    );
    assert!(matches!(points[..], [one] if one.what.contains("移行前")), "{report:?}");
}
