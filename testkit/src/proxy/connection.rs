//! One connection of a client, and its connection to the server.

use super::faults::{Dice, Plan};
use super::{Fault, Kind, Registered, Shared};
use crate::http::{Body, Head, Passed, Tap, pass};
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Maximum time to reach the server. It is on loopback.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Faults in a body of unknown length happen within its first bytes.
const UNKNOWN_LENGTH: u64 = 64;

/// Serves the requests of a connection until one side or a fault ends it.
pub(super) fn serve(client: TcpStream, shared: &Shared) {
    let Ok(_registered) = shared.register(&client) else { return };
    let _ = client.set_nodelay(true);
    let mut connection = Connection { shared, client: BufReader::new(client), server: None };
    // An error ends the connection, which the client sees.
    while connection.exchange().unwrap_or(false) {}
}

struct Connection<'a> {
    shared: &'a Shared,
    client: BufReader<TcpStream>,
    server: Option<(BufReader<TcpStream>, Registered<'a>)>,
}

impl Connection<'_> {
    /// One request and its response. False if the connection ends.
    fn exchange(&mut self) -> io::Result<bool> {
        let Some(request) = Head::read(&mut self.client)? else { return Ok(false) };
        let _exchange = self.shared.begin();
        let kind = Kind::of(&request);
        let mut plan = {
            let mut state = self.shared.state();
            let number = state.request;
            state.request += 1;
            state.counts.of_mut(kind).requests += 1;
            state.faults.plan(number, kind)
        };
        self.shared.wait(plan.delay);
        if let Some(fault @ (Fault::Error | Fault::Throttle)) = plan.fault {
            return self.refuse(&request, kind, fault, &mut plan.dice);
        }
        let Some(is_whole) = self.forward(&request, kind, &mut plan)? else { return Ok(false) };
        let goes_on = self.answer(&request, kind, &mut plan)?;
        Ok(goes_on && is_whole && !request.closes())
    }

    /// Answers in place of the server.
    fn refuse(&mut self, request: &Head, kind: Kind, fault: Fault, dice: &mut Dice) -> io::Result<bool> {
        // A client that asks first gets the answer before it sends the body.
        let asks_first = request.says("expect", "100-continue");
        if !asks_first {
            let read =
                pass(request.request_body()?, Tap::default(), &mut self.client, &mut io::sink(), &mut || {})?;
            self.shared.state().counts.of_mut(kind).request_bytes += read.bytes;
        }
        let statuses: &[(u16, &str, &str)] = match fault {
            Fault::Throttle => {
                &[(429, "Too Many Requests", "TooManyRequests"), (503, "Slow Down", "SlowDown")]
            }
            _ => &[
                (500, "Internal Server Error", "InternalError"),
                (502, "Bad Gateway", "BadGateway"),
                (503, "Service Unavailable", "ServiceUnavailable"),
                (504, "Gateway Timeout", "GatewayTimeout"),
            ],
        };
        let (status, reason, code) = dice.pick(statuses).unwrap_or((500, "Internal Server Error", ""));
        let body =
            format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>fault</Message></Error>");
        let content = if request.method() == "HEAD" { "" } else { body.as_str() };
        let ends = asks_first || request.closes();
        let connection = if ends { "close" } else { "keep-alive" };
        let answer = format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\
             Connection: {connection}\r\n\r\n{content}",
            body.len()
        );
        self.count(kind, fault);
        self.client.get_ref().write_all(answer.as_bytes())?;
        Ok(!ends)
    }

    fn count(&self, kind: Kind, fault: Fault) {
        self.shared.state().counts.of_mut(kind).faults[fault as usize] += 1;
    }

    /// Sends the request to the server. `None` if it was cut; false if the server did not take all
    /// of it, and may have answered already.
    fn forward(&mut self, request: &Head, kind: Kind, plan: &mut Plan) -> io::Result<Option<bool>> {
        let body = request.request_body()?;
        let is_cut = plan.fault == Some(Fault::CutRequest);
        if is_cut && body == Body::Length(0) {
            self.count(kind, Fault::CutRequest);
            return Ok(None);
        }
        self.connect()?;
        let Some((server, _)) = &mut self.server else { return Ok(None) };
        server.get_ref().write_all(&request.bytes)?;
        if request.says("expect", "100-continue") {
            // The server may refuse the request here, or ask for the body.
            if !server.fill_buf()?.starts_with(b"HTTP/1.1 100") {
                return Ok(Some(false));
            }
            if let Some(head) = Head::read(server)? {
                self.client.get_ref().write_all(&head.bytes)?;
            }
        }
        let cut_at = is_cut.then(|| plan.dice.below(length_of(body)));
        let tap = Tap { cut_at, ..Tap::default() };
        let passed = pass(body, tap, &mut self.client, &mut server.get_ref(), &mut || {});
        let Passed { bytes, is_cut, .. } = match passed {
            Ok(passed) => passed,
            Err(error) if is_broken(&error) => return Ok(Some(false)),
            Err(error) => return Err(error),
        };
        self.shared.state().counts.of_mut(kind).request_bytes += bytes;
        if is_cut {
            self.count(kind, Fault::CutRequest);
            return Ok(None);
        }
        Ok(Some(true))
    }

    /// Connects to the server, unless there is a connection that is still open.
    fn connect(&mut self) -> io::Result<()> {
        if let Some((server, _)) = &self.server {
            let stream = server.get_ref();
            stream.set_nonblocking(true)?;
            let peeked = stream.peek(&mut [0]);
            stream.set_nonblocking(false)?;
            // Nothing to read yet is what an open connection says between two requests.
            let is_open = matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
            if is_open && server.buffer().is_empty() {
                return Ok(());
            }
            self.server = None;
        }
        let server = TcpStream::connect_timeout(&self.shared.server, CONNECT_TIME)?;
        server.set_nodelay(true)?;
        let registered = self.shared.register(&server)?;
        self.server = Some((BufReader::new(server), registered));
        Ok(())
    }

    /// Passes the server's response to the client. False if the connection ends.
    fn answer(&mut self, request: &Head, kind: Kind, plan: &mut Plan) -> io::Result<bool> {
        let Some((server, _)) = &mut self.server else { return Ok(false) };
        let client = self.client.get_ref();
        let head = loop {
            let Some(head) = Head::read(server)? else { return Ok(false) };
            if head.status()? >= 200 {
                break head;
            }
            (&mut &*client).write_all(&head.bytes)?;
        };
        let body = head.response_body(request.method())?;
        let edit = Edit::of(plan, &head, body);
        let shared = self.shared;
        let mut wait = || shared.wait(edit.stall);
        if edit.stalls_first {
            wait();
        }
        let (passed, is_cut) = match edit.fault {
            Some(Fault::LoseReply) => {
                (pass(body, Tap::default(), server, &mut io::sink(), &mut || {})?, true)
            }
            _ => {
                let is_short = edit.head.len() < head.bytes.len() && edit.fault == Some(Fault::CutResponse);
                let mut link = Link { client, shared };
                link.write_all(&edit.head)?;
                match is_short {
                    true => (Passed::default(), true),
                    false => {
                        let passed = pass(body, edit.tap, server, &mut link, &mut wait)?;
                        (passed, passed.is_cut)
                    }
                }
            }
        };
        {
            let mut state = self.shared.state();
            let traffic = state.counts.of_mut(kind);
            traffic.response_bytes += passed.bytes;
            let happened = match edit.fault {
                Some(Fault::Flip) => passed.is_flipped,
                Some(Fault::Stall) => edit.stalls_first || passed.has_waited,
                other => other.is_some(),
            };
            if let (true, Some(fault)) = (happened, edit.fault) {
                traffic.faults[fault as usize] += 1;
            }
        }
        let ends = is_cut || edit.fault == Some(Fault::WrongLength) || body == Body::UntilClose;
        if head.closes() {
            self.server = None;
        }
        Ok(!ends && !head.closes())
    }
}

