//! Leases: a process that relies on objects keeps them from being deleted.
//!
//! A lease is one small object, `leases/<id>-<counter>`. Leases have no folders of their own,
//! because folders would remain. The holder replaces the object by one with a higher counter every
//! 15 seconds, and deletes it at the end. An observer that waits for the end watches the counter by
//! its own monotonic clock. A counter that did not change for [`LEASE_EXPIRY`] has lapsed, and the
//! observer deletes the lease. No time of an object and no clock of another machine counts
//! (FAILURES 22).
//!
//! # Holder and observer
//! The holder puts the next object, then checks that the previous one still exists, then deletes
//! the one before that. The observer deletes the lower objects, then the highest one, which it
//! watched, and then looks for a higher one. They cannot both win:
//!
//! - If the holder's next object came before the observer's last look, the lease lives on.
//! - If it came after that look, the previous object was gone when the holder checked.
//!
//! An interrupted renewal leaves two objects, and the holder counts on the lower one. The observer
//! deletes the lower one first. A holder that continues either finds it deleted, or counts on the
//! higher one, which is deleted next.

use crate::layout::{LEASES, ObjectName, ShortId};
use crate::{Entry, Error, ErrorKind, Objects, Result};
use pitr_codec::{Codec, CodecError, ObjectKind};
use pitr_format::bytes::{Put, Reader};
use pitr_format::{DecodeError, OwnerToken};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A lease that was not renewed for this time has lapsed.
pub const LEASE_EXPIRY: Duration = Duration::from_secs(120);

const VERSION: u8 = 1;
const WHAT: &str = "lease";

/// Purpose of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum LeaseRole {
    /// The holder reads objects, or writes objects that rely on them.
    Use = 1,
    /// The holder condemns and deletes objects. Only one process at a time does that.
    Collect = 2,
}

/// A lease of this process. It ends on drop.
#[derive(Debug)]
pub struct Lease {
    keeper: Arc<Keeper>,
    owner: OwnerToken,
    stop: Option<Sender<()>>,
    /// Renews the lease. `None` if there are no threads: then [`check`](Self::check) renews it.
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    counter: u64,
    /// Time of the last renewal on the monotonic clock.
    renewed: Duration,
    lapsed: bool,
}

/// A lease as a listing shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseSeen {
    /// Identity of the lease.
    pub id: ShortId,
    /// Grows while the holder is alive.
    pub counter: u64,
}

impl LeaseSeen {
    fn parse(entry: &Entry) -> Option<Self> {
        match ObjectName::parse(&entry.path)? {
            ObjectName::Lease { id, counter } => Some(LeaseSeen { id, counter }),
            _ => None,
        }
    }

    fn path(&self) -> String {
        path(self.id, self.counter)
    }
}

fn path(id: ShortId, counter: u64) -> String {
    ObjectName::Lease { id, counter }.path()
}

