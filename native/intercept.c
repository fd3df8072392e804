/* Preloaded into a program that uses an NPU: writes down what goes to the kernel and the chip.
 *
 * TEFLON_INTERCEPT=PREFIX makes PREFIX.PID.trace in every process that talks to a DRM or accel
 * node: all requests, the memory that the pointers of submits name, what every buffer held when a
 * submit was issued, and what it held after a wait. teflon_common/interception.py reads the file
 * and describes it (keep both together); `teflon intercept` and `teflon record --from-trace` make
 * recordings of it.
 *
 * The program is never disturbed: what cannot be written down is said once on stderr, and its calls
 * go on as they are. Beyond them, VERSION is asked once per node, and each buffer is mapped once
 * more (for etnaviv after a GEM_INFO). */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#undef _FILE_OFFSET_BITS /* it would make one function of fcntl and fcntl64 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

enum { ACCEL_MAJOR = 261, DRM_MAJOR = 226 }; /* Ref: Linux, include/drm/drm_accel.h, drm.h */
enum { FORMAT = 1, RECORD_NODE = 1, RECORD_IOCTL, RECORD_MEMORY, RECORD_BUFFER, RECORD_RESULT,
       RECORD_NOTE };
enum { DESCRIPTORS = 4096, LARGEST = 1 << 30 };

/* --- the C library's functions ---------------------------------------------------------------- */

static int (*real_ioctl)(int, unsigned long, ...);
static int (*real_close)(int);
static int (*real_dup)(int);
static int (*real_dup2)(int, int);
static int (*real_dup3)(int, int, int);
static int (*real_fcntl)(int, int, ...);
static int (*real_fcntl64)(int, int, ...);
static void *(*real_mmap)(void *, size_t, int, int, int, off_t);

static void find(void *pointer, const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    memcpy(pointer, &found, sizeof found);
}

static void unlock_child(void);

static void find_all(void) {
    pthread_atfork(NULL, NULL, unlock_child);
    find(&real_ioctl, "ioctl");
    find(&real_close, "close");
    find(&real_dup, "dup");
    find(&real_dup2, "dup2");
    find(&real_dup3, "dup3");
    find(&real_fcntl, "fcntl");
    find(&real_fcntl64, "fcntl64");
    find(&real_mmap, "mmap");
    if (!real_fcntl64)
        real_fcntl64 = real_fcntl;
}

static pthread_once_t found_all = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void unlock_child(void) { /* whoever held it is not in the child */
    pthread_mutex_init(&lock, NULL);
}

/* --- the trace file --------------------------------------------------------------------------- */

static int trace = -1;
static pid_t owner;
static int broken;

struct piece {
    const void *data;
    size_t size;
};

static void give_up(const char *what) {
    if (!broken)
        fprintf(stderr, "teflon intercept: %s: %s; nothing more is written down\n", what,
                strerror(errno));
    broken = 1;
}

static void put(const void *data, size_t size) {
    const char *at = data;
    while (size && !broken) {
        ssize_t done = write(trace, at, size);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0) {
            give_up("the trace cannot be written");
            return;
        }
        at += done;
        size -= (size_t)done;
    }
}

static void record(uint32_t kind, uint32_t file, const struct piece *pieces, int count) {
    struct { uint32_t kind, file; uint64_t size; } head = {kind, file, 0};
    for (int i = 0; i < count; i++)
        head.size += pieces[i].size;
    put(&head, sizeof head);
    for (int i = 0; i < count; i++)
        put(pieces[i].data, pieces[i].size);
}

static void note(uint32_t file, const char *text, uint64_t number) {
    char line[160];
    int size = snprintf(line, sizeof line, "%s (%llu): %s", text, (unsigned long long)number,
                        strerror(errno));
    struct piece piece = {line, (size_t)size};
    record(RECORD_NOTE, file, &piece, 1);
}

/* --- files and their buffers ------------------------------------------------------------------ */

struct buffer {
    struct buffer *next;
    uint64_t size, hash;
    void *memory;
    uint32_t handle;
    int dumped;
};

struct file {
    struct file *next;
    struct buffer *buffers;
    uint32_t number;
    char driver[32];
};

static struct file *files;
static uint32_t file_count;
static struct file *of_descriptor[DESCRIPTORS];

