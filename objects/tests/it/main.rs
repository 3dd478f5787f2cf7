//! The repository's objects as their users see them.

#![allow(clippy::unwrap_used)] // test helpers fail by panicking

mod buckets;
mod conformance;
mod crash;
mod keys;
mod puts;

use pitr_codec::{Codec, HEADER_BYTES, ObjectBuilder, ObjectKind, TAIL_BYTES_HINT, encode_frame};
use pitr_format::{Epoch, Lsn, SourceName, TimelineId, Timestamp};
use pitr_objects::layout::{LogName, SourceFolder, SourceObject};
use pitr_objects::object_store::ObjectStore;
use pitr_objects::object_store::ObjectStoreExt;
use pitr_objects::object_store::memory::InMemory;
use pitr_objects::*;
use pitr_testkit::{Answer, ListingOrder, Request, TestStore};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn container(objects: &Objects, kind: ObjectKind, frames: &[Vec<u8>], footer: &[u8]) -> Vec<u8> {
    let mut builder = ObjectBuilder::new(kind, objects.owner(), Codec::None);
    for raw in frames {
        builder.push(&encode_frame(Codec::None, raw).unwrap()).unwrap();
    }
    builder.finish(footer).unwrap()
}

/// A local repository and one in memory.
fn both() -> (tempfile::TempDir, [Objects; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let local = Objects::create_local(folder.path().join("deep/repo")).unwrap();
    (folder, [local, Objects::memory().unwrap()])
}

#[test]
fn an_object_is_created_once() {
    let (_folder, stores) = both();
    for objects in stores {
        objects.put_new("a/b", vec![1; 10]).unwrap();
        assert_eq!(objects.get("a/b").unwrap(), vec![1; 10]);
        let error = objects.put_new("a/b", vec![2; 10]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Foreign);
        assert!(error.to_string().starts_with("a/b: "), "{error}");
        assert_eq!(objects.get("a/b").unwrap(), vec![1; 10]);
        // A second put of the same bytes succeeds.
        objects.put_new("a/b", vec![1; 10]).unwrap();
    }
}

#[test]
fn a_put_whose_reply_was_lost_is_ours() {
    // FAILURES 27, 46
    let store = TestStore::memory().answering_puts([Answer::LoseReply]);
    let objects = Objects::with_store(Arc::new(store)).unwrap();
    objects.put_new("x", vec![1; 10]).unwrap();
    assert_eq!(objects.get("x").unwrap(), vec![1; 10]);
}

#[test]
fn a_retry_does_not_accept_the_object_of_another_writer() {
    // FAILURES 21, 27: our put failed, and another writer has created the object.
    let shared = Arc::new(InMemory::new());
    let other = Objects::with_store(shared.clone()).unwrap();
    other.put_new("x", container(&other, ObjectKind::Claim, &[], b"same")).unwrap();
    let ours =
        Objects::with_store(Arc::new(TestStore::around(shared).answering_puts([Answer::Break]))).unwrap();
    let error = ours.put_new("x", container(&ours, ObjectKind::Claim, &[], b"same")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Foreign);
}

#[test]
fn an_unreachable_store_says_so() {
    let store = TestStore::memory().answering_puts([Answer::Break; 4]);
    let objects = Objects::with_store(Arc::new(store)).unwrap();
    let error = objects.put_new("a/x", vec![1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.to_string().contains("a/x"), "{error}");
    objects.put_new("a/x", vec![1]).unwrap();
}

#[test]
fn a_listing_that_breaks_off_lists_nothing() {
    // FAILURES 20
    let store = TestStore::memory().answering(|request| match request {
        Request::List(_) => Answer::BreakListAfter(1),
        _ => Answer::Serve,
    });
    let objects = Objects::with_store(Arc::new(store)).unwrap();
    objects.put_new("a/x", vec![1]).unwrap();
    objects.put_new("a/y", vec![1]).unwrap();
    assert_eq!(objects.list("a").unwrap_err().kind(), ErrorKind::Unreachable);
}

/// Puts log objects of a source, shipped and merged, by their positions.
fn put_log(objects: &Objects, folder: &SourceFolder, level: u8, ranges: impl Iterator<Item = (u64, u64)>) {
    for (from, to) in ranges {
        let (from, to) = (Lsn::new(from), Lsn::new(to));
        let name = LogName { timeline: TimelineId::FIRST, epoch: Epoch::FIRST, from, to, level };
        objects.put_new(&folder.path(&SourceObject::Log(name)), vec![7]).unwrap();
    }
}

#[test]
fn a_view_is_the_same_in_whatever_order_a_store_lists() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let objects = Objects::with_store(Arc::clone(&store)).unwrap();
    let folder = objects.source_folder(&SourceName::new("app").unwrap());
    put_log(&objects, &folder, 0, (0..1300).map(|at| (at, at + 1)));
    put_log(&objects, &folder, 1, (0..12).map(|no| (no * 100, no * 100 + 100)));
    put_log(&objects, &folder, 1, std::iter::once((1250, 1260)));
    let listing = |order| {
        let lists = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&lists);
        let store = TestStore::around(Arc::clone(&store)).listing(order).answering(move |request| {
            count.fetch_add(usize::from(matches!(request, Request::List(_))), Ordering::Relaxed);
            Answer::Serve
        });
        let listed = Objects::with_store(Arc::new(store)).unwrap().view().unwrap().list("sources").unwrap();
        (listed, lists.load(Ordering::Relaxed))
    };
    let (sorted, lists) = listing(ListingOrder::Sorted);
    assert_eq!((sorted.len(), lists), (13 + 100 - 10, 2));
    let (from_the_start, lists) = listing(ListingOrder::FromTheStart);
    assert_eq!((from_the_start, lists), (sorted.clone(), 3), "the second listing began at the start");
    assert_eq!(listing(ListingOrder::Backwards), (sorted, 1));
}

