//! Telling people of findings: a command of theirs, and a webhook.

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::Stdio;
use std::time::Duration;

use pitr::verify::{run_within, shell};

use super::args::Verify;
use crate::args::Global;
use crate::failure::CliError;

/// Time for the command, and for the webhook.
const LIMIT: Duration = Duration::from_secs(60);
/// Bytes of the findings that are sent.
const BYTES_MAX: usize = 8 << 10;

/// The findings of a round.
#[cfg_attr(not(feature = "webhook"), expect(dead_code, reason = "a command gets the text only"))]
pub(super) struct Findings<'a> {
    /// The repository's place.
    pub(super) repository: &'a str,
    /// Their number.
    pub(super) count: usize,
    /// One a line.
    pub(super) text: String,
}

/// Whom to tell.
pub(super) struct Alerts {
    command: Option<OsString>,
    #[cfg(feature = "webhook")]
    webhook: Option<webhook::Webhook>,
}

impl Alerts {
    /// # Errors
    /// A usage error if the webhook's URL is none.
    pub(super) fn new(args: &Verify) -> Result<Self, CliError> {
        Ok(Alerts {
            command: args.on_finding.clone(),
            #[cfg(feature = "webhook")]
            webhook: webhook::Webhook::given(args.webhook.as_deref())?,
        })
    }

    /// Tells all. A failure is reported, and ends nothing.
    pub(super) fn tell(&self, global: &Global, mut findings: Findings<'_>) {
        while findings.text.len() > BYTES_MAX {
            findings.text.pop();
        }
        if let Some(Err(error)) = self.command.as_deref().map(|command| run(command, &findings.text)) {
            global.output().always(format_args!("the command of --on-finding: {error}"));
        }
        #[cfg(feature = "webhook")]
        if let Some(Err(error)) = self.webhook.as_ref().map(|webhook| webhook.send(&findings)) {
            global.output().always(format_args!("the webhook: {error}"));
        }
    }
}

/// Runs a command with the findings in its environment.
fn run(command: &OsStr, findings: &str) -> io::Result<()> {
    let mut command = shell(command);
    command.env("PITR_FINDINGS", findings.trim_end()).stdout(Stdio::null());
    match run_within(&mut command, LIMIT)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(io::Error::other(format!("ended with {status}"))),
        None => Err(io::Error::other(format!("did not end within {} s", LIMIT.as_secs()))),
    }
}

#[cfg(feature = "webhook")]
mod webhook {
    use reqwest::Url;
    use reqwest::blocking::Client;
    use reqwest::header::CONTENT_TYPE;
    use serde::Serialize;

    use super::{Findings, LIMIT};
    use crate::commands::this_machine;
    use crate::failure::CliError;

    /// The environment variable for the URL. Unlike an argument, other users don't see it.
    const VARIABLE: &str = "PITR_WEBHOOK";
    /// Failed attempts after which a webhook is given up in this round.
    const ATTEMPTS: u32 = 3;

    /// An HTTP server that takes messages.
    pub(super) struct Webhook {
        /// Often a secret: it is part of no message.
        url: Url,
        client: Client,
    }

