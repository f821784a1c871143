/* Faults for tests, put in front of libc by LD_PRELOAD. The environment says which:
 *   FAULT         what happens, one of the names below
 *   FAULT_FILE    part of the path of the file it happens to
 *   FAULT_AT      the byte from which on
 *   FAULT_THREAD  the beginning of the name of the thread it happens in; any where it is not set
 * Positions are those of the file, so that buffers and reading ahead make no difference. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define FIND(name) \
    do { \
        if (!next) \
            next = (typeof(next))dlsym(RTLD_NEXT, #name); \
    } while (0)

static int fault(const char *name)
{
    const char *wanted = getenv("FAULT"), *thread = getenv("FAULT_THREAD");
    char here[32] = "";
    if (!wanted || strcmp(wanted, name))
        return 0;
    pthread_getname_np(pthread_self(), here, sizeof here);
    return !thread || !strncmp(here, thread, strlen(thread));
}

static off_t from(void)
{
    const char *at = getenv("FAULT_AT");
    return at ? atoll(at) : 0;
}

static int ours(int file)
{
    const char *part = getenv("FAULT_FILE");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0 || !part)
        return 0;
    path[length] = 0;
    return strstr(path, part) != NULL;
}

static void hang(void)
{
    for (;;)
        pause();
}

/* How many of `bytes` are left before the fault: 0 where it is reached, -1 where the file is not the one. */
static ssize_t before(int file, size_t bytes)
{
    off_t at = ours(file) ? lseek(file, 0, SEEK_CUR) : -1;
    if (at < 0)
        return -1;
    off_t left = from() - at;
    return left <= 0 ? 0 : left < (off_t)bytes ? left : (ssize_t)bytes;
}

static size_t until_hang(int file, size_t bytes)
{
    ssize_t left = before(file, bytes);
    if (left == 0)
        hang();
    return left > 0 ? (size_t)left : bytes;
}

ssize_t read(int file, void *to, size_t bytes)
{
    static ssize_t (*next)(int, void *, size_t);
    if (bytes && fault("read-short") && ours(file))
        bytes = 1 + bytes / 7;
    /* One bad sector; what is behind it can be read. */
    if (bytes && fault("read-error")) {
        ssize_t left = before(file, bytes);
        if (left == 0 && lseek(file, 0, SEEK_CUR) < from() + 4096) {
            errno = EIO;
            return -1;
        }
        bytes = left > 0 ? (size_t)left : bytes;
    }
    if (bytes && fault("read-hang"))
        bytes = until_hang(file, bytes);
    FIND(read);
    return next(file, to, bytes);
}

ssize_t write(int file, const void *of, size_t bytes)
{
    static ssize_t (*next)(int, const void *, size_t);
    if (bytes && fault("write-short") && ours(file))
        bytes = 1 + bytes / 7;
    int full = fault("write-full");
    if (bytes && (full || fault("write-error"))) {
        ssize_t left = before(file, bytes);
        if (left == 0) {
            errno = full ? ENOSPC : EIO;
            return -1;
        }
        bytes = left > 0 ? (size_t)left : bytes;
    }
    if (bytes && fault("write-hang"))
        bytes = until_hang(file, bytes);
    FIND(write);
    return next(file, of, bytes);
}

DIR *opendir(const char *folder)
{
    static DIR *(*next)(const char *);
    const char *part = getenv("FAULT_FILE");
    if (fault("folder-closed") && part && strstr(folder, part)) {
        errno = EACCES;
        return NULL;
    }
    FIND(opendir);
    return next(folder);
}

int fsync(int file)
{
    static int (*next)(int);
    if (fault("sync-error") && ours(file)) {
        errno = EIO;
        return -1;
    }
    FIND(fsync);
    return next(file);
}

/* The wall clock is set forwards and back by days all the time. */
int clock_gettime(clockid_t clock, struct timespec *time)
{
    static int (*next)(clockid_t, struct timespec *);
    static int calls;
    FIND(clock_gettime);
    int code = next(clock, time);
    if (!code && clock == CLOCK_REALTIME && fault("clock"))
        time->tv_sec += (__atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED) % 3 - 1) * 86400 * 400;
    return code;
}

/* libx264, as libavcodec calls it: hangs, or ends the process, from this picture on. */
int x264_encoder_encode(void *encoder, void **nal, int *nals, void *picture, void *coded)
{
    static int (*next)(void *, void **, int *, void *, void *);
    static int pictures;
    if (__atomic_fetch_add(&pictures, 1, __ATOMIC_RELAXED) >= from()) {
        if (fault("encode-hang"))
            hang();
        if (fault("encode-abort"))
            abort();
    }
    FIND(x264_encoder_encode);
    return next(encoder, nal, nals, picture, coded);
}
