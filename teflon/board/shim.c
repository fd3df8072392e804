/* The shim of a virtual board: preloaded into a program, it adds the board's device nodes to /dev.
 *
 * TEFLON_BOARD names the board's folder, which replaces parts of the file system: the program sees
 * $TEFLON_BOARD/dev/accel as /dev/accel, and so on (see `replaced`). A socket below its dev is a
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
 * So the shim needs no driver's structs. The board's side of this is connection.py.
 *
 * Ordinary paths cost a look at their text. Nothing here allocates memory, and large buffers are on
 * the stack only while a path is one of the board's. */

#undef _FILE_OFFSET_BITS /* open and open64 are two functions here */
#undef _TIME_BITS
#undef _FORTIFY_SOURCE
#define _GNU_SOURCE
#include <features.h>
#ifdef __GLIBC__
#include <sys/cdefs.h>
#undef __nonnull /* NULL goes on to the kernel, which answers EFAULT */
#define __nonnull(which)
#undef __attr_access /* says that poll does not read what it is given */
#define __attr_access(what)
#endif
#include <alloca.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#if UINTPTR_MAX != UINT64_MAX
#error "the shim of teflon board is for 64-bit programs"
#endif

enum { OP_OPEN, OP_IOCTL, OP_MMAP, OP_FILE };
enum { ASK_DONE, ASK_READ, ASK_WRITE, ASK_GIVE, ASK_TAKE };
enum { ACCEL_MAJOR = 261, DRM_MAJOR = 226 }; /* Ref: Linux, include/drm/drm_accel.h, drm.h */
enum { SYSFS = 0x62656572, TMPFS = 0x01021994 }; /* Ref: Linux, include/uapi/linux/magic.h */
/* Ref: Linux, include/uapi/asm-generic/ioctl.h (which musl's headers lack) */
#define IOC_NR(number) ((number) & 0xff)
#define IOC_TYPE(number) ((number) >> 8 & 0xff)
#define IOC_SIZE(number) ((number) >> 16 & 0x3fff)
#define IOC_WRITES(number) ((number) >> 30 & 1) /* the program's argument is read */
#define IOC_READS(number) ((number) >> 30 & 2)
enum { LINKS = 40, SPARE_FILES = 8, LARGEST = 1 << 14 };

typedef __typeof__(((struct cmsghdr *)0)->cmsg_len) control_size; /* differs in musl */

struct request {
    uint32_t op, pid;
    uint64_t number; /* the ioctl, the mmap offset, or the flags of open */
    uint64_t size;   /* of the argument that follows, or of the mapping */
};

struct answer {
    int32_t ask, result; /* result: of the call, or a negative errno */
    uint64_t address, size;
};

/* --- the C library's functions --------------------------------------------------------------- */

static void *real_symbol(void **known, const char *name) {
    void *found = __atomic_load_n(known, __ATOMIC_RELAXED);
    if (found)
        return found;
    found = dlsym(RTLD_NEXT, name);
    __atomic_store_n(known, found, __ATOMIC_RELAXED);
    return found;
}

static void *needed_symbol(void **known, const char *name) {
    void *found = real_symbol(known, name);
    if (!found) {
        dprintf(2, "teflon board: no %s in the C library\n", name);
        abort();
    }
    return found;
}

#define FUNCTION(type, name, lookup)                                                             \
    ({                                                                                           \
        static void *known_;                                                                     \
        (type)(uintptr_t) lookup(&known_, name);                                                 \
    })
#define REAL(name) FUNCTION(__typeof__(&name), #name, needed_symbol)

/* C libraries before glibc 2.33 have the status functions under other names only. */
#if defined __x86_64__
enum { STATUS_VERSION = 1 };
#else
enum { STATUS_VERSION = 0 };
#endif
typedef int (*old_fstat)(int, int, struct stat *);
typedef int (*old_fstatat)(int, int, const char *, struct stat *, int);

static int real_fstat(int fd, struct stat *found) {
    __typeof__(&fstat) now = FUNCTION(__typeof__(&fstat), "fstat", real_symbol);
    if (now)
        return now(fd, found);
    return FUNCTION(old_fstat, "__fxstat", needed_symbol)(STATUS_VERSION, fd, found);
}

static int real_fstatat(int folder, const char *path, struct stat *found, int flags) {
    __typeof__(&fstatat) now = FUNCTION(__typeof__(&fstatat), "fstatat", real_symbol);
    if (now)
        return now(folder, path, found, flags);
    return FUNCTION(old_fstatat, "__fxstatat", needed_symbol)(STATUS_VERSION, folder, path, found,
                                                              flags);
}

/* --- the board's folder ---------------------------------------------------------------------- */

enum { UNKNOWN, NONE, KNOWN };
static struct {
    int state;
    size_t length;
    char path[PATH_MAX];
} board;

/* Find the folder, by its real path: descriptors show that one. */
static void find_board(void) {
    char real[PATH_MAX], link[32];
    const char *value = getenv("TEFLON_BOARD");
    int before = errno, state = value && *value && strlen(value) < sizeof board.path ? KNOWN : NONE;
    if (state == KNOWN) {
        int folder = REAL(openat)(AT_FDCWD, value, O_PATH | O_CLOEXEC);
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = folder < 0 ? -1 : REAL(readlink)(link, real, sizeof real - 1);
        if (folder >= 0)
            REAL(close)(folder);
        real[length > 0 ? length : 0] = 0;
        strcpy(board.path, length > 0 ? real : value);
        board.length = strlen(board.path);
        while (board.length && board.path[board.length - 1] == '/')
            board.path[--board.length] = 0;
    }
    __atomic_store_n(&board.state, state, __ATOMIC_RELEASE);
    errno = before;
}

__attribute__((constructor)) static void start(void) {
    if (board.state == UNKNOWN)
        find_board();
}

/* The folder, or NULL. It may be asked for before `start` ran. */
static const char *root(void) {
    int state = __atomic_load_n(&board.state, __ATOMIC_ACQUIRE);
    if (state == UNKNOWN) {
        find_board();
        state = board.state;
    }
    return state == KNOWN ? board.path : NULL;
}

/* Whether a real path is in the folder. */
static int inside(const char *path) {
    const char *base = root();
    return base && !strncmp(path, base, board.length) &&
           (path[board.length] == '/' || !path[board.length]);
}

/* Take the folder off the front of a path of `length` bytes, if what remains is something that the
 * program sees; return its new length. */
static size_t without_root(char *path, size_t length) {
    if (length <= board.length || !inside(path))
        return length;
    const char *rest = path + board.length;
    if (strncmp(rest, "/dev", 4) && strncmp(rest, "/sys", 4) && strncmp(rest, "/proc", 5))
        return length;
    length -= board.length;
    memmove(path, rest, length);
    path[length] = 0;
    return length;
}

/* --- paths: "seen" is what the program means, "real" where it is ----------------------------- */

/* Below these the program sees only the folder's content; below the others it sees the real file
 * system too. */
static const char *const replaced[] = {"/dev/accel", "/dev/dri", "/sys/class/accel",
                                       "/sys/class/drm", "/sys/firmware", NULL};
static const char *const overlaid[] = {"/sys/", "/proc/sys/", "/proc/device-tree", NULL};
/* What a path to these begins with, from / and from a folder on the way. */
static const char *const first_words[] = {"dev", "sys", "proc", "dri", "accel", "class", "bus",
                                          "devices", "firmware", "device-tree", NULL};

static int below(const char *path, const char *const *list) {
    for (; *list; list++) {
        size_t length = strlen(*list);
        if (!strncmp(path, *list, length) &&
            ((*list)[length - 1] == '/' || path[length] == '/' || !path[length]))
            return 1;
    }
    return 0;
}

