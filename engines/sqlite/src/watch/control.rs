//! Requests to a running watcher: one process owns the log, the others ask it.
//!
//! A request is one byte. The answer is a status byte, the length of a text, and the text. The
//! socket is in the watcher's folder. If the socket's path is too long for a socket's name, the
//! path leads through the folder's descriptor.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::state::control_path;

/// Longest path that fits a socket's name, bytes.
const SOCKET_PATH_BYTES_MAX: usize = 100;
/// Longest answer, bytes.
const ANSWER_BYTES_MAX: u32 = 64 << 10;
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a watcher that archives what it has captured.
const ARCHIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// A request to a watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Take a snapshot now, incremental if possible.
    Snapshot,
    /// Take a snapshot now that reads the whole database.
    FullSnapshot,
    /// Archive every commit that returned before the request.
    Archive,
}

impl Request {
    const ALL: [Request; 3] = [Request::Snapshot, Request::FullSnapshot, Request::Archive];

    /// The byte of the request on the socket.
    const fn byte(self) -> u8 {
        match self {
            Request::Snapshot => 1,
            Request::FullSnapshot => 2,
            Request::Archive => 3,
        }
    }

    /// How long to wait for the answer; a snapshot takes as long as the database is large.
    pub const fn patience(self) -> Option<Duration> {
        match self {
            Request::Snapshot | Request::FullSnapshot => None,
            Request::Archive => Some(ARCHIVE_TIMEOUT),
        }
    }
}

/// The watcher's end of the socket.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Listens in `dir`. The socket of a dead watcher is replaced: this process holds the folder's
    /// lock.
    pub fn listen(dir: &Path) -> std::io::Result<Control> {
        let path = control_path(dir);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = with_short_path(dir, &path, |short| UnixListener::bind(short))?;
        // Users who may read the folder's files may send requests. The socket was created with the
        // umask's permissions.
        let folder = std::fs::metadata(dir)?.permissions().mode();
        let folder = if folder & 0o1000 == 0 { folder & 0o066 } else { 0 };
        std::fs::set_permissions(&path, Permissions::from_mode(0o600 | folder))?;
        listener.set_nonblocking(true)?;
        Ok(Control { listener, path })
    }

    /// The socket to wait on for requests.
    #[must_use]
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// The next request, if one waits.
    pub fn poll(&self) -> Option<(Request, Requester)> {
        let (mut stream, _) = self.listener.accept().ok()?;
        stream.set_nonblocking(false).ok()?;
        stream.set_read_timeout(Some(Duration::from_millis(100))).ok()?;
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        let request = Request::ALL.into_iter().find(|request| request.byte() == byte[0])?;
        Some((request, Requester { stream }))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // A left-over socket is harmless; the next watcher replaces it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A process that waits for an answer.
#[derive(Debug)]
pub struct Requester {
    stream: UnixStream,
}

impl Requester {
    /// Sends the answer. If the requester no longer waits, nothing happens.
    pub fn answer(mut self, outcome: Result<&str, &str>) {
        let (status, text) = match outcome {
            Ok(text) => (0u8, text),
            Err(text) => (1, text),
        };
        let len = (text.len() as u32).min(ANSWER_BYTES_MAX);
        let mut bytes = vec![status];
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&text.as_bytes()[..len as usize]);
        let _ = self.stream.write_all(&bytes);
    }
}

/// Sends a request to the watcher whose folder is `dir` and waits for its answer.
///
/// # Errors
/// The outer error says that no watcher answers. The inner one is the watcher's answer.
pub fn ask(dir: &Path, request: Request) -> std::io::Result<Result<String, String>> {
    let mut stream = with_short_path(dir, &control_path(dir), |short| UnixStream::connect(short))?;
    stream.set_write_timeout(Some(ASK_TIMEOUT))?;
    stream.set_read_timeout(request.patience())?;
    stream.write_all(&[request.byte()])?;
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
    if len > ANSWER_BYTES_MAX {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "the answer of the watcher is too long",
        ));
    }
    let mut text = vec![0; len as usize];
    stream.read_exact(&mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(if head[0] == 0 { Ok(text) } else { Err(text) })
}

fn with_short_path<T>(
    dir: &Path,
    path: &Path,
    f: impl Fn(&Path) -> std::io::Result<T>,
) -> std::io::Result<T> {
    if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return f(path);
    }
    let opened = std::fs::File::open(dir)?;
    let name = path.file_name().unwrap_or_default();
    f(&Path::new("/proc/self/fd").join(opened.as_raw_fd().to_string()).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_answered_even_below_a_long_path() {
        let root = tempfile::tempdir().unwrap();
        for dir in [root.path().to_owned(), root.path().join("d".repeat(120))] {
            std::fs::create_dir_all(&dir).unwrap();
            assert!(ask(&dir, Request::Snapshot).is_err());
            let control = Control::listen(&dir).unwrap();
            let asking = dir.clone();
            for wanted in Request::ALL {
                let asking = asking.clone();
                let requester = std::thread::spawn(move || ask(&asking, wanted).unwrap());
                let (request, from) = loop {
                    if let Some(asked) = control.poll() {
                        break asked;
                    }
                };
                assert_eq!(request, wanted);
                from.answer(Err("no"));
                assert_eq!(requester.join().unwrap(), Err("no".to_owned()));
            }
            drop(control);
            assert!(ask(&dir, Request::Snapshot).is_err());
        }
    }
}
