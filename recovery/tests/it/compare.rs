//! Comparison of files with states.

use crate::lab::{compared, history, meta, take};
use crate::resume::prepared;
use crate::world::{BLOCK, World, commit, content, options as ship_options};
use pitr_format::{FileId, TxId};
use pitr_recovery::{History, Plan, Target};
use pitr_testkit::noise;
use std::fs;
use std::path::Path;

/// A copy that is equal, and copies with one changed byte each.
fn each_changed_byte_is_found(dir: &Path, history: &History, plan: &Plan, state: &[u8], places: &[usize]) {
    let path = dir.join("copy.db");
    fs::write(&path, state).unwrap();
    assert_eq!(compared(history, plan, &path), []);
    for place in places {
        let mut harmed = state.to_vec();
        harmed[*place] ^= 1;
        fs::write(&path, harmed).unwrap();
        let found = compared(history, plan, &path);
        assert_eq!(found.len(), 1, "byte {place}: {found:?}");
        assert!(found[0].contains(&(*place as u64)) && found[0].end - found[0].start <= 4096, "{found:?}");
    }
}

#[test]
fn a_changed_byte_is_found_in_base_and_log_and_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let (history, plan, state) = prepared(dir.path());
    // In images and beside them, in the extent of zeros, at the end of the base, in what the log
    // added, in an image that is not a whole piece, and at the end.
    let (old_end, piece) = ((5 << 20) + 3 * BLOCK, 4096);
    let places = [0, 8 * BLOCK, piece, 255 * piece, 257 * piece, (2 << 20) + 5, 600 * piece + 7, old_end - 1];
    let more = [old_end, old_end + 8 * BLOCK, 2048 * BLOCK, 2049 * BLOCK, 12294 * BLOCK, state.len() - 1];
    each_changed_byte_is_found(dir.path(), &history, &plan, &state, &[&places[..], &more].concat());

    let path = dir.path().join("copy.db");
    fs::write(&path, &state[..state.len() - 700]).unwrap();
    let found = compared(&history, &plan, &path);
    let end = state.len() as u64;
    assert!(found.contains(&(end - 700..end)), "{found:?}");
    fs::write(&path, [&state[..], b"x"].concat()).unwrap();
    assert_eq!(compared(&history, &plan, &path), std::slice::from_ref(&(end..end + 1)));
    fs::remove_file(&path).unwrap();
    assert_eq!(compared(&history, &plan, &path), std::slice::from_ref(&(0..end)));
}

#[test]
fn what_a_set_length_cut_off_is_not_the_bases() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path(), 3, 1, ship_options(1 << 16, 1 << 14));
    let (wal, mut shipper) = (&world.wal, world.shipper);
    let first = commit(wal, 1, &[(0, 1)], None);
    let mut state = noise(1, 3 << 20);
    shipper.ship(wal).unwrap();
    take(&world.archive, state.clone(), meta(&world.archive, first.lsn, first.lsn, first.time, first.tx));
    // Cut in the middle of a piece, and longer again: zeros, and one block of the log.
    let cut = (1 << 20) + 5 * BLOCK;
    commit(wal, 2, &[], Some(cut as u64));
    commit(wal, 3, &[(4096, 7)], Some(5 << 19));
    shipper.ship(wal).unwrap();
    let base = state.clone();
    state.truncate(cut);
    state.resize(5 << 19, 0);
    state[4096 * BLOCK..4097 * BLOCK].copy_from_slice(&content(FileId::FIRST, 4096, 7));

    let history = history(&world.archive);
    let plan = history.plan_for(&Target::at(TxId::new(3))).unwrap();
    let places = [cut - 1, cut, cut + 3 * BLOCK, 4096 * BLOCK, 4097 * BLOCK, (5 << 19) - 1];
    each_changed_byte_is_found(dir.path(), &history, &plan, &state, &places);
    // The bytes of the base where the state has zeros.
    let path = dir.path().join("copy.db");
    let mut old = state.clone();
    old[cut..cut + 4 * BLOCK].copy_from_slice(&base[cut..cut + 4 * BLOCK]);
    fs::write(&path, old).unwrap();
    let found = compared(&history, &plan, &path);
    assert!(found.iter().any(|range| range.contains(&(cut as u64))), "{found:?}");
}
