//! Credentials of an encrypted repository: a passphrase, or a key of 32 bytes.

use std::io::ErrorKind;
use std::path::Path;

use pitr::codec::{KeyWrap, Passphrase, RawKey, Secret};
use pitr::vfs::read_file;

use crate::failure::CliError;

/// The environment variable for a passphrase.
pub(crate) const PASSPHRASE_VARIABLE: &str = "PITR_PASSPHRASE";
/// Maximum length of a credential file, bytes. A longer one is the wrong file.
const FILE_BYTES_MAX: usize = 4096;

/// Reads the credential from a passphrase file or a key file.
pub(crate) fn from_files(
    passphrase: Option<&Path>,
    key: Option<&Path>,
) -> Result<Option<Box<dyn KeyWrap>>, CliError> {
    match (passphrase, key) {
        (Some(path), _) => Ok(Some(Box::new(passphrase_of(path, &read(path)?)?))),
        (None, Some(path)) => Ok(Some(Box::new(RawKey(key_of(path, &read(path)?)?)))),
        (None, None) => Ok(None),
    }
}

/// The passphrase from the environment, if it is set.
pub(crate) fn from_environment() -> Result<Option<Box<dyn KeyWrap>>, CliError> {
    match std::env::var(PASSPHRASE_VARIABLE) {
        Ok(text) if text.is_empty() => Err(CliError::usage(format_args!("{PASSPHRASE_VARIABLE} is empty"))),
        Ok(text) => Ok(Some(Box::new(Passphrase::new(text)))),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(error) => Err(CliError::usage(format_args!("{PASSPHRASE_VARIABLE}: {error}"))),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    read_file(path, FILE_BYTES_MAX).map_err(|error| {
        let failure = CliError::usage(&error).at(path.display());
        match error.kind() {
            ErrorKind::FileTooLarge => {
                let what = format_args!("a passphrase or key file has at most {FILE_BYTES_MAX} bytes");
                CliError::usage(what).at(path.display())
            }
            // A pipe or a device (FAILURES 59).
            ErrorKind::InvalidInput => {
                failure.next(format_args!("name a regular file, or set {PASSPHRASE_VARIABLE}"))
            }
            _ => failure,
        }
    })
}

/// The first line, without the line ending.
fn passphrase_of(path: &Path, bytes: &[u8]) -> Result<Passphrase, CliError> {
    let wrong = |what: &str| CliError::usage(what).at(path.display());
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("the passphrase is not UTF-8"))?;
    match text.lines().next().filter(|line| !line.is_empty()) {
        Some(line) => Ok(Passphrase::new(line)),
        None => Err(wrong("the first line, the passphrase, is empty")),
    }
}

/// 32 bytes, or 64 hexadecimal digits with an optional newline.
fn key_of(path: &Path, bytes: &[u8]) -> Result<Secret, CliError> {
    if let Ok(key) = <[u8; 32]>::try_from(bytes) {
        return Ok(Secret::new(key));
    }
    let wrong = || {
        CliError::usage("a key is 32 bytes, or 64 hexadecimal digits")
            .at(path.display())
            .next("create one with `openssl rand -out FILE 32`")
    };
    let digits = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let mut key = [0; 32];
    if digits.len() != 64 {
        return Err(wrong());
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| !pair.contains('+'));
        *byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(wrong)?;
    }
    Ok(Secret::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_bytes_or_hexadecimal_digits() {
        let key = |bytes: &[u8]| key_of(Path::new("k"), bytes).ok();
        assert_eq!(key(&[7; 32]), Some(Secret::new([7; 32])));
        assert_eq!(key("0a".repeat(32).as_bytes()), Some(Secret::new([10; 32])));
        assert_eq!(key(("0A".repeat(32) + "\n").as_bytes()), Some(Secret::new([10; 32])));
        for wrong in [
            &b""[..],
            &[7; 31],
            "0a".repeat(31).as_bytes(),
            "+a".repeat(32).as_bytes(),
            "xy".repeat(32).as_bytes(),
        ] {
            assert_eq!(key(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_passphrase_is_the_first_line_of_its_file() {
        let passphrase = |bytes: &[u8]| passphrase_of(Path::new("p"), bytes).is_ok();
        assert!(passphrase(b"correct horse\n") && passphrase(b"x") && passphrase(b"x\r\n"));
        assert!(!passphrase(b"") && !passphrase(b"\nx") && !passphrase(b"\xff"));
    }
}
