//! Damaged trees, contract violations, crashes.

use crate::model::Model;
use crate::{FILE, Noise, memory, meta, restored, source_name};
use pitr_dedup::ChunkStore;
use pitr_format::FileId;
use pitr_objects::Objects;
use pitr_objects::layout::RootName;
use pitr_snapshot::*;
use pitr_testkit::files_below;
use std::fs;
use std::path::Path;

fn filled(blocks: u64) -> Model {
    let mut model = Model::one(4096, blocks * 4096);
    let mut noise = Noise::new(3);
    (0..blocks).for_each(|block| model.file().write(block, noise.half_compressible(4096)));
    model
}

pub(crate) fn local(folder: &Path) -> ChunkStore {
    ChunkStore::open(Objects::create_local(folder).unwrap()).unwrap()
}

fn read_all(store: &ChunkStore, path: &str) -> Result<Vec<Vec<u8>>> {
    let reader = SnapshotReader::open(store.clone(), Snapshot::load(store.objects(), path)?.manifest(store)?);
    (0..reader.extents(FILE)?).map(|extent| reader.read_extent(FILE, extent)).collect()
}

#[test]
fn a_flipped_byte_is_refused_or_harmless() {
    // FAILURES 29
    let folder = tempfile::tempdir().unwrap();
    let store = local(folder.path());
    let mut model = filled(300);
    let full = write_full(&store, &model, meta(1), None).unwrap().publish(&store).unwrap();
    model.mark();
    (0..20).for_each(|n| model.file().write(n * 13, vec![n as u8 + 1; 4096]));
    let next = write_increment(&store, &full, &mut model.delta(None), meta(2)).unwrap();
    let next = next.publish(&store).unwrap();
    let sound = read_all(&store, &next.snapshot.path(store.objects())).unwrap();

    let mut refused = 0;
    for path in files_below(folder.path()) {
        let bytes = fs::read(&path).unwrap();
        for at in (0..bytes.len()).step_by((bytes.len() / 60).max(1)) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x20;
            fs::write(&path, &flipped).unwrap();
            match ChunkStore::open(store.objects().clone()) {
                Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}"),
                Ok(store) => match read_all(&store, &next.snapshot.path(store.objects())) {
                    Ok(read) => assert!(read == sound, "{} at {at}", path.display()),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
                        refused += 1;
                    }
                },
            }
        }
        fs::write(&path, &bytes).unwrap();
    }
    assert!(refused > 100, "{refused}");
    assert!(read_all(&store, &next.snapshot.path(store.objects())).unwrap() == sound);
}

#[test]
fn a_damaged_parent_is_reported_and_a_full_snapshot_is_possible() {
    // FAILURES 29
    let folder = tempfile::tempdir().unwrap();
    let store = local(folder.path());
    let mut model = filled(300);
    let full = write_full(&store, &model, meta(1), None).unwrap().publish(&store).unwrap();
    let store = local(folder.path());
    for pack in files_below(&folder.path().join("packs")) {
        fs::write(&pack, b"lost").unwrap();
    }
    model.mark();
    model.file().write(7, vec![1; 4096]);
    let error = write_increment(&store, &full, &mut model.delta(None), meta(2)).unwrap_err();
    assert!(matches!(&error, Error::Parent { snapshot, .. } if *snapshot == full.snapshot.id), "{error}");
    let error = write_full(&store, &model, meta(2), Some(&full)).unwrap_err();
    assert!(matches!(error, Error::Parent { .. }), "{error}");
    // A store that no longer knows the lost packs can take a full snapshot.
    for index in files_below(&folder.path().join("index")) {
        fs::remove_file(&index).unwrap();
    }
    let store = local(folder.path());
    let again = write_full(&store, &model, meta(2), None).unwrap();
    assert!(restored(&store, &again, FILE)[7 * 4096..8 * 4096] == [1; 4096]);
}

#[test]
fn an_increment_refuses_a_parent_with_a_missing_chunk() {
    // FAILURES 29: an increment reads nothing of the chunks that it reuses.
    let folder = tempfile::tempdir().unwrap();
    let store = local(folder.path());
    let mut model = filled(300);
    let full = write_full(&store, &model, meta(1), None).unwrap().publish(&store).unwrap();
    for index in files_below(&folder.path().join("index")) {
        fs::remove_file(&index).unwrap();
    }
    let store = local(folder.path());
    model.mark();
    let error = write_increment(&store, &full, &mut model.delta(None), meta(2)).unwrap_err();
    assert!(matches!(&error, Error::Parent { snapshot, .. } if *snapshot == full.snapshot.id), "{error}");
}

