//! The surviving images of the log, by their place in the result.
//!
//! Images come in the order of the log, and extents are written in the order of their file. In
//! between, images wait in *regions* of 32 MiB of a file. If they take more memory than allowed,
//! regions append parts of what they hold to a temporary file beside the output. Each part has a
//! checksum. The temporary file has no name, so no crash leaves it behind.
//!
//! ```text
//! part of a region: (offset u64, length u32, bytes)*   offset: of the bytes in the file
//! ```

use crate::error::{Error, Result};
use pitr_format::FileId;
use pitr_vfs::{Access, File, FileSystem};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Size of a region, bytes. A multiple of the size of an extent.
pub(crate) const REGION_BYTES: u64 = 32 << 20;
/// Offset and length of an image.
const HEAD_BYTES: usize = 12;
/// Smallest part that is written to the temporary file, bytes.
const PART_BYTES_MIN: usize = 16 << 10;

/// Images that wait for their extents. Any number of threads may add.
pub(crate) struct Gathered {
    files: BTreeMap<FileId, Vec<Mutex<Region>>>,
    /// `None` if all images fit in memory.
    spill: Option<Spill>,
}

/// A file of the result that has images.
pub(crate) struct Gathering {
    pub(crate) file: FileId,
    /// Length of the file, bytes.
    pub(crate) len: u64,
    /// Bytes of the file's images.
    pub(crate) image_bytes: u64,
}

#[derive(Default)]
struct Region {
    waiting: Vec<u8>,
    parts: Vec<Part>,
}

struct Part {
    offset: u64,
    len: usize,
    crc: u32,
}

impl Gathered {
    /// Waits for images of these files. Beyond `memory` bytes, they go to a temporary file at
    /// `path`, which has no name once this returns.
    pub(crate) fn new(fs: &dyn FileSystem, path: &Path, files: &[Gathering], memory: usize) -> Result<Self> {
        let total: u64 = files.iter().map(|file| file.image_bytes).sum();
        let count: u64 = files.iter().map(|file| regions(file.len)).sum();
        let is_small = total <= memory as u64;
        let part_bytes = (memory as u64).checked_div(count).unwrap_or(0) as usize;
        let spill = if is_small { None } else { Some(Spill::new(fs, path, part_bytes.max(PART_BYTES_MIN))?) };
        let of_file = |file: &Gathering| (0..regions(file.len)).map(|_| Mutex::default()).collect();
        Ok(Gathered { files: files.iter().map(|file| (file.file, of_file(file))).collect(), spill })
    }

