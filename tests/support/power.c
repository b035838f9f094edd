// Keeps aside what a machine would still have after its power went: of a file the bytes that were there when it was last
// synced, of a folder the names. Loaded into the program under test (LD_PRELOAD), told by POWER_UNDER which folder to
// watch and by POWER_KEPT where to keep it. `power.rs` puts it back.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static void fail(const char *what) {
    perror(what);
    abort();
}

// A name that no other file has had or will have: numbers of removed files are used again.
static void identity(int at, const char *name, int flags, char out[64]) {
    struct statx about;
    if (statx(at, name, flags, STATX_INO | STATX_BTIME, &about) != 0) fail("statx");
    snprintf(out, 64, "%llu-%lld-%u", (unsigned long long)about.stx_ino, (long long)about.stx_btime.tv_sec,
             about.stx_btime.tv_nsec);
}

static void keep_bytes(int from, int to) {
    static char block[1 << 16];
    for (;;) {
        ssize_t n = read(from, block, sizeof block);
        if (n < 0) fail("read");
        if (n == 0) return;
        if (write(to, block, n) != n) fail("write");
    }
}

static void keep_names(int from, int to) {
    DIR *dir = fdopendir(dup(from));
    if (!dir) fail("fdopendir");
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        char id[64];
        identity(from, entry->d_name, AT_SYMLINK_NOFOLLOW, id);
        dprintf(to, "%s %s\n", id, entry->d_name);
    }
    closedir(dir);
}

static void keep(int fd) {
    const char *under = getenv("POWER_UNDER"), *kept = getenv("POWER_KEPT");
    char link[64], path[4096], id[64], unfinished[4096], place[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (!under || !kept || len < 0) return;
    path[len] = 0;
    size_t common = strlen(under);
    if (strncmp(path, under, common) || (path[common] && path[common] != '/')) return;

    pthread_mutex_lock(&one_at_a_time);
    identity(fd, "", AT_EMPTY_PATH, id);
    snprintf(place, sizeof place, "%s/%s", kept, id);
    snprintf(unfinished, sizeof unfinished, "%s/unfinished", kept);
    // Opened again: it may be open for writing only.
    int from = open(link, O_RDONLY | O_CLOEXEC), to = open(unfinished, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (from < 0 || to < 0) fail("open");
    struct stat about;
    if (fstat(from, &about) != 0) fail("fstat");
    if (S_ISDIR(about.st_mode)) keep_names(from, to); else keep_bytes(from, to);
    close(from);
    close(to);
    // A kill at any moment leaves the one or the other.
    if (rename(unfinished, place) != 0) fail("rename");
    pthread_mutex_unlock(&one_at_a_time);
}

// Before it returns: whoever called does not count on it sooner.
#define SYNC(name)                                     \
    int name(int fd) {                                 \
        int (*next)(int) = dlsym(RTLD_NEXT, #name);    \
        int outcome = next(fd);                        \
        if (outcome == 0) keep(fd);                    \
        return outcome;                                \
    }

SYNC(fsync)
SYNC(fdatasync)
