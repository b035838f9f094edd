//! What a KMS key is called, by its user and in a message.
//!
//! Source: AWS Encryption SDK specification, `framework/aws-kms/aws-kms-key-arn.md` and
//! `aws-kms-mrk-match-for-decrypt.md`.

use std::fmt;

/// A KMS key as its user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeyName {
    Arn(String),
    Id(String),
    /// By name or ARN.
    Alias(String),
}

impl KeyName {
    pub(super) fn of(name: String) -> Self {
        if name.starts_with("alias/") || (name.starts_with("arn:") && name.contains(":alias/")) {
            Self::Alias(name)
        } else if name.starts_with("arn:") {
            Self::Arn(name)
        } else {
            Self::Id(name)
        }
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Arn(name) | Self::Id(name) | Self::Alias(name) => name,
        }
    }

    /// The Region that the name says; an id or an alias says none.
    pub(super) fn region(&self) -> Option<&str> {
        let region = self.as_str().strip_prefix("arn:")?.split(':').nth(2)?;
        (!region.is_empty()).then_some(region)
    }

    /// What to ask for where this name means the key of `arn`, as far as the words say, or one that shares its
    /// material: the name itself for an ARN. An id says neither account nor partition, so these are taken from
    /// the message; the Region is `home`.
    pub(super) fn means(&self, arn: &KeyArn<'_>, home: Option<&str>) -> Option<String> {
        match self {
            Self::Arn(own) => KeyArn::parse(own)?.opens(arn).then(|| own.clone()),
            Self::Id(id) if id == arn.id => Some(match home {
                Some(home) if arn.is_multi_region() => arn.in_region(home),
                _ => arn.whole.to_owned(),
            }),
            Self::Id(_) | Self::Alias(_) => None,
        }
    }
}

/// `arn:PARTITION:kms:REGION:ACCOUNT:key/ID`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyArn<'a> {
    whole: &'a str,
    partition: &'a str,
    region: &'a str,
    account: &'a str,
    id: &'a str,
}

impl<'a> KeyArn<'a> {
    /// `None` for what is no ARN of a key: an alias's, too.
    pub(super) fn parse(whole: &'a str) -> Option<Self> {
        let mut parts = whole.splitn(6, ':');
        if parts.next()? != "arn" {
            return None;
        }
        let partition = parts.next()?;
        if parts.next()? != "kms" {
            return None;
        }
        let (region, account) = (parts.next()?, parts.next()?);
        let id = parts.next()?.strip_prefix("key/")?;
        let named = [partition, region, account, id]
            .iter()
            .all(|part| !part.is_empty());
        (named && !id.contains(['/', ':'])).then_some(Self {
            whole,
            partition,
            region,
            account,
            id,
        })
    }

    /// Keys of one id in several Regions share their material, and only those have such an id.
    fn is_multi_region(&self) -> bool {
        self.id.starts_with("mrk-")
    }

    /// Whether this key opens what that one wrapped: it is the same, or a replica of it.
    pub(super) fn opens(&self, other: &KeyArn<'_>) -> bool {
        self.whole == other.whole
            || (self.is_multi_region()
                && (self.partition, self.account, self.id)
                    == (other.partition, other.account, other.id))
    }

    fn in_region(&self, region: &str) -> String {
        let Self {
            partition,
            account,
            id,
            ..
        } = self;
        format!("arn:{partition}:kms:{region}:{account}:key/{id}")
    }
}

impl fmt::Display for KeyArn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";
    const MRK: &str = "mrk-1234abcd12ab34cd56ef1234567890ab";

    fn arn(region: &str, account: &str, id: &str) -> String {
        format!("arn:aws:kms:{region}:{account}:key/{id}")
    }

    fn opens(configured: &str, in_message: &str) -> bool {
        let in_message = KeyArn::parse(in_message).expect("an ARN");
        KeyName::of(configured.to_owned())
            .means(&in_message, Some("eu-west-1"))
            .is_some()
    }

    #[test]
    fn a_replica_matches_in_any_region_and_a_single_region_key_only_itself() {
        let (eu, us) = ("eu-west-1", "us-east-1");
        assert!(opens(&arn(eu, "1", MRK), &arn(eu, "1", MRK)));
        assert!(opens(&arn(us, "1", MRK), &arn(eu, "1", MRK)));
        assert!(opens(&arn(eu, "1", ID), &arn(eu, "1", ID)));
        assert!(!opens(&arn(us, "1", ID), &arn(eu, "1", ID)));
        assert!(!opens(&arn(us, "2", MRK), &arn(eu, "1", MRK)));
        let china = arn(us, "1", MRK).replace("arn:aws:", "arn:aws-cn:");
        assert!(!opens(&china, &arn(eu, "1", MRK)));
        let other = MRK.replace("1234abcd", "0000abcd");
        assert!(!opens(&arn(us, "1", &other), &arn(eu, "1", MRK)));
    }

    #[test]
    fn an_id_means_the_key_in_the_configured_region() {
        let means = |id: &str, arn: &str| {
            let arn = KeyArn::parse(arn).expect("an ARN");
            KeyName::of(id.to_owned()).means(&arn, Some("eu-west-1"))
        };
        let there = arn("us-east-1", "1", MRK);
        assert_eq!(means(MRK, &there), Some(arn("eu-west-1", "1", MRK)));
        let there = arn("us-east-1", "1", ID);
        assert_eq!(means(ID, &there), Some(there.clone()));
        assert_eq!(means(ID, &arn("eu-west-1", "1", MRK)), None);
    }

    #[test]
    fn names_say_their_region_or_none() {
        let region = |name: &str| KeyName::of(name.to_owned()).region().map(str::to_owned);
        let us = Some("us-east-1".to_owned());
        assert_eq!(region(&arn("us-east-1", "1", ID)), us);
        assert_eq!(region("arn:aws:kms:us-east-1:1:alias/shop"), us);
        for name in [ID, MRK, "alias/shop", "arn:aws:kms", "arn:aws:kms::1:key/x"] {
            assert_eq!(region(name), None, "{name}");
        }
    }

    #[test]
    fn what_is_no_key_arn_is_none() {
        for name in [
            "",
            ID,
            "arn:aws:kms:eu-west-1:1:alias/shop",
            "arn:aws:kms:eu-west-1:1:key/",
            "arn:aws:kms:eu-west-1::key/x",
            "arn:aws:kms::1:key/x",
            "arn::kms:eu-west-1:1:key/x",
            "arn:aws:s3:eu-west-1:1:key/x",
            "arn:aws:kms:eu-west-1:1:key/x/y",
            "arn:aws:kms:eu-west-1:1:key/x:y",
            "aws:arn:kms:eu-west-1:1:key/x",
        ] {
            assert_eq!(KeyArn::parse(name), None, "{name}");
        }
    }
}
