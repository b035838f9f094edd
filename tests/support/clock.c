// A clock that another process can set on: 8 bytes at CLOCK_AHEAD, in nanoseconds, are added to all that is asked of it.
// Loaded into the program under test (LD_PRELOAD). What sleeps wakes when it would have, and sees then what time it is.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *ahead;
static int (*next)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    next = dlsym(RTLD_NEXT, "clock_gettime");
    int fd = open(getenv("CLOCK_AHEAD"), O_RDONLY | O_CLOEXEC);
    void *page = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, fd, 0);
    if (fd < 0 || page == MAP_FAILED) abort();
    close(fd);
    ahead = page;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (!next) next = dlsym(RTLD_NEXT, "clock_gettime");
    int outcome = next(clock, now);
    int is_time = clock != CLOCK_PROCESS_CPUTIME_ID && clock != CLOCK_THREAD_CPUTIME_ID;
    if (outcome == 0 && ahead && is_time) {
        int64_t ns = now->tv_nsec + *ahead % 1000000000;
        now->tv_sec += *ahead / 1000000000 + ns / 1000000000;
        now->tv_nsec = ns % 1000000000;
    }
    return outcome;
}