    /// What is sent, as JSON. Chat programs show `text`.
    #[derive(Serialize)]
    struct Message<'a> {
        text: String,
        repository: &'a str,
        host: String,
        findings: usize,
        version: &'static str,
    }

    impl Webhook {
        /// The one of the argument, or of the environment.
        pub(super) fn given(argument: Option<&str>) -> Result<Option<Self>, CliError> {
            let variable = || std::env::var(VARIABLE).ok().filter(|url| !url.is_empty());
            argument.map(str::to_owned).or_else(variable).as_deref().map(Webhook::new).transpose()
        }

        fn new(url: &str) -> Result<Self, CliError> {
            let is_http = |url: &Url| matches!(url.scheme(), "http" | "https");
            let Some(url) = url.parse().ok().filter(is_http) else {
                let what = "the webhook is no URL";
                return Err(CliError::usage(what).next("give one such as https://example.com/hook"));
            };
            // An error says that the process has one already.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let client = Client::builder().timeout(LIMIT / ATTEMPTS).build().map_err(|error| {
                CliError::usage(format_args!("the webhook can't be used: {}", reason(error)))
            })?;
            Ok(Webhook { url, client })
        }

        /// Sends the findings. An attempt that fails is repeated.
        pub(super) fn send(&self, findings: &Findings<'_>) -> Result<(), String> {
            let Findings { repository, count, text } = findings;
            let message = Message {
                text: format!("pitr: {count} findings in {repository}\n{}", text.trim_end()),
                repository,
                host: this_machine(),
                findings: *count,
                version: env!("CARGO_PKG_VERSION"),
            };
            let body = serde_json::to_vec(&message).map_err(|error| error.to_string())?;
            let mut attempt = 1;
            loop {
                match self.post(body.clone()) {
                    Err(_) if attempt < ATTEMPTS => attempt += 1,
                    outcome => return outcome,
                }
            }
        }

        fn post(&self, body: Vec<u8>) -> Result<(), String> {
            let request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
            let answer = request.body(body).send().map_err(reason)?;
            match answer.status() {
                status if status.is_success() => Ok(()),
                status => Err(format!("it answered with {status}")),
            }
        }
    }

    /// The innermost message, without the URL.
    fn reason(error: reqwest::Error) -> String {
        let error = error.without_url();
        let mut last: &dyn std::error::Error = &error;
        while let Some(next) = last.source() {
            last = next;
        }
        last.to_string()
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::io::{BufRead, BufReader, Read, Write};
        use std::net::TcpListener;

        /// Answers requests with these statuses; returns the URL, and what was received.
        fn server(statuses: &'static [u16]) -> (String, std::thread::JoinHandle<Vec<String>>) {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/secret", listener.local_addr().unwrap());
            let serve = move |status: &u16| {
                let mut stream = BufReader::new(listener.accept().unwrap().0);
                let (mut head, mut line) = (String::new(), String::new());
                while stream.read_line(&mut line).unwrap() > 2 {
                    head.push_str(&line.to_ascii_lowercase());
                    line.clear();
                }
                let len = head.split("content-length: ").nth(1).unwrap();
                let mut body = vec![0; len.split("\r\n").next().unwrap().parse().unwrap()];
                stream.read_exact(&mut body).unwrap();
                let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
                head + &String::from_utf8(body).unwrap()
            };
            (url, std::thread::spawn(move || statuses.iter().map(serve).collect()))
        }

        fn send(url: &str) -> Result<(), String> {
            let text = "packs/00: is missing\n".to_owned();
            Webhook::new(url).unwrap().send(&Findings { repository: "s3://bucket", count: 1, text })
        }

        #[test]
        fn findings_are_posted_as_json() {
            let (url, served) = server(&[503, 204]);
            assert_eq!(send(&url), Ok(()));
            for request in served.join().unwrap() {
                assert!(request.starts_with("post /secret http/1.1\r\n"), "{request}");
                assert!(request.contains("content-type: application/json\r\n"), "{request}");
                let body: serde_json::Value =
                    serde_json::from_str(&request[request.find('{').unwrap()..]).unwrap();
                assert_eq!(body["text"], "pitr: 1 findings in s3://bucket\npacks/00: is missing");
                assert_eq!((&body["repository"], &body["findings"]), (&"s3://bucket".into(), &1.into()));
                assert_eq!(body["host"], this_machine());
            }
        }

        #[test]
        fn a_webhook_that_fails_is_told_without_its_url() {
            let (url, served) = server(&[500, 500, 500]);
            assert_eq!(send(&url), Err("it answered with 500 Internal Server Error".to_owned()));
            assert_eq!(served.join().unwrap().len(), 3);
            let refused = send(&url).unwrap_err();
            assert!(refused.contains("refused") && !refused.contains("secret"), "{refused}");
            for wrong in ["example.com/hook", "ftp://example.com", ""] {
                let Err(error) = Webhook::new(wrong) else { panic!("{wrong}") };
                assert!(error.to_string().contains("the webhook is no URL"), "{error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_gets_the_findings_and_its_failure_is_told() {
        let run = |command: &str| run(OsStr::new(command), "one\ntwo\n").map_err(|error| error.to_string());
        assert_eq!(run("test \"$PITR_FINDINGS\" = 'one\ntwo'"), Ok(()));
        assert_eq!(run("exit 3"), Err("ended with exit status: 3".to_owned()));
    }
}
