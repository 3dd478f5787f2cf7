//! The binding of a source's name: to a host and a path, and to the restored states that the
//! repository knows (FAILURES 50).
//!
//! The original and each restored copy that is watched under the same name are instances of the
//! source. Each has its own place, its own writer and its own timelines, and they are watched at
//! the same time.
//!
//! | place of an instance | the database's content | the watch |
//! | --- | --- | --- |
//! | there is no instance yet | any | begins the first |
//! | this path of this host | any | continues that instance; where it can't, it forks from a restored state, or takes a new base after a gap |
//! | this path of another host | any, and the state folder holds a local log of the source | continues: a container has a new host name each time |
//! | elsewhere, or this path of another host without such a log | a restored state | begins a new instance, which forks from that state |
//! | the same | another | is refused |
//!
//! The path is the same if the given path is equal or leads to the same file. If the user says that
//! the database was moved, it is the source from now on: it takes over every instance.

use std::path::Path;

use pitr_archive::{
    Archive, Catalog, Fingerprint, ForkReason, Instance, Origin, PlacedInstance, RestoredState, Search,
    Writer, runs,
};
use pitr_engine::{EngineContext, Event, LiveSource};
use pitr_format::{TimelineId, Timestamp, TxId};
use pitr_vfs::{Access, FileSystem};
use sha2::{Digest, Sha256};

use super::begin::{Fork, fork};
use super::shared::{Log, Shared};
use super::state::{self, State};
use crate::base::BaseView;
use crate::error::{Error, Result};
use crate::source::Source;

/// Identity of the machine, if systemd or D-Bus assigned one (machine-id(5)).
const MACHINE_ID: &str = "/etc/machine-id";
const MACHINE_ID_BYTES_MAX: u64 = 256;

/// How a watch joins the writers of its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Join {
    /// It takes over every instance.
    All,
    /// It continues this instance.
    Instance(Instance),
    /// It begins an instance.
    New,
}

impl Join {
    /// Claims the right to write.
    pub(super) fn claim(self, archive: &Archive, now: Timestamp) -> Result<Writer> {
        Ok(match self {
            Join::All => Writer::claim(archive, now)?,
            Join::Instance(instance) => Writer::claim_instance(archive, Some(instance), now)?,
            Join::New => Writer::claim_instance(archive, None, now)?,
        })
    }
}

/// Finds the instance that the database is, if it is one that the repository knows by this name.
/// Writes nothing. Returns the database's location too.
pub(super) fn join(
    context: &EngineContext,
    watched: &LiveSource,
    adopt: bool,
    archive: &Archive,
) -> Result<(Join, Origin)> {
    let here = origin(context, watched);
    let known = archive.instances()?;
    let Some(newest) = known.first().filter(|_| !adopt) else {
        let first = if adopt { Join::All } else { Join::Instance(Instance::FIRST) };
        return Ok((first, here));
    };
    let (fs, repository) = (context.env().fs.as_ref(), context.repository);
    let local = state::local_logs(fs, &watched.state, repository, &watched.source)?;
    if let Some(instance) = at_place(&known, &here, &local, archive)? {
        return Ok((Join::Instance(instance), here));
    }
    if restored_fork(context, archive, &archive.catalog()?, &watched.place.resolved)?.is_some() {
        return Ok((Join::New, here));
    }
    Err(Error::OtherPlace {
        name: watched.source.to_string(),
        path: here.resolved,
        host: here.host,
        was: newest.origin.resolved.clone(),
        was_host: newest.origin.host.clone(),
    })
}

/// The instance whose place this is. `local` are the timelines of the local logs.
fn at_place(
    known: &[PlacedInstance],
    here: &Origin,
    local: &[TimelineId],
    archive: &Archive,
) -> Result<Option<Instance>> {
    let is_path = |at: &&PlacedInstance| at.origin.resolved == here.resolved || at.origin.given == here.given;
    let on_path = || known.iter().filter(is_path);
    if let Some(same) = on_path().find(|at| at.origin.same_host(here)) {
        return Ok(Some(same.instance));
    }
    let Some(first) = on_path().next().filter(|_| !local.is_empty()) else { return Ok(None) };
    // Of several containers with this path, the one whose log this is.
    let owners = archive.owners(&archive.catalog()?)?;
    let own = local.iter().rev().find_map(|timeline| owners.get(timeline));
    let own = own.filter(|own| on_path().any(|at| at.instance == **own));
    Ok(Some(own.copied().unwrap_or(first.instance)))
}

fn origin(context: &EngineContext, watched: &LiveSource) -> Origin {
    Origin {
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        machine: machine(context.env().fs.as_ref(), context.repository),
        given: watched.place.given.clone(),
        resolved: watched.place.resolved.clone(),
        stated: context.env().clock.now(),
    }
}

