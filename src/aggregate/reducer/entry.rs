//! From closed containers of sealed records to entries of a request: encoded where they have company.

use bytes::Bytes;

use super::Closed;
use crate::aggregate::AggregatedRecord;
use crate::aggregate::format::Unsummed;
use crate::near;
use crate::seal::SealedRecord;

impl Closed<SealedRecord> {
    /// `None` of a lone member, which goes as it is, as with the KPL.
    fn encode(&self) -> Option<Unsummed> {
        if self.members.len() == 1 {
            return None;
        }
        let data = self.members.iter().map(|m| &m.data()[..]);
        Some(self.layout.encode_unsummed(data))
    }

    /// On many shards what is to be encoded was read long ago and has left the cache.
    fn bring_data(&self) {
        if self.members.len() > 1 {
            for member in &self.members {
                near::bring(member.data().as_ptr(), member.data().len().min(BROUGHT));
            }
        }
    }
}

/// Of each member. Behind that, the processor sees for itself what comes next.
const BROUGHT: usize = 4 * 1024;

/// A lone record of so many bytes has its own memory. What is longer takes a good part of what it was read with.
const COPIED: usize = 16 * 1024;

impl AggregatedRecord {
    /// Of each container, in their order. What [`From`] makes of one, only faster: the checksums of all are
    /// computed side by side.
    pub fn each(closed: Vec<Closed<SealedRecord>>) -> Vec<Self> {
        let mut unsummed = Vec::with_capacity(closed.len());
        let mut next = closed.iter();
        next.by_ref().take(1).for_each(Closed::bring_data);
        for closed in &closed {
            next.by_ref().take(1).for_each(Closed::bring_data);
            unsummed.extend(closed.encode());
        }
        let mut encoded = Unsummed::sum_each(unsummed).into_iter();
        let with_encoded = |closed: Closed<_>| {
            let encoded = (closed.members.len() > 1).then(|| encoded.next());
            Self::new(closed, encoded.flatten())
        };
        closed.into_iter().map(with_encoded).collect()
    }

    /// `encoded`: of several members, their aggregate and where in it each one's data lies.
    fn new(closed: Closed<SealedRecord>, encoded: Option<(Vec<u8>, Vec<usize>)>) -> Self {
        let Closed {
            layout: _,
            mut members,
            deadline,
            opened_at,
            closed_at: _,
            trigger: _,
            container,
        } = closed;
        let data = match encoded {
            None => {
                let [only] = &mut members[..] else {
                    unreachable!("several members are encoded");
                };
                if only.data().len() <= COPIED {
                    // It may wait for long, and would keep all that it was read with.
                    only.relocate(Bytes::copy_from_slice(only.data()));
                }
                only.data().clone()
            }
            Some((bytes, starts)) => {
                let bytes = Bytes::from(bytes);
                for (member, start) in members.iter_mut().zip(starts) {
                    member.relocate(bytes.slice(start..start + member.data().len()));
                }
                bytes
            }
        };
        // It may wait for long, and may have grown by doubling. A few more places cost less than moving them.
        if members.capacity() > members.len() + members.len() / 8 {
            members.shrink_to_fit();
        }
        let predicted = container.predicted.clone();
        let (partition_key, explicit_hash_key) = container.into_keys(members.len());
        Self {
            data,
            partition_key,
            explicit_hash_key,
            predicted,
            members,
            deadline,
            opened_at,
            attempts: 0,
            last_refusal: None,
        }
    }
}

impl From<Closed<SealedRecord>> for AggregatedRecord {
    fn from(closed: Closed<SealedRecord>) -> Self {
        let encoded = closed.encode().map(Unsummed::sum);
        Self::new(closed, encoded)
    }
}
