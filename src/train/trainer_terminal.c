/* What is at the other end of the launcher.
 *
 * Whether a person watches this rank's output: mpirun gives every rank a pseudo-terminal, whatever its own
 * output is, so where a launcher started the rank, the launcher's output is what counts. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "trainer_internal.h"

bool dt_trainer_terminal(void) {
    if (!isatty(STDOUT_FILENO)) return false;
    if (!getenv("OMPI_COMM_WORLD_RANK")) return true;
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/fd/1", (long)getppid());
    int fd = open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) return false;
    bool terminal = isatty(fd) != 0;
    struct winsize size;
    /* The rank's own terminal has no size yet. */
    if (terminal && ioctl(fd, TIOCGWINSZ, &size) == 0) ioctl(STDOUT_FILENO, TIOCSWINSZ, &size);
    close(fd);
    return terminal;
}

/* Whether mpirun can be reached by its terminal's end: it belongs to one. */
static bool launcher_has_terminal(void) {
    char path[64], text[512];
    int tty = 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)getppid());
    FILE *f = fopen(path, "re");
    if (!f) return false;
    const size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    const char *at = strrchr(text, ')'); /* a program's name may hold anything */
    return at && sscanf(at, ") %*c %*d %*d %*d %d", &tty) == 1 && tty != 0;
}

/* nohup leaves two traces: output in nohup.out, and an input that can only be written. */
static bool launcher_under_nohup(void) {
    char path[64], target[4096], line[64];
    unsigned flags = 0;
    snprintf(path, sizeof path, "/proc/%ld/fd/1", (long)getppid());
    ssize_t n = readlink(path, target, sizeof target - 1);
    target[n > 0 ? n : 0] = '\0';
    const char *name = strrchr(target, '/');
    if (name && strcmp(name, "/nohup.out") == 0) return true;
    snprintf(path, sizeof path, "/proc/%ld/fdinfo/0", (long)getppid());
    FILE *f = fopen(path, "re");
    if (!f) return false;
    while (fgets(line, sizeof line, f) && sscanf(line, "flags: %o", &flags) != 1) {
    }
    fclose(f);
    return (flags & O_ACCMODE) == O_WRONLY;
}

bool dt_trainer_nohup_in_vain(void) {
    return getenv("OMPI_COMM_WORLD_RANK") && launcher_has_terminal() && launcher_under_nohup();
}
