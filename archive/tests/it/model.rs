//! Every commit of random transactions, from every kind of base, against the model.

use crate::compaction::delete_replaced;
use crate::world::{Files, State, World, options};
use pitr_archive::{Error, Image, LogName, Merged, Piece, Search, ShipOptions};
use pitr_format::{FileId, Lsn, TxId};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Mutex;

fn pieces(world: &World) -> Vec<Piece> {
    let catalog = world.archive.catalog().unwrap();
    let lineage = catalog.lineage(catalog.newest_timeline().unwrap()).unwrap();
    catalog.pieces(&lineage)
}

type Images = BTreeMap<(FileId, u64), Vec<u8>>;

fn in_order(merged: &Merged) -> Images {
    let (mut images, mut last) = (Images::new(), Lsn::ORIGIN);
    let mut take = |image: Image<'_>| -> Result<(), Error> {
        assert!(image.lsn > last, "images come in the order of the log");
        last = image.lsn;
        assert!(images.insert((image.file, image.block), image.data.to_vec()).is_none(), "each block once");
        Ok(())
    };
    merged.for_each(&mut take).unwrap();
    images
}

fn in_parallel(merged: &Merged) -> Images {
    let images = Mutex::new(Images::new());
    let take = |image: Image<'_>| -> Result<(), Error> {
        let before = images.lock().unwrap().insert((image.file, image.block), image.data.to_vec());
        assert!(before.is_none());
        Ok(())
    };
    merged.par_for_each(take).unwrap();
    images.into_inner().unwrap()
}

/// Applies a merge to a base as its documentation says.
fn lay_over(base: &Files, merged: &Merged, images: &Images) -> Files {
    let mut files = base.clone();
    for (id, change) in merged.files() {
        let before = files.remove(id).unwrap_or_default();
        let len = change.len_after(before.len() as u64) as usize;
        let mut after = vec![0; len];
        let kept = before.len().min(usize::try_from(change.min_len).unwrap_or(usize::MAX)).min(len);
        after[..kept].copy_from_slice(&before[..kept]);
        files.insert(*id, after);
    }
    for ((file, block), data) in images {
        let after = files.get_mut(file).unwrap();
        let at = *block as usize * data.len();
        let end = after.len().min(at + data.len());
        after[at..end].copy_from_slice(&data[..end - at]);
    }
    files
}

fn check(world: &World, pieces: &[Piece], base: Option<&State>, to: &State) {
    let (empty, after) = (Files::new(), base.map_or(Lsn::ORIGIN, |base| base.redo_from));
    let files = base.map_or(&empty, |base| &base.files);
    let merged = Merged::new(&world.archive, pieces, after, to.lsn).unwrap();
    let images = in_order(&merged);
    assert_eq!(images.len() as u64, merged.survivors());
    assert!(images == in_parallel(&merged), "parallel equals serial");
    let found = lay_over(files, &merged, &images);
    for (id, bytes) in &to.files {
        let empty = Vec::new();
        let other = found.get(id).unwrap_or(&empty);
        assert_eq!(other.len(), bytes.len(), "length of {id} at {} from {after}", to.lsn);
        assert!(other == bytes, "file {id} at {} from {after}", to.lsn);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    // FAILURES 16, 24, 45: aborted, open and interleaved transactions across objects and frames of
    // any size, some of them merged.
    #[test]
    fn every_commit_comes_back(
        seed: u64,
        steps in 20usize..160,
        object in 600u32..30_000,
        frame in 300u32..9000,
        merged in 2usize..12,
        deleted: bool,
    ) {
        every_commit(seed, steps, ShipOptions { compact_count: merged, ..options(object, frame) }, deleted);
    }
}

fn every_commit(seed: u64, steps: usize, options: ShipOptions, deleted: bool) {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path(), seed, 2, options);
    world.live(steps);
    if deleted {
        delete_replaced(&world.archive);
    }
    let pieces = pieces(&world);
    for (no, to) in world.states.iter().enumerate() {
        check(&world, &pieces, None, to);
        // Bases that were taken while a transaction was open.
        check(&world, &pieces, world.states.get(no / 2), to);
        check(&world, &pieces, world.states.get(no.saturating_sub(1)), to);
    }
    let search = Search::new(&world.archive, &pieces);
    let found: Vec<_> = search.transactions(Lsn::ORIGIN).map(|t| t.unwrap().commit).collect();
    assert!(
        found.iter().map(|c| (c.lsn, c.tx, c.time)).eq(world.states.iter().map(|s| (s.lsn, s.tx, s.time)))
    );
    for (no, state) in world.states.iter().enumerate() {
        let around = search.split(|commit| commit.lsn < state.lsn).unwrap();
        assert_eq!(around.before.map(|c| c.lsn), no.checked_sub(1).map(|no| world.states[no].lsn));
        assert_eq!(around.after.map(|t| t.commit.lsn), Some(state.lsn));
        assert_eq!(search.transaction(state.tx).unwrap().unwrap().commit.lsn, state.lsn);
    }
    assert!(search.split(|_| true).unwrap().after.is_none());
    assert!(search.transaction(TxId::new(1 << 40)).unwrap().is_none());
}

#[test]
fn a_merge_over_a_hole_is_an_error_that_names_the_hole() {
    // FAILURES 11
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path(), 5, 2, options(3000, 900));
    world.live(200);
    let pieces = pieces(&world);
    let last = world.states.last().unwrap();
    let lost = pieces.len() / 2;
    let without: Vec<Piece> =
        pieces.iter().enumerate().filter(|(no, _)| *no != lost).map(|(_, piece)| *piece).collect();
    let LogName { from, to, .. } = pieces[lost].name;
    match Merged::new(&world.archive, &without, Lsn::ORIGIN, last.lsn) {
        Err(Error::WalGap { from: a, to: b }) => assert_eq!((a, b), (from, to)),
        other => panic!("{other:?}"),
    }
    assert!(Merged::new(&world.archive, &without, to, last.lsn).is_ok(), "nothing is missing after the hole");
    assert!(Merged::new(&world.archive, &without, Lsn::ORIGIN, from).is_ok(), "nor before it");
    assert!(matches!(Merged::new(&world.archive, &pieces, Lsn::ORIGIN, Lsn::MAX), Err(Error::WalGap { .. })));
}
