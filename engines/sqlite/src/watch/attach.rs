//! Begins to capture: at the last position, after a gap, or on a forked timeline.

use std::sync::Arc;
use std::time::Duration;

use pitr_archive::ForkReason;
use pitr_engine::Event;
use pitr_format::record::{GapReason, Record, RecordKind};
use pitr_format::{Lsn, PartitionId, Timestamp, TxId};
use pitr_wal::{BatchBuilder, Records, Wal};

use super::begin::{Fork, fork};
use super::binding::Content;
use super::shared::{Log, Shared};
use super::snapshots::PendingBase;
use super::state::State;
use crate::base::BaseView;
use crate::capture::{Begin, Capture};
use crate::decide::{Found, Resume, resume};
use crate::error::{Error, Result};
use crate::keeper::{Keeper, KeeperOptions};
use crate::position::Position;
use crate::sample::PageSample;
use crate::source::Source;

/// A source whose commits are captured.
pub(super) struct Attached {
    pub(super) source: Source,
    pub(super) capture: Capture,
    pub(super) keeper: Keeper,
    /// The base that must be read before the archive can restore anything of this attachment.
    pub(super) base: Option<PendingBase>,
}

/// The last position of the source in the local log.
#[derive(Debug, Clone, Copy)]
struct LastPosition {
    position: Position,
    /// Position in the local log after the commit or note that holds `position`.
    lsn: Lsn,
    time: Timestamp,
}

/// How the local log continues.
enum Continuation {
    /// Capture continues at the end of the log. True if everything committed since then is
    /// certainly still in the `-wal` file. If false, the first look finds out.
    Resume(LastPosition, bool),
    /// Capture begins after a gap.
    Gap(GapReason),
    /// Capture continues from an earlier commit, on a new timeline.
    Rewound(LastPosition),
}

impl Shared {
    /// Attaches to the source. `broken` is the reason why the last attachment ended early, if it
    /// did. [`AttachOutcome::Forked`] asks to attach again on a new timeline.
    pub(super) fn attach(&self, state: &State, broken: Option<GapReason>) -> Result<AttachOutcome> {
        let mut source = Source::open(self.fs(), Arc::clone(self.clock()), &self.watched.place.resolved)?;
        let now = self.clock().now();
        let version = source.header().sqlite_version;
        if old_library(version) && state.should_warn(version, now) {
            (self.events)(Event::Warning(format!(
                "the application uses SQLite {}.{}.{}, which can lose commits if a checkpoint and a restart of its log coincide; use 3.51.3 or newer",
                version / 1_000_000,
                version / 1000 % 1000,
                version % 1000
            )));
        }
        let (left, sample) = self.read_back()?;
        let beginning = match (left, broken) {
            (_, Some(reason)) => Continuation::Gap(reason),
            (None, None) => Continuation::Gap(GapReason::StateLost),
            (Some(left), None) => self.compare(&source, left, now)?,
        };
        let last_tx = self.last_tx(left)?;
        match beginning {
            Continuation::Resume(left, joined) => {
                let position = Position { tx: last_tx, ..left.position };
                let last_look = self.log.wal.last_time().max(left.time);
                let capture = self.capture(Begin { position, last_look, joined, sample });
                Ok(AttachOutcome::Attached(Box::new(self.resume_capture(source, capture)?)))
            }
            Continuation::Gap(reason) => {
                let first_contact = left.is_none() && broken.is_none();
                if !first_contact {
                    match self.content(&mut source, state)? {
                        Content::Restored(log) => return Ok(AttachOutcome::Forked(log)),
                        Content::Unchanged => {}
                        Content::Unknown => {
                            self.append_gap(reason, now)?;
                            (self.events)(Event::Gap(reason));
                        }
                    }
                }
                // The base is the state at some moment between `began` and `time`. The base is
                // valid from `time` on. Commits that it doesn't contain happened after `began`.
                let began = self.clock().now();
                let (mut view, position) = BaseView::take(&mut source, last_tx)?;
                let time = self.clock().now();
                let at = self.append_position(&position)?;
                // Nothing was committed after `position` before the read transaction began: `take`
                // has checked.
                let sample = PageSample::default();
                let capture = self.capture(Begin { position, last_look: began, joined: true, sample });
                view.fill(capture.sample());
                let base = PendingBase { view, at, tx: last_tx, time, full: false };
                Ok(AttachOutcome::Attached(Box::new(self.attached(source, capture, Some(base)))))
            }
            Continuation::Rewound(common) => {
                drop(source);
                // The old history stays restorable up to its end.
                self.ship(true)?;
                let fork = Fork {
                    parent: Some(self.log.timeline),
                    at: common.lsn,
                    reason: ForkReason::SourceRewound,
                    root: None,
                    time: common.time,
                    gap: false,
                };
                let log = fork_log(self, state, &fork)?;
                append_note(&log.wal, &common.position)?;
                (self.events)(Event::Forked { timeline: log.timeline, reason: ForkReason::SourceRewound });
                Ok(AttachOutcome::Forked(Box::new(log)))
            }
        }
    }

