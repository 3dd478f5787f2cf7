//! Which local log a watch writes to: that of the last watch, or a new timeline.
//!
//! T is the newest timeline of the watch's instance of the source, or of all instances if the watch
//! takes over all of them. Timelines of other instances are never continued.
//!
//! | archive | local log of T | the watch |
//! | --- | --- | --- |
//! | no timeline | - | begins timeline 1 |
//! | has T | opens, and continues at the end of the archived T | continues it |
//! | has T | anything else (1) | forks from the end of T (2) |
//! | has other timelines only | - | forks from the end of the newest timeline (2) |
//!
//! 1. The log is missing, damaged, shorter than the archive, or another log.
//! 2. After a gap. If the database is a restored state, from that state and without a gap.
//!
//! No position that the archive has is ever written again. An unusable local log is moved aside,
//! not deleted.

use std::path::Path;

use pitr_archive::{Archive, Catalog, ForkReason, Shipper, Timeline, Writer};
use pitr_engine::{CaptureOptions, EngineContext, Event, Events};
use pitr_format::{Lsn, SegmentSize, Severity, TimelineId, Timestamp};
use pitr_wal::{Start, Wal, WalOptions};

use super::binding;
use super::shared::{Log, ship_options};
use super::state::State;
use crate::error::{Error, Result};

/// Options with a small memory limit: a watch runs beside the application for months. One of
/// hundreds of logs has no thread of its own.
fn wal_options(options: CaptureOptions) -> WalOptions {
    WalOptions { waiting_bytes_max: 2 << 20, background: !options.is_fleet, ..WalOptions::default() }
}

/// Size of the segments of a new log; small for one of hundreds.
fn segment_size(options: CaptureOptions) -> SegmentSize {
    if options.is_fleet { SegmentSize::SMALL } else { SegmentSize::DEFAULT }
}

/// The fork of a new timeline from an older one.
pub(super) struct Fork {
    pub(super) parent: Option<TimelineId>,
    pub(super) at: Lsn,
    pub(super) reason: ForkReason,
    /// Hash of the restored state that the timeline begins with.
    pub(super) root: Option<[u8; 32]>,
    /// Last time in the part of the parent that belongs to the new timeline.
    pub(super) time: Timestamp,
    /// True if earlier changes of the source were not logged.
    pub(super) gap: bool,
}

/// Opens the log to continue, or begins a new timeline.
pub(super) fn open_log(
    context: &EngineContext,
    state: &State,
    archive: &Archive,
    writer: &Writer,
    options: CaptureOptions,
    database: &Path,
    events: &Events,
) -> Result<Log> {
    let catalog = archive.catalog()?;
    let own = newest_own(archive, &catalog, writer, state)?;
    let Some(newest) = own.or(catalog.newest_timeline()) else {
        let (at, time) = (Lsn::ORIGIN, Timestamp::MIN);
        return fork(
            context,
            state,
            writer,
            &Fork { parent: None, at, reason: ForkReason::First, root: None, time, gap: true },
            options,
        );
    };
    let existing = match own {
        Some(own) => open_existing(context, state, writer, &catalog, own, options),
        None => Ok(None),
    };
    match existing {
        Ok(Some(log)) => return Ok(log),
        Ok(None) => {}
        Err(Error::Wal(e)) if !unusable(&e) => return Err(Error::Wal(e)),
        Err(Error::Archive(e)) if !diverged(&e) => return Err(Error::Archive(e)),
        Err(e) => {
            let suffix = context.env().clock.now().micros().to_string();
            let path = state.set_aside(newest, &suffix)?;
            events(Event::SetAside { path, why: e.to_string() });
        }
    }
    let at = catalog
        .end(newest)
        .or_else(|| catalog.timelines().get(&newest).map(|t| t.fork))
        .unwrap_or(Lsn::ORIGIN);
    let time = match catalog.logs(newest).last() {
        Some((name, _)) => archive.footer(name)?.watermark,
        None => Timestamp::MIN,
    };
    let reason = ForkReason::LogBehind;
    let end_of_newest = Fork { parent: Some(newest), at, reason, root: None, time, gap: true };
    let restored = binding::restored_fork(context, archive, &catalog, database)?;
    let from = restored.unwrap_or(end_of_newest);
    let log = fork(context, state, writer, &from, options)?;
    events(Event::Forked { timeline: log.timeline, reason: from.reason });
    Ok(log)
}

