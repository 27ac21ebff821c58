/* Ends the process at the n-th change that it makes to a file below a folder, as a power cut or a kill would.

   Preloaded (LD_PRELOAD) into a process that calls watch() when it begins, it counts what changes a file: write, rename,
   fsync, truncate, unlink (of a rollback journal: the commit of SQLite), whoever calls them: Python, NumPy, torch, SQLite.
   A write can be cut in half. Without a number, it lists the changes instead of ending anything. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char folder[PATH_MAX], left_alone[PATH_MAX];
static long deadly, n_changes;
static int in_half, list = -1;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Count changes below `below`, but not below `not_below`; end at change number `at`, a write `half` done; if `at` is 0,
   write a line for each change to the file descriptor `lines`. */
void watch(const char *below, const char *not_below, long at, int half, int lines) {
    strncpy(folder, below, PATH_MAX - 1);
    strncpy(left_alone, not_below, PATH_MAX - 1);
    deadly = at, in_half = half, list = lines, n_changes = 0;
}

static int starts_with(const char *path, const char *start) { return *start && !strncmp(path, start, strlen(start)); }

/* Return whether the process has to end within this change; end it here if it has to end before. */
static int counts(const char *kind, const char *path) {
    if (!starts_with(path, folder) || starts_with(path, left_alone)) return 0;
    n_changes++;
    if (!deadly && list >= 0) {
        char line[PATH_MAX + 32];
        int length = snprintf(line, sizeof line, "%s %s\n", kind, path + strlen(folder));
        REAL(write)(list, line, length);
    }
    if (!deadly || n_changes != deadly) return 0;
    if (!in_half) kill(getpid(), SIGKILL);
    return 1;
}

static int counts_open(const char *kind, int file) {
    char link[64], path[PATH_MAX];
    if (!*folder || file == list) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return counts(kind, path);
}

static void end(void) { kill(getpid(), SIGKILL); }

ssize_t write(int file, const void *bytes, size_t n) {
    if (counts_open("write", file)) REAL(write)(file, bytes, n / 2), end();
    return REAL(write)(file, bytes, n);
}

ssize_t pwrite(int file, const void *bytes, size_t n, off_t at) {
    if (counts_open("write", file)) REAL(pwrite)(file, bytes, n / 2, at), end();
    return REAL(pwrite)(file, bytes, n, at);
}

ssize_t pwrite64(int file, const void *bytes, size_t n, off64_t at) {
    if (counts_open("write", file)) REAL(pwrite64)(file, bytes, n / 2, at), end();
    return REAL(pwrite64)(file, bytes, n, at);
}

size_t fwrite(const void *bytes, size_t size, size_t n, FILE *stream) {
    if (*folder && counts_open("write", fileno(stream))) REAL(fwrite)(bytes, size, n / 2, stream), fflush(stream), end();
    return REAL(fwrite)(bytes, size, n, stream);
}

int fsync(int file) {
    if (counts_open("fsync", file)) end();
    return REAL(fsync)(file);
}

int fdatasync(int file) {
    if (counts_open("fsync", file)) end();
    return REAL(fdatasync)(file);
}

int ftruncate(int file, off_t length) {
    if (counts_open("truncate", file)) end();
    return REAL(ftruncate)(file, length);
}

int ftruncate64(int file, off64_t length) {
    if (counts_open("truncate", file)) end();
    return REAL(ftruncate64)(file, length);
}

int rename(const char *from, const char *to) {
    if (counts("rename", to)) end();
    return REAL(rename)(from, to);
}

int unlink(const char *path) {
    if (counts(strstr(path, "-journal") ? "commit" : "unlink", path)) end();
    return REAL(unlink)(path);
}

int mkdir(const char *path, unsigned mode) {
    if (counts("mkdir", path)) end();
    return ((int (*)(const char *, unsigned))dlsym(RTLD_NEXT, "mkdir"))(path, mode);
}
