#include "proc.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static FILE *open_of(pid_t pid, const char *file) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/%s", (long)pid, file);
    return fopen(path, "re");
}

bool dt_proc_read(pid_t pid, dt_proc *out) {
    char line[1024];
    FILE *f = open_of(pid, "stat");
    const bool read = f && fgets(line, sizeof line, f);
    if (f) fclose(f);
    if (!read) return false;
    /* "pid (name) state parent ... start": a name may hold anything, the last bracket ends it. */
    char *name = strchr(line, '('), *end = strrchr(line, ')');
    if (!name || !end || end < name) return false;
    long parent;
    *end = '\0';
    *out = (dt_proc){.pid = pid};
    snprintf(out->name, sizeof out->name, "%.15s", name + 1);
    /* After the parent's come 17 numbers that do not matter here. */
    if (sscanf(end + 1,
               " %c %ld %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %" SCNu64,
               &out->state, &parent, &out->start) != 3)
        return false;
    out->parent = (pid_t)parent;
    return true;
}

int dt_proc_children(pid_t parent, dt_proc *out, int max) {
    DIR *dir = opendir("/proc");
    int n = 0;
    if (!dir) return 0;
    for (struct dirent *e; n < max && (e = readdir(dir)) != NULL;) {
        char *end;
        const long pid = strtol(e->d_name, &end, 10);
        if (*end == '\0' && pid > 0 && dt_proc_read((pid_t)pid, &out[n]) && out[n].parent == parent) n++;
    }
    closedir(dir);
    return n;
}

void dt_proc_waits(pid_t pid, char *name, size_t name_bytes) {
    FILE *f = open_of(pid, "wchan");
    name[0] = '\0';
    if (f && (!fgets(name, (int)name_bytes, f) || strcmp(name, "0") == 0)) name[0] = '\0';
    if (f) fclose(f);
}

bool dt_proc_is_this_program(pid_t pid) {
    char path[64];
    struct stat own, its;
    snprintf(path, sizeof path, "/proc/%ld/exe", (long)pid);
    return stat("/proc/self/exe", &own) == 0 && stat(path, &its) == 0 && own.st_dev == its.st_dev &&
           own.st_ino == its.st_ino;
}

bool dt_proc_env(pid_t pid, const char *name, char *value, size_t value_bytes) {
    const size_t len = strlen(name);
    char *entry = NULL;
    size_t room = 0;
    bool found = false;
    FILE *f = open_of(pid, "environ");
    while (f && !found && getdelim(&entry, &room, '\0', f) > 0) {
        found = strncmp(entry, name, len) == 0 && entry[len] == '=';
        if (found) snprintf(value, value_bytes, "%s", entry + len + 1);
    }
    free(entry);
    if (f) fclose(f);
    return found;
}
