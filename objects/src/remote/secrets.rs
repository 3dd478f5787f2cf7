//! Secrets among the settings, and taking them out of messages.

use std::fmt;

/// Shorter values are no secrets, and would be found in any message.
const SECRET_BYTES_MIN: usize = 6;
/// Maximum length of a server's message in an error, bytes.
const MESSAGE_BYTES_MAX: usize = 300;

/// Values that must not be in any message.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// Remembers the value of a setting if it is a secret.
    pub(super) fn note(&mut self, key: &str, value: &str) {
        let is_place = ["_file", "_path", "_endpoint", "_arn", "_url"].iter().any(|end| key.ends_with(end));
        let may_be = ["secret", "key", "token", "sas", "password", "credentials", "service_account"]
            .iter()
            .any(|part| key.contains(part));
        if key.ends_with("proxy_url") || (may_be && !is_place && value.len() >= SECRET_BYTES_MIN) {
            self.0.push(value.to_owned());
            // A key of several lines is quoted with escapes.
            self.0.push(value.escape_debug().to_string());
        }
    }

    /// The text without any secret.
    pub(super) fn removed_from(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }

    /// What a server says about an error: code and message of its answer. The rest of the answer
    /// may repeat parts of the request, as `InvalidToken` of S3 repeats the token.
    pub(super) fn message_of(&self, answer: &str) -> String {
        let in_xml = |tag: &str| {
            let from = answer.find(&format!("<{tag}>"))? + tag.len() + 2;
            let len = answer.get(from..)?.find("</")?;
            answer.get(from..from + len)
        };
        let in_json = |name: &str| {
            let (_, rest) = answer.split_once(&format!("\"{name}\""))?;
            let rest = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
            rest.split_once('"').map(|(text, _)| text)
        };
        let code = in_xml("Code").or_else(|| in_json("error")).or_else(|| in_json("code"));
        let message = in_xml("Message")
            .or_else(|| in_json("error_description"))
            .or_else(|| in_json("message"))
            .and_then(|text| text.lines().next());
        let said: Vec<&str> = [code, message].into_iter().flatten().collect();
        let mut said = self.removed_from(&said.join(": "));
        let end = (0..=MESSAGE_BYTES_MAX.min(said.len())).rev().find(|at| said.is_char_boundary(*at));
        said.truncate(end.unwrap_or(0));
        said
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        let mut secrets = Secrets::default();
        secrets.note("aws_secret_access_key", "swordfish");
        secrets.note("aws_session_token", "ttt-ttt");
        secrets.note("aws_web_identity_token_file", "/run/token");
        secrets.note("aws_region", "us-east-1");
        secrets
    }

    #[test]
    fn an_answer_is_cut_down_to_its_code_and_message() {
        let answer = "<?xml version=\"1.0\"?><Error><Code>InvalidToken</Code><Message>The provided token is \
            malformed.</Message><Token-0>another</Token-0><RequestId>1</RequestId></Error>";
        assert_eq!(secrets().message_of(answer), "InvalidToken: The provided token is malformed.");
        let answer = r#"{"error": "invalid_grant", "error_description":"no", "assertion":"x"}"#;
        assert_eq!(secrets().message_of(answer), "invalid_grant: no");
        assert_eq!(secrets().message_of("<Error><Code>Slow swordfish</Code></Error>"), "Slow ***");
        assert_eq!(secrets().message_of("<html>Bad gateway swordfish</html>"), "");
        let long = format!("<Message>{}</Message>", "ä".repeat(1000));
        assert_eq!(secrets().message_of(&long).len(), MESSAGE_BYTES_MAX);
        for broken in ["<Code>", "<Code>x", "\"error\":", "\"error\":\"x", "<Message></Message>"] {
            assert_eq!(secrets().message_of(broken), "", "{broken}");
        }
    }

    #[test]
    fn secrets_are_removed_and_places_stay() {
        let text = "swordfish in us-east-1 with ttt-ttt of /run/token";
        assert_eq!(secrets().removed_from(text), "*** in us-east-1 with *** of /run/token");
        assert!(!format!("{:?}", secrets()).contains("sword"));
    }
}
