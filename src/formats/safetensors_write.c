/* The header's size is known before a byte is written, so that data go straight from where they are. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/out_file.h"
#include "core/text.h"
#include "formats/safetensors.h"
#include "readers.h"

enum { HEADER_BYTES_MAX = 100000000, ALIGN_BYTES = 8 };

static int by_type_and_name(const void *a, const void *b) {
    const dt_file_tensor *x = *(const dt_file_tensor *const *)a, *y = *(const dt_file_tensor *const *)b;
    return x->type != y->type ? (int)y->type - (int)x->type : strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const dt_file_tensor *const *)a)->name, (*(const dt_file_tensor *const *)b)->name);
}

static bool is_utf8(const char *s) {
    for (int n; *s; s += n)
        if ((n = dt_utf8_bytes(s)) == 0) return false;
    return true;
}

static dt_status check(int64_t n, const dt_file_tensor *tensor, int64_t n_note, const dt_tensor_note *note) {
    for (int64_t i = 0; i < n; i++) {
        const dt_file_tensor *t = &tensor[i];
        int64_t n_elem, n_bytes;
        if (!is_utf8(t->name) || strcmp(t->name, "__metadata__") == 0)
            return dt_fail(DT_ERR_DATA, "\"%.200s\" cannot be the name of a tensor", t->name);
        if (t->type >= DT_SAFETENSORS_TYPES)
            return dt_fail(DT_ERR_DATA, "%.200s: safetensors has no type %s", t->name,
                           dt_tensor_type_name(t->type));
        if (!dt_file_tensor_size(t->type, t->ndim, t->dim, &n_elem, &n_bytes) || n_bytes != t->n_bytes)
            return dt_fail(DT_ERR_DATA, "%.200s: its shape does not need %lld bytes", t->name,
                           (long long)t->n_bytes);
    }
    for (int64_t i = 0; i < n_note; i++)
        if (!is_utf8(note[i].key) || !is_utf8(note[i].value))
            return dt_fail(DT_ERR_DATA, "a note about the tensors is not UTF-8");
    return DT_OK;
}

static void print_header(FILE *out, int64_t n, const dt_file_tensor *const *sorted, int64_t n_note,
                         const dt_tensor_note *note) {
    int64_t at = 0;
    const char *comma = "";
    fputc('{', out);
    if (n_note > 0) {
        fputs("\"__metadata__\":{", out);
        for (int64_t i = 0; i < n_note; i++) {
            fputs(i ? "," : "", out);
            dt_print_quoted(note[i].key, out);
            fputc(':', out);
            dt_print_quoted(note[i].value, out);
        }
        fputc('}', out);
        comma = ",";
    }
    for (int64_t i = 0; i < n; i++, comma = ",") {
        const dt_file_tensor *t = sorted[i];
        fputs(comma, out);
        dt_print_quoted(t->name, out);
        fprintf(out, ":{\"dtype\":\"%s\",\"shape\":[", dt_tensor_type_name(t->type));
        for (int32_t d = 0; d < t->ndim; d++) fprintf(out, "%s%lld", d ? "," : "", (long long)t->dim[d]);
        fprintf(out, "],\"data_offsets\":[%lld,%lld]}", (long long)at, (long long)(at + t->n_bytes));
        at += t->n_bytes;
    }
    fputc('}', out);
}

/* The header as text of *bytes bytes, padded with spaces so that data begin at a multiple of 8. */
static dt_status make_header(int64_t n, const dt_file_tensor *const *sorted, int64_t n_note,
                             const dt_tensor_note *note, char **text, size_t *bytes) {
    FILE *out = open_memstream(text, bytes);
    if (!out) return dt_fail(DT_ERR_MEMORY, "no memory for its header");
    print_header(out, n, sorted, n_note, note);
    while (ftell(out) % ALIGN_BYTES != 0) fputc(' ', out);
    const bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) return dt_fail(DT_ERR_MEMORY, "no memory for its header");
    if (*bytes <= HEADER_BYTES_MAX) return DT_OK;
    return dt_fail(DT_ERR_DATA, "a header of %zu bytes: the format allows 100000000", *bytes);
}

static dt_status write_file(const char *path, int64_t n, const dt_file_tensor *const *sorted,
                            const char *header, size_t header_bytes) {
    dt_out_file f;
    const uint64_t length = header_bytes;
    DT_TRY(dt_out_file_open(path, &f));
    fwrite(&length, sizeof length, 1, f.file);
    fwrite(header, 1, header_bytes, f.file);
    for (int64_t i = 0; i < n; i++)
        if (sorted[i]->n_bytes > 0) fwrite(sorted[i]->data, 1, (size_t)sorted[i]->n_bytes, f.file);
    return dt_out_file_close(&f, dt_files_check());
}

dt_status dt_safetensors_write(const char *path, int64_t n, const dt_file_tensor *tensor, int64_t n_note,
                               const dt_tensor_note *note) {
    const dt_file_tensor **sorted = calloc((size_t)n + 1, sizeof *sorted);
    char *header = NULL;
    size_t bytes = 0;
    dt_status st =
        sorted ? check(n, tensor, n_note, note) : dt_fail(DT_ERR_MEMORY, "no memory for a list of tensors");
    for (int64_t i = 0; st == DT_OK && i < n; i++) sorted[i] = &tensor[i];
    if (st == DT_OK) qsort(sorted, (size_t)n, sizeof *sorted, by_name);
    for (int64_t i = 1; st == DT_OK && i < n; i++)
        if (strcmp(sorted[i]->name, sorted[i - 1]->name) == 0)
            st = dt_fail(DT_ERR_DATA, "two tensors are called %.200s", sorted[i]->name);
    if (st == DT_OK) qsort(sorted, (size_t)n, sizeof *sorted, by_type_and_name);
    if (st == DT_OK) st = make_header(n, sorted, n_note, note, &header, &bytes);
    if (st == DT_OK)
        st = write_file(path, n, sorted, header, bytes);
    else
        dt_error_context("%s", path);
    free(header), free(sorted);
    return st;
}
