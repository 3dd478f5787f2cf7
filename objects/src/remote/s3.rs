//! Amazon S3 and stores that speak its protocol.

use super::SetupError;
use super::client::{Connector, options, retry};
use super::settings::{Settings, check_endpoint, is_true};
use object_store::ClientConfigKey;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey as Key};

pub(super) fn build(bucket: &str, settings: &Settings) -> Result<AmazonS3, SetupError> {
    let builder = AmazonS3Builder::new()
        .with_client_options(options())
        .with_retry(retry())
        .with_http_connector(Connector::new(&settings.secrets))
        // Objects are deleted one by one, and not every store has the request for many.
        .with_disable_bulk_delete(true);
    let with = |builder: AmazonS3Builder, key: Key, value: &str| builder.with_config(key, value);
    let mut builder = settings.apply(builder, with)?.with_bucket_name(bucket);
    check_credentials(&builder, settings)?;
    let value = |key: Key| builder.get_config_value(&key);
    let is_on = |key: Key| value(key).is_some_and(|value| is_true(&value));
    match value(Key::S3Endpoint).or_else(|| value(Key::Endpoint)) {
        Some(endpoint) => {
            let allowed = is_on(Key::Client(ClientConfigKey::AllowHttp));
            if check_endpoint(&endpoint, "AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP", allowed)? {
                builder = builder.with_config(Key::Client(ClientConfigKey::AllowHttp), "true");
            }
        }
        None if value(Key::Region).or_else(|| value(Key::DefaultRegion)).is_none() => {
            return Err(SetupError::Missing {
                what: "region",
                set: "AWS_REGION, or AWS_ENDPOINT_URL for a store other than Amazon's",
            });
        }
        None => {}
    }
    builder.build().map_err(|error| settings.bad(&error))
}

fn check_credentials(builder: &AmazonS3Builder, settings: &Settings) -> Result<(), SetupError> {
    let value = |key: Key| builder.get_config_value(&key);
    let has = |key: Key| value(key).is_some();
    let missing = |what, set| Err(SetupError::Missing { what, set });
    match (has(Key::AccessKeyId), has(Key::SecretAccessKey)) {
        (true, true) => return Ok(()),
        (true, false) => return missing("secret access key", "AWS_SECRET_ACCESS_KEY too"),
        (false, true) => return missing("access key id", "AWS_ACCESS_KEY_ID too"),
        (false, false) => {}
    }
    let is_configured = settings.instance
        || value(Key::SkipSignature).is_some_and(|value| is_true(&value))
        || (has(Key::WebIdentityTokenFile) && has(Key::RoleArn))
        || has(Key::ContainerCredentialsRelativeUri)
        || (has(Key::ContainerCredentialsFullUri) && has(Key::ContainerAuthorizationTokenFile));
    match is_configured {
        true => Ok(()),
        false if settings.has("aws_profile") => Err(SetupError::Profile),
        false => Err(SetupError::NoCredentials { set: "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" }),
    }
}
