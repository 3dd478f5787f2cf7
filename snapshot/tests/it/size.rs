//! The cost of snapshots.

use crate::model::Model;
use crate::{FILE, Noise, memory, meta, restored};
use pitr_codec::{Codec, encode_frame};
use pitr_dedup::ChunkStore;
use pitr_objects::Objects;
use pitr_snapshot::*;
use pitr_testkit::TestStore;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const MIB: u64 = 1 << 20;
const BLOCK: u64 = 4096;

fn stored(store: &ChunkStore) -> u64 {
    let mut entries = store.objects().list("").unwrap();
    entries.retain(|entry| !entry.path.starts_with("leases/"));
    entries.iter().map(|entry| entry.size).sum()
}

/// A file of half-compressible blocks.
fn filled(len: u64, seed: u64) -> Model {
    let mut model = Model::one(BLOCK as u32, len);
    let mut noise = Noise::new(seed);
    for block in 0..len / BLOCK {
        model.file().write(block, noise.half_compressible(BLOCK as usize));
    }
    model
}

fn some_blocks(len: u64, per_mille: u64, seed: u64) -> BTreeSet<u64> {
    let mut noise = Noise::new(seed);
    let blocks = len / BLOCK;
    let mut chosen = BTreeSet::new();
    while (chosen.len() as u64) < blocks * per_mille / 1000 {
        chosen.insert(noise.below(blocks));
    }
    chosen
}

/// Writes the blocks. Returns their size when compressed together, bytes.
fn change(model: &mut Model, blocks: &BTreeSet<u64>, seed: u64) -> u64 {
    let mut noise = Noise::new(seed);
    let mut together = Vec::new();
    for block in blocks {
        let bytes = noise.half_compressible(BLOCK as usize);
        together.extend(&bytes);
        model.file().write(*block, bytes);
    }
    u64::from(encode_frame(Codec::Zstd { level: 3 }, &together).unwrap().stored_len())
}

#[test]
fn an_increment_stores_its_changes_and_reads_only_leaves() {
    let counting = TestStore::memory();
    let read = counting.bytes_read();
    let store = ChunkStore::open(Objects::with_store(Arc::new(counting)).unwrap()).unwrap();
    let len = 64 * MIB;
    let mut model = filled(len, 1);
    let full = write_full(&store, &model, meta(1), None).unwrap().publish(&store).unwrap();
    assert_eq!(full.snapshot.sizes.stored, stored(&store));
    assert_eq!((full.snapshot.sizes.logical, full.snapshot.sizes.changed), (len, len));
    let mut parent = full;
    for (round, shuffle) in [(2, None), (3, Some(5)), (4, None)] {
        model.mark();
        let changed = some_blocks(len, 50, round);
        let together = change(&mut model, &changed, round);
        let (before, read_before) = (stored(&store), read.load(Ordering::Relaxed));
        let next = write_increment(&store, &parent, &mut model.delta(shuffle), meta(round)).unwrap();
        let next = next.publish(&store).unwrap();
        let cost = stored(&store) - before;
        assert_eq!(cost, next.snapshot.sizes.stored);
        assert_eq!(next.snapshot.sizes.changed, changed.len() as u64 * BLOCK);
        assert!(cost * 10 < together * 11, "{cost} bytes for blocks that take {together} together");
        // The leaves of one node, and nothing of the 64 MiB.
        let read_now = read.load(Ordering::Relaxed) - read_before;
        assert!(read_now < 40_000, "{read_now} bytes read");
        parent = next;
    }
    let mut bytes = vec![0; len as usize];
    model.file().read(0, &mut bytes);
    assert!(restored(&store, &parent, FILE) == bytes);
}

