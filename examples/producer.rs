//! Puts records on a stream from a program's own code, and prints what became of each.
//!
//! Against stand-ins for Kinesis and KMS in this process, so that it runs anywhere:
//!
//! ```sh
//! cargo run --example producer
//! ```
//!
//! For AWS itself leave `.aws(…)` out: region and credentials are then found as every AWS tool finds them.

use std::time::Duration;

use kinseal::aws;
use kinseal::delivery::Delivery;
use kinseal::fake::{DEFAULT_CREDENTIAL, DEFAULT_REGION, Fake};
use kinseal::producer::Producer;
use kinseal::record::{PartitionKey, Record};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let fake = Fake::start().await?;
    fake.create_stream("shop-logs", 4)?;
    fake.create_alias("alias/shop", &fake.create_key())?;

    let producer = Producer::builder("shop-logs")
        .kms_key("alias/shop")
        .context("app", "shop")
        .aws(stand_ins(&fake))
        .build()
        .await?;

    let mut receipts = Vec::new();
    for n in 0..10 {
        // Waits while there is no room: memory is bounded, whatever the stream does.
        let customer = PartitionKey::new(format!("customer-{}", n % 3))?;
        let record = Record::with_key(format!("order {n}"), customer);
        receipts.push(producer.put(record).await?);
    }
    // Without this they would linger, at most 100 ms, for others to share a Kinesis record with.
    producer.flush().await;

    for (n, receipt) in receipts.into_iter().enumerate() {
        match receipt.await {
            Delivery::Stored {
                shard, sequence, ..
            } => println!("order {n}: {shard}, {sequence}"),
            Delivery::Failed { reason, attempts } => {
                println!("order {n}: not stored after {attempts} calls: {reason}");
            }
            other => println!("order {n}: {other:?}"),
        }
    }

    let stored = fake.records("shop-logs")?;
    let bytes: usize = stored.iter().map(|record| record.data.len()).sum();
    println!(
        "in the stream: {} Kinesis records, {bytes} bytes, all ciphertext",
        stored.len()
    );

    producer.close(Duration::from_secs(30)).await;
    fake.shutdown().await;
    Ok(())
}

/// Where the stand-ins answer, and the credentials they know.
fn stand_ins(fake: &Fake) -> aws::Settings {
    aws::Settings {
        region: Some(DEFAULT_REGION.into()),
        kinesis_endpoint_url: Some(fake.kinesis_url()),
        kms_endpoint_url: Some(fake.kms_url()),
        credentials: Some(aws::Credentials::new(
            DEFAULT_CREDENTIAL,
            DEFAULT_CREDENTIAL,
        )),
        ..aws::Settings::default()
    }
}
