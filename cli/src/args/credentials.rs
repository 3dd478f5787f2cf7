//! Credentials of an encrypted repository: a passphrase, or a key of 32 bytes.

use std::ffi::OsStr;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use pitr::codec::{KeyWrap, Passphrase, RawKey, Secret};
use pitr::vfs::read_file;

use crate::failure::CliError;

/// The environment variable for a passphrase.
pub(crate) const PASSPHRASE_VARIABLE: &str = "PITR_PASSPHRASE";
/// Maximum length of a credential file and of a command's answer, bytes. A longer one is the wrong
/// file.
const FILE_BYTES_MAX: usize = 4096;

/// Where the arguments say that the credential is; at most one of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given<'a> {
    /// A file with a passphrase.
    pub(crate) passphrase_file: Option<&'a Path>,
    /// A file with a key.
    pub(crate) key_file: Option<&'a Path>,
    /// A command that prints a key.
    pub(crate) key_command: Option<&'a OsStr>,
}

impl Given<'_> {
    /// Fetches the credential; `None` if none is given.
    pub(crate) fn fetch(self) -> Result<Option<Box<dyn KeyWrap>>, CliError> {
        if let Some(path) = self.passphrase_file {
            return Ok(Some(Box::new(passphrase_of(path, &read(path)?)?)));
        }
        let key = match (self.key_file, self.key_command) {
            (Some(path), _) => key_of(&read(path)?).map_err(|wrong| {
                wrong.at(path.display()).next("create one with `openssl rand -out FILE 32`")
            })?,
            (None, Some(command)) => {
                key_of(&answer(command)?).map_err(|wrong| wrong.at("answer of the key command"))?
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(Box::new(RawKey(key))))
    }
}

/// What a command prints. It runs in a shell, and may ask the user on the terminal.
fn answer(command: &OsStr) -> Result<Vec<u8>, CliError> {
    // Not repeated: a command may hold a token.
    let failed = |what: &dyn std::fmt::Display| {
        CliError::usage(what).next("run the command by itself; it must print the key and end with 0")
    };
    let no_start = |error| failed(&format_args!("the key command can't be run: {error}"));
    let mut child =
        Command::new("/bin/sh").arg("-c").arg(command).stdout(Stdio::piped()).spawn().map_err(no_start)?;
    let mut bytes = Vec::new();
    let read = match child.stdout.take() {
        Some(stdout) => stdout.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes),
        None => Ok(0),
    };
    let ended = child.wait().map_err(no_start)?;
    read.map_err(no_start)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(failed(&format_args!("the key command printed more than {FILE_BYTES_MAX} bytes")));
    }
    if !ended.success() {
        return Err(failed(&format_args!("the key command failed: {ended}")));
    }
    Ok(bytes)
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
fn key_of(bytes: &[u8]) -> Result<Secret, CliError> {
    if let Ok(key) = <[u8; 32]>::try_from(bytes) {
        return Ok(Secret::new(key));
    }
    let wrong = || CliError::usage("a key is 32 bytes, or 64 hexadecimal digits");
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
        let key = |bytes: &[u8]| key_of(bytes).ok();
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
    fn a_command_prints_the_key_or_says_why_not() {
        let fetch = |command: &str| {
            let command = Some(OsStr::new(command));
            Given { passphrase_file: None, key_file: None, key_command: command }.fetch()
        };
        assert!(fetch(&format!("printf %s {}", "0a".repeat(32))).unwrap().is_some());
        for (command, says) in [
            ("printf secret-token", "64 hexadecimal digits: answer of the key command"),
            ("exit 7; secret-token", "the key command failed: exit status: 7"),
            ("kill -9 $$; secret-token", "the key command failed: signal: 9"),
            ("yes secret-token", "printed more than 4096 bytes"),
        ] {
            let Err(error) = fetch(command) else { panic!("{command}") };
            let (text, code) = (error.to_string(), error.code);
            assert!(text.contains(says) && !text.contains("secret-token"), "{command}: {text}");
            assert_eq!(code, crate::failure::Exit::Usage);
        }
    }

    #[test]
    fn a_passphrase_is_the_first_line_of_its_file() {
        let passphrase = |bytes: &[u8]| passphrase_of(Path::new("p"), bytes).is_ok();
        assert!(passphrase(b"correct horse\n") && passphrase(b"x") && passphrase(b"x\r\n"));
        assert!(!passphrase(b"") && !passphrase(b"\nx") && !passphrase(b"\xff"));
    }
}
