//! What the process tells its allocator: glibc's, which has to be told.
//!
//! glibc maps large buffers apart and gives them back when they are freed, until one is freed: then it keeps everything up
//! to that size in its heaps, one per thread, between records that live longer. Records of 20 bytes under a memory limit
//! of 64 MiB took 115 MiB that way, and take 76 MiB with the threshold fixed where it begins. (mimalloc took 136 MiB.) A
//! page fault per 4 KiB is the price, which is more than reading or encoding them costs: what comes often is smaller.
//!
//! With that threshold fixed, it would also give back what is free at the end of a heap as soon as that is 128 KiB, and
//! take it again a moment later; it keeps a little more.
//!
//! Other allocators are left alone. Source: mallopt(3).

#![expect(unsafe_code, reason = "mallopt: see the module's text")]

/// glibc's own first value, which no longer moves once it is set.
const MAPPED_APART_FROM: libc::c_int = 128 << 10;

/// At the end of each heap: a few chunks of records.
const KEPT: libc::c_int = 1 << 20;

/// For `main`, before there are threads.
pub fn give_back_large_buffers() {
    // SAFETY: takes two numbers and keeps no pointer; glibc locks what it changes. Both values are within the bounds that
    // mallopt(3) names, and if one were not, the call would change nothing and say so.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_APART_FROM);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
}
