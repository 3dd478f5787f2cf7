//! The record payloads. See `docs/format/wal.md` for their layouts.

use crate::bytes::{DecodeError, Put, Reader};
use crate::{FileId, Lsn, Timestamp};

/// Largest block, bytes.
pub const BLOCK_BYTES_MAX: u32 = 1 << 20;
/// Longest note that an engine may attach to a commit, bytes.
pub const NOTE_BYTES_MAX: usize = 64 << 10;
/// Offset of a commit's time within its payload. The log writes the time when it assigns the commit
/// its position.
pub const COMMIT_TIME_OFFSET: usize = 0;
/// Offset of a commit's first LSN within its payload.
pub const COMMIT_FIRST_LSN_OFFSET: usize = 16;
/// Offset of a checkpoint's predecessor within its payload. The log writes it when it assigns the
/// checkpoint its position.
pub const CHECKPOINT_BEFORE_OFFSET: usize = 8;
/// Bytes of a checkpoint's payload before the engine's bytes.
pub const CHECKPOINT_HEAD_BYTES: usize = 16;

/// The kinds of records, with their numbers on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// Physical: the new content of one block.
    Image = 1,
    /// Physical: the new length of a file.
    SetLength = 2,
    /// Logical: bytes that only the engine understands.
    Data = 3,
    /// Makes the records of a transaction visible.
    Commit = 4,
    /// Discards the records of a transaction.
    Abort = 5,
    /// Promises that no later commit happened before this time.
    Watermark = 6,
    /// The wall clock was changed.
    ClockStep = 7,
    /// Changes of the source before this record were not captured.
    Gap = 8,
    /// State of the engine that belongs to no transaction.
    Note = 9,
    /// The engine's whole state, from which a replay can start.
    Checkpoint = 10,
}

impl RecordKind {
    /// The kind with this number, if it is known.
    #[must_use]
    pub const fn from_u8(raw: u8) -> Option<Self> {
        Some(match raw {
            1 => RecordKind::Image,
            2 => RecordKind::SetLength,
            3 => RecordKind::Data,
            4 => RecordKind::Commit,
            5 => RecordKind::Abort,
            6 => RecordKind::Watermark,
            7 => RecordKind::ClockStep,
            8 => RecordKind::Gap,
            9 => RecordKind::Note,
            10 => RecordKind::Checkpoint,
            _ => return None,
        })
    }
}

/// Why the log has a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum GapReason {
    /// The source's own log restarted while nothing captured it.
    LogRestarted = 1,
    /// Another source replaced this one under the same name.
    SourceReplaced = 2,
    /// The local log was lost or belongs to another source.
    StateLost = 3,
    /// The local log reached its size limit before the archive took its records.
    LogFull = 4,
    /// The shape of the source, such as its block size, changed while nothing captured it.
    ShapeChanged = 5,
}

impl GapReason {
    const fn from_u8(raw: u8) -> Option<Self> {
        Some(match raw {
            1 => GapReason::LogRestarted,
            2 => GapReason::SourceReplaced,
            3 => GapReason::StateLost,
            4 => GapReason::LogFull,
            5 => GapReason::ShapeChanged,
            _ => return None,
        })
    }

    /// What happened and what it means, as text for users.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            GapReason::LogRestarted => {
                "the database's own log restarted, or its file changed, before every commit was captured"
            }
            GapReason::SourceReplaced => {
                "the database file was replaced by another one; commits in between were not captured"
            }
            GapReason::StateLost => {
                "the watcher lost its state folder; commits made until it began again were not captured"
            }
            GapReason::LogFull => {
                "the local log reached its size limit before the repository took it; the commits in it were dropped"
            }
            GapReason::ShapeChanged => {
                "the page size of the database changed while it was not watched; commits in between were not captured"
            }
        }
    }
}

/// A decoded record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// The new content of a whole block.
    Image {
        /// File that the block belongs to.
        file: FileId,
        /// Number of the block, counted in blocks of this size from the start of the file.
        block: u64,
        /// Content of the block. Its length is the block size.
        data: &'a [u8],
    },
    /// The new length of a file, bytes.
    SetLength {
        /// The file.
        file: FileId,
        /// New length of the file, bytes.
        len: u64,
    },
    /// Bytes that only the engine understands.
    Data(&'a [u8]),
    /// Makes the transaction's records from `first_lsn` to this one visible.
    Commit(Commit<'a>),
    /// Discards the transaction's records from `first_lsn` to this one.
    Abort {
        /// Position of the transaction's first record.
        first_lsn: Lsn,
    },
    /// No later commit happened before this time.
    Watermark(Timestamp),
    /// The wall clock was set from `from` to `to`. If `to` is earlier, times between the two are
    /// ambiguous.
    ClockStep {
        /// The time that the clock should have shown.
        from: Timestamp,
        /// The time that the clock showed.
        to: Timestamp,
    },
    /// Changes of the source between `since` and `until` were not captured.
    Gap {
        /// Why they were not captured.
        reason: GapReason,
        /// Last time at which the log was known to be complete.
        since: Timestamp,
        /// Time at which capture started again.
        until: Timestamp,
    },
    /// State of the engine that belongs to no transaction.
    Note(&'a [u8]),
    /// The engine's whole state, from which a replay can start.
    Checkpoint(Checkpoint<'a>),
}

/// A checkpoint record. It belongs to no transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint<'a> {
    /// A replay over this state begins here. At most the position of the record.
    pub redo_from: Lsn,
    /// Position of the previous checkpoint of the log; [`Lsn::ORIGIN`] if there is none.
    pub before: Lsn,
    /// The state, in the engine's own format.
    pub state: &'a [u8],
}

impl<'a> Checkpoint<'a> {
    /// Decodes a payload, or the first part of one: `state` is what the part holds of it.
    pub fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(payload);
        let (redo_from, before) = (Lsn::new(r.u64("checkpoint")?), Lsn::new(r.u64("checkpoint")?));
        Ok(Checkpoint { redo_from, before, state: r.take(r.left(), "checkpoint")? })
    }
}

/// A commit record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit<'a> {
    /// Time at which the commit was logged. Never decreases within a timeline.
    pub time: Timestamp,
    /// Earliest time at which the commit can have happened. At most `time`.
    pub earliest: Timestamp,
    /// Position of the transaction's first record.
    pub first_lsn: Lsn,
    /// Data that the engine wants to find with this commit, such as its place in the source's own
    /// log.
    pub note: &'a [u8],
}