/* Whether the folder has a real path, or has a file where the path needs a folder. */
static int exists(const char *path) {
    struct stat found;
    return real_fstatat(AT_FDCWD, path, &found, AT_SYMLINK_NOFOLLOW) == 0 || errno == ENOTDIR;
}

static int is_folder(const char *path) {
    struct stat found;
    return real_fstatat(AT_FDCWD, path, &found, 0) == 0 && S_ISDIR(found.st_mode);
}

/* Whether the first word of a path, or any, is one of those on the way to the board. */
static int has_word(const char *path, int any) {
    do {
        while (*path == '/' || (path[0] == '.' && path[1] == '/'))
            path++;
        size_t length = (size_t)(strchrnul(path, '/') - path);
        for (const char *const *word = first_words; strchr("dspacbf", *path) && *word; word++)
            if (!strncmp(path, *word, length) && !(*word)[length])
                return 1;
        path += length;
    } while (any && *path);
    return 0;
}

/* Whether the text of a path says that it is none of the board's, if the computer has it. */
static int ordinary(const char *path) {
    if (!path || !*path || !root())
        return 1;
    if (!strstr(path, ".."))
        return !has_word(path, 0);
    return path[0] == '/' && !has_word(path, 1);
}

/* Write the seen path of a descriptor, or of the working folder, into `space`. Returns 0 if there is
 * none, 2 if it is in the board's folder. */
static int seen_base(int folder, char space[PATH_MAX]) {
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    if (folder == AT_FDCWD) {
        if (!REAL(getcwd)(space, PATH_MAX))
            return 0;
    } else {
        ssize_t size = REAL(readlink)(link, space, PATH_MAX - 1);
        space[size > 0 ? size : 0] = 0;
    }
    size_t length = strlen(space);
    return space[0] != '/' ? 0 : without_root(space, length) == length ? 1 : 2;
}

/* Write the absolute form of a seen path, with its "..", into `space`; returns as `seen_base`. */
static int absolute(int folder, const char *path, char space[PATH_MAX]) {
    size_t length = 0;
    int found = 1;
    if (path[0] != '/') {
        if (!(found = seen_base(folder, space)))
            return 0;
        length = strlen(space);
        space[length++] = '/';
    }
    if (length + strlen(path) >= PATH_MAX)
        return 0;
    strcpy(space + length, path);
    return found;
}

/* Return where a seen path without "..", "//" and links is: in the folder, or the path itself. */
static const char *real_place(const char *seen, char space[PATH_MAX]) {
    int ours = below(seen, replaced);
    if (!ours && !below(seen, overlaid))
        return seen;
    size_t length = strlen(seen);
    if (board.length + length >= PATH_MAX)
        return seen;
    memcpy(space, root(), board.length);
    memcpy(space + board.length, seen, length + 1);
    return ours || exists(space) ? space : seen;
}

/* Remove "//" and "/." from a path, but not its last slash. Returns whether it has a "..". */
static int tidy(char *path) {
    char *to = path;
    int parents = 0;
    for (const char *from = path; *from;) {
        size_t length = (size_t)(strchrnul(from + 1, '/') - from);
        parents |= length == 3 && from[1] == '.' && from[2] == '.';
        if (length > 2 || (length == 2 && from[1] != '.') || !from[length]) {
            memmove(to, from, length);
            to += length == 2 && from[1] == '.' ? 1 : length; /* "/." at the end is "/" */
        }
        from += length;
    }
    *to = 0;
    return parents;
}

/* Follow a seen path through "..", and through links, also those from outside into the board.
 * `path` is used up. Returns whether the way led through the board's folder. */
static __attribute__((noinline)) int walk(char path[PATH_MAX], int follow, char seen[PATH_MAX]) {
    char space[PATH_MAX], target[PATH_MAX];
    size_t length = 0;
    int links = 0, met = 0, slash = path[strlen(path) - 1] == '/';
    for (char *rest = path; *rest;) {
        size_t part = strcspn(rest + 1, "/") + 1, before = length;
        const char *name = rest;
        rest += part;
        if (part == 1 || (part == 2 && name[1] == '.'))
            continue;
        if (part == 3 && name[1] == '.' && name[2] == '.') {
            if (length && !is_folder(real_place(seen, space))) { /* the kernel says what it is */
                if (length + strlen(name) >= PATH_MAX)
                    return 0;
                strcpy(seen + length, name);
                return met;
            }
            while (length && seen[--length] != '/')
                continue;
            seen[length] = 0;
            continue;
        }
        if (length + part + 1 >= PATH_MAX)
            return 0;
        memcpy(seen + length, name, part);
        seen[length += part] = 0;
        const char *place = real_place(seen, space);
        met |= place == space || inside(place);
        if ((!follow && !*rest) || (!strncmp(seen, "/proc/", 6) && strstr(seen, "/fd/")))
            continue;
        ssize_t size = REAL(readlink)(place, target, sizeof target - 1);
        if (size <= 0)
            continue;
        if (++links > LINKS || (size_t)size + strlen(rest) + 2 > PATH_MAX)
            return 0;
        target[size] = 0;
        size = (ssize_t)without_root(target, (size_t)size);
        length = target[0] == '/' ? 0 : before;
        memmove(path + size + 1, rest, strlen(rest) + 1);
        memcpy(path + 1, target, (size_t)size);
        path[0] = '/';
        rest = path;
    }
    if (!length || slash)
        seen[length++] = '/';
    seen[length] = 0;
    without_root(seen, length);
    return met;
}

/* Write where a path is, if not where the program says: its place in the board's folder, or what it
 * means there with its "..". Returns that, or `path`. */
static __attribute__((noinline)) const char *located(int folder, const char *path, int follow,
                                                     char space[PATH_MAX]) {
    char whole[PATH_MAX], seen[PATH_MAX];
    const char *place = path;
    int before = errno, base = absolute(folder, path, whole);
    if (base == 2 || (base && has_word(whole, 1))) {
        if (!tidy(whole))
            place = real_place(whole, space) == space ? space : path;
        else if (walk(whole, follow, seen))
            place = real_place(seen, space) == space ? space : strcpy(space, seen);
    }
    errno = before;
    return place;
}

/* Whether a path of the computer lacks only its last name, which is no link either. */
static int ends_missing(char *path) {
    struct stat found;
    char link, *end = path + strlen(path);
    while (end > path + 1 && end[-1] == '/')
        *--end = 0;
    if (REAL(readlink)(path, &link, 1) > 0)
        return 0;
    char *last = strrchr(path, '/');
    *last = 0;
    int parent = last == path || real_fstatat(AT_FDCWD, path, &found, 0) == 0;
    *last = '/';
    return parent;
}

/* Return where a path is that the computer does not have, or NULL: a link, or the folder that it is
 * relative to, may lead into the board's folder. */
static __attribute__((noinline)) const char *missed(int folder, const char *path, int follow,
                                                    char space[PATH_MAX]) {
    char whole[PATH_MAX], seen[PATH_MAX];
    const char *found = NULL;
    int error = errno, base = 0;
    if ((error == ENOENT || error == ENXIO) && path && *path && root())
        base = absolute(folder, path, whole);
    if (base) {
        int parents = tidy(whole);
        int hopeless = error == ENOENT && base == 1 && !parents && ends_missing(strcpy(seen, whole));
        if (!hopeless && walk(whole, follow, seen))
            found = real_place(seen, space) == space ? space : strcpy(space, seen);
    }
    errno = error;
    return found;
}

