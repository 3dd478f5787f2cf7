//! Compares recovery to a moment: PostgreSQL from a base backup and its archive, Litestream, and
//! pitr.
//!
//! The same rows are filled in and the same transactions follow: 1 to 64 rows at random places, or
//! new ones. Each contender keeps its copy in a local folder. The source is deleted, the copies are
//! dropped from the page cache, and the state before the last transactions is restored. The time
//! ends when the result is on the disk and, for PostgreSQL, when the server accepts connections.
//! A second moment is in the middle, while the application writes at full speed: the restored
//! database says how many transactions it has. It is named by its time, which is all that
//! Litestream takes, and for pitr also by its transaction.

mod files;
mod postgres;

use crate::Result;
use crate::size::{Size, Sizes, check_free};
use crate::verdict::{self, Verdict};
use std::fmt::Write as _;

const HEAD: &str = "# Recovery compared with PostgreSQL and Litestream

Each table is one run of the command above it. MB are decimal. Commits, changed rows and changed pages
are those between the base and the target; a page has 4 KiB in SQLite and 8 KiB in PostgreSQL. The
log's rate is the bytes of log, divided by the time that the server's own report states (PostgreSQL),
or by which a restore takes longer than one of the base alone (pitr).
";
/// Targets, from these sizes on: fixed costs dominate below them.
const REPLAY_MIN: f64 = 3.0;
const RESTORE_MIN: f64 = 8.0;
const TARGETS_FROM: u64 = 4_000_000_000;
/// Part of the log before the target.
const TARGET_SHARE: f64 = 0.97;

#[derive(Debug, clap::Args)]
pub(crate) struct Restores {
    /// Size of the base
    #[arg(long, default_value = "1G")]
    base: Size,
    /// Size of the log after it
    #[arg(long, default_value = "500M")]
    wal: Size,
    /// The same seed writes the same data
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only these contenders: pitr, litestream, postgres
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// Runs a contender; `None` if it is not installed.
type Contender = fn(Work) -> Result<Option<Outcome>>;

/// What all contenders do.
#[derive(Debug, Clone, Copy)]
struct Work {
    sizes: Sizes,
    seed: u64,
}

impl Work {
    /// Bytes of log at which the target is noted.
    fn target_at(&self) -> u64 {
        (self.sizes.log.bytes() as f64 * TARGET_SHARE) as u64
    }
}

/// What the application did up to the target.
#[derive(Debug, Clone, Copy, Default)]
struct Changes {
    /// Size of the base, bytes.
    base: u64,
    /// Transactions after the base, and rows that they changed or added.
    commits: u64,
    rows: u64,
    /// Pages that differ from the base: of 4 KiB in SQLite, of 8 KiB in PostgreSQL.
    pages: u64,
}

/// A restore of the busy moment.
#[derive(Debug, Clone, Copy)]
struct Moment {
    /// Commits that it should have.
    wanted: u64,
    /// Those that it has; `None` if it was refused.
    found: Option<u64>,
}

impl Moment {
    fn is_exact(self) -> bool {
        self.found == Some(self.wanted)
    }

    /// What came out, as a cell of the table.
    fn said(moment: Option<Moment>) -> String {
        match moment {
            None => "-".into(),
            Some(Moment { found: None, .. }) => "refused".into(),
            Some(moment) if moment.is_exact() => "exact".into(),
            Some(Moment { wanted, found: Some(found) }) => {
                format!("{:+} commits", found as i64 - wanted as i64)
            }
        }
    }
}

/// A contender's results.
#[derive(Debug, Clone, Default)]
struct Outcome {
    name: String,
    changes: Changes,
    /// Seconds of the whole restore, and of one without the log.
    seconds: f64,
    base_seconds: Option<f64>,
    /// Log that was replayed, bytes, and the seconds for it.
    log: Option<(u64, f64)>,
    /// Bytes of copies that were kept.
    stored: u64,
    /// Difference of the restored target, if it differs.
    difference: Option<String>,
    /// The busy moment, named by its time and by its transaction.
    by_time: Option<Moment>,
    by_transaction: Option<Moment>,
    /// How it ran.
    settings: String,
}

impl Outcome {
    fn log_rate(&self) -> Option<f64> {
        self.log.map(|(bytes, seconds)| bytes as f64 / seconds / 1e6)
    }

