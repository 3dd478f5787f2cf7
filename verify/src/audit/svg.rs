//! The drawings of the report.

use super::{AuditedRehearsal, AuditedSource, Moment, Span};
use std::fmt::Write as _;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;

/// A duration, with more digits if it is short.
pub(super) fn seconds(took: f64) -> String {
    if took < 1.0 { format!("{took:.3}") } else { format!("{took:.1}") }
}

/// A horizontal axis of time.
struct Axis {
    from: i64,
    to: i64,
}

impl Axis {
    fn of(times: impl Iterator<Item = Moment>) -> Option<Self> {
        let micros: Vec<i64> = times.map(|moment| moment.0.micros()).collect();
        let (from, to) = (*micros.iter().min()?, *micros.iter().max()?);
        Some(Axis { from, to: to.max(from.saturating_add(1)) })
    }

    fn x(&self, at: Moment) -> f64 {
        // Differences of times as numbers of a drawing: precision does not matter.
        let part = (at.0.micros() as f64 - self.from as f64) / (self.to as f64 - self.from as f64);
        LEFT + part * (WIDTH - LEFT - RIGHT)
    }

    fn labels(&self, out: &mut String, y: f64, ends: (Moment, Moment)) {
        let _ = write!(out, r#"<text x="{LEFT}" y="{y}">{}</text>"#, ends.0.0);
        let right = WIDTH - RIGHT;
        let _ = write!(out, r#"<text x="{right}" y="{y}" text-anchor="end">{}</text>"#, ends.1.0);
    }
}

fn open(out: &mut String, height: f64, title: &str) {
    let _ = write!(
        out,
        r#"<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-label="{title}">"#
    );
}

/// The restorable spans, a row for each timeline, with the snapshots above them. Nothing if there
/// are none.
pub(super) fn spans(source: &AuditedSource) -> String {
    const ROW: f64 = 22.0;
    let ends = source.restorable.iter().flat_map(|span| [span.from, span.to]);
    let Some(axis) = Axis::of(ends.clone().chain(source.snapshot_times.iter().copied())) else {
        return String::new();
    };
    let mut timelines: Vec<u32> = source.restorable.iter().map(|span| span.timeline).collect();
    timelines.sort_unstable();
    timelines.dedup();
    let height = 50.0 + ROW * timelines.len() as f64;
    let mut out = String::new();
    open(&mut out, height, "restorable spans of time");
    for at in &source.snapshot_times {
        let x = axis.x(*at);
        let _ = write!(out, r#"<path class="snapshot" d="M{x:.1} 16 l-4 -8 h8 z"/>"#);
    }
    for Span { timeline, from, to, .. } in &source.restorable {
        let row = timelines.iter().position(|known| known == timeline).unwrap_or(0) as f64;
        let (x, y) = (axis.x(*from), 20.0 + row * ROW);
        let width = (axis.x(*to) - x).max(1.5);
        let _ = write!(out, r#"<rect class="span" x="{x:.1}" y="{y}" width="{width:.1}" height="14"/>"#);
    }
    for (row, timeline) in timelines.iter().enumerate() {
        let y = 31.0 + row as f64 * ROW;
        let _ = write!(out, r#"<text x="0" y="{y}">timeline {timeline}</text>"#);
    }
    let all = ends.chain(source.snapshot_times.iter().copied());
    if let (Some(from), Some(to)) = (all.clone().min(), all.max()) {
        axis.labels(&mut out, height - 10.0, (from, to));
    }
    out + "</svg>"
}

/// The durations of the rehearsals over time. Nothing if there are none.
pub(super) fn rehearsals(rehearsals: &[AuditedRehearsal]) -> String {
    const HEIGHT: f64 = 160.0;
    const FLOOR: f64 = 130.0;
    let Some(axis) = Axis::of(rehearsals.iter().map(|one| one.at)) else { return String::new() };
    let most = rehearsals.iter().map(|one| one.restore_seconds).fold(0.001, f64::max);
    let y = |took: f64| FLOOR - took / most * (FLOOR - 20.0);
    let mut out = String::new();
    open(&mut out, HEIGHT, "seconds of each rehearsed restore");
    let (right, top) = (WIDTH - RIGHT, y(most));
    let _ = write!(out, r#"<path class="axis" d="M{LEFT} {top} V{FLOOR} H{right}"/>"#);
    let _ = write!(
        out,
        r#"<text x="0" y="{}">{} s</text><text x="0" y="{FLOOR}">0 s</text>"#,
        top + 5.0,
        seconds(most)
    );
    for one in rehearsals {
        let class = if one.count == 0 { "sound" } else { "fault" };
        let (x, y) = (axis.x(one.at), y(one.restore_seconds));
        let _ = write!(out, r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="4"/>"#);
    }
    if let (Some(first), Some(last)) = (rehearsals.first(), rehearsals.last()) {
        axis.labels(&mut out, HEIGHT - 10.0, (first.at, last.at));
    }
    out + "</svg>"
}
