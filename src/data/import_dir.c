/* What an import finds in the directory it writes to. */
#include "import_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/dir.h"
#include "core/text.h"
#include "files.h"
#include "index.h"
#include "shard.h"

static bool is_leftover(const char *name) {
    return strncmp(name, DT_TEMPORARY_PREFIX "shard-", sizeof DT_TEMPORARY_PREFIX "shard-" - 1) == 0;
}

static dt_status check_name(const dt_import_dir *d, const char *name) {
    const char *dir = d->path;
    char own[64] = "";
    int64_t i, n;
    bool shard = dt_shard_name_parse(name, &i, &n);
    if (shard) dt_shard_name(own, sizeof own, i, n);
    if (strcmp(name, own) != 0)
        return dt_fail(DT_ERR_DATA,
                       "%s/%s is not of this import, but every shard-*.h5 of a directory belongs to its set "
                       "(move it away or choose another directory)",
                       dir, name);
    if (n != d->n_shards)
        return dt_fail(DT_ERR_DATA,
                       "%s/%s belongs to another import of %s; this one makes %lld (remove the "
                       "directory or choose another)",
                       dir, name, dt_count_text(n, "shard").s, (long long)d->n_shards);
    return DT_OK;
}

static bool is_listed(const dt_index *index, const char *name) {
    for (int64_t i = 0; i < index->n_shards; i++)
        if (strcmp(index->shard[i].file, name) == 0) return true;
    return false;
}

/* Whether this import may make the file again: it says so itself, or it is too damaged to say anything and
 * the index names it. */
static dt_status check_own(const dt_import_dir *d, const char *name, const dt_index *index) {
    char *path, *source;
    int64_t version;
    DT_TRY(check_name(d, name));
    if (asprintf(&path, "%s/%s", d->path, name) < 0) return dt_fail(DT_ERR_MEMORY, "import: out of memory");
    dt_status status = dt_shard_origin_read(path, &version, &source);
    if (status == DT_ERR_DATA && is_listed(index, name)) {
        dt_error_set_text("");
        status = DT_OK;
    } else if (status == DT_ERR_DATA) {
        dt_error_context("%s is not overwritten, for it may not be a shard of this import (move it away or "
                         "choose another directory)",
                         name);
    } else if (status == DT_OK && version != 0 && version != DT_SHARD_VERSION) {
        status = dt_fail(DT_ERR_DATA,
                         "%s: shard version %lld; this program writes version %d (remove the directory or "
                         "choose another)",
                         path, (long long)version, DT_SHARD_VERSION);
    } else if (status == DT_OK && !source) {
        status =
            dt_fail(DT_ERR_DATA,
                    "%s was not made by an import and is not overwritten (move it away or choose another "
                    "directory)",
                    path);
    } else if (status == DT_OK && strcmp(source, d->origin) != 0) {
        status = dt_fail(DT_ERR_USAGE,
                         "%s was imported from something else or with other options (remove the directory "
                         "or choose another)",
                         path);
    }
    free(source);
    free(path);
    return status;
}

dt_status dt_import_dir_open(dt_import_dir *d) {
    const char *dir = d->path;
    dt_names names;
    DT_TRY(dt_dir_create(dir));
    d->lock_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->lock_fd < 0) return dt_fail(DT_ERR_IO, "%s: cannot open: %s", dir, strerror(errno));
    if (flock(d->lock_fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return dt_fail(DT_ERR_IO, "%s: another import is writing here", dir);
    DT_TRY(dt_dir_list(dir, is_leftover, &names));
    for (int64_t i = 0; i < names.n; i++) unlinkat(d->lock_fd, names.name[i], 0);
    dt_names_free(&names);
    DT_TRY(dt_dir_list(dir, dt_shard_name_is, &names));
    dt_index index;
    bool found; /* a damaged one names nothing and is written anew */
    dt_status status = dt_index_read(dir, &index, &found);
    if (status == DT_ERR_DATA) status = DT_OK;
    for (int64_t i = 0; i < names.n && status == DT_OK; i++) status = check_own(d, names.name[i], &index);
    dt_index_free(&index);
    dt_names_free(&names);
    return status;
}

dt_status dt_import_dir_finished(const dt_import_dir *d, const char *path, bool *finished) {
    *finished = false;
    if (access(path, F_OK) != 0) return DT_OK;
    const dt_status status = d->check(path);
    *finished = status == DT_OK;
    if (status != DT_ERR_DATA) return status;
    dt_error_set_text("");
    return DT_OK;
}

void dt_import_dir_close(dt_import_dir *d) {
    if (d->lock_fd >= 0) close(d->lock_fd);
    d->lock_fd = -1;
}