impl<'a> Record<'a> {
    /// The kind of the record.
    #[must_use]
    pub fn kind(&self) -> RecordKind {
        match self {
            Record::Image { .. } => RecordKind::Image,
            Record::SetLength { .. } => RecordKind::SetLength,
            Record::Data(_) => RecordKind::Data,
            Record::Commit(_) => RecordKind::Commit,
            Record::Abort { .. } => RecordKind::Abort,
            Record::Watermark(_) => RecordKind::Watermark,
            Record::ClockStep { .. } => RecordKind::ClockStep,
            Record::Gap { .. } => RecordKind::Gap,
            Record::Note(_) => RecordKind::Note,
            Record::Checkpoint(_) => RecordKind::Checkpoint,
        }
    }

    /// Appends the payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Record::Image { file, block, data } => {
                out.put_u32(file.get());
                out.put_u32(data.len() as u32);
                out.put_u64(*block);
                out.put(data);
            }
            Record::SetLength { file, len } => {
                out.put_u32(file.get());
                out.put_u32(0);
                out.put_u64(*len);
            }
            Record::Data(bytes) | Record::Note(bytes) => out.put(bytes),
            Record::Commit(commit) => {
                out.put_i64(commit.time.micros());
                out.put_i64(commit.earliest.micros());
                out.put_u64(commit.first_lsn.get());
                out.put(commit.note);
            }
            Record::Abort { first_lsn } => out.put_u64(first_lsn.get()),
            Record::Watermark(time) => out.put_i64(time.micros()),
            Record::ClockStep { from, to } => {
                out.put_i64(from.micros());
                out.put_i64(to.micros());
            }
            Record::Gap { reason, since, until } => {
                out.put_u64(*reason as u64);
                out.put_i64(since.micros());
                out.put_i64(until.micros());
            }
            Record::Checkpoint(checkpoint) => {
                out.put_u64(checkpoint.redo_from.get());
                out.put_u64(checkpoint.before.get());
                out.put(checkpoint.state);
            }
        }
    }

    /// Decodes the payload of a record of this kind.
    pub fn decode(kind: u8, payload: &'a [u8]) -> Result<Self, DecodeError> {
        let known = RecordKind::from_u8(kind)
            .ok_or(DecodeError::Range { what: "record kind", value: kind.into() })?;
        let mut r = Reader::new(payload);
        let record = match known {
            RecordKind::Image => {
                let file = FileId::new(r.u32("image")?);
                let len = r.u32("image")?;
                let block = r.u64("image")?;
                let fits = (1..=BLOCK_BYTES_MAX).contains(&len) && block.checked_mul(len.into()).is_some();
                if !fits {
                    return Err(DecodeError::Range { what: "image block", value: block });
                }
                Record::Image { file, block, data: r.take(len as usize, "image")? }
            }
            RecordKind::SetLength => {
                let file = FileId::new(r.u32("set-length")?);
                r.u32("set-length")?;
                Record::SetLength { file, len: r.u64("set-length")? }
            }
            RecordKind::Data => Record::Data(r.take(r.left(), "data")?),
            RecordKind::Note => Record::Note(r.take(r.left(), "note")?),
            RecordKind::Checkpoint => {
                Record::Checkpoint(Checkpoint::decode(r.take(r.left(), "checkpoint")?)?)
            }
            RecordKind::Commit => {
                let time = Timestamp::from_micros(r.i64("commit")?);
                let earliest = Timestamp::from_micros(r.i64("commit")?);
                let first_lsn = Lsn::new(r.u64("commit")?);
                let note = r.take(r.left(), "commit")?;
                if note.len() > NOTE_BYTES_MAX {
                    return Err(DecodeError::Range { what: "commit note", value: note.len() as u64 });
                }
                Record::Commit(Commit { time, earliest, first_lsn, note })
            }
            RecordKind::Abort => Record::Abort { first_lsn: Lsn::new(r.u64("abort")?) },
            RecordKind::Watermark => Record::Watermark(Timestamp::from_micros(r.i64("watermark")?)),
            RecordKind::ClockStep => Record::ClockStep {
                from: Timestamp::from_micros(r.i64("clock step")?),
                to: Timestamp::from_micros(r.i64("clock step")?),
            },
            RecordKind::Gap => {
                let raw = r.u64("gap")?;
                let reason = u8::try_from(raw)
                    .ok()
                    .and_then(GapReason::from_u8)
                    .ok_or(DecodeError::Range { what: "gap reason", value: raw })?;
                let since = Timestamp::from_micros(r.i64("gap")?);
                Record::Gap { reason, since, until: Timestamp::from_micros(r.i64("gap")?) }
            }
        };
        r.finish("record payload")?;
        Ok(record)
    }
}
