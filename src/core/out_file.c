#include "core/out_file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/dir.h"

dt_status dt_out_file_open(const char *path, dt_out_file *out) {
    struct stat st;
    *out = (dt_out_file){.path = path};
    const size_t n = strlen(path), room = n + 32;
    if (n == 0 || path[n - 1] == '/' || (stat(path, &st) == 0 && !S_ISREG(st.st_mode)))
        return dt_fail(DT_ERR_USAGE, "\"%s\" is there and no regular file, or not the name of one", path);
    char *temporary = malloc(room);
    if (!temporary) return dt_fail(DT_ERR_MEMORY, "no memory for a path");
    snprintf(temporary, room, "%s.%ld.tmp", path, (long)getpid());
    out->file = fopen(temporary, "wbx");
    if (out->file) {
        out->temporary = temporary;
        return DT_OK;
    }
    const int error = errno;
    free(temporary);
    return dt_fail(DT_ERR_IO, "%s: cannot be written: %s", path, dt_create_error(path, error).s);
}

dt_status dt_out_file_close(dt_out_file *f, dt_status st) {
    if (!f->file) return st;
    errno = 0;
    bool written = fflush(f->file) == 0 && !ferror(f->file) && fsync(fileno(f->file)) == 0;
    int error = errno;
    if (fclose(f->file) != 0 && written) written = false, error = errno;
    if (st == DT_OK && written && rename(f->temporary, f->path) != 0) written = false, error = errno;
    if (st == DT_OK && !written)
        st = dt_fail(DT_ERR_IO, "%s: cannot be written: %s", f->path,
                     error ? strerror(error) : "a write failed");
    if (st != DT_OK) unlink(f->temporary);
    free(f->temporary);
    *f = (dt_out_file){.path = f->path};
    return st;
}

dt_status dt_out_file_try(const char *path) {
    dt_out_file f;
    DT_TRY(dt_out_file_open(path, &f));
    fclose(f.file);
    unlink(f.temporary);
    free(f.temporary);
    return DT_OK;
}
