//! Checkpoints: whole states of the engine in the log, from which a replay can start.
//!
//! # What it promises
//! - A checkpoint that was returned is durable, whatever the sync policy, and is found again when
//!   the log is opened.
//! - The log keeps the redo points of its newest checkpoints
//!   ([`WalOptions::checkpoints_kept`](crate::WalOptions::checkpoints_kept)), whatever the engine
//!   states with [`Wal::remove_below`](crate::Wal::remove_below), and also at its cap.
//!
//! # How they are found
//! Each checkpoint record names the one before it, and the header of each segment names the last
//! one that begins before the segment. So opening a log, which reads the newest segment anyway,
//! reads no other segment but those of the checkpoints that it keeps. A torn tail may have cut off
//! the end of a checkpoint: such a record is skipped.

use crate::append::BatchBuilder;
use crate::options::{CheckpointInterval, WalOptions};
use crate::read::{LogBatch, LogReader, Records};
use crate::shared::{Shared, lock};
use crate::{Error, Result};
use pitr_format::log::{BATCH_ALIGN, Part};
use pitr_format::record::{CHECKPOINT_HEAD_BYTES, Checkpoint as Payload, RecordKind};
use pitr_format::{DecodeError, Lsn};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

/// A checkpoint in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Position of the record.
    pub lsn: Lsn,
    /// End of the record.
    pub end: Lsn,
    /// A replay over the checkpoint's state begins here.
    pub redo_from: Lsn,
    /// Size of the engine's state, bytes.
    pub bytes: u64,
}

/// The checkpoints of an open log.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    /// Held while a checkpoint is taken: one at a time.
    taking: Mutex<()>,
    newest: Mutex<Newest>,
}

/// The newest checkpoints.
#[derive(Debug)]
struct Newest {
    /// In order of the log; at most as many as the log keeps.
    kept: VecDeque<Checkpoint>,
    /// When the last one was taken, or the log was opened; monotonic.
    since: Duration,
}

impl Checkpoints {
    /// `kept` are the newest checkpoints, newest first.
    pub(crate) fn new(kept: Vec<Checkpoint>, now: Duration) -> Self {
        let newest = Newest { kept: kept.into_iter().rev().collect(), since: now };
        Checkpoints { taking: Mutex::new(()), newest: Mutex::new(newest) }
    }

    /// The checkpoints that the log keeps, in order.
    pub(crate) fn kept(&self) -> Vec<Checkpoint> {
        lock(&self.newest).kept.iter().copied().collect()
    }

    /// Everything from here on is needed by a checkpoint that the log keeps.
    pub(crate) fn floor(&self) -> Lsn {
        floor(&lock(&self.newest).kept)
    }

    fn add(&self, checkpoint: Checkpoint, most: u32, now: Duration) {
        let mut newest = lock(&self.newest);
        newest.kept.push_back(checkpoint);
        while newest.kept.len() > most as usize {
            newest.kept.pop_front();
        }
        newest.since = now;
    }
}

/// The lowest redo point of these checkpoints; [`Lsn::MAX`] if there are none.
pub(crate) fn floor<'a>(kept: impl IntoIterator<Item = &'a Checkpoint>) -> Lsn {
    kept.into_iter().map(|checkpoint| checkpoint.redo_from).min().unwrap_or(Lsn::MAX)
}

impl Shared {
    /// See [`crate::Wal::checkpoint`].
    pub(crate) fn checkpoint(&self, redo_from: Lsn, state: &[u8]) -> Result<Checkpoint> {
        let _one = lock(&self.checkpoints.taking);
        let end = self.queue().placed_to();
        if redo_from > end {
            return Err(Error::RedoAhead { redo_from, end });
        }
        self.hold(redo_from)?;
        let taken = self.append_checkpoint(redo_from, state);
        if let Ok(checkpoint) = taken {
            let now = self.env.clock.monotonic();
            self.checkpoints.add(checkpoint, self.options.checkpoints_kept, now);
        }
        lock(&self.segments).slots.keep_from(self.checkpoints.floor());
        taken
    }

    /// Keeps the log from `redo_from` on. Fails if a part of it was already removed.
    fn hold(&self, redo_from: Lsn) -> Result<()> {
        let mut segments = lock(&self.segments);
        if redo_from < segments.follows() {
            return Err(Error::Removed { lsn: redo_from, first: segments.first() });
        }
        segments.slots.keep_from(self.checkpoints.floor().min(redo_from));
        Ok(())
    }

    fn append_checkpoint(&self, redo_from: Lsn, state: &[u8]) -> Result<Checkpoint> {
        let mut batch = BatchBuilder::of_checkpoint(redo_from, state)?;
        let mut queue = self.queue_with_room()?;
        let (appended, round) = queue.place(&mut batch, || self.env.clock.now())?;
        self.wait(queue, round)?;
        Ok(Checkpoint { lsn: appended.first, end: appended.end, redo_from, bytes: state.len() as u64 })
    }