#[test]
fn an_unmounted_repository_is_not_read_as_empty() {
    // FAILURES 20
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("repo");
    let objects = Objects::create_local(&root).unwrap();
    objects.init_repository(Timestamp::from_micros(1)).unwrap();
    assert_eq!(objects.list("packs").unwrap(), vec![]);
    std::fs::rename(&root, folder.path().join("unmounted")).unwrap();
    assert_eq!(objects.list("packs").unwrap_err().kind(), ErrorKind::NotARepository);
    // FAILURES 34: no new folder is created in place of the repository.
    assert_eq!(objects.put_new("packs/x", vec![1]).unwrap_err().kind(), ErrorKind::NotARepository);
    assert!(!root.exists());
}

#[test]
fn prefixes_do_not_match_siblings() {
    // FAILURES 28
    let (_folder, stores) = both();
    let store = TestStore::memory().answering(|request| match request {
        Request::List(_) => Answer::ListAll,
        _ => Answer::Serve,
    });
    let loose = Objects::with_store(Arc::new(store)).unwrap();
    for objects in stores.into_iter().chain([loose]) {
        for path in ["s/db1/x", "s/db10/x", "s/db1/sub/y", "s/db1.x", "s/a"] {
            objects.put_new(path, vec![0; 3]).unwrap();
        }
        let paths =
            |prefix| -> Vec<_> { objects.list(prefix).unwrap().into_iter().map(|e| e.path).collect() };
        assert_eq!(paths("s/db1"), ["s/db1/sub/y", "s/db1/x"]);
        assert_eq!(paths("s/db"), [""; 0]);
        assert_eq!(paths("s/a"), [""; 0]);
        assert_eq!(paths("").len(), 5);
        assert_eq!(objects.list("s").unwrap()[0], Entry { path: "s/a".into(), size: 3 });
    }
}

