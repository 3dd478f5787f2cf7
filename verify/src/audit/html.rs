//! The report as a page.

use super::{Audit, AuditedFault, AuditedRehearsal, AuditedSource, CheckedObjects, Span, svg};
use std::fmt;
use std::fmt::Write as _;

const STYLE: &str = "\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24 }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-top: 1px solid #d0d7de; padding-top: 1rem }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 } caption { text-align: left; font-weight: 600 }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #eaeef2; vertical-align: top }
td.number, th.number { text-align: right } .good { color: #1a7f37 } .bad { color: #cf222e; font-weight: 600 }
svg { display: block; max-width: 100%; height: auto; margin: .5rem 0 } svg text { font-size: 11px; fill: #57606a }
.span { fill: #4ac26b } .snapshot { fill: #0969da } .axis { fill: none; stroke: #8c959f }
circle.sound { fill: #1a7f37 } circle.fault { fill: #cf222e }";

/// A text of the repository, with the characters of markup replaced.
struct Text<T>(T);

impl<T: fmt::Display> fmt::Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.to_string().chars() {
            match part {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// A number of bytes with a decimal unit.
fn size(bytes: u64) -> String {
    let units = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let value = bytes as f64;
    match units.iter().find(|(unit, _)| value >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", value / unit),
        None => format!("{bytes} B"),
    }
}

fn verdict(faults: u64) -> String {
    match faults {
        0 => r#"<span class="good">sound</span>"#.to_owned(),
        count => format!(r#"<span class="bad">{count} findings</span>"#),
    }
}

impl Audit {
    /// The report as one page. It has no scripts and refers to nothing outside itself.
    #[must_use]
    pub fn html(&self) -> String {
        let mut out = String::from("<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">");
        let repository = Text(&self.repository);
        let _ = writeln!(
            out,
            "<title>Verification of {repository}</title>\n<style>{STYLE}</style></head>\n<body>"
        );
        let _ = writeln!(out, "<h1>Verification of {repository}</h1>");
        let encrypted = if self.encrypted { "encrypted" } else { "not encrypted" };
        let _ = writeln!(
            out,
            "<p>Made {} by pitr {}. The repository is {encrypted}. Everything is to be verified once in {} days.</p>",
            self.created.0,
            env!("CARGO_PKG_VERSION"),
            self.window_days
        );
        self.summary(&mut out);
        match &self.objects {
            None => out.push_str("<p>The objects were not checked for this report.</p>\n"),
            Some(objects) => objects.write(&mut out),
        }
        self.sources.iter().for_each(|source| source.write(&mut out));
        out + "</body>\n</html>\n"
    }

    fn summary(&self, out: &mut String) {
        if self.sources.is_empty() {
            out.push_str("<p>The repository has no source.</p>\n");
            return;
        }
        out.push_str("<table><caption>Sources</caption><tr><th>source</th><th class=\"number\">score</th>");
        out.push_str("<th class=\"number\">snapshots rehearsed</th><th>restorable until</th><th>last rehearsal</th></tr>\n");
        for source in &self.sources {
            let until = source.restorable.iter().map(|span| span.to).max();
            let until = until.map_or_else(|| "nothing".to_owned(), |at| at.0.to_string());
            let last = source.rehearsals.last();
            let last =
                last.map_or_else(|| "never".to_owned(), |one| format!("{} {}", one.at.0, verdict(one.count)));
            let class = if source.score < 70 { "number bad" } else { "number" };
            let _ = writeln!(
                out,
                "<tr><td>{}</td><td class=\"{class}\">{}</td><td class=\"number\">{} of {}</td><td>{until}</td><td>{last}</td></tr>",
                Text(&source.name),
                source.score,
                source.rehearsed,
                source.snapshots
            );
        }
        out.push_str("</table>\n");
    }
}

impl CheckedObjects {
    fn write(&self, out: &mut String) {
        let CheckedObjects { count, bytes, snapshots, faults } = self;
        let found = verdict(faults.len() as u64);
        let _ = writeln!(
            out,
            "<p>{count} objects, {} and {snapshots} snapshots checked for this report: {found}.</p>",
            size(*bytes)
        );
        if faults.is_empty() {
            return;
        }
        out.push_str("<table><caption>Faults of objects</caption><tr><th>object</th><th>fault</th><th>snapshots that it spoils</th></tr>\n");
        for AuditedFault { object, what, snapshots } in faults {
            let spoiled = snapshots.join(", ");
            let _ = writeln!(
                out,
                "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
                Text(object),
                Text(what),
                Text(spoiled)
            );
        }
        out.push_str("</table>\n");
    }
}

impl AuditedSource {
    fn write(&self, out: &mut String) {
        let _ = writeln!(out, "<section><h2>{}</h2>", Text(&self.name));
        let checked = match self.objects_checked {
            None => "Not every byte of the objects was checked within the time".to_owned(),
            Some(at) => format!("Every byte of the objects was last checked at {}", at.0),
        };
        let _ = writeln!(
            out,
            "<p>Score {} of 100. {} of {} snapshots were rehearsed and sound. {checked}.</p>",
            self.score, self.rehearsed, self.snapshots
        );
        if !self.concerns.is_empty() {
            out.push_str("<ul>");
            self.concerns.iter().for_each(|concern| _ = write!(out, "<li>{}</li>", Text(concern)));
            out.push_str("</ul>\n");
        }
        self.write_spans(out);
        self.write_rehearsals(out);
        out.push_str("</section>\n");
    }

    fn write_spans(&self, out: &mut String) {
        if self.restorable.is_empty() {
            out.push_str("<p>Nothing can be restored.</p>\n");
            return;
        }
        out.push_str(&svg::spans(self));
        out.push_str("<table><caption>Every commit in these spans can be restored</caption><tr><th class=\"number\">timeline</th>");
        out.push_str("<th>from</th><th>to</th><th class=\"number\">transactions</th></tr>\n");
        for Span { timeline, from, to, from_tx, to_tx } in &self.restorable {
            let _ = writeln!(
                out,
                "<tr><td class=\"number\">{timeline}</td><td>{}</td><td>{}</td><td class=\"number\">{from_tx} to {to_tx}</td></tr>",
                from.0, to.0
            );
        }
        out.push_str("</table>\n");
    }

    fn write_rehearsals(&self, out: &mut String) {
        if self.rehearsals.is_empty() {
            out.push_str("<p>No restore was rehearsed.</p>\n");
            return;
        }
        out.push_str(&svg::rehearsals(&self.rehearsals));
        out.push_str(
            "<table><caption>Rehearsed restores</caption><tr><th>time</th><th class=\"number\">state</th>",
        );
        out.push_str("<th class=\"number\">size</th><th class=\"number\">seconds, of the RTO</th><th>outcome</th><th>by</th></tr>\n");
        for AuditedRehearsal { at, tx, bytes, restore_seconds, rto_seconds, count, findings, by } in
            &self.rehearsals
        {
            let promised = rto_seconds.map_or_else(String::new, |rto| format!(" of {rto}"));
            let _ = write!(
                out,
                "<tr><td>{}</td><td class=\"number\">transaction {tx}</td><td class=\"number\">{}</td><td class=\"number\">{}{promised}</td><td>{}",
                at.0,
                size(*bytes),
                svg::seconds(*restore_seconds),
                verdict(*count)
            );
            findings.iter().for_each(|finding| _ = write!(out, "<br>{}", Text(finding)));
            let _ = writeln!(out, "</td><td>{}</td></tr>", Text(by));
        }
        out.push_str("</table>\n");
    }
}
