/* The trace file, the program's open nodes, and the content of their buffers. */

#include "intercept.h"

/* --- the trace file --------------------------------------------------------------------------- */

static int trace = -1;
pid_t owner;
static int broken;

static void give_up(const char *what) {
    if (!broken)
        fprintf(stderr, "teflon intercept: %s: %s; recording stops\n", what, strerror(errno));
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

void record(uint32_t kind, uint32_t file, const struct piece *pieces, int count) {
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

static struct file *files;
static uint32_t file_count;
struct file *of_descriptor[DESCRIPTORS];

/* Open the trace of this process, if it has none yet; a forked child begins its own. */
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

struct file *file_of(int fd) {
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

void add_buffer(struct file *file, int fd, uint32_t handle, uint64_t size, uint64_t offset) {
    struct buffer *buffer = calloc(1, sizeof *buffer);
    if (!buffer)
        return;
    buffer->handle = handle;
    buffer->size = size;
    buffer->memory = real_mmap(NULL, size, PROT_READ, MAP_SHARED, fd, (off_t)offset);
    if (buffer->memory == MAP_FAILED) /* some drivers require both permissions */
        buffer->memory = real_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
    if (buffer->memory == MAP_FAILED) {
        note(file->number, "a buffer cannot be read", handle);
        free(buffer);
        return;
    }
    buffer->next = file->buffers;
    file->buffers = buffer;
}

void drop_buffer(struct file *file, uint32_t handle) {
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

void dump(struct file *file, struct buffer *buffer, uint32_t kind) {
    uint64_t now = hash(buffer->memory, buffer->size), handle = buffer->handle;
    if (kind == RECORD_BUFFER && buffer->dumped && now == buffer->hash)
        return;
    buffer->dumped = 1;
    buffer->hash = now;
    struct piece pieces[] = {{&handle, sizeof handle}, {buffer->memory, buffer->size}};
    record(kind, file->number, pieces, 2);
}

int fetch(void *to, uint64_t address, uint64_t size) {
    struct iovec here = {to, size}, there = {(void *)(uintptr_t)address, size};
    ssize_t done = process_vm_readv(getpid(), &here, 1, &there, 1, 0);
    if (done < 0 && (errno == ENOSYS || errno == EPERM)) { /* a sandbox: trust the program */
        memcpy(to, there.iov_base, size);
        return 1;
    }
    return done == (ssize_t)size;
}

void memory(struct file *file, uint64_t address, uint64_t size) {
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