/// Writes to a client at the rate of the link.
struct Link<'a> {
    client: &'a TcpStream,
    shared: &'a Shared,
}

impl Write for Link<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let pause = {
            let mut state = self.shared.state();
            state.faults.link.map(|rate| {
                let now = Instant::now();
                let takes = Duration::from_secs_f64(bytes.len() as f64 / rate.max(1) as f64);
                state.link_busy_until = state.link_busy_until.max(now) + takes;
                state.link_busy_until - now
            })
        };
        // Without the lock: a client may read nothing until another request is answered. The last
        // byte arrives when all of them have had their time.
        if let Some(pause) = pause {
            std::thread::sleep(pause);
        }
        self.client.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.client.flush()
    }
}

/// How a response is changed.
struct Edit {
    /// The fault that applies to this response.
    fault: Option<Fault>,
    /// The head that is sent.
    head: Vec<u8>,
    tap: Tap,
    stall: Duration,
    /// The response stalls before its head.
    stalls_first: bool,
}

impl Edit {
    fn of(plan: &mut Plan, head: &Head, body: Body) -> Edit {
        let (mut fault, dice) = (plan.fault, &mut plan.dice);
        let mut edit = Edit {
            fault: None,
            head: head.bytes.clone(),
            tap: Tap::default(),
            stall: plan.stall,
            stalls_first: false,
        };
        let has_body = body != Body::Length(0);
        let is_success = head.status().is_ok_and(|status| status < 300);
        let at = dice.below(length_of(body));
        match fault {
            Some(Fault::Stall) => {
                edit.stalls_first = !has_body || dice.below(2) == 0;
                edit.tap.wait_at = (!edit.stalls_first).then_some(at);
            }
            Some(Fault::CutResponse) if has_body => edit.tap.cut_at = Some(at),
            Some(Fault::CutResponse) => {
                let length = dice.below(head.bytes.len() as u64);
                edit.head.truncate(usize::try_from(length).unwrap_or_default());
            }
            Some(Fault::Flip) if has_body && is_success => edit.tap.flip_at = Some(at),
            Some(Fault::WrongLength) => match head.field("content-length").map(str::parse::<u64>) {
                Some(Ok(length)) => {
                    let shorter = dice.below(length);
                    let is_shorter = length > 0 && dice.below(2) == 0;
                    let said = if is_shorter { shorter } else { length.saturating_add(1 + shorter) };
                    edit.head = head.with_length(said);
                    edit.tap.cut_at = (is_shorter && has_body).then_some(said);
                }
                _ => fault = None,
            },
            Some(Fault::LoseReply) => {}
            _ => fault = None,
        }
        edit.fault = fault;
        edit
    }
}

fn length_of(body: Body) -> u64 {
    match body {
        Body::Length(length) => length,
        Body::Chunked | Body::UntilClose => UNKNOWN_LENGTH,
    }
}

/// True if the other side has closed the connection.
fn is_broken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
    )
}
