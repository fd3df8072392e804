/* Every way to a path of the board: all functions that take one, from all sides. */
#include "check.h"
#include <dirent.h>
#include <dlfcn.h>
#include <ftw.h>
#include <glob.h>
#include <limits.h>
#include <sys/inotify.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#define SYSTEM "/sys/class/drm/renderD128"

static int is_device(const struct stat *found) {
    return S_ISCHR(found->st_mode) && major(found->st_rdev) == 226 &&
           minor(found->st_rdev) == 128;
}

static int opens(const char *path) {
    struct stat found;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return 0;
    int good = fstat(fd, &found) == 0 && is_device(&found);
    close(fd);
    return good;
}

static int opens_at(int folder, const char *path) {
    struct stat found, by_path;
    int fd = openat(folder, path, O_RDWR | O_CLOEXEC);
    int good = fd >= 0 && fstat(fd, &found) == 0 && is_device(&found) &&
               fstatat(folder, path, &by_path, 0) == 0 && is_device(&by_path) &&
               by_path.st_ino == found.st_ino && faccessat(folder, path, R_OK | W_OK, 0) == 0;
    close(fd);
    return good;
}

static void texts(void) {
    static const char *const good[] = {
        NODE, "/dev//dri/renderD128", "//dev/dri/renderD128", "/./dev/dri/./renderD128",
        "/dev/../dev/dri/renderD128", "/dev/dri/../dri/renderD128", "/../dev/dri/renderD128",
        "/proc/../dev/dri/renderD128", "/tmp/../dev/dri/renderD128",
        "/sys/class/drm/../../../dev/dri/renderD128", "/dev/dri/by-path/platform-npu0-render"};
    struct stat found;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!opens(good[i]) || stat(good[i], &found) || !is_device(&found)) {
            fprintf(stderr, "%s: is no node\n", good[i]);
            bad++;
        }
    FAILS(open("/dev/dri/renderD128/", O_RDWR), ENOTDIR);
    FAILS(open("/dev/dri/renderD199", O_RDWR), ENOENT);
    FAILS(stat("/dev/dri/renderD199", &found), ENOENT);
    FAILS(open("/dev/dri/by-path/platform-npu0-render", O_RDWR | O_NOFOLLOW), ELOOP);
    CHECK(lstat("/dev/dri/by-path/platform-npu0-render", &found) == 0 && S_ISLNK(found.st_mode));
    CHECK(lstat("/sys/class/drm/renderD128", &found) == 0 && S_ISLNK(found.st_mode));
    CHECK(lstat("/sys/class/drm/renderD128/", &found) == 0 && S_ISDIR(found.st_mode));
    CHECK(lstat(NODE, &found) == 0 && is_device(&found));
    CHECK(access("/dev/dri/../null", R_OK | W_OK) == 0);
    CHECK(stat("/sys/class/drm/../../kernel", &found) == 0); /* the computer's own, by the board */
    char *no_path = getenv("NO_SUCH_VARIABLE");
    FAILS(open(no_path, O_RDONLY), EFAULT);
    FAILS(access(no_path, F_OK), EFAULT);
    FAILS(open("", O_RDONLY), ENOENT);
    char *longest = malloc(2 * PATH_MAX); /* too long for the kernel, and for the shim's buffers */
    memset(longest, '/', 2 * PATH_MAX);
    strcpy(longest + 2 * PATH_MAX - sizeof NODE, NODE);
    FAILS(open(longest, O_RDWR), ENAMETOOLONG);
    CHECK(opens(longest + PATH_MAX + 1 + 600));
    FAILS(open(longest + PATH_MAX - 1, O_RDWR), ENAMETOOLONG);
    free(longest);
}

