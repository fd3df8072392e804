/* What still works when a program has no descriptor left, and when the board ends. */
#include "check.h"
#include <sys/resource.h>

static int fill(int *files) {
    int count = 0;
    while (count < 200 && (files[count] = open("/dev/null", O_RDONLY)) >= 0)
        count++;
    CHECK(errno == EMFILE);
    return count;
}

static void no_files(int node, int given) {
    int files[200], count = fill(files);
    struct rlimit before, after;
    struct file file = {1, 2}, taken = {.fd = given}, made = {.value = 10};
    struct stat found;
    getrlimit(RLIMIT_NOFILE, &before);
    CHECK(ioctl(node, T_ADD, &file) == 0 && file.value == 3);
    CHECK(ioctl(node, T_TAKE, &taken) == 0 && taken.value == 4321);
    void *memory = mmap(NULL, 4096, PROT_READ, MAP_SHARED, node, 0);
    CHECK(memory != MAP_FAILED && *(char *)memory == 1);
    CHECK(fstat(node, &found) == 0 && S_ISCHR(found.st_mode));
    FAILS(open(NODE, O_RDWR), EMFILE);
    FAILS(ioctl(node, T_GIVE, &made), EMFILE);
    getrlimit(RLIMIT_NOFILE, &after);
    CHECK(before.rlim_cur == after.rlim_cur);
    FAILS(open("/dev/null", O_RDONLY), EMFILE);
    while (count--)
        close(files[count]);
    int again = open(NODE, O_RDWR);
    CHECK(again >= 0 && ioctl(node, T_GIVE, &made) == 0);
    CHECK(close(again) == 0 && close(made.fd) == 0);
}

int main(int count, char **words) {
    struct rlimit few = {40, 100};
    struct stat found;
    int node = open(NODE, O_RDWR);
    struct file made = {.value = 4321};
    CHECK(ioctl(node, T_GIVE, &made) == 0);
    setrlimit(RLIMIT_NOFILE, &few);
    if (count == 1) {
        no_files(node, made.fd);
        return DONE;
    }
    unsigned char *memory = mmap(NULL, 4096, PROT_READ, MAP_SHARED, node, 0);
    int hidden = open(NODE, O_PATH);
    if (!strcmp(words[1], "within")) { /* the board is killed while it answers */
        FAILS(ioctl(node, T_DIE), ENODEV);
    } else {
        puts("ready");
        fflush(stdout);
        CHECK(getchar() == '\n'); /* the board was killed meanwhile */
    }
    FAILS(ioctl(node, T_NONE), ENODEV);
    FAILS(mmap(NULL, 4096, PROT_READ, MAP_SHARED, node, 0), ENODEV);
    FAILS(open(NODE, O_RDWR), ENODEV);
    CHECK(fstat(node, &found) == 0 && S_ISCHR(found.st_mode) && found.st_rdev == 0xe280);
    CHECK(memory[0] == 1); /* stays mapped */
    FAILS(ioctl(made.fd, BUF_ASK, &made), ENOTTY);
    CHECK(close(node) == 0 && close(hidden) == 0);
    return DONE;
}
