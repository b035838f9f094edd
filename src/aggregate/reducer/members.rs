//! Members of open containers, in one place.

use crate::near;

/// Members of thousands of containers: each lies where another one was before, of whatever container, who left last. That is
/// still in the cache, where the end of a list for each container no longer is.
///
/// Instead of the crate `slab`, since that says where a member lies only by reading it: to [`bring`](Self::bring) twenty
/// takes a fraction of the time.
#[derive(Debug)]
pub(super) struct Members<M> {
    places: Vec<Option<M>>,
    free: Vec<u32>,
}

/// So many places that are not taken stay in any case: a hundred kilobytes.
pub(super) const SLACK: usize = 1024;

impl<M> Members<M> {
    pub(super) fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Where it can be taken from.
    pub(super) fn put(&mut self, member: M) -> u32 {
        if let Some(place) = self.free.pop() {
            self.places[place as usize] = Some(member);
            return place;
        }
        let place = u32::try_from(self.places.len()).expect("memory has no room for as many");
        self.places.push(Some(member));
        place
    }

    /// # Panics
    ///
    /// None was put there, or it was taken.
    pub(super) fn take(&mut self, place: u32) -> M {
        let member = self.places[place as usize].take();
        self.free.push(place);
        member.expect("each is taken once")
    }

    /// Asks the processor for what is to be taken from there soon.
    pub(super) fn bring(&self, place: u32) {
        let place = self.places.as_ptr().wrapping_add(place as usize);
        near::bring(place, size_of::<Option<M>>());
    }

    /// Whether they take several times as much memory as they are.
    pub(super) fn are_scattered(&self) -> bool {
        self.len() + SLACK < self.places.capacity() / 4
    }

    /// Gives memory back: these are all who are there.
    pub(super) fn move_together<'a>(&mut self, places: impl Iterator<Item = &'a mut u32>) {
        let mut moved = Self {
            places: Vec::with_capacity(self.len() + SLACK),
            free: Vec::new(),
        };
        for place in places {
            *place = moved.put(self.take(*place));
        }
        debug_assert_eq!(self.len(), 0);
        *self = moved;
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.places.capacity()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_is_found_where_it_was_put_also_after_all_have_moved(
            steps in proptest::collection::vec(proptest::option::weighted(0.6, any::<prop::sample::Index>()), 1..3000),
        ) {
            let (mut members, mut there) = (Members::new(), Vec::new());
            for (n, leaves) in steps.into_iter().enumerate() {
                match leaves {
                    Some(leaves) if !there.is_empty() => {
                        let (place, member) = there.swap_remove(leaves.index(there.len()));
                        members.bring(place);
                        prop_assert_eq!(members.take(place), member);
                    }
                    _ => there.push((members.put(n), n)),
                }
                if n % 500 == 499 {
                    members.move_together(there.iter_mut().map(|(place, _)| place));
                }
                prop_assert_eq!(members.len(), there.len());
                prop_assert_eq!(members.are_scattered(), there.len() + SLACK < members.capacity() / 4);
            }
        }
    }
}
