//! A proxy on loopback that injects faults between a client and an object store.
//!
//! It passes HTTP/1.1 on byte for byte, so that signatures stay valid. For each request it draws at
//! most one fault from its seed. The number of a request decides its fault: with one connection, a
//! run can be repeated exactly. It counts requests, bytes and faults for each kind of request.
//!
//! ```no_run
//! use pitr_testkit::proxy::{Fault, Faults, Kind, Proxy};
//!
//! # fn main() -> std::io::Result<()> {
//! let server = "127.0.0.1:8333".parse().expect("an address");
//! let faults = Faults { error: 0.25, throttle: 0.30, flip: 0.01, ..Faults::none(7) };
//! let proxy = Proxy::start(server, faults)?;
//! // ... requests to proxy.address() ...
//! let counts = proxy.counts();
//! println!("{} errors, {} PUTs", counts.faults(Fault::Error), counts.of(Kind::Put).requests);
//! # Ok(()) }
//! ```

mod connection;
mod counts;
mod faults;

pub use counts::{Counts, Kind, Traffic};
pub use faults::{Fault, Faults};

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest wait for exchanges that go on, before their counts are read.
const COUNT_TIME: Duration = Duration::from_millis(500);

/// A running proxy. Its connections end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    state: Mutex<State>,
    /// Notified when the proxy stops or goes away: requests that wait end.
    ends: Condvar,
    /// Notified when an exchange ends.
    rests: Condvar,
    next: AtomicU64,
}

#[derive(Debug)]
struct State {
    faults: Faults,
    counts: Counts,
    /// Number of the next request.
    request: u64,
    /// Number of requests whose exchange has not ended.
    exchanges: u64,
    is_stopped: bool,
    is_away: bool,
    /// Until then the link is busy with the bytes so far.
    link_busy_until: Instant,
    /// Open connections, to end them from outside.
    streams: BTreeMap<u64, TcpStream>,
}

impl Proxy {
    /// Starts a proxy on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// Rates that are no fractions or whose sum is more than 1; no free port.
    pub fn start(server: SocketAddr, faults: Faults) -> io::Result<Proxy> {
        faults.check()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let state = State {
            faults,
            counts: Counts::default(),
            request: 0,
            exchanges: 0,
            is_stopped: false,
            is_away: false,
            link_busy_until: Instant::now(),
            streams: BTreeMap::new(),
        };
        let state = Mutex::new(state);
        let (ends, rests) = (Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared { server, state, ends, rests, next: AtomicU64::new(0) });
        let accepting = Arc::clone(&shared);
        let acceptor =
            std::thread::Builder::new().name("proxy".into()).spawn(move || accept(&listener, &accepting))?;
        Ok(Proxy { address, shared, acceptor: Some(acceptor) })
    }

    /// Address of the proxy.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the faults from the next request on.
    ///
    /// # Errors
    /// Those of [`start`](Self::start).
    pub fn set(&self, faults: Faults) -> io::Result<()> {
        faults.check()?;
        self.shared.state().faults = faults;
        Ok(())
    }

    /// Takes the store away, or brings it back. While it is away, all connections are cut, and new
    /// ones are closed at once.
    pub fn set_away(&self, is_away: bool) {
        let mut state = self.shared.state();
        state.is_away = is_away;
        if is_away {
            state.cut_all();
            self.shared.ends.notify_all();
        }
    }

    /// What was counted since the start. A client may have an answer before it is counted, so this
    /// waits up to half a second until no exchange goes on.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let state = self.shared.state();
        let goes_on = |state: &mut State| state.exchanges > 0;
        let waited = self.shared.rests.wait_timeout_while(state, COUNT_TIME, goes_on);
        waited.unwrap_or_else(PoisonError::into_inner).0.counts.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        {
            let mut state = self.shared.state();
            state.is_stopped = true;
            state.cut_all();
            self.shared.ends.notify_all();
        }
        let _ = TcpStream::connect(self.address); // wakes the acceptor
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl State {
    fn cut_all(&mut self) {
        for stream in std::mem::take(&mut self.streams).into_values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a connection. It is cut if the proxy stops or goes away.
    fn register(&self, stream: &TcpStream) -> io::Result<Registered<'_>> {
        let mut state = self.state();
        if state.is_stopped || state.is_away {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        state.streams.insert(id, stream.try_clone()?);
        Ok(Registered { shared: self, id })
    }

    /// Begins an exchange, which ends when the guard is dropped.
    fn begin(&self) -> Exchange<'_> {
        self.state().exchanges += 1;
        Exchange(self)
    }

    /// Waits. Returns early if the proxy stops or goes away.
    fn wait(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.state();
        while !(state.is_stopped || state.is_away) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.ends.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// An exchange that goes on.
struct Exchange<'a>(&'a Shared);

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        self.0.state().exchanges -= 1;
        self.0.rests.notify_all();
    }
}

/// A connection in the list of open ones.
#[derive(Debug)]
struct Registered<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let stream = self.shared.state().streams.remove(&self.id);
        if let Some(stream) = stream {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut connections: Vec<JoinHandle<()>> = Vec::new();
    for client in listener.incoming() {
        if shared.state().is_stopped {
            break;
        }
        let Ok(client) = client else { continue };
        connections.retain(|thread| !thread.is_finished());
        let shared = Arc::clone(shared);
        let serve = move || connection::serve(client, &shared);
        if let Ok(thread) = std::thread::Builder::new().name("proxy-connection".into()).spawn(serve) {
            connections.push(thread);
        }
    }
    for thread in connections {
        let _ = thread.join();
    }
}

#[cfg(test)]
mod tests;
