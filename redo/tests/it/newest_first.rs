//! The traversal of a restore: the newest object first, with one bit for each block.

use crate::any_order::lay_over;
use crate::log::{BLOCK_BYTES, Files, Logged, What, without_empty};
use pitr_format::{FileId, Lsn};
use pitr_redo::{BlockImage, CommitSpan, Cuts, FileChange};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

#[derive(Default)]
struct State {
    change: FileChange,
    found: BTreeSet<u64>,
    cuts: Cuts,
    kept: Vec<(Lsn, BlockImage, u32)>,
}

/// The files after the log, which is divided into these objects.
pub(crate) fn restored(objects: &[&[Logged]], target: Bound<Lsn>, base: &Files) -> Files {
    let mut states: BTreeMap<FileId, State> = BTreeMap::new();
    let mut commits: Vec<CommitSpan> = Vec::new();
    for object in objects.iter().rev() {
        commits.extend(object.iter().filter_map(|logged| logged.span(target)));
        let counts = |logged: &&Logged| commits.iter().any(|span| span.covers(logged.tx, logged.lsn));
        let mut older: BTreeMap<FileId, Cuts> = BTreeMap::new();
        for logged in object.iter().filter(counts) {
            if let What::SetLength { file, len } = logged.what {
                older.entry(file).or_default().set_length(logged.lsn, len);
            }
        }
        for (file, mut cuts) in older {
            let own = &mut states.entry(file).or_default().cuts;
            own.keep_for_older();
            cuts.join(own);
            *own = cuts;
        }
        for logged in object.iter().rev().filter(counts) {
            if let What::Image { file, block } = logged.what {
                add(states.entry(file).or_default(), logged.lsn, block);
            }
        }
    }
    let mut files = base.clone();
    for (file, mut state) in states {
        state.change.set_lengths(&state.cuts);
        let before = files.remove(&file).unwrap_or_default();
        files.insert(file, lay_over(&before, &state.change, &state.kept));
    }
    without_empty(files)
}

fn add(state: &mut State, lsn: Lsn, block: u64) {
    let image = BlockImage { block, block_bytes: BLOCK_BYTES };
    state.change.set_block_bytes(BLOCK_BYTES).unwrap();
    let kept = image.kept(state.cuts.shortest_after(lsn));
    if kept > 0 && state.found.insert(block) {
        state.change.add_image(image, kept);
        state.kept.push((lsn, image, kept));
    }
}
