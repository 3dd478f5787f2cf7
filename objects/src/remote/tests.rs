//! Which settings make a store, and what is said about the others.

use super::*;
use crate::Location;

const SECRET: &str = "sWoRdFiSh/0123456789+abcdef==";

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn owned(pairs: Pairs<'_>) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn open(url: &str, variables: Pairs<'_>, options: Pairs<'_>) -> Result<Remote, SetupError> {
    match Location::parse(url).unwrap() {
        Location::Bucket(bucket) => store_of(&bucket, owned(variables), &owned(options)),
        other => panic!("{other:?}"),
    }
}

/// What is said when a store can't be made. It never holds the secret.
fn refusal(url: &str, variables: Pairs<'_>, options: Pairs<'_>) -> String {
    let Err(error) = open(url, variables, options) else { panic!("{url} {variables:?} makes a store") };
    assert!(!format!("{error} {error:?}").contains("sWoRdFiSh"), "{error:?}");
    error.to_string()
}

const S3: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", "AKIAKEY"), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_REGION", "eu-central-1")];
const AZURE: [(&str, &str); 2] =
    [("AZURE_STORAGE_ACCOUNT_NAME", "acc"), ("AZURE_STORAGE_ACCOUNT_KEY", "c1dvUmRGaVNo")];

#[test]
fn a_missing_or_wrong_setting_is_named() {
    let endpoint = |value| [S3[0], S3[1], ("AWS_ENDPOINT_URL", value)];
    let cases: &[(&str, Pairs<'_>, &str)] = &[
        ("s3://bucket", &S3[2..], "no credentials are configured; set AWS_ACCESS_KEY_ID"),
        ("s3://bucket", &[S3[2], ("AWS_PROFILE", "shop")], "profiles are not read"),
        ("s3://bucket", &[S3[2], ("AWS_SECRET_ACCESS_KEY", "")], "no credentials"),
        ("s3://bucket", &S3[..1], "set AWS_SECRET_ACCESS_KEY too"),
        ("s3://bucket", &S3[1..], "set AWS_ACCESS_KEY_ID too"),
        ("s3://bucket", &S3[..2], "set AWS_REGION"),
        ("s3://bucket", &endpoint("http://10.0.0.1"), "set AWS_ALLOW_HTTP=true"),
        ("s3://bucket", &endpoint(SECRET), "AWS_ENDPOINT_URL is not the URL"),
        ("s3://bucket", &endpoint("https://u:sWoRdFiSh@host"), "without user"),
        (
            "s3://bucket",
            &[S3[0], S3[1], S3[2], ("AWS_TIMEOUT", "long")],
            "a setting of the store is not valid",
        ),
        ("gs://bucket", &[("HOME", "/nonexistent")], "set GOOGLE_APPLICATION_CREDENTIALS"),
        ("gs://bucket", &[("GOOGLE_SERVICE_ACCOUNT_KEY", SECRET)], "not valid"),
        ("gs://bucket", &[("GOOGLE_SERVICE_ACCOUNT_KEY", "\"sWoRdFiSh\"")], "not valid"),
        ("gs://bucket", &[("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent")], "No such file"),
        ("az://container", &[], "set AZURE_STORAGE_ACCOUNT_NAME"),
        ("az://container", &AZURE[..1], "set AZURE_STORAGE_ACCOUNT_KEY"),
        ("az://container", &[AZURE[0], ("AZURE_STORAGE_ACCOUNT_KEY", "sWoRdFiSh!")], "not valid"),
        ("az://container", &[AZURE[0], AZURE[1], ("AZURE_STORAGE_USE_EMULATOR", "true")], "ignores"),
    ];
    for (url, variables, says) in cases {
        let refused = refusal(url, variables, &[]);
        assert!(refused.contains(says), "{url} {says}: {refused}");
    }
}

#[test]
fn what_is_complete_makes_a_store() {
    let cases: &[(&str, Pairs<'_>)] = &[
        ("s3://bucket/x", &S3),
        ("s3://bucket", &[S3[0], S3[1], ("AWS_ENDPOINT_URL", "http://127.0.0.1:1")]),
        ("s3://bucket", &[S3[0], S3[1], ("AWS_ENDPOINT_URL", "http://10.0.0.1"), ("AWS_ALLOW_HTTP", "true")]),
        ("s3://bucket", &[S3[2], ("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "r")]),
        ("s3://bucket", &[S3[2], ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/t")]),
        ("gs://bucket/x", &[("GOOGLE_BEARER_TOKEN", SECRET)]),
        ("az://container/x", &AZURE),
        ("az://container", &[AZURE[0], AZURE[1], ("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:1/acc")]),
        ("az://container", &[AZURE[0], ("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=x")]),
    ];
    for (url, variables) in cases {
        open(url, variables, &[]).unwrap_or_else(|error| panic!("{url} {variables:?}: {error}"));
    }
}

#[test]
fn options_override_variables_and_must_be_known() {
    let far = [S3[0], S3[1], ("AWS_ENDPOINT_URL", "http://10.0.0.1")];
    assert!(open("s3://bucket", &far, &[("endpoint", "http://localhost:1")]).is_ok());
    assert_eq!(
        refusal("s3://bucket", &S3, &[("aws_regoin", "r")]),
        "there is no option \"aws_regoin\" for Amazon S3"
    );
    // Variables of other programs are not ours to judge.
    assert!(open("s3://bucket", &[S3[0], S3[1], S3[2], ("AWS_PAGER", "less")], &[]).is_ok());
}

#[test]
fn a_storage_class_must_be_readable_at_once() {
    let class = |url, value| {
        let variables =
            [&S3[..], &AZURE, &[("GOOGLE_BEARER_TOKEN", SECRET), (CLASS_VARIABLE, value)]].concat();
        open(url, &variables, &[]).map(|remote| remote.data_class)
    };
    for (url, known) in [
        ("s3://bucket/x", "STANDARD_IA"),
        ("s3://bucket", "GLACIER_IR"),
        ("s3://bucket", "our-own_class"),
        ("gs://bucket", "ARCHIVE"),
        ("az://container", "Cool"),
    ] {
        assert_eq!(class(url, known), Ok(Some(known.to_owned())), "{url} {known}");
    }
    assert_eq!(class("s3://bucket", ""), Ok(None));
    for (url, offline, says) in [
        ("s3://bucket", "DEEP_ARCHIVE", "STANDARD_IA"),
        ("s3://bucket", "glacier", "STANDARD_IA"),
        ("az://container", "archive", "Cool"),
    ] {
        let refused = class(url, offline).unwrap_err().to_string();
        assert!(refused.contains(says) && refused.contains("PITR_STORAGE_CLASS="), "{refused}");
    }
    assert!(matches!(class("s3://bucket", "two\nlines"), Err(SetupError::Value(_))));
    let by_option = open("s3://bucket", &S3, &[("pitr_storage_class", "STANDARD_IA")]);
    assert_eq!(by_option.unwrap().data_class.as_deref(), Some("STANDARD_IA"));
}

#[test]
fn credentials_of_the_machine_are_used_only_on_request() {
    for (url, variable) in
        [("s3://bucket", S3[2]), ("gs://bucket", ("HOME", "/nonexistent")), ("az://container", AZURE[0])]
    {
        assert!(refusal(url, &[variable], &[]).contains("PITR_INSTANCE_CREDENTIALS=1"));
        assert!(open(url, &[variable, (INSTANCE_VARIABLE, "1")], &[]).is_ok());
        assert!(open(url, &[variable], &[("pitr_instance_credentials", "true")]).is_ok());
        assert!(open(url, &[variable, (INSTANCE_VARIABLE, "0")], &[]).is_err());
        assert!(
            open(url, &[variable, (INSTANCE_VARIABLE, "1")], &[("pitr_instance_credentials", "")]).is_err()
        );
    }
}
