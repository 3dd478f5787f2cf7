//! The verdict, and the page of results.

use super::day::{self, DAY_SECONDS};
use super::litestream::LEVEL_0_KEPT;
use super::writer::ROWS_MAX;
use super::{Outcome, arrivals};
use crate::Result;
use crate::verdict::{self, Verdict};
use pitr_testkit::proxy::{Counts, Kind};
use std::fmt::Write as _;

const HEAD: &str = "# Archives compared with Litestream

Each table is one run of the command above it, on one machine, with all programs and the server on it. MB and kB are decimal.
The *lag* of a commit is the time from the return of `COMMIT` in the application until the store lists the object with which the
commit can be restored, and all objects before it; the store is listed every 20 ms, past the proxy that counts requests. *Added* is
the size of the archive at the end less its size before the first commit. Requests and processor seconds are those of the archiving
process from the first commit to the last. Prices are those of S3 standard: PUT and LIST 0.005, GET and HEAD 0.0004 US dollars for
1,000; deletions are free. A day is the run in proportion, 86,400 seconds.
";
/// Interval at which both programs collect by default, seconds.
const INTERVAL: f64 = 1.0;

/// Prints the figures of a run, and keeps them for the ledger.
pub(super) fn print(outcome: &Outcome, verdict: &mut Verdict) {
    let Outcome { name, store, commits, lags, kept, cpu, seconds, .. } = outcome;
    let requests = match a_minute(outcome) {
        Some(requests) => format!(", {requests:.0} requests a minute"),
        None => String::new(),
    };
    verdict.figure(format_args!(
        "{name}, {store}: {commits} commits, lag {:.2} s, at the 99th percentile {:.2}{requests}, {:.0} B added a commit, \
         {} commits restorable, after compaction {}, {:.1}% of a core",
        lags.median,
        lags.p99,
        kept.bytes.added as f64 / *commits as f64,
        kept.restorable.0,
        kept.restorable.1,
        cpu / seconds * 100.0
    ));
}

/// Requests of all kinds a minute.
fn a_minute(outcome: &Outcome) -> Option<f64> {
    outcome.counts.as_ref().map(|counts| counts.requests() as f64 / outcome.seconds * 60.0)
}

/// Checks that pitr keeps every commit, and is ahead in lag and requests.
pub(super) fn judge(ours: &Outcome, theirs: &Outcome, verdict: &mut Verdict) {
    let (all, store) = (ours.commits, &ours.store);
    let kept = ours.kept.restorable;
    verdict.check(
        kept == (all, all),
        format_args!("{store}: pitr keeps {} of {all} commits, and {} after prune", kept.0, kept.1),
    );
    let mut ahead = |what: &str, ours: f64, theirs: f64| {
        verdict.check(ours < theirs, format_args!("{store}: {what}: pitr {ours:.2}, litestream {theirs:.2}"));
    };
    ahead("lag, median, s", ours.lags.median, theirs.lags.median);
    ahead("lag, 99th percentile, s", ours.lags.p99, theirs.lags.p99);
    if let Some((ours, theirs)) = a_minute(ours).zip(a_minute(theirs)) {
        ahead("requests a minute", ours, theirs);
    }
}

/// Appends the table to the page. `ratio` is how zstd compresses the database.
pub(super) fn keep(command: &str, rate: u32, ratio: f64, outcomes: &[Outcome]) -> Result<()> {
    let (today, machine, commit) = (verdict::today(), verdict::machine(), verdict::commit());
    let text = format!(
        "\n## {today}, {machine}, pitr at {commit}\n\n`{command}`\n\n{}\n{}",
        table(outcomes),
        bounds(rate, ratio, outcomes)
    );
    print!("{text}");
    verdict::keep("archive.md", HEAD, &text)
}