#[test]
fn damaged_roots_are_reported_and_do_not_block_the_others() {
    // FAILURES 29, 36
    let folder = tempfile::tempdir().unwrap();
    let store = local(folder.path());
    let model = filled(10);
    let taken: Vec<Snapshot> = (1..5)
        .map(|at| write_full(&store, &model, meta(at), None).unwrap().publish(&store).unwrap().snapshot)
        .collect();
    let at = |no: usize| folder.path().join(taken[no].path(store.objects()));
    let mut bytes = fs::read(at(0)).unwrap();
    bytes[100] ^= 1;
    fs::write(at(0), bytes).unwrap();
    let (one, two) = (fs::read(at(1)).unwrap(), fs::read(at(2)).unwrap());
    fs::write(at(1), two).unwrap();
    fs::write(at(2), one).unwrap();
    let roots = load_all(store.objects(), &source_name()).unwrap();
    assert_eq!(roots.snapshots, taken[3..]);
    let damaged: Vec<_> = roots.damaged.iter().map(|root| root.path.clone()).collect();
    assert_eq!(damaged, taken[..3].iter().map(|m| m.path(store.objects())).collect::<Vec<_>>());
    assert!(roots.damaged.iter().all(|root| root.error.to_string().starts_with(root.path.as_str())));
    // A search for the newest root skips the damaged ones, and reads no root before the one that it
    // returns.
    let names = list(store.objects(), &source_name()).unwrap();
    let newest = |names: &[RootName], fits: fn(&Snapshot) -> bool| {
        newest(store.objects(), &source_name(), names, fits).unwrap()
    };
    assert_eq!(names.iter().map(|name| name.consistent_at.get()).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(newest(&names, |_| true).as_ref(), Some(&taken[3]));
    assert_eq!(newest(&names, |found| found.meta.consistent_at.get() < 4), None);
    assert_eq!(newest(&names[..3], |_| true), None);
    assert!(names[1].id == taken[1].id.front() && names[1].id != taken[2].id.front());
    fs::remove_file(at(3)).unwrap();
    let gone = taken[3].manifest(&store).unwrap_err();
    assert!(matches!(gone, Error::Gone { snapshot } if snapshot == taken[3].id), "{gone}");
    assert_eq!(newest(&names, |_| true), None);
    // Files without a root's name are not listed.
    let folder = folder.path().join(taken[0].path(store.objects()));
    fs::rename(&folder, folder.with_file_name("0000000000000001-0")).unwrap();
    fs::write(folder.with_file_name("1-00000000"), b"").unwrap();
    assert_eq!(list(store.objects(), &source_name()).unwrap().len(), 2);
}

#[test]
fn an_unpublished_snapshot_does_not_exist() {
    // FAILURES 23
    let store = memory();
    let mut model = filled(20);
    let full = write_full(&store, &model, meta(1), None).unwrap();
    assert!(load_all(store.objects(), &source_name()).unwrap().snapshots.is_empty());
    let full = full.publish(&store).unwrap();
    assert_eq!(
        load_all(store.objects(), &source_name()).unwrap().snapshots,
        std::slice::from_ref(&full.snapshot)
    );
    // The reply to the root's put is lost, and the root is put again.
    model.mark();
    let next = write_increment(&store, &full, &mut model.delta(None), meta(2)).unwrap();
    let first = next.clone().publish(&store).unwrap();
    assert_eq!(next.publish(&store).unwrap(), first);
}

struct Broken<'a> {
    model: &'a Model,
    images: Vec<(FileId, u64, Vec<u8>)>,
    fails: bool,
}

impl Delta for Broken<'_> {
    fn files(&self) -> Vec<FileShape> {
        BlockSource::files(self.model)
    }

    fn zeroed_from(&self, _file: FileId) -> u64 {
        u64::MAX
    }

    fn for_each_image(&mut self, sink: ImageSink<'_>) -> Result<()> {
        self.images.iter().try_for_each(|(file, block, image)| sink(*file, *block, image))?;
        if self.fails { Err(Error::Delta("log is gone".into())) } else { Ok(()) }
    }
}

#[test]
fn a_delta_that_violates_its_contract_is_refused() {
    let store = memory();
    let mut model = filled(300);
    model.file().set_len(40 << 20);
    let full = write_full(&store, &model, meta(1), None).unwrap();
    let image = vec![1u8; 4096];
    let try_with = |images: Vec<(FileId, u64, Vec<u8>)>, fails| {
        let mut delta = Broken { model: &model, images, fails };
        write_increment(&store, &full, &mut delta, meta(2))
    };
    let one = |block| (FILE, block, image.clone());
    let other = FileId::new(9);
    for images in [
        vec![one(5), one(6), one(5)],
        vec![(other, 1, image.clone())],
        vec![(FILE, 1, vec![1; 4095])],
        vec![(FILE, 1, vec![1; 8192])],
        (256..512).map(one).chain([one(299)]).collect(),
        // The two writes are so far apart that the first was already stored when the second came:
        // once as a block, and once as a whole extent.
        (0..9000).map(one).chain([one(7)]).collect(),
        (0..9000).chain(0..256).map(one).collect(),
    ] {
        assert!(matches!(try_with(images, false), Err(Error::Image { .. })));
    }
    assert!(matches!(try_with(vec![one(1)], true), Err(Error::Delta(_))));
    let next = try_with(vec![one(u64::MAX), one(40 << 8), one(7)], false).unwrap();
    assert_eq!(next.snapshot.sizes.changed, 4096);
}

#[test]
fn an_unreadable_or_invalid_source_is_reported() {
    let store = memory();
    struct Source(FileShape, usize);
    impl BlockSource for Source {
        fn files(&self) -> Vec<FileShape> {
            vec![self.0.clone(); self.1]
        }
        fn read_at(&self, _file: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
            buf.fill(1);
            if offset + buf.len() as u64 > 5 << 20 { Err("I/O error".into()) } else { Ok(()) }
        }
    }
    let shape = FileShape { file: FILE, name: "a".into(), len: 6 << 20, block_bytes: 4096 };
    let error = write_full(&store, &Source(shape.clone(), 1), meta(1), None).unwrap_err();
    assert!(matches!(error, Error::Source { offset: 0x40_0000, .. }), "{error}");
    let error = write_full(&store, &Source(shape.clone(), 2), meta(1), None).unwrap_err();
    assert!(matches!(error, Error::Shape { file: FILE, .. }), "{error}");
    for shape in [
        FileShape { name: "../a".into(), ..shape.clone() },
        FileShape { block_bytes: 1000, ..shape.clone() },
        FileShape { block_bytes: 1 << 17, ..shape.clone() },
        FileShape { len: u64::MAX, ..shape.clone() },
    ] {
        assert!(matches!(write_full(&store, &Source(shape, 1), meta(1), None), Err(Error::Shape { .. })));
    }
}
