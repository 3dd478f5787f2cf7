//! Wakes the capturing thread: on changes of the databases' files, requests, results of other
//! threads.
//!
//! inotify reports each write to a `-wal` or database file by any process of this machine, within
//! the system call that writes. SQLite publishes a commit after it wrote the frames. So if no event
//! arrived up to some time, nothing was published since the last look. A caller may rely on this
//! only after an event and a commit arrived together: see [`super::pace`].

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fs::inotify;
use rustix::io::Errno;

use crate::source::with_suffix;

const CHANGES: u64 = 0;
const CALLED: u64 = 1;
/// The event data of a control socket is the number of its member plus this.
const FIRST_MEMBER: u64 = 2;
const EVENTS_MAX: usize = 64;

/// Wakes the capturing thread.
#[derive(Debug, Clone)]
pub(super) struct Waker(Arc<OwnedFd>);

impl Waker {
    /// Ends the current or the next wait.
    pub(super) fn wake(&self) {
        // The write fails only when the counter is full, and then the thread is already woken.
        let _ = rustix::io::write(self.0.as_ref(), &1u64.to_ne_bytes());
    }

    /// Checks that this process can open `count` more descriptors at the moment.
    pub(super) fn check_descriptors(&self, count: usize) -> io::Result<()> {
        (0..count).map(|_| self.0.try_clone()).collect::<io::Result<Vec<_>>>().map(drop)
    }
}

/// The descriptors that the thread waits on.
#[derive(Debug)]
pub(super) struct Wake {
    epoll: OwnedFd,
    inotify: OwnedFd,
    called: Arc<OwnedFd>,
    members: HashMap<i32, usize>,
}

/// The inotify watches of one member's files.
#[derive(Debug, Default)]
pub(super) struct FileWatches(Vec<i32>);

/// The reasons that ended a wait.
#[derive(Debug, Default)]
pub(super) struct Woken {
    /// Members whose files changed.
    pub(super) changed: Vec<usize>,
    /// Members with a request.
    pub(super) asked: Vec<usize>,
    /// Events were lost: any file may have changed.
    pub(super) overflow: bool,
}

impl Wake {
    pub(super) fn new() -> io::Result<Self> {
        let wake = Wake {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            inotify: inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?,
            called: Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?),
            members: HashMap::new(),
        };
        let input = epoll::EventFlags::IN;
        epoll::add(&wake.epoll, &wake.inotify, epoll::EventData::new_u64(CHANGES), input)?;
        epoll::add(&wake.epoll, &wake.called, epoll::EventData::new_u64(CALLED), input)?;
        Ok(wake)
    }

    pub(super) fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.called))
    }

    /// Listens to changes of a database's files. The error says that the system has no inotify
    /// watch left, or does not support them.
    pub(super) fn follow(&mut self, member: usize, database: &Path) -> io::Result<FileWatches> {
        use inotify::WatchFlags as F;
        let mut followed = FileWatches::default();
        let flags = F::MODIFY | F::ATTRIB | F::MOVE_SELF | F::DELETE_SELF;
        for path in [database.to_owned(), with_suffix(database, "-wal")] {
            match inotify::add_watch(&self.inotify, &path, flags) {
                Ok(watch) => {
                    self.members.insert(watch, member);
                    followed.0.push(watch);
                }
                Err(e) => {
                    self.unfollow(followed);
                    return Err(e.into());
                }
            }
        }
        Ok(followed)
    }

    /// Ends what [`follow`](Self::follow) began.
    pub(super) fn unfollow(&mut self, followed: FileWatches) {
        for watch in followed.0 {
            self.members.remove(&watch);
            // If the file was removed, the kernel has already removed the watch.
            let _ = inotify::remove_watch(&self.inotify, watch);
        }
    }

    /// Also wakes on requests on `socket`, until it is closed.
    pub(super) fn listen(&self, member: usize, socket: impl AsFd) -> io::Result<()> {
        let data = epoll::EventData::new_u64(FIRST_MEMBER + member as u64);
        Ok(epoll::add(&self.epoll, socket, data, epoll::EventFlags::IN)?)
    }

    /// Waits for an event, at most for `timeout`.
    pub(super) fn wait(&mut self, timeout: Duration) -> io::Result<Woken> {
        let mut buffer = [MaybeUninit::<epoll::Event>::uninit(); EVENTS_MAX];
        let timeout = rustix::event::Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let (events, _) = match epoll::wait(&self.epoll, &mut buffer, Some(&timeout)) {
            Err(Errno::INTR) => return Ok(Woken::default()),
            other => other?,
        };
        let mut woken = Woken::default();
        for event in events {
            match event.data.u64() {
                CHANGES => {}
                CALLED => {
                    let _ = rustix::io::read(self.called.as_ref(), &mut [0u8; 8]);
                }
                member => woken.asked.push((member - FIRST_MEMBER) as usize),
            }
        }
        self.changes(&mut woken)?;
        Ok(woken)
    }

    /// Reads all pending events, whatever ended the wait. If it returns none, none was pending.
    fn changes(&self, woken: &mut Woken) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) => {
                    woken.overflow = true;
                }
                Ok(event) => woken.changed.extend(self.members.get(&event.wd())),
                Err(Errno::WOULDBLOCK) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn writes_and_calls_are_distinguished() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("x.db");
        let mut wake = Wake::new().unwrap();
        assert!(wake.follow(7, &database).is_err(), "no such file");
        std::fs::write(&database, b"x").unwrap();
        let mut log = std::fs::File::create(with_suffix(&database, "-wal")).unwrap();
        let followed = wake.follow(7, &database).unwrap();
        assert!(wake.wait(Duration::ZERO).unwrap().changed.is_empty());
        log.write_all(b"y").unwrap();
        assert_eq!(wake.wait(Duration::ZERO).unwrap().changed, [7]);
        wake.waker().wake();
        let woken = wake.wait(Duration::from_secs(60)).unwrap();
        assert!(woken.changed.is_empty() && woken.asked.is_empty() && !woken.overflow);
        wake.unfollow(followed);
        log.write_all(b"y").unwrap();
        assert!(wake.wait(Duration::ZERO).unwrap().changed.is_empty());
    }
}