    /// Adds bytes at an offset of a file. Bytes past the end of the file are left out.
    pub(crate) fn add(&self, file: FileId, offset: u64, bytes: &[u8]) -> Result<()> {
        let regions = self.files.get(&file).ok_or(Error::NotLaidOut { file })?;
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let room = REGION_BYTES - at % REGION_BYTES;
            let (now, later) = rest.split_at(rest.len().min(room as usize)); // at most a region
            let Some(region) = regions.get((at / REGION_BYTES) as usize) else { return Ok(()) };
            self.add_to(region, at, now)?;
            (at, rest) = (at + now.len() as u64, later);
        }
        Ok(())
    }

    fn add_to(&self, region: &Mutex<Region>, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut region = lock(region);
        if let Some(spill) = self.spill.as_ref().filter(|_| region.waiting.capacity() == 0) {
            // A buffer that doubles would take up to twice the memory.
            region.waiting.reserve_exact(spill.part_bytes + HEAD_BYTES + bytes.len());
        }
        region.waiting.extend_from_slice(&offset.to_le_bytes());
        region.waiting.extend_from_slice(&(bytes.len() as u32).to_le_bytes()); // at most a region
        region.waiting.extend_from_slice(bytes);
        match &self.spill {
            Some(spill) if region.waiting.len() >= spill.part_bytes => {
                let part = spill.write(&region.waiting)?;
                region.parts.push(part);
                region.waiting.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Takes the images of a region of a file out.
    pub(crate) fn take(&self, file: FileId, region: u64) -> Result<Overlay> {
        let regions = self.files.get(&file).map(Vec::as_slice).unwrap_or_default();
        let Some(region) = regions.get(region as usize) else { return Ok(Overlay::default()) };
        let Region { waiting, parts } = std::mem::take(&mut *lock(region));
        let mut bytes = waiting;
        if let Some(spill) = &self.spill {
            bytes.reserve_exact(parts.iter().map(|part| part.len).sum());
            parts.iter().try_for_each(|part| spill.read(part, &mut bytes))?;
        }
        Ok(Overlay::new(bytes))
    }
}

fn regions(len: u64) -> u64 {
    len.div_ceil(REGION_BYTES)
}

fn lock(region: &Mutex<Region>) -> MutexGuard<'_, Region> {
    region.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A temporary file without a name.
#[derive(Debug)]
struct Spill {
    file: Arc<dyn File>,
    path: PathBuf,
    end: AtomicU64,
    part_bytes: usize,
}

impl Spill {
    fn new(fs: &dyn FileSystem, path: &Path, part_bytes: usize) -> Result<Self> {
        let file = match fs.create_private(path) {
            // Created and not removed: by a process that died between the two. It never had bytes.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && is_empty(fs, path) => {
                fs.remove_file(path).and_then(|()| fs.create_private(path))
            }
            created => created,
        };
        let file = file.map_err(Error::io("create", path))?;
        fs.remove_file(path).map_err(Error::io("remove", path))?;
        Ok(Spill { file, path: path.to_owned(), end: AtomicU64::new(0), part_bytes })
    }

    fn write(&self, bytes: &[u8]) -> Result<Part> {
        let len = bytes.len();
        let offset = self.end.fetch_add(len as u64, Ordering::Relaxed);
        self.file.write_all_at(bytes, offset).map_err(Error::io("write", &self.path))?;
        Ok(Part { offset, len, crc: crc32fast::hash(bytes) })
    }

    fn read(&self, part: &Part, to: &mut Vec<u8>) -> Result<()> {
        let begin = to.len();
        to.resize(begin + part.len, 0);
        let bytes = &mut to[begin..];
        let read = self.file.read_exact_at(bytes, part.offset);
        read.map_err(Error::io("read", &self.path))?;
        match crc32fast::hash(bytes) == part.crc {
            true => Ok(()),
            false => Err(Error::Spill { path: self.path.clone() }),
        }
    }
}

fn is_empty(fs: &dyn FileSystem, path: &Path) -> bool {
    fs.open(path, Access::Read).and_then(|file| file.is_empty()).unwrap_or(false)
}

/// The images of a region. No two overlap.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    bytes: Vec<u8>,
    /// By offset in the file: offset, and place in `bytes`.
    images: Vec<(u64, Range<usize>)>,
}

impl Overlay {
    fn new(bytes: Vec<u8>) -> Self {
        let (mut images, mut at) = (Vec::new(), 0);
        while let Some((head, rest)) = bytes.get(at..).and_then(|rest| rest.split_first_chunk::<HEAD_BYTES>())
        {
            let [o0, o1, o2, o3, o4, o5, o6, o7, l0, l1, l2, l3] = *head;
            let offset = u64::from_le_bytes([o0, o1, o2, o3, o4, o5, o6, o7]);
            let len = (u32::from_le_bytes([l0, l1, l2, l3]) as usize).min(rest.len());
            let begin = at + HEAD_BYTES;
            images.push((offset, begin..begin + len));
            at = begin + len;
        }
        images.sort_unstable_by_key(|(offset, _)| *offset);
        Overlay { bytes, images }
    }

    /// True if there is no image.
    pub(crate) fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// The images that have bytes in a span: offset and content.
    fn within(&self, span: &Range<u64>) -> impl Iterator<Item = (u64, &[u8])> {
        let (start, end) = (span.start, span.end);
        let first = self.images.partition_point(|(offset, place)| offset + place.len() as u64 <= start);
        let from_here = self.images.get(first..).unwrap_or_default().iter();
        from_here
            .take_while(move |(offset, _)| *offset < end)
            .map(|(offset, place)| (*offset, &self.bytes[place.clone()]))
    }

    /// Number of bytes of a span that images have.
    pub(crate) fn bytes_in(&self, span: &Range<u64>) -> u64 {
        let of = |(offset, bytes): (u64, &[u8])| {
            (offset + bytes.len() as u64).min(span.end) - offset.max(span.start)
        };
        self.within(span).map(of).sum()
    }

    /// True if images have every byte of a span.
    pub(crate) fn covers(&self, span: &Range<u64>) -> bool {
        span.is_empty() || self.bytes_in(span) == span.end - span.start
    }