/// The machine's identity, hashed: machine-id(5) asks not to expose the original.
fn machine(fs: &dyn FileSystem, repository: [u8; 16]) -> Option<[u8; 16]> {
    let file = fs.open(Path::new(MACHINE_ID), Access::Read).ok()?;
    let len = file.len().ok().filter(|len| (1..=MACHINE_ID_BYTES_MAX).contains(len))?;
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let hash = Sha256::new().chain_update(b"pitr origin").chain_update(repository).chain_update(bytes);
    hash.finalize().first_chunk().copied()
}

/// A restored state that matches the database.
struct RestoredMatch {
    state: RestoredState,
    /// True if the database certainly has exactly this state.
    is_exact: bool,
}

impl RestoredMatch {
    /// The restored state that matches an open database. Its `-wal` file may already hold later
    /// commits.
    fn of(archive: &Archive, source: &mut Source) -> Result<Option<RestoredMatch>> {
        let (view, _) = BaseView::take(source, TxId::NONE)?;
        let page_bytes = view.page_bytes();
        let at = |number: u64| number * u64::from(page_bytes);
        let pages = view.len() / u64::from(page_bytes);
        let seen = Fingerprint::of(page_bytes, pages, |number, out| view.read(at(number), out))?;
        if let Some(state) = archive.restored_as(&seen)? {
            return Ok(Some(RestoredMatch { state, is_exact: seen.is_of_all() }));
        }
        let file = source.file();
        let pages = file.len().map_err(Error::ReadDatabase)? / u64::from(page_bytes);
        let in_file = Fingerprint::of(page_bytes, pages, |number, out| {
            file.read_exact_at(out, at(number)).map_err(Error::ReadDatabase)
        })?;
        Ok(archive.restored_as(&in_file)?.map(|state| RestoredMatch { state, is_exact: false }))
    }

    fn fork(&self) -> Fork {
        let RestoredState { timeline, lsn, time, fingerprint, .. } = self.state;
        Fork {
            parent: Some(timeline),
            at: lsn,
            reason: ForkReason::Restored,
            root: Some(fingerprint.hash),
            time,
            gap: !self.is_exact,
        }
    }
}

/// The fork for a timeline that begins with the database at this path, if that is a restored state.
pub(super) fn restored_fork(
    context: &EngineContext,
    archive: &Archive,
    catalog: &Catalog,
    database: &Path,
) -> Result<Option<Fork>> {
    let mut source = Source::open(context.env().fs.as_ref(), context.env().clock.clone(), database)?;
    fork_of(archive, catalog, &mut source)
}

fn fork_of(archive: &Archive, catalog: &Catalog, source: &mut Source) -> Result<Option<Fork>> {
    Ok(find_restored(archive, catalog, source)?.map(|known| known.fork()))
}

/// The restored state that matches an open database, if its timeline is known.
fn find_restored(archive: &Archive, catalog: &Catalog, source: &mut Source) -> Result<Option<RestoredMatch>> {
    let known = RestoredMatch::of(archive, source)?;
    Ok(known.filter(|known| catalog.timelines().contains_key(&known.state.timeline)))
}

/// State of a source whose log does not show how it continues.
pub(super) enum Content {
    /// The repository does not know the state.
    Unknown,
    /// The last state in the local log. It is known because it was also restored, here or
    /// elsewhere.
    Unchanged,
    /// An earlier state, or a state of another history. The new timeline begins there.
    Restored(Box<Log>),
}

impl Shared {
    /// Asks the repository which state the source is in. The caller must not have captured anything
    /// yet.
    pub(super) fn content(&self, source: &mut Source, state: &State) -> Result<Content> {
        let Some(known) = find_restored(&self.archive, &self.archive.catalog()?, source)? else {
            return Ok(Content::Unknown);
        };
        // The old history stays restorable up to its end.
        self.ship(true)?;
        if self.is_last(&known.state)? {
            return Ok(if known.is_exact { Content::Unchanged } else { Content::Unknown });
        }
        let from = known.fork();
        let log = fork(&self.context, state, &self.writer, &from, self.options)?;
        (self.events)(Event::Forked { timeline: log.timeline, reason: from.reason });
        Ok(Content::Restored(Box::new(log)))
    }

    /// True if nothing was committed on the current timeline since this state, and nothing is
    /// missing.
    fn is_last(&self, state: &RestoredState) -> Result<bool> {
        let catalog = self.archive.catalog()?;
        let lineage = catalog.lineage(self.log.timeline)?;
        let pieces = catalog.pieces(&lineage);
        let whole = runs(&pieces).last().is_some_and(|run| run.from <= state.lsn);
        if !whole || !lineage.holds(state.timeline, state.lsn) {
            return Ok(false);
        }
        let split = Search::new(&self.archive, &pieces).split(|commit| commit.lsn <= state.lsn)?;
        Ok(split.after.is_none())
    }
}
