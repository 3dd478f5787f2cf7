//! Backups with lists of changed ranges.

use crate::lab::Lab;
use pitr_dedup::ChunkStore;
use pitr_directory::{BackupOptions, ChangedRanges, RangesUse, Taken, backup};
use pitr_format::SourceName;
use pitr_testkit::noise;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

#[test]
fn only_the_listed_ranges_of_a_listed_file_are_read() {
    let lab = Lab::new();
    fs::write(lab.at("listed"), noise(1, 5 << 20)).unwrap();
    fs::write(lab.at("other"), noise(2, 5 << 20)).unwrap();
    let first = lab.backup();
    assert_eq!(first.ranges, RangesUse::NotGiven);
    let before = fs::read(lab.at("listed")).unwrap();
    for (at, seed) in [(8192, 3), (3 << 20, 4)] {
        lab.write("listed", at, &noise(seed, 4096));
        lab.write("other", at, &noise(seed, 4096));
    }
    // One of two changes is listed. The snapshot lacks the other change, which proves that the rest
    // of the file was not read.
    let mut ranges = ChangedRanges::since(first.snapshot.id);
    ranges.add(Path::new("listed"), 8192..8193);
    let second = lab.backup_listed(ranges.clone());
    assert_eq!(second.ranges, RangesUse::Used { files: 1, unmatched: 0 });
    assert_eq!(second.snapshot.sizes.changed, 3 * 4096 + tree_bytes(&lab, &second));
    let (output, _) = lab.restore(&second, "out");
    assert!(fs::read(output.join("other")).unwrap() == fs::read(lab.at("other")).unwrap());
    let listed = fs::read(output.join("listed")).unwrap();
    assert!(listed[8192..12288] == noise(3, 4096)[..]);
    assert!(listed[3 << 20..] == before[3 << 20..]);
    // Ranges since an earlier snapshot include the ranges since the parent. A full snapshot ignores
    // ranges.
    ranges.add(Path::new("listed"), 3 << 20..(3 << 20) + 4096);
    let third = lab.backup_listed(ranges);
    assert_eq!(third.ranges, RangesUse::Used { files: 1, unmatched: 0 });
    lab.assert_restored(&third, "third");
    let options = BackupOptions {
        full: true,
        changed_ranges: Some(ChangedRanges::since(first.snapshot.id)),
        ..Default::default()
    };
    lab.write("listed", 0, b"x");
    let full =
        backup(&lab.objects, &lab.clock, &SourceName::new("s").unwrap(), &lab.source(), options).unwrap();
    assert_eq!(full.ranges, RangesUse::NotGiven);
    lab.assert_restored(&full, "full");
}

/// The bytes of a snapshot's tree.
fn tree_bytes(lab: &Lab, taken: &Taken) -> u64 {
    let store = ChunkStore::open(lab.objects.clone()).unwrap();
    let files = taken.snapshot.manifest(&store).unwrap().files;
    let tree = files.iter().find(|file| file.shape.file.get() == u32::MAX);
    tree.map_or(0, |file| file.shape.len)
}

#[test]
fn ranges_are_not_trusted_for_files_that_the_parent_lacks() {
    let lab = Lab::new();
    for name in ["a", "replaced", "gone"] {
        fs::write(lab.at(name), noise(1, 2 << 20)).unwrap();
    }
    let first = lab.backup();
    lab.write("a", 100, b"changed");
    // Another file replaces the parent's.
    fs::write(lab.at("new"), noise(2, 2 << 20)).unwrap();
    fs::rename(lab.at("new"), lab.at("replaced")).unwrap();
    fs::remove_file(lab.at("gone")).unwrap();
    let mut ranges = ChangedRanges::since(first.snapshot.id);
    ["a", "replaced", "gone", "never there"].iter().for_each(|name| ranges.add(Path::new(name), 0..1));
    let second = lab.backup_listed(ranges);
    assert_eq!(second.ranges, RangesUse::Used { files: 1, unmatched: 3 });
    lab.assert_restored(&second, "out");
    // Ranges since a snapshot of another source.
    lab.write("a", 1 << 20, b"changed");
    let third = lab.backup_listed(ChangedRanges::since("00112233445566778899aabbccddeeff".parse().unwrap()));
    assert_eq!(third.ranges, RangesUse::Elsewhere);
    lab.assert_restored(&third, "third");
    assert_eq!(
        Lab::new().backup_listed(ChangedRanges::since(first.snapshot.id)).ranges,
        RangesUse::Elsewhere
    );
}

#[test]
fn a_listed_file_of_several_names_that_grows_and_shrinks_is_restored() {
    let lab = Lab::new();
    fs::create_dir(lab.at("d")).unwrap();
    fs::write(lab.at("d/file"), noise(1, 3 << 20)).unwrap();
    fs::hard_link(lab.at("d/file"), lab.at("e")).unwrap();
    let mut last = lab.backup();
    for (round, len) in [(3 << 20) + 5000, 3 << 20, 1000, 4 << 20, 4 << 20].into_iter().enumerate() {
        let mut ranges = ChangedRanges::since(last.snapshot.id);
        let file = File::options().read(true).write(true).open(lab.at("e")).unwrap();
        let had = file.metadata().unwrap().len();
        file.set_len(len).unwrap();
        for (seed, at) in [0, 40_000.min(len - 20), len - 10].into_iter().enumerate() {
            let bytes = noise(seed as u64 + 10 * round as u64, 5000.min((len - at) as usize));
            file.write_all_at(&bytes, at).unwrap();
            // A file may be listed by either name, in any order, also twice. Bytes past the old
            // length need not be listed.
            let name = if seed == 0 { "d/file" } else { "e" };
            ranges.add(Path::new(name), at..at + bytes.len() as u64);
            ranges.add(Path::new(name), at..at + 1);
        }
        last = lab.backup_listed(ranges);
        let expected = if round == 4 { 3 * 8192 } else { had.max(len) };
        assert!(
            last.snapshot.sizes.changed <= expected + tree_bytes(&lab, &last),
            "{round}: {:?}",
            last.snapshot.sizes
        );
        assert_eq!(last.ranges, RangesUse::Used { files: 1, unmatched: 0 });
        lab.assert_restored(&last, &format!("out{round}"));
    }
}
