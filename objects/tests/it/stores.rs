//! A store that fails on cue around one that works.

use async_trait::async_trait;
use pitr_objects::object_store::memory::InMemory;
use pitr_objects::object_store::path::Path;
use pitr_objects::object_store::*;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

type BoxStream<T> = futures_util::stream::BoxStream<'static, T>;

/// What becomes of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing is stored; the caller gets an error.
    Fail,
    /// The object is stored; the caller gets an error all the same.
    StoreThenFail,
}

#[derive(Debug)]
pub(crate) struct Scripted<S> {
    store: S,
    answers: Mutex<VecDeque<Answer>>,
    break_listings: AtomicBool,
    list_loosely: bool,
}

impl<S: ObjectStore> Scripted<S> {
    /// Gives these answers to the first puts and honest ones afterwards.
    pub(crate) fn new(store: S, answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers = Mutex::new(answers.into_iter().collect());
        Scripted { store, answers, break_listings: AtomicBool::new(false), list_loosely: false }
    }

    /// Every listing ends in an error after its first object.
    pub(crate) fn break_listings(&self) {
        self.break_listings.store(true, Ordering::Relaxed);
    }

    /// Listings ignore the prefix.
    pub(crate) fn listing_loosely(mut self) -> Self {
        self.list_loosely = true;
        self
    }
}

/// Puts past every check of ours.
pub(crate) fn put(store: &InMemory, path: &str, bytes: Vec<u8>) {
    let runtime = crate::pitr_test_runtime();
    runtime.block_on(store.put(&Path::from(path), bytes.into())).unwrap();
}

fn lost() -> Error {
    Error::Generic { store: "scripted", source: "connection reset".into() }
}

impl<S> fmt::Display for Scripted<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("scripted")
    }
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for Scripted<S> {
    async fn put_opts(&self, path: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let answer = self.answers.lock().unwrap().pop_front();
        match answer {
            None => self.store.put_opts(path, payload, opts).await,
            Some(Answer::Fail) => Err(lost()),
            Some(Answer::StoreThenFail) => {
                self.store.put_opts(path, payload, opts).await?;
                Err(lost())
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(path, opts).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.store.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<Result<Path>>) -> BoxStream<Result<Path>> {
        self.store.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<Result<ObjectMeta>> {
        use futures_util::StreamExt;
        let listing = self.store.list(if self.list_loosely { None } else { prefix });
        match self.break_listings.load(Ordering::Relaxed) {
            false => listing,
            true => listing.take(1).chain(futures_util::stream::iter([Err(lost())])).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}
