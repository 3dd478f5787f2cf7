//! The reference engine as a source: filled, snapshotted while it is written, and archived.

use super::{Protected, Site, State};
use crate::Result;
use crate::blocks::{Blocks, Content};
use crate::rows::Rows;
use crate::verdict::Verdict;
use crate::world::bytes_below;
use pitr::archive::{Archive, ShipOptions, Shipper};
use pitr::dedup::ChunkStore;
use pitr::format::{Lsn, SourceName};
use pitr::snapshot::write_full;
use pitr::wal::{Slot, SyncPolicy, WalOptions};
use pitr::{Pitr, PitrConfig};
use pitr_reference::{Env, Options, Store, TableId};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Sizes of the rows, one for each table. Few bytes of a page stay empty.
const ROW_BYTES: [usize; 4] = [135, 290, 580, 1019];
const PAGE_BYTES: u64 = 4096;
const PAGE_PREFIX_BYTES: u64 = 16;
/// Rows of a transaction that fills a table.
const FILL_ROWS: u64 = 4000;
/// Log after which the archive gets its next part, bytes.
const SHIP_BYTES: u64 = 64 << 20;

/// A store whose snapshot and log are archived.
pub(super) struct Filled {
    base_bytes: u64,
    content: Content,
    target: State,
    /// Only of a small run.
    pub(super) latest: Option<State>,
}

/// Fills a store, takes a snapshot, writes the log, and archives all of it in a new repository.
pub(super) fn protect(site: &Site<'_>, verdict: &Verdict) -> Result<Protected> {
    let pitr = Pitr::init(&PitrConfig::at(site.repo()))?;
    let Filled { base_bytes, content, target, latest } = fill(&pitr, site, verdict)?;
    let stored_bytes = bytes_below(&site.repo())?;
    Ok(Protected { repo: site.repo(), base_bytes, content, stored_bytes, target, latest })
}

/// Fills a store, takes a snapshot, writes the log, and archives all of it.
pub(super) fn fill(pitr: &Pitr, site: &Site<'_>, verdict: &Verdict) -> Result<Filled> {
    let begun = Instant::now();
    let dir = site.source();
    // Commits do not wait for the disk; the log is synced before it is archived.
    let wal = WalOptions { sync: SyncPolicy::Never, ..WalOptions::default() };
    let options = Options { dirty_pages_max: 16_384, wal, ..Options::default() };
    let store = Store::open(&Env::system(), &dir, &options)?;
    let mut workload = Workload::fill(&store, site)?;
    store.checkpoint()?;
    let before = Blocks::of_files(&files(&dir)?)?;
    let content = before.content(&files(&dir)?)?;
    verdict.step(format_args!(
        "{} MB filled in {:.1} s",
        before.bytes() / 1_000_000,
        begun.elapsed().as_secs_f64()
    ));

    let name = SourceName::new("drill")?;
    let archive = Archive::new(pitr.objects().clone(), name.clone());
    let mut shipper = Shipper::claim(&archive, store.wal(), ShipOptions::default())?;
    // The log of the filling is not archived: the snapshot has its rows.
    shipper.accept_loss();
    let slot = store.wal().slot("archiver", store.wal().first())?;
    let mut archiver = Archiver { store: &store, shipper, slot };
    snapshot(pitr, &name, &mut workload, &mut archiver)?;
    verdict.step(format_args!("snapshot after {:.1} s", begun.elapsed().as_secs_f64()));

    let target = workload.log(&mut archiver, site.target_at())?;
    let blocks = state(&store, &dir)?;
    let changed = blocks.changed_since(&before);
    let target = State { to: format!("tx:{target}"), blocks };
    workload.log(&mut archiver, site.sizes.log.bytes())?;
    archiver.ship()?;
    let latest = match site.small {
        true => Some(State { to: "latest".into(), blocks: state(&store, &dir)? }),
        false => None,
    };
    verdict.step(format_args!(
        "{} MB of log after {:.1} s; {changed} of {} blocks differ from the base at the target",
        workload.logged() / 1_000_000,
        begun.elapsed().as_secs_f64(),
        target.blocks.count()
    ));
    Ok(Filled { base_bytes: before.bytes(), content, target, latest })
}