fn table(outcomes: &[Outcome]) -> String {
    let heads = outcomes.iter().map(|outcome| format!("{}, {}", outcome.name, outcome.store));
    let mut table = row("", heads);
    table += &row("---", outcomes.iter().map(|_| "---:".to_owned()));
    let mut line = |name: &str, cell: &dyn Fn(&Outcome) -> Option<String>| {
        let cells: Vec<Option<String>> = outcomes.iter().map(cell).collect();
        if cells.iter().any(Option::is_some) {
            table += &row(name, cells.into_iter().map(|cell| cell.unwrap_or_else(|| "-".to_owned())));
        }
    };
    line("commits", &|o| Some(o.commits.to_string()));
    line("seconds", &|o| Some(format!("{:.1}", o.seconds)));
    line("lag, median", &|o| Some(format!("{:.3} s", o.lags.median)));
    line("lag, 99th percentile", &|o| Some(format!("{:.3} s", o.lags.p99)));
    line("lag, longest", &|o| Some(format!("{:.3} s", o.lags.longest)));
    for kind in Kind::ALL {
        line(&format!("{} a minute", spelled(kind)), &|o| of_kind(o, kind, 60.0));
    }
    line("requests a minute", &|o| a_minute(o).map(|requests| format!("{requests:.0}")));
    for kind in Kind::ALL {
        line(&format!("{} a day", spelled(kind)), &|o| of_kind(o, kind, DAY_SECONDS));
    }
    let price = |o: &Outcome| {
        let counts = o.counts.as_ref()?;
        Some(day::price(|kind| counts.of(kind).requests, o.seconds))
    };
    line("price of a day's requests", &|o| price(o).map(|usd| format!("{usd:.3} USD")));
    line("requests of `prune`, once", &|o| o.kept.pruned.as_ref().map(said));
    line("stored before the first commit", &|o| Some(kilobytes(o.before as f64)));
    line("added by a commit", &|o| Some(kilobytes(o.kept.bytes.added as f64 / o.commits as f64)));
    line("added by a commit, after `prune`", &|o| {
        o.kept.bytes.compacted.map(|bytes| kilobytes(bytes as f64 / o.commits as f64))
    });
    line("added by a day, nothing deleted", &|o| {
        Some(megabytes(o.kept.bytes.added as f64 / o.seconds * DAY_SECONDS))
    });
    line("added by a day, with compaction", &|o| o.kept.bytes.day.map(megabytes));
    line("commits that can be restored, at the end", &|o| Some(of_all(o.kept.restorable.0, o.commits)));
    line("commits that can be restored, after compaction", &|o| Some(of_all(o.kept.restorable.1, o.commits)));
    line("processor time", &|o| Some(format!("{:.2} s", o.cpu)));
    line("processor time of a commit", &|o| Some(format!("{:.2} ms", o.cpu / o.commits as f64 * 1e3)));
    line("of a core", &|o| Some(format!("{:.1}%", o.cpu / o.seconds * 100.0)));
    table
}

