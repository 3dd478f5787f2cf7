//! Finding and reading chunks.

use crate::index::{Index, IndexBuilder, Location, PackAt, Standing, decode, is_index_path};
use crate::pack::Pack;
use crate::{ChunkId, ChunkIds, ChunkWriter, Error, Result};
use pitr_codec::{Codec, ObjectIndex, ObjectKind, Sealed, decode_frame_exactly};
use pitr_objects::layout::{CONDEMNED, INDEX, ObjectName, PACKS};
use pitr_objects::{Entry, ErrorKind, Lease, Objects};
use pitr_vfs::Buffers;
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::ops::DerefMut;
use std::sync::{Arc, RwLock, RwLockReadGuard};

/// An index object, and what is wrong with it.
pub type Damage = (String, Error);

/// Attempts to read an index of which objects are replaced meanwhile.
const OPEN_ATTEMPTS: u32 = 5;

/// Index objects that are read and decoded at once.
const INDEXES_AT_ONCE: usize = 4;

/// The chunks of a repository; clones share one index and one lease, under which nothing of it is deleted.
#[derive(Debug, Clone)]
pub struct ChunkStore {
    objects: Objects,
    index: Arc<RwLock<Index>>,
    /// `None` in a repository that can't be written to.
    lease: Option<Arc<Lease>>,
    /// What threads that read many chunks decode them into.
    pub(crate) buffers: Buffers,
}

impl ChunkStore {
    /// Takes a lease and reads the index of all packs. A repository that can't be written to is read without a lease:
    /// somebody else may prune it meanwhile.
    ///
    /// # Errors
    /// Those of the repository; an index object that can't be read is named.
    pub fn open(objects: Objects) -> Result<Self> {
        let (store, damaged) = Self::open_what_is_sound(objects)?;
        damaged.into_iter().next().map_or(Ok(store), |(_, error)| Err(error))
    }

    /// As [`open`](Self::open), as far as index objects and lists of what is condemned are sound; the others come with what is
    /// wrong with them. It is for who reads: what is condemned by a list that can't be read may be relied on in error.
    ///
    /// # Errors
    /// Those of the listing, and of a repository that does not answer.
    pub fn open_what_is_sound(objects: Objects) -> Result<(Self, Vec<Damage>)> {
        let lease = objects.lease_to_read()?.map(Arc::new);
        Self::open_under(objects, lease)
    }

