//! Buckets of remote stores: settings, and errors without secrets. No request leaves this machine.
#![cfg(all(feature = "s3", feature = "gcs", feature = "azure"))]

use pitr_objects::*;
use pitr_vfs::Env;
use std::collections::BTreeMap;
use std::error::Error as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;

const SECRET: &str = "sWoRdFiSh/0123456789+abcdef==";

fn open(url: &str, options: &[(&str, &str)]) -> Result<Objects> {
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
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut line, mut body) = (String::new(), 0);
            while stream.read_line(&mut line).is_ok_and(|n| n > 0) && line != "\r\n" {
                if let Some(len) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    body = len.trim().parse().unwrap();
                }
                line.clear();
            }
            let _ = stream.read_exact(&mut vec![0; body]);
            let _ = stream.get_mut().write_all(answer.as_bytes());
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
    let stores: [(&str, &[(&str, &str)]); 4] = [
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