/// The files of the tables in a folder of a store.
pub(super) fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "table") {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Whether a store in this folder opens; `None` if it has no content yet. It opens a copy in
/// `aside`, because opening a store writes to its folder.
pub(super) fn opens(leftover: &Path, aside: &Path) -> Result<Option<bool>> {
    let has_content = |path: &PathBuf| path.metadata().is_ok_and(|meta| meta.len() > 0);
    if !files(leftover)?.iter().any(has_content) {
        return Ok(None);
    }
    std::fs::create_dir(aside)?;
    for entry in std::fs::read_dir(leftover)? {
        let (path, name) = (entry.as_ref().map(|e| e.path()), entry.as_ref().map(|e| e.file_name()));
        let (Ok(path), Ok(name)) = (path, name) else { continue };
        match path.extension().is_some_and(|extension| extension == "table") {
            // An opening reads the files of tables and does not write to them.
            true => std::fs::hard_link(&path, aside.join(name))?,
            false if path.is_file() => drop(std::fs::copy(&path, aside.join(name))?),
            false => {}
        }
    }
    let opened = Store::open_or_create(aside).is_ok();
    std::fs::remove_dir_all(aside)?;
    Ok(Some(opened))
}

/// The blocks of the store as of its last commit.
fn state(store: &Store, dir: &Path) -> Result<Blocks> {
    store.checkpoint()?;
    Blocks::of_files(&files(dir)?)
}

/// Takes a snapshot while transactions go on.
fn snapshot(
    pitr: &Pitr,
    name: &SourceName,
    workload: &mut Workload<'_>,
    archiver: &mut Archiver<'_>,
) -> Result<()> {
    let chunks = ChunkStore::open(pitr.objects().clone())?;
    let source = archiver.store.begin_snapshot()?;
    let ended = AtomicBool::new(false);
    let taken = thread::scope(|scope| {
        let writing = scope.spawn(|| {
            while !ended.load(Ordering::Acquire) {
                workload.transaction().map_err(|error| error.to_string())?;
                thread::sleep(Duration::from_millis(2));
            }
            Ok::<(), String>(())
        });
        let taken = write_full(&chunks, &source, source.meta(name.clone()), None);
        ended.store(true, Ordering::Release);
        writing.join().map_err(|_| "the writing thread died")??;
        Ok::<_, Box<dyn std::error::Error>>(taken?)
    });
    let mut taken = taken?;
    source.complete(&mut taken.snapshot.meta)?;
    archiver.ship()?;
    taken.publish(&chunks)?;
    Ok(())
}

struct Archiver<'s> {
    store: &'s Store,
    shipper: Shipper,
    slot: Slot,
}

impl Archiver<'_> {
    /// Syncs the log and archives it.
    fn ship(&mut self) -> Result<()> {
        self.store.wal().sync()?;
        self.shipper.ship(self.store.wal())?;
        self.slot.advance(self.shipper.archived().ok_or("nothing was archived")?)?;
        Ok(())
    }
}

/// Tables and the number of their rows.
struct Workload<'s> {
    store: &'s Store,
    tables: Vec<Table>,
    rows: Rows,
    /// Position of the log when the tables were full.
    from: Lsn,
}

struct Table {
    id: TableId,
    row_bytes: usize,
    rows: u64,
}

impl Table {
    fn new(id: TableId, row_bytes: usize, bytes: u64) -> Table {
        let body = PAGE_BYTES - PAGE_PREFIX_BYTES;
        let rows_a_page = body * 8 / (row_bytes as u64 * 8 + 1);
        Table { id, row_bytes, rows: bytes / PAGE_BYTES * rows_a_page }
    }
}

