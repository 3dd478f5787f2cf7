//! Frozen epochs on disk.
//!
//! # Layout
//! One folder per timeline of one log. Each file claims one range, which its name states:
//! `%016x-%016x.chg`. A block that the file does not report did not change in that range. Ranges
//! may overlap; each claim is true by itself. The one writer holds `lock`.
//!
//! # Invariants
//! - A claim is either complete or absent. It is written under a name that ends in `.new`, synced,
//!   published without replacing, and its folder is synced. It is never changed. A damaged claim is
//!   removed before its range is claimed again.
//! - A claim is valid only if every byte passes its checksum, and its name, its log and the log's
//!   end match.
//! - Every range without a valid claim is reported as missing.

use crate::layout::{self, FILE_BYTES_MAX, HEADER_BYTES, Header};
use crate::{ChangeSet, Changes, Error, LogIdentity, LsnRange, Result};
use pitr_format::{DecodeError, Lsn};
use pitr_vfs::{Access, File, FileSystem, Lock};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SUFFIX: &str = ".chg";
const TEMPORARY_SUFFIX: &str = ".chg.new";
const LSN_DIGITS: usize = 16;
const LOCK_NAME: &str = "lock";

/// The frozen epochs of one timeline of one log.
pub struct Store {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    log: LogIdentity,
    claims: BTreeSet<LsnRange>,
    damaged: Vec<Error>,
    _lock: Lock,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("dir", &self.dir).field("claims", &self.claims).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the folder, or creates it. `durable` is the durable end of the recovered log.
    ///
    /// # Errors
    /// [`Error::Locked`]; [`Error::Foreign`], [`Error::Ahead`] and [`Error::Newer`] for a folder
    /// that this log cannot use: use another folder and treat everything as changed once. A damaged
    /// file is not an error here; see [`Store::damaged`].
    pub fn open(fs: Arc<dyn FileSystem>, dir: &Path, log: LogIdentity, durable: Lsn) -> Result<Self> {
        fs.create_dir_all(dir).map_err(Error::io("create", dir))?;
        let lock_path = dir.join(LOCK_NAME);
        let lock = fs.lock(&lock_path).map_err(Error::io("lock", &lock_path))?;
        let lock = lock.ok_or_else(|| Error::Locked { dir: dir.to_owned() })?;
        let (claims, damaged) = (BTreeSet::new(), Vec::new());
        let mut store = Store { fs, dir: dir.to_owned(), log, claims, damaged, _lock: lock };
        for name in store.fs.list(dir).map_err(Error::io("list", dir))? {
            if name.to_str().is_some_and(|name| name.ends_with(TEMPORARY_SUFFIX)) {
                store.remove(&dir.join(name))?;
            } else if let Some(range) = range_of(&name) {
                store.examine(range, durable)?;
            }
        }
        // A visible name may not be durable yet. Sync the folder before any decision that depends
        // on the names.
        store.sync_names()?;
        Ok(store)
    }

    /// The files that were found damaged when the folder was opened. Their ranges count as
    /// unclaimed.
    #[must_use]
    pub fn damaged(&self) -> &[Error] {
        &self.damaged
    }

