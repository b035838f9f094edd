//! Reads sales back: the consumer of the AWS Big Data blog post "Encrypt and Decrypt Amazon Kinesis Records Using AWS KMS".
//!
//! All shards, parents before children; aggregates are taken apart, and each record is decrypted only if it was encrypted
//! under the expected key and is bound to the expected context. It prints what lies in the stream, and what it says.
//!
//! ```sh
//! cargo run --example ticker_consumer        # on stand-ins for Kinesis and KMS, in this process, which it fills first
//! cargo run --example ticker_consumer -- --stream stock-sales --region eu-west-1 --follow \
//!     --kms-key arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab
//!
//! # what ticker_producer has put on `kinseal local`
//! AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test cargo run --example ticker_consumer -- \
//!     --stream stock-sales --kms-key alias/ticker --region eu-west-1 --endpoint-url http://127.0.0.1:4567
//! ```

mod ticker;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use kinseal::consume::{
    Consumer, KinesisStream, Plaintext, Settings, Unpacker, Unreadable, UserRecord,
};
use kinseal::delivery::Delivery;
use kinseal::record::Record;
use kinseal::seal::kms::KmsUnwrap;
use kinseal::seal::open::{OpenSettings, Opener};
use kinseal::shutdown::{self, Shutdown};

use ticker::place::{Place, PlaceArgs};
use ticker::sale::{Sale, sales};

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    place: PlaceArgs,
    /// Go on when all there is has been read, until Ctrl-C
    #[arg(long)]
    follow: bool,
    /// Sales to fill the stand-in with
    #[arg(long, default_value_t = 6, conflicts_with = "stream")]
    sales: usize,
    /// Makes the same sales again
    #[arg(long, default_value_t = 1, conflicts_with = "stream")]
    seed: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let place = Place::find(&args.place).await?;
    if place.stand_in.is_some() {
        fill(&place, &sales(args.seed, args.sales)).await?;
    }
    let (stop, shutdown) = shutdown::channel();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.stop();
        }
    });
    let tally = read(&place, args.follow, shutdown, &mut std::io::stdout()).await?;
    println!(
        "{} sales worth {:.2}; {} records could not be read",
        tally.sales, tally.worth, tally.unreadable
    );
    if place.stand_in.is_some() {
        let put = args.sales;
        ensure!(tally.sales == put, "{put} sales were put: this is a bug");
    }
    place.leave().await;
    Ok(match tally.unreadable {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Puts sales as the producer would.
async fn fill(place: &Place, sales: &[Sale]) -> anyhow::Result<()> {
    let producer = place.producer().await?;
    let mut receipts = Vec::new();
    for sale in sales {
        receipts.push(producer.put(Record::new(sale.to_json())).await?);
    }
    producer.flush().await;
    for (receipt, sale) in receipts.into_iter().zip(sales) {
        let delivery = receipt.await;
        let is_stored = matches!(delivery, Delivery::Stored { .. });
        let order = &sale.order_id;
        ensure!(is_stored, "sale {order} is not stored: {delivery:?}");
    }
    producer.close(Duration::from_secs(30)).await;
    Ok(())
}

/// What was read.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    sales: usize,
    worth: f64,
    unreadable: u64,
}

/// From the oldest record on, to where the stream ends now, or for ever.
async fn read(
    place: &Place,
    follow: bool,
    shutdown: Shutdown,
    out: &mut impl Write,
) -> anyhow::Result<Tally> {
    let client = place.clients.kinesis.clone();
    let stream = Arc::new(KinesisStream::new(client, place.stream.clone()));
    let settings = Settings {
        until_empty: !follow,
        ..Settings::default()
    };
    let mut consumer = Consumer::start(stream, unpacker(place)?, settings, shutdown);
    let mut tally = Tally::default();
    // A batch is of one shard, in its order. While it is kept, it counts towards the memory for reading.
    while let Some(batch) = consumer.next().await {
        for record in &batch.records {
            match record {
                Ok(record) => match show(record, out)? {
                    Some(sale) => {
                        tally.sales += 1;
                        tally.worth += sale.sales_price;
                    }
                    None => tally.unreadable += 1,
                },
                Err(unreadable) => {
                    tally.unreadable += 1;
                    show_unreadable(unreadable, out)?;
                }
            }
        }
    }
    let ended = consumer.finish().await;
    ended.with_context(|| format!("reading {}", place.stream))?;
    Ok(tally)
}

/// Opens with the expected key and context, and nothing else.
fn unpacker(place: &Place) -> anyhow::Result<Unpacker> {
    let kms = place.clients.kms.clone();
    let expected = Arc::new(KmsUnwrap::new(kms, [&place.kms_key]));
    let context = place.context.clone();
    // A data key is unwrapped once: a call to KMS for each key of a producer, not for each record.
    let opener = Opener::new(vec![expected], context, OpenSettings::default())?;
    // Who can write to the stream, and not use the key, must not pass off records of his own.
    let plaintext = Plaintext::Refused;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Unpacker::opening(Arc::new(opener), plaintext, threads)?)
}

