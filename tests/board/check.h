/* What the test programs have in common: checks, and the requests of the kernel in kernel.py. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define NODE "/dev/dri/renderD128"

static int bad __attribute__((unused));

#define CHECK(condition)                                                                         \
    do                                                                                           \
        if (!(condition)) {                                                                      \
            fprintf(stderr, "%s:%d: %s (errno %s)\n", __FILE__, __LINE__, #condition,            \
                    strerror(errno));                                                            \
            bad++;                                                                               \
        }                                                                                        \
    while (0)
/* The call fails with this errno. */
#define FAILS(call, code)                                                                        \
    do {                                                                                         \
        errno = 0;                                                                               \
        CHECK((long)(call) == -1 && errno == (code));                                            \
    } while (0)
/* An emulator answers ioctls of other files itself, and does not know these. */
#ifndef EMULATED
#define EMULATED 0
#endif
#define EMULATED_FAILS(call, code)                                                               \
    if (!EMULATED)                                                                               \
    FAILS(call, code)
#define DONE (fprintf(stderr, "%d bad\n", bad), bad ? 1 : 0)

struct memory {
    uint64_t address, size;
};
struct file {
    int32_t fd, value;
};
struct large {
    uint8_t bytes[16383];
};

#define T_ADD _IOWR('t', 0, struct file)     /* value += fd */
#define T_READ _IOWR('t', 1, struct memory)  /* size = sum of the bytes at address */
#define T_WRITE _IOW('t', 2, struct memory)  /* fills the memory with 7 */
#define T_GIVE _IOWR('t', 3, struct file)    /* fd = a new dma_buf of `value` bytes */
#define T_TAKE _IOWR('t', 4, struct file)    /* value = the size of the file fd */
#define T_LARGE _IOWR('t', 5, struct large)  /* adds 1 to each byte */
#define T_SLEEP _IOWR('t', 6, struct file)   /* takes `value` milliseconds, value += 1 */
#define T_DIE _IO('t', 7)                    /* the board is killed while it answers */
#define T_NONE _IO('t', 8)                   /* returns 5 */
#define T_OUT _IOR('t', 9, struct file)      /* value = 11 */
#define BUF_ASK _IOWR('b', 9, struct file)   /* a dma_buf: value = its size */
#define BUF_NAME _IOW('b', 1, const char *)  /* DMA_BUF_SET_NAME */
#define SYNC_ASK _IOWR('>', 9, struct file)  /* a dma_buf too: value = its size + 1 */
