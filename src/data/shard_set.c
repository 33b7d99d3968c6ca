/* Finding the shards of a set, and that they are those of its index, before HDF5 sees any of them. */
#include "shard_set.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "files.h"

enum { SPARE_FILES = 128 }; /* descriptors left to the rest of the program */

/* Shards named "-of-N" must all be there, also where no index says so. */
static dt_status check_complete(const char *path, const dt_names *names) {
    int64_t i, n_shards;
    for (int64_t k = 0; k < names->n; k++) {
        if (!dt_shard_name_parse(names->name[k], &i, &n_shards)) continue;
        if (n_shards != names->n || i != k)
            return dt_fail(
                DT_ERR_DATA,
                "%s: %lld shard files, but %s is one of %lld: the import was not finished (run it again) "
                "or files are missing",
                path, (long long)names->n, names->name[k], (long long)n_shards);
    }
    return DT_OK;
}

/* All but the samples is hashed before HDF5 parses it, which a flipped bit could crash or hang; the samples
 * have checksums of their own (data.verify). */
static dt_status check_file(const char *path, const dt_index_shard *row) {
    char *file;
    uint64_t hash = 0;
    int64_t n_bytes = 0;
    if (asprintf(&file, "%s/%s", path, row->file) < 0)
        return dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
    dt_status status = dt_file_hash(file, row->n_data, row->data, &hash, &n_bytes);
    if (status != DT_OK)
        dt_error_context("listed in " DT_INDEX_NAME);
    else if (n_bytes != row->n_bytes)
        status = dt_fail(DT_ERR_DATA, "%s: %lld bytes, but " DT_INDEX_NAME " says %lld (import it again)",
                         file, (long long)n_bytes, (long long)row->n_bytes);
    else if (hash != row->structure_xxh3)
        status = dt_fail(
            DT_ERR_DATA,
            "%s: damaged: its structure differs from what " DT_INDEX_NAME " says (import it again)", file);
    free(file);
    return status;
}

/* Before any shard is opened. `index` is empty where there is none. */
static dt_status check_index(const char *path, const dt_names *names, dt_index *index) {
    bool found;
    DT_TRY(dt_index_read(path, index, &found));
    if (!found) return check_complete(path, names);
    if (index->n_shards != names->n)
        return dt_fail(DT_ERR_DATA, "%s: %lld shard files, but " DT_INDEX_NAME " lists %lld", path,
                       (long long)names->n, (long long)index->n_shards);
    for (int64_t i = 0; i < index->n_shards; i++) {
        DT_TRY(check_file(path, &index->shard[i]));
        if (strcmp(index->shard[i].file, names->name[i]) != 0)
            return dt_fail(DT_ERR_DATA, "%s: " DT_INDEX_NAME " lists %s in the place of %s", path,
                           index->shard[i].file, names->name[i]);
    }
    return DT_OK;
}

/* The same for one shard, where the directory that it lies in has an index which lists it. */
static dt_status check_alone(const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    dt_index index = {0};
    bool found;
    if (!dt_shard_name_is(name)) return DT_OK;
    char *dir = slash ? strndup(path, slash > path ? (size_t)(slash - path) : 1) : strdup(".");
    if (!dir) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
    dt_status status = dt_index_read(dir, &index, &found);
    for (int64_t i = 0; status == DT_OK && i < index.n_shards; i++)
        if (strcmp(index.shard[i].file, name) == 0) status = check_file(dir, &index.shard[i]);
    dt_index_free(&index);
    free(dir);
    return status;
}

/* A descriptor per shard stays open: raises the soft limit by as many, for what it allowed may be in use. */
static dt_status allow_files(const char *path, int64_t n) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return DT_OK;
    if (limit.rlim_max < (rlim_t)(n + SPARE_FILES))
        return dt_fail(DT_ERR_DATA, "%s: %lld shards need more open files than allowed (ulimit -Hn %lld)",
                       path, (long long)n, (long long)limit.rlim_max);
    limit.rlim_cur =
        limit.rlim_max - limit.rlim_cur < (rlim_t)n ? limit.rlim_max : limit.rlim_cur + (rlim_t)n;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0) return DT_OK;
    return dt_fail(DT_ERR_DATA, "%s: cannot allow %lld open files: %s", path, (long long)limit.rlim_cur,
                   strerror(errno));
}

