//! Credentials that are refused are looked for anew, so that a mended profile is used without a restart.
//!
//! The SDK reads profile files once in a process, and keeps credentials that say no expiry for a quarter of an hour. So
//! what a service refuses here makes the whole chain of the SDK anew, and its cache with it; until then both are the
//! SDK's own.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::identity::IdentityCache;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, SharedCredentialsProvider, future};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::identity::{
    IdentityFuture, ResolveCachedIdentity, SharedIdentityCache, SharedIdentityResolver,
};
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::retry;

/// Between two looks at what may hold credentials: files, but also services that answer every host.
const NOT_SOONER: Duration = Duration::from_secs(5);
/// The same where good credentials are not allowed to: mostly a permission is missing, which no look will mend.
const NOT_SOONER_IF_DENIED: Duration = Duration::from_secs(30);

/// Finds the credentials' provider from nothing: reads files, asks nobody yet.
pub(super) type Find =
    Box<dyn Fn() -> BoxFuture<'static, Option<SharedCredentialsProvider>> + Send + Sync>;

/// One for all clients of a configuration: its provider, its cache, and what hears the refusals. Cheap to clone.
#[derive(Clone)]
pub(super) struct Renewal(Arc<Shared>);

struct Shared {
    find: Find,
    state: Mutex<State>,
}

struct State {
    /// None until it is asked for after a refusal.
    provider: Option<SharedCredentialsProvider>,
    cache: SharedIdentityCache,
    /// When both were made.
    since: Instant,
    /// So old they have to be to be looked for again.
    refused: Option<Duration>,
}

impl Renewal {
    /// Begins with this provider.
    pub(super) fn new(provider: SharedCredentialsProvider, find: Find) -> Self {
        let state = State {
            provider: Some(provider),
            cache: IdentityCache::lazy().build(),
            since: Instant::now(),
            refused: None,
        };
        Self(Arc::new(Shared {
            find,
            state: Mutex::new(state),
        }))
    }

    /// The configuration, with its credentials from here.
    pub(super) fn provide(&self, config: &SdkConfig) -> SdkConfig {
        config
            .to_builder()
            .credentials_provider(SharedCredentialsProvider::new(self.clone()))
            .identity_cache(self.clone())
            .build()
    }

    /// The next who asks gets credentials that were looked for after this.
    fn refuse(&self, not_sooner: Duration) {
        let mut state = self.state();
        let sooner = state
            .refused
            .map_or(not_sooner, |before| before.min(not_sooner));
        state.refused = Some(sooner);
    }

    fn cache(&self) -> SharedIdentityCache {
        let mut state = self.state();
        let is_due = |not_sooner| state.since.elapsed() >= not_sooner;
        if state.refused.is_some_and(is_due) {
            tracing::debug!("the AWS credentials are looked for anew");
            *state = State {
                provider: None,
                cache: IdentityCache::lazy().build(),
                since: Instant::now(),
                refused: None,
            };
        }
        state.cache.clone()
    }

    async fn credentials(&self) -> provider::Result {
        let known = self.state().provider.clone();
        let provider = match known {
            Some(provider) => provider,
            None => {
                let found = (self.0.find)().await.ok_or_else(|| {
                    CredentialsError::not_loaded("no provider of credentials is configured")
                })?;
                self.state().provider.get_or_insert(found).clone()
            }
        };
        let credentials = provider.provide_credentials().await;
        if credentials.is_err() {
            self.refuse(NOT_SOONER);
        }
        credentials
    }

    fn state(&self) -> MutexGuard<'_, State> {
        (self.0.state.lock()).unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewal").finish_non_exhaustive()
    }
}

impl ProvideCredentials for Renewal {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }

    /// What the SDK uses where the provider is too slow: those of before, if it has them.
    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        let provider = self.state().provider.clone();
        provider?.fallback_on_interrupt()
    }
}

impl ResolveCachedIdentity for Renewal {
    fn resolve_cached_identity<'a>(
        &'a self,
        resolver: SharedIdentityResolver,
        runtime_components: &'a RuntimeComponents,
        config_bag: &'a ConfigBag,
    ) -> IdentityFuture<'a> {
        let cache = self.cache();
        IdentityFuture::new(async move {
            cache
                .resolve_cached_identity(resolver, runtime_components, config_bag)
                .await
        })
    }
}

