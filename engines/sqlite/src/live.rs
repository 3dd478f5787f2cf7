//! A live database at one commit, for a comparison with the archive.
//!
//! A read transaction pins the database ([`Source`]). If no commit was archived between a moment
//! before the pin and one after it, and the archive was complete at both, then the database shows
//! the newest archived commit. Otherwise the commit that it shows is the one whose note in the
//! archive has the same generation, frame and running checksum of the `-wal` file ([`Position`]).

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use pitr_archive::NotedCommit;
use pitr_format::{Lsn, TxId};
use pitr_recovery::{BoxError, History, Target};
use pitr_verify::{Live, PinnedSource};
use pitr_vfs::{Env, File};

use crate::base::BaseView;
use crate::engine::Sqlite;
use crate::error::Error;
use crate::place;
use crate::position::Position;
use crate::source::Source;

/// Log objects that are searched for a commit, from the newest on.
const PIECES_MAX: usize = 64;

impl Live for Sqlite {
    fn pin(&self, env: &Env, path: &Path) -> Result<Box<dyn PinnedSource>, BoxError> {
        let path = place::resolve(path)?;
        let mut source = Source::open(env.fs.as_ref(), Arc::clone(&env.clock), &path.resolved)?;
        let (view, position) = BaseView::take(&mut source, TxId::NONE)?;
        Ok(Box::new(Pinned { view: Arc::new(view), position, _source: Mutex::new(source) }))
    }
}

/// A database that a read transaction pins.
struct Pinned {
    /// Before the source: it shares the source's file, whose descriptor is closed last.
    view: Arc<BaseView>,
    position: Position,
    /// Holds the read transaction.
    _source: Mutex<Source>,
}

impl PinnedSource for Pinned {
    fn find(&self, history: &History, before: Option<Lsn>) -> Result<Option<Lsn>, BoxError> {
        let newest = history.plan_for(&Target::latest()).ok().map(|plan| plan.reached.lsn);
        if newest.is_some() && newest == before {
            return Ok(newest);
        }
        let Position { salts, frame, checksum, .. } = self.position;
        if salts.is_none() {
            return Ok(None);
        }
        let archive = history.archive();
        for piece in history.pieces().iter().rev().take(PIECES_MAX) {
            for NotedCommit { commit, note } in archive.notes(piece)?.iter().rev() {
                let Ok(noted) = Position::decode(note) else { continue };
                if (noted.salts, noted.frame, noted.checksum) == (salts, frame, checksum) {
                    return Ok(Some(commit.lsn));
                }
            }
        }
        Ok(None)
    }

    fn open(&self, path: &Path) -> io::Result<Option<Arc<dyn File>>> {
        match path.as_os_str().is_empty() {
            true => Ok(Some(Arc::new(PinnedFile(Arc::clone(&self.view))))),
            false => Ok(None),
        }
    }
}

/// The pinned database as a file.
#[derive(Debug)]
struct PinnedFile(Arc<BaseView>);

impl File for PinnedFile {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let view = &self.0;
        let page_bytes = u64::from(view.page_bytes());
        let there = view.len().saturating_sub(offset).min(out.len() as u64) as usize;
        if there == 0 {
            return Ok(0);
        }
        let failed = |error: Error| io::Error::other(error);
        let (first, end) = (offset / page_bytes * page_bytes, offset + there as u64);
        if first == offset && end.is_multiple_of(page_bytes) {
            view.read(offset, &mut out[..there]).map_err(failed)?;
            return Ok(there);
        }
        let mut pages = vec![0; (end.next_multiple_of(page_bytes) - first) as usize]; // about `out`
        view.read(first, &mut pages).map_err(failed)?;
        let skip = (offset - first) as usize; // less than a page
        out[..there].copy_from_slice(&pages[skip..skip + there]);
        Ok(there)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len())
    }

    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_all(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
