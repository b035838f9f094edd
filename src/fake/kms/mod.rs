//! The KMS stand-in: symmetric keys, aliases, and blobs that are really encrypted.
//!
//! A blob opens only under the key, the encryption context and the bytes it was made with; a key that is
//! disabled or about to be deleted does nothing. ARNs have 75 bytes and blobs 152 more than what they hold,
//! as those of AWS have, because both lie in every encrypted record. Errors are worded as the service words
//! them. It refuses asymmetric and HMAC keys, grants, policies, and rotation (`UnknownOperationException`).
//!
//! It is the KMS of every Region at one address: a call is for the Region that it is signed for, if a
//! multi-Region key has been replicated to there, and otherwise for the home Region.
//!
//! Source: API reference 2014-11-01, model of aws-sdk-kms 1.129.

mod keys;
mod wrap;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::{Value, json};

use super::clock::Clock;
use super::protocol::{ApiError, decode_blob, json_bytes, parse, unknown_operation};
use wrap::KeyMaterial;

/// API_Encrypt: 1 to 4096 bytes of plaintext under a symmetric key.
const MOST_PLAINTEXT: usize = 4096;
const MOST_CIPHERTEXT: usize = 6144;
/// API_GenerateDataKey: NumberOfBytes 1 to 1024.
const MOST_KEY_BYTES: usize = 1024;

#[derive(Debug)]
pub(crate) struct Kms {
    account: String,
    region: String,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By ARN.
    keys: BTreeMap<String, Key>,
    /// An alias's ARN → its key's.
    aliases: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Key {
    id: String,
    arn: String,
    region: String,
    /// Of a multi-Region key, not a replica.
    primary: bool,
    description: String,
    created: u64,
    state: KeyState,
    material: Arc<KeyMaterial>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyState {
    Enabled,
    Disabled,
    /// Until that time, in milliseconds.
    PendingDeletion(u64),
}

impl KeyState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "Enabled",
            Self::Disabled => "Disabled",
            Self::PendingDeletion(_) => "PendingDeletion",
        }
    }
}

/// Every member that an operation here reads.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Request {
    /// Whose keys and aliases are meant.
    #[serde(skip)]
    region: String,
    key_id: Option<String>,
    alias_name: Option<String>,
    target_key_id: Option<String>,
    description: Option<String>,
    key_spec: Option<String>,
    key_usage: Option<String>,
    number_of_bytes: Option<usize>,
    plaintext: Option<String>,
    ciphertext_blob: Option<String>,
    #[serde(default)]
    encryption_context: Option<BTreeMap<String, String>>,
    pending_window_in_days: Option<u64>,
    #[serde(default)]
    dry_run: Option<bool>,
    multi_region: Option<bool>,
    replica_region: Option<String>,
}

impl Kms {
    pub(crate) fn new(account: String, region: String, clock: Clock) -> Self {
        Self {
            account,
            region,
            clock,
            state: Mutex::default(),
        }
    }

    /// `signed_for` is the Region in the call's signature.
    pub(crate) fn answer(
        &self,
        operation: &str,
        body: &[u8],
        signed_for: Option<&str>,
    ) -> Result<Vec<u8>, ApiError> {
        let mut request: Request = parse(body)?;
        request.region = self.region_meant(signed_for);
        let answer = match operation {
            "GenerateDataKey" => self.generate_data_key(&request, true)?,
            "GenerateDataKeyWithoutPlaintext" => self.generate_data_key(&request, false)?,
            "Encrypt" => self.encrypt(&request)?,
            "Decrypt" => self.decrypt(&request)?,
            "CreateKey" => self.create(&request)?,
            "DescribeKey" => self.describe(&request)?,
            "ReplicateKey" => self.replicate(&request)?,
            "ListKeys" => self.list_keys(&request),
            "ListAliases" => self.list_aliases(&request),
            "CreateAlias" => self.alias_to(&request, false)?,
            "UpdateAlias" => self.alias_to(&request, true)?,
            "DeleteAlias" => self.delete_alias(&request)?,
            "EnableKey" => self.set_state(&request, KeyState::Enabled)?,
            "DisableKey" => self.set_state(&request, KeyState::Disabled)?,
            "ScheduleKeyDeletion" => self.schedule_deletion(&request)?,
            "CancelKeyDeletion" => self.cancel_deletion(&request)?,
            other => return Err(unknown_operation(other)),
        };
        Ok(match answer {
            Value::Null => Vec::new(),
            answer => json_bytes(&answer),
        })
    }