impl Objects {
    /// Takes a lease. Packs and log objects that are not condemned yet are not deleted before it
    /// ends. Roots and index objects may go once nothing needs their content.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn lease(&self, role: LeaseRole) -> Result<Lease> {
        let renewal = self.inner.renewal.load(Ordering::Relaxed);
        self.lease_renewed_every(role, Duration::from_micros(renewal))
    }

    /// Sets the time between renewals of future leases; the default is 15 seconds. It must be far
    /// below [`LEASE_EXPIRY`].
    pub fn renew_leases_every(&self, renewal: Duration) {
        let micros = u64::try_from(renewal.as_micros()).unwrap_or(u64::MAX);
        self.inner.renewal.store(micros, Ordering::Relaxed);
    }

    /// Takes a lease for reading. Returns `None` if the repository can't be written to: access is
    /// denied, there is no space, or a file has the name of the leases' folder. Without a lease, no
    /// collector knows of this reader. A [view](Self::view) has a lease: it needs no other.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn lease_to_read(&self) -> Result<Option<Lease>> {
        if self.view.is_some() {
            return Ok(None);
        }
        match self.lease(LeaseRole::Use) {
            Err(error)
                if matches!(error.kind(), ErrorKind::Denied | ErrorKind::Full | ErrorKind::Missing) =>
            {
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    fn lease_renewed_every(&self, role: LeaseRole, renewal: Duration) -> Result<Lease> {
        let (id, owner) = (self.random_id()?, OwnerToken(self.random_bytes()?));
        let state = State { counter: 1, renewed: self.env().clock.monotonic(), lapsed: false };
        let state = Mutex::new(state);
        let keeper = Arc::new(Keeper { objects: self.clone(), state, id, role, renewal });
        // If the thread can't be started, the lease is dropped, which deletes its object.
        let mut lease = Lease { keeper: Arc::clone(&keeper), owner, stop: None, thread: None };
        self.put_lease(id, 1, role)?;
        let (stop, stopped) = channel();
        lease.stop = Some(stop);
        let renew = move || {
            while stopped.recv_timeout(renewal) == Err(RecvTimeoutError::Timeout) {
                keeper.renew();
            }
        };
        let started = self.env().spawn.thread("pitr-lease", renew);
        lease.thread = started.map_err(|source| Error::Runtime { source: Some(source) })?;
        Ok(lease)
    }

    /// The leases of all processes.
    ///
    /// # Errors
    /// Errors of the listing.
    pub fn leases(&self) -> Result<Vec<LeaseSeen>> {
        let mut leases: Vec<LeaseSeen> = Vec::new();
        for seen in self.list(LEASES)?.iter().filter_map(LeaseSeen::parse) {
            match leases.last_mut() {
                // During a renewal a lease has two objects.
                Some(last) if last.id == seen.id => last.counter = last.counter.max(seen.counter),
                _ => leases.push(seen),
            }
        }
        Ok(leases)
    }

    /// The purpose of a lease; `None` if it has ended or was renewed since it was seen.
    ///
    /// # Errors
    /// [`Error::Object`]; errors of the store.
    pub fn role_of(&self, seen: &LeaseSeen) -> Result<Option<LeaseRole>> {
        let path = seen.path();
        let footer = match self.get_footer(&path, ObjectKind::Lease) {
            Err(Error::Missing { .. }) => return Ok(None),
            other => other?,
        };
        let read = || {
            let mut reader = Reader::new(&footer);
            reader.check_version_u8(VERSION, WHAT)?;
            match reader.u8(WHAT)? {
                1 => Ok(LeaseRole::Use),
                2 => Ok(LeaseRole::Collect),
                other => Err(DecodeError::Range { what: WHAT, value: other.into() }),
            }
        };
        let bad = |source| Error::Object { path: path.clone(), source: CodecError::Malformed(source) };
        read().map(Some).map_err(bad)
    }

    /// Deletes a lease whose counter did not change for [`LEASE_EXPIRY`]. Returns false if the
    /// holder renewed it at the last moment.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn end_lapsed(&self, seen: &LeaseSeen) -> Result<bool> {
        let objects_of_it = || {
            let listed = self.list(LEASES)?;
            let leases = listed.iter().filter_map(LeaseSeen::parse);
            // Sorted by counter.
            Ok::<_, Error>(leases.filter(|lease| lease.id == seen.id).collect::<Vec<_>>())
        };
        let found = objects_of_it()?;
        if found.iter().any(|lease| lease.counter > seen.counter) {
            return Ok(false);
        }
        found.iter().chain([seen]).try_for_each(|lease| self.delete(&lease.path()))?;
        Ok(objects_of_it()?.is_empty())
    }

    fn put_lease(&self, id: ShortId, counter: u64, role: LeaseRole) -> Result<()> {
        let path = path(id, counter);
        let mut payload = Vec::new();
        payload.put_u8(VERSION);
        payload.put_u8(role as u8);
        let bytes = self.builder(&path, ObjectKind::Lease, Codec::None)?.finish(&payload);
        let bytes = bytes.map_err(|source| Error::Object { path: path.clone(), source })?;
        self.put_container(&path, ObjectKind::Lease, bytes).map(drop)
    }
}

impl Lease {
    /// Identity of the lease.
    #[must_use]
    pub fn id(&self) -> ShortId {
        self.keeper.id
    }

    /// The random token of the objects that are created under this lease.
    #[must_use]
    pub fn owner(&self) -> OwnerToken {
        self.owner
    }

    /// Fails unless the lease is still valid. While it is valid, all objects that the process
    /// relied on since taking it still exist.
    ///
    /// # Errors
    /// [`Error::Lapsed`]; errors of the store.
    pub fn check(&self) -> Result<()> {
        let keeper = &self.keeper;
        if self.thread.is_none() && keeper.is_due() {
            keeper.renew();
        }
        let lapsed = || Error::Lapsed { path: format!("{LEASES}/{}", keeper.id) };
        // Held, so that no renewal happens in between.
        let mut state = keeper.state();
        if state.lapsed || keeper.age(&state) >= LEASE_EXPIRY {
            state.lapsed = true;
            return Err(lapsed());
        }
        if !keeper.objects.exists(&path(keeper.id, state.counter))? {
            state.lapsed = true;
            return Err(lapsed());
        }
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // after a panic the lease lapses by itself
        }
        // If this fails, the lease lapses by itself.
        let counter = self.keeper.state().counter;
        for counter in [counter - 1, counter].into_iter().filter(|counter| *counter > 0) {
            let _ = self.keeper.objects.delete(&path(self.keeper.id, counter));
        }
    }
}

/// Renews a lease.
#[derive(Debug)]
struct Keeper {
    objects: Objects,
    state: Mutex<State>,
    id: ShortId,
    role: LeaseRole,
    renewal: Duration,
}

impl Keeper {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since the last renewal.
    fn age(&self, state: &State) -> Duration {
        self.objects.env().clock.monotonic().saturating_sub(state.renewed)
    }

    fn is_due(&self) -> bool {
        self.age(&self.state()) >= self.renewal
    }

