//! A repository whose replies get lost.

use crate::world::{LOG_ID, TestClock, commit, create_wal, first_timeline, options};
use pitr_archive::{Archive, Error, Merged, Shipper, Writer};
use pitr_format::{Lsn, Severity, SourceName, TimelineId, Timestamp};
use pitr_objects::Objects;
use pitr_testkit::{Answer, Request, TestStore};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn an_object_whose_reply_was_lost_is_put_again_with_the_same_bytes() {
    // FAILURES 27, 46: the log has grown before the next call. The range must not get a second
    // content.
    let dir = tempfile::tempdir().unwrap();
    let loses = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&loses);
    let store = TestStore::memory().answering(move |request| match request {
        Request::Put(_) if asked.load(Ordering::Relaxed) => Answer::LoseReply,
        _ => Answer::Serve,
    });
    let objects = Objects::with_store(Arc::new(store)).unwrap();
    let archive = Archive::new(objects, SourceName::new("app").unwrap());
    let writer = Writer::claim(&archive, Timestamp::MIN).unwrap();
    let timeline = writer.claim_timeline(&first_timeline(0)).unwrap();
    let clock = Arc::new(TestClock::default());
    let wal = create_wal(&dir.path().join("log"), &clock, timeline, Lsn::ORIGIN, false);
    let catalog = archive.catalog().unwrap();
    let mut shipper =
        Shipper::new(writer, &catalog, &wal, timeline, LOG_ID, options(1 << 20, 1 << 16)).unwrap();

    commit(&wal, 1, &[(0, 1)], None);
    let first = wal.durable();
    loses.store(true, Ordering::Relaxed);
    match shipper.ship(&wal) {
        Err(error @ Error::Objects(_)) => assert_eq!(error.severity(), Severity::Retry),
        other => panic!("{other:?}"),
    }
    assert_eq!(shipper.archived(), None, "a put without a reply is not acknowledged");
    loses.store(false, Ordering::Relaxed);
    let last = commit(&wal, 2, &[(1, 2)], None);
    assert_eq!(shipper.ship(&wal).unwrap().objects, 2);

    let catalog = archive.catalog().unwrap();
    let logs: Vec<_> = catalog.logs(TimelineId::FIRST).iter().map(|(name, _)| (name.from, name.to)).collect();
    assert_eq!(logs, [(Lsn::ORIGIN, first), (first, wal.durable())]);
    let pieces = catalog.pieces(&catalog.lineage(timeline).unwrap());
    assert_eq!(Merged::new(&archive, &pieces, Lsn::ORIGIN, last.lsn).unwrap().survivors(), 2);
}