impl<'s> Workload<'s> {
    /// Creates the tables and fills them.
    fn fill(store: &'s Store, site: &Site<'_>) -> Result<Workload<'s>> {
        let (mut tables, mut rows) = (Vec::new(), Rows::new(site.seed));
        let bytes = site.sizes.base.bytes() / ROW_BYTES.len() as u64;
        for row_bytes in ROW_BYTES {
            let id = store.create_table(&format!("rows of {row_bytes}"), row_bytes)?;
            let table = Table::new(id, row_bytes, bytes);
            let mut row = vec![0; row_bytes];
            for from in (0..table.rows).step_by(FILL_ROWS as usize) {
                let mut transaction = store.begin();
                for number in from..(from + FILL_ROWS).min(table.rows) {
                    rows.fill(&mut row);
                    transaction.put(id, number, &row)?;
                }
                transaction.commit()?;
            }
            tables.push(table);
        }
        Ok(Workload { store, tables, rows, from: store.wal().end() })
    }

    /// Bytes of log since the tables were filled.
    fn logged(&self) -> u64 {
        self.store.wal().end().get() - self.from.get()
    }

    /// Commits transactions until the log has this many bytes, and archives them. Returns the last
    /// one.
    fn log(&mut self, archiver: &mut Archiver<'_>, bytes: u64) -> Result<u64> {
        let (mut shipped, mut last) = (self.logged(), self.transaction()?);
        while self.logged() < bytes {
            last = self.transaction()?;
            if self.logged() > shipped + SHIP_BYTES {
                archiver.ship()?;
                shipped = self.logged();
            }
        }
        Ok(last)
    }

    /// Changes some rows at random places, or adds some. Returns its number.
    fn transaction(&mut self) -> Result<u64> {
        let (count, grows) = (self.rows.transaction_rows(), self.rows.is_growth());
        let mut transaction = self.store.begin();
        let mut row = vec![0; ROW_BYTES[ROW_BYTES.len() - 1]];
        // Tables have the same number of pages, so each is changed as often.
        let nth = self.rows.below(self.tables.len() as u64) as usize;
        for _ in 0..count {
            let table = &mut self.tables[nth];
            let number = if grows { table.rows } else { self.rows.below(table.rows) };
            table.rows += u64::from(grows);
            let row = &mut row[..table.row_bytes];
            self.rows.fill(row);
            transaction.put(table.id, number, row)?;
        }
        Ok(transaction.commit()?.tx.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::recovery::part::restore_store;
    use crate::size::Sizes;
    use crate::world::World;
    use pitr::format::TxId;
    use pitr::recovery::{RestoreOptions, Target};

    #[test]
    fn both_states_of_a_small_run_are_restored_exactly_and_a_marked_store_does_not_open() {
        let world = World::new("small").unwrap();
        let sizes: Sizes = "12M+6M".parse().unwrap();
        let site = Site { world: &world, sizes, seed: 5, small: true };
        let protected = protect(&site, &Verdict::default()).unwrap();
        assert!((2.0..2.5).contains(&protected.content.ratio), "{:?}", protected.content);
        assert!(protected.content.repeated < 0.01, "{:?}", protected.content);
        let number = protected.target.to.strip_prefix("tx:").unwrap().parse().unwrap();
        let latest = protected.latest.unwrap();
        let targets = [(Target::at(TxId::new(number)), &protected.target), (Target::latest(), &latest)];
        for (nth, (target, state)) in targets.into_iter().enumerate() {
            let output = world.path(&nth.to_string());
            restore_store(&site.repo(), &target, &RestoreOptions::to(&output)).unwrap();
            let found = Blocks::of_files(&files(&output).unwrap()).unwrap();
            assert_eq!(state.blocks.difference(&found), None);
        }
        assert!(protected.target.blocks.difference(&latest.blocks).is_some());

        let (output, aside) = (world.path("0"), world.path("aside"));
        assert_eq!(opens(&output, &aside).unwrap(), Some(true));
        let table = files(&output).unwrap().remove(0);
        let mut bytes = std::fs::read(&table).unwrap();
        let mark = pitr::recovery::RestoreTarget::mark(&pitr_reference::ReferenceEngine).unwrap();
        bytes[..mark.len()].copy_from_slice(mark);
        std::fs::write(&table, bytes).unwrap();
        assert_eq!(opens(&output, &aside).unwrap(), Some(false));
        files(&output).unwrap().iter().for_each(|file| std::fs::write(file, b"").unwrap());
        assert_eq!(opens(&output, &aside).unwrap(), None);
    }
}