    fn exact(&self) -> String {
        self.difference.clone().unwrap_or_else(|| "exact".into())
    }
}

impl Restores {
    pub(crate) fn run(&self) -> Result<bool> {
        let mut command = format!(
            "cargo xtask compare restore --base {} --wal {} --seed {}",
            self.base, self.wal, self.seed
        );
        if !self.only.is_empty() {
            command += &format!(" --only {}", self.only.join(","));
        }
        println!("{command}");
        let work = Work { sizes: Sizes { base: self.base, log: self.wal }, seed: self.seed };
        let mut verdict = Verdict::default();
        let mut outcomes = Vec::new();
        let contenders: [(&str, Contender); 3] =
            [("pitr", files::pitr), ("litestream", files::litestream), ("postgres", postgres::restore)];
        for (name, run) in contenders {
            if !self.only.is_empty() && !self.only.iter().any(|only| only == name) {
                continue;
            }
            // Source, copies and result, some of them not compressed.
            check_free(&crate::world::root(), 4 * (self.base.bytes() + self.wal.bytes()))?;
            match run(work)? {
                Some(outcome) => {
                    print(&outcome, &mut verdict);
                    outcomes.push(outcome);
                }
                None => verdict.figure(format_args!("{name} is not installed; skipped")),
            }
        }
        judge(&outcomes, work, &mut verdict);
        keep(&command, &outcomes)?;
        verdict.close(&command)
    }
}

fn print(outcome: &Outcome, verdict: &mut Verdict) {
    let rate = outcome.log_rate().map_or_else(String::new, |rate| format!(", log {rate:.0} MB/s"));
    verdict.figure(format_args!(
        "{}: {:.2} s{rate}, target {}, busy moment by time {}, by transaction {}",
        outcome.name,
        outcome.seconds,
        outcome.exact(),
        Moment::said(outcome.by_time),
        Moment::said(outcome.by_transaction)
    ));
}

/// Prints the ratios and checks the targets. Only pitr can fail.
fn judge(outcomes: &[Outcome], work: Work, verdict: &mut Verdict) {
    let of = |name: &str| outcomes.iter().find(|outcome| outcome.name.starts_with(name));
    let Some(pitr) = of("pitr") else { return };
    verdict.check(pitr.difference.is_none(), format_args!("pitr: {}", pitr.exact()));
    let is_exact = pitr.by_transaction.is_some_and(Moment::is_exact);
    let said = Moment::said(pitr.by_transaction);
    verdict.check(is_exact, format_args!("pitr: the busy moment by its transaction: {said}"));
    // A time within a commit is refused: the watcher does not see the commit's own time.
    let is_right = pitr.by_time.is_none_or(|moment| moment.found.is_none() || moment.is_exact());
    let said = Moment::said(pitr.by_time);
    verdict.check(is_right, format_args!("pitr: the busy moment by its time: {said}"));
    let is_full = work.sizes.base.bytes() >= TARGETS_FROM;
    let mut ratio = |what: &str, ratio: f64, least: f64| {
        verdict.figure(format_args!("{what}: {ratio:.1} times (wanted {least:.0} from 4 GB on)"));
        verdict.check(ratio >= least || !is_full, format_args!("{what}: {ratio:.1} times"));
    };
    if let Some((ours, theirs)) = pitr.log_rate().zip(of("postgres").and_then(Outcome::log_rate)) {
        ratio("replay of the log, MB/s, to PostgreSQL", ours / theirs, REPLAY_MIN);
    }
    if let Some(theirs) = of("litestream") {
        ratio("whole restore, to Litestream", theirs.seconds / pitr.seconds, RESTORE_MIN);
    }
}

fn keep(command: &str, outcomes: &[Outcome]) -> Result<()> {
    let (today, machine, commit) = (verdict::today(), verdict::machine(), verdict::commit());
    let mut text = format!(
        "\n## {today}, {machine}, pitr at {commit}\n\n`{command}`\n\n\
         | | base | commits | changed rows | changed pages | whole restore | base alone | log | log, MB/s | stored | target | busy moment by time | by transaction |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- | --- |\n"
    );
    let seconds = |seconds: f64| format!("{seconds:.2} s");
    for outcome in outcomes {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} MB | {} | {} | {} | {} | {} | {} | {} | {} MB | {} | {} | {} |",
            outcome.name,
            outcome.changes.base / 1_000_000,
            outcome.changes.commits,
            outcome.changes.rows,
            outcome.changes.pages,
            seconds(outcome.seconds),
            outcome.base_seconds.map_or_else(|| "-".into(), seconds),
            outcome.log.map_or_else(|| "-".into(), |(bytes, _)| format!("{} MB", bytes / 1_000_000)),
            outcome.log_rate().map_or_else(|| "-".into(), |rate| format!("{rate:.0}")),
            outcome.stored / 1_000_000,
            outcome.exact(),
            Moment::said(outcome.by_time),
            Moment::said(outcome.by_transaction)
        );
    }
    for outcome in outcomes {
        let _ = writeln!(text, "\n{}: {}", outcome.name, outcome.settings);
    }
    print!("{text}");
    verdict::keep("restore.md", HEAD, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(wanted: u64, found: Option<u64>) -> Option<Moment> {
        Some(Moment { wanted, found })
    }

    fn outcome(name: &str, seconds: f64, log: Option<(u64, f64)>) -> Outcome {
        Outcome { name: name.into(), seconds, log, by_transaction: moment(7, Some(7)), ..Outcome::default() }
    }

    fn failures(pitr: Outcome, base: &str) -> usize {
        let others =
            [outcome("litestream 0.5", 50.0, None), outcome("postgres 15", 9.0, Some((1_000_000_000, 4.0)))];
        let sizes = Sizes { base: base.parse().unwrap(), log: "1G".parse().unwrap() };
        let mut verdict = Verdict::default();
        judge(&[&[pitr][..], &others[..]].concat(), Work { sizes, seed: 1 }, &mut verdict);
        verdict.failures()
    }

    #[test]
    fn targets_count_from_4_gb_on_and_exactness_always() {
        let good = outcome("pitr", 5.0, Some((1_000_000_000, 1.0)));
        let slow = Outcome { seconds: 7.0, log: Some((1_000_000_000, 2.0)), ..good.clone() };
        let wrong = Outcome { difference: Some("a block".into()), ..good.clone() };
        let early = Outcome { by_transaction: moment(7, Some(6)), ..good.clone() };
        let by_time = |found| Outcome { by_time: moment(7, found), ..good.clone() };
        assert_eq!((failures(by_time(Some(6)), "1G"), failures(by_time(None), "1G")), (1, 0));
        assert_eq!((failures(good.clone(), "4G"), failures(good, "1G")), (0, 0));
        assert_eq!((failures(slow.clone(), "4G"), failures(slow, "1G")), (2, 0));
        assert_eq!((failures(wrong, "1G"), failures(early, "1G")), (1, 1));
    }

    #[test]
    fn a_moment_that_misses_commits_says_how_many() {
        let said = |found| Moment::said(moment(100, found));
        assert_eq!((said(Some(65)).as_str(), said(Some(100)).as_str()), ("-35 commits", "exact"));
        assert_eq!(said(None), "refused");
        assert_eq!(Moment::said(None), "-");
    }
}
