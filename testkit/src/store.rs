//! An object store that fails, delays and counts as a test asks.

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::collections::VecDeque;
use std::fmt;
use std::future::ready;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Name of this store in errors.
const STORE: &str = "test";

/// A request to the store, with the path of the object or the prefix of the listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// An object is created.
    Put(String),
    /// An object is read, or its size is asked for.
    Get(String),
    /// An object is deleted.
    Delete(String),
    /// Objects are listed.
    List(String),
}

impl Request {
    /// True for a put and a deletion.
    #[must_use]
    pub fn changes(&self) -> bool {
        matches!(self, Request::Put(_) | Request::Delete(_))
    }
}

/// How the store answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// The store carries the request out.
    Serve,
    /// The store carries the request out after this time. The calling thread waits.
    ServeAfter(Duration),
    /// The store does nothing, and the connection breaks. A second attempt may help.
    Break,
    /// The store carries the request out, and the connection breaks before the reply arrives.
    LoseReply,
    /// The store does nothing, as if the caller had died. A second attempt does not help.
    Die,
    /// The store does nothing: access is denied.
    Deny,
    /// The store does nothing, and says that the object exists already, as S3 answers one of two
    /// concurrent puts with 409.
    Conflict,
    /// The store carries a put out although the object exists.
    Overwrite,
    /// The store serves a read, and one bit of the content is inverted on its way. If only the size
    /// is asked for, the size is wrong.
    Flip,
    /// The store's listing lacks the object of this number.
    ListWithout(usize),
    /// The store lists this number of objects, and then the connection breaks.
    BreakListAfter(usize),
    /// The store lists all objects, whatever the prefix.
    ListAll,
}

/// The order in which a store lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListingOrder {
    /// By path. A listing may begin behind one.
    Sorted,
    /// By path. A listing always begins at the start, as that of Azurite.
    FromTheStart,
    /// Backwards: no order that a caller may rely on, as in a directory bucket of S3.
    Backwards,
}

type Hook = dyn Fn(&Request) -> Answer + Send + Sync;

/// A store that asks a hook before each request and counts what is read. Without a hook it serves
/// every request.
#[derive(Clone)]
pub struct TestStore {
    store: Arc<dyn ObjectStore>,
    hook: Arc<Hook>,
    order: ListingOrder,
    bytes_read: Arc<AtomicU64>,
}

impl TestStore {
    /// A store in memory.
    #[must_use]
    pub fn memory() -> Self {
        Self::around(Arc::new(InMemory::new()))
    }

    /// A store that keeps its objects in `store`.
    #[must_use]
    pub fn around(store: Arc<dyn ObjectStore>) -> Self {
        TestStore {
            store,
            hook: Arc::new(|_| Answer::Serve),
            order: ListingOrder::Sorted,
            bytes_read: Arc::default(),
        }
    }

    /// Answers each request as `hook` says. The hook may also do something at that moment.
    #[must_use]
    pub fn answering(self, hook: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        TestStore { hook: Arc::new(hook), ..self }
    }

    /// Lists in this order.
    #[must_use]
    pub fn listing(self, order: ListingOrder) -> Self {
        TestStore { order, ..self }
    }

    /// Gives these answers to the first puts, and serves all other requests.
    #[must_use]
    pub fn answering_puts(self, answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers: Mutex<VecDeque<Answer>> = Mutex::new(answers.into_iter().collect());
        self.answering(move |request| match request {
            Request::Put(_) => {
                let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
                answers.pop_front().unwrap_or(Answer::Serve)
            }
            _ => Answer::Serve,
        })
    }