/* A process of its own writes a file of its own; after a fork the child starts afresh. */
static int ready(void) {
    char path[4096];
    const char *prefix = getenv("TEFLON_INTERCEPT");
    if (broken || !prefix)
        return 0;
    if (trace >= 0 && owner == getpid())
        return 1;
    if (trace >= 0)
        real_close(trace);
    files = NULL;
    file_count = 0;
    memset(of_descriptor, 0, sizeof of_descriptor);
    owner = getpid();
    trace = -1;
    for (int i = 1; trace < 0 && i < 1000; i++) {
        if (i == 1)
            snprintf(path, sizeof path, "%s.%d.trace", prefix, (int)owner);
        else
            snprintf(path, sizeof path, "%s.%d-%d.trace", prefix, (int)owner, i);
        trace = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
        if (trace < 0 && errno != EEXIST)
            break;
    }
    if (trace < 0) {
        give_up(path);
        return 0;
    }
    struct { char magic[8]; uint32_t format, process; } head = {"TFLTRACE", FORMAT, (uint32_t)owner};
    put(&head, sizeof head);
    return !broken;
}

static int is_node(int fd) {
    struct stat found;
    if (fd < 0 || fd >= DESCRIPTORS || fstat(fd, &found) || !S_ISCHR(found.st_mode))
        return 0;
    return major(found.st_rdev) == ACCEL_MAJOR || major(found.st_rdev) == DRM_MAJOR;
}

/* Ref: Linux, include/uapi/drm/drm.h, struct drm_version */
struct version {
    int32_t major, minor, patch;
    uint64_t name_size;
    char *name;
    uint64_t date_size;
    char *date;
    uint64_t text_size;
    char *text;
};
#define ASK_VERSION _IOWR('d', 0x00, struct version)

/* Return the open file behind a descriptor, NULL where it is no node. The lock is held. */
static struct file *file_of(int fd) {
    if (fd >= 0 && fd < DESCRIPTORS && owner == getpid() && of_descriptor[fd])
        return of_descriptor[fd];
    if (!is_node(fd) || !ready())
        return NULL;
    struct file *file = calloc(1, sizeof *file);
    if (!file)
        return NULL;
    struct version question = {.name_size = sizeof file->driver - 1, .name = file->driver};
    if (real_ioctl(fd, ASK_VERSION, &question) < 0)
        file->driver[0] = 0;
    file->number = file_count++;
    file->next = files;
    files = of_descriptor[fd] = file;
    struct piece piece = {file->driver, strlen(file->driver)};
    record(RECORD_NODE, file->number, &piece, 1);
    return file;
}

static void add_buffer(struct file *file, int fd, uint32_t handle, uint64_t size, uint64_t offset) {
    struct buffer *buffer = calloc(1, sizeof *buffer);
    if (!buffer)
        return;
    buffer->handle = handle;
    buffer->size = size;
    buffer->memory = real_mmap(NULL, size, PROT_READ, MAP_SHARED, fd, (off_t)offset);
    if (buffer->memory == MAP_FAILED) /* some drivers want both */
        buffer->memory = real_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
    if (buffer->memory == MAP_FAILED) {
        note(file->number, "a buffer cannot be read", handle);
        free(buffer);
        return;
    }
    buffer->next = file->buffers;
    file->buffers = buffer;
}

static void drop_buffer(struct file *file, uint32_t handle) {
    for (struct buffer **at = &file->buffers; *at; at = &(*at)->next)
        if ((*at)->handle == handle) {
            struct buffer *gone = *at;
            *at = gone->next;
            munmap(gone->memory, gone->size);
            free(gone);
            return;
        }
}

static uint64_t hash(const void *data, size_t size) {
    uint64_t value = 0xcbf29ce484222325u, word;
    const char *at = data;
    for (; size >= 8; at += 8, size -= 8) {
        memcpy(&word, at, 8);
        value = (value ^ word) * 0x9e3779b97f4a7c15u;
        value ^= value >> 29;
    }
    for (; size; at++, size--)
        value = (value ^ (unsigned char)*at) * 0x100000001b3u;
    return value;
}

/* Write down what a buffer holds: before a submit only when it is new. */
static void dump(struct file *file, struct buffer *buffer, uint32_t kind) {
    uint64_t now = hash(buffer->memory, buffer->size), handle = buffer->handle;
    if (kind == RECORD_BUFFER && buffer->dumped && now == buffer->hash)
        return;
    buffer->dumped = 1;
    buffer->hash = now;
    struct piece pieces[] = {{&handle, sizeof handle}, {buffer->memory, buffer->size}};
    record(kind, file->number, pieces, 2);
}

