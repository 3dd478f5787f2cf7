//! What a proxy counts.

use super::Fault;
use crate::http::Head;
use std::fmt;

/// Kind of a request to an object store. S3, Azure and GCS are told apart by what they share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An object, or a part of one, is written.
    Put,
    /// An object, or a range of one, is read.
    Get,
    /// Objects are listed.
    List,
    /// The size of an object is asked for.
    Head,
    /// One or many objects are deleted.
    Delete,
    /// Anything else, such as the begin of an upload of many parts.
    Other,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 6] = [Kind::Put, Kind::Get, Kind::List, Kind::Head, Kind::Delete, Kind::Other];

    pub(super) fn of(request: &Head) -> Kind {
        let (path, query) = request.target();
        let pairs: Vec<_> = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
        let has = |wanted| pairs.contains(&wanted);
        let is_bucket = !path.trim_matches('/').contains('/');
        match request.method() {
            "PUT" => Kind::Put,
            "HEAD" => Kind::Head,
            "DELETE" => Kind::Delete,
            "GET" if has(("comp", "list")) || has(("list-type", "2")) || is_bucket => Kind::List,
            "GET" => Kind::Get,
            "POST" if has(("delete", "")) || has(("comp", "batch")) => Kind::Delete,
            _ => Kind::Other,
        }
    }
}

/// What one kind of request caused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests that reached the proxy, also those that the server never saw.
    pub requests: u64,
    /// Content of the requests, bytes.
    pub request_bytes: u64,
    /// Content of the server's responses, bytes.
    pub response_bytes: u64,
    pub(super) faults: [u64; Fault::ALL.len()],
}

impl Traffic {
    /// How often this fault happened.
    #[must_use]
    pub fn faults(&self, fault: Fault) -> u64 {
        self.faults[fault as usize]
    }
}

/// Requests, bytes and faults, for each kind of request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    kinds: [Traffic; Kind::ALL.len()],
}

impl Counts {
    /// What one kind of request caused.
    #[must_use]
    pub fn of(&self, kind: Kind) -> &Traffic {
        &self.kinds[kind as usize]
    }

    pub(super) fn of_mut(&mut self, kind: Kind) -> &mut Traffic {
        &mut self.kinds[kind as usize]
    }

    /// Requests of all kinds.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.kinds.iter().map(|traffic| traffic.requests).sum()
    }

    /// How often this fault happened, in requests of all kinds.
    #[must_use]
    pub fn faults(&self, fault: Fault) -> u64 {
        self.kinds.iter().map(|traffic| traffic.faults(fault)).sum()
    }

    /// What was counted after an earlier moment.
    #[must_use]
    pub fn since(&self, earlier: &Counts) -> Counts {
        let mut counts = self.clone();
        for (now, then) in counts.kinds.iter_mut().zip(&earlier.kinds) {
            now.requests -= then.requests;
            now.request_bytes -= then.request_bytes;
            now.response_bytes -= then.response_bytes;
            now.faults.iter_mut().zip(then.faults).for_each(|(now, then)| *now -= then);
        }
        counts
    }
}

/// One line for each kind that occurred: `PUT 12 requests, 480 bytes in, 0 bytes out, 3 error`.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in Kind::ALL.into_iter().filter(|kind| self.of(*kind).requests > 0) {
            let Traffic { requests, request_bytes, response_bytes, .. } = self.of(kind);
            let name = format!("{kind:?}").to_uppercase();
            write!(f, "{name} {requests} requests, {request_bytes} bytes in, {response_bytes} bytes out")?;
            for fault in Fault::ALL.into_iter().filter(|fault| self.of(kind).faults(*fault) > 0) {
                write!(f, ", {} {}", self.of(kind).faults(fault), fault.name())?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_all_stores_are_told_apart() {
        for (line, kind) in [
            ("PUT /bucket/a/b", Kind::Put),
            ("PUT /bucket/a?partNumber=1&uploadId=x", Kind::Put),
            ("GET /bucket/a/b", Kind::Get),
            ("GET /bucket?list-type=2&prefix=a%2F", Kind::List),
            ("GET /bucket/?prefix=a", Kind::List),
            ("GET /account/container/a/b", Kind::Get),
            ("GET /account/container?restype=container&comp=list&prefix=a", Kind::List),
            ("HEAD /bucket/a", Kind::Head),
            ("DELETE /bucket/a", Kind::Delete),
            ("POST /bucket?delete", Kind::Delete),
            ("POST /bucket?delete=", Kind::Delete),
            ("POST /account/container?restype=container&comp=batch", Kind::Delete),
            ("POST /bucket/a?uploads", Kind::Other),
        ] {
            let text = format!("{line} HTTP/1.1\r\n\r\n");
            let head = Head::read(&mut text.as_bytes()).unwrap().unwrap();
            assert_eq!(Kind::of(&head), kind, "{line}");
        }
    }

    #[test]
    fn counts_are_printed_and_subtracted() {
        let mut counts = Counts::default();
        counts.of_mut(Kind::Put).requests = 2;
        counts.of_mut(Kind::Put).request_bytes = 10;
        let before = counts.clone();
        counts.of_mut(Kind::Put).requests += 3;
        counts.of_mut(Kind::Put).faults[Fault::Stall as usize] += 1;
        let since = counts.since(&before);
        assert_eq!(since.to_string(), "PUT 3 requests, 0 bytes in, 0 bytes out, 1 stall\n");
        assert_eq!((since.requests(), counts.requests(), since.faults(Fault::Stall)), (3, 5, 1));
    }
}
