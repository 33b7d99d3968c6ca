/* u64 length N, N bytes of JSON, data. Every rule of the format is held to, and no number of the header is believed
 * before it fits the file. */
#include <stdlib.h>
#include <string.h>

#include "formats/safetensors.h"
#include "json_scan.h"
#include "readers.h"

enum { LENGTH_BYTES = 8, HEADER_BYTES_MAX = 100000000 };

/* What the header says of a tensor. */
enum { SAYS_DTYPE = 1, SAYS_SHAPE = 2, SAYS_OFFSETS = 4, SAYS_ALL = 7 };

typedef struct header {
    dt_json_scan scan;
    dt_tensors *t;
    int64_t n_room, n_note_room;
    const uint8_t *data; /* data_offsets are from here */
    int64_t n_data;
    bool noted;
} header;

bool dt_safetensors_knows(const dt_mapped_file *f) {
    return f->n_bytes > LENGTH_BYTES && f->byte[LENGTH_BYTES] == '{';
}

/* Room for one more of `size` bytes. */
static dt_status grow(void **array, int64_t n, int64_t *room, size_t size) {
    if (n < *room) return DT_OK;
    const int64_t more = *room ? 2 * *room : 64;
    void *p = realloc(*array, (size_t)more * size);
    if (!p) return dt_fail(DT_ERR_MEMORY, "no memory for the list of its tensors");
    *array = p, *room = more;
    return DT_OK;
}

static dt_status read_shape(dt_json_scan *s, dt_file_tensor *out) {
    DT_TRY(dt_json_scan_want(s, '['));
    if (dt_json_scan_take(s, ']')) return DT_OK;
    do {
        if (out->ndim == DT_MAX_DIM) return dt_json_scan_fail(s, "a shape of more than 8 dimensions");
        DT_TRY(dt_json_scan_count(s, &out->dim[out->ndim++]));
    } while (dt_json_scan_take(s, ','));
    return dt_json_scan_want(s, ']');
}

static dt_status read_offsets(header *h, dt_file_tensor *out, int64_t *end) {
    dt_json_scan *s = &h->scan;
    int64_t begin;
    DT_TRY(dt_json_scan_want(s, '['));
    DT_TRY(dt_json_scan_count(s, &begin));
    DT_TRY(dt_json_scan_want(s, ','));
    DT_TRY(dt_json_scan_count(s, end));
    DT_TRY(dt_json_scan_want(s, ']'));
    if (begin > *end || *end > h->n_data)
        return dt_json_scan_fail(s, "data_offsets beyond the file, or of less than nothing");
    out->data = h->data + begin;
    out->n_bytes = *end - begin;
    return DT_OK;
}

static dt_status read_type(dt_json_scan *s, dt_file_tensor *out) {
    const char *name;
    DT_TRY(dt_json_scan_text(s, &name));
    out->type = dt_tensor_type_find(name);
    return out->type < DT_TENSOR_TYPES ? DT_OK
                                       : dt_json_scan_fail(s, "a dtype that the format does not have");
}

/* The object behind a tensor's name. */
static dt_status read_tensor(header *h, const char *name) {
    dt_json_scan *s = &h->scan;
    dt_file_tensor t = {.name = name};
    uint32_t says = 0;
    int64_t end, n_bytes;
    DT_TRY(dt_json_scan_want(s, '{'));
    do {
        const char *key;
        DT_TRY(dt_json_scan_text(s, &key));
        DT_TRY(dt_json_scan_want(s, ':'));
        const uint32_t one = strcmp(key, "dtype") == 0          ? SAYS_DTYPE
                             : strcmp(key, "shape") == 0        ? SAYS_SHAPE
                             : strcmp(key, "data_offsets") == 0 ? SAYS_OFFSETS
                                                                : 0;
        if (!one) return dt_json_scan_fail(s, "a tensor has dtype, shape and data_offsets and nothing else");
        if (says & one) return dt_json_scan_fail(s, "a key that is there twice");
        says |= one;
        if (one == SAYS_DTYPE) DT_TRY(read_type(s, &t));
        if (one == SAYS_SHAPE) DT_TRY(read_shape(s, &t));
        if (one == SAYS_OFFSETS) DT_TRY(read_offsets(h, &t, &end));
    } while (dt_json_scan_take(s, ','));
    DT_TRY(dt_json_scan_want(s, '}'));
    if (says != SAYS_ALL) return dt_json_scan_fail(s, "a tensor without dtype, shape or data_offsets");
    if (!dt_file_tensor_size(t.type, t.ndim, t.dim, &t.n_elem, &n_bytes) || n_bytes != t.n_bytes)
        return dt_json_scan_fail(
            s, "a tensor whose dtype and shape need another number of bytes than data_offsets give");
    void *tensors = h->t->tensor;
    DT_TRY(grow(&tensors, h->t->n, &h->n_room, sizeof t));
    h->t->tensor = tensors;
    h->t->tensor[h->t->n++] = t;
    return DT_OK;
}