static void links(const char *folder) {
    char path[PATH_MAX], real[PATH_MAX];
    struct stat found;
    CHECK(chdir(folder) == 0);
    CHECK(symlink(NODE, "to-node") == 0 && symlink("/dev/dri", "to-folder") == 0);
    CHECK(symlink("to-folder", "to-link") == 0 && symlink("/no/such", "to-nothing") == 0);
    CHECK(opens("to-node") && opens("to-folder/renderD128") && opens("./to-link/renderD128"));
    snprintf(path, sizeof path, "%s/to-link/../dri/renderD128", folder);
    CHECK(opens(path) && stat(path, &found) == 0 && is_device(&found));
    CHECK(realpath(path, real) == real && !strcmp(real, NODE));
    CHECK(lstat("to-node", &found) == 0 && S_ISLNK(found.st_mode));
    FAILS(open("to-node", O_RDWR | O_NOFOLLOW), ELOOP);
    FAILS(open("to-nothing", O_RDWR), ENOENT);
    FAILS(stat("to-nothing/x", &found), ENOENT);
    CHECK(symlink("loop", "loop") == 0);
    FAILS(open("loop", O_RDWR), ELOOP);
    CHECK(close(open("dri", O_CREAT | O_RDWR, 0600)) == 0); /* only its name is like the board's */
    CHECK(stat("dri", &found) == 0 && S_ISREG(found.st_mode));
}

static void folders(void) {
    char path[PATH_MAX];
    int root = open("/", O_PATH), dev = open("/dev", O_RDONLY | O_DIRECTORY);
    int dri = open("/dev/dri", O_RDONLY | O_DIRECTORY), system = open("/sys", O_PATH);
    CHECK(EMULATED || opens_at(root, "dev/dri/renderD128")); /* / is the emulator's own */
    CHECK(opens_at(dev, "dri/renderD128"));
    CHECK(opens_at(dri, "renderD128") && opens_at(dri, "../dri/renderD128"));
    CHECK(opens_at(dri, "./renderD128") && opens_at(dri, NODE));
    CHECK(faccessat(dri, "../null", R_OK, 0) == 0);
    CHECK(readlinkat(system, "class/drm/renderD128", path, sizeof path) > 0);
    CHECK(faccessat(system, "kernel", R_OK, 0) == 0);
    CHECK(faccessat(system, "class/drm/renderD128/device/uevent", R_OK, 0) == 0);
    int kernel = openat(dri, "../../sys/class/drm/../../kernel", O_PATH);
    CHECK(kernel >= 0);

    DIR *listed = fdopendir(dri);
    int nodes = 0;
    for (struct dirent *entry; (entry = readdir(listed));)
        nodes += !strcmp(entry->d_name, "renderD128") && entry->d_type == DT_CHR;
    CHECK(nodes == 1);
    closedir(listed);
    struct dirent **names;
    int count = scandir("/dev/dri", &names, NULL, alphasort);
    CHECK(count >= 3);
    for (int i = 0; i < count; i++)
        CHECK(names[i]->d_type == DT_DIR || names[i]->d_type == DT_CHR);

    CHECK(chdir("/dev/dri") == 0 && opens("renderD128") && opens("../dri/renderD128"));
    CHECK(getcwd(path, sizeof path) && !strcmp(path, "/dev/dri"));
    CHECK(access("../null", R_OK) == 0);
    CHECK(chdir("..") == 0 && getcwd(path, sizeof path) && !strcmp(path, "/dev"));
    CHECK(opens("dri/renderD128"));
    CHECK(chdir(SYSTEM "/device") == 0 && access("uevent", R_OK) == 0);
    CHECK(getcwd(path, sizeof path) && !strcmp(path, "/sys/devices/platform/npu0"));
    CHECK(access("../../../class/drm/renderD128/dev", R_OK) == 0);
    CHECK(access("../../system/cpu/online", R_OK) == 0);
    CHECK(!getcwd(path, 20) && errno == ERANGE);
    CHECK(getcwd(path, sizeof "/sys/devices/platform/npu0") == path);
    CHECK(chdir("/") == 0 && opens("dev/dri/renderD128"));
    close(root), close(dev), close(system), close(kernel);
}

