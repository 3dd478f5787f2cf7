//! Generated data, and a repository for it.

use pitr_codec::Codec;
use pitr_dedup::ChunkStore;
use pitr_format::{Epoch, FileId, Lsn, SourceName, TimelineId, Timestamp, TxId};
use pitr_objects::Objects;
use pitr_snapshot::SnapshotMeta;
use std::error::Error;
use std::path::Path;

pub(crate) const BLOCK: usize = 4096;
pub(crate) const MB: u64 = 1_000_000;
const TEXT: &[u8] = b"a row of some table, much like the row before it; ";

pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0.rotate_left(27)
    }

    pub(crate) fn fill(&mut self, out: &mut [u8]) {
        out.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&self.next().to_le_bytes()));
    }

    /// A number in the `n`th of `count` equal parts of `all`: the numbers are scattered and never
    /// repeat.
    pub(crate) fn scattered(&mut self, count: u64, all: u64, n: u64) -> u64 {
        let (begin, end) = (n * all / count, (n + 1) * all / count);
        begin + self.next() % (end - begin)
    }

    /// Fills a block with half noise and half text.
    pub(crate) fn block(&mut self, out: &mut [u8]) {
        let (front, back) = out.split_at_mut(out.len() / 2);
        self.fill(front);
        back.iter_mut().zip(TEXT.iter().cycle()).for_each(|(byte, text)| *byte = *text);
    }
}

pub(crate) fn file(len: u64) -> pitr_snapshot::FileShape {
    let (file, name) = (FileId::FIRST, "made".to_owned());
    pitr_snapshot::FileShape { file, name, len, block_bytes: BLOCK as u32 }
}

pub(crate) fn meta(at: u64) -> Result<SnapshotMeta, Box<dyn Error>> {
    Ok(SnapshotMeta {
        source: SourceName::new("made")?,
        engine: "measure".to_owned(),
        timeline: TimelineId::FIRST,
        epoch: Epoch::FIRST,
        redo_from: Lsn::new(at),
        consistent_at: Lsn::new(at),
        time: Timestamp::MIN,
        tx: TxId::NONE,
        codec: Codec::default(),
        created: Timestamp::MIN,
        attributes: None,
    })
}

/// Opens a new store handle without cached state.
pub(crate) fn open(folder: &Path) -> Result<ChunkStore, Box<dyn Error>> {
    Ok(ChunkStore::open(Objects::local(folder)?)?)
}

/// Creates an empty repository in a temporary folder.
pub(crate) fn repository() -> Result<(tempfile::TempDir, std::path::PathBuf), Box<dyn Error>> {
    // Uses the disk that holds the build output.
    let beside = || concat!(env!("CARGO_MANIFEST_DIR"), "/../target").into();
    let dir = tempfile::tempdir_in(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(beside))?;
    let folder = dir.path().join("repo");
    Objects::create_local(&folder)?.init_repository(Timestamp::MIN)?;
    Ok((dir, folder))
}