#[test]
fn a_comparison_finds_the_changed_blocks_and_reads_no_content() {
    let counting = TestStore::memory();
    let read = counting.bytes_read();
    let store = ChunkStore::open(Objects::with_store(Arc::new(counting)).unwrap()).unwrap();
    let len = 16 * MIB;
    let mut model = filled(len, 1);
    let full = write_full(&store, &model, meta(1), None).unwrap().publish(&store).unwrap();

    let before = stored(&store);
    let same = write_full(&store, &model, meta(2), Some(&full)).unwrap();
    assert_eq!(stored(&store), before, "unchanged data is not stored again");
    assert_eq!(
        (same.snapshot.kind, same.snapshot.parent, same.snapshot.sizes.changed),
        (SnapshotKind::Incremental, Some(full.snapshot.id), 0)
    );

    let changed = some_blocks(len, 50, 2);
    let together = change(&mut model, &changed, 2);
    let next = write_full(&store, &model, meta(3), Some(&full)).unwrap().publish(&store).unwrap();
    let cost = stored(&store) - before;
    assert!(cost * 10 < together * 11, "{cost} bytes for blocks that take {together} together");
    assert_eq!(next.snapshot.sizes.changed, changed.len() as u64 * BLOCK);

    let before = stored(&store);
    let again = write_full(&store, &model, meta(4), Some(&next)).unwrap();
    assert_eq!(
        (stored(&store), again.snapshot.sizes.changed),
        (before, 0),
        "overlaid blocks are compared too"
    );
    // Three comparisons with more than 8 MB of packs read only leaves, and footers of packs with
    // 4096 sums of 16 bytes.
    let read = read.load(Ordering::Relaxed);
    assert!(read < 600_000, "{read} bytes read");
}

#[test]
fn growth_is_stored_once() {
    let store = memory();
    let mut model = filled(8 * MIB, 1);
    let full = write_full(&store, &model, meta(1), None).unwrap().publish(&store).unwrap();
    model.mark();
    model.file().set_len(24 * MIB);
    // Block 5 precedes the growth, so that overlay chunks, if there were any, would not be aligned
    // with extents.
    let grown: BTreeSet<u64> = (8 * MIB / BLOCK..24 * MIB / BLOCK).chain([5]).collect();
    let together = change(&mut model, &grown, 7);
    let next = write_increment(&store, &full, &mut model.delta(None), meta(2)).unwrap();
    assert!(
        next.snapshot.sizes.stored * 100 < together * 105,
        "{} for {together}",
        next.snapshot.sizes.stored
    );
}

#[test]
fn zeros_cost_nothing() {
    let store = memory();
    let mut model = Model::one(BLOCK as u32, 600 * MIB);
    let full = write_full(&store, &model, meta(1), None).unwrap().publish(&store).unwrap();
    assert!(stored(&store) < 1000, "{}", stored(&store));
    model.mark();
    (0..2000).for_each(|block| model.file().write(block * 7, vec![0; BLOCK as usize]));
    let next = write_increment(&store, &full, &mut model.delta(None), meta(2)).unwrap();
    assert_eq!(next.files, full.files);
    next.publish(&store).unwrap();
    assert!(stored(&store) < 2000, "{}", stored(&store));
}

#[test]
fn an_extent_is_rewritten_when_half_of_it_has_changed() {
    let store = memory();
    let len = 4 * MIB;
    let mut model = filled(len, 1);
    let mut parent = write_full(&store, &model, meta(1), None).unwrap();
    let mut costs = Vec::new();
    for round in 2..10 {
        model.mark();
        let together = change(&mut model, &some_blocks(len, 200, round), round);
        let next = write_increment(&store, &parent, &mut model.delta(Some(round)), meta(round)).unwrap();
        costs.push(next.snapshot.sizes.stored as f64 / together as f64);
        let mut bytes = vec![0; len as usize];
        model.file().read(0, &mut bytes);
        assert!(restored(&store, &next, FILE) == bytes, "round {round}");
        parent = next;
    }
    let whole = costs.iter().filter(|cost| **cost > 3.0).count();
    assert!((1..=4).contains(&whole), "sometimes, not always: {costs:?}");
    assert!(costs[0] < 1.1, "{costs:?}");
}

#[test]
fn an_extent_is_rewritten_when_its_blocks_are_spread_over_many_chunks() {
    let store = memory();
    let mut model = Model::one(512, MIB);
    let mut noise = Noise::new(1);
    (0..2048).for_each(|block| model.file().write(block, noise.half_compressible(512)));
    let mut parent = write_full(&store, &model, meta(1), None).unwrap();
    let mut whole = Vec::new();
    for round in 2..150 {
        model.mark();
        model.file().write(round * 10, noise.half_compressible(512));
        parent = write_increment(&store, &parent, &mut model.delta(None), meta(round)).unwrap();
        if parent.snapshot.sizes.stored > 200_000 {
            whole.push(round);
        }
    }
    assert_eq!(whole, [130], "rewritten once, at the 129th chunk");
    assert!(restored(&store, &parent, FILE) == model.file().extent(0));
}
