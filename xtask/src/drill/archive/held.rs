//! What the archive holds, compared with the local log.

use super::part::SOURCE;
use super::place::{Place, Way};
use crate::Result;
use pitr::archive::{Archive, Catalog, LogName, Piece, SourceObject};
use pitr::codec::ObjectKind;
use pitr::format::{Lsn, SourceName, TimelineId};
use pitr::objects::parallel;
use pitr::vfs::{OsFs, Spawn};
use pitr::wal::LogReader;
use std::path::Path;
use std::sync::Arc;

/// The archive of the drill's source, as of one listing.
pub(super) struct Held {
    archive: Archive,
    pub(super) catalog: Catalog,
    pieces: Vec<Piece>,
}

impl Held {
    /// Lists the archive, without the proxy. Fails if objects overlap, or if two have the same
    /// range and different contents.
    pub(super) fn load(place: &Place) -> Result<Held> {
        let archive = Archive::new(place.objects(Way::Direct)?, SourceName::new(SOURCE)?);
        let catalog = archive.catalog()?;
        let pieces = match catalog.timelines().is_empty() {
            true => Vec::new(),
            false => catalog.pieces(&catalog.lineage(TimelineId::FIRST)?),
        };
        Ok(Held { archive, catalog, pieces })
    }

    /// Number of objects that count.
    pub(super) fn count(&self) -> usize {
        self.pieces.len()
    }

    /// The objects that were shipped from the log, also those that were merged since.
    pub(super) fn shipped(&self) -> Vec<LogName> {
        let replaced = self.catalog.replaced().iter().map(|(name, _)| *name);
        let counting = self.pieces.iter().map(|piece| piece.name);
        let mut shipped: Vec<LogName> = counting.chain(replaced).filter(|name| name.level == 0).collect();
        shipped.sort_unstable();
        shipped
    }

    /// End of the first part of the log without a hole, from its origin.
    pub(super) fn reached(&self) -> Lsn {
        self.pieces.iter().fold(Lsn::ORIGIN, |reached, piece| match piece.from() == reached {
            true => piece.to,
            false => reached,
        })
    }

    /// End of the last object that counts.
    pub(super) fn end(&self) -> Lsn {
        self.pieces.last().map_or(Lsn::ORIGIN, |piece| piece.to)
    }

    /// Number of merged objects, also those that were merged again.
    pub(super) fn merged(&self) -> usize {
        self.levels().filter(|level| *level > 0).count()
    }

    /// The highest level of an object.
    pub(super) fn level(&self) -> u8 {
        self.levels().max().unwrap_or(0)
    }

    fn levels(&self) -> impl Iterator<Item = u8> {
        let replaced = self.catalog.replaced().iter().map(|(name, _)| name.level);
        self.pieces.iter().map(|piece| piece.name.level).chain(replaced)
    }

    /// Compares all objects that count with the log, batch by batch. Returns the bytes of log.
    pub(super) fn compare(&self, log: &Path) -> Result<u64> {
        self.compare_these(self.pieces.iter().map(|piece| piece.name), log)
    }

    /// Compares these objects with the log, batch by batch. Returns the bytes of log.
    pub(super) fn compare_these(&self, names: impl IntoIterator<Item = LogName>, log: &Path) -> Result<u64> {
        let names: Vec<LogName> = names.into_iter().collect();
        let compared: std::result::Result<Vec<u64>, String> = parallel::map(Spawn::Threads, names, |name| {
            self.compare_one(&name, log).map_err(|error| format!("{name}: {error}"))
        });
        Ok(compared?.iter().sum())
    }

