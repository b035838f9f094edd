//! What `docs/reading.md` tells readers in other languages: the very files that it shows, run against streams that the
//! agent wrote.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64_simd::STANDARD;
use kinseal::aggregate::format::{Layout, deaggregate};
use kinseal::fake::Service;
use kinseal::record::PartitionKey;
use serde_json::{Value, json};

use crate::support::agent::{FinalReport, Home, STREAM};
use crate::support::lines::{self, Arrived};
use crate::support::peers;
use crate::support::process::{self, Ended};
use crate::support::servers::{REGION, StandIn};

const LINES: u64 = 300;
const CONTEXT: &str = "app=shop";

/// A stand-in with a stream of two shards, into which the agent has put [`LINES`].
struct Written {
    site: StandIn,
    key: String,
}

impl Written {
    /// By what is said of encryption, the key and the context apart.
    fn with(encryption: &str) -> Self {
        let site = StandIn::start();
        site.endpoints.create_stream(STREAM, 2);
        let key = site.endpoints.create_key();
        let encryption = match encryption {
            OFF => OFF.to_owned(),
            of => format!(
                "{of}\nkms_key = \"{key}\"\ncontext = {{ app = \"shop\", Kinesis = \"cars\" }}"
            ),
        };
        let home = Home::new(&site.endpoints, &encryption, "");
        lines::append(&home.log(), 1..=LINES)
            .wait()
            .expect_success();
        let mut agent = home.start_agent();
        home.until_settled(&mut agent, &home.log());
        FinalReport::of(agent).expect_stored(LINES);
        Self { site, key }
    }

    /// So that AWS's tools find the stand-in, and nothing of this machine's set-up.
    fn point(&self, command: &mut Command) {
        command
            .env("AWS_ENDPOINT_URL_KINESIS", &self.site.endpoints.kinesis)
            .env("AWS_ENDPOINT_URL_KMS", &self.site.endpoints.kms)
            .env("AWS_DEFAULT_REGION", REGION)
            .env("AWS_REGION", REGION)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    }

    fn read_stream(&self, options: &[&str]) -> Ended {
        self.read_stream_named(STREAM, options)
    }

    fn read_stream_named(&self, stream: &str, options: &[&str]) -> Ended {
        let mut command = peers::python(&shown("read_stream.py"));
        self.point(command.arg(stream).args(options));
        process::run("read_stream.py", &mut command, &[])
    }

    /// With the key and context that it was written with.
    fn read_opened(&self) -> Ended {
        self.read_stream(&["--key-arn", &self.key, "--context", CONTEXT])
    }

    /// The stream as Lambda hands it over: an event for each shard.
    fn events(&self) -> Vec<Value> {
        let stored = self.site.fake.records(STREAM).expect("it is there");
        let of_shard = |shard: &str| {
            let records = stored.iter().filter(|record| record.shard == shard);
            let records = records.map(|record| {
                json!({
                    "eventID": format!("{shard}:{}", record.sequence),
                    "eventName": "aws:kinesis:record",
                    "eventSource": "aws:kinesis",
                    "eventVersion": "1.0",
                    "eventSourceARN": format!("arn:aws:kinesis:{REGION}:000000000000:stream/{STREAM}"),
                    "awsRegion": REGION,
                    "invokeIdentityArn": "arn:aws:iam::000000000000:role/reader",
                    "kinesis": {
                        "kinesisSchemaVersion": "1.0",
                        "partitionKey": record.partition_key,
                        "sequenceNumber": record.sequence,
                        "data": STANDARD.encode_to_string(&record.data),
                        "approximateArrivalTimestamp": 1_796_029_200.5,
                    },
                })
            });
            json!({ "Records": records.collect::<Vec<_>>() })
        };
        let mut shards: Vec<_> = stored.iter().map(|record| &record.shard).collect();
        shards.dedup();
        shards.into_iter().map(|shard| of_shard(shard)).collect()
    }