/* Texts about texts. */
static dt_status read_notes(header *h) {
    dt_json_scan *s = &h->scan;
    if (h->noted) return dt_json_scan_fail(s, "__metadata__ is there twice");
    h->noted = true;
    DT_TRY(dt_json_scan_want(s, '{'));
    if (dt_json_scan_take(s, '}')) return DT_OK;
    do {
        dt_tensor_note note;
        DT_TRY(dt_json_scan_text(s, &note.key));
        DT_TRY(dt_json_scan_want(s, ':'));
        DT_TRY(dt_json_scan_text(s, &note.value));
        void *notes = h->t->note;
        DT_TRY(grow(&notes, h->t->n_note, &h->n_note_room, sizeof note));
        h->t->note = notes;
        h->t->note[h->t->n_note++] = note;
    } while (dt_json_scan_take(s, ','));
    return dt_json_scan_want(s, '}');
}

static dt_status read_header(header *h) {
    dt_json_scan *s = &h->scan;
    DT_TRY(dt_json_scan_want(s, '{'));
    if (!dt_json_scan_take(s, '}')) {
        do {
            const char *name;
            DT_TRY(dt_json_scan_text(s, &name));
            DT_TRY(dt_json_scan_want(s, ':'));
            DT_TRY(strcmp(name, "__metadata__") == 0 ? read_notes(h) : read_tensor(h, name));
        } while (dt_json_scan_take(s, ','));
        DT_TRY(dt_json_scan_want(s, '}'));
    }
    while (s->at < s->end && *s->at == ' ') s->at++;
    return s->at == s->end ? DT_OK : dt_json_scan_fail(s, "something follows the JSON; only spaces may");
}

static int by_place(const void *a, const void *b) {
    const dt_file_tensor *x = a, *y = b;
    const uintptr_t p = (uintptr_t)x->data, q = (uintptr_t)y->data;
    return p != q ? (p > q) - (p < q) : (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes);
}

/* The data are the tensors' bytes one after the other. */
static dt_status check_places(header *h, int64_t first) {
    const uint8_t *at = h->data;
    dt_file_tensor *t = h->t->tensor ? h->t->tensor + first : NULL;
    const int64_t n = h->t->n - first;
    if (n > 0) qsort(t, (size_t)n, sizeof *t, by_place);
    for (int64_t i = 0; i < n; i++) {
        if ((const uint8_t *)t[i].data != at)
            return dt_fail(
                DT_ERR_DATA, "%.200s begins at byte %lld of the data, and the tensor before it ends at %lld",
                t[i].name, (long long)((const uint8_t *)t[i].data - h->data), (long long)(at - h->data));
        at += t[i].n_bytes;
    }
    if (at - h->data == h->n_data) return DT_OK;
    return dt_fail(DT_ERR_DATA, "the tensors have %lld bytes, and the file %lld behind the header",
                   (long long)(at - h->data), (long long)h->n_data);
}

dt_status dt_safetensors_read(dt_tensors *t, const char *path, const dt_mapped_file *f) {
    (void)path;
    uint64_t length;
    if (f->n_bytes < LENGTH_BYTES) return dt_fail(DT_ERR_DATA, "too short for a safetensors file");
    memcpy(&length, f->byte, sizeof length);
    if (length > HEADER_BYTES_MAX)
        return dt_fail(DT_ERR_DATA, "the header is said to have %llu bytes: the format allows 100000000",
                       (unsigned long long)length);
    if ((int64_t)length > f->n_bytes - LENGTH_BYTES)
        return dt_fail(DT_ERR_DATA,
                       "the header is said to have %llu bytes, and the file has %lld: it was cut off",
                       (unsigned long long)length, (long long)f->n_bytes);
    const uint8_t *start = f->byte + LENGTH_BYTES;
    if (length == 0 || *start != '{') return dt_fail(DT_ERR_DATA, "the header does not begin with '{'");
    const int64_t first = t->n;
    header h = {.scan = {start, start, start + length, &t->text},
                .t = t,
                .n_room = t->n,
                .n_note_room = t->n_note,
                .data = start + length,
                .n_data = f->n_bytes - LENGTH_BYTES - (int64_t)length};
    DT_TRY(read_header(&h));
    return check_places(&h, first);
}
