//! The one place where clients are made: region, endpoint, credentials, time-outs.

/// The `[aws]` table. What is `None` is found as every AWS tool finds it: environment, profile, SSO, web
/// identity, container, instance metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    pub region: Option<String>,
    pub profile: Option<String>,
    pub assume_role_arn: Option<String>,
    pub external_id: Option<String>,
    pub kinesis_endpoint_url: Option<String>,
    pub kms_endpoint_url: Option<String>,
}