    fn compare_one(&self, name: &LogName, log: &Path) -> Result<u64> {
        let path = self.archive.folder().path(&SourceObject::Log(*name));
        let objects = self.archive.objects();
        let whole = objects.get(&path)?;
        let index = objects.index_of(&path, ObjectKind::Log, &whole)?;
        let mut archived = Vec::new();
        for number in 0..index.frames.len() {
            archived.extend(index.decode_frame(&whole, number)?);
        }
        let mut reader = LogReader::open(Arc::new(OsFs), log, name.from, name.to);
        let mut rest = archived.as_slice();
        while let Some(batch) = reader.next_batch()? {
            let is_same = rest.get(..batch.bytes.len()) == Some(&batch.bytes[..]);
            let after = rest.get(usize::try_from(batch.header.span())?..).filter(|_| is_same);
            rest = after.ok_or_else(|| format!("differs from the log at {}", batch.header.lsn))?;
        }
        match rest.is_empty() && reader.position() == name.to {
            true => Ok(archived.len() as u64),
            false => Err(format!("has {} bytes after {}", rest.len(), reader.position()).into()),
        }
    }

    /// Verifies every object that counts, down to its records and its index.
    pub(super) fn verify(&self) -> Result<()> {
        Ok(self.archive.check_range(&self.pieces, Lsn::ORIGIN, Lsn::MAX, &|| ())?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::part::{BEGIN, Part, Ship};
    use super::super::place::StoreKind;
    use super::*;
    use crate::world::World;
    use pitr_testkit::proxy::Faults;
    use std::path::PathBuf;

    const LOG_BYTES: u64 = 96 << 10;

    /// Ships a log, and returns its folder.
    fn shipped(world: &World, place: &Place, seed: u64) -> PathBuf {
        let log = world.path(&format!("log-{seed}"));
        let ship = Ship {
            url: place.url(),
            log: log.clone(),
            until: BEGIN + LOG_BYTES,
            data_bytes: 1000,
            slow_bytes: Some(16 << 10),
            object_bytes: 8 << 10,
            uploads: 4,
            compact: 3,
            large: 1,
            seed,
        };
        assert!(Part::Ship(ship).run().unwrap());
        log
    }

    #[test]
    fn what_was_shipped_and_merged_equals_its_log_and_no_other() {
        let worlds = ["held", "held-other"].map(|name| World::new(name).unwrap());
        let [place, other] = worlds.each_ref().map(|world| {
            let place = Place::start(StoreKind::Local, world, Faults::none(1)).unwrap();
            place.init().unwrap();
            place
        });
        let (log, other_log) = (shipped(&worlds[0], &place, 1), shipped(&worlds[1], &other, 2));
        let held = Held::load(&place).unwrap();
        assert!(held.shipped().len() > 12 && held.merged() > 0 && held.level() > 0);
        assert!(held.count() < held.shipped().len());
        assert!(held.reached() == held.end());
        assert!(held.compare(&log).unwrap() > 0);
        held.compare_these(held.shipped(), &log).unwrap();
        held.verify().unwrap();
        assert!(held.compare(&other_log).is_err());
    }

    #[test]
    fn a_hole_ends_what_is_reached() {
        let world = World::new("hole").unwrap();
        let place = Place::start(StoreKind::Local, &world, Faults::none(1)).unwrap();
        place.init().unwrap();
        shipped(&world, &place, 3);
        let held = Held::load(&place).unwrap();
        let last = held.pieces.last().unwrap().name;
        assert!(held.pieces.len() > 2, "{:?}", held.pieces);
        let gone = held.pieces[1].name;
        // The merged object and what it was merged from.
        for name in held.shipped().into_iter().chain([gone]).filter(|name| gone.covers(name)) {
            held.archive.objects().delete(&held.archive.folder().path(&SourceObject::Log(name))).unwrap();
        }
        let merged = held.catalog.replaced().iter().map(|(name, _)| *name).filter(|name| gone.covers(name));
        merged.for_each(|name| {
            held.archive.objects().delete(&held.archive.folder().path(&SourceObject::Log(name))).unwrap();
        });
        let held = Held::load(&place).unwrap();
        assert_eq!((held.reached(), held.end()), (gone.from, last.to));
    }
}
