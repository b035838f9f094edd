/* Preloaded into an agent: reads, writes and syncs of chosen files fail while a file of rules is there, which
 * KINSEAL_FAILING names. A rule a line: `call error prefix`, where the call is read, write, tear or sync, the error a
 * number, and the prefix that of the file's path. tear writes the first half and fails when little is left. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* What is torn is cut down to this. */
#define LITTLE 16

/* The error that `call` of `fd` meets now, or 0. Leaves errno alone. */
static int failure(const char *call, int fd) {
    const char *rules = getenv("KINSEAL_FAILING");
    int before = errno, found = 0;
    if (!rules || fd < 0)
        return 0;
    int file = (int)syscall(SYS_openat, AT_FDCWD, rules, O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        char text[8192], link[64], path[4096];
        long length = syscall(SYS_read, file, text, sizeof text - 1);
        syscall(SYS_close, file);
        text[length > 0 ? length : 0] = 0;
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t path_length = readlink(link, path, sizeof path - 1);
        path[path_length > 0 ? path_length : 0] = 0;
        char *rest = NULL;
        for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
            char name[16], prefix[4096];
            int error;
            if (sscanf(line, "%15s %d %4095s", name, &error, prefix) == 3 && !strcmp(name, call) &&
                !strncmp(path, prefix, strlen(prefix)))
                found = error;
        }
    }
    errno = before;
    return found;
}

static int fails(const char *call, int fd) {
    int error = failure(call, fd);
    if (error)
        errno = error;
    return error;
}

/* How many of `bytes` may be written; -1 if none. */
static ssize_t room(int fd, size_t bytes) {
    if (fails("write", fd))
        return -1;
    int error = failure("tear", fd);
    if (!error || bytes == 0)
        return (ssize_t)bytes;
    if (bytes > LITTLE)
        return (ssize_t)(bytes / 2);
    errno = error;
    return -1;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t read(int fd, void *to, size_t bytes) {
    REAL(read);
    return fails("read", fd) ? -1 : real(fd, to, bytes);
}

ssize_t pread64(int fd, void *to, size_t bytes, off64_t at) {
    REAL(pread64);
    return fails("read", fd) ? -1 : real(fd, to, bytes, at);
}

ssize_t write(int fd, const void *from, size_t bytes) {
    REAL(write);
    ssize_t may = room(fd, bytes);
    return may < 0 ? -1 : real(fd, from, (size_t)may);
}

ssize_t pwrite64(int fd, const void *from, size_t bytes, off64_t at) {
    REAL(pwrite64);
    ssize_t may = room(fd, bytes);
    return may < 0 ? -1 : real(fd, from, (size_t)may, at);
}

int fsync(int fd) {
    REAL(fsync);
    return fails("sync", fd) ? -1 : real(fd);
}

int fdatasync(int fd) {
    REAL(fdatasync);
    return fails("sync", fd) ? -1 : real(fd);
}