    /// Copies the images over `bytes`, which begin at `start`. True if that changed any.
    pub(crate) fn apply(&self, start: u64, bytes: &mut [u8]) -> bool {
        let (span, mut is_changed) = (start..start + bytes.len() as u64, false);
        for (offset, image) in self.within(&span) {
            let (from, to) = (offset.max(span.start), (offset + image.len() as u64).min(span.end));
            let image = &image[(from - offset) as usize..(to - offset) as usize];
            let place = &mut bytes[(from - start) as usize..(to - start) as usize];
            if place != image {
                place.copy_from_slice(image);
                is_changed = true;
            }
        }
        is_changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr_vfs::OsFs;
    use proptest::prelude::*;

    fn gathered(path: &Path, len: u64, memory: usize) -> Gathered {
        let files = [Gathering { file: FileId::FIRST, len, image_bytes: 1 << 20 }];
        Gathered::new(&OsFs, path, &files, memory).unwrap()
    }

    proptest! {
        /// Blocks of any size, at region boundaries too, in memory and in the temporary file.
        #[test]
        fn images_come_back_at_their_places(
            blocks in prop::collection::btree_map(0u64..400, any::<u8>(), 0..60),
            block_bytes in prop_oneof![Just(512usize), Just(4096), 1usize..5000],
            memory in prop_oneof![Just(0usize), Just(usize::MAX >> 1)],
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("spill");
            let base = REGION_BYTES - 100 * block_bytes as u64;
            let len = base + 300 * block_bytes as u64;
            let gathered = gathered(&path, len, memory);
            prop_assert!(!path.exists(), "the temporary file has no name");
            for (block, fill) in &blocks {
                let offset = base + block * block_bytes as u64;
                gathered.add(FileId::FIRST, offset, &vec![*fill; block_bytes]).unwrap();
            }
            for region in [1, 0] {
                let overlay = gathered.take(FileId::FIRST, region).unwrap();
                let span = (region * REGION_BYTES).max(base)..((region + 1) * REGION_BYTES).min(len);
                let mut bytes = vec![255; (span.end - span.start) as usize];
                overlay.apply(span.start, &mut bytes);
                let mut covered = 0;
                for (at, byte) in (span.start..).zip(&bytes) {
                    let image = blocks.get(&((at - base) / block_bytes as u64));
                    covered += u64::from(image.is_some());
                    prop_assert_eq!(*byte, *image.unwrap_or(&255));
                }
                prop_assert_eq!(overlay.bytes_in(&span), covered);
                prop_assert!(gathered.take(FileId::FIRST, region).unwrap().is_empty());
            }
        }
    }

    #[test]
    fn a_flipped_bit_in_the_temporary_file_is_detected() {
        // law 8
        let dir = tempfile::tempdir().unwrap();
        let gathered = gathered(&dir.path().join("spill"), 1 << 20, 0);
        let image = vec![7; PART_BYTES_MIN];
        gathered.add(FileId::FIRST, 0, &image).unwrap();
        let spill = gathered.spill.as_ref().unwrap();
        spill.file.write_all_at(&[8], 100).unwrap();
        assert!(matches!(gathered.take(FileId::FIRST, 0), Err(Error::Spill { .. })));
    }

    #[test]
    fn images_take_no_more_than_their_memory() {
        // law 9
        let dir = tempfile::tempdir().unwrap();
        let (len, image, memory) = (16 * REGION_BYTES, [7; 4096], 4 << 20);
        let gathered = Gathered::new(
            &OsFs,
            &dir.path().join("spill"),
            &[Gathering { file: FileId::FIRST, len, image_bytes: 1 << 30 }],
            memory,
        );
        let gathered = gathered.unwrap();
        for offset in (0..len).step_by(64 << 10) {
            gathered.add(FileId::FIRST, offset, &image).unwrap();
        }
        let held = |region: &Mutex<Region>| lock(region).waiting.capacity();
        let held: usize = gathered.files[&FileId::FIRST].iter().map(held).sum();
        let one_more = 16 * (HEAD_BYTES + image.len());
        assert!(held <= memory + one_more, "{held} bytes");
    }

    #[test]
    fn a_file_that_has_the_temporary_name_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spill");
        std::fs::write(&path, b"precious").unwrap();
        let files = [Gathering { file: FileId::FIRST, len: 1, image_bytes: 1 }];
        assert!(Gathered::new(&OsFs, &path, &files, 0).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        std::fs::write(&path, b"").unwrap();
        Gathered::new(&OsFs, &path, &files, 0).unwrap();
        assert!(!path.exists());
    }
}
