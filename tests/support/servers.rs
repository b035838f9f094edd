//! Servers to run against: our stand-ins, moto, ferrokinesis. All on free ports of loopback.

use std::process::Stdio;

use aws_credential_types::Credentials;
use kinseal::fake::{Builder, Fake};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::peers;
use super::process::Running;
use super::until;

pub(crate) const REGION: &str = "eu-west-1";

/// Where the services answer.
#[derive(Debug, Clone)]
pub(crate) struct Endpoints {
    pub(crate) kinesis: String,
    pub(crate) kms: String,
}

/// Kinesis and KMS in this process.
#[derive(Debug)]
pub(crate) struct StandIn {
    pub(crate) endpoints: Endpoints,
    // Before the runtime it lives on.
    pub(crate) fake: Fake,
    _runtime: Runtime,
}

/// moto's server of both.
#[derive(Debug)]
pub(crate) struct Moto {
    pub(crate) endpoints: Endpoints,
    _server: Running,
}

/// ferrokinesis with the quotas of shards. It has no KMS.
#[derive(Debug)]
pub(crate) struct Ferrokinesis {
    pub(crate) endpoints: Endpoints,
    _runtime: Runtime,
}

impl StandIn {
    pub(crate) fn start() -> Self {
        Self::built(Fake::builder())
    }

    pub(crate) fn built(builder: Builder) -> Self {
        let runtime = runtime();
        let fake = runtime.block_on(builder.start()).expect("free ports");
        let endpoints = Endpoints {
            kinesis: fake.kinesis_url(),
            kms: fake.kms_url(),
        };
        Self {
            endpoints,
            fake,
            _runtime: runtime,
        }
    }
}

impl Moto {
    pub(crate) fn start() -> Self {
        let mut command = peers::script("moto_server.py");
        // It ends when we are gone.
        let mut server = Running::start("moto", command.stdin(Stdio::piped()));
        let url = server.until("moto says its address", |server| {
            let said = String::from_utf8(server.stdout()).expect("UTF-8");
            said.lines()
                .find(|line| line.starts_with("http"))
                .map(str::to_owned)
        });
        let endpoints = Endpoints {
            kinesis: url.clone(),
            kms: url,
        };
        Self {
            endpoints,
            _server: server,
        }
    }
}

impl Ferrokinesis {
    pub(crate) fn start() -> Self {
        let runtime = runtime();
        let url = runtime.block_on(async {
            let (app, _store) = ferrokinesis::create_app(ferrokinesis::store::StoreOptions {
                create_stream_ms: 0,
                shard_limit: 50,
                enforce_limits: true,
                ..Default::default()
            });
            // axum's own limit of 2 MB is below a full request.
            let app = app.layer(axum::extract::DefaultBodyLimit::max(16 << 20));
            let listener = TcpListener::bind(("127.0.0.1", 0))
                .await
                .expect("a free port");
            let address = listener.local_addr().expect("bound");
            tokio::spawn(async move { axum::serve(listener, app).await });
            format!("http://{address}")
        });
        let endpoints = Endpoints {
            kinesis: url.clone(),
            // Nothing answers there.
            kms: url,
        };
        Self {
            endpoints,
            _runtime: runtime,
        }
    }
}

impl Endpoints {
    /// Makes a stream, and waits until it is active.
    pub(crate) fn create_stream(&self, name: &str, shards: i32) {
        let runtime = runtime();
        let client = self.kinesis_client();
        let made = client.create_stream().stream_name(name).shard_count(shards);
        runtime.block_on(made.send()).expect("a new stream");
        until("an active stream", || {
            let asked = client.describe_stream_summary().stream_name(name).send();
            let summary = runtime.block_on(asked).ok()?.stream_description_summary?;
            (summary.stream_status.as_str() == "ACTIVE").then_some(())
        });
    }

    /// Puts these very bytes where that hash key lies.
    pub(crate) fn delete_stream(&self, name: &str) {
        let call = self.kinesis_client().delete_stream().stream_name(name);
        runtime().block_on(call.send()).expect("deleted");
    }

    pub(crate) fn put(&self, stream: &str, data: &[u8], hash_key: &str) {
        let put = self.kinesis_client().put_record();
        let put = put.stream_name(stream).partition_key("k");
        let put = put.explicit_hash_key(hash_key);
        let put = put.data(aws_sdk_kinesis::primitives::Blob::new(data));
        runtime().block_on(put.send()).expect("a place for it");
    }

    /// Makes a key; its ARN.
    pub(crate) fn create_key(&self) -> String {
        let client = self.kms_client();
        let made = client.create_key().send();
        let key = runtime().block_on(made).expect("a new key").key_metadata;
        key.and_then(|key| key.arn).expect("it has an ARN")
    }

    /// Gives a key another name.
    pub(crate) fn create_alias(&self, alias: &str, key: &str) {
        let client = self.kms_client();
        let made = client.create_alias().alias_name(alias).target_key_id(key);
        runtime().block_on(made.send()).expect("a new alias");
    }

    fn kms_client(&self) -> aws_sdk_kms::Client {
        let config = aws_sdk_kms::Config::builder()
            .behavior_version_latest()
            .region(aws_sdk_kms::config::Region::new(REGION))
            .credentials_provider(credentials())
            .endpoint_url(&self.kms)
            .build();
        aws_sdk_kms::Client::from_conf(config)
    }

    pub(crate) fn kinesis_client(&self) -> aws_sdk_kinesis::Client {
        let config = aws_sdk_kinesis::Config::builder()
            .behavior_version_latest()
            .region(aws_sdk_kinesis::config::Region::new(REGION))
            .credentials_provider(credentials())
            .endpoint_url(&self.kinesis)
            .build();
        aws_sdk_kinesis::Client::from_conf(config)
    }
}

fn credentials() -> Credentials {
    Credentials::new("test", "test", None, None, "tests")
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads")
}