static bool holds_shards(const char *dir, const char *name) {
    char *path;
    dt_names shards = {0};
    if (asprintf(&path, "%s/%s", dir, name) < 0) return false;
    const bool holds = dt_dir_list(path, dt_shard_name_is, &shards) == DT_OK && shards.n > 0;
    dt_names_free(&shards);
    free(path);
    return holds;
}

void dt_shard_set_hint(const char *path, char out[DT_SHARD_HINT_BYTES]) {
    enum { SHOWN_MAX = 4 };
    dt_names names = {0};
    char shown[DT_SHARD_HINT_BYTES - 96] = "";
    int n = 0;
    *out = 0;
    if (dt_dir_list(path, dt_name_is_visible, &names) != DT_OK) return;
    for (int64_t i = 0; i < names.n && n < SHOWN_MAX; i++) {
        const size_t at = strlen(shown), more = strlen(names.name[i]) + 2;
        if (at + more >= sizeof shown || !holds_shards(path, names.name[i])) continue;
        snprintf(shown + at, sizeof shown - at, "%s%s", n++ ? ", " : "", names.name[i]);
    }
    if (n > 0)
        snprintf(out, DT_SHARD_HINT_BYTES,
                 n == 1 ? ", but %s in it is a data set: name that"
                        : ", but %s in it are data sets: name one of them",
                 shown);
    dt_names_free(&names);
}

static dt_status no_shards(const char *path) {
    char hint[DT_SHARD_HINT_BYTES];
    dt_shard_set_hint(path, hint);
    return dt_fail(DT_ERR_DATA, "%s: no shard-*.h5 in this directory%s", path,
                   *hint ? hint : " (make them with: dtrain data import)");
}

static dt_status find_files(dt_shard_set *s, const dt_names *names) {
    s->file = calloc((size_t)names->n, sizeof *s->file);
    if (!s->file) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->path);
    for (; s->n < names->n; s->n++) {
        const char *name = names->name[s->n];
        char **file = &s->file[s->n];
        if (asprintf(file, "%s%s%s", s->path, *name ? "/" : "", name) < 0) {
            *file = NULL;
            return dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->path);
        }
    }
    return allow_files(s->path, s->n);
}

static dt_status open_directory(dt_shard_set *s) {
    dt_names names;
    DT_TRY(dt_dir_list(s->path, dt_shard_name_is, &names));
    dt_status status = names.n > 0 ? check_index(s->path, &names, &s->index) : no_shards(s->path);
    if (status == DT_OK) status = find_files(s, &names);
    dt_names_free(&names);
    return status;
}

dt_status dt_shard_set_open(const char *path, dt_shard_set *out) {
    struct stat st;
    char *whole[] = {""}; /* a single file: nothing follows its path */
    *out = (dt_shard_set){.path = path};
    if (stat(path, &st) != 0) return dt_fail(DT_ERR_DATA, "%s: no such data: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode)) return open_directory(out);
    DT_TRY(check_alone(path));
    return find_files(out, &(dt_names){whole, 1});
}

void dt_shard_set_close(dt_shard_set *s) {
    for (int64_t i = 0; i < s->n; i++) free(s->file[i]);
    free(s->file);
    dt_index_free(&s->index);
    *s = (dt_shard_set){.path = NULL};
}

int64_t dt_shard_set_find(const int64_t *first, int64_t n, int64_t sample) {
    int64_t low = 0, high = n; /* first[low] <= sample < first[high] */
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (first[middle] <= sample)
            low = middle;
        else
            high = middle;
    }
    return low;
}

dt_status dt_shard_set_differs(const char *path, const char *what, int64_t said, int64_t found) {
    return dt_fail(DT_ERR_DATA, "%s: " DT_INDEX_NAME " says %s %lld, the shards say %lld (import it again)",
                   path, what, (long long)said, (long long)found);
}
