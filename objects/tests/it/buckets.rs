//! Buckets of remote stores: settings, and errors without secrets. No request leaves this machine.
#![cfg(all(feature = "s3", feature = "gcs", feature = "azure"))]

use pitr_objects::*;
use pitr_vfs::Env;
use std::collections::BTreeMap;
use std::error::Error as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SECRET: &str = "sWoRdFiSh/0123456789+abcdef==";

type Settings<'a> = &'a [(&'a str, &'a str)];

fn open(url: &str, options: Settings<'_>) -> Result<Objects> {
    let options: BTreeMap<String, String> =
        options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Objects::open_with(&Location::parse(url).unwrap(), &options, &Env::system())
}

/// The error and all its sources, for people and for debugging.
fn all_of(error: &Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(&format!(" {source} {source:?}"));
        next = source.source();
    }
    text
}

#[test]
fn a_repository_shows_its_bucket_and_no_secret() {
    let options = [
        ("aws_access_key_id", "AKIAKEY"),
        ("aws_secret_access_key", SECRET),
        ("aws_endpoint", "http://127.0.0.1:1"),
    ];
    let objects = open("s3://bucket/some/prefix", &options).unwrap();
    assert_eq!((objects.place(), objects.folder()), ("s3://bucket/some/prefix", None));
    assert!(objects.readers().unwrap().is_none());
    assert!(!format!("{objects:?}").contains("sWoRdFiSh"), "{objects:?}");
}

/// Answers every request with `answer`, which ends the connection.
fn server(answer: &'static str) -> String {
    answering(move || answer, Arc::default())
}

/// Like [`server`], with an answer for each request, and keeps the lines of the requests' heads, in
/// lower case.
fn answering(answer: impl Fn() -> &'static str + Send + 'static, lines: Arc<Mutex<Vec<String>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut line, mut body) = (String::new(), 0);
            while stream.read_line(&mut line).is_ok_and(|n| n > 0) && line != "\r\n" {
                let lower = line.to_ascii_lowercase();
                if let Some(len) = lower.strip_prefix("content-length:") {
                    body = len.trim().parse().unwrap();
                }
                lines.lock().unwrap().push(lower.trim().to_owned());
                line.clear();
            }
            let _ = stream.read_exact(&mut vec![0; body]);
            let _ = stream.get_mut().write_all(answer().as_bytes());
        }
    });
    format!("http://{address}")
}

/// A refusal that repeats what the client sent, as S3 does with a token that it does not accept.
const REFUSAL: &str = "HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 167\r\n\r\n\
    <Error><Code>InvalidToken</Code><Message>The provided token is malformed.</Message>\
    <Token-0>sWoRdFiSh/0123456789+abcdef==</Token-0><Name>sWoRdFiSh</Name></Error>      ";

#[test]
fn an_error_holds_the_stores_message_and_no_secret() {
    assert_eq!(REFUSAL.split_once("\r\n\r\n").unwrap().1.len(), 167);
    let endpoint = server(REFUSAL);
    let account = format!("{endpoint}/acc");
    let stores: [(&str, Settings<'_>); 4] = [
        (
            "s3://bucket",
            &[
                ("aws_access_key_id", "AKIAKEY"),
                ("aws_secret_access_key", SECRET),
                ("aws_session_token", SECRET),
                ("aws_endpoint", &endpoint),
            ],
        ),
        (
            "az://container",
            &[
                ("azure_storage_account_name", "acc"),
                ("azure_storage_sas_key", "sv=2024&sig=sWoRdFiSh"),
                ("azure_storage_endpoint", &account),
            ],
        ),
        (
            "az://container/x",
            &[
                ("azure_storage_account_name", "acc"),
                ("azure_storage_account_key", "c1dvUmRGaVNo"),
                ("azure_storage_endpoint", &account),
            ],
        ),
        ("gs://bucket", &[("google_bearer_token", SECRET), ("google_base_url", &endpoint)]),
    ];
    for (url, options) in stores {
        let objects = open(url, options).unwrap();
        let errors = [
            objects.get("x").unwrap_err(),
            objects.size("x").unwrap_err(),
            objects.list("x").unwrap_err(),
            objects.delete("x").unwrap_err(),
            objects.put_new("x", vec![1]).unwrap_err(),
        ];
        for error in errors {
            let all = all_of(&error);
            assert_eq!(error.kind(), ErrorKind::Denied, "{url}: {all}");
            assert!(!all.contains("sWoRdFiSh") && !all.contains("c1dvUmRGaVNo"), "{url}: {all}");
        }
        let put = objects.put_new("x", vec![1]).unwrap_err();
        assert!(put.to_string().contains("InvalidToken: The provided token"), "{url}: {put}");
    }
}

#[test]
fn a_read_outlasts_the_restart_of_a_server() {
    // FAILURES 27
    const DOWN: Duration = Duration::from_secs(4);
    let begun = Instant::now();
    let answer = move || match begun.elapsed() < DOWN {
        true => "HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        false => {
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\netag: \"x\"\r\n\
             last-modified: Tue, 01 Dec 2026 12:00:00 GMT\r\n\r\nhere"
        }
    };
    let endpoint = answering(answer, Arc::default());
    let objects = open("s3://bucket", &[&S3[..], &[("aws_endpoint", &endpoint)]].concat()).unwrap();
    assert_eq!(objects.get("x").unwrap(), "here");
    assert!(begun.elapsed() >= DOWN);
}

