//! How to reach the stand-ins from another shell: lines to paste.

use std::fmt;
use std::path::PathBuf;

use crate::metrics::report::Count;

/// Where they are and what they have. Displayed, it is what a person needs to point their tools there.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Reach {
    pub(in crate::cli) kinesis_url: String,
    pub(in crate::cli) kms_url: String,
    pub(in crate::cli) region: String,
    /// Access key and secret key.
    pub(in crate::cli) credential: String,
    pub(in crate::cli) any_credentials: bool,
    pub(in crate::cli) ca_bundle: Option<PathBuf>,
    /// By name, with the number of shards; at least one.
    pub(in crate::cli) streams: Vec<(String, u32)>,
    /// By alias, with the ARN; at least one.
    pub(in crate::cli) keys: Vec<(String, String)>,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.facts(f)?;
        self.environment(f)?;
        self.kinseal(f)?;
        self.aws_cli(f)?;
        self.boto3(f)
    }
}

impl Reach {
    fn facts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.one_url() {
            writeln!(f, "  Kinesis, KMS  {}", self.kinesis_url)?;
        } else {
            writeln!(f, "  Kinesis       {}", self.kinesis_url)?;
            writeln!(f, "  KMS           {}", self.kms_url)?;
        }
        for (name, shards) in &self.streams {
            let shards = Count((*shards).into(), "shard");
            writeln!(f, "  stream        {name} ({shards})")?;
        }
        for (alias, arn) in &self.keys {
            writeln!(f, "  key           {alias}, {arn}")?;
        }
        writeln!(f)
    }

    fn environment(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let which = if self.any_credentials {
            "any credentials will do"
        } else {
            "no other credentials will do"
        };
        writeln!(f, "In another shell ({which}):")?;
        let Self {
            credential, region, ..
        } = self;
        writeln!(
            f,
            "  export AWS_ACCESS_KEY_ID={credential} AWS_SECRET_ACCESS_KEY={credential}"
        )?;
        // boto3 and the AWS CLI's version 1 read the second only, the other SDKs the first.
        writeln!(
            f,
            "  export AWS_REGION={region} AWS_DEFAULT_REGION={region}"
        )?;
        if let Some(path) = &self.ca_bundle {
            writeln!(f, "  export AWS_CA_BUNDLE={}", path.display())?;
        }
        writeln!(f)
    }

    fn kinseal(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stream, alias) = (self.stream(), self.alias());
        writeln!(f, "kinseal:")?;
        for command in [
            "echo 'one line' | kinseal agent --stdin --state-dir state",
            "kinseal consume --until-empty",
        ] {
            writeln!(f, "  {command} \\")?;
            writeln!(
                f,
                "    --stream {stream} --kms-key {alias} --context app=shop \\"
            )?;
            writeln!(f, "    {}", self.kinseal_endpoints())?;
        }
        writeln!(f)
    }

    fn kinseal_endpoints(&self) -> String {
        if self.one_url() {
            return format!("--endpoint-url {}", self.kinesis_url);
        }
        format!(
            "--endpoint-url {} --kms-endpoint-url {}",
            self.kinesis_url, self.kms_url
        )
    }

    fn aws_cli(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kinesis, kms) = (&self.kinesis_url, &self.kms_url);
        let (stream, alias) = (self.stream(), self.alias());
        writeln!(f, "AWS CLI:")?;
        writeln!(
            f,
            "  aws --endpoint-url {kinesis} kinesis list-shards --stream-name {stream}"
        )?;
        writeln!(
            f,
            "  aws --endpoint-url {kms} kms describe-key --key-id {alias}"
        )?;
        writeln!(f)
    }

    fn boto3(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "boto3:")?;
        writeln!(
            f,
            "  kinesis = boto3.client(\"kinesis\", endpoint_url=\"{}\")",
            self.kinesis_url
        )?;
        writeln!(
            f,
            "  kms = boto3.client(\"kms\", endpoint_url=\"{}\")",
            self.kms_url
        )?;
        writeln!(f)
    }

    fn one_url(&self) -> bool {
        self.kinesis_url == self.kms_url
    }

    fn stream(&self) -> &str {
        &self.streams.first().expect("at least one stream").0
    }

    fn alias(&self) -> &str {
        &self.keys.first().expect("at least one key").0
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    fn reach() -> Reach {
        let url = "http://127.0.0.1:4567".to_owned();
        Reach {
            kinesis_url: url.clone(),
            kms_url: url,
            region: "eu-west-1".into(),
            credential: "test".into(),
            any_credentials: true,
            ca_bundle: None,
            streams: vec![("shop-logs".into(), 4), ("b".into(), 1)],
            keys: vec![("alias/shop".into(), "arn:aws:kms:eu-west-1:0:key/k".into())],
        }
    }

    fn apart_over_tls() -> Reach {
        Reach {
            kinesis_url: "https://127.0.0.1:4567".into(),
            kms_url: "https://127.0.0.1:4566".into(),
            any_credentials: false,
            ca_bundle: Some("/tmp/kinseal-local-x/ca.pem".into()),
            ..reach()
        }
    }

    /// The lines that start with `program`, continuations joined, pipes before it cut off.
    fn commands(text: &str, program: &str) -> Vec<String> {
        let joined = text.replace("\\\n", " ");
        let lines = joined
            .lines()
            .map(|line| line.rsplit("| ").next().unwrap().trim());
        let commands = lines.filter(|line| line.split(' ').next() == Some(program));
        commands.map(str::to_owned).collect()
    }

    #[test]
    fn printed_kinseal_commands_are_ones_it_takes() {
        for reach in [reach(), apart_over_tls()] {
            let commands = commands(&reach.to_string(), "kinseal");
            assert_eq!(commands.len(), 2, "{commands:?}");
            for command in commands {
                Cli::try_parse_from(command.split_whitespace())
                    .unwrap_or_else(|e| panic!("{command}\n{e}"));
            }
        }
    }

    #[test]
    fn each_service_is_called_where_it_answers() {
        let text = apart_over_tls().to_string();
        for expected in [
            "--endpoint-url https://127.0.0.1:4567 --kms-endpoint-url https://127.0.0.1:4566",
            "aws --endpoint-url https://127.0.0.1:4566 kms describe-key --key-id alias/shop",
            "boto3.client(\"kms\", endpoint_url=\"https://127.0.0.1:4566\")",
            "export AWS_CA_BUNDLE=/tmp/kinseal-local-x/ca.pem",
            "no other credentials will do",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        assert!(!reach().to_string().contains("--kms-endpoint-url"));
    }

    #[test]
    fn everything_fits_a_terminal() {
        for line in reach()
            .to_string()
            .lines()
            .chain(apart_over_tls().to_string().lines())
        {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }
}
