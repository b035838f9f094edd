//! Where the stream and the key are: in AWS, at an endpoint, or stand-ins in this process.

use anyhow::Context;
use clap::Args;
use kinseal::aws::{self, Clients, TimeOuts};
use kinseal::fake::{DEFAULT_CREDENTIAL, DEFAULT_REGION, Fake};
use kinseal::producer::Producer;
use kinseal::record::StreamName;
use kinseal::seal::EncryptionContext;

/// What the stand-ins are furnished with.
const STREAM: &str = "stock-sales";
const SHARDS: usize = 2;

#[derive(Debug, Clone, Args)]
pub(crate) struct PlaceArgs {
    /// The stream, by name or ARN [default: one on stand-ins for Kinesis and KMS, in this process]
    #[arg(long, requires = "kms_key")]
    pub(crate) stream: Option<String>,
    /// The KMS key. To encrypt: id, ARN or alias. To decrypt, take the ARN: no other key is asked then
    #[arg(long, value_name = "KEY", requires = "stream")]
    pub(crate) kms_key: Option<String>,
    /// [default: as every AWS tool finds it]
    #[arg(long, requires = "stream")]
    pub(crate) region: Option<String>,
    /// Where Kinesis and KMS answer, as with kinseal local [default: AWS]
    #[arg(long, value_name = "URL", requires = "stream")]
    pub(crate) endpoint_url: Option<String>,
    /// What each record is bound to, which stays readable beside it
    #[arg(long, value_name = "NAME=VALUE", default_value = "app=ticker", value_parser = pair)]
    pub(crate) context: (String, String),
}

/// A stream, a key, and clients to reach them with.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) stream: StreamName,
    pub(crate) kms_key: String,
    pub(crate) context: EncryptionContext,
    pub(crate) settings: aws::Settings,
    pub(crate) clients: Clients,
    /// `None`: it is not ours.
    pub(crate) stand_in: Option<Fake>,
}

impl Place {
    pub(crate) async fn find(args: &PlaceArgs) -> anyhow::Result<Self> {
        let (stream, kms_key, settings, stand_in) = match (&args.stream, &args.kms_key) {
            (Some(stream), Some(kms_key)) => {
                let settings = aws::Settings {
                    region: args.region.clone(),
                    kinesis_endpoint_url: args.endpoint_url.clone(),
                    kms_endpoint_url: args.endpoint_url.clone(),
                    ..aws::Settings::default()
                };
                (stream.clone(), kms_key.clone(), settings, None)
            }
            _ => {
                let fake = Fake::start().await.context("cannot start the stand-ins")?;
                fake.create_stream(STREAM, SHARDS)?;
                let key = fake.create_key();
                (STREAM.to_owned(), key, reach(&fake), Some(fake))
            }
        };
        Ok(Self {
            stream: StreamName::new(&stream).with_context(|| format!("--stream {stream}"))?,
            kms_key,
            context: EncryptionContext::from([args.context.clone()]),
            clients: aws::clients(&settings, TimeOuts::default()).await?,
            settings,
            stand_in,
        })
    }

    /// The library's producer, which encrypts each record and aggregates.
    pub(crate) async fn producer(&self) -> anyhow::Result<Producer> {
        let stream = self.stream.arn().unwrap_or(self.stream.name());
        let mut producer = Producer::builder(stream)
            .kms_key(&self.kms_key)
            .aws(self.settings.clone());
        for (name, value) in &self.context {
            producer = producer.context(name, value);
        }
        Ok(producer.build().await?)
    }

    pub(crate) async fn leave(self) {
        if let Some(fake) = self.stand_in {
            fake.shutdown().await;
        }
    }
}

/// Where the stand-ins answer, and the credentials they know.
fn reach(fake: &Fake) -> aws::Settings {
    let credentials = aws::Credentials::new(DEFAULT_CREDENTIAL, DEFAULT_CREDENTIAL);
    aws::Settings {
        region: Some(DEFAULT_REGION.into()),
        kinesis_endpoint_url: Some(fake.kinesis_url()),
        kms_endpoint_url: Some(fake.kms_url()),
        credentials: Some(credentials),
        ..aws::Settings::default()
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text
        .split_once('=')
        .filter(|(name, value)| !name.is_empty() && !value.is_empty());
    let (name, value) = pair.ok_or("allowed: NAME=VALUE, like app=ticker")?;
    Ok((name.to_owned(), value.to_owned()))
}
