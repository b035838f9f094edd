//! Keys and aliases: made, replicated, described, listed, enabled, disabled, scheduled for deletion.

use std::sync::Arc;

use serde_json::{Value, json};

use super::wrap::KeyMaterial;
use super::{
    Key, KeyState, Kms, Request, State, alias_not_found, key_id, key_not_found,
    refuse_pending_deletion,
};
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
        let description = request.description.clone().unwrap_or_default();
        let arn = match request.multi_region {
            Some(true) => self.create_multi_region_key(description),
            _ => self.create_key(description),
        };
        let state = self.state();
        let key = state.keys.get(&arn).expect("keys are never removed");
        Ok(json!({ "KeyMetadata": self.metadata(&state, key) }))
    }

    /// Makes a key in the home Region and returns its ARN.
    pub(crate) fn create_key(&self, description: String) -> String {
        self.add(KeyMaterial::generate(), description)
    }

    /// The same, of a key that can be replicated.
    pub(crate) fn create_multi_region_key(&self, description: String) -> String {
        self.add(KeyMaterial::generate_multi_region(), description)
    }

    fn add(&self, material: KeyMaterial, description: String) -> String {
        let id = material.key_id();
        let arn = self.arn_of(&self.region, &format!("key/{id}"));
        let key = Key {
            id,
            arn: arn.clone(),
            region: self.region.clone(),
            primary: material.is_multi_region(),
            description,
            created: self.clock.now_millis(),
            state: KeyState::Enabled,
            material: Arc::new(material),
        };
        self.state().keys.insert(arn.clone(), key);
        arn
    }

    pub(super) fn replicate(&self, request: &Request) -> Result<Value, ApiError> {
        let region = request
            .replica_region
            .as_deref()
            .ok_or_else(|| ApiError::missing("replicaRegion"))?;
        let primary = self
            .find(&self.state(), request, key_id(request)?)?
            .arn
            .clone();
        let arn = self.replicate_key(&primary, region)?;
        let state = self.state();
        let key = state.keys.get(&arn).expect("keys are never removed");
        Ok(json!({ "ReplicaKeyMetadata": self.metadata(&state, key) }))
    }

    /// A key of the same id and material in another Region; returns its ARN.
    pub(crate) fn replicate_key(&self, primary: &str, region: &str) -> Result<String, ApiError> {
        let mut state = self.state();
        let key = state
            .keys
            .get(primary)
            .ok_or_else(|| key_not_found(primary))?;
        if !key.primary {
            return Err(ApiError::new(
                "UnsupportedOperationException",
                format!("{primary} is not a multi-Region primary key."),
            ));
        }
        let arn = self.arn_of(region, &format!("key/{}", key.id));
        let replica = Key {
            id: key.id.clone(),
            arn: arn.clone(),
            region: region.to_owned(),
            primary: false,
            description: String::new(),
            created: self.clock.now_millis(),
            state: KeyState::Enabled,
            material: Arc::clone(&key.material),
        };
        if state.keys.contains_key(&arn) {
            return Err(ApiError::new(
                "AlreadyExistsException",
                format!("{arn} exists already."),
            ));
        }
        state.keys.insert(arn.clone(), replica);
        Ok(arn)
    }

    pub(super) fn describe(&self, request: &Request) -> Result<Value, ApiError> {
        let state = self.state();
        let key = self.find(&state, request, key_id(request)?)?;
        Ok(json!({ "KeyMetadata": self.metadata(&state, key) }))
    }

    pub(super) fn list_keys(&self, request: &Request) -> Value {
        let state = self.state();
        let keys = state
            .keys
            .values()
            .filter(|key| key.region == request.region)
            .map(|key| json!({ "KeyId": key.id, "KeyArn": key.arn }));
        json!({ "Keys": keys.collect::<Value>(), "Truncated": false })
    }

    pub(super) fn list_aliases(&self, request: &Request) -> Value {
        let state = self.state();
        let prefix = self.arn_of(&request.region, "");
        let aliases = state.aliases.iter().filter_map(|(alias, target)| {
            let name = alias.strip_prefix(&prefix)?;
            let id = &state.keys.get(target)?.id;
            Some(json!({ "AliasName": name, "AliasArn": alias, "TargetKeyId": id }))
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
        self.set_alias(request, name, target, update)?;
        Ok(Value::Null)
    }

    /// In the home Region.
    pub(crate) fn create_alias(&self, name: &str, target: &str) -> Result<(), ApiError> {
        self.set_alias(&self.at_home(), name, target, false)
    }

    pub(crate) fn enable_key(&self, key: &str, enabled: bool) -> Result<(), ApiError> {
        let state = if enabled {
            KeyState::Enabled
        } else {
            KeyState::Disabled
        };
        let mut keys = self.state();
        let key = keys.keys.get_mut(key).ok_or_else(|| key_not_found(key))?;
        refuse_pending_deletion(key)?;
        key.state = state;
        Ok(())
    }

    fn at_home(&self) -> Request {
        Request {
            region: self.region.clone(),
            ..Request::default()
        }
    }

    fn set_alias(
        &self,
        request: &Request,
        name: &str,
        target: &str,
        update: bool,
    ) -> Result<(), ApiError> {
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
        let target = self.find(&state, request, target)?.arn.clone();
        let alias = self.arn_of(&request.region, name);
        let known = state.aliases.contains_key(&alias);
        if known && !update {
            return Err(ApiError::new(
                "AlreadyExistsException",
                format!("An alias with the name {alias} already exists"),
            ));
        }
        if !known && update {
            return Err(alias_not_found(&alias));
        }
        state.aliases.insert(alias, target);
        Ok(())
    }

    pub(super) fn delete_alias(&self, request: &Request) -> Result<Value, ApiError> {
        let name = request
            .alias_name
            .as_deref()
            .ok_or_else(|| ApiError::missing("aliasName"))?;
        let alias = self.arn_of(&request.region, name);
        let removed = self.state().aliases.remove(&alias);
        removed
            .map(|_| Value::Null)
            .ok_or_else(|| alias_not_found(&alias))
    }

    pub(super) fn set_state(&self, request: &Request, to: KeyState) -> Result<Value, ApiError> {
        let mut state = self.state();
        let arn = self.find(&state, request, key_id(request)?)?.arn.clone();
        let key = state
            .keys
            .get_mut(&arn)
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
        let arn = self.find(&state, request, key_id(request)?)?.arn.clone();
        let key = state
            .keys
            .get_mut(&arn)
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
        let arn = self.find(&state, request, key_id(request)?)?.arn.clone();
        let key = state
            .keys
            .get_mut(&arn)
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

    pub(super) fn metadata(&self, state: &State, key: &Key) -> Value {
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
            "MultiRegion": key.material.is_multi_region(),
            "CurrentKeyMaterialId": key.material.id(),
        });
        if key.material.is_multi_region() {
            let family = || state.keys.values().filter(|other| other.id == key.id);
            let told = |key: &Key| json!({ "Arn": key.arn, "Region": key.region });
            metadata["MultiRegionConfiguration"] = json!({
                "MultiRegionKeyType": if key.primary { "PRIMARY" } else { "REPLICA" },
                "PrimaryKey": family().find(|key| key.primary).map(told),
                "ReplicaKeys": family().filter(|key| !key.primary).map(told).collect::<Value>(),
            });
        }
        if let KeyState::PendingDeletion(until) = key.state {
            metadata["DeletionDate"] = timestamp(until);
        }
        metadata
    }
}
