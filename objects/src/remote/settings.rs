//! Settings of a store: environment variables and options.

use super::secrets::Secrets;
use super::{CLASS_VARIABLE, INSTANCE_VARIABLE, SetupError};
use crate::bucket::StoreKind;
use object_store::Error as StoreError;
use std::collections::BTreeMap;
use std::str::FromStr;

/// Maximum length of the name of a storage class, bytes.
const CLASS_BYTES_MAX: usize = 64;

/// The settings of a store in the order in which they apply: a later one overrides an earlier one.
#[derive(Debug)]
pub(super) struct Settings {
    store: StoreKind,
    values: Vec<Setting>,
    /// The credentials of the cloud machine may be used.
    pub(super) instance: bool,
    pub(super) home: Option<String>,
    data_class: Option<String>,
    pub(super) secrets: Secrets,
}

struct Setting {
    key: String,
    value: String,
    /// True for an option: unlike a variable it must be known.
    is_option: bool,
}

impl std::fmt::Debug for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.key)
    }
}

impl Settings {
    pub(super) fn new(
        store: StoreKind,
        variables: impl IntoIterator<Item = (String, String)>,
        options: &BTreeMap<String, String>,
    ) -> Self {
        let (begins, also): (_, &[&str]) = match store {
            StoreKind::S3 => ("AWS_", &[]),
            StoreKind::Gcs => ("GOOGLE_", &["SERVICE_ACCOUNT"]),
            StoreKind::Azure => ("AZURE_", &["IDENTITY_ENDPOINT"]),
        };
        let (values, secrets) = (Vec::new(), Secrets::default());
        let mut settings = Settings { store, values, instance: false, home: None, data_class: None, secrets };
        // An empty variable is as good as none.
        for (name, value) in variables.into_iter().filter(|(_, value)| !value.is_empty()) {
            if name == INSTANCE_VARIABLE {
                settings.instance = is_true(&value);
            } else if name == CLASS_VARIABLE {
                settings.data_class = Some(value);
            } else if name == "HOME" {
                settings.home = Some(value);
            } else if name.starts_with(begins) || also.contains(&name.as_str()) {
                settings.add(name.to_ascii_lowercase(), value, false);
            }
        }
        settings.values.sort_by(|a, b| a.key.cmp(&b.key));
        for (key, value) in options {
            if *key == INSTANCE_VARIABLE.to_ascii_lowercase() {
                settings.instance = is_true(value);
            } else if *key == CLASS_VARIABLE.to_ascii_lowercase() {
                settings.data_class = Some(value.clone()).filter(|value| !value.is_empty());
            } else {
                settings.add(key.clone(), value.clone(), true);
            }
        }
        settings
    }

    fn add(&mut self, key: String, value: String, is_option: bool) {
        self.secrets.note(&key, &value);
        self.values.push(Setting { key, value, is_option });
    }

    /// The storage class of data objects. Stores other than the clouds' own have classes of their
    /// own, so any name is taken, except one whose objects can't be read at once.
    ///
    /// # Errors
    /// [`SetupError::Offline`]; [`SetupError::Value`].
    pub(super) fn data_class(&self) -> Result<Option<String>, SetupError> {
        let Some(class) = &self.data_class else { return Ok(None) };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if class.len() > CLASS_BYTES_MAX || !class.bytes().all(is_name) {
            let what = format!("{CLASS_VARIABLE} is not the name of a storage class");
            return Err(SetupError::Value(what));
        }
        let (offline, instead): (&[&str], _) = match self.store {
            StoreKind::S3 => (&["GLACIER", "DEEP_ARCHIVE"], "STANDARD_IA or GLACIER_IR"),
            StoreKind::Azure => (&["Archive"], "Cool or Cold"),
            StoreKind::Gcs => (&[], ""),
        };
        match offline.iter().any(|name| name.eq_ignore_ascii_case(class)) {
            true => Err(SetupError::Offline { class: class.clone(), instead }),
            false => Ok(Some(class.clone())),
        }
    }

    /// True if there is a setting of this name.
    #[cfg(feature = "s3")]
    pub(super) fn has(&self, key: &str) -> bool {
        self.values.iter().any(|setting| setting.key == key)
    }

    /// Gives every setting to a builder, in order.
    ///
    /// # Errors
    /// [`SetupError::Option`] for an option that the store does not know.
    pub(super) fn apply<B, K: FromStr>(
        &self,
        builder: B,
        with: impl Fn(B, K, &str) -> B,
    ) -> Result<B, SetupError> {
        self.values.iter().try_fold(builder, |builder, setting| match setting.key.parse::<K>() {
            Ok(key) => Ok(with(builder, key, &setting.value)),
            Err(_) if setting.is_option => {
                Err(SetupError::Option { name: setting.key.clone(), store: self.store })
            }
            Err(_) => Ok(builder),
        })
    }

    /// The error of a builder, as one line without secrets.
    pub(super) fn bad(&self, error: &StoreError) -> SetupError {
        let mut last: &(dyn std::error::Error + 'static) = error;
        while let Some(next) = last.source() {
            last = next;
        }
        let text = self.secrets.removed_from(&last.to_string());
        SetupError::Value(text.lines().next().unwrap_or_default().to_owned())
    }
}

/// True for a setting that is switched on, as `object_store` reads it.
pub(super) fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "on" | "yes" | "y")
}

/// Checks the address of a server. Returns true if plain HTTP must be allowed for it.
///
/// # Errors
/// [`SetupError::Endpoint`]; [`SetupError::Plaintext`] for `http://` to another machine.
pub(super) fn check_endpoint(
    endpoint: &str,
    variable: &'static str,
    allow: &'static str,
    allowed: bool,
) -> Result<bool, SetupError> {
    let bad = SetupError::Endpoint { variable };
    let (scheme, rest) = endpoint.split_once("://").ok_or(bad.clone())?;
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let is_odd = |c: char| c == '@' || c == '?' || c == '#' || c.is_whitespace();
    if host.is_empty() || rest.contains(is_odd) {
        return Err(bad);
    }
    let is_here =
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    match scheme {
        "https" => Ok(false),
        "http" if is_here || allowed => Ok(true),
        "http" => Err(SetupError::Plaintext { variable, allow }),
        _ => Err(bad),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_for_this_machine_or_on_request() {
        let check = |endpoint, allowed| check_endpoint(endpoint, "V", "A", allowed);
        for here in ["http://127.0.0.1:9000", "http://localhost", "http://[::1]:1/x", "http://127.9.9.9"] {
            assert_eq!(check(here, false), Ok(true), "{here}");
        }
        assert_eq!(check("https://s3.example.org", false), Ok(false));
        for far in ["http://10.0.0.1:9000", "http://127.0.0.1.example.org", "http://localhost.example.org"] {
            let plaintext = SetupError::Plaintext { variable: "V", allow: "A" };
            assert_eq!((check(far, false), check(far, true)), (Err(plaintext), Ok(true)), "{far}");
        }
        for bad in ["", "host:9000", "ftp://host", "https://", "https://user:secret@host", "https://h?x=1"] {
            assert_eq!(check(bad, true), Err(SetupError::Endpoint { variable: "V" }), "{bad}");
        }
    }
}
