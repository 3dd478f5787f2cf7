//! The chunk store: opening, finding and reading chunks.

use crate::index::{Index, IndexBuilder, is_index_path, read_index};
use crate::location::{Location, PackAt, PackState};
use crate::pack::Pack;
use crate::{ChunkId, ChunkIds, Error, Result};
use pitr_codec::{Sealed, decode_frame_exactly};
use pitr_objects::layout::{CONDEMNED, INDEX, ObjectName, PACKS};
use pitr_objects::{Entry, ErrorKind, Lease, Objects, parallel};
use pitr_vfs::Buffers;
use std::collections::BTreeSet;
use std::ops::DerefMut;
use std::sync::{Arc, RwLock, RwLockReadGuard};

/// Path of an unreadable object, and its error.
pub type Damage = (String, Error);

/// Attempts to read an index whose objects are replaced at the same time.
const OPEN_ATTEMPTS: u32 = 5;

/// Most bytes of index objects, as they are stored, that are read and decoded at the same time.
const WAVE_BYTES_MAX: u64 = 32 << 20;

/// The chunks of a repository. Clones share one index and one lease, which protects the chunks.
#[derive(Debug, Clone)]
pub struct ChunkStore {
    objects: Objects,
    index: Arc<RwLock<Index>>,
    /// `None` if the repository is not writable.
    lease: Option<Arc<Lease>>,
    /// Buffers of threads that read many chunks.
    pub(crate) buffers: Buffers,
}

impl ChunkStore {
    /// Takes a lease and reads the index of all packs. If the repository is not writable, there is
    /// no lease, and a prune may delete chunks at the same time.
    ///
    /// # Errors
    /// An unreadable index object; errors of the repository.
    pub fn open(objects: Objects) -> Result<Self> {
        let (store, damaged) = Self::open_readable(objects)?;
        damaged.into_iter().next().map_or(Ok(store), |(_, error)| Err(error))
    }

    /// Like [`open`](Self::open), but skips unreadable index objects and condemnations, and returns
    /// their errors. Only for readers: a writer could rely on a pack that an unreadable
    /// condemnation lists.
    ///
    /// # Errors
    /// Errors of the listing, and of an unreachable repository.
    pub fn open_readable(objects: Objects) -> Result<(Self, Vec<Damage>)> {
        let lease = objects.lease_to_read()?.map(Arc::new);
        Self::open_under(objects, lease)
    }

