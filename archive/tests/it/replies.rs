//! A repository whose replies get lost.

use crate::world::{LOG_ID, TestClock, commit, create_wal, first_timeline, options};
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use pitr_archive::{Archive, Error, Merged, Shipper, Writer};
use pitr_format::{Lsn, Severity, SourceName, TimelineId, Timestamp};
use pitr_objects::Objects;
use pitr_objects::object_store::memory::InMemory;
use pitr_objects::object_store::path::Path;
use pitr_objects::object_store::{self as store, *};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Stores every put; for the next few puts it returns an error nevertheless.
#[derive(Debug, Default)]
struct Deaf {
    inner: InMemory,
    lost: AtomicU32,
}

impl fmt::Display for Deaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deaf")
    }
}

#[async_trait]
impl ObjectStore for Deaf {
    async fn put_opts(&self, path: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let answer = self.inner.put_opts(path, payload, opts).await;
        let lost = self.lost.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if lost.is_ok() {
            return Err(store::Error::Generic { store: "deaf", source: "connection reset".into() });
        }
        answer
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, opts).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[test]
fn an_object_whose_reply_was_lost_is_put_again_with_the_same_bytes() {
    // FAILURES 27, 46: the log has grown by the next call, and the range must not get a second
    // content.
    let dir = tempfile::tempdir().unwrap();
    let deaf = Arc::new(Deaf::default());
    let objects = Objects::with_store(Arc::clone(&deaf) as Arc<dyn ObjectStore>).unwrap();
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
    deaf.lost.store(100, Ordering::Relaxed);
    match shipper.ship(&wal) {
        Err(error @ Error::Objects(_)) => assert_eq!(error.severity(), Severity::Retry),
        other => panic!("{other:?}"),
    }
    assert_eq!(shipper.archived(), None, "what is not known to stand is not acknowledged");
    deaf.lost.store(0, Ordering::Relaxed);
    let last = commit(&wal, 2, &[(1, 2)], None);
    assert_eq!(shipper.ship(&wal).unwrap().objects, 2);

    let catalog = archive.catalog().unwrap();
    let logs: Vec<_> = catalog.logs(TimelineId::FIRST).iter().map(|(name, _)| (name.from, name.to)).collect();
    assert_eq!(logs, [(Lsn::ORIGIN, first), (first, wal.durable())]);
    let pieces = catalog.pieces(&catalog.lineage(timeline).unwrap());
    assert_eq!(Merged::new(&archive, &pieces, Lsn::ORIGIN, last.lsn).unwrap().survivors(), 2);
}
