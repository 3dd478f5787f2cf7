//! `pitr wal`: inspects the folder of a local log, even while a writer uses it. Changes nothing.

pub(crate) mod args;
mod document;

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;

use pitr::format::log::{Frame, Part, SegmentHeader};
use pitr::format::record::{Record, RecordKind};
use pitr::format::{Lsn, Severity, TxId};
use pitr::vfs::OsFs;
use pitr::wal::{self, Contents, Finding, Inspection, LogBatch};

use self::args::{Wal, WalDump, WalLook};
use crate::args::Global;
use crate::failure::{CliError, Exit};
use crate::output::values::Time;

pub(crate) fn run(global: &Global, args: &Wal) -> Result<(), CliError> {
    match args {
        Wal::Inspect(look) => inspect(global, look),
        Wal::Verify(look) => verify(global, look),
        Wal::Dump(dump_args) => dump(global, dump_args),
    }
}

fn look(dir: &Path, archived_to: Option<u64>) -> Result<Inspection, CliError> {
    let archived_to = archived_to.map_or(Lsn::ORIGIN, Lsn::new);
    Inspection::new(Arc::new(OsFs), dir, archived_to).map_err(|error| explain(&error))
}

fn explain(error: &wal::Error) -> CliError {
    match error {
        wal::Error::NoLog { .. } => CliError::usage(error).next(
            "give the folder with the .seg files; `pitr watch` keeps one for each timeline in NAME-pitr/",
        ),
        wal::Error::Io { .. } => CliError::new(Exit::Failed, error).next("check that the folder can be read"),
        error if error.severity() == Severity::Fatal => CliError::new(Exit::Corrupt, error),
        error => CliError::new(Exit::Failed, error),
    }
}

fn inspect(global: &Global, args: &WalLook) -> Result<(), CliError> {
    let inspection = look(&args.dir, args.archived_to)?;
    let headers = inspection.segments();
    let mut findings = Findings::of(inspection.findings());
    let mut segments = Vec::new();
    for (nth, header) in headers.iter().enumerate() {
        let nothing = |_: &LogBatch| Ok::<(), wal::Error>(());
        let (contents, more) = inspection.read(header, nothing).map_err(|error| explain(&error))?;
        findings.add(&more);
        segments.push(segment(header, &contents, nth + 1 < headers.len()));
    }
    let others = inspection.leftovers().map_err(|error| explain(&error))?;
    let name =
        |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let newest = headers.last();
    global.output().answer(&document::Inspected {
        directory: args.dir.display().to_string(),
        timeline: newest.map(|header| header.timeline.get()),
        log_id: newest.map(|header| hex(&header.log_id)),
        segment_bytes: newest.map(|header| header.segment_size.bytes()),
        segments,
        tail: tail(&inspection),
        gaps: headers.windows(2).filter_map(|pair| gap(&pair[0], &pair[1])).collect(),
        other_files: others
            .iter()
            .map(|(path, bytes)| document::OtherFile { name: name(path), bytes: *bytes })
            .collect(),
        failures: findings.failures,
        gone: findings.gone,
    })
}

fn segment(header: &SegmentHeader, contents: &Contents, sealed: bool) -> document::Segment {
    document::Segment {
        segment: header.segment.get(),
        incarnation: header.incarnation.get(),
        from_lsn: header.first_batch().unwrap_or(Lsn::MAX).get(),
        sealed,
        gap_before: header.follows.gap,
        recycled: header.recycled,
        batches: contents.batches,
        frames: contents.frames,
        used_bytes: contents.used_bytes,
        first_time: contents.times.map(|(first, _)| Time(first)),
        last_time: contents.times.map(|(_, last)| Time(last)),
    }
}

fn gap(before: &SegmentHeader, after: &SegmentHeader) -> Option<document::Gap> {
    let from = before.segment_size.start_of(before.segment.checked_add(1)?)?;
    let to = after.segment_size.start_of(after.segment)?;
    after.follows.gap.then(|| document::Gap { from_lsn: from.get(), to_lsn: to.get() })
}

