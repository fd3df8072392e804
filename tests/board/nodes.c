/* What is done with an open node: requests, mappings, copies, flags. */
#include "check.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>

static long page;

static void requests(int node) {
    struct file file = {3, 4}, *readable;
    struct memory memory;
    unsigned char bytes[200000], *large = calloc(1, sizeof(struct large));
    CHECK(ioctl(node, T_ADD, &file) == 0 && file.value == 7 && file.fd == 3);
    CHECK(ioctl(node, T_NONE) == 5);
    CHECK(ioctl(node, T_OUT, &file) == 0 && file.value == 11);
    file.fd = 3;
#ifdef __GLIBC__ /* musl's ioctl takes an int; who passes it on as a long extends its sign */
    CHECK(ioctl(node, (unsigned long)(int)T_ADD, &file) == 0 && file.value == 11 + 3);
    file.value = 11;
#endif
    FAILS(ioctl(node, T_ADD, NULL), EFAULT);
    FAILS(ioctl(node, T_ADD, (void *)16), EFAULT);
    FAILS(ioctl(node, T_OUT, NULL), EFAULT);
    readable = mmap(NULL, (size_t)page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    FAILS(ioctl(node, T_ADD, readable), EFAULT);
    FAILS(ioctl(node, T_OUT, readable), EFAULT);
    FAILS(ioctl(node, _IO('t', 99)), ENOTTY);
    FAILS(ioctl(node, _IO('z', 1)), ENOTTY);
    int waiting;
    FAILS(ioctl(node, FIONREAD, &waiting), ENOTTY); /* a socket knows it */
    FAILS(ioctl(node, 0x8912 /* SIOCGIFCONF */, bytes), ENOTTY);
    CHECK(!isatty(node) && errno == ENOTTY);

    memset(bytes, 1, sizeof bytes);
    memory = (struct memory){(uintptr_t)bytes, sizeof bytes};
    CHECK(ioctl(node, T_READ, &memory) == 0 && memory.size == sizeof bytes);
    memory.size = sizeof bytes;
    CHECK(ioctl(node, T_WRITE, &memory) == 0 && bytes[0] == 7 && bytes[sizeof bytes - 1] == 7);
    memory = (struct memory){16, 100};
    FAILS(ioctl(node, T_READ, &memory), EFAULT);
    FAILS(ioctl(node, T_WRITE, &memory), EFAULT);
    memory = (struct memory){(uintptr_t)readable, 100};
    FAILS(ioctl(node, T_WRITE, &memory), EFAULT);

    large[16382] = 9;
    CHECK(ioctl(node, T_LARGE, large) == 0 && large[0] == 1 && large[16382] == 10);
    free(large);
}

static void mappings(int node) {
    unsigned char *all = mmap(NULL, 4 * (size_t)page, PROT_READ | PROT_WRITE, MAP_SHARED, node, 0);
    unsigned char *third = mmap(NULL, (size_t)page, PROT_READ, MAP_SHARED, node, 2 * page);
    unsigned char *bytes = mmap(NULL, 100, PROT_READ, MAP_SHARED, node, 3 * page);
    CHECK(all != MAP_FAILED && all[0] == 1 && all[3 * page] == 4);
    CHECK(third != MAP_FAILED && third[0] == 3 && bytes != MAP_FAILED && bytes[page - 1] == 4);
    all[2 * page + 5] = 77;
    CHECK(third[5] == 77);
    all[2 * page + 5] = 3;
    CHECK(mmap(third, (size_t)page, PROT_READ, MAP_SHARED | MAP_FIXED, node, 0) == third);
    CHECK(third[0] == 1);
    CHECK(madvise(all, 4 * (size_t)page, MADV_DONTNEED) == 0 && all[0] == 1);
    CHECK(mprotect(all, (size_t)page, PROT_READ) == 0);
    unsigned char *moved = mremap(all, 4 * (size_t)page, 2 * (size_t)page, 0);
    CHECK(moved == all && moved[page] == 2);
    CHECK(munmap(all, 2 * (size_t)page) == 0 && munmap(third, (size_t)page) == 0);

    FAILS(mmap(NULL, (size_t)page, PROT_READ, MAP_SHARED, node, 4 * page), EINVAL);
    FAILS(mmap(NULL, (size_t)page, PROT_READ, MAP_SHARED, node, 5), EINVAL);
    FAILS(mmap(NULL, 0, PROT_READ, MAP_SHARED, node, 0), EINVAL);
    FAILS(mmap(NULL, (size_t)page, PROT_READ, MAP_PRIVATE, node, 0), EINVAL);
    CHECK(mmap(NULL, (size_t)page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, node, 0) != MAP_FAILED);

    int other = open(NODE, O_RDWR);
    all = mmap(NULL, (size_t)page, PROT_READ, MAP_SHARED, other, page);
    close(other);
    CHECK(all != MAP_FAILED && all[0] == 2); /* stays without the descriptor */
}

static void flags(int node) {
    int reads = open(NODE, O_RDONLY), writes = open(NODE, O_WRONLY), both;
    struct file file = {1, 1};
    CHECK((fcntl(node, F_GETFL) & O_ACCMODE) == O_RDWR);
    CHECK((fcntl(reads, F_GETFL) & O_ACCMODE) == O_RDONLY);
    CHECK((fcntl(dup(writes), F_GETFL) & O_ACCMODE) == O_WRONLY);
    CHECK(ioctl(reads, T_ADD, &file) == 0 && ioctl(writes, T_ADD, &file) == 0);
    CHECK(mmap(NULL, (size_t)page, PROT_READ, MAP_SHARED, reads, 0) != MAP_FAILED);
    FAILS(mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE, MAP_SHARED, reads, 0), EACCES);
    FAILS(mmap(NULL, (size_t)page, PROT_WRITE, MAP_SHARED, writes, 0), EACCES);

    both = open(NODE, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    CHECK(fcntl(both, F_GETFL) & O_NONBLOCK && fcntl(both, F_GETFD) & FD_CLOEXEC);
    CHECK(ioctl(both, T_NONE) == 5);
    FAILS(read(both, &file, sizeof file), EAGAIN); /* no events */
    CHECK(!(fcntl(node, F_GETFD) & FD_CLOEXEC));
    CHECK(ioctl(node, FIOCLEX) == 0 && fcntl(node, F_GETFD) & FD_CLOEXEC);
    int on = 1;
    CHECK(ioctl(node, FIONBIO, &on) == 0 && fcntl(node, F_GETFL) & O_NONBLOCK);
    CHECK(ioctl(node, T_NONE) == 5);
    CHECK(fcntl(node, F_SETFL, 0) == 0);

    FAILS(open(NODE, O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
    FAILS(open(NODE, O_RDWR | O_DIRECTORY), ENOTDIR);
    int made = open(NODE, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(made >= 0 && ioctl(made, T_NONE) == 5);
    CHECK(lseek(node, 100, SEEK_SET) == 0 && lseek(node, 0, SEEK_CUR) == 0);
    for (int i = 0; i < 100; i++) /* what the board does not know disturbs nobody */
        (void)!write(made, "no request at all, but longer than one", 39);
    CHECK(ioctl(made, T_NONE) == 5);
    close(reads), close(writes), close(both), close(made);
}

static void waits(int node) {
    int pipes[2];
    CHECK(pipe(pipes) == 0);
    struct pollfd polled[] = {{node, POLLIN | POLLOUT, 99}, {pipes[1], POLLOUT, 0}};
    CHECK(poll(polled, 1, 10) == 0 && polled[0].revents == 0);
    CHECK(poll(polled, 2, 10) == 1 && polled[1].revents == POLLOUT && !polled[0].revents);
    CHECK(polled[0].events == (POLLIN | POLLOUT));
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT};
    CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, node, &event) == 0);
    CHECK(epoll_wait(epoll, &event, 1, 10) == 0);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(node, &set);
    struct timeval wait = {0, 1000};
    CHECK(select(node + 1, &set, NULL, NULL, &wait) == 0);
    close(epoll), close(pipes[0]), close(pipes[1]);
}

static void copies(int node) {
    int other = dup2(node, 100), third = fcntl(node, F_DUPFD_CLOEXEC, 60);
    CHECK(ioctl(other, T_NONE) == 5 && ioctl(third, T_NONE) == 5);
    close(other);
    EMULATED_FAILS(ioctl(other, T_NONE), EBADF);
    EMULATED_FAILS(ioctl(-1, T_NONE), EBADF);
    CHECK(ioctl(third, T_NONE) == 5 && close(third) == 0);
}

int main(void) {
    int node = open(NODE, O_RDWR);
    page = sysconf(_SC_PAGESIZE);
    CHECK(node >= 0);
    requests(node);
    mappings(node);
    flags(node);
    waits(node);
    copies(node);
    errno = 77;
    CHECK(ioctl(node, T_NONE) == 5 && errno == 77);
    CHECK(mmap(NULL, (size_t)page, PROT_READ, MAP_SHARED, node, 0) != MAP_FAILED && errno == 77);
    CHECK(close(open(NODE, O_RDWR)) == 0 && errno == 77);
    return DONE;
}