    /// The claimed ranges, ascending. They may overlap.
    pub fn claims(&self) -> impl Iterator<Item = LsnRange> + '_ {
        self.claims.iter().copied()
    }

    /// Claims a range, durably on return. An existing claim of the same range is kept, since it is
    /// true too.
    ///
    /// # Errors
    /// [`Error::Io`]. It is then uncertain whether the range is claimed. The same call may be
    /// repeated.
    pub fn put(&mut self, changes: &Changes) -> Result<()> {
        let range = changes.range;
        if range.is_empty() {
            return Ok(());
        }
        let path = self.path_of(range);
        if self.fs.exists(&path).map_err(Error::io("look for", &path))? {
            match self.read(range) {
                Ok(_) => {
                    self.sync_names()?;
                    self.claims.insert(range);
                    return Ok(());
                }
                Err(Error::Damaged { .. }) => self.remove(&path)?,
                Err(other) => return Err(other),
            }
        }
        let temporary = path.with_extension("chg.new");
        if self.fs.exists(&temporary).map_err(Error::io("look for", &temporary))? {
            self.remove(&temporary)?; // left by a failed put; the lock makes it ours
        }
        let file = self.fs.create_new(&temporary).map_err(Error::io("create", &temporary))?;
        let bytes = layout::encode(self.log, changes);
        file.write_all_at(&bytes, 0).map_err(Error::io("write", &temporary))?;
        file.sync_all().map_err(Error::io("sync", &temporary))?;
        self.fs.publish(&temporary, &path).map_err(Error::io("publish", &path))?;
        self.sync_names()?;
        self.claims.insert(range);
        Ok(())
    }

    /// The known changes in `range`, and the parts of it without a valid claim.
    ///
    /// # Errors
    /// [`Error::Io`]. Damage is not an error here; see [`Coverage::damaged`].
    pub fn coverage(&self, range: LsnRange) -> Result<Coverage> {
        let mut coverage = Coverage { set: ChangeSet::new(), missing: vec![range], damaged: Vec::new() };
        coverage.missing.retain(|part| !part.is_empty());
        for claim in self.claims.iter().filter(|claim| claim.overlaps(&range)) {
            match self.read(*claim) {
                Ok(changes) => coverage.add(&changes),
                Err(damage @ (Error::Damaged { .. } | Error::Gone { .. })) => coverage.damaged.push(damage),
                Err(other) => return Err(other),
            }
        }
        Ok(coverage)
    }

    /// Removes the claims that lie entirely below `lsn`.
    ///
    /// # Errors
    /// [`Error::Io`]. Some claims may have been removed by then. A removed range counts as
    /// unclaimed.
    pub fn remove_below(&mut self, lsn: Lsn) -> Result<()> {
        let old: Vec<LsnRange> = self.claims.iter().copied().filter(|claim| claim.to() <= lsn).collect();
        for claim in old {
            self.remove(&self.path_of(claim))?;
            self.claims.remove(&claim);
        }
        self.sync_names()
    }

    /// Reads a file's header and checks that it is a claim of this log.
    fn examine(&mut self, range: LsnRange, durable: Lsn) -> Result<()> {
        let path = self.path_of(range);
        let file = self.fs.open(&path, Access::Read).map_err(Error::io("open", &path))?;
        let mut bytes = [0; HEADER_BYTES];
        let len = file.read_up_to_at(&mut bytes, 0).map_err(Error::io("read", &path))?;
        match Header::decode(&bytes[..len]).and_then(|header| header.is_named(range)) {
            Ok(header) => self.check_log(&path, header.log)?,
            Err(source @ DecodeError::Version { .. }) => return Err(Error::Newer { path, source }),
            Err(source) => {
                self.damaged.push(Error::Damaged { path, source });
                return Ok(());
            }
        }
        if range.to() > durable {
            return Err(Error::Ahead { path, to: range.to(), durable });
        }
        self.claims.insert(range);
        Ok(())
    }

    fn check_log(&self, path: &Path, log: LogIdentity) -> Result<()> {
        let what = if log.timeline != self.log.timeline {
            "timeline"
        } else if log.log_id != self.log.log_id {
            "log identity"
        } else {
            return Ok(());
        };
        Err(Error::Foreign { path: path.to_owned(), what })
    }

    /// Reads a claim and checks every byte.
    fn read(&self, range: LsnRange) -> Result<Changes> {
        let path = self.path_of(range);
        let file = match self.fs.open(&path, Access::Read) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(Error::Gone { path }),
            other => other.map_err(Error::io("open", &path))?,
        };
        let bytes = read_whole(file.as_ref(), &path)?;
        let decoded = Header::decode(&bytes).and_then(|header| header.is_named(range));
        match decoded.and_then(|_| layout::decode(&bytes)) {
            Ok((log, changes)) => self.check_log(&path, log).map(|()| changes),
            Err(source) => Err(Error::Damaged { path, source }),
        }
    }

    fn path_of(&self, range: LsnRange) -> PathBuf {
        let (from, to) = (range.from().get(), range.to().get());
        self.dir.join(format!("{from:0LSN_DIGITS$x}-{to:0LSN_DIGITS$x}{SUFFIX}"))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.fs.remove_file(path).map_err(Error::io("remove", path))
    }

    fn sync_names(&self) -> Result<()> {
        self.fs.sync_dir(&self.dir).map_err(Error::io("sync", &self.dir))
    }
}

/// Reads a file, if it is not larger than a claim can be.
fn read_whole(file: &dyn File, path: &Path) -> Result<Vec<u8>> {
    let len = file.len().map_err(Error::io("measure", path))?;
    if len > FILE_BYTES_MAX {
        let source = DecodeError::Range { what: "length of the file", value: len };
        return Err(Error::Damaged { path: path.to_owned(), source });
    }
    let mut bytes = vec![0; len as usize];
    let read = file.read_up_to_at(&mut bytes, 0).map_err(Error::io("read", path))?;
    bytes.truncate(read);
    Ok(bytes)
}

/// The range in a file's name; `None` for any other name.
fn range_of(name: &OsStr) -> Option<LsnRange> {
    let (from, to) = name.to_str()?.strip_suffix(SUFFIX)?.split_once('-')?;
    let lsn = |digits: &str| {
        let hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (hex && digits.len() == LSN_DIGITS).then(|| u64::from_str_radix(digits, 16).ok().map(Lsn::new))?
    };
    LsnRange::new(lsn(from)?, lsn(to)?).ok().filter(|range| !range.is_empty())
}

/// The known changes in a range of the log.
#[derive(Debug)]
pub struct Coverage {
    set: ChangeSet,
    missing: Vec<LsnRange>,
    damaged: Vec<Error>,
}

impl Coverage {
    /// The parts of the range without a valid claim, ascending. Read them from the log.
    #[must_use]
    pub fn missing(&self) -> &[LsnRange] {
        &self.missing
    }

    /// Damaged files whose ranges overlap this one. Their ranges are missing, unless other files
    /// claim them.
    #[must_use]
    pub fn damaged(&self) -> &[Error] {
        &self.damaged
    }

    /// Adds changes from another source: an [`Extractor`](crate::Extractor), or an epoch just
    /// frozen.
    pub fn add(&mut self, changes: &Changes) {
        self.set.union(&changes.set);
        let left = self.missing.iter().flat_map(|part| part.minus(&changes.range));
        self.missing = left.collect();
    }

    /// The changed blocks. Everything, if any part is missing.
    #[must_use]
    pub fn into_set(self) -> ChangeSet {
        if self.missing.is_empty() { self.set } else { ChangeSet::whole() }
    }
}
