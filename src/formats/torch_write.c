/* A state_dict as torch.save writes it: a zip archive of stored members, a pickle that calls what rebuilds tensors, and
 * the bytes of each. Zip's 64-bit fields are always there, so that any size goes the same way. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "core/out_file.h"
#include "formats/torch.h"

enum { ALIGN_BYTES = 64, LOCAL_BYTES = 30, WIDE_BYTES = 20, FILLER_ID = 0x4246, MEMBERS_OWN = 3 };

static const char *const storage_of[DT_TENSOR_TYPES] = {
    [DT_TENSOR_F32] = "FloatStorage",     [DT_TENSOR_F64] = "DoubleStorage", [DT_TENSOR_F16] = "HalfStorage",
    [DT_TENSOR_BF16] = "BFloat16Storage", [DT_TENSOR_I64] = "LongStorage",   [DT_TENSOR_I32] = "IntStorage",
    [DT_TENSOR_I16] = "ShortStorage",     [DT_TENSOR_I8] = "CharStorage",    [DT_TENSOR_U8] = "ByteStorage",
    [DT_TENSOR_BOOL] = "BoolStorage",
};

/* ---- the pickle, protocol 2 ---- */

static void put_text(FILE *out, const char *text) {
    const uint32_t n = (uint32_t)strlen(text);
    fputc('X', out);
    fwrite(&n, sizeof n, 1, out);
    fwrite(text, 1, n, out);
}

static void put_int(FILE *out, int64_t value) {
    const int32_t narrow = (int32_t)value;
    if (narrow == value) {
        fputc('J', out);
        fwrite(&narrow, sizeof narrow, 1, out);
        return;
    }
    fputs("\x8a\x08", out); /* a number of 8 bytes */
    fwrite(&value, sizeof value, 1, out);
}

static void put_ints(FILE *out, int32_t n, const int64_t *value) {
    fputc('(', out);
    for (int32_t i = 0; i < n; i++) put_int(out, value[i]);
    fputc('t', out);
}

static void put_tensor(FILE *out, const dt_file_tensor *t, int64_t number) {
    char key[24];
    int64_t stride[DT_MAX_DIM], step = 1;
    for (int32_t d = t->ndim - 1; d >= 0; d--) stride[d] = step, step *= dt_max_i64(t->dim[d], 1);
    snprintf(key, sizeof key, "%lld", (long long)number);
    put_text(out, t->name);
    fputs("ctorch._utils\n_rebuild_tensor_v2\n((", out);
    put_text(out, "storage");
    fprintf(out, "ctorch\n%s\n", storage_of[t->type]);
    put_text(out, key);
    put_text(out, "cpu");
    put_int(out, t->n_elem);
    fputs("tQ", out);
    put_int(out, 0);
    put_ints(out, t->ndim, t->dim);
    put_ints(out, t->ndim, stride);
    fputs("\x89"
          "ccollections\nOrderedDict\n)RtR",
          out); /* no gradient, no hooks */
}

static dt_status make_pickle(int64_t n, const dt_file_tensor *tensor, char **text, size_t *bytes) {
    FILE *out = open_memstream(text, bytes);
    if (!out) return dt_fail(DT_ERR_MEMORY, "no memory for its pickle");
    fputs("\x80\x02"
          "ccollections\nOrderedDict\n)R(",
          out);
    for (int64_t i = 0; i < n; i++) put_tensor(out, &tensor[i], i);
    fputs("u.", out);
    const bool failed = ferror(out) != 0;
    return fclose(out) != 0 || failed ? dt_fail(DT_ERR_MEMORY, "no memory for its pickle") : DT_OK;
}

/* ---- the archive ---- */

typedef struct member {
    char name[40];
    const void *data;
    int64_t n_bytes, offset;
    uint32_t crc;
} member;

static void put16(FILE *out, uint32_t v) {
    const uint16_t x = (uint16_t)v;
    fwrite(&x, sizeof x, 1, out);
}

static void put32(FILE *out, uint32_t v) {
    fwrite(&v, sizeof v, 1, out);
}

static void put64(FILE *out, int64_t v) {
    fwrite(&v, sizeof v, 1, out);
}

static uint32_t crc_of(const member *m) {
    enum { STRETCH = 1 << 30 };
    uLong crc = crc32(0, Z_NULL, 0);
    for (int64_t at = 0; at < m->n_bytes; at += STRETCH)
        crc = crc32(crc, (const Bytef *)m->data + at, (uInt)dt_min_i64(STRETCH, m->n_bytes - at));
    return (uint32_t)crc;
}

/* Version, flags, how it is packed, time; then the checksum, sizes that the 64-bit field has, and lengths. */
static void put_common(FILE *out, const member *m, uint32_t n_extra) {
    enum { VERSION = 45, NEW_YEAR_1980 = 0x21 };
    put16(out, VERSION), put16(out, 0), put16(out, 0), put16(out, 0), put16(out, NEW_YEAR_1980);
    put32(out, m->crc), put32(out, UINT32_MAX), put32(out, UINT32_MAX);
    put16(out, (uint32_t)strlen(m->name)), put16(out, n_extra);
}

