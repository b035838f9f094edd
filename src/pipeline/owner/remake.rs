//! What was made for a stream that has changed since: found out when it is stored.

use super::Owner;
use crate::aggregate::reducer::Routes;
use crate::record::HashKey;

impl Owner {
    /// The routes by which an entry with this hash key does belong on this shard, if they are the present ones.
    pub(super) fn routes_that_predict(&self, hash_key: HashKey, shard: &str) -> Option<Routes> {
        let routes = self.reducer.as_ref()?.routes();
        match routes {
            Routes::Known(map) if map.predict(hash_key).id.as_str() == shard => {
                Some(routes.clone())
            }
            Routes::Known(_) | Routes::Unpredictable | Routes::Auto => None,
        }
    }
}