/// Before it is decrypted, and after. `None`: it is authentic, and no sale.
fn show(record: &UserRecord, out: &mut impl Write) -> anyhow::Result<Option<Sale>> {
    let place = &record.place;
    let (shard, sequence, number) = (&place.shard, &place.sequence, place.sub_sequence);
    let sealed = record.sealed.as_ref().context("plaintext is refused")?;
    writeln!(out, "{shard} {sequence} {number}")?;
    let message = ticker::hex_begin(&sealed.message);
    writeln!(out, "  in the stream: {message}")?;
    let (key, context) = (&sealed.wrapping_key, &sealed.context);
    writeln!(out, "  encrypted by:  {key}, bound to {context:?}")?;
    let text = String::from_utf8_lossy(&record.data);
    writeln!(out, "  decrypted:     {text}")?;
    match serde_json::from_slice(&record.data) {
        Ok(sale) => Ok(Some(sale)),
        Err(error) => {
            writeln!(out, "  no sale:       {error}")?;
            Ok(None)
        }
    }
}

/// The rest goes on: one record that cannot be read must not hold up a shard.
fn show_unreadable(unreadable: &Unreadable, out: &mut impl Write) -> std::io::Result<()> {
    let place = &unreadable.place;
    writeln!(out, "{} {}", place.shard, place.sequence)?;
    let data = ticker::hex_begin(&unreadable.data);
    writeln!(out, "  in the stream: {data}")?;
    writeln!(out, "  not decrypted: {}", unreadable.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn stand_ins() -> Place {
        let args = Args::parse_from(["ticker_consumer"]);
        Place::find(&args.place).await.expect("free ports")
    }

    async fn read_all(place: &Place) -> (Tally, String) {
        let (_stop, shutdown) = shutdown::channel();
        let mut out = Vec::new();
        let tally = read(place, false, shutdown, &mut out).await;
        let out = String::from_utf8(out).expect("text");
        (tally.expect("the stream is there"), out)
    }

    #[tokio::test]
    async fn every_sale_is_shown_as_it_lay_in_the_stream_and_decrypted() {
        let place = stand_ins().await;
        let sales = sales(3, 20);
        fill(&place, &sales).await.expect("stored");
        let (tally, out) = read_all(&place).await;
        assert_eq!((tally.sales, tally.unreadable), (20, 0));
        for sale in &sales {
            assert!(out.contains(&format!("\"orderId\":\"{}\"", sale.order_id)));
        }
        // How a message of suite 0478 begins.
        assert_eq!(out.matches("in the stream: 020478").count(), 20);
        place.leave().await;
    }

    #[tokio::test]
    async fn another_key_or_context_than_expected_decrypts_nothing() {
        let place = stand_ins().await;
        fill(&place, &sales(3, 5)).await.expect("stored");
        let fake = place.stand_in.as_ref().expect("ours");
        let place = Place {
            kms_key: fake.create_key(),
            ..place
        };
        let (tally, out) = read_all(&place).await;
        assert_eq!((tally.sales, tally.unreadable), (0, 5));
        assert!(out.contains("not decrypted: wrong key"), "{out}");
        place.leave().await;

        let place = stand_ins().await;
        fill(&place, &sales(3, 5)).await.expect("stored");
        let context = [("app".to_owned(), "bank".to_owned())].into();
        let place = Place { context, ..place };
        let (tally, out) = read_all(&place).await;
        assert_eq!((tally.sales, tally.unreadable), (0, 5));
        assert!(out.contains("not decrypted: "), "{out}");
        place.leave().await;
    }
}
