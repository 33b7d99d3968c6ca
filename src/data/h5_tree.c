/* Files of other programs, which are trees and may lie in an archive. */
#include <stdlib.h>
#include <string.h>

#include "h5_private.h"

dt_status dt_h5_open_bytes(const char *name, const void *bytes, int64_t n_bytes, dt_h5 **out) {
    enum { STEP_BYTES = 1 << 16 };
    *out = NULL;
    dt_h5 *h = calloc(1, sizeof *h);
    if (h) h->path = strdup(name);
    if (!h || !h->path) {
        free(h);
        return dt_fail(DT_ERR_MEMORY, "%s: out of memory", name);
    }
    h->file = -1;
    h->file_bytes = n_bytes;
    dt_h5_lock();
    hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
    if (fapl >= 0 && H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG) >= 0 &&
        H5Pset_fapl_core(fapl, STEP_BYTES, false) >= 0 &&
        H5Pset_file_image(fapl, (void *)(uintptr_t)bytes, (size_t)n_bytes) >= 0)
        h->file = H5Fopen(name, H5F_ACC_RDONLY, fapl);
    const dt_status status = h->file >= 0 ? DT_OK : dt_h5_file_fail(h, "cannot open as an HDF5 file", "");
    if (fapl >= 0) H5Pclose(fapl);
    dt_h5_unlock();
    if (status != DT_OK) {
        free(h->path);
        free(h);
        return status;
    }
    *out = h;
    return DT_OK;
}

typedef struct listing {
    int64_t n, cap;
    char **name;
} listing;

enum { LINKS_MAX = 1 << 20 };

static herr_t add_name(hid_t group, const char *name, const H5L_info_t *info, void *arg) {
    listing *l = arg;
    (void)group, (void)info;
    if (l->n == l->cap) {
        const int64_t cap = l->cap ? 2 * l->cap : 64;
        char **grown = cap <= LINKS_MAX ? realloc(l->name, (size_t)cap * sizeof *grown) : NULL;
        if (!grown) return -1;
        l->name = grown, l->cap = cap;
    }
    l->name[l->n] = strdup(name);
    return l->name[l->n] ? (l->n++, 0) : -1;
}

dt_status dt_h5_list(dt_h5 *h, const char *group, int64_t *n, char ***name) {
    listing l = {.n = 0};
    *n = 0, *name = NULL;
    dt_h5_lock();
    const bool there =
        H5Lvisit_by_name(h->file, group, H5_INDEX_NAME, H5_ITER_INC, add_name, &l, H5P_DEFAULT) >= 0;
    const dt_status status = there ? DT_OK : dt_h5_file_fail(h, "cannot list the group", group);
    dt_h5_unlock();
    if (status != DT_OK) {
        dt_h5_list_free(l.n, l.name);
        return status;
    }
    *n = l.n, *name = l.name;
    return DT_OK;
}

void dt_h5_list_free(int64_t n, char **name) {
    for (int64_t i = 0; i < n; i++) free(name[i]);
    free(name);
}