/* The value of `call`, made with `path` where the board has it. */
#define PLACED(follow, failure, call)                                                            \
    ({                                                                                           \
        const char *asked_ = path;                                                               \
        int before_ = errno;                                                                     \
        char *space_ = NULL;                                                                     \
        if (!ordinary(asked_)) {                                                                 \
            space_ = alloca(PATH_MAX);                                                           \
            path = located(folder, asked_, follow, space_);                                      \
        }                                                                                        \
        __typeof__(call) value_ = call;                                                          \
        if (value_ == (failure) && (errno == ENOENT || errno == ENXIO) && root() &&              \
            path == asked_) {                                                                    \
            space_ = space_ ? space_ : alloca(PATH_MAX);                                         \
            if ((path = missed(folder, asked_, follow, space_))) {                               \
                errno = before_;                                                                 \
                value_ = call;                                                                   \
            }                                                                                    \
        }                                                                                        \
        value_;                                                                                  \
    })
#define RETURN_PLACED(failure, call)                                                             \
    do {                                                                                         \
        const int folder = AT_FDCWD;                                                             \
        return PLACED(1, failure, call);                                                         \
    } while (0)

/* --- which descriptors and paths are nodes ---------------------------------------------------- */

/* Return the seen path in the address of a node's socket, or NULL: the board binds it as
 * /proc/self/fd/N/dev/..., whatever its folder is called where this process runs. */
static const char *node_name(const char *address) {
    static const char bound[] = "/proc/self/fd/";
    if (strncmp(address, bound, sizeof bound - 1))
        return NULL;
    address += sizeof bound - 1;
    address += strspn(address, "0123456789");
    return !strncmp(address, "/dev/accel/", 11) || !strncmp(address, "/dev/dri/", 9) ? address
                                                                                      : NULL;
}

/* Return the seen path of an open node, or NULL; `peer` receives the address of its socket. */
static const char *node_of(int fd, struct sockaddr_un *peer) {
    if (fd < 0 || !root())
        return NULL;
    socklen_t length = sizeof *peer - 1;
    int before = errno;
    peer->sun_family = AF_UNSPEC;
    const char *name = NULL;
    if (getpeername(fd, (struct sockaddr *)peer, &length) == 0 && peer->sun_family == AF_UNIX) {
        size_t end = length < sizeof *peer ? length : sizeof *peer - 1;
        ((char *)peer)[end] = 0;
        name = end > offsetof(struct sockaddr_un, sun_path) ? node_name(peer->sun_path) : NULL;
    }
    errno = before;
    return name;
}

static int is_node(int fd) {
    struct sockaddr_un peer;
    return node_of(fd, &peer) != NULL;
}

/* Return the number in /proc/self/fd/N and its other names, or -1. */
static int own_descriptor(const char *path) {
    static const char *const heads[] = {"/proc/self/fd/", "/dev/fd/", "/proc/thread-self/fd/",
                                        NULL};
    char own[32];
    const char *digits = NULL;
    if (!path)
        return -1;
    for (const char *const *head = heads; *head && !digits; head++)
        if (!strncmp(path, *head, strlen(*head)))
            digits = path + strlen(*head);
    if (!digits && !strncmp(path, "/proc/", 6)) {
        int length = snprintf(own, sizeof own, "/proc/%d/fd/", (int)getpid());
        if (!strncmp(path, own, (size_t)length))
            digits = path + length;
    }
    if (!digits || !*digits || digits[strspn(digits, "0123456789")] || strlen(digits) > 9)
        return -1;
    return atoi(digits);
}

/* Write the real path that a descriptor was opened by. */
static int real_path(int fd, char space[PATH_MAX]) {
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = REAL(readlink)(link, space, PATH_MAX - 1);
    if (length <= 0)
        return 0;
    space[length] = 0;
    return 1;
}

/* Whether a real path is one where the board has nodes. */
static int holds_nodes(const char *path) {
    return inside(path) && !strncmp(path + board.length, "/dev/", 5);
}

/* Whether there is a node at a real path. It is a device already for a program that another shim
 * looks over, such as an emulator's. */
static int is_node_file(const char *path, int flags) {
    struct stat found;
    int at = flags & O_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0;
    return holds_nodes(path) && real_fstatat(AT_FDCWD, path, &found, at) == 0 &&
           (S_ISSOCK(found.st_mode) || S_ISCHR(found.st_mode));
}

/* Write the seen path of the node behind a path, or behind a descriptor if the path is empty. */
static __attribute__((noinline)) int find_node(int folder, const char *path, int follow,
                                               char seen[PATH_MAX]) {
    struct sockaddr_un peer;
    int before = errno, found = 0;
    const char *name = *path ? NULL : node_of(folder, &peer);
    if (name) {
        strcpy(seen, name);
        found = 1;
    } else {
        int fd = *path ? REAL(openat)(folder, path,
                                      O_PATH | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW))
                       : folder;
        found = fd >= 0 && real_path(fd, seen) && holds_nodes(seen);
        if (found)
            without_root(seen, strlen(seen));
        if (*path && fd >= 0)
            REAL(close)(fd);
    }
    errno = before;
    return found;
}

static dev_t device_number(const char *seen) {
    const char *name = strrchr(seen, '/') + 1;
    const char *digits = name + strcspn(name, "0123456789");
    return makedev(strncmp(name, "accel", 5) ? DRM_MAJOR : ACCEL_MAJOR, (unsigned)atoi(digits));
}

/* Change the status of a node's socket to that of its character device. */
static __attribute__((noinline)) void as_device(int folder, const char *path, int follow,
                                                struct stat *found) {
    char seen[PATH_MAX], space[PATH_MAX];
    struct stat file;
    if (!find_node(folder, path, follow, seen))
        return;
    int before = errno;
    if (real_fstatat(AT_FDCWD, real_place(seen, space), &file, 0) == 0)
        *found = file;
    else
        found->st_mode = S_IFSOCK | 0666; /* the board has ended */
    errno = before;
    found->st_mode = (found->st_mode & ~(mode_t)S_IFMT) | S_IFCHR;
    found->st_rdev = device_number(seen);
}

/* Whether a node's mode permits opening it; unlike a real node, this refuses root as well. */
static int closed_to_all(const char *path) {
    struct stat found;
    return is_node_file(path, 0) && real_fstatat(AT_FDCWD, path, &found, 0) == 0 &&
           !(found.st_mode & 0666);
}

/* --- requests ---------------------------------------------------------------------------------- */

/* Allow a few more files than the limit of this process, for a moment. */
static int raise_limit(struct rlimit *before) {
    if (getrlimit(RLIMIT_NOFILE, before) || before->rlim_cur >= before->rlim_max)
        return 0;
    struct rlimit more = *before;
    more.rlim_cur = more.rlim_max - more.rlim_cur < SPARE_FILES ? more.rlim_max
                                                                : more.rlim_cur + SPARE_FILES;
    return setrlimit(RLIMIT_NOFILE, &more) == 0;
}

/* Make the socket pair of a request, although the program may have no file left. */
static int reply_pair(int pair[2]) {
    struct rlimit before;
    if (!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        return 0;
    int code = -errno;
    if (code == -EMFILE && raise_limit(&before)) {
        code = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) ? -errno : 0;
        setrlimit(RLIMIT_NOFILE, &before);
    }
    return code;
}

/* The error of a call to a board that may have ended. */
static int board_error(void) {
    return errno == EPIPE || errno == ECONNRESET || errno == ECONNREFUSED || errno == ENOTCONN
               ? -ENODEV
               : -errno;
}

/* Put descriptors into the control part of a message, which has room for them. */
static void attach(struct msghdr *message, const int *fds, size_t count) {
    struct cmsghdr *control = CMSG_FIRSTHDR(message);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = (control_size)CMSG_LEN(count * sizeof *fds);
    memcpy(CMSG_DATA(control), fds, count * sizeof *fds);
}

