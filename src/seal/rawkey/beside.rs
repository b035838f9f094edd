//! Data keys that local wrapping keys wrap beside the one that makes them, so that each of them opens.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{MAX_DATA_KEY, WrappingKey};
use crate::metrics::KeyCalls;
use crate::seal::key::{FreshKey, GenerateDataKey, KeyError};
use crate::seal::message::{EncryptionContext, check_length};

/// One key makes data keys, and the others wrap them too.
#[derive(Debug)]
pub struct WrappedBeside {
    maker: Arc<dyn GenerateDataKey>,
    others: Vec<WrappingKey>,
}

impl WrappedBeside {
    pub fn new(maker: Arc<dyn GenerateDataKey>, others: Vec<WrappingKey>) -> Self {
        Self { maker, others }
    }
}

impl GenerateDataKey for WrappedBeside {
    fn name(&self) -> &str {
        self.maker.name()
    }

    fn encrypted_len_hint(&self) -> usize {
        let others = self.others.iter().map(|key| key.wrapped_len(MAX_DATA_KEY));
        self.maker.encrypted_len_hint() + others.sum::<usize>()
    }

    fn generate<'a>(
        &'a self,
        context: &'a EncryptionContext,
        key_len: usize,
    ) -> BoxFuture<'a, Result<FreshKey, KeyError>> {
        Box::pin(async move {
            let mut fresh = self.maker.generate(context, key_len).await?;
            for key in &self.others {
                check_length(context).map_err(|error| key.malformed(error))?;
                fresh
                    .encrypted
                    .push(key.wrap(fresh.plaintext.as_bytes(), context));
            }
            Ok(fresh)
        })
    }

    fn calls(&self) -> Option<&KeyCalls> {
        self.maker.calls()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_unwraps_the_same_data_key() {
        let key = |name| WrappingKey::new("shop", name, &[7; 32]).expect("valid");
        let beside = WrappedBeside::new(Arc::new(key("first")), vec![key("second"), key("third")]);
        let context = EncryptionContext::from([("app".to_owned(), "shop".to_owned())]);
        let fresh = futures_util::FutureExt::now_or_never(beside.generate(&context, 32));
        let fresh = fresh.expect("nothing to wait for").expect("generated");
        assert_eq!(fresh.encrypted.len(), 3);
        let mut wrapped = 2;
        for (edk, name) in fresh.encrypted.iter().zip(["first", "second", "third"]) {
            let opened = key(name).open(edk, &context, 32).expect("opens");
            let opened = opened.expect("wrapped by it");
            assert_eq!(opened.as_bytes(), fresh.plaintext.as_bytes());
            wrapped += 6 + edk.provider.len() + edk.info.len() + edk.ciphertext.len();
        }
        assert_eq!(beside.encrypted_len_hint(), wrapped);
    }
}
