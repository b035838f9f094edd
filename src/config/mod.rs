//! The configuration: a file as written → [`Settings`], checked.
//!
//! Two kinds of types. What a file says is read key by key into parts in which anything may be absent or
//! mistaken (`table`, `written`); a stream's own parts are laid over the top-level ones and over the stages'
//! defaults (`stream`), and checked, to give [`Settings`], in which everything is there and valid. Every
//! mistake is reported at once ([`Mistakes`]).
//!
//! Refused: keys that are not known, streams that no source names, anything outside the service's quotas,
//! and plaintext by omission: a stream without encryption is one whose configuration says `scope = "off"`.

mod admin;
mod daemon;
mod encryption;
mod entry;
mod environment;
mod file;
mod mistake;
mod source;
mod spool;
mod stream;
mod table;
#[cfg(test)]
mod tests;
mod tuning;
pub mod words;
mod written;

use std::io;
use std::path::Path;
use std::time::Duration;

use toml_edit::TableLike;

pub use self::daemon::DaemonSettings;
pub use self::environment::{Environment, System};
use self::file::{File, Whose};
pub use self::mistake::{Mistake, Mistakes};
use self::spool::Spool;
use self::table::Table;
use self::tuning::DeadLetter;
use self::written::{Place, Written};
pub use crate::agent::{PartitionKeyRule, Settings, Source, SourceKind};
use crate::aws;
use crate::batch::{Limits, RecordLimit};
pub use crate::pipeline::StreamSettings as Stream;
use crate::source::Costs;
use crate::statedir;

/// The settings in the file at `path`.
pub fn load(path: &Path, env: &dyn Environment) -> Result<Settings, Mistakes> {
    let name = path.display().to_string();
    parse(&name, &read_text(path, &name)?, env)
}

fn read_text(path: &Path, name: &str) -> Result<String, Mistakes> {
    let name = name.to_owned();
    match read_file(path).map(String::from_utf8) {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(_)) => Err(Mistakes::whole_file(
            name,
            "is not UTF-8; a configuration is a TOML file".into(),
        )),
        Err(e) => {
            let way_out = match e.kind() {
                std::io::ErrorKind::NotFound => "give the path of a configuration that exists",
                std::io::ErrorKind::PermissionDenied => {
                    "give the user of this process the right to read it"
                }
                _ => "give the path of a configuration file",
            };
            Err(Mistakes::whole_file(
                name,
                format!("cannot be read: {e}; {way_out}"),
            ))
        }
    }
}

/// A configuration is a file of some size: a device or a pipe could go on for ever.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let about = std::fs::metadata(path)?;
    let refused = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    if !about.is_file() {
        return refused("not a regular file");
    }
    if about.len() > LARGEST_FILE {
        return refused("more than 1 MiB, which is no configuration");
    }
    std::fs::read(path)
}

pub const LARGEST_FILE: u64 = 1 << 20;

/// The settings in `text`. `name` is what mistakes call the file.
pub fn parse(name: &str, text: &str, env: &dyn Environment) -> Result<Settings, Mistakes> {
    with_document(name, text, (env, Whose::Agent), read)
}