/* passed: the reply socket, and the file of a FILE request. */
static int send_request(int node, const struct request *request, const void *in,
                        const int *passed, size_t count) {
    union {
        char space[CMSG_SPACE(2 * sizeof(int))];
        struct cmsghdr aligned;
    } control;
    struct iovec parts[2] = {{(void *)(uintptr_t)request, sizeof *request},
                             {(void *)(uintptr_t)in, request->size}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = request->op == OP_MMAP ? 1 : 2,
                             .msg_control = &control,
                             .msg_controllen = (control_size)CMSG_SPACE(count * sizeof *passed)};
    memset(&control, 0, sizeof control);
    attach(&message, passed, count);
    while (sendmsg(node, &message, MSG_NOSIGNAL) < 0) {
        struct pollfd room = {.fd = node, .events = POLLOUT};
        if (errno == EAGAIN) /* the program made the node non-blocking */
            poll(&room, 1, -1);
        else if (errno != EINTR)
            return board_error();
    }
    return 0;
}

/* Receive an answer and the data after it; `passed` receives the descriptor that came with it. */
static int receive(int reply, struct answer *answer, void *data, size_t size, int flags,
                   int *passed) {
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr aligned;
    } space;
    struct iovec parts[2] = {{answer, sizeof *answer}, {data, size}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = size ? 2 : 1,
                             .msg_control = passed ? &space : NULL,
                             .msg_controllen = passed ? sizeof space : 0};
    ssize_t got;
    do
        got = recvmsg(reply, &message, flags | MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return board_error();
    if ((size_t)got < sizeof *answer)
        return -ENODEV; /* the board has ended */
    if (size && message.msg_flags & MSG_TRUNC)
        return -EFAULT; /* an emulator stores what it can */
    struct cmsghdr *control = passed ? CMSG_FIRSTHDR(&message) : NULL;
    if (control && control->cmsg_type == SCM_RIGHTS)
        memcpy(passed, CMSG_DATA(control), sizeof *passed);
    else if (passed && message.msg_flags & MSG_CTRUNC)
        return -EMFILE;
    return 0;
}

static int reply_status(int reply, int32_t status) {
    return send(reply, &status, sizeof status, MSG_NOSIGNAL) < 0 ? board_error() : 0;
}

/* Send memory of this process to the board, or report a bad address. */
static int give_memory(int reply, const struct answer *wanted) {
    int32_t status = 0;
    struct iovec parts[2] = {{&status, sizeof status},
                             {(void *)(uintptr_t)wanted->address, wanted->size}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    if (sendmsg(reply, &message, MSG_NOSIGNAL) >= 0)
        return 0;
    return reply_status(reply, -errno);
}

/* Write what the board sends to an address. The kernel may refuse the address before it takes the
 * message from the socket; then the message is thrown away here. */
static int32_t take_memory(int reply, struct answer *question, void *address) {
    struct answer again;
    int code = receive(reply, question, address, question->size, 0, NULL);
    if (code && !receive(reply, &again, NULL, 0, MSG_PEEK | MSG_DONTWAIT, NULL) &&
        again.ask == ASK_WRITE)
        receive(reply, &again, NULL, 0, 0, NULL);
    return code;
}

/* Receive a descriptor from the board, and send the number that it got here. */
static int accept_file(int reply, int stays) {
    struct answer question;
    int fd = -1;
    int32_t status = receive(reply, &question, NULL, 0, 0, &fd);
    if (fd >= 0 && stays)
        REAL(fcntl)(fd, F_SETFD, 0);
    return reply_status(reply, status ? status : fd < 0 ? -EMFILE : fd);
}

/* Send the board a copy of a descriptor, or report that there is no such. */
static int send_file(int reply, int fd) {
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr aligned;
    } space;
    int32_t status = 0;
    struct iovec part = {&status, sizeof status};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &space,
                             .msg_controllen = sizeof space};
    memset(&space, 0, sizeof space);
    attach(&message, &fd, 1);
    if (sendmsg(reply, &message, MSG_NOSIGNAL) >= 0)
        return 0;
    return reply_status(reply, -errno);
}

/* Answer the board's questions until it has a result; see `ask`. */
static int converse(int reply, void *out, size_t size, struct answer *answer, int *passed) {
    for (;;) {
        int code = receive(reply, answer, NULL, 0, MSG_PEEK, NULL);
        if (code)
            return code;
        void *address = (void *)(uintptr_t)answer->address;
        switch (answer->ask) {
        case ASK_READ:
            receive(reply, answer, NULL, 0, 0, NULL);
            code = give_memory(reply, answer);
            break;
        case ASK_WRITE:
            code = reply_status(reply, take_memory(reply, answer, address));
            break;
        case ASK_GIVE:
            code = accept_file(reply, answer->result);
            break;
        case ASK_TAKE:
            receive(reply, answer, NULL, 0, 0, NULL);
            code = send_file(reply, (int)answer->address);
            break;
        default:
            code = receive(reply, answer, out, size, 0, passed);
            return code ? code : answer->result;
        }
        if (code)
            return code;
    }
}

/* Send a request and return its result, or a negative errno. errno stays as it is.
 *
 * in: the argument, request->size bytes; out: where `back` bytes go when it is answered.
 * file: of a FILE request, else -1. passed: receives the descriptor that comes with the answer. */
static int ask(int node, const struct request *request, const void *in, void *out, size_t back,
               int file, struct answer *answer, int *passed) {
    int pair[2], cancel, before = errno;
    struct request sent = *request;
    sent.pid = (uint32_t)getpid();
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
    int code = reply_pair(pair);
    if (!code) {
        int files[] = {pair[1], file};
        code = send_request(node, &sent, in, files, file < 0 ? 1 : 2);
        REAL(close)(pair[1]);
        if (!code)
            code = converse(pair[0], out, back, answer, passed);
        REAL(close)(pair[0]);
    }
    pthread_setcancelstate(cancel, NULL);
    errno = before;
    return code;
}

static int failed(int code) {
    if (code >= 0)
        return code;
    errno = -code;
    return -1;
}

/* Connect to a socket by its real path. Returns the descriptor, or a negative errno. */
static int connected(const char *path, int kind) {
    struct sockaddr_un place = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | kind, 0), folder = -1, code = 0;
    if (fd < 0)
        return -errno;
    if (strlen(path) < sizeof place.sun_path) {
        strcpy(place.sun_path, path);
    } else {
        folder = REAL(openat)(AT_FDCWD, root(), O_PATH | O_CLOEXEC);
        int length = snprintf(place.sun_path, sizeof place.sun_path, "/proc/self/fd/%d%s", folder,
                              path + board.length);
        code = folder < 0                                  ? -errno
               : length >= (int)sizeof place.sun_path ? -ENAMETOOLONG
                                                           : 0;
    }
    while (!code && connect(fd, (struct sockaddr *)&place, sizeof place)) {
        if (errno == EAGAIN) /* the queue of a busy board is full, and this is non-blocking */
            poll(NULL, 0, 1);
        else if (errno != EINTR)
            code = errno == ENOENT ? -ENODEV : board_error(); /* as after unloading a module */
    }
    if (folder >= 0)
        REAL(close)(folder);
    if (code)
        REAL(close)(fd);
    return code ? code : fd;
}

/* The access mode of an open node is kept in its socket, as a priority that nothing else uses. */
enum { READ_WRITE, READ_ONLY, WRITE_ONLY, NEITHER };
static const int access_flags[] = {O_RDWR, O_RDONLY, O_WRONLY, O_ACCMODE};

static int access_mode(int node) {
    int mode = READ_WRITE;
    socklen_t size = sizeof mode;
    if (getsockopt(node, SOL_SOCKET, SO_PRIORITY, &mode, &size) || mode < 0 || mode > NEITHER)
        mode = READ_WRITE;
    return mode;
}