fn tail(inspection: &Inspection) -> document::Tail {
    let ended = |end: &wal::TailEnd| document::Tail {
        decision: "clean",
        segment: Some(end.segment.get()),
        offset: Some(end.offset),
        lsn: Some(end.at.get()),
        durable_lsn: Some(end.stated.get()),
        durable_by: end.witness.map(|witness| witness.to_string()),
        ..document::Tail::default()
    };
    match inspection.tail() {
        wal::Tail::Clean(end) => ended(end),
        wal::Tail::Cut { end, bytes } => {
            document::Tail { decision: "cut", dropped_bytes: Some(*bytes), ..ended(end) }
        }
        wal::Tail::Refused(error) => document::Tail {
            decision: "refused",
            error: Some(error.to_string()),
            ..document::Tail::default()
        },
        wal::Tail::Moving => document::Tail { decision: "moving", ..document::Tail::default() },
    }
}

/// Findings of an inspection: damage, and segments removed during it.
#[derive(Default)]
struct Findings {
    failures: Vec<document::Failure>,
    gone: Vec<u64>,
}

impl Findings {
    fn of(findings: &[Finding]) -> Self {
        let mut all = Findings::default();
        all.add(findings);
        all
    }

    fn add(&mut self, findings: &[Finding]) {
        for finding in findings {
            let (segment, offset, lsn, what) = match finding {
                Finding::Gone(segment) => {
                    self.gone.push(segment.get());
                    continue;
                }
                Finding::Damaged { segment, offset, lsn, damage, witness } => (
                    segment,
                    Some(*offset),
                    Some(lsn.get()),
                    format!("{damage}; {witness} states that the log goes on"),
                ),
                Finding::Record { segment, offset, lsn, error } => {
                    (segment, Some(*offset), Some(lsn.get()), error.to_string())
                }
                Finding::Segment { segment, error } => (segment, None, None, error.to_string()),
                other => {
                    let what = format!("{other:?}");
                    self.failures.push(document::Failure { segment: 0, offset: None, lsn: None, what });
                    continue;
                }
            };
            self.failures.push(document::Failure { segment: segment.get(), offset, lsn, what });
        }
    }
}

fn verify(global: &Global, args: &WalLook) -> Result<(), CliError> {
    let inspection = look(&args.dir, args.archived_to)?;
    let (contents, more) = inspection.verify().map_err(|error| explain(&error))?;
    let mut findings = Findings::of(inspection.findings());
    findings.add(&more);
    let refused = matches!(inspection.tail(), wal::Tail::Refused(_));
    let damaged = findings.failures.len().max(usize::from(refused));
    let sum = |of: fn(&Contents) -> u64| contents.iter().map(of).sum();
    global.output().answer(&document::Verified {
        ok: damaged == 0,
        segments: contents.len() as u64,
        batches: sum(|contents| contents.batches),
        frames: sum(|contents| contents.frames),
        checked_bytes: sum(|contents| contents.batch_bytes),
        tail: tail(&inspection),
        failures: findings.failures,
        gone: findings.gone,
    })?;
    if damaged == 0 {
        return Ok(());
    }
    let places = if damaged == 1 { "one place".to_owned() } else { format!("{damaged} places") };
    Err(CliError::new(Exit::Corrupt, format!("the log is damaged in {places}"))
        .at(args.dir.display())
        .next("restore from the archive; do not write to this log again")
        .after_the_answer())
}

fn dump(global: &Global, args: &WalDump) -> Result<(), CliError> {
    let inspection = look(&args.dir, None)?;
    let mut sheet = Sheet { out: std::io::stdout().lock(), json: global.json, frames: 0 };
    let mut findings = Findings::of(inspection.findings());
    let outcome = inspection.segments().iter().try_for_each(|header| {
        let each = |batch: &LogBatch| print_batch(&mut sheet, args, batch);
        findings.add(&inspection.read(header, each)?.1);
        Ok(())
    });
    // The output is one complete document, even if the log ends in an error.
    let closed = if matches!(outcome, Err(Stop::Output(_))) { Ok(()) } else { sheet.close() };
    match outcome.and(closed) {
        // The reader closed the pipe.
        Err(Stop::Output(error)) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
        Err(Stop::Output(error)) => return Err(CliError::new(Exit::Failed, error).at("standard output")),
        Err(Stop::Log(error)) => return Err(explain(&error).after_the_answer()),
        Ok(()) => {}
    }
    match findings.failures.len() {
        0 => Ok(()),
        damaged => Err(CliError::new(Exit::Corrupt, format!("{damaged} damaged places were skipped"))
            .at(args.dir.display())
            .next("`pitr wal verify` lists them")
            .after_the_answer()),
    }
}

