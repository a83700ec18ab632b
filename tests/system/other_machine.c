/* A process on another machine: LD_PRELOAD of the system tests, built by tests/system/other_machine.py.
 *
 * The folder $TIDEGATE_MACHINE stands for the machine. `clock` is mapped: how far the wall clock and the boot clock are
 * from this machine's, and what the kernel says of the wall clock. `machine-id`, `boot_id` and `serial-number` are read
 * in place of the system's. CLOCK_MONOTONIC stays as it is, so that waits last as long as they should.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#define NS 1000000000LL

struct clock_file {
    int64_t wall_ns; /* added to CLOCK_REALTIME */
    int64_t boot_ns; /* added to CLOCK_BOOTTIME */
    int64_t synchronised;
    int64_t maxerror_us;
};

static struct clock_file sound = {0, 0, 1, 1000};
static volatile struct clock_file *state = &sound;
static char folder[PATH_MAX];

__attribute__((constructor)) static void begin(void)
{
    const char *name = getenv("TIDEGATE_MACHINE");
    char path[PATH_MAX];
    if (name == NULL || strlen(name) > sizeof folder - 32)
        return;
    strcpy(folder, name);
    snprintf(path, sizeof path, "%s/clock", folder);
    int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    void *found = mmap(NULL, sizeof sound, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (found != MAP_FAILED)
        state = found;
}

static struct timespec shifted(struct timespec t, int64_t ns)
{
    int64_t sum = t.tv_nsec + ns % NS;
    t.tv_sec += ns / NS + sum / NS;
    t.tv_nsec = sum % NS;
    if (t.tv_nsec < 0) {
        t.tv_nsec += NS;
        t.tv_sec -= 1;
    }
    return t;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    static int (*real)(clockid_t, struct timespec *);
    if (real == NULL)
        real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, t);
    if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        *t = shifted(*t, state->wall_ns);
    else if (result == 0 && id == CLOCK_BOOTTIME)
        *t = shifted(*t, state->boot_ns);
    return result;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *t)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t != NULL)
        *t = now.tv_sec;
    return now.tv_sec;
}

/* A deadline by the wall clock is one by the clock that the kernel has. */
static struct timespec kernel_time(const struct timespec *deadline)
{
    return shifted(*deadline, -state->wall_ns);
}

int pthread_cond_clockwait(pthread_cond_t *c, pthread_mutex_t *m, clockid_t id, const struct timespec *deadline)
{
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);
    if (real == NULL)
        real = dlsym(RTLD_NEXT, "pthread_cond_clockwait");
    struct timespec t = id == CLOCK_REALTIME ? kernel_time(deadline) : *deadline;
    return real(c, m, id, &t);
}

int sem_timedwait(sem_t *restrict s, const struct timespec *restrict deadline)
{
    static int (*real)(sem_t *, const struct timespec *);
    if (real == NULL)
        real = dlsym(RTLD_NEXT, "sem_timedwait");
    struct timespec t = kernel_time(deadline);
    return real(s, &t);
}

static int answer(struct timex *t, int result)
{
    if (result < 0)
        return result;
    t->maxerror = state->maxerror_us;
    if (state->synchronised) {
        t->status &= ~STA_UNSYNC;
        return TIME_OK;
    }
    t->status |= STA_UNSYNC;
    return TIME_ERROR;
}

int adjtimex(struct timex *t)
{
    return answer(t, (int)syscall(SYS_adjtimex, t));
}

int ntp_adjtime(struct timex *t)
{
    return adjtimex(t);
}

int clock_adjtime(clockid_t id, struct timex *t)
{
    int result = (int)syscall(SYS_clock_adjtime, id, t);
    return id == CLOCK_REALTIME ? answer(t, result) : result;
}

static const char *instead(const char *path, char *buffer)
{
    static const char *const files[][2] = {
        {"/etc/machine-id", "machine-id"},
        {"/proc/sys/kernel/random/boot_id", "boot_id"},
        {"/sys/firmware/devicetree/base/serial-number", "serial-number"},
    };
    if (path == NULL || folder[0] == 0)
        return path;
    for (size_t at = 0; at < sizeof files / sizeof *files; at++)
        if (strcmp(path, files[at][0]) == 0) {
            snprintf(buffer, PATH_MAX, "%.*s/%s", PATH_MAX - 32, folder, files[at][1]);
            return buffer;
        }
    return path;
}

#define OPEN(name)                                                                     \
    int name(const char *path, int flags, ...)                                         \
    {                                                                                  \
        char buffer[PATH_MAX];                                                         \
        mode_t mode = 0;                                                               \
        if (flags & (O_CREAT | O_TMPFILE)) {                                           \
            va_list more;                                                              \
            va_start(more, flags);                                                     \
            mode = va_arg(more, mode_t);                                               \
            va_end(more);                                                              \
        }                                                                              \
        return (int)syscall(SYS_openat, AT_FDCWD, instead(path, buffer), flags, mode); \
    }

OPEN(open)
OPEN(open64)