/// The newest timeline of the writer's instance. A timeline of which nothing is archived belongs to
/// the instance that has its local log.
fn newest_own(
    archive: &Archive,
    catalog: &Catalog,
    writer: &Writer,
    state: &State,
) -> Result<Option<TimelineId>> {
    if writer.takes_over_all() {
        return Ok(catalog.newest_timeline());
    }
    let (owners, local) = (archive.owners(catalog)?, state.timelines()?);
    let is_own = |timeline: &&TimelineId| match owners.get(timeline) {
        Some(owner) => *owner == writer.instance(),
        None => local.contains(timeline),
    };
    Ok(catalog.timelines().keys().rfind(is_own).copied())
}

/// The local log of a timeline; `None` if there is none.
fn open_existing(
    context: &EngineContext,
    state: &State,
    writer: &Writer,
    catalog: &Catalog,
    timeline: TimelineId,
    options: CaptureOptions,
) -> Result<Option<Log>> {
    if !state.timelines()?.contains(&timeline) {
        return Ok(None);
    }
    let archived = catalog.end(timeline).unwrap_or(Lsn::ORIGIN);
    let dir = state.log_dir(timeline);
    let (wal, recovered) = Wal::open(context.env(), &dir, archived, &wal_options(options))?;
    let shipper = Shipper::new(writer.clone(), catalog, &wal, timeline, recovered.log_id, ship_options())?;
    Ok(Some(Log::new(timeline, wal, shipper)))
}

/// True if the log itself is unusable. False if it only can't be read at the moment.
fn unusable(error: &pitr_wal::Error) -> bool {
    !matches!(error.severity(), Severity::Retry) && !matches!(error, pitr_wal::Error::Locked { .. })
}

fn diverged(error: &pitr_archive::Error) -> bool {
    use pitr_archive::Error as E;
    matches!(error, E::Diverged { .. } | E::LocalBehind { .. } | E::Wal(_))
}

/// Claims a new timeline and creates its local log.
pub(super) fn fork(
    context: &EngineContext,
    state: &State,
    writer: &Writer,
    from: &Fork,
    options: CaptureOptions,
) -> Result<Log> {
    let now = context.env().clock.now();
    let ambiguous = (now < from.time).then_some((now, from.time));
    let timeline = writer.claim_timeline(&Timeline {
        parent: from.parent,
        fork: from.at,
        reason: from.reason,
        created: now,
        ambiguous,
        root: from.root,
    })?;
    let log_id = context.objects.random_bytes()?;
    // After a fork, times may repeat. Times that occur in both histories are ambiguous, and marked
    // as such.
    let time = if ambiguous.is_some() { Timestamp::MIN } else { from.time };
    let (follows, gap) = (from.at, from.gap);
    let segment_size = segment_size(options);
    let start = Start { timeline, follows, time, gap, segment_size, ..Start::first(log_id) };
    let dir = state.log_dir(timeline);
    if context.env().fs.exists(&dir).map_err(|source| Error::Open { path: dir.clone(), source })? {
        // Left by a state folder that belonged to this archive earlier.
        state.set_aside(timeline, &now.micros().to_string())?;
    }
    let wal = Wal::create(context.env(), &dir, &start, &wal_options(options))?;
    let catalog = writer.archive().catalog()?;
    let shipper = Shipper::new(writer.clone(), &catalog, &wal, timeline, log_id, ship_options())?;
    Ok(Log::new(timeline, wal, shipper))
}
