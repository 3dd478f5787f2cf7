//! A file of the result while it is written.

use crate::error::{Error, Result};
use pitr_snapshot::EXTENT_BYTES;
use pitr_vfs::{Access, File, FileSystem};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Number of bytes at the head of a marked file that are written last.
const HEAD_BYTES: u64 = 4096;
/// Size of a sector, which a disk writes whole or not at all, bytes.
const SECTOR_BYTES: usize = 512;
/// In a file with holes, runs of zeros of this length are not written, bytes.
const PIECE_BYTES: usize = 4096;

/// A file that any number of threads write. If it is marked, its head is kept in memory until the
/// end.
pub(crate) struct Sink<'a> {
    fs: &'a dyn FileSystem,
    path: PathBuf,
    /// The open file; `None` if it is opened for each write.
    file: Option<Arc<dyn File>>,
    len: u64,
    /// True if writes go through the system's cache.
    is_cached: bool,
    holes: Option<Vec<(u64, u64)>>,
    /// True if every byte that was not written is zero.
    is_fresh: bool,
    mark: &'static [u8],
    head: Option<Mutex<Vec<u8>>>,
}

/// The properties of a sink's file.
pub(crate) struct SinkFile {
    /// Length of the file, bytes.
    pub(crate) len: u64,
    /// Parts of the file without storage, if they are known.
    pub(crate) holes: Option<Vec<(u64, u64)>>,
    /// True if the file was just created. False if it has old content, which is overwritten.
    pub(crate) is_fresh: bool,
    /// Head of a marked file, until it is written.
    pub(crate) mark: Option<&'static [u8]>,
}

impl<'a> Sink<'a> {
    /// Begins a file: writes its mark, and sets its length. Old content gets its mark durably
    /// before anything else is changed.
    pub(crate) fn begin(
        fs: &'a dyn FileSystem,
        path: PathBuf,
        file: Arc<dyn File>,
        about: SinkFile,
    ) -> Result<Self> {
        let SinkFile { len, holes, is_fresh, mark } = about;
        if let Some(mark) = mark {
            file.write_all_at(mark, 0).map_err(Error::io("write", &path))?;
        }
        if !is_fresh {
            file.sync_data().map_err(Error::io("sync", &path))?;
        }
        let head = mark.map(|_| Mutex::new(vec![0; len.min(HEAD_BYTES) as usize]));
        let mark = mark.unwrap_or_default();
        file.set_len(len.max(mark.len() as u64)).map_err(Error::io("lengthen", &path))?;
        // Small files are synced together.
        let is_cached = len <= EXTENT_BYTES;
        let file = Some(file);
        Ok(Sink { fs, path, file, len, is_cached, holes, is_fresh, mark, head })
    }

    /// Closes the file; it is opened again for each write.
    pub(crate) fn close(&mut self) {
        self.file = None;
    }

    /// Length of the result, bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Temporary path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes at the head of the file that are not written yet.
    pub(crate) fn head(&self) -> Vec<u8> {
        let head = self.head.as_ref().map(|head| head.lock().unwrap_or_else(PoisonError::into_inner).clone());
        head.unwrap_or_default()
    }

    /// The file.
    pub(crate) fn file(&self) -> Result<Arc<dyn File>> {
        match &self.file {
            Some(file) => Ok(Arc::clone(file)),
            None => self.fs.open(&self.path, Access::ReadWrite).map_err(Error::io("open", &self.path)),
        }
    }

    /// Writes bytes. Bytes past the end of the file are left out.
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let fits = self.len.saturating_sub(offset).min(bytes.len() as u64);
        let bytes = &bytes[..fits as usize];
        let in_head = self.keep_head(offset, bytes);
        let (bytes, offset) = (&bytes[in_head..], offset + in_head as u64);
        let file = self.file()?;
        let done = match self.is_cached {
            true => file.write_all_at(bytes, offset),
            false => file.write_once_at(bytes, offset),
        };
        done.map_err(self.failed("write"))
    }

    /// Keeps the bytes that belong to the head. Returns their number.
    fn keep_head(&self, offset: u64, bytes: &[u8]) -> usize {
        let Some(head) = &self.head else { return 0 };
        let in_head = HEAD_BYTES.saturating_sub(offset).min(bytes.len() as u64) as usize;
        if in_head > 0 {
            let mut head = head.lock().unwrap_or_else(PoisonError::into_inner);
            head[offset as usize..offset as usize + in_head].copy_from_slice(&bytes[..in_head]);
        }
        in_head
    }

    /// True if the bytes at this offset are not on the disk before the end.
    pub(crate) fn withholds(&self, offset: u64) -> bool {
        self.head.is_some() && offset < HEAD_BYTES
    }

    /// Writes a part of the file. In a new file, zeros are left out. Returns the number of bytes
    /// written.
    pub(crate) fn put(&self, offset: u64, bytes: &[u8]) -> Result<u64> {
        match self.is_fresh {
            true => self.write_over_zeros(offset, bytes),
            false => self.write(offset, bytes).map(|()| bytes.len() as u64),
        }
    }

    fn write_over_zeros(&self, offset: u64, bytes: &[u8]) -> Result<u64> {
        let piece = match &self.holes {
            None => bytes.len(),
            Some(holes) => {
                let end = offset + bytes.len() as u64;
                if !holes.iter().any(|(from, to)| *from < end && offset < *to) {
                    return self.write(offset, bytes).map(|()| bytes.len() as u64);
                }
                PIECE_BYTES
            }
        };
        let (mut at, mut written) = (offset, 0);
        for piece in bytes.chunks(piece.max(1)) {
            if piece.iter().any(|byte| *byte != 0) {
                self.write(at, piece)?;
                written += piece.len() as u64;
            }
            at += piece.len() as u64;
        }
        Ok(written)
    }

    /// Cuts the file to its exact length. A file shorter than its mark loses the end of the mark
    /// here; such a file can't be opened in any case.
    pub(crate) fn cut(&self) -> Result<()> {
        match self.len < self.mark.len() as u64 {
            true => self.file()?.set_len(self.len).map_err(self.failed("cut")),
            false => Ok(()),
        }
    }

    /// Writes the head except for its first sector.
    pub(crate) fn write_rest_of_head(&self) -> Result<()> {
        match self.head().get(SECTOR_BYTES..) {
            None | Some([]) => Ok(()),
            Some(rest) => {
                let done = self.file()?.write_all_at(rest, SECTOR_BYTES as u64);
                done.map_err(self.failed("write"))
            }
        }
    }

    /// Replaces the mark by the first sector.
    pub(crate) fn write_first_sector(&self) -> Result<()> {
        if self.head.is_none() {
            return Ok(());
        }
        let head = self.head();
        let first = &head[..head.len().min(SECTOR_BYTES)];
        self.file()?.write_all_at(first, 0).map_err(self.failed("write"))
    }

    /// Puts the mark back over the first sector.
    pub(crate) fn mark_again(&self) -> Result<()> {
        match self.mark {
            [] => Ok(()),
            mark => self.file()?.write_all_at(mark, 0).map_err(self.failed("write")),
        }
    }

    /// Makes the file durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file()?.sync_all().map_err(self.failed("sync"))
    }

    fn failed(&self, op: &'static str) -> impl FnOnce(io::Error) -> Error {
        Error::io(op, &self.path)
    }
}