    /// See [`crate::Wal::is_checkpoint_due`].
    pub(crate) fn is_checkpoint_due(&self) -> bool {
        if matches!(self.checkpoints.taking.try_lock(), Err(TryLockError::WouldBlock)) {
            return false; // One is being taken.
        }
        let end = self.queue().end();
        let (last, since) = {
            let newest = lock(&self.checkpoints.newest);
            (newest.kept.back().map(|checkpoint| checkpoint.end), newest.since)
        };
        let logged = end.get().saturating_sub(last.unwrap_or_else(|| self.first()).get());
        match self.options.checkpoint_interval {
            CheckpointInterval::Bytes(bytes) => logged >= bytes,
            CheckpointInterval::Time(time) => {
                let is_quiet = logged < u64::from(BATCH_ALIGN); // padding after the checkpoint
                !is_quiet && self.env.clock.monotonic().saturating_sub(since) >= time
            }
        }
    }

    /// See [`crate::Wal::find_checkpoint`].
    pub(crate) fn find_checkpoint(self: &Arc<Self>, upto: Lsn) -> Result<Option<Checkpoint>> {
        let (first, follows) = {
            let segments = lock(&self.segments);
            (segments.first(), segments.follows())
        };
        let newest = self.checkpoints.kept().last().map(|checkpoint| checkpoint.lsn);
        let usable = |found: &Checkpoint| found.end <= upto && found.redo_from >= follows;
        Walk { at: newest, first, reader: |lsn| LogReader::live(self, lsn) }
            .find(|found| found.as_ref().map_or(true, usable))
            .transpose()
    }

    /// See [`crate::Wal::read_checkpoint`].
    pub(crate) fn read_checkpoint(self: &Arc<Self>, checkpoint: &Checkpoint) -> Result<Vec<u8>> {
        let lsn = checkpoint.lsn;
        let stored = read(LogReader::live(self, lsn), lsn)?;
        stored.whole.map(|(_, state)| state).ok_or(Error::Unfinished { lsn })
    }
}

/// The newest checkpoints of a log that is being opened, newest first: as many as it keeps.
/// `newest` is the last one that was begun, `first` the start of the log.
pub(crate) fn find(
    reader: impl Fn(Lsn) -> LogReader,
    newest: Option<Lsn>,
    first: Lsn,
    options: &WalOptions,
) -> Result<Vec<Checkpoint>> {
    Walk { at: newest, first, reader }.take(options.checkpoints_kept as usize).collect()
}

/// The whole checkpoints of a log, newest first.
struct Walk<R> {
    /// The next record to read.
    at: Option<Lsn>,
    /// Start of the log. Checkpoints before it were removed.
    first: Lsn,
    /// Opens a reader at a position.
    reader: R,
}

impl<R: Fn(Lsn) -> LogReader> Iterator for Walk<R> {
    type Item = Result<Checkpoint>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let lsn = self.at.take().filter(|lsn| *lsn >= self.first)?;
            let stored = match read((self.reader)(lsn), lsn) {
                Ok(stored) => stored,
                Err(error) => return Some(Err(error)),
            };
            self.at = (stored.before != Lsn::ORIGIN).then_some(stored.before);
            if let Some((end, state)) = stored.whole {
                let (redo_from, bytes) = (stored.redo_from, state.len() as u64);
                return Some(Ok(Checkpoint { lsn, end, redo_from, bytes }));
            }
        }
    }
}

/// A checkpoint record as it is in the log.
struct Stored {
    redo_from: Lsn,
    before: Lsn,
    /// The record's end and the engine's state; `None` if a torn tail cut the record.
    whole: Option<(Lsn, Vec<u8>)>,
}

/// Reads the checkpoint record at `lsn`, where `reader` begins.
fn read(mut reader: LogReader, lsn: Lsn) -> Result<Stored> {
    let (mut records, mut stored) = (Records::from_anywhere(), None);
    while let Some(batch) = reader.next_batch()? {
        let stored: &mut Stored = match &mut stored {
            Some(stored) => stored,
            none => none.insert(begin(&batch, lsn)?),
        };
        records.feed::<Error>(&batch, |record| {
            if record.lsn == lsn {
                let state = record.payload.get(CHECKPOINT_HEAD_BYTES..).unwrap_or_default();
                stored.whole = Some((record.end, state.to_vec()));
            }
            Ok(())
        })?;
        if stored.whole.is_some() || records.open_since() != Some(lsn) {
            break;
        }
    }
    stored.ok_or_else(|| faulty(lsn, "position of a checkpoint", lsn))
}

/// The beginning of the checkpoint record at `lsn`. The log never divides so few bytes.
fn begin(batch: &LogBatch, lsn: Lsn) -> Result<Stored> {
    for frame in batch.frames()? {
        let frame = frame?;
        let begins = matches!(frame.part, Part::Full | Part::First);
        if frame.lsn == lsn && begins && frame.kind == RecordKind::Checkpoint as u8 {
            let payload = Payload::decode(frame.bytes).map_err(|source| Error::Payload { lsn, source })?;
            let Payload { redo_from, before, .. } = payload;
            if redo_from > lsn || before >= lsn {
                return Err(faulty(lsn, "redo point or predecessor of a checkpoint", redo_from.max(before)));
            }
            return Ok(Stored { redo_from, before, whole: None });
        }
    }
    Err(faulty(lsn, "position of a checkpoint", lsn))
}

fn faulty(lsn: Lsn, what: &'static str, value: Lsn) -> Error {
    Error::Payload { lsn, source: DecodeError::Range { what, value: value.get() } }
}
