//! Random logs, and the naive model: a replay of every record, oldest first, into a map of blocks
//! and lengths.

use pitr_format::{FileId, Incarnation, Lsn, TxId};
use pitr_redo::{CommitSpan, is_within};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Size of the blocks of each file, bytes: block numbers and lengths are small, so images and cuts
/// meet often.
pub(crate) const BLOCK_BYTES: u32 = 4;
/// Every record is this long.
const RECORD_BYTES: u64 = 10;
const FILES: u32 = 2;
const BLOCKS: u64 = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Image { file: FileId, block: u64 },
    SetLength { file: FileId, len: u64 },
    Commit { first: Lsn },
    Abort,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Logged {
    pub(crate) lsn: Lsn,
    pub(crate) end: Lsn,
    pub(crate) tx: TxId,
    pub(crate) incarnation: Incarnation,
    pub(crate) what: What,
}

impl Logged {
    /// The records that this record's commit covers, if it is a commit up to the target.
    pub(crate) fn span(&self, target: Bound<Lsn>) -> Option<CommitSpan> {
        let What::Commit { first } = self.what else { return None };
        is_within(target, self.end).then_some(CommitSpan { tx: self.tx, first, commit: self.end })
    }
}

/// What a writer does next: transaction, action, argument.
pub(crate) type Act = (u64, u8, u64);

/// A log of few transactions that interleave, commit, abort, or are forgotten. Their numbers are
/// used again.
pub(crate) fn log(acts: &[Act]) -> Vec<Logged> {
    let (mut log, mut at, mut incarnation) = (Vec::new(), 100, Incarnation::FIRST);
    let mut first: BTreeMap<u64, Lsn> = BTreeMap::new();
    for &(tx, act, arg) in acts {
        let (lsn, file) = (Lsn::new(at), FileId::new((arg / 64) as u32 % FILES));
        let begin = first.get(&tx).copied().unwrap_or(lsn);
        let what = match act % 16 {
            0..=5 => What::Image { file, block: arg % BLOCKS },
            6..=8 => What::SetLength { file, len: arg % (BLOCKS * u64::from(BLOCK_BYTES) + 5) },
            9 => What::Abort,
            10 => {
                // The writer dies; the next one has a new incarnation.
                incarnation = incarnation.next().unwrap();
                first.clear();
                continue;
            }
            11 => {
                // The writer forgets the transaction and reuses its number.
                first.remove(&tx);
                continue;
            }
            _ => What::Commit { first: begin },
        };
        match what {
            What::Commit { .. } | What::Abort => drop(first.remove(&tx)),
            _ => drop(first.entry(tx).or_insert(lsn)),
        }
        at += RECORD_BYTES;
        log.push(Logged { lsn, end: Lsn::new(at), tx: TxId::new(tx), incarnation, what });
    }
    log
}

pub(crate) fn acts() -> impl Strategy<Value = Vec<Act>> {
    prop::collection::vec((1u64..5, any::<u8>(), any::<u64>()), 0..120)
}

/// A target within the log, or none. Numbers count records.
pub(crate) fn target() -> impl Strategy<Value = Bound<Lsn>> {
    let at = |nth: u64| Lsn::new(100 + nth * RECORD_BYTES);
    prop_oneof![
        Just(Bound::Unbounded),
        (0u64..100).prop_map(move |nth| Bound::Included(at(nth))),
        (0u64..100).prop_map(move |nth| Bound::Excluded(at(nth))),
    ]
}

/// The content of each file. An absent file is an empty one.
pub(crate) type Files = BTreeMap<FileId, Vec<u8>>;

/// The content of the image that was logged at `lsn`: never zero.
pub(crate) fn content(lsn: Lsn) -> [u8; BLOCK_BYTES as usize] {
    let nth = lsn.get() / RECORD_BYTES;
    [0xff, nth as u8 | 1, (nth >> 7) as u8 | 1, 0xfe]
}

/// A state before the log.
pub(crate) fn base() -> impl Strategy<Value = Files> {
    let file = prop::collection::vec(1u8..99, 0..(BLOCKS as usize + 2) * BLOCK_BYTES as usize);
    prop::collection::btree_map((0..FILES).prop_map(FileId::new), file, 0..=FILES as usize)
}

/// True if a later commit within the target states that it covers this record.
pub(crate) fn counts(log: &[Logged], target: Bound<Lsn>, nth: usize) -> bool {
    let own = |later: &Logged| later.tx == log[nth].tx && is_within(target, later.end);
    log[nth + 1..].iter().filter(|later| own(later)).any(|later| match later.what {
        What::Commit { first } => first <= log[nth].lsn,
        _ => false,
    })
}

/// Replays every committed record, oldest first.
pub(crate) fn replay(log: &[Logged], target: Bound<Lsn>, base: &Files) -> Files {
    let (mut blocks, mut lens): (BTreeMap<(FileId, u64), u8>, BTreeMap<FileId, u64>) = Default::default();
    for (file, bytes) in base {
        lens.insert(*file, bytes.len() as u64);
        blocks.extend(bytes.iter().enumerate().map(|(at, byte)| ((*file, at as u64), *byte)));
    }
    for (_, logged) in log.iter().enumerate().filter(|(nth, _)| counts(log, target, *nth)) {
        match logged.what {
            What::Image { file, block } => {
                let start = block * u64::from(BLOCK_BYTES);
                let bytes = content(logged.lsn);
                blocks.extend((start..).zip(bytes).map(|(at, byte)| ((file, at), byte)));
                let len = lens.entry(file).or_default();
                *len = (*len).max(start + u64::from(BLOCK_BYTES));
            }
            What::SetLength { file, len } => {
                blocks.retain(|(other, at), _| *other != file || *at < len);
                lens.insert(file, len);
            }
            What::Commit { .. } | What::Abort => {}
        }
    }
    let byte = |file, at| blocks.get(&(file, at)).copied().unwrap_or(0);
    let whole = |(file, len): (&FileId, &u64)| (*file, (0..*len).map(|at| byte(*file, at)).collect());
    without_empty(lens.iter().map(whole).collect())
}

pub(crate) fn without_empty(mut files: Files) -> Files {
    files.retain(|_, bytes| !bytes.is_empty());
    files
}
