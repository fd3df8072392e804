/* The shim of a virtual board: preloaded into a program, it adds the board's device nodes to /dev.
 *
 * TEFLON_BOARD names the board's folder, which replaces parts of the file system: the program sees
 * $TEFLON_BOARD/dev/accel as /dev/accel, and so on (see `prefixes`). A socket below its dev is a
 * device node: opening it connects to the board, which answers ioctl and mmap.
 *
 * The shim stores nothing about file descriptors: it asks the socket for its address. So dup, fork,
 * exec and passing a descriptor to another process work as with a real node, and the board sees the
 * end of the file when the last descriptor is closed.
 *
 * A request (see `struct request`) carries one end of a new socket pair, on which the board answers
 * this request alone. So requests of several threads and processes do not wait for each other. While
 * a request runs, the board may read and write memory of this process by address; the kernel checks
 * the address, and a bad one gives EFAULT. It may also give this process a descriptor, or take one.
 * So the shim needs no driver's structs. The board's side of this is connection.py. */

#undef _FILE_OFFSET_BITS /* open and open64 are two functions here */
#undef _FORTIFY_SOURCE
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { OP_OPEN, OP_IOCTL, OP_MMAP, OP_FILE };
enum { ASK_DONE, ASK_READ, ASK_WRITE, ASK_GIVE, ASK_TAKE };
enum { ACCEL_MAJOR = 261, DRM_MAJOR = 226 }; /* Ref: Linux, include/drm/drm_accel.h, drm.h */

struct request {
    uint32_t op, pid;
    uint64_t number; /* the ioctl, or the mmap offset */
    uint64_t size;   /* of the argument that follows, or of the mapping */
};

struct answer {
    int32_t ask, result; /* result: of the call, or a negative errno */
    uint64_t address, size;
};

#define REAL(name) ((__typeof__(&name))real_symbol(#name))

static void *real_symbol(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) {
        fprintf(stderr, "teflon board: no %s in the C library\n", name);
        abort();
    }
    return found;
}

static const char *root(void) {
    const char *value = getenv("TEFLON_BOARD");
    return value && *value ? value : NULL;
}

/* --- paths --------------------------------------------------------------------------------- */

/* Below these the program sees only the folder's content; below the others it sees the real file
 * system too. */
static const char *const prefixes[] = {"/dev/accel", "/dev/dri", "/sys/class/accel",
                                       "/sys/class/drm", "/sys/firmware", NULL};
static const char *const overlays[] = {"/sys/", "/proc/sys/", NULL};

static int below(const char *path, const char *const *list) {
    for (; *list; list++) {
        size_t length = strlen(*list);
        if (!strncmp(path, *list, length) &&
            ((*list)[length - 1] == '/' || path[length] == '/' || !path[length]))
            return 1;
    }
    return 0;
}

static int exists(const char *path) {
    struct stat found;
    return REAL(lstat)(path, &found) == 0;
}

/* Return the real path of `path`; `space` has room for it. */
static const char *redirect(int folder, const char *path, char space[PATH_MAX]) {
    const char *base = root();
    char whole[PATH_MAX], link[64];
    if (!base || !path)
        return path;
    if (path[0] != '/') {
        if (folder == AT_FDCWD || !path[0])
            return path;
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = REAL(readlink)(link, whole, sizeof whole);
        if (length <= 0 || (size_t)length + strlen(path) + 2 > sizeof whole)
            return path;
        snprintf(whole + length, sizeof whole - length, "/%s", path);
        size_t skip = strncmp(whole, base, strlen(base)) ? 0 : strlen(base);
        memmove(whole, whole + skip, strlen(whole + skip) + 1);
        path = whole;
        if (!below(path, prefixes) && !below(path, overlays))
            return strcpy(space, path);
    }
    int ours = below(path, prefixes);
    if (!ours && !below(path, overlays))
        return path == whole ? strcpy(space, path) : path;
    int length = snprintf(space, PATH_MAX, "%s%s", base, path);
    if (length >= 0 && length < PATH_MAX && (ours || exists(space)))
        return space;
    return path == whole ? strcpy(space, path) : path;
}

/* --- nodes --------------------------------------------------------------------------------- */

