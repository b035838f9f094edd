//! Sells stocks: the producer of the AWS Big Data blog post "Encrypt and Decrypt Amazon Kinesis Records Using AWS KMS".
//!
//! Each sale is a JSON record, encrypted before it leaves the process, and put in each of the ways there are:
//! PutRecord and PutRecords, called here, and the producer of the library, which aggregates, batches and retries by itself.
//!
//! ```sh
//! cargo run --example ticker_producer        # on stand-ins for Kinesis and KMS, in this process
//! cargo run --example ticker_producer -- --stream stock-sales --kms-key alias/ticker --region eu-west-1
//!
//! kinseal local --stream stock-sales:2 --kms-key alias/ticker          # a stand-in that the consumer reaches too
//! AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test cargo run --example ticker_producer -- \
//!     --stream stock-sales --kms-key alias/ticker --region eu-west-1 --endpoint-url http://127.0.0.1:4567
//! ```

mod ticker;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use clap::Parser;
use kinseal::batch::Limits;
use kinseal::delivery::Delivery;
use kinseal::record::{PartitionKey, Record};
use kinseal::seal::kms::KmsKeys;
use kinseal::seal::sealer::Sealer;
use kinseal::seal::{CacheSettings, message};

use ticker::place::{Place, PlaceArgs};
use ticker::sale::{Sale, sales};

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    place: PlaceArgs,
    /// Sales to make for each way to put them
    #[arg(long, default_value_t = 4)]
    sales: usize,
    /// Makes the same sales again
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let place = Place::find(&args.place).await?;
    let all = sales(args.seed, 3 * args.sales);
    let (one_by_one, rest) = all.split_at(args.sales);
    let (together, aggregated) = rest.split_at(args.sales);

    let sealer = sealer(&place)?;
    println!("PutRecord, a call for each sale:");
    put_one_by_one(&place, &sealer, one_by_one).await?;
    println!("PutRecords, a call for all:");
    put_together(&place, &sealer, together).await?;
    println!("The library's producer, sales aggregated:");
    put_aggregated(&place, aggregated).await?;

    show_what_lies_there(&place, &all)?;
    place.leave().await;
    Ok(())
}

/// One data key for many records: a call to KMS each five minutes.
fn sealer(place: &Place) -> anyhow::Result<Sealer> {
    let kms = place.clients.kms.clone();
    let key = KmsKeys::new(kms, [&place.kms_key]).expect("one key");
    let (cache, form) = (CacheSettings::default(), message::Settings::default());
    Ok(Sealer::new(
        Arc::new(key),
        place.context.clone(),
        cache,
        form,
    )?)
}

/// A sale as it is to lie in the stream, within what the service takes.
async fn sealed(sealer: &Sealer, sale: &Sale) -> anyhow::Result<(PartitionKey, Vec<u8>)> {
    let order = &sale.order_id;
    let message = sealer.seal(&sale.to_json()).await;
    let message = message.with_context(|| format!("sale {order} is not encrypted"))?;
    // It lies in the stream in clear, so it is nothing of the sale. A random one spreads sales over the shards.
    let key = PartitionKey::new(format!("{:x}", rand::random::<u64>()))?;
    // Encrypted it is longer, and it is this length that the service refuses: 1 MiB with its key, unless the stream says
    // more.
    let fits = Limits::default().check(message.len(), &key);
    fits.with_context(|| format!("sale {order}"))?;
    Ok((key, message))
}

async fn put_one_by_one(place: &Place, sealer: &Sealer, sales: &[Sale]) -> anyhow::Result<()> {
    for sale in sales {
        let (key, message) = sealed(sealer, sale).await?;
        let bytes = message.len();
        let put = place.clients.kinesis.put_record();
        let (name, arn) = name_or_arn(place);
        let put = put.set_stream_name(name).set_stream_arn(arn);
        let put = put.partition_key(key.as_str()).data(Blob::new(message));
        // The clients of this library retry nothing: a call that timed out may have stored its record.
        let stored = put.send().await;
        let stored = stored.with_context(|| {
            let order = &sale.order_id;
            format!("sale {order}: PutRecord on {}", place.stream)
        })?;
        let (shard, sequence) = (stored.shard_id, stored.sequence_number);
        println!("  {}: {bytes} bytes, {shard}, {sequence}", sale.order_id);
    }
    Ok(())
}

/// A call takes one of the two.
fn name_or_arn(place: &Place) -> (Option<String>, Option<String>) {
    match place.stream.arn() {
        Some(arn) => (None, Some(arn.to_owned())),
        None => (Some(place.stream.name().to_owned()), None),
    }
}

/// Tries before a sale that is refused again and again is an error.
const TRIES: u32 = 5;

async fn put_together(place: &Place, sealer: &Sealer, sales: &[Sale]) -> anyhow::Result<()> {
    let (limits, mut call, mut bytes) = (Limits::default(), Vec::new(), 0);
    for sale in sales {
        let (key, message) = sealed(sealer, sale).await?;
        let size = key.len() + message.len();
        if call.len() == limits.max_records || bytes + size > limits.max_bytes {
            put_all_of(place, std::mem::take(&mut call)).await?;
            bytes = 0;
        }
        bytes += size;
        let entry = PutRecordsRequestEntry::builder()
            .partition_key(key.as_str())
            .data(Blob::new(message))
            .build()
            .context("an entry has data and a key")?;
        call.push((sale, entry));
    }
    put_all_of(place, call).await
}