#[dyn_dispatch_hint]
impl Intercept for Renewal {
    fn name(&self) -> &'static str {
        "Renewal"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(not_sooner) = refuses_credentials(context.response()) {
            self.refuse(not_sooner);
        }
        Ok(())
    }
}

/// Whether an answer says that other credentials might do, and how old these have to be to be looked for again.
fn refuses_credentials(answer: &HttpResponse) -> Option<Duration> {
    let status = answer.status().as_u16();
    if !matches!(status, 400 | 401 | 403) {
        return None;
    }
    // The protocol's two places for an error's code, `namespace#Code:http://…` at its longest.
    let header = answer.headers().get("x-amzn-errortype").map(str::to_owned);
    let code = header.or_else(|| {
        let body = answer.body().bytes()?;
        let body: serde_json::Value = serde_json::from_slice(body).ok()?;
        Some(body.get("__type")?.as_str()?.to_owned())
    });
    let code = code.unwrap_or_default();
    let code = code.rsplit('#').next().unwrap_or_default();
    match code.split(':').next().unwrap_or_default() {
        code if retry::refuses_credentials(code) => Some(NOT_SOONER),
        // Another user's may be allowed to.
        "AccessDenied" | "AccessDeniedException" => Some(NOT_SOONER_IF_DENIED),
        _ if status != 400 => Some(NOT_SOONER_IF_DENIED),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use aws_smithy_types::body::SdkBody;

    use super::*;

    fn answer(status: u16, body: &str) -> HttpResponse {
        HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))
    }

    #[test]
    fn what_other_credentials_might_mend_is_told_from_what_they_might_not() {
        let bad =
            r#"{"__type":"com.amazon.coral.service#UnrecognizedClientException","message":"x"}"#;
        assert_eq!(refuses_credentials(&answer(400, bad)), Some(NOT_SOONER));
        assert_eq!(refuses_credentials(&answer(403, bad)), Some(NOT_SOONER));
        assert_eq!(refuses_credentials(&answer(500, bad)), None);
        let denied = r#"{"__type":"AccessDeniedException"}"#;
        let seldom = Some(NOT_SOONER_IF_DENIED);
        assert_eq!(refuses_credentials(&answer(400, denied)), seldom);
        assert_eq!(refuses_credentials(&answer(403, "<html>")), seldom);
        let invalid = r#"{"__type":"ValidationException"}"#;
        assert_eq!(refuses_credentials(&answer(400, invalid)), None);
        let mut by_header = answer(403, "");
        let code = "ExpiredTokenException:http://internal.amazon.com/coral/";
        by_header.headers_mut().insert("x-amzn-errortype", code);
        assert_eq!(refuses_credentials(&by_header), Some(NOT_SOONER));
    }

    #[tokio::test(start_paused = true)]
    async fn refused_credentials_are_looked_for_again_and_not_more_often_than_that() {
        let of = |id: &str| {
            SharedCredentialsProvider::new(Credentials::new(id, "s", None, None, "tests"))
        };
        let found = Arc::new(std::sync::atomic::AtomicU32::new(1));
        let next = Arc::clone(&found);
        let find: Find = Box::new(move || {
            let n = 1 + next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let provider = of(&n.to_string());
            Box::pin(async move { Some(provider) })
        });
        let renewal = Renewal::new(of("1"), find);
        let id = async || {
            let _ = renewal.cache();
            renewal
                .credentials()
                .await
                .unwrap()
                .access_key_id()
                .to_owned()
        };
        tokio::time::advance(NOT_SOONER).await;
        assert_eq!(id().await, "1");
        renewal.refuse(NOT_SOONER);
        assert_eq!(id().await, "2");
        renewal.refuse(NOT_SOONER);
        assert_eq!(id().await, "2", "it was looked for just now");
        tokio::time::advance(NOT_SOONER).await;
        assert_eq!(id().await, "3");
        tokio::time::advance(NOT_SOONER).await;
        assert_eq!(id().await, "3");
        renewal.refuse(NOT_SOONER_IF_DENIED);
        assert_eq!(id().await, "3", "they are not old enough");
        tokio::time::advance(NOT_SOONER_IF_DENIED).await;
        assert_eq!(id().await, "4");
    }
}
