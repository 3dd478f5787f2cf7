//! Snapshots of many files, which are stored in leaves.

use crate::cut::Files;
use crate::{Noise, memory, meta, restored};
use pitr_format::FileId;
use pitr_snapshot::*;

fn stored_by(manifest: &Manifest) -> u64 {
    manifest.snapshot.sizes.stored
}

#[test]
fn an_increment_of_many_files_costs_what_changed() {
    let store = memory();
    let mut noise = Noise::new(5);
    let content = (0..3000).map(|_| (noise.half_compressible(300), 4096)).collect();
    let mut files = Files::of(content);
    let full = write_full(&store, &files, meta(1), None).unwrap().publish(&store).unwrap();
    let same = write_full(&store, &files, meta(2), Some(&full)).unwrap().publish(&store).unwrap();
    // Leaves of 64 files, with 32 bytes each in the root.
    assert!(stored_by(&same) < 48 * 32 + 1000, "{}", stored_by(&same));
    for changed in [7, 1500, 2999] {
        files.files[changed].0[5] ^= 1;
    }
    let next = write_full(&store, &files, meta(3), Some(&same)).unwrap().publish(&store).unwrap();
    // Each changed file costs an overlay or chunk, and the leaf of files that contains it.
    assert!(stored_by(&next) < stored_by(&same) + 3 * (600 + 64 * 60), "{}", stored_by(&next));
    for (at, number) in [7u32, 8, 1500, 2999].into_iter().enumerate() {
        let file = FileId::new(number);
        assert!(restored(&store, &next, file) == files.files[number as usize].0, "{at}");
    }
    for taken in [full, same, next] {
        assert_eq!(taken.snapshot.manifest(&store).unwrap(), taken);
        assert_eq!(taken.files.len(), 3000);
    }
}

#[test]
fn a_snapshot_with_a_damaged_leaf_of_files_is_refused_as_parent() {
    // FAILURES 29
    let folder = tempfile::tempdir().unwrap();
    let store = crate::damage::local(folder.path());
    let files = Files::of((0..100u8).map(|n| (vec![n + 1; 9], 4096)).collect());
    let full = write_full(&store, &files, meta(1), None).unwrap().publish(&store).unwrap();
    for pack in pitr_testkit::files_below(&folder.path().join("packs")) {
        std::fs::write(&pack, b"lost").unwrap();
    }
    let store = crate::damage::local(folder.path());
    assert_eq!(full.snapshot.manifest(&store).unwrap_err().kind(), ErrorKind::Corrupt);
    let error = full.snapshot.as_parent(&store).unwrap_err();
    assert!(matches!(&error, Error::Parent { snapshot, .. } if *snapshot == full.snapshot.id), "{error}");
    // The description in the snapshot's root can still be read.
    assert_eq!(load_all(store.objects(), &full.snapshot.meta.source).unwrap().snapshots, [full.snapshot]);
}