    /// Reads the index under an existing lease of any role.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_with(objects: Objects, lease: Arc<Lease>) -> Result<Self> {
        let (store, damaged) = Self::open_under(objects, Some(lease))?;
        damaged.into_iter().next().map_or(Ok(store), |(_, error)| Err(error))
    }

    fn open_under(objects: Objects, lease: Option<Arc<Lease>>) -> Result<(Self, Vec<Damage>)> {
        // Read before the index: objects that are condemned later are deleted only after this
        // store's lease.
        let (condemned, unreadable) = match objects.condemned() {
            Err(error) if error.kind().is_of_one_object() => (BTreeSet::new(), Some(error)),
            other => (other?, None),
        };
        let listed = objects.list(PACKS)?;
        let state = |path: &String| {
            let is_listed = listed.binary_search_by(|entry| entry.path.cmp(path)).is_ok();
            // The pack may have been put since the listing.
            Ok::<_, Error>(match is_listed || objects.exists(path)? {
                false => PackState::Missing,
                true if condemned.contains(path) => PackState::Condemned,
                true => PackState::Kept,
            })
        };
        let mut index = IndexBuilder::new(objects.env());
        let take = |pack: Pack| index.add(&pack, state(&ObjectName::Pack(pack.digest).path())?);
        let (known, mut damaged) = read_indexes(&objects, take)?;
        damaged.extend(unreadable.map(|error| (CONDEMNED.to_owned(), error.into())));
        let index = index.finish(known)?;
        let (index, buffers) = (Arc::new(RwLock::new(index)), Buffers::default());
        Ok((ChunkStore { objects, index, lease, buffers }, damaged))
    }

    /// The lease that was taken before the index was read.
    ///
    /// # Errors
    /// [`Error::NoLease`] if the repository is not writable.
    pub fn lease(&self) -> Result<&Lease> {
        self.lease.as_deref().ok_or(Error::NoLease)
    }

    /// The place of a chunk; `None` if no index object lists it.
    ///
    /// # Errors
    /// [`Error::Died`].
    pub fn place(&self, id: &ChunkId) -> Result<Option<Place>> {
        let index = self.index()?;
        Ok(index.get(id).map(|Location { pack, frame, .. }| Place { pack, frame }))
    }

    /// Paths of the packs in the index, in the order of their numbers in a [`Place`].
    ///
    /// # Errors
    /// [`Error::Died`].
    pub fn packs(&self) -> Result<Vec<String>> {
        Ok(self.index()?.pack_paths())
    }

    /// The repository's objects.
    #[must_use]
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// True if the chunk is stored in a kept pack outside of `replaced`.
    pub(crate) fn keeps(&self, id: &ChunkId, replaced: &BTreeSet<u32>) -> Result<bool> {
        let index = self.index()?;
        let is_kept = |at: Location| at.state == PackState::Kept && !replaced.contains(&at.pack);
        Ok(index.get(id).is_some_and(is_kept))
    }

    /// Computes the ids of chunks.
    #[must_use]
    pub fn ids(&self) -> ChunkIds {
        ChunkIds::new(self.objects.keys())
    }

    /// True if the chunk is stored.
    ///
    /// # Errors
    /// [`Error::Died`] if a thread panicked while it changed the index.
    pub fn contains(&self, id: &ChunkId) -> Result<bool> {
        Ok(self.index()?.get(id).is_some())
    }

    /// True if the chunk is in a pack that is kept as long as the store's lease. New objects may
    /// then refer to it.
    ///
    /// # Errors
    /// Those of [`contains`](Self::contains).
    pub fn relies_on(&self, id: &ChunkId) -> Result<bool> {
        self.keeps(id, &BTreeSet::new())
    }

    /// Length of a stored chunk, bytes.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn raw_len(&self, id: &ChunkId) -> Result<u32> {
        self.index()?.get(id).map(|location| location.raw_len).ok_or(Error::Unknown { id: *id })
    }

    /// Number of chunks stored.
    ///
    /// # Errors
    /// Those of [`contains`](Self::contains).
    pub fn len(&self) -> Result<usize> {
        Ok(self.index()?.len())
    }

    /// True if no chunk is stored.
    ///
    /// # Errors
    /// Those of [`contains`](Self::contains).
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads and checks a chunk.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Damaged`], [`Error::WrongContent`]; errors of the repository.
    pub fn read(&self, id: &ChunkId) -> Result<Vec<u8>> {
        self.read_into(id, |len| vec![0; len])
    }

    /// Like [`read`](Self::read), into the buffer that `room` returns for this number of bytes.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub fn read_into<R: DerefMut<Target = [u8]>>(
        &self,
        id: &ChunkId,
        room: impl FnOnce(usize) -> R,
    ) -> Result<R> {
        let (pack, location) = self.find(id)?;
        read_at(&self.objects, id, &pack, &location, room)
    }

    pub(crate) fn find(&self, id: &ChunkId) -> Result<(PackAt, Location)> {
        let location = self.locate(id)?;
        Ok((self.pack(&location)?, location))
    }

    pub(crate) fn pack(&self, location: &Location) -> Result<PackAt> {
        self.index()?.pack(location, &self.objects)
    }

    pub(crate) fn locate(&self, id: &ChunkId) -> Result<Location> {
        self.index()?.get(id).ok_or(Error::Unknown { id: *id })
    }

    /// Adds the packs of a writer to the index.
    pub(crate) fn add(&self, packs: &[Pack]) -> Result<()> {
        let mut index = self.index.write().map_err(|_| Error::Died)?;
        packs.iter().try_for_each(|pack| index.add(pack))
    }

    pub(crate) fn index(&self) -> Result<RwLockReadGuard<'_, Index>> {
        self.index.read().map_err(|_| Error::Died)
    }
}

/// The place of a stored chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of the pack.
    pub pack: u32,
    /// Number of the frame in the pack.
    pub frame: u32,
}

/// Number of the first index objects that are read at the same time: not more than have
/// [`WAVE_BYTES_MAX`] together, and at least one.
fn wave(entries: &[&Entry]) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&&Entry| {
        bytes += entry.size;
        bytes <= WAVE_BYTES_MAX
    };
    entries.iter().take_while(fits).count().max(1)
}

/// Reads all index objects and passes their packs to `take`. Returns the paths of all index
/// objects, and the errors of the unreadable ones.
pub(crate) fn read_indexes(
    objects: &Objects,
    mut take: impl FnMut(Pack) -> Result<()>,
) -> Result<(BTreeSet<String>, Vec<Damage>)> {
    let (mut known, mut damaged) = (BTreeSet::new(), Vec::new());
    for attempt in 1.. {
        let entries = objects.list(INDEX)?;
        let is_new = |entry: &&Entry| is_index_path(&entry.path) && !known.contains(&entry.path);
        let new: Vec<&Entry> = entries.iter().filter(is_new).collect();
        let mut replaced = false;
        let mut left = new.as_slice();
        while !left.is_empty() {
            let (wave, rest) = left.split_at(wave(left));
            left = rest;
            let read = |entry: &&Entry| Ok::<_, Error>(read_index(objects, &entry.path));
            let read = parallel::requests(objects.env().spawn, wave, read)?;
            for (entry, packs) in wave.iter().zip(read) {
                match packs {
                    Ok(packs) => packs.into_iter().try_for_each(&mut take)?,
                    // A prune has replaced the index object.
                    Err(error) if error.kind() == ErrorKind::Missing && attempt < OPEN_ATTEMPTS => {
                        replaced = true;
                        continue;
                    }
                    Err(error) if error.kind().is_of_one_object() => {
                        damaged.push((entry.path.clone(), error))
                    }
                    Err(error) => return Err(error),
                }
                known.insert(entry.path.clone());
            }
        }
        if !replaced {
            break;
        }
    }
    Ok((known, damaged))
}

pub(crate) fn read_at<R: DerefMut<Target = [u8]>>(
    objects: &Objects,
    id: &ChunkId,
    pack: &PackAt,
    location: &Location,
    room: impl FnOnce(usize) -> R,
) -> Result<R> {
    let start = u64::from(location.offset);
    let stored = objects.get_range(&pack.path, start..start + u64::from(location.stored_len))?;
    let mut raw = room(location.raw_len as usize); // at most CHUNK_BYTES_MAX
    decode_chunk(&mut raw, &ChunkIds::new(objects.keys()), id, pack, location, &stored)?;
    Ok(raw)
}

/// Decodes a chunk into `raw`, which has its length, and checks it.
pub(crate) fn decode_chunk(
    raw: &mut [u8],
    ids: &ChunkIds,
    id: &ChunkId,
    pack: &PackAt,
    location: &Location,
    stored: &[u8],
) -> Result<()> {
    let sealed = pack.cipher.as_ref().map(|cipher| Sealed { cipher, number: location.frame, last: false });
    let damaged = |source| Error::Damaged { id: *id, pack: pack.path.clone(), source };
    decode_frame_exactly(raw, stored, sealed).map_err(damaged)?;
    if ids.of(raw) == *id { Ok(()) } else { Err(Error::WrongContent { id: *id, pack: pack.path.clone() }) }
}