/* Copy memory of the program as the kernel does: a bad address is no crash. */
static int fetch(void *to, uint64_t address, uint64_t size) {
    struct iovec here = {to, size}, there = {(void *)(uintptr_t)address, size};
    ssize_t done = process_vm_readv(getpid(), &here, 1, &there, 1, 0);
    if (done < 0 && (errno == ENOSYS || errno == EPERM)) { /* a sandbox: trust the program */
        memcpy(to, there.iov_base, size);
        return 1;
    }
    return done == (ssize_t)size;
}

/* Write down memory of the program that a submit points to. */
static void memory(struct file *file, uint64_t address, uint64_t size) {
    if (!address || !size || size > LARGEST)
        return;
    void *copy = malloc(size);
    struct piece pieces[] = {{&address, sizeof address}, {copy, size}};
    if (copy && fetch(copy, address, size))
        record(RECORD_MEMORY, file->number, pieces, 2);
    else
        note(file->number, "memory of the program cannot be read", address);
    free(copy);
}

/* --- what only one driver has ----------------------------------------------------------------- */

struct kind {
    const char *driver;
    unsigned submit, wait; /* request numbers (_IOC_NR) */
    void (*pointers)(struct file *, const void *argument);
    void (*created)(struct file *, int fd, unsigned number, const void *argument);
};

/* Ref: docs/hardware/rocket.md §2.2; Linux, include/uapi/drm/rocket_accel.h */
struct rocket_create { uint32_t size, handle; uint64_t address, offset; };
struct rocket_submit { uint64_t jobs; uint32_t count, stride; uint64_t reserved; };
struct rocket_job {
    uint64_t tasks, in, out;
    uint32_t task_count, task_stride, in_count, out_count;
};

static void rocket_pointers(struct file *file, const void *argument) {
    const struct rocket_submit *submit = argument;
    memory(file, submit->jobs, (uint64_t)submit->count * submit->stride);
    for (uint32_t i = 0; submit->jobs && i < submit->count; i++) {
        struct rocket_job job;
        if (!fetch(&job, submit->jobs + (uint64_t)i * submit->stride, sizeof job))
            return;
        memory(file, job.tasks, (uint64_t)job.task_count * job.task_stride);
        memory(file, job.in, 4 * (uint64_t)job.in_count);
        memory(file, job.out, 4 * (uint64_t)job.out_count);
    }
}

static void rocket_created(struct file *file, int fd, unsigned number, const void *argument) {
    const struct rocket_create *made = argument;
    if (number == 0x40)
        add_buffer(file, fd, made->handle, made->size, made->offset);
}

/* Ref: docs/hardware/etnaviv.md §2.2; Linux, include/uapi/drm/etnaviv_drm.h */
struct etnaviv_new { uint64_t size; uint32_t flags, handle; };
struct etnaviv_info { uint32_t handle, pad; uint64_t offset; };
struct etnaviv_submit {
    uint32_t fence, pipe, exec_state, bo_count, reloc_count, stream_size;
    uint64_t bos, relocs, stream;
    uint32_t flags;
    int32_t fence_fd;
    uint64_t pmrs;
    uint32_t pmr_count, pad;
};

static void etnaviv_pointers(struct file *file, const void *argument) {
    const struct etnaviv_submit *submit = argument;
    memory(file, submit->bos, 16 * (uint64_t)submit->bo_count);
    memory(file, submit->relocs, 24 * (uint64_t)submit->reloc_count);
    memory(file, submit->stream, submit->stream_size);
    memory(file, submit->pmrs, 20 * (uint64_t)submit->pmr_count);
}

static void etnaviv_created(struct file *file, int fd, unsigned number, const void *argument) {
    const struct etnaviv_new *made = argument;
    if (number != 0x42)
        return;
    struct etnaviv_info info = {made->handle, 0, 0};
    if (real_ioctl(fd, _IOWR('d', 0x43, struct etnaviv_info), &info) == 0)
        add_buffer(file, fd, made->handle, made->size, info.offset);
}

static const struct kind kinds[] = {
    {"rocket", 0x41, 0x42, rocket_pointers, rocket_created},
    {"etnaviv", 0x46, 0x44, etnaviv_pointers, etnaviv_created},
};

static const struct kind *kind_of(const struct file *file) {
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i].driver, file->driver))
            return &kinds[i];
    return NULL;
}

/* --- what the program calls ------------------------------------------------------------------- */