    /// What it printed, and its answer.
    fn call_lambda(&self, event: &Value) -> (Vec<String>, Value) {
        let mut command = peers::script("run_lambda.py");
        command.arg(folder());
        command.env("KEY_ARNS", &self.key).env("CONTEXT", CONTEXT);
        self.point(&mut command);
        let event = event.to_string();
        let ended = process::run("run_lambda.py", &mut command, event.as_bytes()).expect_success();
        let printed = String::from_utf8(ended.stdout).expect("UTF-8");
        let mut printed: Vec<_> = printed.lines().map(str::to_owned).collect();
        let answer = printed.pop().expect("an answer at last");
        (printed, serde_json::from_str(&answer).expect("JSON"))
    }

    fn decrypts(&self) -> u64 {
        self.site.fake.counters().calls_of(Service::Kms, "Decrypt")
    }
}

const OFF: &str = "scope = \"off\"";
const RECORD: &str = "scope = \"record\"";
const BLOCK: &str = "scope = \"block\"";
const COMPACT: &str = "preset = \"compact\"";
/// As for consumers that are built on `decryptString`.
const TEXT: &str = "scope = \"record\"\nencoding = \"base64\"";
/// As for those of the blog post.
const BLOG: &str = "scope = \"record\"\ncompatibility = \"kinesisencryption\"";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reading")
}

fn shown(name: &str) -> PathBuf {
    folder().join(name)
}

fn expect_each_once(output: &[u8]) {
    let text = std::str::from_utf8(output).expect("UTF-8");
    let arrived = Arrived::of(text.lines());
    arrived.expect_all(1..=LINES);
    arrived.expect_no_doubles();
}

#[test]
fn python_reads_every_scope_with_one_call_to_kms_for_a_data_key() {
    for encryption in [RECORD, TEXT, BLOCK, COMPACT] {
        let written = Written::with(encryption);
        expect_each_once(&written.read_opened().expect_success().stdout);
        assert_eq!(written.decrypts(), 1, "{encryption}");
    }
}

#[test]
fn python_reads_what_is_for_the_blog_posts_consumers_only_if_told_to_take_their_suite() {
    let written = Written::with(BLOG);
    let refused = written.read_opened();
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stdout.is_empty());

    let pairs = ["--context", CONTEXT, "--context", "Kinesis=cars"];
    let mut options = vec!["--allow-uncommitted", "--key-arn", &written.key];
    options.extend(pairs);
    expect_each_once(&written.read_stream(&options).expect_success().stdout);
}

#[test]
fn python_reads_plain_aggregates_and_refuses_them_where_a_key_is_given() {
    let written = Written::with(OFF);
    expect_each_once(&written.read_stream(&[]).expect_success().stdout);

    let refused = written.read_opened();
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stdout.is_empty(), "nothing passes for encrypted");
    assert!(
        refused.stderr.contains("it is not encrypted"),
        "{}",
        refused.stderr
    );
}

