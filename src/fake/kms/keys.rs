//! Keys and aliases: made, described, listed, enabled, disabled, scheduled for deletion.

use std::sync::Arc;

use serde_json::{Value, json};

use super::wrap::KeyMaterial;
use super::{Key, KeyState, Kms, Request, key_id, refuse_pending_deletion};
use crate::fake::protocol::{ApiError, timestamp};

/// API_ScheduleKeyDeletion: 7 to 30 days, 30 by default.
const DELETION_DAYS: std::ops::RangeInclusive<u64> = 7..=30;

impl Kms {
    pub(super) fn create(&self, request: &Request) -> Result<Value, ApiError> {
        let symmetric = request
            .key_spec
            .as_deref()
            .is_none_or(|spec| spec == "SYMMETRIC_DEFAULT")
            && request
                .key_usage
                .as_deref()
                .is_none_or(|usage| usage == "ENCRYPT_DECRYPT");
        if !symmetric {
            return Err(ApiError::new(
                "UnsupportedOperationException",
                "this stand-in makes symmetric keys only: KeySpec SYMMETRIC_DEFAULT, KeyUsage ENCRYPT_DECRYPT",
            ));
        }
        let arn = self.create_key(request.description.clone().unwrap_or_default());
        let state = self.state();
        let key = self.find(&state, &arn)?;
        Ok(json!({ "KeyMetadata": self.metadata(key) }))
    }

    /// Makes a key and returns its ARN.
    pub(crate) fn create_key(&self, description: String) -> String {
        let material = KeyMaterial::generate();
        let id = material.key_id();
        let arn = format!("arn:aws:kms:{}:{}:key/{id}", self.region, self.account);
        let key = Key {
            id: id.clone(),
            arn: arn.clone(),
            description,
            created: self.clock.now_millis(),
            state: KeyState::Enabled,
            material: Arc::new(material),
        };
        self.state().keys.insert(id, key);
        arn
    }

    pub(super) fn describe(&self, request: &Request) -> Result<Value, ApiError> {
        let state = self.state();
        let key = self.find(&state, key_id(request)?)?;
        Ok(json!({ "KeyMetadata": self.metadata(key) }))
    }

    pub(super) fn list_keys(&self) -> Value {
        let state = self.state();
        let keys = state
            .keys
            .values()
            .map(|key| json!({ "KeyId": key.id, "KeyArn": key.arn }));
        json!({ "Keys": keys.collect::<Value>(), "Truncated": false })
    }

    pub(super) fn list_aliases(&self) -> Value {
        let state = self.state();
        let aliases = state.aliases.iter().map(|(name, id)| {
            json!({ "AliasName": name, "AliasArn": self.alias_arn(name), "TargetKeyId": id })
        });
        json!({ "Aliases": aliases.collect::<Value>(), "Truncated": false })
    }

    pub(super) fn alias_to(&self, request: &Request, update: bool) -> Result<Value, ApiError> {
        let name = request
            .alias_name
            .as_deref()
            .ok_or_else(|| ApiError::missing("aliasName"))?;
        let target = request
            .target_key_id
            .as_deref()
            .ok_or_else(|| ApiError::missing("targetKeyId"))?;
        self.set_alias(name, target, update)?;
        Ok(Value::Null)
    }

    pub(crate) fn set_alias(&self, name: &str, target: &str, update: bool) -> Result<(), ApiError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-');
        let valid = name.strip_prefix("alias/").is_some_and(|rest| {
            !rest.is_empty() && !rest.starts_with("aws/") && rest.bytes().all(allowed)
        });
        if !valid || name.len() > 256 {
            return Err(ApiError::new(
                "InvalidAliasNameException",
                format!(
                    "Invalid alias name {name:?}: it is alias/ and then letters, digits, '/', '_' or '-'"
                ),
            ));
        }
        let mut state = self.state();
        let id = self.find(&state, target)?.id.clone();
        let known = state.aliases.contains_key(name);
        if known && !update {
            return Err(ApiError::new(
                "AlreadyExistsException",
                format!(
                    "An alias with the name {} already exists",
                    self.alias_arn(name)
                ),
            ));
        }
        if !known && update {
            return Err(self.alias_not_found(name));
        }
        state.aliases.insert(name.to_owned(), id);
        Ok(())
    }

    pub(super) fn delete_alias(&self, request: &Request) -> Result<Value, ApiError> {
        let name = request
            .alias_name
            .as_deref()
            .ok_or_else(|| ApiError::missing("aliasName"))?;
        let removed = self.state().aliases.remove(name);
        removed
            .map(|_| Value::Null)
            .ok_or_else(|| self.alias_not_found(name))
    }

    pub(super) fn set_state(&self, request: &Request, to: KeyState) -> Result<Value, ApiError> {
        let mut state = self.state();
        let id = self.find(&state, key_id(request)?)?.id.clone();
        let key = state
            .keys
            .get_mut(&id)
            .expect("it was found above, under the same lock");
        refuse_pending_deletion(key)?;
        key.state = to;
        Ok(Value::Null)
    }

    pub(super) fn schedule_deletion(&self, request: &Request) -> Result<Value, ApiError> {
        let days = request
            .pending_window_in_days
            .unwrap_or(*DELETION_DAYS.end());
        if !DELETION_DAYS.contains(&days) {
            return Err(ApiError::validation(
                "pendingWindowInDays",
                "Member must have value from 7 to 30",
            ));
        }
        let mut state = self.state();
        let id = self.find(&state, key_id(request)?)?.id.clone();
        let key = state
            .keys
            .get_mut(&id)
            .expect("it was found above, under the same lock");
        refuse_pending_deletion(key)?;
        let until = self.clock.now_millis() + days * 86_400_000;
        key.state = KeyState::PendingDeletion(until);
        Ok(json!({
            "KeyId": key.arn,
            "KeyState": key.state.as_str(),
            "DeletionDate": timestamp(until),
            "PendingWindowInDays": days,
        }))
    }

    pub(super) fn cancel_deletion(&self, request: &Request) -> Result<Value, ApiError> {
        let mut state = self.state();
        let id = self.find(&state, key_id(request)?)?.id.clone();
        let key = state
            .keys
            .get_mut(&id)
            .expect("it was found above, under the same lock");
        if !matches!(key.state, KeyState::PendingDeletion(_)) {
            return Err(ApiError::new(
                "KMSInvalidStateException",
                format!("{} is not pending deletion.", key.arn),
            ));
        }
        // The service leaves it disabled, too.
        key.state = KeyState::Disabled;
        Ok(json!({ "KeyId": key.arn }))
    }

    pub(super) fn metadata(&self, key: &Key) -> Value {
        let mut metadata = json!({
            "AWSAccountId": self.account,
            "KeyId": key.id,
            "Arn": key.arn,
            "CreationDate": timestamp(key.created),
            "Enabled": key.state == KeyState::Enabled,
            "Description": key.description,
            "KeyUsage": "ENCRYPT_DECRYPT",
            "KeyState": key.state.as_str(),
            "Origin": "AWS_KMS",
            "KeyManager": "CUSTOMER",
            "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
            "KeySpec": "SYMMETRIC_DEFAULT",
            "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
            "MultiRegion": false,
            "CurrentKeyMaterialId": key.material.id(),
        });
        if let KeyState::PendingDeletion(until) = key.state {
            metadata["DeletionDate"] = timestamp(until);
        }
        metadata
    }
}
