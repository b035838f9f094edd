//! What else than its name a stream is known by.

use std::sync::{Arc, Mutex};

/// The `StreamId` of a stream, where its caller has told one. Shared: who calls the service carries what is told by then,
/// and a caller may tell it, or another one, at any time.
///
/// The service reserves it for later, says its documentation:
/// <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html>.
#[derive(Debug, Clone, Default)]
pub struct StreamId(Arc<Mutex<Option<Arc<str>>>>);

impl StreamId {
    /// From the next call on. An empty one is none. Whether it is another than before.
    pub fn set(&self, id: &str) -> bool {
        let id = Some(id).filter(|id| !id.is_empty());
        let mut told = self.0.lock().expect("no panic while held");
        let is_new = told.as_deref() != id;
        if is_new {
            *told = id.map(Arc::from);
        }
        is_new
    }

    /// `None`: none is told.
    pub fn told(&self) -> Option<Arc<str>> {
        self.0.lock().expect("no panic while held").clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_last_is_the_id_and_an_empty_one_is_none() {
        let id = StreamId::default();
        let carried = id.clone();
        assert_eq!(carried.told(), None);
        assert!(id.set("one") && !id.set("one") && id.set("two"));
        assert_eq!(carried.told().as_deref(), Some("two"));
        assert!(id.set("") && carried.told().is_none());
    }
}
