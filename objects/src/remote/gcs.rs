//! Google Cloud Storage.

use super::SetupError;
use super::client::{Connector, options, retry};
use super::settings::{Settings, check_endpoint, is_true};
use object_store::ClientConfigKey;
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder, GoogleConfigKey as Key};
use std::path::Path;

/// Where `gcloud auth application-default login` puts the user's credentials, below the home.
const APPLICATION_DEFAULT: &str = ".config/gcloud/application_default_credentials.json";

pub(super) fn build(bucket: &str, settings: &Settings) -> Result<GoogleCloudStorage, SetupError> {
    let builder = GoogleCloudStorageBuilder::new()
        .with_client_options(options())
        .with_retry(retry())
        .with_http_connector(Connector::new(&settings.secrets));
    let with = |builder: GoogleCloudStorageBuilder, key: Key, value: &str| builder.with_config(key, value);
    let mut builder = settings.apply(builder, with)?.with_bucket_name(bucket);
    let value = |key: Key| builder.get_config_value(&key);
    let is_on = |key: Key| value(key).is_some_and(|value| is_true(&value));
    let is_configured = settings.instance
        || is_on(Key::SkipSignature)
        || [Key::ServiceAccount, Key::ServiceAccountKey, Key::ApplicationCredentials, Key::BearerToken]
            .into_iter()
            .any(|key| value(key).is_some())
        || settings.home.as_ref().is_some_and(|home| Path::new(home).join(APPLICATION_DEFAULT).exists());
    if !is_configured {
        let set = "GOOGLE_APPLICATION_CREDENTIALS to the path of a key file";
        return Err(SetupError::NoCredentials { set });
    }
    if let Some(base) = value(Key::BaseUrl) {
        let allowed = is_on(Key::Client(ClientConfigKey::AllowHttp));
        if check_endpoint(&base, "GOOGLE_BASE_URL", "GOOGLE_ALLOW_HTTP", allowed)? {
            builder = builder.with_config(Key::Client(ClientConfigKey::AllowHttp), "true");
        }
    }
    builder.build().map_err(|error| settings.bad(&error))
}
