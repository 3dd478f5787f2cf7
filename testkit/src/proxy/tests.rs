//! The proxy between a small server and a small client.

use super::*;
use crate::http::{Head, Tap, pass};
use crate::noise;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};

const CONTENT: usize = 10_000;
/// More than the system keeps for a client that reads nothing.
const LARGE: usize = 64 << 20;

/// A server that answers each PUT with 200 and each GET with the same content, in chunks if the
/// path says so. It reports what it received: the line of the request, and its whole body.
struct Store {
    address: SocketAddr,
    received: Receiver<(String, Vec<u8>)>,
}

impl Store {
    fn start() -> Store {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (address, (report, received)) = (listener.local_addr().unwrap(), channel());
        // The thread ends with the process. Its connections end with those of the proxy.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let report = report.clone();
                std::thread::spawn(move || while Store::answer(&stream, &report).is_ok_and(|more| more) {});
            }
        });
        Store { address, received }
    }

    fn answer(stream: &TcpStream, report: &Sender<(String, Vec<u8>)>) -> io::Result<bool> {
        // A new reader for each request: the client of these tests sends one at a time.
        let (mut from, mut body) = (BufReader::new(stream), Vec::new());
        let Some(request) = Head::read(&mut from)? else { return Ok(false) };
        if request.says("expect", "100-continue") {
            (&mut &*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        pass(request.request_body()?, Tap::default(), &mut from, &mut body, &mut || {})?;
        let _ = report.send((request.first.clone(), body));
        let content = noise(1, CONTENT);
        let (path, _) = request.target();
        let mut answer = Vec::new();
        match (request.method(), path) {
            ("GET", "/b/chunked") => {
                answer.extend_from_slice(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                for piece in content.chunks(1000) {
                    answer.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    answer.extend_from_slice(piece);
                    answer.extend_from_slice(b"\r\n");
                }
                answer.extend_from_slice(b"0\r\n\r\n");
            }
            ("GET", "/b/large") => {
                answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n").into_bytes();
                answer.resize(answer.len() + LARGE, 0);
            }
            ("GET", "/b/close") => {
                answer.extend_from_slice(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
                answer.extend_from_slice(&content);
            }
            ("GET" | "HEAD", _) => {
                answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {CONTENT}\r\n\r\n").into_bytes();
                answer.extend_from_slice(if request.method() == "GET" { &content } else { &[] });
            }
            _ => answer.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        }
        (&mut &*stream).write_all(&answer)?;
        let more = path != "/b/close";
        if !more {
            stream.shutdown(Shutdown::Both)?;
        }
        Ok(more)
    }

    /// Requests that arrived whole since the last call.
    fn received(&self) -> Vec<(String, Vec<u8>)> {
        self.received.try_iter().collect()
    }
}

fn through(faults: Faults) -> (Store, Proxy) {
    let store = Store::start();
    let proxy = Proxy::start(store.address, faults).unwrap();
    (store, proxy)
}

/// A client with one connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn new(proxy: &Proxy) -> Client {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client(BufReader::new(stream))
    }

    /// Sends a request and reads the response. An error if it is not complete.
    fn ask(&mut self, request: &str) -> io::Result<(Head, Vec<u8>)> {
        self.0.get_ref().write_all(request.as_bytes())?;
        self.answer(request)
    }

    fn answer(&mut self, request: &str) -> io::Result<(Head, Vec<u8>)> {
        let head = Head::read(&mut self.0)?.ok_or(ErrorKind::UnexpectedEof)?;
        let (method, _) = request.split_once(' ').unwrap();
        let mut body = Vec::new();
        pass(head.response_body(method)?, Tap::default(), &mut self.0, &mut body, &mut || {})?;
        Ok((head, body))
    }

    fn get(&mut self) -> io::Result<Vec<u8>> {
        self.ask("GET /b/x HTTP/1.1\r\nHost: h\r\n\r\n").map(|(_, body)| body)
    }

    fn put(&mut self, body: &str) -> io::Result<u16> {
        let request = format!("PUT /b/x HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        self.ask(&request)?.0.status()
    }

    fn has_ended(&mut self) -> bool {
        self.0.read(&mut [0]).is_ok_and(|read| read == 0)
    }
}

#[test]
fn a_client_that_does_not_read_holds_up_no_other() {
    let (_store, proxy) = through(Faults::none(1));
    let (mut idle, mut other) = (Client::new(&proxy), Client::new(&proxy));
    let request = "GET /b/large HTTP/1.1\r\nHost: h\r\n\r\n";
    idle.0.get_ref().write_all(request.as_bytes()).unwrap();
    // Its answer has begun.
    assert_eq!(idle.0.get_ref().peek(&mut [0]).unwrap(), 1);
    for _ in 0..3 {
        assert_eq!(other.get().unwrap(), noise(1, CONTENT));
        assert_eq!(Client::new(&proxy).get().unwrap(), noise(1, CONTENT));
    }
    assert_eq!(idle.answer(request).unwrap().1.len(), LARGE);
}

#[test]
fn without_faults_everything_passes_over_one_connection() {
    let (store, proxy) = through(Faults::none(1));
    let mut client = Client::new(&proxy);
    for _ in 0..3 {
        assert_eq!(client.put("hello").unwrap(), 200);
        assert_eq!(client.get().unwrap(), noise(1, CONTENT));
        let chunked =
            "PUT /b/y HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert_eq!(client.ask(chunked).unwrap().0.status().unwrap(), 200);
        let (head, body) = client.ask("HEAD /b/x HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!((head.field("content-length"), body.len()), (Some("10000"), 0));
    }
    let (_, body) = client.ask("GET /b/chunked HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(body.len(), CONTENT + 10 * "3e8\r\n\r\n".len() + "0\r\n\r\n".len());
    let (_, body) = client.ask("GET /b/close HTTP/1.1\r\n\r\n").unwrap();
    assert!(body == noise(1, CONTENT) && client.has_ended());

    let received = store.received();
    assert_eq!((received.len(), received[0].1.as_slice()), (14, &b"hello"[..]));
    let counts = proxy.counts();
    let of = |kind| (counts.of(kind).requests, counts.of(kind).request_bytes, counts.of(kind).response_bytes);
    assert_eq!(of(Kind::Put), (6, 3 * 5 + 3 * 5, 0));
    assert_eq!(of(Kind::Get), (5, 0, 5 * CONTENT as u64));
    assert_eq!((of(Kind::Head), counts.requests()), ((3, 0, 0), 14));
    assert_eq!(Fault::ALL.map(|fault| counts.faults(fault)), [0; 8]);
}

#[test]
fn a_body_is_sent_when_the_server_asks_for_it() {
    let expecting = "PUT /b/x HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    let (store, proxy) = through(Faults::none(1));
    let mut client = Client::new(&proxy);
    let (head, _) = client.ask(expecting).unwrap();
    assert_eq!(head.status().unwrap(), 100);
    client.0.get_ref().write_all(b"hello").unwrap();
    assert_eq!(client.answer(expecting).unwrap().0.status().unwrap(), 200);
    assert_eq!(store.received()[0].1, b"hello");

    // A refusal comes instead of the question.
    proxy.set(Faults { throttle: 1.0, ..Faults::none(1) }).unwrap();
    let (head, _) = client.ask(expecting).unwrap();
    assert!(matches!(head.status().unwrap(), 429 | 503) && client.has_ended());
}

#[test]
fn refused_requests_do_not_reach_the_server() {
    let (store, proxy) = through(Faults { error: 0.5, throttle: 0.5, ..Faults::none(1) });
    let mut client = Client::new(&proxy);
    let mut statuses: Vec<u16> = (0..60).map(|_| client.put("hello").unwrap()).collect();
    let (head, body) = client.ask("HEAD /b/x HTTP/1.1\r\n\r\n").unwrap();
    assert!(head.status().unwrap() >= 429 && body.is_empty());
    statuses.sort_unstable();
    statuses.dedup();
    assert_eq!(statuses, [429, 500, 502, 503, 504]);
    assert!(store.received().is_empty());
    let counts = proxy.counts();
    assert_eq!(counts.faults(Fault::Error) + counts.faults(Fault::Throttle), 61);
    assert_eq!(counts.of(Kind::Put).request_bytes, 300);
}

#[test]
fn a_request_is_cut_before_the_server_has_all_of_it() {
    let (store, proxy) = through(Faults { cut_request: 1.0, ..Faults::none(1) });
    for _ in 0..10 {
        assert!(Client::new(&proxy).put("hello").is_err());
        assert!(Client::new(&proxy).get().is_err());
    }
    assert!(store.received().is_empty());
    assert_eq!(proxy.counts().faults(Fault::CutRequest), 20);
}

#[test]
fn a_lost_reply_is_lost_after_the_write() {
    for lost in [
        Faults { lose_reply: 1.0, ..Faults::none(1) },
        // Without a body, the cut is in the head.
        Faults { cut_response: 1.0, ..Faults::none(1) },
    ] {
        let (store, proxy) = through(lost);
        for _ in 0..10 {
            assert!(Client::new(&proxy).put("hello").is_err());
        }
        assert_eq!(store.received().len(), 10);
        let counts = proxy.counts();
        assert_eq!(counts.faults(Fault::LoseReply) + counts.faults(Fault::CutResponse), 10);
    }
}

#[test]
fn a_response_is_cut_in_its_body() {
    let (store, proxy) = through(Faults { cut_response: 1.0, ..Faults::none(1) });
    for path in ["x", "chunked"] {
        for _ in 0..10 {
            let mut client = Client::new(&proxy);
            let error = client.ask(&format!("GET /b/{path} HTTP/1.1\r\n\r\n")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{error}");
        }
    }
    assert_eq!((store.received().len(), proxy.counts().faults(Fault::CutResponse)), (20, 20));
    let bytes = proxy.counts().of(Kind::Get).response_bytes;
    assert!((1..20 * CONTENT as u64).contains(&bytes), "{bytes}");
}

#[test]
fn a_wrong_length_ends_early_or_never() {
    let (_store, proxy) = through(Faults { wrong_length: 1.0, ..Faults::none(1) });
    let (mut short, mut long, content) = (0, 0, noise(1, CONTENT));
    for _ in 0..30 {
        match Client::new(&proxy).get() {
            Ok(body) if body.len() < CONTENT && content.starts_with(&body) => short += 1,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => long += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(short > 5 && long > 5, "{short} {long}");
    let (head, _) = Client::new(&proxy).ask("HEAD /b/x HTTP/1.1\r\n\r\n").unwrap();
    assert_ne!(head.field("content-length"), Some("10000"));
    assert_eq!(proxy.counts().faults(Fault::WrongLength), 31);
}

#[test]
fn one_bit_of_a_body_is_flipped() {
    let (_store, proxy) = through(Faults { flip: 1.0, ..Faults::none(1) });
    let (mut client, content) = (Client::new(&proxy), noise(1, CONTENT));
    for _ in 0..10 {
        let body = client.get().unwrap();
        let bits: u32 = body.iter().zip(&content).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!((bits, body.len()), (1, CONTENT));
    }
    // There is nothing to flip in the response to a put.
    assert_eq!((client.put("hello").unwrap(), proxy.counts().faults(Fault::Flip)), (200, 10));
}

#[test]
fn every_request_is_delayed_and_a_stall_takes_longer() {
    let milli = Duration::from_millis;
    let (_store, proxy) = through(Faults { latency: milli(20), ..Faults::none(1) });
    let mut client = Client::new(&proxy);
    let mut timed = || {
        let begun = Instant::now();
        assert_eq!(client.get().unwrap(), noise(1, CONTENT));
        begun.elapsed()
    };
    assert!(timed() >= milli(20));
    proxy.set(Faults { stall: 1.0, stall_time: milli(60), ..Faults::none(1) }).unwrap();
    for _ in 0..6 {
        assert!(timed() >= milli(60));
    }
    assert_eq!(proxy.counts().faults(Fault::Stall), 6);

    // A link shared by two clients.
    proxy.set(Faults { link: Some(CONTENT as u64 * 20), ..Faults::none(1) }).unwrap();
    let begun = Instant::now();
    let mut other = Client::new(&proxy);
    let beside = std::thread::spawn(move || other.get().unwrap());
    assert_eq!(client.get().unwrap(), beside.join().unwrap());
    assert!(begun.elapsed() >= milli(90), "two contents at 20 a second take 100 ms");

    // A stall does not outlive the proxy.
    proxy.set(Faults { stall: 1.0, stall_time: Duration::from_secs(600), ..Faults::none(1) }).unwrap();
    let mut stalled = Client::new(&proxy);
    let waiting = std::thread::spawn(move || stalled.put("hello").is_err());
    while proxy.counts().of(Kind::Put).requests == 0 {
        std::thread::sleep(milli(1));
    }
    let begun = Instant::now();
    drop(proxy);
    assert!(waiting.join().unwrap() && begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_store_that_is_away_comes_back() {
    let (store, proxy) = through(Faults::none(1));
    let mut client = Client::new(&proxy);
    assert_eq!(client.put("hello").unwrap(), 200);
    proxy.set_away(true);
    assert!(client.put("hello").is_err());
    assert!(Client::new(&proxy).put("hello").is_err());
    proxy.set_away(false);
    assert_eq!(Client::new(&proxy).put("hello").unwrap(), 200);
    assert_eq!(store.received().len(), 2);
}

#[test]
fn a_server_that_does_not_listen_ends_the_connection() {
    let unused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let proxy = Proxy::start(unused, Faults::none(1)).unwrap();
    assert!(Client::new(&proxy).put("hello").is_err());
    assert_eq!(proxy.counts().requests(), 1);
}
