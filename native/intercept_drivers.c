/* The facts about the requests of each kernel driver: the pointers in a submit, the request that
 * makes a buffer, the request that waits. */

#include "intercept.h"

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

const struct kind *kind_of(const struct file *file) {
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i].driver, file->driver))
            return &kinds[i];
    return NULL;
}
