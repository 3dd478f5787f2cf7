//! Remote stores: from a bucket and its settings to a store.
//!
//! Settings are environment variables with the names that `object_store` knows, and options that
//! override them. A wrong or incomplete setting is an error before the first request. In
//! particular, a machine without credentials does not ask the metadata address of a cloud for some
//! ([`INSTANCE_VARIABLE`]): outside that cloud the request hangs.

#[cfg(feature = "azure")]
mod azure;
#[cfg(feature = "remote")]
mod client;
#[cfg(feature = "gcs")]
mod gcs;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "remote")]
mod secrets;
#[cfg(feature = "remote")]
mod settings;
#[cfg(test)]
#[cfg(all(feature = "s3", feature = "gcs", feature = "azure"))]
mod tests;

#[cfg(feature = "remote")]
pub(crate) use client::Refused;

use crate::bucket::{Bucket, StoreKind};
use crate::{Error, Result};
use object_store::ObjectStore;
use std::collections::BTreeMap;
use std::sync::Arc;
use thiserror::Error;

/// Set to 1, this variable allows the credentials that a cloud gives to its machines. The option of
/// the same name in lower case does the same.
pub const INSTANCE_VARIABLE: &str = "PITR_INSTANCE_CREDENTIALS";

/// Names the storage class of data objects: packs, and large log objects. The option of the same
/// name in lower case does the same. Metadata has the store's usual class.
pub const CLASS_VARIABLE: &str = "PITR_STORAGE_CLASS";

/// The store of a bucket.
pub(crate) struct Remote {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// The storage class of data objects; `None` for the store's usual one.
    pub(crate) data_class: Option<String>,
}

/// Why a remote store can't be used as it is configured. No message holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SetupError {
    /// No credentials are configured.
    #[error(
        "no credentials are configured; set {set}, or {INSTANCE_VARIABLE}=1 to use those of this cloud machine"
    )]
    NoCredentials {
        /// The variables to set.
        set: &'static str,
    },
    /// Only a profile of the AWS command line is configured.
    #[error(
        "AWS_PROFILE is set, but profiles are not read; export their keys first, as `eval \"$(aws configure export-credentials --format env)\"` does"
    )]
    Profile,
    /// A variable that is needed is not set.
    #[error("no {what} is configured; set {set}")]
    Missing {
        /// What is missing.
        what: &'static str,
        /// The variables to set.
        set: &'static str,
    },
    /// The endpoint is not a URL of a server.
    #[error(
        "{variable} is not the URL of a server; give one such as https://host:9000, without user, password and query"
    )]
    Endpoint {
        /// The variable.
        variable: &'static str,
    },
    /// The endpoint would send everything in clear over the network.
    #[error("{variable} is a http:// address of another machine; use https://, or set {allow}=true")]
    Plaintext {
        /// The variable.
        variable: &'static str,
        /// The variable that allows it.
        allow: &'static str,
    },
    /// The setting would ignore the endpoint.
    #[error(
        "AZURE_STORAGE_USE_EMULATOR ignores AZURE_STORAGE_ENDPOINT; unset it, and set the emulator's endpoint, account and key"
    )]
    Emulator,
    /// No option has this name.
    #[error("there is no option {name:?} for {store}")]
    Option {
        /// The option.
        name: String,
        /// The kind of store.
        store: StoreKind,
    },
    /// Objects of this storage class can't be read at once.
    #[error(
        "{CLASS_VARIABLE}={class}: what is stored in this class must be brought back before it can be read, so nothing could be restored from it at once; choose a class that is read like any other, such as {instead}"
    )]
    Offline {
        /// The storage class.
        class: String,
        /// A cheap class whose objects can be read at once.
        instead: &'static str,
    },
    /// A setting is not valid.
    #[error("a setting of the store is not valid: {0}")]
    Value(String),
    /// The bucket does not exist.
    #[error("there is no such bucket; create it first, or correct its name, the endpoint or the region")]
    NoBucket,
    /// The store has replaced an object by a put that must not replace any.
    #[error(
        "this store replaces existing objects although it was told not to (If-None-Match); two writers would destroy each other's data. Use a store or a version of it that enforces create-only puts; docs/stores.md names some"
    )]
    NotCreateOnly,
}

/// The store of a bucket. `options` override the environment variables.
pub(crate) fn open(bucket: &Bucket, options: &BTreeMap<String, String>) -> Result<Remote> {
    let opened = store_of(bucket, variables(), options);
    opened.map_err(|source| Error::Setup { place: bucket.to_string(), source })
}

#[cfg(not(feature = "remote"))]
fn store_of(
    bucket: &Bucket,
    _: impl IntoIterator<Item = (String, String)>,
    _: &BTreeMap<String, String>,
) -> Result<Remote, SetupError> {
    Err(not_included(bucket))
}

#[cfg(feature = "remote")]
fn store_of(
    bucket: &Bucket,
    variables: impl IntoIterator<Item = (String, String)>,
    options: &BTreeMap<String, String>,
) -> Result<Remote, SetupError> {
    use object_store::{path::Path, prefix::PrefixStore};
    client::install_tls();
    let settings = settings::Settings::new(bucket.store, variables, options);
    let data_class = settings.data_class()?;
    let store: Arc<dyn ObjectStore> = match bucket.store {
        #[cfg(feature = "s3")]
        StoreKind::S3 => Arc::new(s3::build(&bucket.name, &settings)?),
        #[cfg(feature = "gcs")]
        StoreKind::Gcs => Arc::new(gcs::build(&bucket.name, &settings)?),
        #[cfg(feature = "azure")]
        StoreKind::Azure => Arc::new(azure::build(&bucket.name, &settings)?),
        #[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
        _ => return Err(not_included(bucket)),
    };
    if bucket.prefix.is_empty() {
        return Ok(Remote { store, data_class });
    }
    let bad = |_| SetupError::Value(crate::bucket::BucketError::Prefix.to_string());
    let prefix = Path::parse(&bucket.prefix).map_err(bad)?;
    Ok(Remote { store: Arc::new(PrefixStore::new(store, prefix)), data_class })
}

#[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
fn not_included(bucket: &Bucket) -> SetupError {
    SetupError::Value(crate::LocationError::NotIncluded(bucket.store).to_string())
}

/// The environment variables of this process that are UTF-8.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
}