#[test]
fn ranges_return_the_requested_bytes_or_an_error() {
    // FAILURES 28
    let (_folder, stores) = both();
    for objects in stores {
        objects.put_new("x", (0..100).collect::<Vec<u8>>()).unwrap();
        objects.put_new("empty", vec![]).unwrap();
        assert_eq!(objects.get_range("x", 10..12).unwrap(), vec![10, 11]);
        assert_eq!(objects.get_range("x", 0..100).unwrap().len(), 100);
        for start in [0, 100, 500] {
            assert!(objects.get_range("x", start..start).unwrap().is_empty());
        }
        for range in [99..101, 100..101, 500..501] {
            let end = range.end;
            match objects.get_range("x", range).unwrap_err() {
                Error::Truncated { path, end: e, len: 100 } if path == "x" && e == end => {}
                error => panic!("{error:?}"),
            }
        }
        assert_eq!(objects.get_range("y", 0..1).unwrap_err().kind(), ErrorKind::Missing);
        assert_eq!(objects.get_range("x", 0..1 << 40).unwrap_err().kind(), ErrorKind::Limit);
        assert_eq!(objects.get("empty").unwrap().len(), 0);
        assert_eq!(objects.get_tail("empty", 10).unwrap().object_len, 0);
        let tail = objects.get_tail("x", 30).unwrap();
        assert_eq!((tail.bytes.len(), tail.object_len), (30, 100));
        assert_eq!(objects.get_tail("x", 300).unwrap().bytes.len(), 100);
        // Large ranges bypass the page cache where possible, in blocks around the range.
        let large: Vec<u8> = (0..3_000_017u32).map(|at| (at * 7 + at / 251) as u8).collect();
        objects.put_new("large", large.clone()).unwrap();
        for (from, to) in
            [(0, large.len()), (5, 1_000_007), (4096, 4096 + (1 << 20)), (2_500_001, large.len())]
        {
            let got = objects.get_range("large", from as u64..to as u64).unwrap();
            assert!(got == large[from..to], "{from} to {to}");
        }
        assert!(objects.get_tail("large", 700_001).unwrap().bytes == large[large.len() - 700_001..]);
        let beyond = objects.get_range("large", 2_000_000..3_000_018).unwrap_err();
        assert!(matches!(beyond, Error::Truncated { len: 3_000_017, .. }));
    }
}

#[test]
fn paths_cannot_leave_the_repository() {
    // FAILURES 31
    let (_folder, stores) = both();
    for objects in stores {
        for path in ["../x", "a/../../x", "/etc/passwd", "a//b", ".", "a/./b", ""] {
            let error = objects.put_new(path, vec![1]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Limit, "{path}: {error}");
        }
    }
}

#[test]
fn an_object_too_large_is_neither_written_nor_read() {
    // FAILURES 31
    let shared = Arc::new(InMemory::new());
    let objects = Objects::with_store(shared.clone()).unwrap();
    let large = vec![0; pitr_codec::OBJECT_BYTES_LIMIT + 1];
    assert_eq!(objects.put_new("x", large.clone()).unwrap_err().kind(), ErrorKind::Limit);
    // Put without our checks.
    pitr_test_runtime().block_on(shared.put(&"x".into(), large.into())).unwrap();
    assert_eq!(objects.get("x").unwrap_err().kind(), ErrorKind::Limit);
    assert_eq!(objects.get_range("x", 1..3).unwrap().len(), 2);
}

#[test]
fn a_folder_is_no_object_and_a_large_file_is_read_only_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let objects = Objects::create_local(dir.path()).unwrap();
    objects.put_new("packs/a", vec![1; 10]).unwrap();
    assert_eq!(objects.get("packs").unwrap_err().kind(), ErrorKind::Missing);
    // FAILURES 31: no memory is allocated for an unchecked length.
    let len = pitr_codec::OBJECT_BYTES_LIMIT as u64 + 1;
    std::fs::File::create_new(dir.path().join("large")).unwrap().set_len(len).unwrap();
    assert!(matches!(objects.get("large"), Err(Error::TooLarge { .. })));
    assert_eq!(objects.get_range("large", len - 5000..len - 17).unwrap(), vec![0; 4983]);
    assert_eq!(objects.get_tail("large", 3).unwrap().object_len, len);
}

