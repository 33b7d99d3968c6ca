/* Whether a person watches this rank's output. mpirun gives every rank a pseudo-terminal, whatever its own
 * output is, so where a launcher started the rank, the launcher's output is what counts. */
#include <fcntl.h>
#include <stdlib.h>
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
