/* Asks the first node for its version, prints it; with an argument it writes behind its memory. */
#include "check.h"
#include <dirent.h>

struct version {
    int numbers[3];
    size_t name_size;
    char *name;
    size_t date_size;
    char *date;
    size_t about_size;
    char *about;
};

int main(int count, char **words) {
    static const char *const nodes[] = {"/dev/accel/accel0", NODE};
    char name[32] = {0};
    struct version version = {.name_size = sizeof name - 1, .name = name};
    struct stat found = {0};
    int node = -1;
    for (int i = 0; node < 0 && i < 2; i++)
        node = open(nodes[i], O_RDWR | O_CLOEXEC);
    if (node < 0) {
        perror("open");
        return 1;
    }
    CHECK(ioctl(node, _IOWR('d', 0, struct version), &version) == 0);
    CHECK(fstat(node, &found) == 0 && S_ISCHR(found.st_mode));
    printf("%s %x\n", name, (unsigned)found.st_rdev);
    if (count > 1) {
        volatile char *memory = malloc(4);
        memory[strlen(words[1]) + 4] = 1;
    }
    return bad;
}
