//! What a look at the database's log means: two pure tables.
//!
//! # While we watch ([`step`])
//! A read transaction of ours is always open (see [`crate::source`]). While it holds frames, the log can't restart. While
//! it holds none (SQLite's read lock 0), the log can restart once: no frame of the new generation can be backfilled, so a
//! second restart is impossible before we have read it.
//!
//! A restart drops the frames that we have not captured. Under read lock 0 there are none, but only once we have *joined*:
//! one look that began under this transaction has found our generation and captured all that it published. Until then a
//! restart means that commits may be lost (FAILURES 47).
//!
//! | | log's salts | published frames | joined | not joined |
//! | --- | --- | --- | --- | --- |
//! | a | none (no header) | any | nothing: restarted by TRUNCATE and not written yet | lost |
//! | b | ours | more than ours | read them | read them, joined |
//! | c | ours | as many | nothing | nothing, joined |
//! | d | ours | 0 | nothing: restarted in the index, not yet in the file | lost |
//! | e | ours | fewer, not 0 | lost: the log went back under our lock | lost |
//! | f | other, restart possible | any | a new generation: read it from its first frame | lost |
//! | g | other, restart impossible | any | lost: our lock did not hold | lost |
//!
//! # When we come back ([`resume`])
//! Nobody held the log meanwhile; the position comes from our own log.
//!
//! | | log's salts | frame at our place | published frames | meaning |
//! | --- | --- | --- | --- | --- |
//! | - | any | - | - | if the database file held everything we had and was not written since: go on; what was committed meanwhile is all in the log |
//! | A | none or other, or ours were none | - | - | gap: it restarted, and what it lost is unknown |
//! | B | ours | as we captured it | ours or more | go on |
//! | C | ours | as we captured it | fewer | gap: restarted in the index; what stood behind us is unknown |
//! | D | ours | other or none | any | rewound: power loss took commits back that we had captured |

use crate::conn::Published;
use crate::position::Position;
use crate::wal::{Checksum, Salts};

/// What to do after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing was committed.
    Nothing,
    /// Read the frames behind our position up to the published one.
    Read,
    /// Read the frames of a new generation from its first on.
    ReadNewGeneration,
    /// Our lock did not hold: commits may be missing.
    Lost,
}

/// What our read transaction guarantees when a look begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// No look under it has captured everything yet: a restart would lose what was not captured.
    NotJoined,
    /// It may be on read lock 0: the log may restart, and loses nothing by that.
    MayRestart,
    /// It holds frames: the log can't restart.
    Frames,
}

/// The first table of the module head.
#[must_use]
pub fn step(ours: &Position, salts: Option<Salts>, published: Published, hold: Hold) -> Step {
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

/// How to begin when there is a position from an earlier run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// The log stands as we left it, or went on from there.
    Continue,
    /// What happened meanwhile can't be known.
    Gap,
    /// The log holds other bytes where we captured: it was taken back.
    Rewound,
}

/// What is found when we come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The log's salts.
    pub salts: Option<Salts>,
    /// What the wal-index publishes.
    pub published: Published,
    /// The checksum that the frame at our place states, if it is one of the log's salts.
    pub stated: Option<Checksum>,
    /// The database file held everything that we had captured, and was not written since.
    pub file_unchanged: bool,
}

/// The second table of the module head.
#[must_use]
pub fn resume(ours: &Position, found: &Found) -> Resume {
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
    fn each_row_of_the_first_table() {
        // FAILURES 4, 47
        use Hold::{Frames, MayRestart, NotJoined};
        let rows = [
            (None, 7, MayRestart, Step::Nothing, Step::Lost),          // a
            (Some(OLD), 11, Frames, Step::Read, Step::Read),           // b
            (Some(OLD), 10, MayRestart, Step::Nothing, Step::Nothing), // c
            (Some(OLD), 0, MayRestart, Step::Nothing, Step::Lost),     // d
            (Some(OLD), 9, MayRestart, Step::Lost, Step::Lost),        // e
            (Some(NEW), 3, MayRestart, Step::ReadNewGeneration, Step::Lost), // f
            (Some(NEW), 0, MayRestart, Step::Nothing, Step::Lost),     // f, nothing committed yet
            (Some(NEW), 3, Frames, Step::Lost, Step::Lost),            // g
        ];
        for (salts, frames, hold, joined, not_joined) in rows {
            assert_eq!(step(&ours(), salts, at(frames), hold), joined, "{salts:?} {frames}");
            assert_eq!(step(&ours(), salts, at(frames), NotJoined), not_joined, "{salts:?} {frames}");
        }
    }

    #[test]
    fn each_row_of_the_second_table() {
        let other = Checksum { s0: 5, s1: 7 };
        let rows = [
            (None, 0, None, Resume::Gap),                  // A
            (Some(NEW), 10, Some(SUM), Resume::Gap),       // A
            (Some(OLD), 10, Some(SUM), Resume::Continue),  // B
            (Some(OLD), 12, Some(SUM), Resume::Continue),  // B
            (Some(OLD), 0, Some(SUM), Resume::Gap),        // C
            (Some(OLD), 12, Some(other), Resume::Rewound), // D
            (Some(OLD), 8, None, Resume::Rewound),         // D
        ];
        for (salts, frames, stated, expected) in rows {
            let found = Found { salts, published: at(frames), stated, file_unchanged: false };
            assert_eq!(resume(&ours(), &found), expected, "{salts:?} {frames}");
            assert_eq!(resume(&ours(), &Found { file_unchanged: true, ..found }), Resume::Continue);
        }
    }
}