/// A sale, and the entry that it is in a call.
type Entry<'a> = (&'a Sale, PutRecordsRequestEntry);

/// The service may refuse some entries and store the others: who sent all of them again would store those twice.
async fn put_all_of(place: &Place, mut left: Vec<Entry<'_>>) -> anyhow::Result<()> {
    let mut tries = 0;
    while !left.is_empty() {
        tries += 1;
        left = put_call(place, left, tries == TRIES).await?;
        if !left.is_empty() {
            tokio::time::sleep(Duration::from_millis(100 << tries)).await;
        }
    }
    Ok(())
}

/// One call; what it did not store comes back.
async fn put_call<'a>(
    place: &Place,
    entries: Vec<Entry<'a>>,
    is_last: bool,
) -> anyhow::Result<Vec<Entry<'a>>> {
    let put = place.clients.kinesis.put_records();
    let (name, arn) = name_or_arn(place);
    let put = put.set_stream_name(name).set_stream_arn(arn);
    let records = entries.iter().map(|(_, entry)| entry.clone()).collect();
    let answer = put.set_records(Some(records)).send().await;
    let answer = answer.with_context(|| format!("PutRecords on {}", place.stream))?;
    let mut left = Vec::new();
    for ((sale, entry), answer) in entries.into_iter().zip(answer.records) {
        let order = &sale.order_id;
        let bytes = entry.data.as_ref().len();
        match (answer.shard_id, answer.sequence_number, answer.error_code) {
            (Some(shard), Some(sequence), None) => {
                println!("  {order}: {bytes} bytes, {shard}, {sequence}");
            }
            (_, _, code) if is_last => {
                let code = code.unwrap_or_default();
                bail!("sale {order} was refused {TRIES} times, last with {code}");
            }
            _ => left.push((sale, entry)),
        }
    }
    Ok(left)
}

/// What the calls above do by hand, and aggregation: several sales, each encrypted by itself, in one Kinesis record.
async fn put_aggregated(place: &Place, sales: &[Sale]) -> anyhow::Result<()> {
    let producer = place.producer().await?;
    let mut receipts = Vec::new();
    for sale in sales {
        // No key: it goes to any shard, and takes no bytes for one.
        receipts.push((sale, producer.put(Record::new(sale.to_json())).await?));
    }
    // They would wait 100 ms for others to share a Kinesis record with.
    producer.flush().await;
    for (sale, receipt) in receipts {
        let order = &sale.order_id;
        match receipt.await {
            Delivery::Stored {
                shard, sequence, ..
            } => println!("  {order}: {shard}, {sequence}"),
            other => bail!("sale {order} is not stored: {other:?}"),
        }
    }
    producer.close(Duration::from_secs(30)).await;
    Ok(())
}

/// On the stand-in, which shows what it holds.
fn show_what_lies_there(place: &Place, sales: &[Sale]) -> anyhow::Result<()> {
    let Some(fake) = &place.stand_in else {
        println!("Read them back: cargo run --example ticker_consumer, with the same arguments");
        return Ok(());
    };
    let stored = fake.records(place.stream.name())?;
    println!(
        "The stream holds {} Kinesis records for {} sales:",
        stored.len(),
        sales.len()
    );
    for record in &stored {
        println!("  {}: {}", record.sequence, ticker::hex_begin(&record.data));
        let in_clear = |text: &String| {
            let mut windows = record.data.windows(text.len());
            windows.any(|window| window == text.as_bytes())
        };
        // Symbols are short enough to turn up in ciphertext by chance.
        if sales.iter().any(|sale| in_clear(&sale.time_stamp)) {
            bail!(
                "record {} lies in the stream in clear: this is a bug",
                record.sequence
            );
        }
    }
    println!("No sale is readable there.");
    Ok(())
}

#[cfg(test)]
mod tests {
    use kinseal::fake::{Action, Entries, Faults, Rule};

    use super::*;

    async fn stand_ins() -> Place {
        let args = Args::parse_from(["ticker_producer"]);
        Place::find(&args.place).await.expect("free ports")
    }

    #[tokio::test]
    async fn a_sale_that_is_too_large_once_it_is_sealed_is_refused_before_the_call() {
        let place = stand_ins().await;
        let mut sale = sales(1, 1).remove(0);
        sale.ticker_symbol = "A".repeat((1 << 20) - 300);
        assert!(sale.to_json().len() < 1 << 20, "in clear it would fit");
        let sealer = sealer(&place).expect("a key");
        let error = put_one_by_one(&place, &sealer, &[sale.clone()]).await;
        let error = format!("{:#}", error.unwrap_err());
        assert!(
            error.contains(&sale.order_id) && error.contains("over the limit of 1048576"),
            "{error}"
        );
        let fake = place.stand_in.as_ref().expect("ours");
        assert_eq!(fake.counters().records_stored, 0);
        place.leave().await;
    }

    #[tokio::test]
    async fn entries_that_were_refused_are_put_again_and_no_others() {
        let place = stand_ins().await;
        let fake = place.stand_in.as_ref().expect("ours");
        let throttle = Rule::new(Action::Throttle(Entries::Count(2))).on("PutRecords");
        fake.set_faults(Faults::none().rule(throttle.times(1)));
        let sealer = sealer(&place).expect("a key");
        let sales = sales(1, 5);
        put_together(&place, &sealer, &sales)
            .await
            .expect("all stored");
        let stored = fake.records(place.stream.name()).expect("a stream");
        assert_eq!(stored.len(), sales.len());
        place.leave().await;
    }
}
