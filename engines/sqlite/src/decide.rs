//! What a look at the `-wal` file means: two pure tables.
//!
//! # While watching ([`step`])
//! A read transaction of this engine is always open (see [`crate::source`]). While it holds frames,
//! the `-wal` file can't restart. While it holds none (SQLite's read lock 0), the file can restart
//! once: no frame of the new generation can be backfilled, so a second restart is
//! impossible before this engine has read it.
//!
//! A restart drops the frames that are not captured. Under read lock 0 there are none, but only
//! once capture has *joined*: one look that began under this transaction has found the generation
//! of our position and captured all that it published. Until then a restart means that commits may
//! be lost (FAILURES 47).
//!
//! | | salts of the `-wal` file | published frames | joined | not joined |
//! | --- | --- | --- | --- | --- |
//! | a | none (no header) | any | nothing: restarted by TRUNCATE and not written yet | lost |
//! | b | ours | more than ours | read them | read them, joined |
//! | c | ours | as many | nothing | nothing, joined |
//! | d | ours | 0 | nothing: restarted in the index, not yet in the file | lost |
//! | e | ours | fewer, not 0 | lost: the log went back under our lock | lost |
//! | f | other, restart possible | any | a new generation: read it from its first frame | lost |
//! | g | other, restart impossible | any | lost: our lock did not hold | lost |
//!
//! # When a watch resumes ([`resume`])
//! No read transaction kept the `-wal` file since the last watch ended. The position comes from the
//! local log.
//!
//! | | salts of the `-wal` file | frame at our position | published frames | meaning |
//! | --- | --- | --- | --- | --- |
//! | - | any | - | - | if the database file held everything captured and was not written since: continue; the `-wal` file holds everything committed since then |
//! | A | none or other, or ours were none | - | - | gap: it restarted, and what it lost is unknown |
//! | B | ours | as captured | ours or more | continue |
//! | C | ours | as captured | fewer | gap: restarted in the index; the frames after ours are unknown |
//! | D | ours | other or none | any | rewound: power loss took back commits that were captured |

use crate::conn::Published;
use crate::position::Position;
use crate::wal::{Checksum, Salts};

/// The action after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing was committed.
    Nothing,
    /// Read the frames after our position up to the published one.
    Read,
    /// Read the frames of a new generation from its first one.
    ReadNewGeneration,
    /// Our lock did not hold: commits may be missing.
    Lost,
}

/// What the read transaction guarantees when a look begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Under this transaction no look has captured everything yet. A restart would lose uncaptured
    /// frames.
    NotJoined,
    /// The transaction may have read lock 0. The `-wal` file may restart, and no frame is lost by
    /// that.
    MayRestart,
    /// The transaction holds frames, so the `-wal` file can't restart.
    Frames,
}

/// Evaluates the first table of the module documentation.
#[must_use]
pub(crate) fn step(ours: &Position, salts: Option<Salts>, published: Published, hold: Hold) -> Step {
    let same = salts.is_some() && salts == ours.salts;
    match published.frames {
        n if same && n > ours.frame => Step::Read,
        n if same && n == ours.frame => Step::Nothing,
        _ if hold == Hold::NotJoined => Step::Lost,
        _ if salts.is_none() => Step::Nothing,
        n if same => {
            if n == 0 {
                Step::Nothing
            } else {
                Step::Lost
            }
        }
        _ if hold == Hold::Frames && ours.salts.is_some() => Step::Lost,
        0 => Step::Nothing,
        _ => Step::ReadNewGeneration,
    }
}

/// How to begin when an earlier run left a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    /// The `-wal` file is unchanged, or continues from our position.
    Continue,
    /// It is unknown what was committed since the last run.
    Gap,
    /// The `-wal` file holds other bytes at our position: commits were taken back.
    Rewound,
}

/// What a resuming watch finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Salts of the `-wal` file.
    pub salts: Option<Salts>,
    /// What the wal-index publishes.
    pub published: Published,
    /// The checksum in the frame at our position, if the frame has the file's salts.
    pub stated: Option<Checksum>,
    /// True if the database file held everything captured, and was not written since.
    pub file_unchanged: bool,
}

/// Evaluates the second table of the module documentation.
#[must_use]
pub(crate) fn resume(ours: &Position, found: &Found) -> Resume {
    let Found { salts, published, stated, file_unchanged } = *found;
    if file_unchanged {
        Resume::Continue
    } else if salts.is_none() || salts != ours.salts {
        Resume::Gap
    } else if stated != Some(ours.checksum) {
        Resume::Rewound
    } else if published.frames >= ours.frame {
        Resume::Continue
    } else {
        Resume::Gap
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr_format::TxId;

    const OLD: Salts = Salts([1; 8]);
    const NEW: Salts = Salts([2; 8]);
    const SUM: Checksum = Checksum { s0: 5, s1: 6 };

    fn ours() -> Position {
        Position {
            salts: Some(OLD),
            frame: 10,
            checksum: SUM,
            page_bytes: 4096,
            pages: 3,
            tx: TxId::NONE,
            file: None,
        }
    }

    fn at(frames: u32) -> Published {
        Published { frames, backfilled: 0 }
    }

    #[test]
    fn step_follows_each_row_of_its_table() {
        // FAILURES 4, 47
        use Hold::{Frames, MayRestart, NotJoined};
        let rows = [
            (None, 7, MayRestart, Step::Nothing, Step::Lost), // row a
            (Some(OLD), 11, Frames, Step::Read, Step::Read),  // row b
            (Some(OLD), 10, MayRestart, Step::Nothing, Step::Nothing), // row c
            (Some(OLD), 0, MayRestart, Step::Nothing, Step::Lost), // row d
            (Some(OLD), 9, MayRestart, Step::Lost, Step::Lost), // row e
            (Some(NEW), 3, MayRestart, Step::ReadNewGeneration, Step::Lost), // row f
            (Some(NEW), 0, MayRestart, Step::Nothing, Step::Lost), // f, nothing committed yet
            (Some(NEW), 3, Frames, Step::Lost, Step::Lost),   // row g
        ];
        for (salts, frames, hold, joined, not_joined) in rows {
            assert_eq!(step(&ours(), salts, at(frames), hold), joined, "{salts:?} {frames}");
            assert_eq!(step(&ours(), salts, at(frames), NotJoined), not_joined, "{salts:?} {frames}");
        }
    }

    #[test]
    fn resume_follows_each_row_of_its_table() {
        let other = Checksum { s0: 5, s1: 7 };
        let rows = [
            (None, 0, None, Resume::Gap),                  // row A
            (Some(NEW), 10, Some(SUM), Resume::Gap),       // row A
            (Some(OLD), 10, Some(SUM), Resume::Continue),  // row B
            (Some(OLD), 12, Some(SUM), Resume::Continue),  // row B
            (Some(OLD), 0, Some(SUM), Resume::Gap),        // row C
            (Some(OLD), 12, Some(other), Resume::Rewound), // row D
            (Some(OLD), 8, None, Resume::Rewound),         // row D
        ];
        for (salts, frames, stated, expected) in rows {
            let found = Found { salts, published: at(frames), stated, file_unchanged: false };
            assert_eq!(resume(&ours(), &found), expected, "{salts:?} {frames}");
            assert_eq!(resume(&ours(), &Found { file_unchanged: true, ..found }), Resume::Continue);
        }
    }
}
