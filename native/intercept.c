/* A library that is preloaded into a program and records its requests to an NPU.
 *
 * With TEFLON_INTERCEPT=PREFIX, each process that uses a DRM or accel node writes PREFIX.PID.trace:
 * all requests, the memory to which pointers in submits point, the content of each buffer at a
 * submit, and its content after a wait. teflon_common/interception.py reads the file and describes
 * its format (change both together). `teflon intercept` and `teflon record --from-trace` make
 * recordings from it.
 *
 * The program always runs as without the library. If something cannot be recorded, the library
 * prints this once on stderr. It adds these calls of its own: VERSION once for each node, and one
 * more mmap for each buffer (for etnaviv also a GEM_INFO). */

#include "intercept.h"

#define SEEN __attribute__((visibility("default"))) /* the program calls it, not the C library's */

/* --- the C library's functions ---------------------------------------------------------------- */

int (*real_ioctl)(int, unsigned long, ...);
int (*real_close)(int);
static int (*real_dup)(int);
static int (*real_dup2)(int, int);
static int (*real_dup3)(int, int, int);
static int (*real_fcntl)(int, int, ...);
static int (*real_fcntl64)(int, int, ...);
void *(*real_mmap)(void *, size_t, int, int, int, off_t);

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

static void unlock_child(void) { /* the thread that held the lock does not exist in the child */
    pthread_mutex_init(&lock, NULL);
}

/* --- functions that the program calls --------------------------------------------------------- */

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
    memcpy(&handle, argument, sizeof handle); /* the first member of both requests below */
    if (number == 0x09)
        drop_buffer(file, handle);
    if (kind && number == kind->wait)
        for (struct buffer *b = file->buffers; b; b = b->next)
            if (b->handle == handle)
                dump(file, b, RECORD_RESULT);
    if (kind)
        kind->created(file, fd, number, argument);
}

/* The kernel allows requests that are shorter than our structs; missing bytes are zero. */
enum { OURS = 128 };

/* Process the kernel's answer to a request. */
static void take_answer(struct file *file, int fd, unsigned number, const void *argument,
                        uint32_t size) {
    _Alignas(8) unsigned char answer[OURS] = {0};
    memcpy(answer, argument, size < OURS ? size : OURS);
    after(file, fd, number, answer);
}

/* Do a request of the program and record it. */
static int intercept(struct file *file, int fd, unsigned long request, void *argument) {
    _Alignas(8) unsigned char copy[1 << 14];
    uint32_t size = _IOC_SIZE(request), number = _IOC_NR(request);
    uint64_t numbers[3] = {request & 0xffffffffu, 0, size};
    int submits = kind_of(file) && number == kind_of(file)->submit;
    memset(copy, 0, OURS);
    if (!fetch(copy, (uintptr_t)argument, size)) { /* a bad address: let the kernel refuse it */
        pthread_mutex_unlock(&lock);
        int refused = real_ioctl(fd, request, argument);
        int why = errno;
        pthread_mutex_lock(&lock);
        errno = why;
        return refused;
    }
    if (submits) /* keep the lock, so that no other thread closes a buffer before the submit */
        before(file, number, copy);
    else
        pthread_mutex_unlock(&lock); /* a wait must not block other threads */
    int result = real_ioctl(fd, request, argument);
    int code = errno;
    if (!submits)
        pthread_mutex_lock(&lock);
    numbers[1] = (uint64_t)(int64_t)(result < 0 ? -code : result);
    struct piece pieces[] = {{numbers, sizeof numbers}, {copy, size}, {argument, size}};
    record(RECORD_IOCTL, file->number, pieces, 3);
    if (result >= 0)
        take_answer(file, fd, number, argument, size);
    errno = code;
    return result;
}

SEEN int ioctl(int fd, unsigned long request, ...) {
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
    int result = file ? intercept(file, fd, request, argument) : 0;
    code = errno;
    pthread_mutex_unlock(&lock);
    errno = code;
    return file ? result : real_ioctl(fd, request, argument);
}

/* Note that descriptor `to` is a copy of `from`, and so the same open file. */
static int note_copy(int from, int to) {
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

/* Forget a descriptor. After the last one of a file, unmap its buffers: our mappings would keep the
 * file open. */
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

SEEN int close(int fd) {
    pthread_once(&found_all, find_all);
    if (fd >= 0 && fd < DESCRIPTORS && of_descriptor[fd])
        forget(fd);
    return real_close(fd);
}

SEEN int dup(int fd) {
    pthread_once(&found_all, find_all);
    return note_copy(fd, real_dup(fd));
}

SEEN int dup2(int fd, int to) {
    pthread_once(&found_all, find_all);
    return note_copy(fd, real_dup2(fd, to));
}

SEEN int dup3(int fd, int to, int flags) {
    pthread_once(&found_all, find_all);
    return note_copy(fd, real_dup3(fd, to, flags));
}

#define FCNTL(name)                                                                              \
    SEEN int name(int fd, int what, ...) {                                                       \
        va_list rest;                                                                            \
        va_start(rest, what);                                                                    \
        void *argument = va_arg(rest, void *);                                                   \
        va_end(rest);                                                                            \
        pthread_once(&found_all, find_all);                                                      \
        int result = real_##name(fd, what, argument);                                            \
        int copies = what == F_DUPFD || what == F_DUPFD_CLOEXEC;                                 \
        return copies ? note_copy(fd, result) : result;                                          \
    }
FCNTL(fcntl)
FCNTL(fcntl64)
