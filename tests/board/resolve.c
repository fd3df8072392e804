/* Says where each path from its input leads: `errno path`, by realpath, stat and open. The first
 * argument is the working folder. */
#include "check.h"
#include <limits.h>

int main(int count, char **words) {
    char path[PATH_MAX], real[PATH_MAX];
    struct stat found, opened;
    if (count != 2 || chdir(words[1]))
        return 1;
    while (fgets(path, sizeof path, stdin)) {
        path[strcspn(path, "\n")] = 0;
        int code = realpath(path, real) ? 0 : errno;
        int status = stat(path, &found) ? errno : 0;
        int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        int same = fd < 0 ? errno == code : !fstat(fd, &opened) && opened.st_ino == found.st_ino &&
                                                opened.st_rdev == found.st_rdev;
        printf("%d %d %d %s\n", code, status, same, code ? "" : real);
        if (fd >= 0)
            close(fd);
    }
    return 0;
}
