//! HTTP/1.1 messages, as far as the fault proxy and the set-up of the servers read them.
//!
//! Heads are kept byte for byte, because requests are signed. Bodies are passed on in pieces. Heads
//! and chunk lines have a maximum length, so that no peer makes this process allocate without
//! bounds.

use std::io::{self, BufRead, Read, Write};

/// Maximum length of a head, and of the trailers, bytes.
const HEAD_BYTES_MAX: u64 = 64 << 10;
/// Maximum length of the line before a chunk, bytes.
const CHUNK_LINE_BYTES_MAX: u64 = 1 << 10;

/// The head of a request or a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// The head as it was received, with its empty line.
    pub(crate) bytes: Vec<u8>,
    /// The request line or the status line.
    pub(crate) first: String,
    fields: Vec<(String, String)>,
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// A body of this many bytes; 0 if there is none.
    Length(u64),
    /// Chunks, the last of which is empty.
    Chunked,
    /// The body ends with the connection.
    UntilClose,
}

/// What happens to a body on its way, at an offset in bytes of content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tap {
    /// The body ends before this byte.
    pub(crate) cut_at: Option<u64>,
    /// A bit of this byte is inverted.
    pub(crate) flip_at: Option<u64>,
    /// The body waits before this byte.
    pub(crate) wait_at: Option<u64>,
}

/// How far a body came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Bytes of content that were passed on.
    pub(crate) bytes: u64,
    pub(crate) is_cut: bool,
    pub(crate) is_flipped: bool,
    pub(crate) has_waited: bool,
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended in the middle of a message")
}

/// One line with its line feed, appended to `line`. Returns its length, 0 at the end of the stream.
fn read_line(from: &mut impl BufRead, line: &mut Vec<u8>, most: u64) -> io::Result<usize> {
    let read = from.take(most).read_until(b'\n', line)?;
    match line.ends_with(b"\n") || read == 0 {
        true => Ok(read),
        false if read as u64 == most => Err(invalid("a line of the message is too long")),
        false => Err(ended()),
    }
}

