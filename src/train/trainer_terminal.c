/* Under what the launcher was started. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trainer_internal.h"

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
