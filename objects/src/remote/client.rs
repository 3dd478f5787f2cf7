//! HTTP for the stores: deadlines by size, and answers without secrets.
//!
//! `object_store` has one timeout for all requests of a client. 30 seconds suit a lease, but not
//! 16 MiB over a slow link; three minutes suit the 16 MiB, but outlast a lease. So the timeout is
//! switched off there, and each request gets its own here:
//!
//! - from the start to the headers of the answer: [`PATIENCE`], and the time of the body that is
//!   sent at [`RATE_MIN`];
//! - each part of the answer's body: [`PATIENCE`].

use super::secrets::Secrets;
use crate::error::bottom;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http_body::{Body, Frame, SizeHint};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService, ReqwestConnector,
};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use thiserror::Error;
use tokio::time::Sleep;

/// Longest wait for a server that sends and takes nothing.
const PATIENCE: Duration = Duration::from_secs(30);
/// Slowest rate of a body that is sent, bytes a second.
const RATE_MIN: u64 = 100 << 10;
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Requests in a row without an answer, after which a person is told of it.
const TOLD_AFTER: u32 = 4;
/// Maximum length of an error's answer that is read, bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Begins the addresses of the clouds' metadata servers. A refusal there has its own meaning: AWS's
/// older protocol is tried next.
const METADATA: &str = "169.254.";

/// Installs ring as the process's TLS implementation, unless the process has one.
pub(super) fn install_tls() {
    // An error says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The options of every client; settings of the user come after.
pub(super) fn options() -> ClientOptions {
    ClientOptions::new().with_timeout_disabled().with_connect_timeout(CONNECT)
}

/// Retries of refused and throttled requests, and of reads. [`put_new`](crate::Objects::put_new)
/// repeats puts that were not answered.
///
/// `object_store` draws each wait between the first one and `base` times the one before it. With a
/// base of 2 the waits hardly grow: seven of them were 1.5 s in the median, and 1 s often, which no
/// server's restart fits into. These are 17 s in the median, and less than 7 s in one of a thousand
/// cases.
pub(super) fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 6.,
        },
        max_retries: 12,
        retry_timeout: Duration::from_secs(60),
    }
}

/// Makes clients with deadlines.
#[derive(Debug)]
pub(super) struct Connector {
    secrets: Secrets,
}

impl Connector {
    pub(super) fn new(secrets: &Secrets) -> Self {
        Connector { secrets: secrets.clone() }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        let failed = AtomicU32::new(0);
        Ok(HttpClient::new(Service { client, secrets: self.secrets.clone(), failed }))
    }
}

#[derive(Debug)]
struct Service {
    client: HttpClient,
    secrets: Secrets,
    /// Requests without an answer since the last one with an answer.
    failed: AtomicU32,
}

impl Service {
    /// Notes whether a request had an answer. Says once that the server gives none, since the
    /// retries take a while.
    fn note(&self, host: &str, error: Option<&HttpError>) {
        match error {
            None => self.failed.store(0, Ordering::Relaxed),
            Some(error) => {
                if self.failed.fetch_add(1, Ordering::Relaxed) + 1 == TOLD_AFTER {
                    tracing::warn!("{host} does not answer; trying again: {}", bottom(error));
                }
            }
        }
    }
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let limit = limit(request.body().content_length() as u64);
        let is_metadata = request.uri().host().is_some_and(|host| host.starts_with(METADATA));
        let uri = request.uri();
        let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
        let host = format!("{}{port}", uri.host().unwrap_or("the store"));
        let answer = tokio::time::timeout(limit, self.client.execute(request)).await;
        let answer = answer.unwrap_or_else(|_| Err(too_slow(limit)));
        if !is_metadata {
            self.note(&host, answer.as_ref().err());
        }
        let (parts, body) = answer?.into_parts();
        let body = HttpResponseBody::new(Impatient::new(body));
        if !parts.status.is_client_error() && !parts.status.is_server_error() {
            return Ok(HttpResponse::from_parts(parts, body));
        }
        let said = self.secrets.message_of(&beginning(body).await);
        if !is_metadata && matches!(parts.status.as_u16(), 401 | 403) {
            let refused = Refused { status: parts.status.to_string(), said };
            return Err(HttpError::new(HttpErrorKind::Unknown, refused));
        }
        Ok(HttpResponse::from_parts(parts, said.into()))
    }
}

/// The time for sending a number of bytes, and for the answer.
fn limit(bytes: u64) -> Duration {
    PATIENCE + Duration::from_secs(bytes / RATE_MIN)
}

/// The beginning of an answer, as far as it came.
async fn beginning(body: HttpResponseBody) -> String {
    let (mut stream, mut got) = (body.bytes_stream(), BytesMut::new());
    while let Some(Ok(part)) = stream.next().await {
        let room = ANSWER_BYTES_MAX - got.len();
        got.extend_from_slice(&part[..part.len().min(room)]);
        if got.len() == ANSWER_BYTES_MAX {
            break;
        }
    }
    String::from_utf8_lossy(&got).into_owned()
}

/// The store refuses the credentials, or denies access. `object_store` does not tell a refused
/// listing from other failures, so this error stays among the sources of its own.
#[derive(Debug, Error)]
#[error("{status}: {said}")]
pub(crate) struct Refused {
    status: String,
    said: String,
}

/// A server did not answer in time.
#[derive(Debug, Error)]
#[error("no answer within {0} s")]
struct TooSlow(u64);

fn too_slow(limit: Duration) -> HttpError {
    HttpError::new(HttpErrorKind::Timeout, TooSlow(limit.as_secs()))
}

/// The body of an answer that fails if nothing comes for a while.
struct Impatient {
    body: HttpResponseBody,
    end: Pin<Box<Sleep>>,
}

impl Impatient {
    fn new(body: HttpResponseBody) -> Self {
        Impatient { body, end: Box::pin(tokio::time::sleep(PATIENCE)) }
    }
}

impl Body for Impatient {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.end.as_mut().set(tokio::time::sleep(PATIENCE));
            return Poll::Ready(frame);
        }
        self.end.as_mut().poll(context).map(|()| Some(Err(too_slow(PATIENCE))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_object_has_time_on_a_slow_link() {
        assert_eq!(limit(0), PATIENCE);
        assert_eq!(limit(16 << 20), PATIENCE + Duration::from_secs(163));
    }
}
