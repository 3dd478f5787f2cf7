//! Leases: who relies on objects that are there keeps them from being deleted.
//!
//! ```text
//! leases/<id>-<counter>    16 and 16 hexadecimal digits; no folder of its own, which would stay
//! ```
//!
//! A lease is one small object. Its holder replaces it by one with a higher counter every [`RENEWAL`], and deletes it when
//! he is done. Who waits for it to end watches the counter by his own clock that only goes forward: one that did not change
//! for [`LEASE_EXPIRY`] has lapsed, and he takes it away. No time of an object and no clock of another machine counts
//! (FAILURES 22).
//!
//! # Holder and observer
//! The holder puts the next object, then looks whether the one before it is still there, then deletes the one before that.
//! The observer deletes the lower ones, then the one that he watched, the highest, then looks for a higher one. Whichever of
//! them comes first, they can't both believe to have won: if the holder's next object came before the observer's last look
//! the lease lives on, and if it came after then the one before it was gone when the holder looked. A renewal that broke off
//! leaves two objects of which the holder counts on the lower one: that goes first, so that he who goes on renewing finds it
//! gone, or counts on the higher one from then on, which goes next.

use crate::layout::{LEASES, ObjectName, ShortId};
use crate::store::random_id;
use crate::{Entry, Error, ErrorKind, Objects, Result, random_bytes};
use pitr_codec::{Codec, CodecError, ObjectKind};
use pitr_format::bytes::{Put, Reader};
use pitr_format::{DecodeError, OwnerToken};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a lease is renewed.
pub(crate) const RENEWAL: Duration = Duration::from_secs(15);
/// A lease that was not renewed for so long has lapsed.
pub const LEASE_EXPIRY: Duration = Duration::from_secs(120);

const VERSION: u8 = 1;
const WHAT: &str = "lease";

/// What a lease is held for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum LeaseRole {
    /// Objects are read, and others may be written that rely on them.
    Use = 1,
    /// Objects are condemned and deleted. One at a time does that.
    Collect = 2,
}

/// A lease that this process holds. It ends when this is dropped.
#[derive(Debug)]
pub struct Lease {
    objects: Objects,
    state: Arc<Mutex<State>>,
    id: ShortId,
    owner: OwnerToken,
    stop: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    counter: u64,
    renewed: Instant,
    lapsed: bool,
}

