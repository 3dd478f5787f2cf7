//! Frozen epochs on the disk.
//!
//! # Layout
//! A folder for one timeline of one log. Each file claims one range and bears it in its name,
//! `%016x-%016x.chg`: what it doesn't report in that range didn't change there. Ranges may overlap: each
//! claim is true by itself. `lock` is held by the one writer.
//!
//! # Invariants
//! - A claim is whole or not there: made aside under a name that ends in `.new`, synced, published without
//!   replacing, its folder synced. It is never changed; a damaged one is removed before its range is claimed
//!   anew.
//! - A claim counts only if every byte checks out, and its name, its log and the log's end agree with it.
//! - What no good claim covers is named as missing, never passed over.

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
const ASIDE_SUFFIX: &str = ".chg.new";
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
    /// Opens the folder, or makes it. `durable` is the durable end of the log as it was recovered.
    ///
    /// # Errors
    /// [`Error::Locked`]; [`Error::Foreign`], [`Error::Ahead`] and [`Error::Newer`] for a folder that this log
    /// can't use: give it another one, and take everything as changed once. A damaged file is no error here,
    /// see [`Store::damaged`].
    pub fn open(fs: Arc<dyn FileSystem>, dir: &Path, log: LogIdentity, durable: Lsn) -> Result<Self> {
        fs.create_dir_all(dir).map_err(Error::io("create", dir))?;
        let lock_path = dir.join(LOCK_NAME);
        let lock = fs.lock(&lock_path).map_err(Error::io("lock", &lock_path))?;
        let lock = lock.ok_or_else(|| Error::Locked { dir: dir.to_owned() })?;
        let (claims, damaged) = (BTreeSet::new(), Vec::new());
        let mut store = Store { fs, dir: dir.to_owned(), log, claims, damaged, _lock: lock };
        for name in store.fs.list(dir).map_err(Error::io("list", dir))? {
            if name.to_str().is_some_and(|name| name.ends_with(ASIDE_SUFFIX)) {
                store.remove(&dir.join(name))?;
            } else if let Some(range) = range_of(&name) {
                store.examine(range, durable)?;
            }
        }
        // Names may be seen that a power loss would take back; what is decided on them must not outlive them.
        store.sync_names()?;
        Ok(store)
    }

    /// What was found damaged when the folder was opened. Those ranges count as not claimed.
    #[must_use]
    pub fn damaged(&self) -> &[Error] {
        &self.damaged
    }

    /// The ranges that are claimed, ascending. They may overlap.
    pub fn claims(&self) -> impl Iterator<Item = LsnRange> + '_ {
        self.claims.iter().copied()
    }

    /// Claims a range; durable on return. A range that was claimed before stays as it was: that was true too.
    ///
    /// # Errors
    /// [`Error::Io`]. Nothing is claimed then for certain; the same call may be tried again.
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
        let aside = path.with_extension("chg.new");
        if self.fs.exists(&aside).map_err(Error::io("look for", &aside))? {
            self.remove(&aside)?; // of a put that failed: ours, by the lock
        }
        let file = self.fs.create_new(&aside).map_err(Error::io("create", &aside))?;
        let bytes = layout::encode(self.log, changes);
        file.write_all_at(&bytes, 0).map_err(Error::io("write", &aside))?;
        file.sync_all().map_err(Error::io("sync", &aside))?;
        self.fs.publish(&aside, &path).map_err(Error::io("publish", &path))?;
        self.sync_names()?;
        self.claims.insert(range);
        Ok(())
    }

    /// What is known to have changed in `range`, and of which parts of it nothing is known.
    ///
    /// # Errors
    /// [`Error::Io`]. Damage is no error here: see [`Coverage::damaged`].
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

    /// Removes what speaks only for positions below `lsn`.
    ///
    /// # Errors
    /// [`Error::Io`]. Some may have been removed then; what is gone counts as not claimed.
    pub fn remove_below(&mut self, lsn: Lsn) -> Result<()> {
        let old: Vec<LsnRange> = self.claims.iter().copied().filter(|claim| claim.to() <= lsn).collect();
        for claim in old {
            self.remove(&self.path_of(claim))?;
            self.claims.remove(&claim);
        }
        self.sync_names()
    }

    /// Looks at a file's header: is it a claim of this log?
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

    /// Reads a claim, every byte of it checked.
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

/// The bytes of a file, if they are not more than one can have.
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

/// What is known of a range of the log.
#[derive(Debug)]
pub struct Coverage {
    set: ChangeSet,
    missing: Vec<LsnRange>,
    damaged: Vec<Error>,
}

impl Coverage {
    /// The parts of the range of which nothing is known, ascending: to be read from the log.
    #[must_use]
    pub fn missing(&self) -> &[LsnRange] {
        &self.missing
    }

    /// Files that speak for some of it and can't be read. Their ranges are missing unless others claim them.
    #[must_use]
    pub fn damaged(&self) -> &[Error] {
        &self.damaged
    }

    /// Takes in what is known from elsewhere: an [`Extractor`](crate::Extractor)'s, or an epoch just frozen.
    pub fn add(&mut self, changes: &Changes) {
        self.set.union(&changes.set);
        let left = self.missing.iter().flat_map(|part| part.minus(&changes.range));
        self.missing = left.collect();
    }

    /// What changed: everything, if anything is missing.
    #[must_use]
    pub fn into_set(self) -> ChangeSet {
        if self.missing.is_empty() { self.set } else { ChangeSet::whole() }
    }
}