/* Its data begin at a multiple of 64, by a field that means nothing. */
static void put_member(FILE *out, member *m) {
    m->offset = ftell(out);
    m->crc = crc_of(m);
    const int64_t head = m->offset + LOCAL_BYTES + (int64_t)strlen(m->name) + WIDE_BYTES + 4;
    const uint32_t fill = (uint32_t)(dt_round_up(head, ALIGN_BYTES) - head);
    fputs("PK\x03\x04", out);
    put_common(out, m, WIDE_BYTES + 4 + fill);
    fputs(m->name, out);
    put16(out, 1), put16(out, WIDE_BYTES - 4), put64(out, m->n_bytes), put64(out, m->n_bytes);
    put16(out, FILLER_ID), put16(out, fill);
    for (uint32_t i = 0; i < fill; i++) fputc(0, out);
    if (m->n_bytes > 0) fwrite(m->data, 1, (size_t)m->n_bytes, out);
}

static void put_directory(FILE *out, int64_t n, const member *m) {
    enum { CENTRAL_WIDE = 28, END_BYTES = 44, VERSION = 45 };
    const int64_t begin = ftell(out);
    for (int64_t i = 0; i < n; i++) {
        fputs("PK\x01\x02", out);
        put16(out, VERSION);
        put_common(out, &m[i], CENTRAL_WIDE);
        put16(out, 0), put16(out, 0), put16(out, 0), put32(out, 0), put32(out, UINT32_MAX);
        fputs(m[i].name, out);
        put16(out, 1), put16(out, CENTRAL_WIDE - 4);
        put64(out, m[i].n_bytes), put64(out, m[i].n_bytes), put64(out, m[i].offset);
    }
    const int64_t end = ftell(out);
    fputs("PK\x06\x06", out);
    put64(out, END_BYTES), put16(out, VERSION), put16(out, VERSION), put32(out, 0), put32(out, 0);
    put64(out, n), put64(out, n), put64(out, end - begin), put64(out, begin);
    fputs("PK\x06\x07", out);
    put32(out, 0), put64(out, end), put32(out, 1);
    fputs("PK\x05\x06", out);
    put16(out, UINT16_MAX), put16(out, UINT16_MAX), put16(out, UINT16_MAX), put16(out, UINT16_MAX);
    put32(out, UINT32_MAX), put32(out, UINT32_MAX), put16(out, 0);
}

static int by_name(const void *a, const void *b) {
    const dt_file_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static dt_status check(int64_t n, const dt_file_tensor *tensor) {
    const dt_file_tensor **sorted = calloc((size_t)n + 1, sizeof *sorted);
    dt_status st = sorted ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for a list of tensors");
    for (int64_t i = 0; st == DT_OK && i < n; i++) {
        sorted[i] = &tensor[i];
        if (!storage_of[tensor[i].type])
            st = dt_fail(DT_ERR_DATA, "%.200s is %s, which such files do not have", tensor[i].name,
                         dt_tensor_type_name(tensor[i].type));
    }
    if (st == DT_OK) qsort(sorted, (size_t)n, sizeof *sorted, by_name);
    for (int64_t i = 1; st == DT_OK && i < n; i++)
        if (strcmp(sorted[i]->name, sorted[i - 1]->name) == 0)
            st = dt_fail(DT_ERR_DATA, "two tensors are called %.200s", sorted[i]->name);
    free(sorted);
    return st;
}

static dt_status write_archive(const char *path, int64_t n, member *m) {
    dt_out_file f;
    DT_TRY(dt_out_file_open(path, &f));
    for (int64_t i = 0; i < n; i++) put_member(f.file, &m[i]);
    put_directory(f.file, n, m);
    return dt_out_file_close(&f, dt_files_check());
}

dt_status dt_torch_write(const char *path, int64_t n, const dt_file_tensor *tensor) {
    char *pickle = NULL;
    size_t bytes = 0;
    dt_status st = check(n, tensor);
    if (st == DT_OK) st = make_pickle(n, tensor, &pickle, &bytes);
    member *m = st == DT_OK ? calloc((size_t)n + MEMBERS_OWN, sizeof *m) : NULL;
    if (st == DT_OK && !m) st = dt_fail(DT_ERR_MEMORY, "no memory for the list of its members");
    if (st == DT_OK) {
        m[0] = (member){.name = "archive/data.pkl", .data = pickle, .n_bytes = (int64_t)bytes};
        m[1] = (member){.name = "archive/byteorder", .data = "little", .n_bytes = 6};
        for (int64_t i = 0; i < n; i++) {
            m[2 + i] = (member){.data = tensor[i].data, .n_bytes = tensor[i].n_bytes};
            snprintf(m[2 + i].name, sizeof m->name, "archive/data/%lld", (long long)i);
        }
        m[2 + n] = (member){.name = "archive/version", .data = "3\n", .n_bytes = 2};
        st = write_archive(path, n + MEMBERS_OWN, m);
    } else {
        dt_error_context("%s", path);
    }
    free(m), free(pickle);
    return st;
}
