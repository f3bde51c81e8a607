// Stands between the store and the system, so that a clock can jump, a disk can be full or slow and the power can be cut
// for one process alone, without any rights. Both sides share a small file. In it the test says what is played:
// microseconds by which the wall clock is off, whether files can be written, and microseconds that the disk takes longer
// for each fsync. And in it stands what a power cut would leave: of each file the length that it had when an fsync began
// that succeeded.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

// As many files as the store ever has at once, and many more.
#define FILES 128

struct synced { uint64_t inode; int64_t length; };

struct played {
    volatile int64_t off_us;
    volatile int64_t disk_full;
    volatile int64_t sync_us;
    int64_t syncs;
    struct synced files[FILES];
};

static struct played none, *played = &none;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("HOLDFAST_SHIM");
    int file = path ? open(path, O_RDWR) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, sizeof(struct played), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) played = page;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, at);
    if (result == 0 && clock == CLOCK_REALTIME) at->tv_sec += played->off_us / 1000000;
    return result;
}

int gettimeofday(struct timeval *at, void *zone) {
    (void)zone;
    struct timespec now;
    int result = clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return result;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

static int is_full(int file) {
    struct stat about;
    return played->disk_full && fstat(file, &about) == 0 && S_ISREG(about.st_mode);
}

ssize_t write(int file, const void *bytes, size_t count) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    if (is_full(file)) { errno = ENOSPC; return -1; }
    return real(file, bytes, count);
}

ssize_t writev(int file, const struct iovec *pieces, int count) {
    static ssize_t (*real)(int, const struct iovec *, int);
    if (!real) real = dlsym(RTLD_NEXT, "writev");
    if (is_full(file)) { errno = ENOSPC; return -1; }
    return real(file, pieces, count);
}

// Threads and children of the store come here at once, and each may be killed at any moment: so a length is either there
// or not, and a file that is not known, or has no room here, is taken to be lost.
static struct synced *record_of(uint64_t inode, int make) {
    for (int n = 0; n < FILES; n++)
        if (__atomic_load_n(&played->files[n].inode, __ATOMIC_ACQUIRE) == inode) return &played->files[n];
    for (int n = 0; make && n < FILES; n++) {
        uint64_t free_one = 0;
        if (__atomic_compare_exchange_n(&played->files[n].inode, &free_one, inode, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            return &played->files[n];
    }
    return NULL;
}

// What was written after an fsync began may not be on the disk when it ends, so it is looked how long the file is before.
static int synchronize(int file, int (*real)(int)) {
    struct stat about;
    int is_file = fstat(file, &about) == 0 && S_ISREG(about.st_mode);
    if (played->sync_us) usleep(played->sync_us);
    int result = real(file);
    if (result != 0 || !is_file) return result;
    struct synced *record = record_of(about.st_ino, 1);
    if (record) __atomic_store_n(&record->length, about.st_size, __ATOMIC_RELEASE);
    __atomic_add_fetch(&played->syncs, 1, __ATOMIC_ACQ_REL);
    return result;
}

int fsync(int file) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    return synchronize(file, real);
}

int fdatasync(int file) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    return synchronize(file, real);
}

// A file's inode may be another file's next, of which nothing is on the disk yet.
static void forget(const char *path) {
    struct stat about;
    struct synced *record = stat(path, &about) == 0 && S_ISREG(about.st_mode) ? record_of(about.st_ino, 0) : NULL;
    if (!record) return;
    __atomic_store_n(&record->length, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&record->inode, 0, __ATOMIC_RELEASE);
}

int unlink(const char *path) {
    static int (*real)(const char *);
    if (!real) real = dlsym(RTLD_NEXT, "unlink");
    forget(path);
    return real(path);
}

int rename(const char *from, const char *to) {
    static int (*real)(const char *, const char *);
    if (!real) real = dlsym(RTLD_NEXT, "rename");
    forget(to);
    return real(from, to);
}