    fn generate_data_key(
        &self,
        request: &Request,
        with_plaintext: bool,
    ) -> Result<Value, ApiError> {
        let bytes = match (request.key_spec.as_deref(), request.number_of_bytes) {
            (Some("AES_256"), None) => 32,
            (Some("AES_128"), None) => 16,
            (None, Some(n)) if (1..=MOST_KEY_BYTES).contains(&n) => n,
            (None, Some(_)) => {
                return Err(ApiError::validation(
                    "numberOfBytes",
                    "Member must have value from 1 to 1024",
                ));
            }
            (Some(_), None) => {
                return Err(ApiError::validation(
                    "keySpec",
                    "Member must satisfy enum value set: [AES_128, AES_256]",
                ));
            }
            _ => {
                return Err(ApiError::new(
                    "ValidationException",
                    "Please specify either number of bytes or key spec.",
                ));
            }
        };
        let plaintext = wrap::random_bytes(bytes);
        let mut answer = self.wrap(request, &plaintext)?;
        if with_plaintext {
            answer["Plaintext"] = blob(&plaintext);
        }
        Ok(answer)
    }

    fn encrypt(&self, request: &Request) -> Result<Value, ApiError> {
        let text = request
            .plaintext
            .as_ref()
            .ok_or_else(|| ApiError::missing("plaintext"))?;
        let plaintext = decode_blob(text, || "plaintext".to_owned())?;
        if !(1..=MOST_PLAINTEXT).contains(&plaintext.len()) {
            return Err(ApiError::validation(
                "plaintext",
                "Member must have length from 1 to 4096",
            ));
        }
        let mut answer = self.wrap(request, &plaintext)?;
        answer["EncryptionAlgorithm"] = "SYMMETRIC_DEFAULT".into();
        Ok(answer)
    }

    fn wrap(&self, request: &Request, plaintext: &[u8]) -> Result<Value, ApiError> {
        let (arn, material) = self.usable(request)?;
        refuse_dry_run(request)?;
        let ciphertext = material.wrap(plaintext, context_of(request));
        Ok(json!({
            "CiphertextBlob": blob(&ciphertext),
            "KeyId": arn,
            "KeyMaterialId": material.id(),
        }))
    }