/// A lease as a listing shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseSeen {
    /// Its identity.
    pub id: ShortId,
    /// Goes up while its holder lives.
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
    /// Takes a lease. Packs and log objects that are not condemned yet are not deleted before it ends; roots and index objects
    /// may go, once nobody needs what they say.
    ///
    /// # Errors
    /// Those of the store.
    pub fn lease(&self, role: LeaseRole) -> Result<Lease> {
        self.lease_renewed_every(role, Duration::from_micros(self.inner.renewal.load(Ordering::Relaxed)))
    }

    /// How often leases that are taken from now on are renewed; every 15 seconds unless set. Must be far below
    /// [`LEASE_EXPIRY`].
    pub fn renew_leases_every(&self, renewal: Duration) {
        let micros = u64::try_from(renewal.as_micros()).unwrap_or(u64::MAX);
        self.inner.renewal.store(micros, Ordering::Relaxed);
    }

    /// Takes a lease to read under, or none in a repository that can't be written to, because access is denied, there is no room, or
    /// a file stands where the leases' folder should be: then a collector knows nothing of this reader.
    ///
    /// # Errors
    /// Those of the store.
    pub fn lease_to_read(&self) -> Result<Option<Lease>> {
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
        let (id, owner) = (random_id()?, OwnerToken(random_bytes()?));
        let state = State { counter: 1, renewed: Instant::now(), lapsed: false };
        let state = Arc::new(Mutex::new(state));
        let mut lease = Lease { objects: self.clone(), state, id, owner, stop: None, keeper: None };
        self.put_lease(id, 1, role)?;
        let (stop, stopped) = channel();
        let keeper = Keeper { objects: self.clone(), state: Arc::clone(&lease.state), id, role };
        lease.stop = Some(stop);
        lease.keeper = Some(std::thread::spawn(move || {
            while stopped.recv_timeout(renewal) == Err(RecvTimeoutError::Timeout) {
                keeper.renew();
            }
        }));
        Ok(lease)
    }

    /// The leases that stand.
    ///
    /// # Errors
    /// Those of the listing.
    pub fn leases(&self) -> Result<Vec<LeaseSeen>> {
        let mut leases: Vec<LeaseSeen> = Vec::new();
        for seen in self.list(LEASES)?.iter().filter_map(LeaseSeen::parse) {
            match leases.last_mut() {
                // In the middle of a renewal there are two of them.
                Some(last) if last.id == seen.id => last.counter = last.counter.max(seen.counter),
                _ => leases.push(seen),
            }
        }
        Ok(leases)
    }

    /// What a lease is held for; `None` if it has ended or been renewed since it was seen.
    ///
    /// # Errors
    /// [`Error::Object`]; those of the store.
    pub fn role_of(&self, seen: &LeaseSeen) -> Result<Option<LeaseRole>> {
        let path = seen.path();
        let footer = match self.get_footer(&path, ObjectKind::Lease) {
            Err(Error::Missing { .. }) => return Ok(None),
            other => other?,
        };
        let read = || {
            let mut reader = Reader::new(&footer);
            match reader.u8(WHAT)? {
                VERSION => {}
                other => {
                    let (found, known) = (other.into(), VERSION.into());
                    return Err(DecodeError::Version { what: WHAT, found, known });
                }
            }
            match reader.u8(WHAT)? {
                1 => Ok(LeaseRole::Use),
                2 => Ok(LeaseRole::Collect),
                other => Err(DecodeError::Range { what: WHAT, value: other.into() }),
            }
        };
        let bad = |source| Error::Object { path: path.clone(), source: CodecError::Malformed(source) };
        read().map(Some).map_err(bad)
    }

    /// Takes away a lease that was seen with the same counter for [`LEASE_EXPIRY`]. False if its holder came back in the
    /// last moment.
    ///
    /// # Errors
    /// Those of the store.
    pub fn end_lapsed(&self, seen: &LeaseSeen) -> Result<bool> {
        let of_it = || {
            let listed = self.list(LEASES)?;
            let of_it = listed.iter().filter_map(LeaseSeen::parse).filter(|lease| lease.id == seen.id);
            Ok::<_, Error>(of_it.collect::<Vec<_>>()) // ascending
        };
        let stood = of_it()?;
        if stood.iter().any(|lease| lease.counter > seen.counter) {
            return Ok(false);
        }
        stood.iter().chain([seen]).try_for_each(|lease| self.delete(&lease.path()))?;
        Ok(of_it()?.is_empty())
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
    /// Its identity, as [`LeaseSeen`] has it.
    #[must_use]
    pub fn id(&self) -> ShortId {
        self.id
    }

    /// A token for the objects that are made under it: random, nobody else's.
    #[must_use]
    pub fn owner(&self) -> OwnerToken {
        self.owner
    }

    /// Makes sure that the lease still stands: what was relied on since it was taken is still there.
    ///
    /// # Errors
    /// [`Error::Lapsed`]; those of the store.
    pub fn check(&self) -> Result<()> {
        let lapsed = || Error::Lapsed { path: format!("{LEASES}/{}", self.id) };
        // Held, so that no renewal comes between.
        let mut state = lock(&self.state);
        if state.lapsed || state.renewed.elapsed() >= LEASE_EXPIRY {
            state.lapsed = true;
            return Err(lapsed());
        }
        if !self.objects.exists(&path(self.id, state.counter))? {
            state.lapsed = true;
            return Err(lapsed());
        }
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join(); // it does not panic; if it did the lease lapses by itself
        }
        // If this fails the lease lapses by itself.
        let counter = lock(&self.state).counter;
        for counter in [counter.saturating_sub(1), counter] {
            let _ = self.objects.delete(&path(self.id, counter));
        }
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Renews a lease.
struct Keeper {
    objects: Objects,
    state: Arc<Mutex<State>>,
    id: ShortId,
    role: LeaseRole,
}

impl Keeper {
    /// An error is no end: the next attempt may be in time.
    fn renew(&self) {
        let mut state = lock(&self.state);
        if state.lapsed {
            return;
        }
        let (now, before) = (Instant::now(), path(self.id, state.counter));
        match self.objects.put_lease(self.id, state.counter + 1, self.role) {
            // Nobody else's bears our identity: it is there since an attempt that broke off.
            Ok(()) | Err(Error::Foreign { .. }) => {}
            Err(_) => return,
        }
        match self.objects.exists(&before) {
            Ok(true) => {
                // The one before stays until the next time, so that a listing in the middle of this shows one at least.
                // If an older one stays it does no harm: its counter is the lower one.
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
            // Whether it was taken away is open. The next attempt finds its object made already, and looks again.
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_file_in_place_of_the_folder_keeps_nobody_from_reading() {
        // FAILURES 59
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::local(dir.path()).unwrap();
        objects.init_repository(pitr_format::Timestamp::MIN).unwrap();
        std::fs::write(dir.path().join(LEASES), b"theirs").unwrap();
        assert!(objects.lease_to_read().unwrap().is_none() && objects.lease(LeaseRole::Use).is_err());
        assert_eq!(objects.leases().unwrap(), []);
    }

    #[test]
    fn a_lease_says_what_it_is_for() {
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
    fn a_lease_that_was_taken_away_is_not_believed_in() {
        // FAILURES 21: the holder was paused, and wakes up.
        let objects = Objects::memory().unwrap();
        let held = objects.lease_renewed_every(LeaseRole::Use, Duration::from_secs(3600)).unwrap();
        held.check().unwrap();
        assert!(objects.end_lapsed(&objects.leases().unwrap()[0]).unwrap());
        assert_eq!(held.check().unwrap_err().kind(), crate::ErrorKind::Lapsed);
        assert!(held.check().is_err());

        // The same, seen by the renewal: it does not bring the lease back.
        let held = objects.lease_renewed_every(LeaseRole::Use, RENEWAL).unwrap();
        while !objects.end_lapsed(&objects.leases().unwrap()[0]).unwrap() {}
        later();
        assert_eq!(objects.leases().unwrap(), []);
        assert!(held.check().is_err());
    }

    #[test]
    fn a_holder_who_came_back_in_time_keeps_his_lease() {
        let objects = Objects::memory().unwrap();
        let held = objects.lease_renewed_every(LeaseRole::Use, Duration::from_secs(3600)).unwrap();
        let seen = objects.leases().unwrap().remove(0);
        let keeper = Keeper {
            objects: objects.clone(),
            state: Arc::clone(&held.state),
            id: held.id(),
            role: LeaseRole::Use,
        };
        keeper.renew();
        assert!(!objects.end_lapsed(&seen).unwrap());
        held.check().unwrap();
    }
}
