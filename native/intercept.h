/* What the parts of the interceptor share: intercept.c (the program's calls), intercept_trace.c (the
 * trace file, open files, their buffers), intercept_drivers.c (requests of single drivers).
 * `lock` is held by whoever looks at files and buffers or writes to the trace. */

#ifndef TEFLON_INTERCEPT_H
#define TEFLON_INTERCEPT_H

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

/* The C library's own functions, from find_all on. */
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

/* What only one driver has. */
struct kind {
    const char *driver;
    unsigned submit, wait; /* request numbers (_IOC_NR) */
    void (*pointers)(struct file *, const void *argument);
    void (*created)(struct file *, int fd, unsigned number, const void *argument);
};

extern struct file *of_descriptor[DESCRIPTORS];
extern pid_t owner; /* the process that all of this is about */

void record(uint32_t kind, uint32_t file, const struct piece *pieces, int count);

/* The open file behind a descriptor, NULL where it is no node. */
struct file *file_of(int fd);
void add_buffer(struct file *file, int fd, uint32_t handle, uint64_t size, uint64_t offset);
void drop_buffer(struct file *file, uint32_t handle);

/* Write down what a buffer holds: before a submit only when it is new. */
void dump(struct file *file, struct buffer *buffer, uint32_t kind);

/* Copy memory of the program as the kernel does: a bad address is no crash. */
int fetch(void *to, uint64_t address, uint64_t size);

/* Write down memory of the program that a submit points to. */
void memory(struct file *file, uint64_t address, uint64_t size);

/* What the driver of a file has, NULL where it is not known. */
const struct kind *kind_of(const struct file *file);

#endif