    fn decrypt(&self, request: &Request) -> Result<Value, ApiError> {
        let text = request
            .ciphertext_blob
            .as_ref()
            .ok_or_else(|| ApiError::missing("ciphertextBlob"))?;
        let ciphertext = decode_blob(text, || "ciphertextBlob".to_owned())?;
        if !(1..=MOST_CIPHERTEXT).contains(&ciphertext.len()) {
            return Err(ApiError::validation(
                "ciphertextBlob",
                "Member must have length from 1 to 6144",
            ));
        }
        let invalid = || ApiError::new("InvalidCiphertextException", "");
        let state = self.state();
        let mut here = state.keys.values().filter(|k| k.region == request.region);
        let key = here
            .find(|key| key.material.made(&ciphertext))
            .ok_or_else(invalid)?;
        if let Some(expected) = &request.key_id
            && self.find(&state, request, expected)?.id != key.id
        {
            return Err(ApiError::new(
                "IncorrectKeyException",
                "The key ID in the request does not identify a CMK that can perform this operation.",
            ));
        }
        refuse_unusable(key)?;
        refuse_dry_run(request)?;
        let plaintext = key
            .material
            .unwrap(&ciphertext, context_of(request))
            .ok_or_else(invalid)?;
        Ok(json!({
            "KeyId": key.arn,
            "Plaintext": blob(&plaintext),
            "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
            "KeyMaterialId": key.material.id(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key a request names, with its material, if it may be used.
    fn usable(&self, request: &Request) -> Result<(String, Arc<KeyMaterial>), ApiError> {
        let state = self.state();
        let key = self.find(&state, request, key_id(request)?)?;
        refuse_unusable(key)?;
        Ok((key.arn.clone(), Arc::clone(&key.material)))
    }

    /// Others' mistakes about the Region are forgiven, as long as there is only one.
    fn region_meant(&self, signed_for: Option<&str>) -> String {
        let state = self.state();
        let replicated = |region: &&str| state.keys.values().any(|key| key.region == *region);
        let region = signed_for.filter(replicated);
        region.unwrap_or(&self.region).to_owned()
    }

    /// By id, ARN, alias or alias ARN.
    fn find<'s>(
        &self,
        state: &'s State,
        request: &Request,
        given: &str,
    ) -> Result<&'s Key, ApiError> {
        let prefix = self.arn_of(&request.region, "");
        let local = given.strip_prefix(&prefix).unwrap_or(given);
        let arn = if local.starts_with("alias/") {
            let alias = format!("{prefix}{local}");
            let target = state.aliases.get(&alias);
            target.ok_or_else(|| alias_not_found(&alias))?.clone()
        } else if local.starts_with("arn:") {
            // Of another Region or account: it is not here, whether or not it is elsewhere.
            return Err(key_not_found(given));
        } else {
            let id = local.strip_prefix("key/").unwrap_or(local);
            format!("{prefix}key/{id}")
        };
        state.keys.get(&arn).ok_or_else(|| key_not_found(&arn))
    }

    fn arn_of(&self, region: &str, resource: &str) -> String {
        format!("arn:aws:kms:{region}:{}:{resource}", self.account)
    }
}

fn key_not_found(arn: &str) -> ApiError {
    ApiError::new("NotFoundException", format!("Key '{arn}' does not exist"))
}

fn alias_not_found(arn: &str) -> ApiError {
    ApiError::new("NotFoundException", format!("Alias {arn} is not found."))
}

fn key_id(request: &Request) -> Result<&str, ApiError> {
    request
        .key_id
        .as_deref()
        .ok_or_else(|| ApiError::missing("keyId"))
}

fn context_of(request: &Request) -> &BTreeMap<String, String> {
    static EMPTY: BTreeMap<String, String> = BTreeMap::new();
    request.encryption_context.as_ref().unwrap_or(&EMPTY)
}

fn refuse_unusable(key: &Key) -> Result<(), ApiError> {
    if key.state == KeyState::Disabled {
        return Err(ApiError::new(
            "DisabledException",
            format!("{} is disabled.", key.arn),
        ));
    }
    refuse_pending_deletion(key)
}

fn refuse_pending_deletion(key: &Key) -> Result<(), ApiError> {
    if let KeyState::PendingDeletion(_) = key.state {
        return Err(ApiError::new(
            "KMSInvalidStateException",
            format!("{} is pending deletion.", key.arn),
        ));
    }
    Ok(())
}

/// Asked after everything that could refuse the call: the answer says that it would have succeeded.
fn refuse_dry_run(request: &Request) -> Result<(), ApiError> {
    if request.dry_run == Some(true) {
        return Err(ApiError::new(
            "DryRunOperationException",
            "The request would have succeeded, but the DryRun option is set.",
        ));
    }
    Ok(())
}

fn blob(bytes: &[u8]) -> Value {
    base64_simd::STANDARD.encode_to_string(bytes).into()
}