    /// Errors are ignored, because the next attempt may be in time.
    fn renew(&self) {
        let mut state = self.state();
        if state.lapsed {
            return;
        }
        let (now, before) = (self.objects.env().clock.monotonic(), path(self.id, state.counter));
        match self.objects.put_lease(self.id, state.counter + 1, self.role) {
            // The identity is that of this lease: an interrupted attempt has created the object.
            Ok(()) | Err(Error::Foreign { .. }) => {}
            Err(_) => return,
        }
        match self.objects.exists(&before) {
            Ok(true) => {
                // The previous object stays until the next renewal, so that every listing shows at
                // least one. An older object does no harm: its counter is lower.
                let _ = self.objects.delete(&path(self.id, state.counter.saturating_sub(1)));
                state.counter += 1;
                state.renewed = now;
            }
            Ok(false) => {
                state.lapsed = true;
                for counter in [state.counter.saturating_sub(1), state.counter + 1] {
                    let _ = self.objects.delete(&path(self.id, counter));
                }
            }
            // It is unknown whether the previous object still exists. The next attempt finds that
            // its object is already created, and checks again.
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Location;
    use pitr_vfs::Env;
    use pitr_vfs::sim::{SimClock, SimFs};

    const RENEWAL: Duration = Duration::from_millis(5);

    fn later() {
        std::thread::sleep(RENEWAL * 10);
    }

    #[test]
    fn a_lease_is_renewed_and_ends_when_it_is_dropped() {
        let objects = Objects::memory().unwrap();
        let lease = objects.lease_renewed_every(LeaseRole::Collect, RENEWAL).unwrap();
        let seen = objects.leases().unwrap();
        assert_eq!((seen.len(), &seen[0].id), (1, &lease.id()));
        later();
        let again = objects.leases().unwrap();
        assert!(again[0].counter > seen[0].counter && again[0].id == seen[0].id, "{again:?}");
        lease.check().unwrap();
        drop(lease);
        assert_eq!(objects.leases().unwrap(), []);
    }

    #[test]
    fn a_file_in_place_of_the_folder_does_not_prevent_reading() {
        // FAILURES 59
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::local(dir.path()).unwrap();
        objects.init_repository(pitr_format::Timestamp::MIN).unwrap();
        std::fs::write(dir.path().join(LEASES), b"theirs").unwrap();
        assert!(objects.lease_to_read().unwrap().is_none() && objects.lease(LeaseRole::Use).is_err());
        assert_eq!(objects.leases().unwrap(), []);
    }

    #[test]
    fn a_lease_states_its_purpose() {
        let objects = Objects::memory().unwrap();
        for role in [LeaseRole::Use, LeaseRole::Collect] {
            let lease = objects.lease(role).unwrap();
            let seen = objects.leases().unwrap();
            assert_eq!(objects.role_of(&seen[0]).unwrap(), Some(role));
            drop(lease);
            assert_eq!(objects.role_of(&seen[0]).unwrap(), None);
        }
    }

    #[test]
    fn a_lease_that_was_deleted_is_not_valid() {
        // FAILURES 21: the holder was paused, and wakes up.
        let objects = Objects::memory().unwrap();
        let held = objects.lease_renewed_every(LeaseRole::Use, Duration::from_secs(3600)).unwrap();
        held.check().unwrap();
        assert!(objects.end_lapsed(&objects.leases().unwrap()[0]).unwrap());
        assert_eq!(held.check().unwrap_err().kind(), crate::ErrorKind::Lapsed);
        assert!(held.check().is_err());

        // The same, noticed by the renewal: it does not restore the lease.
        let held = objects.lease_renewed_every(LeaseRole::Use, RENEWAL).unwrap();
        while !objects.end_lapsed(&objects.leases().unwrap()[0]).unwrap() {}
        later();
        assert_eq!(objects.leases().unwrap(), []);
        assert!(held.check().is_err());
    }

    #[test]
    fn a_holder_that_renews_in_time_keeps_its_lease() {
        let objects = Objects::memory().unwrap();
        let held = objects.lease_renewed_every(LeaseRole::Use, Duration::from_secs(3600)).unwrap();
        let seen = objects.leases().unwrap().remove(0);
        held.keeper.renew();
        assert!(!objects.end_lapsed(&seen).unwrap());
        held.check().unwrap();
    }

    #[test]
    fn without_threads_a_check_renews_the_lease() {
        let clock = Arc::new(SimClock::new(pitr_format::Timestamp::MIN));
        let env = Env::simulated(Arc::new(SimFs::new()), clock.clone(), 1);
        let objects = Objects::open(&Location::Memory, &env).unwrap();
        let lease = objects.lease(LeaseRole::Use).unwrap();
        for renewals in 1..4 {
            clock.pass(LEASE_EXPIRY / 2);
            lease.check().unwrap();
            assert_eq!(objects.leases().unwrap()[0].counter, 1 + renewals);
        }
        // The process was paused, and a collector has deleted the lease.
        clock.pass(LEASE_EXPIRY);
        assert!(objects.end_lapsed(&objects.leases().unwrap()[0]).unwrap());
        assert_eq!(lease.check().unwrap_err().kind(), ErrorKind::Lapsed);
        assert_eq!(objects.leases().unwrap(), []);
    }
}