#[test]
fn python_opens_nothing_under_another_key_or_context_than_it_expects() {
    let written = Written::with(RECORD);
    let another = written.site.endpoints.create_key();
    for (key, context, why) in [
        (&another, CONTEXT, "Unable to decrypt any data key"),
        (&written.key, "app=bank", "it is not bound to app=bank"),
    ] {
        let refused = written.read_stream(&["--key-arn", key, "--context", context]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(refused.stdout.is_empty());
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
    }
}

/// It once ended the aggregate that it was in: the good ones behind it were left out, and nothing said so.
#[test]
fn python_goes_on_behind_a_refused_record_of_the_same_aggregate() {
    let written = Written::with(RECORD);
    let stored = written.site.fake.records(STREAM).expect("it is there");
    let sealed = stored.iter().find_map(|record| deaggregate(&record.data));
    let sealed: Vec<_> = sealed.expect("an aggregate").into_iter().take(3).collect();
    let text = STANDARD.encode_to_string(&sealed[2].data);
    let members: [&[u8]; 5] = [
        &sealed[0].data,
        b"plain",
        &sealed[1].data,
        b"plain too",
        text.as_bytes(),
    ];
    let mut layout = Layout::new();
    for data in members {
        layout.add(&PartitionKey::new("k").expect("valid"), None, data.len());
    }
    let (aggregate, _) = layout.encode(members.into_iter());
    let stream = "mixed";
    written.site.endpoints.create_stream(stream, 1);
    written.site.endpoints.put(stream, &aggregate, "0");

    let read = written.read_stream_named(stream, &["--key-arn", &written.key]);
    assert_eq!(read.status.code(), Some(1));
    let printed = String::from_utf8(read.stdout).expect("UTF-8");
    let good = Arrived::of(printed.lines());
    good.expect_no_doubles();
    assert_eq!(printed.lines().count(), 3, "{printed}");
    let sequence = &written.site.fake.records(stream).expect("it is there")[0].sequence;
    let refused = [1, 3].map(|sub_sequence| {
        format!("shardId-000000000000 {sequence}/{sub_sequence}: it is not encrypted")
    });
    assert_eq!(read.stderr.lines().collect::<Vec<_>>(), refused);
}

#[test]
fn a_lambda_function_has_the_records_of_each_recorded_event() {
    for encryption in [RECORD, BLOCK, COMPACT] {
        let written = Written::with(encryption);
        let mut all = String::new();
        for event in written.events() {
            let (printed, answer) = written.call_lambda(&event);
            assert_eq!(answer, json!({ "batchItemFailures": [] }));
            all.extend(printed.into_iter().map(|line| line + "\n"));
        }
        expect_each_once(all.as_bytes());
    }
}

#[test]
fn a_lambda_function_names_the_record_that_it_could_not_open_and_has_those_before_it() {
    let written = Written::with(RECORD);
    let mut event = written.events().swap_remove(0);
    let good_records = event["Records"].as_array().expect("records").len();
    let (good, answer) = written.call_lambda(&event);
    assert_eq!(answer, json!({ "batchItemFailures": [] }));

    // The second begins like base64 of a message.
    for plain in ["plain", "AYAAA"] {
        let records = event["Records"].as_array_mut().expect("records");
        records.truncate(good_records);
        let mut foreign = records[0].clone();
        let sequence = "99999999999999999999";
        foreign["kinesis"]["sequenceNumber"] = sequence.into();
        foreign["kinesis"]["data"] = STANDARD.encode_to_string(plain).into();
        records.push(foreign);
        let (mut printed, answer) = written.call_lambda(&event);
        let failures = json!({ "batchItemFailures": [{ "itemIdentifier": sequence }] });
        assert_eq!(answer, failures);
        let why = printed.pop().expect("a line that says why");
        assert_eq!(why, format!("{sequence}: it is not encrypted"));
        assert_eq!(printed, good);
    }
}

#[test]
fn the_aws_cli_and_kinseal_decrypt_read_every_scope() {
    for encryption in [OFF, RECORD, TEXT, BLOG, BLOCK, COMPACT] {
        let written = Written::with(encryption);
        let mut command = Command::new("sh");
        command.arg(shown("aws_cli.sh")).arg(STREAM);
        command.args(["--kms-key", &written.key, "--context", CONTEXT]);
        if encryption == OFF {
            command.arg("--allow-plaintext");
        }
        let program = Path::new(env!("CARGO_BIN_EXE_kinseal"));
        let system = std::env::var_os("PATH").unwrap_or_default();
        let mut path = vec![peers::bin(), program.parent().expect("a folder").to_owned()];
        path.extend(std::env::split_paths(&system));
        command.env("PATH", std::env::join_paths(path).expect("no colons"));
        written.point(&mut command);
        let ended = process::run("aws_cli.sh", &mut command, &[]).expect_success();
        expect_each_once(&ended.stdout);
    }
}

/// What is shown there is what is run here.
#[test]
fn the_page_names_each_file_that_is_run_and_shows_what_is_in_it() {
    let page = std::fs::read_to_string(folder().with_extension("md")).expect("it is there");
    let mut files = 0;
    for entry in std::fs::read_dir(folder()).expect("it is there") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            continue;
        }
        let name = path.file_name().expect("a file").to_string_lossy();
        assert!(page.contains(&format!("(reading/{name})")), "{name}");
        files += 1;
    }
    assert_eq!(files, 4);
    let code = page.split("```python\n").skip(1);
    for piece in code.map(|rest| rest.split("```").next().expect("it ends")) {
        let (name, shown_there) = piece.split_once('\n').expect("lines");
        let name = name
            .strip_prefix("# ")
            .expect("the file's name, as a comment");
        let file = std::fs::read_to_string(shown(name)).expect("it is there");
        assert!(file.contains(shown_there), "{name} has no {shown_there}");
    }
}