/// Why a dump ends early.
enum Stop {
    Log(wal::Error),
    Output(std::io::Error),
}

impl From<wal::Error> for Stop {
    fn from(error: wal::Error) -> Self {
        Stop::Log(error)
    }
}

fn print_batch(sheet: &mut Sheet<'_>, args: &WalDump, batch: &LogBatch) -> Result<(), Stop> {
    let (from, to) = (args.from.map_or(Lsn::ORIGIN, Lsn::new), args.to.map_or(Lsn::MAX, Lsn::new));
    if batch.end() <= from || batch.header.lsn >= to {
        return Ok(());
    }
    for frame in batch.frames()? {
        let frame = frame?;
        let wanted = args.tx.is_none_or(|tx| frame.tx == TxId::new(tx));
        if wanted && frame.lsn >= from && frame.lsn < to {
            sheet.print(&describe(&frame, args.payload)).map_err(Stop::Output)?;
        }
    }
    Ok(())
}

fn describe(frame: &Frame<'_>, payload: bool) -> document::Frame {
    let part = match frame.part {
        Part::Full => "whole",
        Part::First => "first",
        Part::Middle => "middle",
        Part::Last => "last",
    };
    let record = (frame.part == Part::Full).then(|| Record::decode(frame.kind, frame.bytes).ok()).flatten();
    let time = match record {
        Some(Record::Commit(commit)) => Some(Time(commit.time)),
        Some(Record::Watermark(time)) => Some(Time(time)),
        _ => None,
    };
    document::Frame {
        lsn: frame.lsn.get(),
        kind: RecordKind::from_u8(frame.kind)
            .map_or_else(|| format!("kind {}", frame.kind), |kind| name_of(kind).to_owned()),
        part,
        partition: frame.partition.get(),
        tx: frame.tx.get(),
        bytes: frame.bytes.len() as u64,
        record_bytes: frame.total_len,
        time,
        payload: payload.then(|| hex(frame.bytes)),
    }
}

fn name_of(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Image => "image",
        RecordKind::SetLength => "set-length",
        RecordKind::Data => "data",
        RecordKind::Commit => "commit",
        RecordKind::Abort => "abort",
        RecordKind::Watermark => "watermark",
        RecordKind::ClockStep => "clock-step",
        RecordKind::Gap => "gap",
        RecordKind::Note => "note",
        RecordKind::Checkpoint => "checkpoint",
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Prints frames one at a time: a log may be larger than memory. With JSON, all frames form one
/// document.
struct Sheet<'a> {
    out: std::io::StdoutLock<'a>,
    json: bool,
    frames: u64,
}

impl Sheet<'_> {
    fn print(&mut self, frame: &document::Frame) -> std::io::Result<()> {
        self.frames += 1;
        if !self.json {
            return writeln!(self.out, "{}", frame.line());
        }
        let before = if self.frames == 1 { "{\"frames\": [\n" } else { ",\n" };
        self.out.write_all(before.as_bytes())?;
        serde_json::to_writer(&mut self.out, frame).map_err(std::io::Error::from)
    }

    fn close(mut self) -> Result<(), Stop> {
        let end = match (self.json, self.frames) {
            (false, _) => "",
            (true, 0) => "{\"frames\": []}\n",
            (true, _) => "\n]}\n",
        };
        self.out.write_all(end.as_bytes()).and_then(|()| self.out.flush()).map_err(Stop::Output)
    }
}