    /// Bytes of objects read so far. Later reads are added.
    #[must_use]
    pub fn bytes_read(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.bytes_read)
    }

    /// The outcome of a request: `Ok` if the store carries it out.
    fn ask(&self, request: Request) -> Result<Answer> {
        let answer = (self.hook)(&request);
        match answer {
            Answer::Break => Err(broken()),
            Answer::Die => Err(Error::NotSupported { source: "dead".into() }),
            Answer::Deny => {
                Err(Error::PermissionDenied { path: "it".to_owned(), source: "read-only".into() })
            }
            Answer::Conflict => {
                Err(Error::AlreadyExists { path: "it".to_owned(), source: "conflict".into() })
            }
            Answer::ServeAfter(time) => {
                std::thread::sleep(time);
                Ok(answer)
            }
            _ => Ok(answer),
        }
    }
}

/// The reply, unless it gets lost.
fn reply<T>(answer: Answer, result: Result<T>) -> Result<T> {
    if answer == Answer::LoseReply { Err(broken()) } else { result }
}

/// The answer of another size.
fn longer(mut found: GetResult) -> GetResult {
    found.meta.size += 1;
    found
}

/// The answer with one bit inverted.
async fn flipped(found: GetResult) -> Result<GetResult> {
    let (meta, range, attributes, extensions) =
        (found.meta.clone(), found.range.clone(), found.attributes.clone(), found.extensions.clone());
    let mut bytes = found.bytes().await?.to_vec();
    if let Some(first) = bytes.first_mut() {
        *first ^= 1;
    }
    let payload = GetResultPayload::Stream(stream::iter([Ok(bytes.into())]).boxed());
    Ok(GetResult { payload, meta, range, attributes, extensions })
}

fn broken() -> Error {
    Error::Generic { store: STORE, source: "connection reset".into() }
}

impl fmt::Debug for TestStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STORE)
    }
}

impl fmt::Display for TestStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STORE)
    }
}

#[async_trait]
impl ObjectStore for TestStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, mut opts: PutOptions) -> Result<PutResult> {
        let answer = self.ask(Request::Put(path.to_string()))?;
        if answer == Answer::Overwrite {
            opts.mode = PutMode::Overwrite;
        }
        reply(answer, self.store.put_opts(path, payload, opts).await)
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(path, opts).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let answer = self.ask(Request::Get(path.to_string()))?;
        let head = options.head;
        let found = reply(answer, self.store.get_opts(path, options).await)?;
        if !head {
            self.bytes_read.fetch_add(found.range.end - found.range.start, Ordering::Relaxed);
        }
        match answer {
            Answer::Flip if head => Ok(longer(found)),
            Answer::Flip => flipped(found).await,
            _ => Ok(found),
        }
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let deleted = paths.then(move |path| {
            let this = this.clone();
            async move {
                let path = path?;
                let answer = this.ask(Request::Delete(path.to_string()))?;
                reply(answer, this.store.delete(&path).await.map(|()| path))
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.ask(Request::List(prefix.map(Path::to_string).unwrap_or_default())) {
            Err(error) => stream::iter([Err(error)]).boxed(),
            Ok(Answer::ListWithout(number)) => {
                let listed = self.store.list(prefix).enumerate();
                listed.filter(move |(at, _)| ready(*at != number)).map(|(_, meta)| meta).boxed()
            }
            Ok(Answer::BreakListAfter(count)) => {
                self.store.list(prefix).take(count).chain(stream::iter([Err(broken())])).boxed()
            }
            Ok(Answer::LoseReply) => stream::iter([Err(broken())]).boxed(),
            Ok(Answer::ListAll) => self.store.list(None),
            Ok(_) if self.order == ListingOrder::Backwards => {
                let all = self.store.list(prefix).collect::<Vec<_>>();
                all.map(|mut all| {
                    all.reverse();
                    stream::iter(all)
                })
                .flatten_stream()
                .boxed()
            }
            Ok(_) => self.store.list(prefix),
        }
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (listed, offset) = (self.list(prefix), offset.clone());
        if self.order == ListingOrder::FromTheStart {
            return listed;
        }
        listed.try_filter(move |meta| ready(meta.location > offset)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}