    fn compare(&self, source: &Source, left: LastPosition, now: Timestamp) -> Result<Continuation> {
        if source.header().page_bytes != left.position.page_bytes {
            return Ok(Continuation::Gap(GapReason::ShapeChanged));
        }
        let Some(observed) = source.observe()? else {
            return Err(Error::Busy { path: self.watched.place.resolved.clone() });
        };
        let header = observed.header;
        let salts = header.map(|h| h.salts);
        let ours = header.filter(|_| salts == left.position.salts);
        let stated =
            ours.map(|h| source.log().stated_checksum(&h, left.position.frame)).transpose()?.flatten();
        let stamp = source.file_stamp(now)?;
        let file_unchanged = left.position.file.is_some() && left.position.file == stamp;
        let found = Found { salts, published: observed.published, stated, file_unchanged };
        match resume(&left.position, &found) {
            Resume::Continue => Ok(Continuation::Resume(left, file_unchanged)),
            Resume::Gap => Ok(Continuation::Gap(GapReason::LogRestarted)),
            Resume::Rewound => {
                // The last captured commit that the `-wal` file still holds unchanged (FAILURES
                // 40).
                let Some(header) = ours else { return Ok(Continuation::Gap(GapReason::LogRestarted)) };
                let is_unchanged = |at: &Position| {
                    at.salts == Some(header.salts)
                        && at.frame <= observed.published.frames
                        && matches!(source.log().stated_checksum(&header, at.frame), Ok(Some(sum)) if sum == at.checksum)
                };
                let common = last_position(&self.log.wal, is_unchanged)?;
                Ok(common.map_or(Continuation::Gap(GapReason::LogRestarted), Continuation::Rewound))
            }
        }
    }

    fn resume_capture(&self, source: Source, mut capture: Capture) -> Result<Attached> {
        if capture.look(&source)?.is_none() {
            return Err(Error::Busy { path: self.watched.place.resolved.clone() });
        }
        self.log.wal.sync()?;
        let archived = self.ship(true)?;
        let base = match self.usable_snapshot(archived)? {
            Some(_) => None,
            // An earlier run did not finish its base.
            None => Some(self.base_here(&source, &capture, false)?),
        };
        Ok(self.attached(source, capture, base))
    }

    /// The last position in the local log, and the expected pages of the database there.
    fn read_back(&self) -> Result<(Option<LastPosition>, PageSample)> {
        let wal = &self.log.wal;
        let saved = PageSample::load(self.fs(), &self.watched.state, self.log.timeline);
        let saved = saved.filter(|(_, end)| wal.first() <= *end && *end <= wal.end());
        let (mut sample, covered) = saved.unwrap_or((PageSample::default(), Lsn::ORIGIN));
        let left = read_positions(
            wal,
            |_| true,
            |lsn, seen| match seen {
                _ if lsn <= covered => {}
                LogEntry::Image(page, data) => sample.logged(page, data),
                LogEntry::Position(position) => {
                    sample.committed(position.salts, position.frame);
                    sample.resize(position.pages);
                }
            },
        )?;
        Ok((left, sample))
    }

    /// A base at the capture's position. Call it right after a look.
    pub(super) fn base_here(&self, source: &Source, capture: &Capture, full: bool) -> Result<PendingBase> {
        let mut view = BaseView::at_position(source, capture.position())?;
        view.fill(capture.sample());
        let at = self.append_position(capture.position())?;
        Ok(PendingBase { view, at, tx: capture.last_tx(), time: self.clock().now(), full })
    }

    fn attached(&self, source: Source, capture: Capture, base: Option<PendingBase>) -> Attached {
        let keeper = Keeper::new(
            self.log.wal.clone(),
            Arc::clone(self.clock()),
            KeeperOptions::default(),
            self.quiet.clone(),
        );
        Attached { source, capture, keeper, base }
    }

    fn capture(&self, begin: Begin) -> Capture {
        Capture::new(self.log.wal.clone(), Arc::clone(self.clock()), begin)
    }

    /// The last transaction number of the source. Numbers grow across all its timelines.
    fn last_tx(&self, left: Option<LastPosition>) -> Result<TxId> {
        let mut last = left.map_or(TxId::NONE, |left| left.position.tx);
        let catalog = self.archive.catalog()?;
        for timeline in catalog.timelines().keys() {
            if let Some((name, _)) = catalog.logs(*timeline).last()
                && let Some(commit) = self.archive.footer(name)?.last_commit(name.to)
            {
                last = last.max(commit.tx);
            }
        }
        Ok(last)
    }

    fn append_gap(&self, reason: GapReason, now: Timestamp) -> Result<()> {
        let since = self.log.wal.last_time();
        self.log.wal.skip()?;
        let mut batch = BatchBuilder::new();
        batch.push(PartitionId::FIRST, TxId::NONE, &Record::Gap { reason, since, until: now })?;
        self.log.wal.append(batch)?;
        Ok(())
    }