static int walked, walked_node;
static int visit(const char *path, const struct stat *found, int kind, struct FTW *where) {
    walked++;
    walked_node += !strcmp(path, NODE) && is_device(found) && kind == FTW_F &&
                   !strcmp(path + where->base, "renderD128");
    return 0;
}
static int visit_old(const char *path, const struct stat *found, int kind) {
    return !strcmp(path, NODE) && is_device(found) && kind == FTW_F;
}

static void readers(void) {
    static const char link[] = "../../devices/platform/npu0/drm/renderD128";
    char path[PATH_MAX], line[100], *made;
    struct statfs system;
    struct statvfs space;
    glob_t found;
    FILE *file = fopen(SYSTEM "/uevent", "r");
    CHECK(file && fgets(line, sizeof line, file) && !strcmp(line, "MAJOR=226\n"));
    CHECK((file = freopen(SYSTEM "/dev", "r", file)) && fgets(line, sizeof line, file) &&
          !strcmp(line, "226:128\n"));
    fclose(file);
    CHECK((file = fopen(NODE, "r+e")) && ioctl(fileno(file), T_NONE) == 5);
    fclose(file);

    CHECK(glob("/dev/dri/render*", 0, NULL, &found) == 0 && found.gl_pathc == 1 &&
          !strcmp(found.gl_pathv[0], NODE));
    CHECK(glob("/sys/class/drm/renderD*/dev", GLOB_APPEND, NULL, &found) == 0 &&
          found.gl_pathc == 2 && !strcmp(found.gl_pathv[1], SYSTEM "/dev"));
    CHECK(glob("/dev/nul?", GLOB_APPEND, NULL, &found) == 0 && found.gl_pathc == 3);
    CHECK(glob("/dev/dri/x*", 0, NULL, &found) == GLOB_NOMATCH);
    CHECK(glob(NODE, 0, NULL, &found) == 0);

    CHECK(nftw("/dev/dri", visit, 4, FTW_PHYS) == 0 && walked >= 2 && walked_node == 1);
    CHECK(ftw("/dev/dri", visit_old, 4) == 1);

    ssize_t length = readlink(SYSTEM, path, sizeof path);
    CHECK(length == sizeof link - 1 && !memcmp(path, link, sizeof link - 1));
    CHECK(realpath(SYSTEM "/device/subsystem", path) && !strcmp(path, "/sys/bus/platform"));
    CHECK((made = realpath(NODE, NULL)) && !strcmp(made, NODE));
    free(made);
#ifdef __GLIBC__
    CHECK((made = canonicalize_file_name("/dev/dri/../dri")) && !strcmp(made, "/dev/dri"));
    free(made);
#endif
    CHECK(statfs(SYSTEM, &system) == 0 && system.f_type == 0x62656572);
    CHECK(statvfs(NODE, &space) == 0);
    FAILS(getxattr(NODE, "user.none", path, sizeof path) == -1 ? -1 : 0, errno);
    int events = inotify_init1(IN_CLOEXEC);
    CHECK(inotify_add_watch(events, "/dev/dri", IN_CREATE) >= 0);
    close(events);
    CHECK(eaccess(NODE, R_OK | W_OK) == 0 && access(NODE, X_OK) == -1);
    CHECK(chmod(NODE, 0) == 0);
    FAILS(access(NODE, R_OK), EACCES);
    FAILS(open(NODE, O_RDWR), EACCES);
    CHECK(access(NODE, F_OK) == 0 && chmod(NODE, 0666) == 0);
}

