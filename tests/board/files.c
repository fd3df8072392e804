/* ioctls of files that are no nodes, and descriptors that go to the board and come from it. */
#include "check.h"

int main(void) {
    int node = open(NODE, O_RDWR | O_CLOEXEC);
    struct file made = {.value = 12345}, asked = {0};
    struct stat found;
    CHECK(node >= 0);

    CHECK(ioctl(node, T_GIVE, &made) == 0);
    CHECK(fcntl(made.fd, F_GETFD) & FD_CLOEXEC);
    CHECK(fstat(made.fd, &found) == 0 && found.st_size == 12345);
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, made.fd, 0) != MAP_FAILED);

    asked.fd = made.fd;
    CHECK(ioctl(node, T_TAKE, &asked) == 0 && asked.value == 12345);
    asked.fd = 99;
    FAILS(ioctl(node, T_TAKE, &asked), EBADF);
    asked.fd = -1;
    FAILS(ioctl(node, T_TAKE, &asked), EBADF);

    CHECK(ioctl(made.fd, BUF_ASK, &asked) == 0 && asked.value == 12345);
    CHECK(ioctl(made.fd, SYNC_ASK, &asked) == 0 && asked.value == 12346);
    int copy = dup(made.fd);
    close(node);
    close(made.fd);
    CHECK(ioctl(copy, BUF_ASK, &asked) == 0 && asked.value == 12345);
    FAILS(ioctl(copy, BUF_ASK, NULL), EFAULT);
    EMULATED_FAILS(ioctl(made.fd, BUF_ASK, &asked), EBADF);

    FILE *other = tmpfile(); /* a file that the board did not make: its own kernel answers */
    EMULATED_FAILS(ioctl(fileno(other), BUF_ASK, &asked), ENOTTY);
    EMULATED_FAILS(ioctl(fileno(other), SYNC_ASK, &asked), ENOTTY);
    errno = 77;
    CHECK(ioctl(copy, BUF_ASK, &asked) == 0 && errno == 77);
    return DONE;
}
