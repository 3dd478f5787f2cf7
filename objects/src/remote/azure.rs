//! Azure Blob Storage.

use super::SetupError;
use super::client::{Connector, options, retry};
use super::settings::{Settings, check_endpoint, is_true};
use object_store::ClientConfigKey;
use object_store::azure::{AzureConfigKey as Key, MicrosoftAzure, MicrosoftAzureBuilder};

pub(super) fn build(container: &str, settings: &Settings) -> Result<MicrosoftAzure, SetupError> {
    let builder = MicrosoftAzureBuilder::new()
        .with_client_options(options())
        .with_retry(retry())
        .with_http_connector(Connector::new(&settings.secrets));
    let with = |builder: MicrosoftAzureBuilder, key: Key, value: &str| builder.with_config(key, value);
    let mut builder = settings.apply(builder, with)?.with_container_name(container);
    let value = |key: Key| builder.get_config_value(&key);
    let is_on = |key: Key| value(key).is_some_and(|value| is_true(&value));
    if is_on(Key::UseEmulator) {
        return Err(SetupError::Emulator);
    }
    if value(Key::AccountName).is_none() {
        return Err(SetupError::Missing { what: "storage account", set: "AZURE_STORAGE_ACCOUNT_NAME" });
    }
    let has = |keys: &[Key]| keys.iter().all(|key| builder.get_config_value(key).is_some());
    let is_configured = settings.instance
        || is_on(Key::SkipSignature)
        || is_on(Key::UseAzureCli)
        || value(Key::CredentialType).is_some_and(|kind| kind != "auto")
        || [Key::AccessKey, Key::SasKey, Key::Token, Key::MsiEndpoint].into_iter().any(|key| has(&[key]))
        || has(&[Key::ClientId, Key::AuthorityId, Key::ClientSecret])
        || has(&[Key::ClientId, Key::AuthorityId, Key::FederatedTokenFile])
        || has(&[Key::FabricTokenServiceUrl, Key::FabricSessionToken]);
    if !is_configured {
        return Err(SetupError::NoCredentials { set: "AZURE_STORAGE_ACCOUNT_KEY" });
    }
    if let Some(endpoint) = value(Key::Endpoint) {
        let allowed = is_on(Key::Client(ClientConfigKey::AllowHttp));
        if check_endpoint(&endpoint, "AZURE_STORAGE_ENDPOINT", "AZURE_ALLOW_HTTP", allowed)? {
            builder = builder.with_config(Key::Client(ClientConfigKey::AllowHttp), "true");
        }
    }
    builder.build().map_err(|error| settings.bad(&error))
}