    /// Logs a watermark from the mark of a killed watcher: the time up to which the log was
    /// complete.
    pub(super) fn log_alive_mark(&self) -> Result<()> {
        let Some(mark) = self.alive.read() else { return Ok(()) };
        let wal = &self.log.wal;
        if mark.timeline != self.log.timeline || mark.end > wal.end() || mark.until <= wal.last_time() {
            return Ok(());
        }
        let mut batch = BatchBuilder::new();
        batch.push(PartitionId::FIRST, TxId::NONE, &Record::Watermark(mark.until))?;
        wal.commit(batch)?;
        Ok(())
    }

    /// Notes the current position in a log that forks from this one and states no time yet.
    pub(super) fn carry_position_to(&self, log: &Log) -> Result<()> {
        let Some(left) = last_position(&self.log.wal, |_| true)? else { return Ok(()) };
        append_note(&log.wal, &left.position)?;
        let mut batch = BatchBuilder::new();
        let now = self.clock().now();
        batch.push(PartitionId::FIRST, TxId::NONE, &Record::Watermark(now))?;
        log.wal.commit(batch)?;
        Ok(())
    }

    /// Notes the stamp of the database file if the file holds everything captured. Waits up to
    /// `patience` for the file to settle.
    pub(super) fn note_file(&self, source: &Source, capture: &Capture, patience: Duration) -> Result<()> {
        let position = *capture.position();
        let all_in_file = |source: &Source| -> Result<bool> {
            let Some(observed) = source.observe()? else { return Ok(false) };
            let published = observed.published;
            // After a restart without new frames, the file holds everything too.
            let ours =
                observed.header.map(|h| h.salts) == position.salts && published.frames == position.frame;
            Ok(published.frames == published.backfilled && (ours || published.frames == 0))
        };
        if !all_in_file(source)? {
            return Ok(());
        }
        let mut stamp = source.file_stamp(self.clock().now())?;
        if stamp.is_none() {
            self.clock().sleep(patience);
            stamp = source.file_stamp(self.clock().now())?;
        }
        if stamp.is_some() && all_in_file(source)? {
            self.append_position(&Position { file: stamp, ..position })?;
        }
        Ok(())
    }

    /// Notes the position of the source; returns the durable end of the log after the note.
    pub(super) fn append_position(&self, position: &Position) -> Result<Lsn> {
        append_note(&self.log.wal, position)
    }
}

/// Result of attaching.
pub(super) enum AttachOutcome {
    /// Capture is established.
    Attached(Box<Attached>),
    /// The log continues on this timeline: attach again with it.
    Forked(Box<Log>),
}

fn fork_log(shared: &Shared, state: &State, from: &Fork) -> Result<Log> {
    fork(&shared.context, state, &shared.writer, from, shared.options)
}

fn append_note(wal: &Wal, position: &Position) -> Result<Lsn> {
    let mut batch = BatchBuilder::new();
    batch.push(PartitionId::FIRST, TxId::NONE, &Record::Note(&position.encode()))?;
    Ok(wal.commit(batch)?.end)
}

/// The last position in the local log for which `accepts` returns true.
fn last_position(wal: &Wal, accepts: impl Fn(&Position) -> bool) -> Result<Option<LastPosition>> {
    read_positions(wal, accepts, |_, _| {})
}

/// An item that [`read_positions`] passes to its visitor.
enum LogEntry<'a> {
    /// The content of a page.
    Image(u32, &'a [u8]),
    /// The position after a commit, or a position that was noted.
    Position(&'a Position),
}

/// Like [`last_position`]. Passes each image and position, with the end of its record, to `visit`.
fn read_positions(
    wal: &Wal,
    accepts: impl Fn(&Position) -> bool,
    mut visit: impl FnMut(Lsn, LogEntry<'_>),
) -> Result<Option<LastPosition>> {
    let mut reader = wal.reader(wal.first())?;
    // The log before this position may be removed already, with the first part of a record.
    let mut records = Records::from_anywhere();
    let mut last = None;
    while let Some(batch) = reader.next_batch()? {
        records.feed::<Error>(&batch, |record| {
            let state = |source| Error::State { what: "a record", source };
            let known = matches!(
                RecordKind::from_u8(record.kind),
                Some(RecordKind::Image | RecordKind::Commit | RecordKind::Note)
            );
            if !known {
                return Ok(());
            }
            let (note, time) = match Record::decode(record.kind, record.payload).map_err(state)? {
                Record::Image { block, data, .. } => {
                    if let Ok(page) = u32::try_from(block.saturating_add(1)) {
                        visit(record.end, LogEntry::Image(page, data));
                    }
                    return Ok(());
                }
                Record::Commit(commit) => (commit.note, commit.time),
                Record::Note(note) => (note, batch.header.time),
                _ => return Ok(()),
            };
            let position = Position::decode(note).map_err(state)?;
            visit(record.end, LogEntry::Position(&position));
            if accepts(&position) {
                last = Some(LastPosition { position, lsn: record.end, time });
            }
            Ok(())
        })?;
    }
    Ok(last)
}

/// True for SQLite 3.7.0 to 3.51.2, which can lose commits when a checkpoint meets a restart of the
/// log.
fn old_library(version: u32) -> bool {
    (3_007_000..3_051_003).contains(&version)
}