/* Open a node by its real path. */
static int open_node(const char *path, int flags) {
    struct request request = {.op = OP_OPEN, .number = (uint64_t)(unsigned)flags};
    struct answer answer;
    int mode = READ_WRITE, before = errno;
    if (flags & O_DIRECTORY)
        return failed(-ENOTDIR);
    if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
        return failed(-EEXIST);
    if (closed_to_all(path))
        return failed(-EACCES);
    int fd = connected(path, flags & O_CLOEXEC ? SOCK_CLOEXEC : 0);
    if (fd < 0)
        return failed(fd);
    while (access_flags[mode] != (flags & O_ACCMODE))
        mode++;
    if (mode)
        setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &mode, sizeof mode);
    int code = ask(fd, &request, NULL, NULL, 0, -1, &answer, NULL);
    if (code >= 0 && flags & O_NONBLOCK)
        REAL(fcntl)(fd, F_SETFL, O_NONBLOCK);
    errno = before;
    if (code >= 0)
        return fd;
    REAL(close)(fd);
    return failed(code);
}

/* --- open ---------------------------------------------------------------------------------------- */

/* Open a path that is, or may be, in the board's folder. */
static int open_place(const char *place, int flags, mode_t mode) {
    if (!(flags & O_PATH) && is_node_file(place, flags))
        return open_node(place, flags);
    return REAL(openat)(AT_FDCWD, place, flags, mode);
}

static __attribute__((noinline)) int open_special(int folder, const char *path, int flags,
                                                  mode_t mode) {
    char space[PATH_MAX];
    struct sockaddr_un peer;
    const char *name = flags & O_PATH ? NULL : node_of(own_descriptor(path), &peer);
    if (name)
        return open_place(real_place(name, space), flags, mode);
    const char *place = located(folder, path, !(flags & O_NOFOLLOW), space);
    if (place == space)
        return open_place(place, flags, mode);
    return REAL(openat)(folder, path, flags, mode);
}

static __attribute__((noinline)) int open_missed(int folder, const char *path, int flags,
                                                 mode_t mode) {
    char space[PATH_MAX];
    const char *place = missed(folder, path, !(flags & O_NOFOLLOW), space);
    return place ? open_place(place, flags, mode) : -1;
}