static void before(struct file *file, unsigned number, const void *argument) {
    const struct kind *kind = kind_of(file);
    if (!kind || number != kind->submit)
        return;
    kind->pointers(file, argument);
    for (struct buffer *b = file->buffers; b; b = b->next)
        dump(file, b, RECORD_BUFFER);
}

static void after(struct file *file, int fd, unsigned number, const void *argument) {
    const struct kind *kind = kind_of(file);
    uint32_t handle;
    memcpy(&handle, argument, sizeof handle); /* first member of both requests below */
    if (number == 0x09)
        drop_buffer(file, handle);
    if (kind && number == kind->wait)
        for (struct buffer *b = file->buffers; b; b = b->next)
            if (b->handle == handle)
                dump(file, b, RECORD_RESULT);
    if (kind)
        kind->created(file, fd, number, argument);
}

static int intercepted(struct file *file, int fd, unsigned long request, void *argument) {
    unsigned char copy[1 << 14];
    uint32_t size = _IOC_SIZE(request), number = _IOC_NR(request);
    uint64_t numbers[3] = {request & 0xffffffffu, 0, size};
    int submits = kind_of(file) && number == kind_of(file)->submit;
    memcpy(copy, argument, size);
    if (submits) /* nobody may change a buffer in between */
        before(file, number, argument);
    else
        pthread_mutex_unlock(&lock); /* a wait must not hold up other threads */
    int result = real_ioctl(fd, request, argument);
    int code = errno;
    if (!submits)
        pthread_mutex_lock(&lock);
    numbers[1] = (uint64_t)(int64_t)(result < 0 ? -code : result);
    struct piece pieces[] = {{numbers, sizeof numbers}, {copy, size}, {argument, size}};
    record(RECORD_IOCTL, file->number, pieces, 3);
    if (result >= 0)
        after(file, fd, number, argument);
    errno = code;
    return result;
}

int ioctl(int fd, unsigned long request, ...) {
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    pthread_once(&found_all, find_all);
    if (_IOC_TYPE(request) != 'd' || _IOC_SIZE(request) < 4 || !argument)
        return real_ioctl(fd, request, argument);
    int code = errno;
    pthread_mutex_lock(&lock);
    struct file *file = file_of(fd);
    errno = code;
    int result = file ? intercepted(file, fd, request, argument) : 0;
    code = errno;
    pthread_mutex_unlock(&lock);
    errno = code;
    return file ? result : real_ioctl(fd, request, argument);
}

/* A copy of a descriptor is the same file; a closed one is none. */
static int copied(int from, int to) {
    int code = errno;
    if (to < 0 || to >= DESCRIPTORS)
        return to;
    pthread_mutex_lock(&lock);
    struct file *file = file_of(from);
    of_descriptor[to] = owner == getpid() ? file : NULL;
    pthread_mutex_unlock(&lock);
    errno = code;
    return to;
}

/* Forget a descriptor; with the last one of a file go our mappings, which keep the file open. */
static void forget(int fd) {
    pthread_mutex_lock(&lock);
    struct file *file = of_descriptor[fd];
    of_descriptor[fd] = NULL;
    for (int i = 0; i < DESCRIPTORS; i++)
        if (of_descriptor[i] == file)
            file = NULL;
    while (file && file->buffers)
        drop_buffer(file, file->buffers->handle);
    pthread_mutex_unlock(&lock);
}

int close(int fd) {
    pthread_once(&found_all, find_all);
    if (fd >= 0 && fd < DESCRIPTORS && of_descriptor[fd])
        forget(fd);
    return real_close(fd);
}

int dup(int fd) {
    pthread_once(&found_all, find_all);
    return copied(fd, real_dup(fd));
}

int dup2(int fd, int to) {
    pthread_once(&found_all, find_all);
    return copied(fd, real_dup2(fd, to));
}

int dup3(int fd, int to, int flags) {
    pthread_once(&found_all, find_all);
    return copied(fd, real_dup3(fd, to, flags));
}

#define FCNTL(name)                                                                              \
    int name(int fd, int what, ...) {                                                            \
        va_list rest;                                                                            \
        va_start(rest, what);                                                                    \
        void *argument = va_arg(rest, void *);                                                   \
        va_end(rest);                                                                            \
        pthread_once(&found_all, find_all);                                                      \
        int result = real_##name(fd, what, argument);                                            \
        int copies = what == F_DUPFD || what == F_DUPFD_CLOEXEC;                                 \
        return copies ? copied(fd, result) : result;                                             \
    }
FCNTL(fcntl)
FCNTL(fcntl64)