fn row(name: &str, cells: impl Iterator<Item = String>) -> String {
    format!("| {name} | {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

/// Requests of a kind in this time, if any occurred.
fn of_kind(outcome: &Outcome, kind: Kind, seconds: f64) -> Option<String> {
    let requests = outcome.counts.as_ref()?.of(kind).requests;
    (requests > 0).then(|| format!("{:.0}", requests as f64 / outcome.seconds * seconds))
}

fn spelled(kind: Kind) -> String {
    format!("{kind:?}").to_uppercase()
}

/// All requests, by kind.
fn said(counts: &Counts) -> String {
    let kinds = Kind::ALL.into_iter().filter(|kind| counts.of(*kind).requests > 0);
    kinds.map(|kind| format!("{} {}", counts.of(kind).requests, spelled(kind))).collect::<Vec<_>>().join(", ")
}

fn of_all(kept: u64, commits: u64) -> String {
    format!("{kept} of {commits}")
}

fn kilobytes(bytes: f64) -> String {
    format!("{:.2} kB", bytes / 1e3)
}

fn megabytes(bytes: f64) -> String {
    format!("{:.1} MB", bytes / 1e6)
}

/// How the programs ran, and what bounds the figures.
fn bounds(rate: u32, ratio: f64, outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "Application: 1 to {ROWS_MAX} rows of 200 to 1,200 bytes and a counter in each transaction, {rate} transactions a second at \
         random distances, `synchronous=NORMAL`, WAL, its own automatic checkpoints. pitr: `watch` with its defaults (`--rpo 1s`, zstd 3, \
         local directory with fsync), then `prune --keep-within 7d --execute`. Litestream: `replicate` with its defaults (sync interval \
         1 s, levels of 30 s, 5 min and 1 h, level 0 kept for 5 min).\n\n"
    );
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "- Lag: both collect for {INTERVAL:.0} s. Commits at random times wait {:.2} s of it in the median and {:.2} s at the 99th \
         percentile; the rest is work, waits between threads, and up to {} ms until the next listing.",
        INTERVAL / 2.0,
        INTERVAL * 0.99,
        arrivals::LIST_EVERY.as_millis()
    );
    let _ = writeln!(
        text,
        "- Requests: one PUT for each interval of {INTERVAL:.0} s with commits, {:.0} a minute. The rest of pitr's: one HEAD a PUT, which \
         asks for a newer writer, and one GET for each object that is merged. The rest of Litestream's: listings for its levels and for \
         deletions. Its deletions begin after {:.0} s and are not in the run.",
        60.0 / INTERVAL,
        LEVEL_0_KEPT
    );
    if let Some(images) = outcomes.iter().find_map(|outcome| outcome.kept.images) {
        let _ = writeln!(
            text,
            "- Bytes: a commit changes {} of pages in the mean, and zstd 3 compresses the database {ratio:.2} : 1 in frames \
             of 1 MiB. So keeping each page of each commit takes {}. A program that keeps one state a second stores a page that several \
             commits change only once.",
            kilobytes(images),
            kilobytes(images / ratio)
        );
    }
    let _ = writeln!(
        text,
        "- A day with compaction: pitr, what `prune` leaves of the run, in proportion; the parts of the last, incomplete merge count in \
         full. Litestream, the files of level 1 in proportion and {LEVEL_0_KEPT:.0} s of level 0; its levels 2 and 3 and its daily copy \
         of the database come on top and are not in the run."
    );
    let _ = writeln!(
        text,
        "- Commits that can be restored: pitr's by `pitr log`, of which 10 were restored and compared with the application's counter. \
         Litestream's are the states at the end of each file, all restored; after compaction only those of level 1 are left, and after \
         the files of level 0 expire nothing between them."
    );
    text
}

#[cfg(test)]
mod tests {
    use super::super::Kept;
    use super::super::arrivals::Lags;
    use super::super::day::Bytes;
    use super::*;

    fn outcome(name: &str, lag: f64, restorable: (u64, u64)) -> Outcome {
        let bytes = Bytes { added: 1_000_000, compacted: None, day: None };
        let kept = Kept { commits: Vec::new(), restorable, bytes, pruned: None, images: None };
        let lags = Lags { median: lag, p99: 2.0 * lag, longest: 3.0 * lag };
        let (store, counts) = ("local disk".to_owned(), None);
        let (name, commits, seconds, before, cpu) = (name.to_owned(), 100, 10.0, 5_000, 0.5);
        Outcome { name, store, commits, seconds, before, kept, lags, cpu, counts }
    }

    fn failures(ours: &Outcome, theirs: &Outcome) -> usize {
        let mut verdict = Verdict::default();
        judge(ours, theirs, &mut verdict);
        verdict.failures()
    }

    #[test]
    fn pitr_must_keep_every_commit_and_be_ahead_in_lag() {
        let theirs = outcome("litestream", 0.9, (40, 4));
        assert_eq!(failures(&outcome("pitr", 0.5, (100, 100)), &theirs), 0);
        assert_eq!(failures(&outcome("pitr", 0.5, (100, 99)), &theirs), 1);
        assert_eq!(failures(&outcome("pitr", 0.5, (99, 100)), &theirs), 1);
        assert_eq!(failures(&outcome("pitr", 0.9, (100, 100)), &theirs), 2);
    }

    #[test]
    fn a_line_that_nobody_has_a_figure_for_is_left_out() {
        let text = table(&[outcome("pitr", 0.5, (100, 100)), outcome("litestream", 0.9, (40, 4))]);
        assert!(!text.contains("a minute") && !text.contains("price"), "{text}");
        assert!(text.contains("| added by a commit | 10.00 kB | 10.00 kB |"), "{text}");
        assert!(text.contains("after compaction | 100 of 100 | 4 of 100 |"), "{text}");
        assert!(text.contains("| of a core | 5.0% | 5.0% |"), "{text}");
        let cells: Vec<usize> = text.lines().map(|line| line.matches('|').count()).collect();
        assert!(cells.iter().all(|count| *count == 4), "{text}");
    }
}