impl Head {
    /// Reads a head. `None` if the stream ends before its first byte.
    pub(crate) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        loop {
            let begin = bytes.len();
            let left = HEAD_BYTES_MAX.saturating_sub(begin as u64);
            match read_line(from, &mut bytes, left)? {
                0 if begin == 0 => return Ok(None),
                0 => return Err(ended()),
                _ if matches!(bytes.get(begin..), Some(b"\r\n" | b"\n")) && begin > 0 => break,
                _ => {}
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default().to_owned();
        let field = |line: &str| {
            line.split_once(':')
                .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        };
        let fields = lines.filter_map(field).collect();
        Ok(Some(Head { first, fields, bytes }))
    }

    /// The value of a field, whose name is given in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// True if a field has this word in its list, in any case.
    pub(crate) fn says(&self, name: &str, word: &str) -> bool {
        let words = self.field(name).into_iter().flat_map(|value| value.split(','));
        words.map(str::trim).any(|found| found.eq_ignore_ascii_case(word))
    }

    /// The part of the first line with this number.
    fn part(&self, number: usize) -> &str {
        self.first.split(' ').nth(number).unwrap_or_default()
    }

    /// Method of a request.
    pub(crate) fn method(&self) -> &str {
        self.part(0)
    }

    /// Path and query of a request.
    pub(crate) fn target(&self) -> (&str, &str) {
        self.part(1).split_once('?').unwrap_or((self.part(1), ""))
    }

    /// Status of a response.
    pub(crate) fn status(&self) -> io::Result<u16> {
        self.part(1).parse().map_err(|_| invalid("a response has no status"))
    }

    /// True if the connection ends after this message.
    pub(crate) fn closes(&self) -> bool {
        self.says("connection", "close")
            || (self.first.contains("HTTP/1.0") && !self.says("connection", "keep-alive"))
    }

    fn length(&self) -> io::Result<Option<u64>> {
        let length = |value: &str| value.parse().map_err(|_| invalid("a Content-Length is no number"));
        self.field("content-length").map(length).transpose()
    }

    /// The body that follows the head of a request.
    pub(crate) fn request_body(&self) -> io::Result<Body> {
        match self.says("transfer-encoding", "chunked") {
            true => Ok(Body::Chunked),
            false => Ok(Body::Length(self.length()?.unwrap_or(0))),
        }
    }

    /// The body that follows the head of a response to a request of this method.
    pub(crate) fn response_body(&self, method: &str) -> io::Result<Body> {
        let status = self.status()?;
        if method == "HEAD" || status < 200 || matches!(status, 204 | 304) {
            return Ok(Body::Length(0));
        }
        match self.says("transfer-encoding", "chunked") {
            true => Ok(Body::Chunked),
            false => Ok(self.length()?.map_or(Body::UntilClose, Body::Length)),
        }
    }

    /// The bytes of the head with another Content-Length.
    pub(crate) fn with_length(&self, length: u64) -> Vec<u8> {
        let text = String::from_utf8_lossy(&self.bytes);
        let mut changed = String::new();
        for line in text.split_inclusive('\n') {
            let is_length =
                line.split_once(':').is_some_and(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            match is_length {
                true => changed.push_str(&format!("Content-Length: {length}\r\n")),
                false => changed.push_str(line),
            }
        }
        changed.into_bytes()
    }
}

/// Passes a body on, with its framing. `wait` is called where the tap says so.
///
/// # Errors
/// Errors of both streams; a stream that ends too early; chunks that can't be read.
pub(crate) fn pass(
    body: Body,
    tap: Tap,
    from: &mut impl BufRead,
    to: &mut impl Write,
    wait: &mut dyn FnMut(),
) -> io::Result<Passed> {
    let mut passed = Passed::default();
    match body {
        Body::Length(length) => content(length, tap, &mut passed, from, to, wait)?,
        Body::UntilClose => {
            while !passed.is_cut && !from.fill_buf()?.is_empty() {
                let length = from.fill_buf()?.len() as u64;
                content(length, tap, &mut passed, from, to, wait)?;
            }
        }
        Body::Chunked => chunks(tap, &mut passed, from, to, wait)?,
    }
    // A body without a known length may be shorter than the place of the cut.
    passed.is_cut |= tap.cut_at.is_some();
    to.flush()?;
    Ok(passed)
}

fn chunks(
    tap: Tap,
    passed: &mut Passed,
    from: &mut impl BufRead,
    to: &mut impl Write,
    wait: &mut dyn FnMut(),
) -> io::Result<()> {
    loop {
        let mut line = Vec::new();
        if read_line(from, &mut line, CHUNK_LINE_BYTES_MAX)? == 0 {
            return Err(ended());
        }
        let text = String::from_utf8_lossy(&line);
        let digits = text.split(';').next().unwrap_or_default().trim();
        let length = u64::from_str_radix(digits, 16).map_err(|_| invalid("a chunk has no length"))?;
        if length == 0 && tap.cut_at.is_some() {
            return Ok(());
        }
        to.write_all(&line)?;
        content(length, tap, passed, from, to, wait)?;
        if passed.is_cut {
            return Ok(());
        }
        // The end of a chunk, or the trailers, which end with an empty line.
        let mut trailers = 0;
        loop {
            line.clear();
            if read_line(from, &mut line, CHUNK_LINE_BYTES_MAX)? == 0 {
                return Err(ended());
            }
            to.write_all(&line)?;
            trailers += line.len() as u64;
            match length > 0 || matches!(line[..], [b'\r', b'\n'] | [b'\n']) {
                true => break,
                false if trailers > HEAD_BYTES_MAX => return Err(invalid("the trailers are too long")),
                false => {}
            }
        }
        if length == 0 {
            return Ok(());
        }
    }
}

/// Passes `length` bytes on.
fn content(
    length: u64,
    tap: Tap,
    passed: &mut Passed,
    from: &mut impl BufRead,
    to: &mut impl Write,
    wait: &mut dyn FnMut(),
) -> io::Result<()> {
    let end = passed.bytes.saturating_add(length);
    while passed.bytes < end {
        let at = passed.bytes;
        if tap.cut_at == Some(at) {
            passed.is_cut = true;
            return to.flush();
        }
        if tap.wait_at == Some(at) && !passed.has_waited {
            passed.has_waited = true;
            to.flush()?;
            wait();
        }
        // Up to the next place where something happens.
        let places = [tap.cut_at, tap.wait_at, tap.flip_at, tap.flip_at.map(|flip| flip.saturating_add(1))];
        let next = places.into_iter().flatten().filter(|place| *place > at).fold(end, u64::min);
        let found = from.fill_buf()?;
        let most = usize::try_from(next - at).unwrap_or(usize::MAX).min(found.len());
        match found.get(..most) {
            None | Some([]) => return Err(ended()),
            Some([first, ..]) if tap.flip_at == Some(at) => {
                passed.is_flipped = true;
                to.write_all(&[first ^ 0x10])?;
            }
            Some(piece) => to.write_all(piece)?,
        }
        from.consume(most);
        passed.bytes += most as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        Head::read(&mut text.as_bytes()).unwrap().unwrap()
    }

    /// What arrives of a body, the rest of the stream, and the counts.
    fn through(body: Body, tap: Tap, stream: &str) -> io::Result<(String, String, Passed)> {
        let (mut from, mut to, mut waits) = (stream.as_bytes(), Vec::new(), 0);
        let passed = pass(body, tap, &mut from, &mut to, &mut || waits += 1)?;
        assert_eq!(passed.has_waited, waits == 1);
        Ok((String::from_utf8(to).unwrap(), String::from_utf8(from.to_vec()).unwrap(), passed))
    }

    #[test]
    fn heads_are_kept_byte_for_byte() {
        let text =
            "PUT /a/b?x=1&y HTTP/1.1\r\nHOST:  h \r\ncontent-length: 3\r\nConnection: TE, Close\r\n\r\n";
        let read = head(text);
        assert_eq!(read.bytes, text.as_bytes());
        assert_eq!((read.method(), read.target()), ("PUT", ("/a/b", "x=1&y")));
        assert_eq!((read.field("host"), read.request_body().unwrap()), (Some("h"), Body::Length(3)));
        assert!(read.closes());
        let longer =
            "PUT /a/b?x=1&y HTTP/1.1\r\nHOST:  h \r\nContent-Length: 9\r\nConnection: TE, Close\r\n\r\n";
        assert_eq!(read.with_length(9), longer.as_bytes());
        assert!(Head::read(&mut &b""[..]).unwrap().is_none());
    }

    #[test]
    fn heads_without_an_end_are_errors() {
        for text in ["GET / HTTP/1.1\r\nHost: h\r\n", "GET / HT"] {
            let error = Head::read(&mut text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
        for endless in ["x".repeat(1 << 20), "a: b\r\n".repeat(1 << 18)] {
            let error = Head::read(&mut endless.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        let negative = head("PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n");
        assert!(negative.request_body().is_err());
    }

    #[test]
    fn the_body_of_a_response_depends_on_the_request() {
        let with = |text: &str| head(&format!("HTTP/1.1 {text}\r\n\r\n"));
        for (text, method, body) in [
            ("200 OK\r\nContent-Length: 5", "GET", Body::Length(5)),
            ("200 OK\r\nContent-Length: 5", "HEAD", Body::Length(0)),
            ("204 No Content", "DELETE", Body::Length(0)),
            ("304 Not Modified\r\nContent-Length: 5", "GET", Body::Length(0)),
            ("200 OK\r\nTransfer-Encoding: chunked", "GET", Body::Chunked),
            ("200 OK", "GET", Body::UntilClose),
        ] {
            assert_eq!(with(text).response_body(method).unwrap(), body, "{text}");
        }
        assert!(with("2OO OK").response_body("GET").is_err());
    }

    #[test]
    fn bodies_pass_unchanged() {
        let chunked = "3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n";
        for (body, stream, bytes) in
            [(Body::Length(5), "abcde", 5), (Body::Chunked, chunked, 13), (Body::Length(0), "", 0)]
        {
            let (arrived, left, passed) =
                through(body, Tap::default(), &format!("{stream}GET / HTTP/1.1")).unwrap();
            assert_eq!((arrived.as_str(), left.as_str()), (stream, "GET / HTTP/1.1"));
            assert_eq!(passed, Passed { bytes, ..Passed::default() });
        }
        let (arrived, ..) = through(Body::UntilClose, Tap::default(), "abcde").unwrap();
        assert_eq!(arrived, "abcde");
    }

    #[test]
    fn bodies_that_end_early_are_errors() {
        for (body, stream) in [
            (Body::Length(5), "abcd"),
            (Body::Chunked, "5\r\nabc"),
            (Body::Chunked, "5\r\nabcde\r\n"),
            (Body::Chunked, "0\r\nTrailer: x\r\n"),
            (Body::Chunked, "zz\r\n"),
        ] {
            assert!(through(body, Tap::default(), stream).is_err(), "{stream:?}");
        }
    }

    #[test]
    fn a_tap_cuts_flips_and_waits_at_its_byte() {
        let chunked = "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        for (body, stream) in
            [(Body::Length(5), "abcde"), (Body::UntilClose, "abcde"), (Body::Chunked, chunked)]
        {
            for at in 0..5 {
                let cut = Tap { cut_at: Some(at), ..Tap::default() };
                let (arrived, _, passed) = through(body, cut, stream).unwrap();
                assert!(passed.is_cut && passed.bytes == at, "{body:?} {at}: {passed:?}");
                assert!(stream.starts_with(&arrived) && arrived.len() < stream.len());

                let flip = Tap { flip_at: Some(at), wait_at: Some(at), ..Tap::default() };
                let (arrived, _, passed) = through(body, flip, stream).unwrap();
                assert!(passed.is_flipped && passed.has_waited && passed.bytes == 5);
                let differ = arrived.bytes().zip(stream.bytes()).filter(|(a, b)| a != b).count();
                assert_eq!((differ, arrived.len()), (1, stream.len()));
            }
            // Beyond the end, a cut still takes the end away, and nothing else happens.
            let far = Tap { flip_at: Some(99), wait_at: Some(99), ..Tap::default() };
            let (arrived, _, passed) = through(body, far, stream).unwrap();
            assert_eq!((arrived.as_str(), passed.is_flipped, passed.has_waited), (stream, false, false));
        }
        let cut = Tap { cut_at: Some(99), ..Tap::default() };
        let (arrived, _, passed) = through(Body::Chunked, cut, chunked).unwrap();
        assert!(passed.is_cut && arrived == "3\r\nabc\r\n2\r\nde\r\n");
    }
}