#[test]
fn containers_are_read_by_ranges() {
    let (_folder, stores) = both();
    for objects in stores {
        let small = container(&objects, ObjectKind::Fence, &[], b"footer");
        objects.put_container("small", ObjectKind::Fence, small).unwrap();
        assert_eq!(objects.get_footer("small", ObjectKind::Fence).unwrap(), b"footer");

        let frames: Vec<Vec<u8>> = (0..5u8).map(|n| vec![n; 50_000]).collect();
        for footer in [vec![9; 100], vec![9; TAIL_BYTES_HINT as usize + 1]] {
            let path = format!("large/{}", footer.len());
            let bytes = container(&objects, ObjectKind::Log, &frames, &footer);
            objects.put_container(&path, ObjectKind::Log, bytes.clone()).unwrap();
            let index = objects.index(&path, ObjectKind::Log).unwrap();
            assert_eq!(index, objects.index_of(&path, ObjectKind::Log, &bytes).unwrap());
            assert_eq!(index.footer, footer);
            for (no, raw) in frames.iter().enumerate() {
                let stored = objects.get_range(&path, index.frames[no].range()).unwrap();
                assert_eq!(&index.decode(no, &stored).unwrap(), raw);
            }
        }
        assert_eq!(objects.index("small", ObjectKind::Claim).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(objects.index("none", ObjectKind::Claim).unwrap_err().kind(), ErrorKind::Missing);
    }
}

#[test]
fn an_object_damaged_in_memory_is_not_put() {
    // FAILURES 30
    let objects = Objects::memory().unwrap();
    let sound = container(&objects, ObjectKind::Pack, &[vec![1; 1000]], b"footer");
    for at in [0, 30, HEADER_BYTES + 20, HEADER_BYTES + 500, sound.len() - 100, sound.len() - 1] {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        let error = objects.put_container("x", ObjectKind::Pack, bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
    assert!(!objects.exists("x").unwrap());
}

#[test]
fn a_repository_is_created_once_and_opened_often() {
    let (_folder, stores) = both();
    for objects in stores {
        assert_eq!(objects.open_repository().unwrap_err().kind(), ErrorKind::NotARepository);
        let made = objects.init_repository(Timestamp::from_micros(77)).unwrap();
        assert_eq!(objects.open_repository().unwrap(), made);
        let again = objects.init_repository(Timestamp::from_micros(77)).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyARepository);
        assert!(again.to_string().contains(objects.place()));
    }
    let nowhere = Objects::local("/nonexistent/pitr").unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::NotARepository);
}

#[test]
fn a_later_repository_is_refused_by_name() {
    // FAILURES 36
    let objects = Objects::memory().unwrap();
    let mut bytes = container(&objects, ObjectKind::Repository, &[], &[0; 24]);
    bytes[8] = 9;
    let crc = crc32(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    objects.put_new(layout::REPOSITORY, bytes).unwrap();
    let error = objects.open_repository().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Newer);
    assert!(error.to_string().contains("version 9") && error.to_string().contains("newer"), "{error}");
}

/// CRC-32 (IEEE), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn calls_come_from_many_threads_and_from_another_runtime() {
    let (_folder, stores) = both();
    for objects in stores {
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let objects = objects.clone();
                scope.spawn(move || {
                    for n in 0..10u8 {
                        let path = format!("t{thread}/{n}");
                        objects.put_new(&path, vec![n; 100]).unwrap();
                        assert_eq!(objects.get_range(&path, 5..6).unwrap(), vec![n]);
                    }
                });
            }
        });
        let runtime = pitr_test_runtime();
        runtime.block_on(async move {
            assert_eq!(objects.list("").unwrap().len(), 80);
            drop(objects); // the last handle, inside another runtime
        });
    }
}

fn pitr_test_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_range_is_the_slice_or_an_error(len in 0..200usize, start in 0..300u64, wanted in 0..300u64) {
        let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
        let objects = Objects::memory().unwrap();
        objects.put_new("x", bytes.clone()).unwrap();
        let range = start..start + wanted;
        match bytes.get(start as usize..(start + wanted) as usize) {
            Some(slice) => prop_assert_eq!(&objects.get_range("x", range).unwrap()[..], slice),
            None if wanted == 0 => prop_assert!(objects.get_range("x", range).unwrap().is_empty()),
            None => prop_assert_eq!(objects.get_range("x", range).unwrap_err().kind(), ErrorKind::Corrupt),
        }
    }
}