static int opened(int folder, const char *path, int flags, mode_t mode) {
    int before = errno;
    int fd = ordinary(path) ? REAL(openat)(folder, path, flags, mode)
                            : open_special(folder, path, flags, mode);
    if (fd >= 0 || (errno != ENOENT && errno != ENXIO) || !root())
        return fd;
    fd = open_missed(folder, path, flags, mode);
    if (fd >= 0)
        errno = before;
    return fd;
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
OPENAT(openat)

int creat(const char *path, mode_t mode) {
    return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/* Return a node as a stream, or NULL. */
static FILE *node_stream(const char *path, const char *mode) {
    int plus = strchr(mode, '+') != NULL, flags = strchr(mode, 'e') ? O_CLOEXEC : 0;
    flags |= plus ? O_RDWR : *mode == 'r' ? O_RDONLY : O_WRONLY;
    int fd = open_node(path, flags);
    FILE *stream = fd < 0 ? NULL : fdopen(fd, mode);
    if (!stream && fd >= 0)
        REAL(close)(fd);
    return stream;
}

#define FOPEN(name)                                                                              \
    FILE *name(const char *path, const char *mode) {                                             \
        RETURN_PLACED(NULL, path && is_node_file(path, 0)                                        \
                                ? node_stream(path, mode)                                        \
                                : REAL(name)(path, mode));                                       \
    }
#define FREOPEN(name)                                                                            \
    FILE *name(const char *path, const char *mode, FILE *stream) {                               \
        char space[PATH_MAX];                                                                    \
        if (!ordinary(path))                                                                     \
            path = located(AT_FDCWD, path, 1, space);                                            \
        return REAL(name)(path, mode, stream);                                                   \
    }
FOPEN(fopen)
FREOPEN(freopen)

/* --- folders ------------------------------------------------------------------------------------- */

DIR *opendir(const char *path) { RETURN_PLACED(NULL, REAL(opendir)(path)); }

/* Whether an entry of a folder is a node's socket. */
static __attribute__((noinline)) int lists_nodes(DIR *folder) {
    char space[PATH_MAX];
    int before = errno, found = root() && real_path(dirfd(folder), space) && holds_nodes(space);
    errno = before;
    return found;
}

#define READDIR(name, entry)                                                                     \
    struct entry *name(DIR *folder) {                                                            \
        struct entry *found = REAL(name)(folder);                                                \
        if (found && found->d_type == DT_SOCK && lists_nodes(folder))                            \
            found->d_type = DT_CHR;                                                              \
        return found;                                                                            \
    }
#define SCANDIR(name, entry)                                                                     \
    int name(const char *path, struct entry ***names, int (*take)(const struct entry *),         \
             int (*order)(const struct entry **, const struct entry **)) {                       \
        const int folder = AT_FDCWD;                                                             \
        int count = PLACED(1, -1, REAL(name)(path, names, take, order));                         \
        for (int i = 0; i < count && path && holds_nodes(path); i++)                             \
            if ((*names)[i]->d_type == DT_SOCK)                                                  \
                (*names)[i]->d_type = DT_CHR;                                                    \
        return count;                                                                            \
    }
READDIR(readdir, dirent)
SCANDIR(scandir, dirent)

int chdir(const char *path) { RETURN_PLACED(-1, REAL(chdir)(path)); }

/* The working folder in the board's folder, for a buffer that has room only for what is seen. */
static __attribute__((noinline)) char *short_getcwd(char *space, size_t size) {
    char seen[PATH_MAX];
    int before = errno;
    if (!seen_base(AT_FDCWD, seen) || strlen(seen) >= size) {
        errno = before;
        return NULL;
    }
    return strcpy(space, seen);
}

char *getcwd(char *space, size_t size) {
    int before = errno;
    char *found = REAL(getcwd)(space, size);
    if (!root())
        return found;
    if (found)
        without_root(found, strlen(found));
    else if (space && errno == ERANGE && (found = short_getcwd(space, size)))
        errno = before;
    return found;
}

char *get_current_dir_name(void) {
    char *found = REAL(get_current_dir_name)();
    if (found && root())
        without_root(found, strlen(found));
    return found;
}

/* --- links --------------------------------------------------------------------------------------- */

/* Put what the program sees in place of what a link says: a node, or a file in the folder. */
static __attribute__((noinline)) ssize_t seen_link(int fd, char *to, size_t size, ssize_t length) {
    char seen[PATH_MAX];
    struct sockaddr_un peer;
    const char *name = node_of(fd, &peer);
    if (name) {
        length = (ssize_t)strlen(name);
        memcpy(seen, name, (size_t)length);
    } else {
        if (!real_path(fd, seen) || !inside(seen))
            return length;
        length = (ssize_t)without_root(seen, strlen(seen));
    }
    length = (size_t)length < size ? length : (ssize_t)size;
    memcpy(to, seen, (size_t)length);
    return length;
}

ssize_t readlinkat(int folder, const char *path, char *to, size_t size) {
    const char *asked = path;
    ssize_t length = PLACED(0, -1, REAL(readlinkat)(folder, path, to, size));
    if (length <= 0 || !root() || ordinary(asked))
        return length;
    int fd = own_descriptor(asked);
    return fd < 0 ? length : seen_link(fd, to, size, length);
}

ssize_t readlink(const char *path, char *to, size_t size) {
    return readlinkat(AT_FDCWD, path, to, size);
}

char *realpath(const char *path, char *resolved) {
    const int folder = AT_FDCWD;
    struct sockaddr_un peer;
    const char *name = path && !ordinary(path) ? node_of(own_descriptor(path), &peer) : NULL;
    char *found = NULL;
    if (name) {
        path = name;
        found = realpath(path, resolved);
    } else {
        found = PLACED(1, NULL, REAL(realpath)(path, resolved));
    }
    if (found && root())
        without_root(found, strlen(found));
    return found;
}

char *canonicalize_file_name(const char *path) { return realpath(path, NULL); }

/* --- status -------------------------------------------------------------------------------------- */

int fstat(int fd, struct stat *found) {
    int code = real_fstat(fd, found);
    if (!code && S_ISSOCK(found->st_mode) && root())
        as_device(fd, "", 1, found);
    return code;
}

int fstatat(int folder, const char *path, struct stat *found, int flags) {
    int follow = !(flags & AT_SYMLINK_NOFOLLOW), fd = -1;
    if (path && !*path && flags & AT_EMPTY_PATH && folder != AT_FDCWD)
        return fstat(folder, found);
    if (follow && !ordinary(path) && (fd = own_descriptor(path)) >= 0 && is_node(fd))
        return fstat(fd, found);
    int code = PLACED(follow, -1, real_fstatat(folder, path, found, flags));
    if (!code && S_ISSOCK(found->st_mode) && root())
        as_device(folder, path, follow, found);
    return code;
}

int stat(const char *path, struct stat *found) { return fstatat(AT_FDCWD, path, found, 0); }

int lstat(const char *path, struct stat *found) {
    return fstatat(AT_FDCWD, path, found, AT_SYMLINK_NOFOLLOW);
}

#ifdef STATX_BASIC_STATS /* musl has it since 1.2.5 */
static __attribute__((noinline)) void as_device_x(int folder, const char *path, int follow,
                                                  struct statx *found) {
    struct stat file = {.st_mode = found->stx_mode};
    as_device(folder, path, follow, &file);
    if (S_ISSOCK(file.st_mode))
        return;
    found->stx_mode = (uint16_t)file.st_mode;
    found->stx_rdev_major = major(file.st_rdev);
    found->stx_rdev_minor = minor(file.st_rdev);
    if (!file.st_ino)
        return;
    found->stx_ino = file.st_ino;
    found->stx_dev_major = major(file.st_dev);
    found->stx_dev_minor = minor(file.st_dev);
}

int statx(int folder, const char *path, int flags, unsigned mask, struct statx *found) {
    int follow = !(flags & AT_SYMLINK_NOFOLLOW), fd = -1, empty = 0;
    if (follow && !ordinary(path) && (fd = own_descriptor(path)) >= 0 && is_node(fd)) {
        folder = fd;
        path = "";
        empty = AT_EMPTY_PATH;
    }
    int code = PLACED(follow, -1, REAL(statx)(folder, path, flags | empty, mask, found));
    if (!code && S_ISSOCK(found->stx_mode) && root())
        as_device_x(folder, path ? path : "", follow, found);
    return code;
}
#endif

static int accessible(int folder, const char *path, int mode, int flags) {
    return PLACED(!(flags & AT_SYMLINK_NOFOLLOW), -1,
                  mode != F_OK && path && closed_to_all(path)
                      ? failed(-EACCES)
                      : REAL(faccessat)(folder, path, mode, flags));
}

int access(const char *path, int mode) { return accessible(AT_FDCWD, path, mode, 0); }
int eaccess(const char *path, int mode) { return accessible(AT_FDCWD, path, mode, AT_EACCESS); }
int euidaccess(const char *path, int mode) { return accessible(AT_FDCWD, path, mode, AT_EACCESS); }
int faccessat(int folder, const char *path, int mode, int flags) {
    return accessible(folder, path, mode, flags);
}

/* The kind of file system that a real path of the folder stands for, or 0. */
static unsigned file_system(const char *path) {
    return !path || !inside(path)                               ? 0
           : !strncmp(path + board.length, "/sys", 4) ? SYSFS
                                                                : TMPFS;
}

#define STATFS(name, by_fd, status)                                                              \
    int name(const char *path, struct status *found) {                                           \
        const int folder = AT_FDCWD;                                                             \
        int code = PLACED(1, -1, REAL(name)(path, found));                                       \
        unsigned kind = code ? 0 : file_system(path);                                            \
        if (kind)                                                                                \
            found->f_type = kind;                                                                \
        return code;                                                                             \
    }                                                                                            \
    int by_fd(int fd, struct status *found) {                                                    \
        char path[PATH_MAX];                                                                     \
        int code = REAL(by_fd)(fd, found);                                                       \
        unsigned kind = code || !root()        ? 0                                               \
                        : is_node(fd)    ? TMPFS                                           \
                        : real_path(fd, path) ? file_system(path)                                \
                                               : 0;                                              \
        if (kind)                                                                                \
            found->f_type = kind;                                                                \
        return code;                                                                             \
    }
STATFS(statfs, fstatfs, statfs)

int statvfs(const char *path, struct statvfs *found) {
    RETURN_PLACED(-1, REAL(statvfs)(path, found));
}

ssize_t getxattr(const char *path, const char *name, void *value, size_t size) {
    RETURN_PLACED(-1, REAL(getxattr)(path, name, value, size));
}

ssize_t lgetxattr(const char *path, const char *name, void *value, size_t size) {
    RETURN_PLACED(-1, REAL(lgetxattr)(path, name, value, size));
}

ssize_t listxattr(const char *path, char *list, size_t size) {
    RETURN_PLACED(-1, REAL(listxattr)(path, list, size));
}

ssize_t llistxattr(const char *path, char *list, size_t size) {
    RETURN_PLACED(-1, REAL(llistxattr)(path, list, size));
}

int chmod(const char *path, mode_t mode) { RETURN_PLACED(-1, REAL(chmod)(path, mode)); }
int chown(const char *path, uid_t user, gid_t group) {
    RETURN_PLACED(-1, REAL(chown)(path, user, group));
}
int fchmodat(int folder, const char *path, mode_t mode, int flags) {
    return PLACED(1, -1, REAL(fchmodat)(folder, path, mode, flags));
}
int fchownat(int folder, const char *path, uid_t user, gid_t group, int flags) {
    return PLACED(1, -1, REAL(fchownat)(folder, path, user, group, flags));
}

int inotify_add_watch(int fd, const char *path, uint32_t mask) {
    RETURN_PLACED(-1, REAL(inotify_add_watch)(fd, path, mask));
}

/* --- patterns and trees of files ------------------------------------------------------------------ */

#ifdef GLOB_ALTDIRFUNC
/* The C library's glob calls its own opendir, unless it is given another. */
#define GLOB(name, table, entry, status)                                                         \
    int name(const char *pattern, int flags, int (*error)(const char *, int), table *found) {    \
        if (flags & GLOB_ALTDIRFUNC || !root())                                                  \
            return REAL(name)(pattern, flags, error, found);                                     \
        found->gl_opendir = (void *(*)(const char *))opendir;                                    \
        found->gl_readdir = (struct entry * (*)(void *))(void (*)(void))readdir;                 \
        found->gl_closedir = (void (*)(void *))(void (*)(void))closedir;                         \
        found->gl_lstat = (int (*)(const char *, struct status *))(void (*)(void))lstat;         \
        found->gl_stat = (int (*)(const char *, struct status *))(void (*)(void))stat;           \
        int code = REAL(name)(pattern, flags | GLOB_ALTDIRFUNC, error, found);                   \
        found->gl_flags &= ~GLOB_ALTDIRFUNC;                                                     \
        return code;                                                                             \
    }
GLOB(glob, glob_t, dirent, stat)
#else
/* musl's glob takes no other opendir: the pattern itself goes to the folder. */
int glob(const char *pattern, int flags, int (*error)(const char *, int), glob_t *found) {
    char space[PATH_MAX];
    size_t first = flags & GLOB_APPEND ? found->gl_pathc : 0;
    size_t offset = flags & GLOB_DOOFFS ? found->gl_offs : 0;
    const char *place = ordinary(pattern) ? pattern : real_place(pattern, space);
    int code = REAL(glob)(place, flags, error, found);
    for (size_t i = first; !code && place == space && i < found->gl_pathc; i++)
        without_root(found->gl_pathv[offset + i], strlen(found->gl_pathv[offset + i]));
    return code;
}
#endif

typedef int (*tree_visit)(const char *, const struct stat *, int, struct FTW *);
typedef int (*old_visit)(const char *, const struct stat *, int);
static __thread union {
    tree_visit now;
    old_visit before;
} visit;

static void seen_visit(const char **path, const struct stat *status, struct stat *found) {
    *found = *status;
    if (S_ISSOCK(found->st_mode))
        as_device(AT_FDCWD, *path, 0, found);
    *path += inside(*path) ? board.length : 0;
}

static int visit_now(const char *path, const struct stat *status, int kind, struct FTW *where) {
    struct stat found;
    const char *seen = path;
    seen_visit(&seen, status, &found);
    where->base -= (int)(seen - path);
    int code = visit.now(seen, &found, kind, where);
    where->base += (int)(seen - path);
    return code;
}

static int visit_before(const char *path, const struct stat *status, int kind) {
    struct stat found;
    seen_visit(&path, status, &found);
    return visit.before(path, &found, kind);
}

int nftw(const char *path, tree_visit call, int files, int flags) {
    char space[PATH_MAX];
    if (ordinary(path) || located(AT_FDCWD, path, 1, space) != space)
        return REAL(nftw)(path, call, files, flags);
    tree_visit outer = visit.now; /* `call` may walk another tree */
    visit.now = call;
    int code = REAL(nftw)(space, visit_now, files, flags);
    visit.now = outer;
    return code;
}

int ftw(const char *path, old_visit call, int files) {
    char space[PATH_MAX];
    if (ordinary(path) || located(AT_FDCWD, path, 1, space) != space)
        return REAL(ftw)(path, call, files);
    old_visit outer = visit.before;
    visit.before = call;
    int code = REAL(ftw)(space, visit_before, files);
    visit.before = outer;
    return code;
}

/* --- what is done with an open node ------------------------------------------------------------- */

#ifdef __GLIBC__
typedef unsigned long ioctl_number;
#else
typedef int ioctl_number;
#endif

/* Ref: Linux, fs/ioctl.c (do_vfs_ioctl): these are not the driver's. */
static int is_general(uint32_t number) {
    return number == FIONBIO || number == FIOASYNC || number == FIOCLEX || number == FIONCLEX;
}

/* Send an ioctl to the board; `file` is that of a FILE request, or -1. */
static int request_ioctl(int to, uint32_t number, void *argument, int file) {
    static const char zeros[LARGEST];
    uintptr_t value = (uintptr_t)argument;
    struct request request = {.op = file < 0 ? OP_IOCTL : OP_FILE, .number = number,
                              .size = IOC_SIZE(number)};
    struct answer answer;
    size_t back = IOC_READS(number) ? request.size : 0;
    if (file >= 0 && IOC_TYPE(number) == 'b' && IOC_NR(number) == 1) {
        request.size = sizeof value; /* DMA_BUF_SET_NAME: the address of the name is the argument */
        return ask(to, &request, &value, NULL, 0, file, &answer, NULL);
    }
    const void *in = IOC_WRITES(number) || !request.size ? argument : zeros;
    return ask(to, &request, in, argument, back, file, &answer, NULL);
}

/* An ioctl of a dma_buf or a sync file. Returns -ENOTTY if the file is none of the board's. */
static __attribute__((noinline)) int file_ioctl(int fd, uint32_t number, void *argument) {
    char path[PATH_MAX];
    int before = errno, code = -ENOTTY;
    if (REAL(fcntl)(fd, F_GETFD) >= 0 && board.length + sizeof "/files" < sizeof path) {
        strcpy(stpcpy(path, root()), "/files");
        int files = connected(path, SOCK_CLOEXEC);
        if (files >= 0) {
            code = request_ioctl(files, number, argument, fd);
            REAL(close)(files);
        }
    }
    errno = before;
    return code;
}

static int requested(int fd, ioctl_number given, void *argument) {
    uint32_t number = (uint32_t)given, group = IOC_TYPE(number);
    if (!root())
        return REAL(ioctl)(fd, given, argument);
    if (is_node(fd)) {
        if (is_general(number))
            return REAL(ioctl)(fd, given, argument);
        return failed(request_ioctl(fd, number, argument, -1));
    }
    if (group == 'b' || group == '>') {
        int code = file_ioctl(fd, number, argument);
        if (code != -ENOTTY)
            return failed(code);
    }
    return REAL(ioctl)(fd, given, argument);
}

int ioctl(int fd, ioctl_number number, ...) {
    va_list rest;
    va_start(rest, number);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    return requested(fd, number, argument);
}

/* Ask for the memory behind an offset. Returns a descriptor, or a negative errno. */
static int node_memory(int node, size_t size, uint64_t offset, uint64_t *start) {
    struct request request = {.op = OP_MMAP, .number = offset, .size = size};
    struct answer answer;
    struct rlimit before;
    int memory = -1, code = ask(node, &request, NULL, NULL, 0, -1, &answer, &memory);
    if (code == -EMFILE && raise_limit(&before)) { /* a real mmap needs no further descriptor */
        code = ask(node, &request, NULL, NULL, 0, -1, &answer, &memory);
        setrlimit(RLIMIT_NOFILE, &before);
    }
    if (code < 0)
        return code;
    *start = answer.address;
    return memory < 0 ? -ENODEV : memory;
}

/* Map an open node. Ref: Linux, mm/mmap.c (do_mmap: what the access mode allows),
 * drivers/gpu/drm/drm_gem_shmem_helper.c (private mappings are refused). */
static void *map_node(void *at, size_t size, int protection, int flags, int node,
                      uint64_t offset) {
    int mode = access_mode(node), shared = (flags & MAP_TYPE) != MAP_PRIVATE, code = 0;
    uint64_t start;
    if (!size || offset & (uint64_t)(sysconf(_SC_PAGESIZE) - 1))
        code = -EINVAL;
    else if (mode == WRITE_ONLY || mode == NEITHER ||
             (mode == READ_ONLY && shared && protection & PROT_WRITE))
        code = -EACCES;
    else if (!shared)
        code = -EINVAL;
    else
        code = node_memory(node, size, offset, &start);
    if (code < 0) {
        errno = -code;
        return MAP_FAILED;
    }
    void *found = REAL(mmap)(at, size, protection, flags, code, (off_t)start);
    int before = errno;
    REAL(close)(code);
    errno = before;
    return found;
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
    if (flags & MAP_ANONYMOUS || !is_node(fd))
        return REAL(mmap)(at, size, protection, flags, fd, offset);
    return map_node(at, size, protection, flags, fd, (uint64_t)offset);
}

#define FCNTL(name)                                                                              \
    int name(int fd, int command, ...) {                                                         \
        va_list rest;                                                                            \
        va_start(rest, command);                                                                 \
        void *argument = va_arg(rest, void *);                                                   \
        va_end(rest);                                                                            \
        int code = REAL(name)(fd, command, argument);                                            \
        if (command == F_GETFL && code >= 0 && !(code & O_PATH) && is_node(fd))            \
            code = (code & ~O_ACCMODE) | access_flags[access_mode(fd)];                          \
        return code;                                                                             \
    }
FCNTL(fcntl)

/* A node has no position: every seek ends at 0. Ref: Linux, fs/read_write.c (noop_llseek). */
off_t lseek(int fd, off_t offset, int whence) {
    int before = errno;
    off_t found = REAL(lseek)(fd, offset, whence);
    if (found < 0 && errno == ESPIPE && is_node(fd)) {
        errno = before;
        found = 0;
    }
    return found;
}

/* A node is never ready to be written. Ref: Linux, drivers/gpu/drm/drm_file.c (drm_poll). */
enum { WRITABLE = POLLOUT | POLLWRNORM | POLLWRBAND };

static int waits_to_write(const struct pollfd *files, nfds_t count) {
    if (!root() || count > LARGEST / sizeof *files)
        return 0;
    for (nfds_t i = 0; i < count; i++)
        if (files[i].events & WRITABLE && is_node(files[i].fd))
            return 1;
    return 0;
}

/* Copy what is polled, without asking of nodes whether they can be written. */
static void unwritable(const struct pollfd *files, nfds_t count, struct pollfd *copy) {
    for (nfds_t i = 0; i < count; i++) {
        copy[i] = files[i];
        if (files[i].events & WRITABLE && is_node(files[i].fd))
            copy[i].events &= (short)~WRITABLE;
    }
}

#define POLLED(call)                                                                             \
    do {                                                                                         \
        struct pollfd *polled = files;                                                           \
        if (waits_to_write(files, count)) {                                                      \
            polled = alloca(count * sizeof *files);                                              \
            unwritable(files, count, polled);                                                    \
        }                                                                                        \
        int code = call;                                                                         \
        for (nfds_t i = 0; polled != files && i < count; i++)                                    \
            files[i].revents = polled[i].revents;                                                \
        return code;                                                                             \
    } while (0)

int poll(struct pollfd *files, nfds_t count, int timeout) {
    POLLED(REAL(poll)(polled, count, timeout));
}

int ppoll(struct pollfd *files, nfds_t count, const struct timespec *timeout,
          const sigset_t *signals) {
    POLLED(REAL(ppoll)(polled, count, timeout, signals));
}

int epoll_ctl(int epoll, int order, int fd, struct epoll_event *event) {
    struct epoll_event other;
    if (event && event->events & WRITABLE && order != EPOLL_CTL_DEL && is_node(fd)) {
        other = *event;
        other.events &= ~(uint32_t)WRITABLE;
        event = &other;
    }
    return REAL(epoll_ctl)(epoll, order, fd, event);
}

/* Programs that make system calls by number, for those that matter here. */
long syscall(long number, ...) {
    long a[6];
    va_list rest;
    va_start(rest, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(rest, long);
    va_end(rest);
    int fd = (int)a[0];
    void *second = (void *)a[1], *third = (void *)a[2];
    switch (root() ? number : -1) {
#ifdef SYS_open
    case SYS_open:
        return opened(AT_FDCWD, (const char *)a[0], (int)a[1], (mode_t)a[2]);
#endif
    case SYS_openat:
        return opened(fd, second, (int)a[2], (mode_t)a[3]);
    case SYS_ioctl:
        return requested(fd, (ioctl_number)a[1], third);
    case SYS_mmap:
        return (long)mmap((void *)a[0], (size_t)a[1], (int)a[2], (int)a[3], (int)a[4], a[5]);
    case SYS_fstat:
        return fstat(fd, second);
#ifdef SYS_newfstatat
    case SYS_newfstatat:
        return fstatat(fd, second, third, (int)a[3]);
#endif
#ifdef STATX_BASIC_STATS
    case SYS_statx:
        return statx(fd, second, (int)a[2], (unsigned)a[3], (struct statx *)a[4]);
#endif
    case SYS_readlinkat:
        return readlinkat(fd, second, third, (size_t)a[3]);
    case SYS_faccessat:
        return accessible(fd, second, (int)a[2], 0);
#ifdef SYS_faccessat2
    case SYS_faccessat2:
        return accessible(fd, second, (int)a[2], (int)a[3]);
#endif
    default:
        return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    }
}

/* --- further names of the same functions ---------------------------------------------------------- */

#ifdef __GLIBC__
/* Programs with 64-bit file offsets: on 64-bit machines all types are the same. */
OPEN(open64)
OPENAT(openat64)
FOPEN(fopen64)
FREOPEN(freopen64)
READDIR(readdir64, dirent64)
SCANDIR(scandir64, dirent64)
FCNTL(fcntl64)
STATFS(statfs64, fstatfs64, statfs64)
GLOB(glob64, glob64_t, dirent64, stat64)

int creat64(const char *path, mode_t mode) { return creat(path, mode); }
int stat64(const char *path, struct stat64 *found) { return stat(path, (struct stat *)found); }
int lstat64(const char *path, struct stat64 *found) { return lstat(path, (struct stat *)found); }
int fstat64(int fd, struct stat64 *found) { return fstat(fd, (struct stat *)found); }
int fstatat64(int folder, const char *path, struct stat64 *found, int flags) {
    return fstatat(folder, path, (struct stat *)found, flags);
}
int statvfs64(const char *path, struct statvfs64 *found) {
    return statvfs(path, (struct statvfs *)found);
}
int nftw64(const char *path, __nftw64_func_t call, int files, int flags) {
    return nftw(path, (tree_visit)(void (*)(void))call, files, flags);
}
int ftw64(const char *path, __ftw64_func_t call, int files) {
    return ftw(path, (old_visit)(void (*)(void))call, files);
}
void *mmap64(void *at, size_t size, int protection, int flags, int fd, off64_t offset) {
    return mmap(at, size, protection, flags, fd, offset);
}
off64_t lseek64(int fd, off64_t offset, int whence) { return lseek(fd, offset, whence); }

/* Programs that were built with a glibc before 2.33. */
int __xstat(int version, const char *path, struct stat *found) {
    return version < 0 || version > 1 ? failed(-EINVAL) : stat(path, found);
}
int __lxstat(int version, const char *path, struct stat *found) {
    return version < 0 || version > 1 ? failed(-EINVAL) : lstat(path, found);
}
int __fxstat(int version, int fd, struct stat *found) {
    return version < 0 || version > 1 ? failed(-EINVAL) : fstat(fd, found);
}
int __fxstatat(int version, int folder, const char *path, struct stat *found, int flags) {
    return version < 0 || version > 1 ? failed(-EINVAL) : fstatat(folder, path, found, flags);
}
int __xstat64(int version, const char *path, struct stat64 *found) {
    return __xstat(version, path, (struct stat *)found);
}
int __lxstat64(int version, const char *path, struct stat64 *found) {
    return __lxstat(version, path, (struct stat *)found);
}
int __fxstat64(int version, int fd, struct stat64 *found) {
    return __fxstat(version, fd, (struct stat *)found);
}
int __fxstatat64(int version, int folder, const char *path, struct stat64 *found, int flags) {
    return __fxstatat(version, folder, path, (struct stat *)found, flags);
}

/* What fortified programs call: the size of the buffer was checked against the one they ask for. */
static void check_size(int enough) {
    if (!enough)
        FUNCTION(void (*)(void), "__chk_fail", needed_symbol)();
}
int __open_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __openat_2(int folder, const char *path, int flags) { return opened(folder, path, flags, 0); }
int __openat64_2(int folder, const char *path, int flags) { return opened(folder, path, flags, 0); }
ssize_t __readlink_chk(const char *path, char *to, size_t size, size_t room) {
    check_size(size <= room);
    return readlink(path, to, size);
}
ssize_t __readlinkat_chk(int folder, const char *path, char *to, size_t size, size_t room) {
    check_size(size <= room);
    return readlinkat(folder, path, to, size);
}
char *__realpath_chk(const char *path, char *resolved, size_t room) {
    check_size(room >= PATH_MAX);
    return realpath(path, resolved);
}
char *__getcwd_chk(char *space, size_t size, size_t room) {
    check_size(size <= room);
    return getcwd(space, size);
}
int __poll_chk(struct pollfd *files, nfds_t count, int timeout, size_t room) {
    check_size(room / sizeof *files >= count);
    return poll(files, count, timeout);
}
int __ppoll_chk(struct pollfd *files, nfds_t count, const struct timespec *timeout,
                const sigset_t *signals, size_t room) {
    check_size(room / sizeof *files >= count);
    return ppoll(files, count, timeout, signals);
}
#endif
