/* Threads, signals, child processes and other programs with an open node. */
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

enum { THREADS = 8, ROUNDS = 200 };
static int node;
static volatile sig_atomic_t signals;
extern char **environ;

static void count_signal(int number) {
    (void)number;
    int before = errno;
    struct file file = {2, 3}; /* a handler may make requests too */
    if (ioctl(node, T_ADD, &file) || file.value != 5)
        abort();
    errno = before;
    signals++;
}

static void *many(void *first) {
    for (int i = 0; i < ROUNDS; i++) {
        struct file file = {i, *(int *)first};
        if (ioctl(node, T_ADD, &file) || file.value != *(int *)first + i)
            return first;
        if (i % 20 == 0 && close(open(NODE, O_RDWR)))
            return first;
    }
    return NULL;
}

static void threads(void) {
    pthread_t made[THREADS];
    int numbers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = 1000 * i;
        CHECK(pthread_create(&made[i], NULL, many, &numbers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *failed;
        CHECK(pthread_join(made[i], &failed) == 0 && !failed);
    }
}

static void *sleeps(void *milliseconds) {
    struct file file = {.value = *(int *)milliseconds};
    CHECK(ioctl(node, T_SLEEP, &file) == 0);
    return &node;
}

/* Requests of one file wait for each other no more than the kernel's own. */
static void at_once(void) {
    pthread_t made[40];
    struct timespec start, end;
    int wait = 200;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int i = 0; i < 40; i++)
        CHECK(pthread_create(&made[i], NULL, sleeps, &wait) == 0);
    for (int i = 0; i < 40; i++)
        pthread_join(made[i], NULL);
    clock_gettime(CLOCK_MONOTONIC, &end);
    CHECK(end.tv_sec - start.tv_sec < 5);
}

/* Signals do not end or disturb a request, whether system calls are started again or not. */
static void interrupted(int flags) {
    struct sigaction action = {.sa_handler = count_signal, .sa_flags = flags};
    struct itimerval often = {{0, 2000}, {0, 2000}}, never = {{0, 0}, {0, 0}};
    struct file file = {0, 60};
    signals = 0;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    CHECK(ioctl(node, T_SLEEP, &file) == 0 && file.value == 61);
    for (int i = 0; i < 100; i++) {
        file = (struct file){i, 1};
        CHECK(ioctl(node, T_ADD, &file) == 0 && file.value == 1 + i);
        int opened = open(NODE, O_RDWR);
        CHECK(opened >= 0 && close(opened) == 0);
        void *memory = mmap(NULL, 4096, PROT_READ, MAP_SHARED, node, 0);
        CHECK(memory != MAP_FAILED && munmap(memory, 4096) == 0);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    CHECK(signals > 5);
}

static int descriptors(void) {
    int count = 0;
    for (int i = 0; i < 256; i++)
        count += fcntl(i, F_GETFD) >= 0;
    return count;
}

/* A thread that is cancelled in a request ends after it, and leaves no descriptor behind. */
static void cancelled(void) {
    pthread_t made;
    int wait = 100, before = descriptors();
    void *result;
    CHECK(pthread_create(&made, NULL, sleeps, &wait) == 0);
    usleep(30000);
    pthread_cancel(made);
    CHECK(pthread_join(made, &result) == 0);
    CHECK(result == &node || result == PTHREAD_CANCELED);
    CHECK(descriptors() == before);
}

static int exit_code(pid_t child) {
    int status;
    return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void children(char *own) {
    char number[12];
    struct file file = {1, 1};
    pid_t child = fork();
    if (!child)
        _exit(ioctl(node, T_ADD, &file) || file.value != 2);
    CHECK(exit_code(child) == 0);

    child = vfork();
    if (!child)
        _exit(ioctl(node, T_NONE) != 5);
    CHECK(exit_code(child) == 0);

    if (EMULATED) /* it starts no programs of its own machine */
        return;
    int closed = open(NODE, O_RDWR | O_CLOEXEC);
    snprintf(number, sizeof number, "%d", node);
    char *words[] = {own, "child", number, NULL};
    CHECK(posix_spawn(&child, own, NULL, NULL, words, environ) == 0 && exit_code(child) == 0);
    snprintf(number, sizeof number, "%d", closed);
    words[1] = "closed";
    child = fork();
    if (!child) {
        execv(own, words);
        _exit(1);
    }
    CHECK(exit_code(child) == 0);
    close(closed);
}

/* The node as another process gets it: by its own descriptor, or in a message. */
static int as_child(const char *what, int fd) {
    struct stat found;
    bad = 0;
    if (!strcmp(what, "closed")) {
        FAILS(fcntl(fd, F_GETFD), EBADF);
        return bad;
    }
    CHECK(ioctl(fd, T_NONE) == 5 && fstat(fd, &found) == 0 && S_ISCHR(found.st_mode));
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED);
    return bad;
}

static void passed_on(void) {
    int pair[2];
    char byte = 0, space[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space,
                             .msg_controllen = sizeof space};
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    pid_t child = fork();
    if (!child) {
        int got = -1;
        close(node);
        if (recvmsg(pair[1], &message, 0) == 1)
            memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof got);
        _exit(got < 0 || as_child("child", got));
    }
    struct cmsghdr *control = CMSG_FIRSTHDR(&message);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(sizeof node);
    memcpy(CMSG_DATA(control), &node, sizeof node);
    CHECK(sendmsg(pair[0], &message, 0) == 1);
    CHECK(exit_code(child) == 0);
    close(pair[0]), close(pair[1]);
}

int main(int count, char **words) {
    if (count == 3)
        return as_child(words[1], atoi(words[2]));
    node = open(NODE, O_RDWR);
    CHECK(node >= 0);
    int before = descriptors();
    threads();
    at_once();
    interrupted(0);
    interrupted(SA_RESTART);
    cancelled();
    children(words[0]);
    passed_on();
    CHECK(descriptors() == before);
    return DONE;
}
