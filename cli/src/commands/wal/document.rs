//! Answers of `pitr wal`.

use std::fmt::Write as _;

use serde::Serialize;

use crate::output::Document;
use crate::output::human::{self, Align, Table};
use crate::output::values::Time;

/// Answer of `wal inspect`.
#[derive(Debug, Serialize)]
pub(crate) struct Inspected {
    pub(crate) directory: String,
    pub(crate) timeline: Option<u32>,
    pub(crate) log_id: Option<String>,
    pub(crate) segment_bytes: Option<u32>,
    pub(crate) segments: Vec<Segment>,
    pub(crate) tail: Tail,
    pub(crate) gaps: Vec<Gap>,
    /// Other files: spare segments and leftovers of interrupted creations.
    pub(crate) other_files: Vec<OtherFile>,
    pub(crate) failures: Vec<Failure>,
    /// Segments that were removed or recycled during the inspection.
    pub(crate) gone: Vec<u64>,
}

/// A segment file.
#[derive(Debug, Serialize)]
pub(crate) struct Segment {
    pub(crate) segment: u64,
    pub(crate) incarnation: u32,
    pub(crate) from_lsn: u64,
    pub(crate) sealed: bool,
    pub(crate) gap_before: bool,
    pub(crate) recycled: bool,
    pub(crate) batches: u64,
    pub(crate) frames: u64,
    pub(crate) used_bytes: u64,
    pub(crate) first_time: Option<Time>,
    pub(crate) last_time: Option<Time>,
}

/// How opening the log would treat its end.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Tail {
    /// `clean`, `cut`, `refused`, or `moving` if a writer appends too fast for an inspection.
    pub(crate) decision: &'static str,
    pub(crate) segment: Option<u64>,
    pub(crate) offset: Option<u64>,
    pub(crate) lsn: Option<u64>,
    /// The log states that everything below this LSN is durable. Between it and the end, durability
    /// is unknown.
    pub(crate) durable_lsn: Option<u64>,
    pub(crate) durable_by: Option<String>,
    pub(crate) dropped_bytes: Option<u64>,
    pub(crate) error: Option<String>,
}

/// Skipped positions: commits of the source were not seen here.
#[derive(Debug, Serialize)]
pub(crate) struct Gap {
    pub(crate) from_lsn: u64,
    pub(crate) to_lsn: u64,
}

/// A file that is not a segment.
#[derive(Debug, Serialize)]
pub(crate) struct OtherFile {
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

/// A damaged place in the log.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    pub(crate) segment: u64,
    pub(crate) offset: Option<u64>,
    pub(crate) lsn: Option<u64>,
    pub(crate) what: String,
}

impl Failure {
    fn line(&self) -> String {
        let mut line = format!("segment {}", self.segment);
        if let (Some(offset), Some(lsn)) = (self.offset, self.lsn) {
            let _ = write!(line, ", offset {offset}, LSN {lsn}");
        }
        format!("{line}: {}\n", self.what)
    }
}

impl Document for Inspected {
    fn for_people(&self) -> String {
        let mut text = format!("log       {}\n", self.directory);
        if let (Some(timeline), Some(log_id), Some(bytes)) = (self.timeline, &self.log_id, self.segment_bytes)
        {
            let size = human::bytes(bytes.into());
            let _ = write!(text, "timeline  {timeline}\nidentity  {log_id}\nsegments  of {size}\n");
        }
        text += &self.tail.lines();
        let mut table = Table::new(&[
            ("SEGMENT", Align::Right),
            ("INCARNATION", Align::Right),
            ("FROM LSN", Align::Right),
            ("STATE", Align::Left),
            ("BATCHES", Align::Right),
            ("FRAMES", Align::Right),
            ("USED", Align::Right),
            ("FIRST TIME (UTC)", Align::Left),
            ("LAST TIME (UTC)", Align::Left),
        ]);
        for segment in &self.segments {
            table.row([
                segment.segment.to_string(),
                segment.incarnation.to_string(),
                segment.from_lsn.to_string(),
                segment.state(),
                segment.batches.to_string(),
                segment.frames.to_string(),
                human::bytes(segment.used_bytes),
                segment.first_time.map(|time| time.to_string()).unwrap_or_default(),
                segment.last_time.map(|time| time.to_string()).unwrap_or_default(),
            ]);
        }
        text += &table.render();
        for gap in &self.gaps {
            let _ = writeln!(text, "gap from LSN {} to {}: not seen", gap.from_lsn, gap.to_lsn);
        }
        for file in &self.other_files {
            let _ = writeln!(text, "not a segment: {}, {}", file.name, human::bytes(file.bytes));
        }
        text + &findings(&self.failures, &self.gone)
    }
}

