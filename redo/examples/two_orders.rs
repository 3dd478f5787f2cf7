//! Replays random logs oldest first and newest first. Both must give the same file.
//!
//! The first way applies every record that counts, in order. The second way looks at each record
//! once, from the end of the log. It keeps the newest image of each block, without the bytes that
//! a set-length cut off.

use pitr_redo::{BlockImage, CommitSpan, Cuts, FileChange, Lsn, TxId, Winners};
use std::collections::BTreeMap;

const BLOCK_BYTES: u32 = 4;
const LOGS: u64 = 10_000;

#[derive(Debug, Clone, Copy)]
enum What {
    /// The new content of a block: this byte, repeated.
    Image {
        block: u64,
        byte: u8,
    },
    SetLength(u64),
    Commit {
        first: Lsn,
    },
}

type Log = Vec<(Lsn, TxId, What)>;

/// Two transactions, whose records mix. Not all of them commit.
fn random_log(seed: u64) -> Log {
    let mut state = seed;
    let mut below = |most: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % most
    };
    let mut first: BTreeMap<TxId, Lsn> = BTreeMap::new();
    let mut log = Log::new();
    for nth in 1..=14 {
        let (lsn, tx) = (Lsn::new(nth * 10), TxId::new(1 + below(2)));
        let what = match below(5) {
            0 => What::SetLength(below(24)),
            1 => match first.remove(&tx) {
                Some(first) => What::Commit { first },
                None => continue,
            },
            _ => What::Image { block: below(5), byte: nth as u8 },
        };
        if !matches!(what, What::Commit { .. }) {
            first.entry(tx).or_insert(lsn);
        }
        log.push((lsn, tx, what));
    }
    log
}

fn winners(log: &Log) -> Winners {
    let commits = log.iter().filter_map(|(commit, tx, what)| match what {
        What::Commit { first } => Some(CommitSpan { tx: *tx, first: *first, commit: *commit }),
        _ => None,
    });
    commits.collect()
}

fn oldest_first(log: &Log, winners: &Winners) -> Vec<u8> {
    let mut file: Vec<u8> = Vec::new();
    for (_, _, what) in log.iter().filter(|(lsn, tx, _)| winners.counts(*tx, *lsn)) {
        match what {
            What::Image { block, byte } => {
                let begin = (*block * u64::from(BLOCK_BYTES)) as usize;
                let end = begin + BLOCK_BYTES as usize;
                file.resize(file.len().max(end), 0);
                file[begin..end].fill(*byte);
            }
            What::SetLength(len) => file.resize(*len as usize, 0),
            What::Commit { .. } => {}
        }
    }
    file
}

fn newest_first(log: &Log, winners: &Winners) -> Vec<u8> {
    let (mut cuts, mut change) = (Cuts::new(), FileChange::default());
    let mut left: BTreeMap<u64, (u32, u8)> = BTreeMap::new();
    for (lsn, _, what) in log.iter().rev().filter(|(lsn, tx, _)| winners.counts(*tx, *lsn)) {
        match what {
            What::Image { block, byte } => {
                let image = BlockImage { block: *block, block_bytes: BLOCK_BYTES };
                let kept = image.kept(cuts.shortest_after(*lsn));
                left.entry(*block).or_insert_with(|| {
                    change.add_image(image, kept);
                    (kept, *byte)
                });
            }
            What::SetLength(len) => cuts.set_length(*lsn, *len),
            What::Commit { .. } => {}
        }
    }
    change.set_lengths(&cuts);
    let mut file = vec![0; change.len_after(0) as usize];
    for (block, (kept, byte)) in left.into_iter().filter(|(_, (kept, _))| *kept > 0) {
        let begin = (block * u64::from(BLOCK_BYTES)) as usize;
        file[begin..begin + kept as usize].fill(byte);
    }
    file
}

fn main() {
    let mut is_shown = false;
    for seed in 0..LOGS {
        let log = random_log(seed);
        let winners = winners(&log);
        let file = oldest_first(&log, &winners);
        assert_eq!(file, newest_first(&log, &winners), "log {seed}: {log:?}");
        let commits = log.iter().filter(|(.., what)| matches!(what, What::Commit { .. })).count();
        if commits == 3 && !is_shown {
            is_shown = true;
            for (lsn, tx, what) in &log {
                let mark = if winners.counts(*tx, *lsn) { "counts" } else { "" };
                println!("LSN {:>3}, transaction {tx}: {:<32} {mark}", lsn.get(), format!("{what:?}"));
            }
            println!("the file: {file:?}\n");
        }
    }
    println!("{LOGS} random logs: both orders give the same file");
}
