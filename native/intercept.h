/* The common declarations of the interceptor's parts: intercept.c (the program's calls),
 * intercept_trace.c (the trace file, open files, their buffers), intercept_drivers.c (requests of
 * single drivers). Code that uses files, buffers or the trace holds `lock`. */

#ifndef TEFLON_INTERCEPT_H
#define TEFLON_INTERCEPT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#undef _FILE_OFFSET_BITS /* with it, fcntl and fcntl64 would be the same function */
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

/* The C library's own functions; find_all sets them. */
extern int (*real_ioctl)(int, unsigned long, ...);
extern int (*real_close)(int);
extern void *(*real_mmap)(void *, size_t, int, int, int, off_t);

struct piece {
    const void *data;
    size_t size;
};

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

/* The facts about one kernel driver. */
struct kind {
    const char *driver;
    unsigned submit, wait; /* request numbers (_IOC_NR) */
    void (*pointers)(struct file *, const void *argument);
    void (*created)(struct file *, int fd, unsigned number, const void *argument);
};

extern struct file *of_descriptor[DESCRIPTORS];
extern pid_t owner; /* the process to which the trace and all files belong */

void record(uint32_t kind, uint32_t file, const struct piece *pieces, int count);

/* Return the open file of a descriptor; NULL if it is not a node. */
struct file *file_of(int fd);
void add_buffer(struct file *file, int fd, uint32_t handle, uint64_t size, uint64_t offset);
void drop_buffer(struct file *file, uint32_t handle);

/* Record the content of a buffer; before a submit only if it has changed. */
void dump(struct file *file, struct buffer *buffer, uint32_t kind);

/* Copy memory of the program; a bad address does not crash, as in the kernel. */
int fetch(void *to, uint64_t address, uint64_t size);

/* Record memory of the program to which a submit points. */
void memory(struct file *file, uint64_t address, uint64_t size);

/* Return the facts about the driver of a file; NULL if it is unknown. */
const struct kind *kind_of(const struct file *file);

#endif