impl Segment {
    fn state(&self) -> String {
        let mut state = if self.sealed { "sealed" } else { "newest" }.to_owned();
        if self.gap_before {
            state += ", after a gap";
        }
        if self.recycled {
            state += ", recycled";
        }
        state
    }
}

impl Tail {
    fn lines(&self) -> String {
        let place = match (self.segment, self.offset, self.lsn) {
            (Some(segment), Some(offset), Some(lsn)) => {
                format!(" at LSN {lsn} (segment {segment}, offset {offset})")
            }
            _ => String::new(),
        };
        let mut text = match (self.decision, self.dropped_bytes, &self.error) {
            ("cut", Some(bytes), _) => {
                format!(
                    "end       torn tail: opening would cut it{place} and drop {} after it\n",
                    human::bytes(bytes)
                )
            }
            (_, _, Some(error)) => format!("end       opening would refuse the log: {error}\n"),
            ("moving", ..) => "end       a writer appends too fast for an inspection\n".to_owned(),
            _ => format!("end       clean{place}\n"),
        };
        if let (Some(durable), Some(lsn)) = (self.durable_lsn, self.lsn) {
            let by = self.durable_by.as_deref().unwrap_or("the segment's header only");
            let _ = writeln!(text, "durable   to LSN {durable}, stated by {by}");
            if durable < lsn {
                let _ =
                    writeln!(text, "          {} bytes after it are not known to be durable", lsn - durable);
            }
        }
        text
    }
}

/// Answer of `wal verify`.
#[derive(Debug, Serialize)]
pub(crate) struct Verified {
    pub(crate) ok: bool,
    pub(crate) segments: u64,
    pub(crate) batches: u64,
    pub(crate) frames: u64,
    pub(crate) checked_bytes: u64,
    pub(crate) tail: Tail,
    pub(crate) failures: Vec<Failure>,
    pub(crate) gone: Vec<u64>,
}

impl Document for Verified {
    fn for_people(&self) -> String {
        let mut text = format!(
            "{} segments, {} batches, {} frames, {} checked\n",
            self.segments,
            self.batches,
            self.frames,
            human::bytes(self.checked_bytes)
        );
        text += &self.tail.lines();
        text + &findings(&self.failures, &self.gone)
    }
}

fn findings(failures: &[Failure], gone: &[u64]) -> String {
    let gone = gone.iter().map(|segment| format!("segment {segment}: removed during the inspection\n"));
    failures.iter().map(Failure::line).chain(gone).collect()
}

/// A frame of `wal dump`: a record or a fragment of one.
#[derive(Debug, Serialize)]
pub(crate) struct Frame {
    pub(crate) lsn: u64,
    pub(crate) kind: String,
    pub(crate) part: &'static str,
    pub(crate) partition: u32,
    pub(crate) tx: u64,
    /// Length of this fragment, bytes.
    pub(crate) bytes: u64,
    /// Length of the whole record, bytes.
    pub(crate) record_bytes: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payload: Option<String>,
}

impl Frame {
    /// The frame as a line of text.
    pub(crate) fn line(&self) -> String {
        let Frame { lsn, kind, part, partition, tx, bytes, record_bytes, .. } = self;
        let mut line =
            format!("{lsn:>16}  {kind:<10} {part:<6} partition {partition}  tx {tx}  {bytes} bytes");
        if u64::from(*record_bytes) != *bytes {
            let _ = write!(line, " of {record_bytes}");
        }
        if let Some(time) = self.time {
            let _ = write!(line, "  {time}");
        }
        if let Some(payload) = &self.payload {
            let _ = write!(line, "  {payload}");
        }
        line
    }
}