/* Whether a path names the socket of a node: below the folder, or as the board bound it. */
static int node_path(const char *path) {
    static const char bound[] = "/proc/self/fd/";
    const char *base = root();
    size_t length = base ? strlen(base) : 0;
    if (!base)
        return 0;
    if (!strncmp(path, base, length) && !strncmp(path + length, "/dev/", 5))
        return 1;
    if (strncmp(path, bound, sizeof bound - 1))
        return 0;
    path += sizeof bound - 1;
    path += strspn(path, "0123456789");
    return !strncmp(path, "/dev/accel/", 11) || !strncmp(path, "/dev/dri/", 9);
}

/* Return the path below the folder of a node whose socket was bound as `path`. */
static const char *node_file(const char *path, char space[PATH_MAX]) {
    const char *place = strstr(path, "/dev/");
    int length = snprintf(space, PATH_MAX, "%s%s", root(), place);
    return length < PATH_MAX ? space : path;
}

/* Whether a descriptor is an open node; `path`, unless NULL, receives the path of its socket. */
static int is_node(int fd, struct sockaddr_un *peer) {
    struct sockaddr_un own;
    if (!root() || fd < 0)
        return 0;
    peer = peer ? peer : &own;
    socklen_t length = sizeof *peer;
    int before = errno;
    memset(peer, 0, sizeof *peer);
    int known = getpeername(fd, (struct sockaddr *)peer, &length) == 0 &&
                peer->sun_family == AF_UNIX && node_path(peer->sun_path);
    errno = before;
    return known;
}

/* Change the status of a node's socket to that of a character device. */
static void as_device(const char *path, mode_t *mode, dev_t *device) {
    if (!S_ISSOCK(*mode) || !node_path(path))
        return;
    const char *name = strrchr(path, '/') + 1;
    const char *digits = name + strcspn(name, "0123456789");
    *mode = (*mode & ~S_IFMT) | S_IFCHR;
    *device = makedev(strncmp(name, "accel", 5) ? DRM_MAJOR : ACCEL_MAJOR, atoi(digits));
}

/* Whether a node's mode permits opening it; unlike a real node, this refuses root as well. */
static int closed_to_all(const char *path) {
    struct stat found;
    return node_path(path) && REAL(stat)(path, &found) == 0 && S_ISSOCK(found.st_mode) &&
           !(found.st_mode & 0666);
}

/* Put descriptors into the control part of a message, which has room for them. */
static void attach(struct msghdr *message, const int *fds, size_t count) {
    struct cmsghdr *control = CMSG_FIRSTHDR(message);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(count * sizeof *fds);
    memcpy(CMSG_DATA(control), fds, count * sizeof *fds);
}

