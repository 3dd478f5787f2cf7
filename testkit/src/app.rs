//! A SQLite application in its own process, driven line by line from a test.
//!
//! A test may copy a live database only from another process: in the watching process, closing the
//! copy's descriptors would drop the watcher's locks (FAILURES 38). So the test binary starts
//! itself again, runs only the test function that calls [`serve`], and talks to it over standard
//! input and output.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rusqlite::Connection;
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::types::Value;

const ENV: &str = "PITR_TESTKIT_DATABASE";
const MARK: &str = "\u{1}";

/// Serves the parent process and exits, if [`App::start`] started this process. Otherwise returns
/// at once.
///
/// One test function of each test binary must call it.
pub fn serve() {
    let Some(path) = std::env::var_os(ENV) else { return };
    let mut conn = open(Path::new(&path));
    let answer = |text: String| {
        println!("{MARK}{}", text.replace('\n', " "));
        std::io::stdout().flush().expect("the parent reads the answer");
    };
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("the parent sends text");
        let (command, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let outcome = match command {
            "sql" => run(&conn, rest),
            "copy" => copy(&conn, Path::new(rest)).map(|()| String::new()),
            "reopen" => {
                drop(conn);
                conn = open(Path::new(&path));
                Ok(String::new())
            }
            other => panic!("unknown command {other}"),
        };
        answer(match outcome {
            Ok(text) => format!("ok {text}"),
            Err(e) => format!("err {e}"),
        });
    }
    std::process::exit(0);
}

/// Opens a connection without a busy timeout. Statements may set one.
fn open(path: &Path) -> Connection {
    let conn = Connection::open(path).expect("the application opens its database");
    conn.busy_timeout(std::time::Duration::ZERO).expect("a timeout is always accepted");
    conn
}

/// Runs statements. Returns the first row of the last statement with rows, its values joined by
/// `|`.
fn run(conn: &Connection, sql: &str) -> rusqlite::Result<String> {
    let mut batch = rusqlite::Batch::new(conn, sql);
    let mut answer = String::new();
    while let Some(mut statement) = batch.next()? {
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        let mut first = None;
        while let Some(row) = rows.next()? {
            if first.is_none() {
                let values: rusqlite::Result<Vec<Value>> = (0..columns).map(|i| row.get(i)).collect();
                first = Some(values?);
            }
        }
        let text = |v: Value| match v {
            Value::Null => "NULL".to_owned(),
            Value::Integer(i) => i.to_string(),
            Value::Real(r) => r.to_string(),
            Value::Text(t) => t,
            Value::Blob(b) => format!("{} bytes", b.len()),
        };
        if columns == 0 {
            continue; // some pragmas yield rows without columns
        }
        answer = first.map(|v| v.into_iter().map(text).collect::<Vec<_>>().join("|")).unwrap_or_default();
    }
    Ok(answer)
}

fn copy(conn: &Connection, to: &Path) -> rusqlite::Result<()> {
    let mut target = Connection::open(to)?;
    let backup = rusqlite::backup::Backup::new(conn, &mut target)?;
    while backup.step(-1)? != rusqlite::backup::StepResult::Done {}
    Ok(())
}

/// The application, as the test sees it.
#[derive(Debug)]
pub struct App {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl App {
    /// Starts the application on `database`. `entry` is the path of the test function that calls
    /// [`serve`].
    #[must_use]
    pub fn start(entry: &str, database: &Path) -> App {
        let exe = std::env::current_exe().expect("a test binary has a path");
        let mut child = Command::new(exe)
            .args([entry, "--exact", "--nocapture", "--test-threads=1"])
            .env(ENV, database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the application starts");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        App { child, input, output }
    }

    fn ask(&mut self, line: &str) -> Result<String, String> {
        assert!(!line.contains('\n'), "one line for each request");
        writeln!(self.input, "{line}").expect("the application reads the request");
        self.input.flush().expect("the application reads the request");
        let mut answer = String::new();
        loop {
            answer.clear();
            let read = self.output.read_line(&mut answer).expect("the application answers");
            assert!(read > 0, "the application ended at: {line}");
            // The test harness prints lines before the first event, and does not end the first of
            // them.
            let Some((_, ours)) = answer.trim_end().split_once(MARK) else { continue };
            return match ours.split_once(' ') {
                Some(("ok", rest)) => Ok(rest.to_owned()),
                Some(("err", rest)) => Err(rest.to_owned()),
                _ => Ok(String::new()),
            };
        }
    }

    /// Runs SQL statements. Panics if one fails. Returns the first row of the last statement with
    /// rows.
    pub fn sql(&mut self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    /// Runs SQL statements. Returns the first row of the last statement with rows, or SQLite's
    /// error.
    pub fn try_sql(&mut self, sql: &str) -> Result<String, String> {
        self.ask(&format!("sql {}", sql.replace('\n', " ")))
    }

    /// Copies the database with SQLite's backup API, in the application's own process.
    pub fn copy(&mut self, to: &Path) {
        self.ask(&format!("copy {}", to.display())).unwrap_or_else(|e| panic!("copy: {e}"));
    }

    /// Closes the application's connection and opens a new one.
    pub fn reopen(&mut self) {
        self.ask("reopen").expect("reopen");
    }

    /// Kills the application with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("the application is a child process");
        self.child.wait().expect("the application is a child process");
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // A failing test must not leave the application running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