/// What `read` makes of the document, which notes a mistake wherever it returns nothing.
fn with_document<T>(
    name: &str,
    text: &str,
    (env, whose): (&dyn Environment, Whose),
    read: impl FnOnce(&File<'_>, &dyn TableLike) -> Option<T>,
) -> Result<T, Mistakes> {
    let file = File::new(text, env, whose);
    let document = match toml_edit::Document::parse(text) {
        Ok(document) => document,
        Err(e) => {
            let line = file.line_of(e.span().map_or(0, |span| span.start));
            let place = Place::top(line);
            file.mistake(
                &place,
                format!("not TOML: {}", e.message().replace('\n', ", ")),
            );
            return Err(Mistakes::new(name, file.into_mistakes()));
        }
    };
    let settings = read(&file, document.as_table());
    let mistakes = file.into_mistakes();
    match settings {
        Some(settings) if mistakes.is_empty() => Ok(settings),
        _ => Err(Mistakes::new(name, mistakes)),
    }
}

/// `None` only where a mistake has been noted.
fn read(file: &File<'_>, root: &dyn TableLike) -> Option<Settings> {
    file.read(root, |root| {
        let state_dir = root.parsed("state_dir", "an absolute path", words::absolute_path);
        let memory_limit = root.bytes("memory_limit", 1..=1 << 40);
        let core_dumps = root.boolean("core_dumps");
        let aws = root.table("aws", read_aws);
        let sources = source::read_all(root);
        let streams = stream::read_all(root, &sources);
        let log_interval = root.table("metrics", |t| {
            t.duration_or_none(
                "log_interval",
                Duration::from_secs(1)..=Duration::from_secs(86_400),
            )
        });
        let checkpoint_interval = root.table("checkpoint", |t| {
            t.duration(
                "interval",
                Duration::from_millis(10)..=Duration::from_secs(3600),
            )
        });
        let dead_letter = root.table("dead_letter", DeadLetter::read);
        let spool = root.table("spool", Spool::read);
        let admin = root.table("admin", admin::read);
        check_memory(file, &memory_limit, &streams);
        check_regions(file, &aws, &sources);

        let state_dir = state_dir.or_default(statedir::default_dir())?;
        let spool = match spool {
            Written::Given(spool, _) => Some(spool.resolve(&state_dir)?),
            Written::Absent => None,
            Written::Mistaken => return None,
        };
        Some(Settings {
            state_dir,
            memory_limit: memory_limit.or_default(Settings::MEMORY_LIMIT as u64)? as usize,
            aws: aws.or_default(Some(aws::Settings::default()))??,
            sources: sources
                .into_iter()
                .map(|part| part.source)
                .collect::<Option<_>>()?,
            streams: streams.into_iter().collect::<Option<_>>()?,
            log_interval: log_interval
                .or_default(Written::Absent)?
                .or_default(Some(Settings::LOG_INTERVAL))?,
            checkpoint_interval: checkpoint_interval
                .or_default(Written::Absent)?
                .or_default(Settings::CHECKPOINT_INTERVAL)?,
            dead_letter: dead_letter.or_default(DeadLetter::default())?.resolve()?,
            spool,
            admin: admin.or_default(Some(None))??,
            core_dumps: core_dumps.or_default(false)?,
        })
    })
}

fn read_aws(t: &mut Table<'_>) -> Option<aws::Settings> {
    let region = t.parsed(
        "region",
        "the code of a region, like \"eu-west-1\"",
        words::region,
    );
    let profile = t.parsed("profile", "the name of a profile", |text| match text {
        "" => Err("the name of a profile".into()),
        name => Ok(name.to_owned()),
    });
    let role = t.parsed("assume_role_arn", "the ARN of a role", words::role_arn);
    let external_id = t.parsed("external_id", "a string", words::external_id);
    let both = t.parsed("endpoint_url", "a URL", words::endpoint_url);
    let kinesis = t.parsed("kinesis_endpoint_url", "a URL", words::endpoint_url);
    let kms = t.parsed("kms_endpoint_url", "a URL", words::endpoint_url);

    if let (Some(place), true) = (external_id.place(), role.is_absent()) {
        t.file().mistake(
            place,
            "found without assume_role_arn; allowed: together with it",
        );
    }
    for apart in [&kinesis, &kms] {
        if let (Some(place), false) = (apart.place(), both.is_absent()) {
            let text = "found beside endpoint_url; allowed: endpoint_url for both services, or one URL for each";
            t.file().mistake(place, text);
        }
    }
    let some = |url: Written<String>| url.map(Some).or_default(None);
    Some(aws::Settings {
        region: some(region)?,
        profile: some(profile)?,
        assume_role_arn: some(role)?,
        external_id: some(external_id)?,
        kinesis_endpoint_url: some(kinesis.or(both.clone()))?,
        kms_endpoint_url: some(kms.or(both))?,
        credentials: None,
    })
}

fn check_memory(file: &File<'_>, limit: &Written<u64>, streams: &[Option<Stream>]) {
    let Written::Given(limit, place) = limit else {
        return;
    };
    // What a stream may say is bounded by memory, and not the other way round.
    let largest = streams
        .iter()
        .flatten()
        .map(|stream| match stream.batch.max_record_bytes {
            RecordLimit::Given(bytes) => bytes,
            RecordLimit::OfTheStream | RecordLimit::OfTheStreamAlone => Limits::LEAST_OF_A_STREAM,
        });
    let record = largest.max().unwrap_or(Limits::LEAST_OF_A_STREAM);
    let least = (record * Costs::COPIES_OF_A_RECORD).max(Settings::LEAST_MEMORY) as u64;
    if *limit < least {
        let text = format!(
            "found {}; allowed: at least {}, because a record is held as read, sealed and aggregated, with room \
             to spare: {} times batch.max_record_bytes, and 8MiB at least",
            words::show_bytes(*limit),
            words::show_bytes(least),
            Costs::COPIES_OF_A_RECORD,
        );
        file.mistake(place, text);
    }
}

/// One client has one region.
fn check_regions(file: &File<'_>, aws: &Written<Option<aws::Settings>>, sources: &[source::Part]) {
    let Written::Given(Some(aws), _) = aws else {
        return;
    };
    let Some(region) = &aws.region else {
        return;
    };
    for part in sources {
        let Written::Given(stream, place) = &part.stream else {
            continue;
        };
        let arn_region = stream.arn().and_then(|arn| arn.split(':').nth(3));
        if let Some(other) = arn_region.filter(|other| other != region) {
            let text = format!(
                "found a stream in {other:?}; allowed: streams in aws.region, which is {region:?}"
            );
            file.mistake(place, text);
        }
    }
}