/* passed: the reply socket, and the file of a FILE request. */
static int send_request(int node, struct request *request, const void *argument, size_t size,
                        const int *passed, size_t count) {
    char space[CMSG_SPACE(2 * sizeof(int))] = {0};
    struct iovec parts[2] = {{request, sizeof *request}, {(void *)(uintptr_t)argument, size}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = size ? 2 : 1,
                             .msg_control = space,
                             .msg_controllen = CMSG_SPACE(count * sizeof *passed)};
    attach(&message, passed, count);
    ssize_t sent;
    do
        sent = sendmsg(node, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? (errno == EPIPE ? -ENODEV : -errno) : 0;
}

/* Receive an answer and the data after it; `passed` receives the descriptor that came with it. */
static int receive(int reply, struct answer *answer, void *data, size_t size, int flags,
                   int *passed) {
    char space[CMSG_SPACE(sizeof(int))];
    struct iovec parts[2] = {{answer, sizeof *answer}, {data, size}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2,
                             .msg_control = passed ? space : NULL,
                             .msg_controllen = passed ? sizeof space : 0};
    ssize_t got;
    do
        got = recvmsg(reply, &message, flags | MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;
    if ((size_t)got < sizeof *answer)
        return -ENODEV; /* the server has ended */
    struct cmsghdr *control = passed ? CMSG_FIRSTHDR(&message) : NULL;
    if (control && control->cmsg_type == SCM_RIGHTS)
        memcpy(passed, CMSG_DATA(control), sizeof *passed);
    return 0;
}

/* Send memory of this process to the server, or report a bad address. */
static int give(int reply, const struct answer *wanted) {
    int32_t status = 0;
    struct iovec parts[2] = {{&status, sizeof status},
                             {(void *)(uintptr_t)wanted->address, wanted->size}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    if (sendmsg(reply, &message, MSG_NOSIGNAL) >= 0)
        return 0;
    status = errno;
    message.msg_iovlen = 1;
    return sendmsg(reply, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Receive a descriptor from the board, and send the number that it got here. */
static int accept_file(int reply) {
    struct answer question;
    int fd = -1;
    int32_t status = receive(reply, &question, NULL, 0, 0, &fd);
    if (!status)
        status = fd < 0 ? -EMFILE : fd;
    return send(reply, &status, sizeof status, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Send the board a copy of a descriptor, or report that there is no such. */
static int send_file(int reply, int fd) {
    int32_t status = REAL(fcntl)(fd, F_GETFD) < 0 ? -EBADF : 0;
    char space[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {&status, sizeof status};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (!status) {
        message.msg_control = space;
        message.msg_controllen = sizeof space;
        attach(&message, &fd, 1);
    }
    return sendmsg(reply, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Send a request and answer the server's questions until it has a result. Returns the result, or a
 * negative errno. file: the file of a FILE request, or -1. */
static int ask(int node, struct request *request, void *argument, size_t size, int back, int file,
               struct answer *answer, int *passed) {
    int pair[2];
    request->pid = (uint32_t)getpid();
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        return -errno;
    int files[] = {pair[1], file};
    int code = send_request(node, request, argument, size, files, file < 0 ? 1 : 2);
    REAL(close)(pair[1]);
    while (!code) {
        code = receive(pair[0], answer, NULL, 0, MSG_PEEK, NULL);
        if (code)
            break;
        if (answer->ask == ASK_READ) {
            receive(pair[0], answer, NULL, 0, 0, NULL);
            code = give(pair[0], answer);
        } else if (answer->ask == ASK_WRITE) {
            void *target = (void *)(uintptr_t)answer->address;
            int32_t status = receive(pair[0], answer, target, answer->size, 0, NULL);
            code = send(pair[0], &status, sizeof status, MSG_NOSIGNAL) < 0 ? -errno : 0;
        } else if (answer->ask == ASK_GIVE) {
            code = accept_file(pair[0]);
        } else if (answer->ask == ASK_TAKE) {
            receive(pair[0], answer, NULL, 0, 0, NULL);
            code = send_file(pair[0], (int)answer->address);
        } else {
            int bad = receive(pair[0], answer, back ? argument : NULL, back ? size : 0, 0, passed);
            code = bad ? bad : answer->result;
            break;
        }
    }
    REAL(close)(pair[0]);
    return code;
}

static int failed(int code) {
    if (code >= 0)
        return code;
    errno = -code;
    return -1;
}

/* Connect to a socket below the folder. Returns the descriptor, or a negative errno. */
static int connected(const char *name, int cloexec) {
    struct sockaddr_un place = {.sun_family = AF_UNIX};
    int folder = REAL(open)(root(), O_PATH | O_CLOEXEC); /* the folder's path may be long */
    if (folder < 0)
        return -ENODEV;
    snprintf(place.sun_path, sizeof place.sun_path, "/proc/self/fd/%d%s", folder, name);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | cloexec, 0);
    int code = fd < 0 || connect(fd, (struct sockaddr *)&place, sizeof place) ? -errno : 0;
    REAL(close)(folder);
    if (!code)
        return fd;
    if (fd >= 0)
        REAL(close)(fd);
    return code == -ECONNREFUSED ? -ENODEV : code; /* no server: as after unloading a module */
}

static int open_node(const char *path, int flags) {
    struct request request = {.op = OP_OPEN, .number = (uint64_t)flags};
    struct answer answer;
    if (closed_to_all(path))
        return failed(-EACCES);
    int fd = connected(path + strlen(root()), flags & O_CLOEXEC ? SOCK_CLOEXEC : 0);
    int code = fd < 0 ? fd : ask(fd, &request, NULL, 0, 0, -1, &answer, NULL);
    if (fd < 0)
        return failed(code);
    if (code < 0) {
        REAL(close)(fd);
        return failed(code);
    }
    return fd;
}

/* --- functions that programs call ---------------------------------------------------------- */

static int is_socket(const char *path) {
    struct stat found;
    return node_path(path) && REAL(stat)(path, &found) == 0 && S_ISSOCK(found.st_mode);
}

static int opened(int folder, const char *path, int flags, mode_t mode) {
    char space[PATH_MAX];
    const char *place = redirect(folder, path, space);
    if (root() && place && is_socket(place))
        return open_node(place, flags);
    return REAL(openat)(place == path ? folder : AT_FDCWD, place, flags, mode);
}

static mode_t mode_of(int flags, va_list rest) {
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(rest, mode_t) : 0;
}

#define OPEN(name)                                                                               \
    int name(const char *path, int flags, ...) {                                                 \
        va_list rest;                                                                            \
        va_start(rest, flags);                                                                   \
        mode_t mode = mode_of(flags, rest);                                                      \
        va_end(rest);                                                                            \
        return opened(AT_FDCWD, path, flags, mode);                                              \
    }
#define OPENAT(name)                                                                             \
    int name(int folder, const char *path, int flags, ...) {                                     \
        va_list rest;                                                                            \
        va_start(rest, flags);                                                                   \
        mode_t mode = mode_of(flags, rest);                                                      \
        va_end(rest);                                                                            \
        return opened(folder, path, flags, mode);                                                \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

/* The functions that fortified programs call instead. */
int __open_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __openat_2(int folder, const char *path, int flags) { return opened(folder, path, flags, 0); }
int __openat64_2(int folder, const char *path, int flags) { return opened(folder, path, flags, 0); }

#define BY_PATH(type, name, ...) /* functions whose first argument is a path */                  \
    char space[PATH_MAX];                                                                        \
    return REAL(name)(redirect(AT_FDCWD, path, space), ##__VA_ARGS__)

FILE *fopen(const char *path, const char *mode) { BY_PATH(FILE *, fopen, mode); }
FILE *fopen64(const char *path, const char *mode) { BY_PATH(FILE *, fopen64, mode); }
DIR *opendir(const char *path) { BY_PATH(DIR *, opendir); }
ssize_t readlink(const char *path, char *to, size_t size) { BY_PATH(ssize_t, readlink, to, size); }

int scandir(const char *path, struct dirent ***names, int (*take)(const struct dirent *),
            int (*order)(const struct dirent **, const struct dirent **)) {
    BY_PATH(int, scandir, names, take, order);
}

int scandir64(const char *path, struct dirent64 ***names, int (*take)(const struct dirent64 *),
              int (*order)(const struct dirent64 **, const struct dirent64 **)) {
    BY_PATH(int, scandir64, names, take, order);
}

ssize_t lgetxattr(const char *path, const char *name, void *value, size_t size) {
    BY_PATH(ssize_t, lgetxattr, name, value, size);
}

ssize_t getxattr(const char *path, const char *name, void *value, size_t size) {
    BY_PATH(ssize_t, getxattr, name, value, size);
}

ssize_t readlinkat(int folder, const char *path, char *to, size_t size) {
    char space[PATH_MAX];
    const char *place = redirect(folder, path, space);
    return REAL(readlinkat)(place == path ? folder : AT_FDCWD, place, to, size);
}

char *realpath(const char *path, char *resolved) {
    char space[PATH_MAX];
    const char *place = redirect(AT_FDCWD, path, space);
    char *found = REAL(realpath)(place, resolved);
    const char *base = root();
    if (found && place != path && !strncmp(found, base, strlen(base)))
        memmove(found, found + strlen(base), strlen(found + strlen(base)) + 1);
    return found;
}

static int accessible(int folder, const char *path, int mode, int flags) {
    char space[PATH_MAX];
    const char *place = redirect(folder, path, space);
    if (root() && place && mode != F_OK && closed_to_all(place))
        return failed(-EACCES);
    return REAL(faccessat)(place == path ? folder : AT_FDCWD, place, mode, flags);
}

int access(const char *path, int mode) { return accessible(AT_FDCWD, path, mode, 0); }
int eaccess(const char *path, int mode) { return accessible(AT_FDCWD, path, mode, AT_EACCESS); }
int faccessat(int folder, const char *path, int mode, int flags) {
    return accessible(folder, path, mode, flags);
}

#define STAT(name, status)                                                                       \
    int name(const char *path, struct status *found) {                                           \
        char space[PATH_MAX];                                                                    \
        const char *place = redirect(AT_FDCWD, path, space);                                     \
        int code = REAL(name)(place, found);                                                     \
        if (!code && root())                                                                     \
            as_device(place, &found->st_mode, &found->st_rdev);                                  \
        return code;                                                                             \
    }
#define FSTAT(name, by_path, status)                                                             \
    int name(int fd, struct status *found) {                                                     \
        struct sockaddr_un peer;                                                                 \
        char space[PATH_MAX];                                                                    \
        if (!is_node(fd, &peer))                                                                 \
            return REAL(name)(fd, found);                                                        \
        const char *path = node_file(peer.sun_path, space);                                      \
        int code = REAL(by_path)(path, found);                                                   \
        if (!code)                                                                               \
            as_device(path, &found->st_mode, &found->st_rdev);                                   \
        return code;                                                                             \
    }
#define FSTATAT(name, by_fd, status)                                                             \
    int name(int folder, const char *path, struct status *found, int flags) {                    \
        char space[PATH_MAX];                                                                    \
        if (flags & AT_EMPTY_PATH && !path[0] && is_node(folder, NULL))                          \
            return by_fd(folder, found);                                                         \
        const char *place = redirect(folder, path, space);                                       \
        int code = REAL(name)(place == path ? folder : AT_FDCWD, place, found, flags);           \
        if (!code && root())                                                                     \
            as_device(place, &found->st_mode, &found->st_rdev);                                  \
        return code;                                                                             \
    }
STAT(stat, stat)
STAT(lstat, stat)
STAT(stat64, stat64)
STAT(lstat64, stat64)
FSTAT(fstat, stat, stat)
FSTAT(fstat64, stat64, stat64)
FSTATAT(fstatat, fstat, stat)
FSTATAT(fstatat64, fstat64, stat64)

int statx(int folder, const char *path, int flags, unsigned mask, struct statx *found) {
    char space[PATH_MAX];
    const char *place = redirect(folder, path, space);
    int code = REAL(statx)(place == path ? folder : AT_FDCWD, place, flags, mask, found);
    mode_t mode = code ? 0 : found->stx_mode;
    dev_t device = 0;
    if (!code && root())
        as_device(place, &mode, &device);
    if (!code && mode != found->stx_mode) {
        found->stx_mode = (uint16_t)mode;
        found->stx_rdev_major = major(device);
        found->stx_rdev_minor = minor(device);
    }
    return code;
}

/* An ioctl of a dma_buf or a sync file. Returns -ENOTTY if the file is none of the board's. */
static int file_ioctl(int fd, struct request *request, void *argument, int back) {
    struct answer answer;
    int board = REAL(fcntl)(fd, F_GETFD) < 0 ? -EBADF : connected("/files", SOCK_CLOEXEC);
    if (board < 0)
        return -ENOTTY;
    request->op = OP_FILE;
    int code = ask(board, request, argument, request->size, back, fd, &answer, NULL);
    REAL(close)(board);
    return code;
}

int ioctl(int fd, unsigned long number, ...) {
    va_list rest;
    va_start(rest, number);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    int group = _IOC_TYPE(number), back = !!(_IOC_DIR(number) & _IOC_READ);
    struct request request = {.op = OP_IOCTL, .number = number & 0xffffffffu,
                              .size = _IOC_SIZE(number)};
    struct answer answer;
    if (group == 'T') /* FIOCLEX and its like: not for drivers */
        return REAL(ioctl)(fd, number, argument);
    if (is_node(fd, NULL))
        return failed(ask(fd, &request, argument, request.size, back, -1, &answer, NULL));
    if (root() && (group == 'b' || group == '>')) { /* a dma_buf, a sync file */
        int before = errno, code = file_ioctl(fd, &request, argument, back);
        errno = before;
        if (code != -ENOTTY)
            return failed(code);
    }
    return REAL(ioctl)(fd, number, argument);
}

static void *mapped(void *at, size_t size, int protection, int flags, int node, uint64_t offset) {
    struct request request = {.op = OP_MMAP, .number = offset, .size = size};
    struct answer answer;
    int memory = -1;
    int code = ask(node, &request, NULL, 0, 0, -1, &answer, &memory);
    if (code >= 0 && memory < 0)
        code = -ENODEV;
    if (code < 0) {
        errno = -code;
        return MAP_FAILED;
    }
    void *found = REAL(mmap)(at, size, protection, flags, memory, (off_t)answer.address);
    int before = errno;
    REAL(close)(memory);
    errno = before;
    return found;
}

#define MMAP(name, type)                                                                         \
    void *name(void *at, size_t size, int protection, int flags, int fd, type offset) {          \
        if (flags & MAP_ANONYMOUS || !is_node(fd, NULL))                                         \
            return REAL(name)(at, size, protection, flags, fd, offset);                          \
        return mapped(at, size, protection, flags, fd, (uint64_t)offset);                        \
    }
MMAP(mmap, off_t)
MMAP(mmap64, off64_t)
