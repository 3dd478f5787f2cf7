//! Signatures of the requests that tests make themselves: a bucket is created, objects are listed.

use super::{ACCESS_KEY, ACCOUNT, ACCOUNT_KEY, REGION, SECRET_KEY};
use sha2::{Digest, Sha256};

const BLOCK_BYTES: usize = 64;
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const AZURE_VERSION: &str = "2021-08-06";

/// Fields of a signed request without a body, for S3 (AWS Signature Version 4). The parameters of
/// the path's query are encoded and in order.
pub(super) fn s3(method: &str, path: &str, host: &str) -> Vec<(&'static str, String)> {
    s3_at(method, path, host, now())
}

fn s3_at(method: &str, path: &str, host: &str, seconds: u64) -> Vec<(&'static str, String)> {
    let Date { year, month, day, hour, minute, second, .. } = Date::of(seconds);
    let date = format!("{year:04}{month:02}{day:02}");
    let time = format!("{date}T{hour:02}{minute:02}{second:02}Z");
    let (content, names) = (hex(&Sha256::digest([])), "host;x-amz-content-sha256;x-amz-date");
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let request = format!(
        "{method}\n{path}\n{query}\nhost:{host}\nx-amz-content-sha256:{content}\nx-amz-date:{time}\n\n{names}\n{content}"
    );
    let scope = format!("{date}/{REGION}/s3/aws4_request");
    let signed = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(request)));
    let mut key = format!("AWS4{SECRET_KEY}").into_bytes();
    for part in [&date, REGION, "s3", "aws4_request"] {
        key = hmac(&key, part.as_bytes()).to_vec();
    }
    let signature = hex(&hmac(&key, signed.as_bytes()));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope}, SignedHeaders={names}, Signature={signature}"
    );
    vec![("X-Amz-Content-Sha256", content), ("X-Amz-Date", time), ("Authorization", authorization)]
}

/// Fields of a signed PUT without a body, for Azure (Shared Key). The path has the account, and one
/// parameter.
pub(super) fn azure(path: &str) -> Vec<(&'static str, String)> {
    let Date { year, month, day, hour, minute, second, weekday } = Date::of(now());
    let month = MONTHS[month as usize - 1];
    let time = format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT");
    // Azurite expects the account twice: once as the account, once as the begin of the path.
    let resource = format!("/{ACCOUNT}{}", path.replacen('?', "\n", 1).replacen('=', ":", 1));
    let signed = format!("PUT{}x-ms-date:{time}\nx-ms-version:{AZURE_VERSION}\n{resource}", "\n".repeat(12));
    let signature = base64(&hmac(&base64_decoded(ACCOUNT_KEY), signed.as_bytes()));
    vec![
        ("x-ms-date", time),
        ("x-ms-version", AZURE_VERSION.to_owned()),
        ("Authorization", format!("SharedKey {ACCOUNT}:{signature}")),
    ]
}

/// A parameter's value in a query, encoded as signatures need it.
pub(super) fn encoded(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    value.bytes().map(one).collect()
}

/// Seconds since 1970. Servers refuse requests with a wrong time.
#[expect(clippy::disallowed_methods, reason = "a signature has the time of this machine")]
fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map(|time| time.as_secs()).unwrap_or_default()
}

struct Date {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    weekday: &'static str,
}

impl Date {
    fn of(seconds: u64) -> Date {
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let is_leap =
            |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let (mut year, mut left) = (1970, days);
        while left >= 365 + u64::from(is_leap(year)) {
            left -= 365 + u64::from(is_leap(year));
            year += 1;
        }
        let mut month = 1;
        for length in [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
            if left < length {
                break;
            }
            left -= length;
            month += 1;
        }
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        Date { year, month, day: left + 1, hour, minute, second, weekday: DAYS[(days % 7) as usize] }
    }
}

/// HMAC-SHA-256 (RFC 2104).
fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut block = [0; BLOCK_BYTES];
    match key.len() > BLOCK_BYTES {
        true => block[..32].copy_from_slice(&Sha256::digest(key)),
        false => block[..key.len()].copy_from_slice(key),
    }
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for number in 0..4 {
            let digit = BASE64[(bits >> (18 - 6 * number) & 63) as usize];
            text.push(if number <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

fn base64_decoded(text: &str) -> Vec<u8> {
    let digits = text.bytes().filter_map(|byte| BASE64.iter().position(|digit| *digit == byte));
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_usize, 0);
    for digit in digits {
        bits = bits << 6 & 0xffff | digit;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, date) in [
            (0, "Thu 1970-01-01 00:00:00"),
            (951_827_696, "Tue 2000-02-29 12:34:56"),
            (1_798_761_599, "Thu 2026-12-31 23:59:59"),
            (4_107_542_400, "Mon 2100-03-01 00:00:00"),
        ] {
            let Date { year, month, day, hour, minute, second, weekday } = Date::of(seconds);
            let found = format!("{weekday} {year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}");
            assert_eq!(found, date);
        }
    }

    #[test]
    fn values_are_encoded_byte_by_byte() {
        assert_eq!(encoded("a/B-1_2.~"), "a%2FB-1_2.~");
        assert_eq!(encoded("é &=+"), "%C3%A9%20%26%3D%2B");
    }

    #[test]
    fn hashes_and_digits_are_those_of_the_standards() {
        // RFC 4231, cases 2 and 6.
        let mac = hex(&hmac(b"Jefe", b"what do ya want for nothing?"));
        assert_eq!(mac, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let mac = hex(&hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First"));
        assert_eq!(mac, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
        // RFC 4648.
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!((base64(bytes.as_bytes()).as_str(), base64_decoded(text)), (text, bytes.into()));
        }
        assert_eq!(base64(&base64_decoded(ACCOUNT_KEY)), ACCOUNT_KEY);
    }
}