    /// Reads the index under a lease that is held already, in whatever role.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(objects: Objects, lease: Arc<Lease>) -> Result<Self> {
        let (store, damaged) = Self::open_under(objects, Some(lease))?;
        damaged.into_iter().next().map_or(Ok(store), |(_, error)| Err(error))
    }

    fn open_under(objects: Objects, lease: Option<Arc<Lease>>) -> Result<(Self, Vec<Damage>)> {
        // Before the index: what is condemned later is deleted only after our lease.
        let (condemned, unreadable) = match objects.condemned() {
            Err(error) if error.kind().is_of_one_object() => (BTreeSet::new(), Some(error)),
            other => (other?, None),
        };
        let there = objects.list(PACKS)?;
        let standing = |path: &String| {
            // It may have been put since the listing.
            Ok::<_, Error>(
                match there.binary_search_by(|entry| entry.path.cmp(path)).is_ok() || objects.exists(path)? {
                    false => Standing::Gone,
                    true if condemned.contains(path) => Standing::Condemned,
                    true => Standing::Stays,
                },
            )
        };
        let mut index = IndexBuilder::new();
        let take = |pack: Pack| index.add(&pack, standing(&ObjectName::Pack(pack.digest).path())?);
        let (known, mut damaged) = read_indexes(&objects, take)?;
        damaged.extend(unreadable.map(|error| (CONDEMNED.to_owned(), error.into())));
        let index = index.finish(known)?;
        let (index, buffers) = (Arc::new(RwLock::new(index)), Buffers::default());
        Ok((ChunkStore { objects, index, lease, buffers }, damaged))
    }

    /// The lease under which the index was read.
    ///
    /// # Errors
    /// [`Error::NoLease`] in a repository that can't be written to.
    pub fn lease(&self) -> Result<&Lease> {
        self.lease.as_deref().ok_or(Error::NoLease)
    }

    /// Where a chunk is read from; `None` if no index knows it.
    ///
    /// # Errors
    /// [`Error::Died`].
    pub fn place(&self, id: &ChunkId) -> Result<Option<Place>> {
        let index = self.index()?;
        Ok(index.get(id).map(|Location { pack, frame, .. }| Place { pack, frame }))
    }

    /// The packs that the index names, by the number that a [`Place`] gives.
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

    /// Begins storing chunks.
    #[must_use]
    pub fn writer(&self, codec: Codec) -> ChunkWriter {
        ChunkWriter::start(self.clone(), codec, BTreeSet::new(), usize::MAX)
    }

    /// A writer that stores chunks of these packs again, although the index knows them, and fills so many packs at most side by
    /// side.
    pub(crate) fn writer_replacing(&self, packs: BTreeSet<u32>, codec: Codec, open: usize) -> ChunkWriter {
        ChunkWriter::start(self.clone(), codec, packs, open)
    }

    /// True if the chunk is stored in a pack that is there and stays, and in none of these.
    pub(crate) fn keeps(&self, id: &ChunkId, replaced: &BTreeSet<u32>) -> Result<bool> {
        let index = self.index()?;
        let stays = |at: Location| at.standing == Standing::Stays && !replaced.contains(&at.pack);
        Ok(index.get(id).is_some_and(stays))
    }

    /// Gives chunks their ids.
    #[must_use]
    pub fn ids(&self) -> ChunkIds {
        ChunkIds::new(self.objects.keys())
    }

    /// True if the chunk is stored.
    ///
    /// # Errors
    /// [`Error::Died`] if a thread died while it changed the index.
    pub fn contains(&self, id: &ChunkId) -> Result<bool> {
        Ok(self.index()?.get(id).is_some())
    }

    /// True if the chunk is stored in a pack that stays as long as the store's lease: what is written may name it.
    ///
    /// # Errors
    /// As [`contains`](Self::contains).
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
    /// As [`contains`](Self::contains).
    pub fn len(&self) -> Result<usize> {
        Ok(self.index()?.len())
    }

    /// True if no chunk is stored.
    ///
    /// # Errors
    /// As [`contains`](Self::contains).
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads a chunk and checks that it is the one.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Damaged`], [`Error::WrongContent`]; those of the repository.
    pub fn read(&self, id: &ChunkId) -> Result<Vec<u8>> {
        self.read_into(id, |len| vec![0; len])
    }

    /// As [`read`](Self::read), into the room that `room` gives for so many bytes.
    ///
    /// # Errors
    /// As [`read`](Self::read).
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

    /// Makes packs of a writer known to this store.
    pub(crate) fn add(&self, packs: &[Pack]) -> Result<()> {
        let mut index = self.index.write().map_err(|_| Error::Died)?;
        packs.iter().try_for_each(|pack| index.add(pack))
    }

    pub(crate) fn index(&self) -> Result<RwLockReadGuard<'_, Index>> {
        self.index.read().map_err(|_| Error::Died)
    }
}

/// Where a chunk is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of the pack.
    pub pack: u32,
    /// Number of the frame in the pack.
    pub frame: u32,
}

/// Reads all index objects and hands out the packs that they name, as far as they are sound; returns the paths of all, and
/// what is wrong with the others.
fn read_indexes(
    objects: &Objects,
    mut take: impl FnMut(Pack) -> Result<()>,
) -> Result<(BTreeSet<String>, Vec<Damage>)> {
    let (mut known, mut damaged) = (BTreeSet::new(), Vec::new());
    for attempt in 1.. {
        let entries = objects.list(INDEX)?;
        let is_new = |entry: &&Entry| is_index_path(&entry.path) && !known.contains(&entry.path);
        let new: Vec<&Entry> = entries.iter().filter(is_new).collect();
        let mut replaced = false;
        for wave in new.chunks(INDEXES_AT_ONCE) {
            let read: Vec<Result<Vec<Pack>>> =
                wave.par_iter().map(|entry| read_index(objects, &entry.path)).collect();
            for (entry, packs) in wave.iter().zip(read) {
                match packs {
                    Ok(packs) => packs.into_iter().try_for_each(&mut take)?,
                    // A collection has put another one in its place.
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

pub(crate) fn read_index(objects: &Objects, path: &str) -> Result<Vec<Pack>> {
    packs_of(path, &objects.index(path, ObjectKind::PackIndex)?)
}

/// The packs that an index object names, which stands at `path`.
pub(crate) fn packs_of(path: &str, index: &ObjectIndex) -> Result<Vec<Pack>> {
    if path != ObjectName::PackIndex(index.digest).path() {
        return Err(Error::Renamed { path: path.to_owned() });
    }
    decode(&index.footer).map_err(|source| Error::Index { path: path.to_owned(), source })
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

/// Decodes a chunk into `raw`, which is as long as it, and checks that it is the one.
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