#[test]
fn a_server_that_gives_no_answer_is_not_asked_for_the_size_too() {
    let lines = Arc::<Mutex<Vec<String>>>::default();
    let endpoint = answering(|| "", Arc::clone(&lines));
    let objects = open("s3://bucket", &[&S3[..], &[("aws_endpoint", &endpoint)]].concat()).unwrap();
    let reads: [&(dyn Fn() -> Error + Sync); 3] =
        [&|| objects.get("x").unwrap_err(), &|| objects.get_range("x", 1..2).unwrap_err(), &|| {
            objects.get_tail("x", 2).unwrap_err()
        }];
    std::thread::scope(|scope| {
        for error in reads.map(|read| scope.spawn(read)).map(|thread| thread.join().unwrap()) {
            assert_eq!(error.kind(), ErrorKind::Unreachable);
            assert!(error.to_string().contains("x: the repository did not serve the request: "), "{error}");
        }
    });
    let lines = lines.lock().unwrap();
    assert!(lines.iter().all(|line| !line.starts_with("head ")), "{lines:?}");
    assert!(lines.iter().filter(|line| line.starts_with("get ")).count() >= 3 * 10);
}

/// The lines of the requests by which an object of this size is put.
fn put_lines(url: &str, options: Settings<'_>, endpoint: &str, path: &str, size: usize) -> Vec<String> {
    let lines = Arc::<Mutex<Vec<String>>>::default();
    let address = answering(|| REFUSAL, Arc::clone(&lines));
    let address = if url.starts_with("az") { format!("{address}/acc") } else { address };
    let options = [options, &[(endpoint, &address)]].concat();
    open(url, &options).unwrap().put_new(path, vec![7; size]).unwrap_err();
    let lines = lines.lock().unwrap();
    lines.clone()
}

const S3: [(&str, &str); 2] = [("aws_access_key_id", "AKIAKEY"), ("aws_secret_access_key", SECRET)];

#[test]
fn data_has_the_storage_class_that_was_asked_for_and_metadata_has_not() {
    let log = "sources/app/log/00000001/0000000000000001/0000000000000000-0000000000001000";
    let merged = format!("{}-1", log.replace("/log/", "/compacted/"));
    let pack = format!("packs/0f/0f{}", "a".repeat(62));
    let azure = [("azure_storage_account_name", "acc"), ("azure_storage_account_key", "c1dvUmRGaVNo")];
    let stores: [(&str, Settings<'_>, &str, &str); 3] = [
        ("s3://bucket", &S3, "aws_endpoint", "x-amz-storage-class: cold_ia"),
        (
            "gs://bucket",
            &[("google_bearer_token", SECRET)],
            "google_base_url",
            "x-goog-storage-class: cold_ia",
        ),
        ("az://container/x", &azure, "azure_storage_endpoint", "x-ms-access-tier: cold_ia"),
    ];
    for (url, options, endpoint, line) in stores {
        let options = [options, &[("pitr_storage_class", "COLD_IA")]].concat();
        let has = |path: &str, size| {
            let lines = put_lines(url, &options, endpoint, path, size);
            assert!(lines.iter().any(|line| line.starts_with("put ")), "{lines:?}");
            lines.iter().any(|found| found == line)
        };
        for data in [&pack, log, &merged] {
            assert!(has(data, 128 << 10), "{url} {data}");
        }
        assert!(!has(log, (128 << 10) - 1), "a small object costs more in a cheaper class");
        for metadata in ["repository", "sources/app/epochs/0000000000000001-claim"] {
            assert!(!has(metadata, 1 << 20), "{url} {metadata}");
        }
    }
    let usual = put_lines("s3://bucket", &S3, "aws_endpoint", &pack, 1 << 20);
    assert!(!usual.iter().any(|line| line.contains("storage-class")), "{usual:?}");
}

#[test]
fn encryption_by_the_store_is_asked_for_with_each_put() {
    let lines =
        |options: Settings<'_>| put_lines("s3://bucket", &[&S3, options].concat(), "aws_endpoint", "x", 10);
    let kms = lines(&[("aws_server_side_encryption", "aws:kms"), ("aws_sse_kms_key_id", "key-7")]);
    for line in
        ["x-amz-server-side-encryption: aws:kms", "x-amz-server-side-encryption-aws-kms-key-id: key-7"]
    {
        assert!(kms.iter().any(|found| found == line), "{kms:?}");
    }
    let key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let own = lines(&[("aws_server_side_encryption", "sse-c"), ("aws_sse_customer_key_base64", key)]);
    let sent = format!("x-amz-server-side-encryption-customer-key: {}", key.to_ascii_lowercase());
    assert!(own.contains(&sent), "{own:?}");
    assert!(!lines(&[]).iter().any(|line| line.contains("encryption")));
}
