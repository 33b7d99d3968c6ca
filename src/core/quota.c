/* Finds this process' control groups in /proc/self/cgroup, their folders through /proc/self/mountinfo, and
 * reads the quota of each folder up to the mount point. */
#include "core/quota.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct version {
    const char *fs_type;
    const char *controller;     /* of version 1; NULL: version 2, where all are in one tree */
    const char *quota, *period; /* files of one number each; period NULL: in the same file */
    int64_t (*read)(const char *dir, const struct version *v);
} version;

/* Whether a list of words between commas has this one. */
static bool has_word(const char *list, const char *word) {
    const size_t n = strlen(word);
    for (const char *at = list; at; at = strchr(at, ','), at = at ? at + 1 : NULL)
        if (strncmp(at, word, n) == 0 && (at[n] == ',' || at[n] == '\0')) return true;
    return false;
}

/* The first whole number above 0 of `text`, and what follows; 0 where there is none. */
static long long positive(const char *text, const char **rest) {
    char *end;
    errno = 0;
    const long long v = strtoll(text, &end, 10);
    *rest = end;
    const bool whole = end != text && (*end == ' ' || *end == '\n' || *end == '\0');
    return whole && errno == 0 && v > 0 ? v : 0;
}

/* The first line of dir/name; false: there is none. */
static bool first_line(const char *dir, const char *name, char line[64]) {
    char path[PATH_MAX];
    const int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = n > 0 && n < (int)sizeof path ? fopen(path, "re") : NULL;
    if (!f) return false;
    const bool got = fgets(line, 64, f) != NULL;
    fclose(f);
    return got;
}

/* CPUs of one group's own quota; 0: none. */
static int64_t cpus_of(const char *dir, const version *v) {
    char text[64];
    const char *rest;
    if (!first_line(dir, v->quota, text)) return 0;
    const long long quota = positive(text, &rest); /* "max" and -1: no quota */
    if (quota == 0 || (v->period && !first_line(dir, v->period, text))) return 0;
    const long long period = positive(v->period ? text : rest, &rest);
    return period > 0 ? quota / period + (quota % period != 0) : 0;
}

/* Bytes of one group's own limit; 0: none. */
static int64_t bytes_of(const char *dir, const version *v) {
    char text[64];
    const char *rest;
    return first_line(dir, v->quota, text) ? positive(text, &rest) : 0; /* "max": no limit */
}

static const version cpu_version[] = {{"cgroup", "cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us", cpus_of},
                                      {"cgroup2", NULL, "cpu.max", NULL, cpus_of}},
                     memory_version[] = {{"cgroup", "memory", "memory.limit_in_bytes", NULL, bytes_of},
                                         {"cgroup2", NULL, "memory.max", NULL, bytes_of}};

static void take_tighter(int64_t *least, int64_t other) {
    if (other > 0 && (*least == 0 || other < *least)) *least = other;
}

/* The part of `group` below `mounted`, the group that a mount shows at its mount point: "" where it shows
 * another part of the tree (then its own quota is all there is to read). */
static const char *below(const char *group, const char *mounted) {
    const size_t n = strcmp(mounted, "/") == 0 ? 0 : strlen(mounted);
    const bool inside = strncmp(group, mounted, n) == 0 && (group[n] == '/' || group[n] == '\0');
    return inside && !strstr(group, "/..") ? group + n : "";
}

static int64_t walk(const char *root, const char *mount_point, const char *rest, const version *v) {
    char dir[PATH_MAX];
    int64_t least = 0;
    const int n = snprintf(dir, sizeof dir, "%s%s%s", root, mount_point, rest);
    if (n < 0 || n >= (int)sizeof dir) return 0;
    const size_t top = strlen(root) + strlen(mount_point);
    for (char *end = dir + n; end; end = strrchr(dir + top, '/')) {
        *end = '\0';
        take_tighter(&least, v->read(dir, v));
    }
    return least;
}

/* This process' group in a hierarchy; false: it is in none. Lines are "ID:CONTROLLERS:GROUP", version 2 is
 * "0::". */
static bool find_group(const char *root, const version *v, char **line, size_t *room, char **group) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *f = fopen(path, "re");
    *group = NULL;
    while (f && !*group && getline(line, room, f) > 0) {
        char *controllers = strchr(*line, ':'), *at = controllers ? strchr(++controllers, ':') : NULL;
        if (!at) continue;
        *at++ = '\0';
        if (v->controller ? !has_word(controllers, v->controller) : *controllers != '\0') continue;
        at[strcspn(at, "\n")] = '\0';
        *group = at;
    }
    if (f) fclose(f);
    return *group != NULL;
}

/* The kernel writes blanks in paths as \040. */
static void unescape(char *text) {
    char *to = text;
    for (const char *from = text; *from; to++) {
        char octal[4] = "";
        if (*from == '\\') strncpy(octal, from + 1, 3);
        if (strlen(octal) == 3 && strspn(octal, "01234567") == 3) {
            *to = (char)strtol(octal, NULL, 8);
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

/* A line of mountinfo: "ID PARENT DEVICE MOUNTED MOUNT-POINT OPTIONS [...] - TYPE SOURCE OPTIONS". False: no
 * mount of this version that has the controller. */
static bool parse_mount(char *line, const version *v, char **mounted, char **mount_point) {
    char *tail = strstr(line, " - "), *at, *word[5], *last[3];
    if (!tail) return false;
    *tail = '\0';
    for (int i = 0; i < 5; i++)
        if (!(word[i] = strtok_r(i ? NULL : line, " ", &at))) return false;
    for (int i = 0; i < 3; i++)
        if (!(last[i] = strtok_r(i ? NULL : tail + 3, " \n", &at))) return false;
    if (strcmp(last[0], v->fs_type) != 0 || (v->controller && !has_word(last[2], v->controller)))
        return false;
    unescape(*mounted = word[3]);
    unescape(*mount_point = word[4]);
    return true;
}

static int64_t quota_of(const char *root, const version *v) {
    char path[PATH_MAX], *group_line = NULL, *line = NULL, *group, *mounted, *mount_point;
    size_t group_room = 0, room = 0;
    int64_t least = 0;
    snprintf(path, sizeof path, "%s/proc/self/mountinfo", root);
    FILE *f = find_group(root, v, &group_line, &group_room, &group) ? fopen(path, "re") : NULL;
    while (f && getline(&line, &room, f) > 0)
        if (parse_mount(line, v, &mounted, &mount_point))
            take_tighter(&least, walk(root, mount_point, below(group, mounted), v));
    if (f) fclose(f);
    free(line), free(group_line);
    return least;
}

int64_t dt_quota_cpus(const char *root) {
    int64_t cpus = quota_of(root, &cpu_version[0]);
    take_tighter(&cpus, quota_of(root, &cpu_version[1]));
    return cpus;
}

int64_t dt_quota_memory(const char *root) {
    int64_t bytes = quota_of(root, &memory_version[0]);
    take_tighter(&bytes, quota_of(root, &memory_version[1]));
    return bytes;
}

int64_t dt_memory_part(int64_t most, double part) {
    int64_t bytes = dt_quota_memory("");
    take_tighter(&bytes, (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE));
    const int64_t share = (int64_t)((double)bytes * part);
    return bytes > 0 && share < most ? share : most;
}
