//! Asks the processor for memory before it is needed.
//!
//! What waits for thousands of shards is no longer in the cache when the next record comes for one of them. Asked for line
//! by line, as it is used, each costs the time of a read from memory; all at once they cost little more than one. A read ahead
//! of time would do for what is there, though it holds up what comes after it; it cannot reach what will be written for the
//! first time, as the end of a vector is.

#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "std::arch: a hint that reads nothing")
)]

const CACHE_LINE: usize = 64;

/// Brings near the lines on which so many bytes lie from there on. A hint: nothing is read, whatever lies there.
pub(crate) fn bring<T>(start: *const T, bytes: usize) {
    let start = start.cast::<u8>();
    let first = start.addr() % CACHE_LINE;
    for line in (0..first + bytes).step_by(CACHE_LINE) {
        bring_line(start.wrapping_add(line));
    }
}

/// Where one more will be written to, if there is room: behind the last.
pub(crate) fn bring_end<T>(of: &[T]) {
    bring(of.as_ptr().wrapping_add(of.len()), size_of::<T>());
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn bring_line(at: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: each x86-64 processor has the instruction; it changes nothing that a program could see, and faults at no
    // address (Intel SDM, PREFETCHh).
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
}

#[cfg(not(target_arch = "x86_64"))]
fn bring_line(_: *const u8) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_lies_there_it_may_be_brought() {
        bring(std::ptr::null::<u64>(), 1 << 10);
        bring(std::ptr::without_provenance::<u8>(usize::MAX - 1), 1 << 10);
        bring_end::<[u128; 9]>(&[]);
        let mut some = vec![7_u16, 8];
        bring(&some, size_of_val(&some));
        bring_end(&some);
        some.push(9);
        assert_eq!(some, [7, 8, 9]);
    }
}
