//! A store in memory that asks before each request.

use async_trait::async_trait;
use futures_util::StreamExt;
use pitr_objects::object_store::memory::InMemory;
use pitr_objects::object_store::path::Path;
use pitr_objects::object_store::*;
use std::fmt;
use std::sync::Arc;

type BoxStream<T> = futures_util::stream::BoxStream<'static, T>;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Put(String),
    Get(String),
    Delete(String),
    List(String),
}

impl Request {
    pub(crate) fn changes(&self) -> bool {
        matches!(self, Request::Put(_) | Request::Delete(_))
    }
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Go,
    /// It is not carried out, and fails.
    Fail,
    /// It is not carried out, because the caller may not.
    Deny,
    /// A listing without the object of this number.
    Without(usize),
}

pub(crate) struct Hooked {
    pub(crate) store: Arc<InMemory>,
    pub(crate) hook: Arc<dyn Fn(Request) -> Act + Send + Sync>,
}

impl Hooked {
    fn ask(&self, request: Request) -> Result<Act> {
        match (self.hook)(request) {
            // Not an error that asks for another attempt: the process is dead.
            Act::Fail => Err(Error::NotSupported { source: "dead".into() }),
            Act::Deny => Err(Error::PermissionDenied { path: "it".to_owned(), source: "read-only".into() }),
            act => Ok(act),
        }
    }
}

impl fmt::Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hooked")
    }
}

impl fmt::Display for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hooked")
    }
}

#[async_trait]
impl ObjectStore for Hooked {
    async fn put_opts(&self, path: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.ask(Request::Put(path.to_string()))?;
        self.store.put_opts(path, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(path, opts).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.ask(Request::Get(path.to_string()))?;
        self.store.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<Result<Path>>) -> BoxStream<Result<Path>> {
        let (hook, store) = (Arc::clone(&self.hook), Arc::clone(&self.store));
        paths
            .then(move |path| {
                let (hook, store) = (Arc::clone(&hook), Arc::clone(&store));
                async move {
                    let path = path?;
                    match hook(Request::Delete(path.to_string())) {
                        Act::Fail => Err(Error::NotSupported { source: "dead".into() }),
                        _ => store.delete(&path).await.map(|()| path),
                    }
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<Result<ObjectMeta>> {
        let listing = self.store.list(prefix);
        match self.ask(Request::List(prefix.map(Path::to_string).unwrap_or_default())) {
            Err(error) => futures_util::stream::iter([Err(error)]).boxed(),
            Ok(Act::Without(no)) => {
                let kept = listing.enumerate().filter(move |(at, _)| std::future::ready(*at != no));
                kept.map(|(_, meta)| meta).boxed()
            }
            Ok(_) => listing,
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}