static void descriptors(void) {
    char path[64], name[PATH_MAX] = {0};
    struct stat found, same;
    int node = open(NODE, O_RDWR), hidden = open(NODE, O_PATH), folder = open("/dev/dri", O_PATH);
    snprintf(path, sizeof path, "/proc/self/fd/%d", node);
    CHECK(readlink(path, name, sizeof name) == sizeof NODE - 1 && !strcmp(name, NODE));
    CHECK(readlink(path, name, 4) == 4 && !memcmp(name, "/dev", 4));
    CHECK(opens(path) && stat(path, &found) == 0 && is_device(&found));
    CHECK(realpath(path, name) && !strcmp(name, NODE));
    snprintf(path, sizeof path, "/dev/fd/%d", node);
    CHECK(opens(path));
    snprintf(path, sizeof path, "/proc/%d/fd/%d", getpid(), node);
    CHECK(opens(path));
    snprintf(path, sizeof path, "/proc/self/fd/%d", folder);
    CHECK(readlink(path, name, sizeof name) == 8 && !memcmp(name, "/dev/dri", 8));
    CHECK(fstat(hidden, &found) == 0 && is_device(&found));
    CHECK(fstatat(node, "", &same, AT_EMPTY_PATH) == 0 && is_device(&same));
    CHECK(same.st_ino == found.st_ino && same.st_dev == found.st_dev);
    EMULATED_FAILS(ioctl(hidden, T_NONE), EBADF);
    close(node), close(hidden), close(folder);
#ifdef STATX_BASIC_STATS
    struct statx more;
    CHECK(statx(AT_FDCWD, NODE, 0, STATX_BASIC_STATS, &more) == 0 &&
          S_ISCHR(more.stx_mode) && more.stx_rdev_major == 226 && more.stx_rdev_minor == 128);
    node = open(NODE, O_RDWR);
    CHECK(statx(node, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &more) == 0 &&
          S_ISCHR(more.stx_mode) && more.stx_ino == found.st_ino);
    close(node);
#endif
}

/* System calls by number, and what programs built with old C libraries or fortified ones call. */
static void other_names(void) {
    struct stat found;
    char path[PATH_MAX];
    int node = (int)syscall(SYS_openat, AT_FDCWD, NODE, O_RDWR | O_CLOEXEC);
    CHECK(node >= 0 && syscall(SYS_ioctl, node, T_NONE) == 5);
    CHECK(syscall(SYS_fstat, node, &found) == 0 && is_device(&found));
    char *memory = (char *)syscall(SYS_mmap, NULL, 4096L, (long)PROT_READ, (long)MAP_SHARED,
                                   (long)node, 0L);
    CHECK(memory != MAP_FAILED && memory[0] == 1);
    CHECK(syscall(SYS_getpid) == getpid());
#ifdef __GLIBC__
    int (*xstat)(int, const char *, void *) = dlsym(RTLD_DEFAULT, "__xstat64");
    int (*fxstat)(int, int, void *) = dlsym(RTLD_DEFAULT, "__fxstat");
    int (*fxstatat)(int, int, const char *, void *, int) = dlsym(RTLD_DEFAULT, "__fxstatat64");
    int (*open_2)(const char *, int) = dlsym(RTLD_DEFAULT, "__open64_2");
    char *(*realpath_chk)(const char *, char *, size_t) = dlsym(RTLD_DEFAULT, "__realpath_chk");
    CHECK(xstat(1, NODE, &found) == 0 && is_device(&found));
    CHECK(fxstat(1, node, &found) == 0 && is_device(&found));
    CHECK(fxstatat(1, AT_FDCWD, NODE, &found, 0) == 0 && is_device(&found));
    CHECK(realpath_chk(NODE, path, sizeof path) == path);
    CHECK(close(open_2(NODE, O_RDWR)) == 0);
#endif
    (void)path;
    close(node);
}

int main(int count, char **words) {
    (void)count;
    texts();
    links(words[1]);
    folders();
    readers();
    descriptors();
    other_names();
    errno = 77;
    CHECK(opens("/dev/../dev/dri/renderD128") && access(NODE, R_OK) == 0 && errno == 77);
    return DONE;
}
