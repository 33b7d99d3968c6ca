/* manifest.json: what a checkpoint holds, written and read through one table. Reading trusts nothing.
 *
 * The last member is the XXH3-64 of all bytes before it, so that a flipped digit of a counter is found
 * too. */
#include "checkpoint_internal.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/text.h"

static const char format_name[] = "dtrain-checkpoint";
enum { FORMAT_VERSION = 6, OLDEST_VERSION = 3, DATA_SINCE = 5, LAST_OF_SKIP_BITS = 5, HASH_DIGITS = 16 };

static const char checksum_name[] = "manifest_xxh3";
enum { TAIL_MAX = 96 };

/* What follows the last member; returns its length. */
static size_t make_tail(char out[TAIL_MAX], const char *checksum, uint64_t hash) {
    return (size_t)snprintf(out, TAIL_MAX, ",\n \"%s\": \"%0*" PRIx64 "\"\n}\n", checksum, HASH_DIGITS, hash);
}

typedef enum meta_kind { META_COUNT, META_INTEGER, META_REAL, META_HASH, META_NAME } meta_kind;

typedef struct meta_row {
    const char *name;
    size_t offset;
    meta_kind kind;
    int since, until; /* the versions that have it; 0: all from or up to the other */
} meta_row;

#define FIELD(name) #name, offsetof(dt_ckpt_meta, name)
static const meta_row meta_table[] = {
    {FIELD(step), META_COUNT, 0, 0},
    {FIELD(samples), META_COUNT, 0, 0},
    {FIELD(global_batch), META_COUNT, 0, 0},
    {"n_shards", offsetof(dt_ckpt_meta, n_micro_all), META_COUNT, 0, 0},
    {FIELD(seed), META_INTEGER, 0, 0},
    {FIELD(loss_scale), META_REAL, 0, 0},
    {FIELD(good_steps), META_COUNT, 0, 0},
    {FIELD(optimizer_steps), META_COUNT, 0, 0},
    /* bit i: the update of i steps before the last was skipped */
    {"recent_skips", offsetof(dt_ckpt_meta, skipped_in_a_row), META_COUNT, 0, LAST_OF_SKIP_BITS},
    {FIELD(skipped_in_a_row), META_COUNT, LAST_OF_SKIP_BITS + 1, 0},
    {FIELD(config_hash), META_HASH, 0, 0},
    {FIELD(train_samples), META_COUNT, 0, 0},
    {FIELD(classes_xxh3), META_HASH, 4, 0},
    {FIELD(statistics_xxh3), META_HASH, 4, 0},
    {FIELD(optimizer), META_NAME, 6, 0},
};
enum { META_ROWS = sizeof meta_table / sizeof meta_table[0] };

static bool in_version(const meta_row *row, int version) {
    return version >= row->since && (row->until == 0 || version <= row->until);
}

int64_t dt_ckpt_count_elements(int32_t ndim, const int64_t *dim) {
    if (ndim < 0 || ndim > DT_MAX_DIM) return 0;
    int64_t n = 1, bytes;
    for (int32_t i = 0; i < ndim; i++)
        if (dim[i] < 1 || __builtin_mul_overflow(n, dim[i], &n)) return 0;
    return __builtin_mul_overflow(n, (int64_t)sizeof(float), &bytes) ? 0 : n;
}

bool dt_ckpt_name_ok(const char *name) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+:-";
    size_t len = strlen(name);
    if (len == 0 || len > DT_CKPT_TENSOR_NAME_MAX) return false;
    for (const char *part = name;; part++) {
        size_t n = strspn(part, allowed);
        if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && memcmp(part, "..", 2) == 0)) return false;
        part += n;
        if (*part == '\0') return true;
        if (*part != '/') return false;
    }
}

void dt_ckpt_manifest_clear(dt_ckpt_manifest *m) {
    for (int32_t i = 0; m->tensor != NULL && i < m->n_tensor; i++) free(m->tensor[i].name);
    free(m->tensor);
    free(m->config_text);
    free(m->data_text);
    *m = (dt_ckpt_manifest){0};
}

/* ---- writing ---- */

static json_t *json_hash(uint64_t hash) {
    char text[HASH_DIGITS + 1];
    snprintf(text, sizeof text, "%016" PRIx64, hash);
    return json_string(text);
}

static json_t *json_meta(const dt_ckpt_meta *meta, const meta_row *row) {
    const char *field = (const char *)meta + row->offset;
    int64_t i = 0;
    uint64_t h = 0;
    double d = 0;
    switch (row->kind) {
    case META_REAL:
        memcpy(&d, field, sizeof d);
        return json_real(d);
    case META_HASH:
        memcpy(&h, field, sizeof h);
        return json_hash(h);
    case META_NAME:
        return json_string(field);
    default:
        memcpy(&i, field, sizeof i);
        return row->kind == META_COUNT && i < 0 ? NULL : json_integer(i);
    }
}

static json_t *json_entry(const dt_ckpt_entry *e) {
    if (!dt_ckpt_name_ok(e->name) || dt_ckpt_count_elements(e->ndim, e->dim) == 0) return NULL;
    json_t *shape = json_array();
    for (int32_t i = 0; shape != NULL && i < e->ndim; i++)
        json_array_append_new(shape, json_integer(e->dim[i]));
    return json_pack("{s:s, s:s, s:o, s:o}", "name", e->name, "dtype", "f32", "shape", shape, "xxh3",
                     json_hash(e->xxh3));
}

/* Adds `value` (taken over) or fails naming the member. */
static dt_status put(json_t *object, const char *name, json_t *value) {
    if (value != NULL && json_object_set_new(object, name, value) == 0) return DT_OK;
    return dt_fail(DT_ERR_CHECKPOINT, "manifest: \"%s\" has a value that cannot be stored", name);
}

static dt_status put_all(json_t *root, const dt_ckpt_manifest *m) {
    DT_TRY(put(root, "format", json_string(format_name)));
    DT_TRY(put(root, "version", json_integer(FORMAT_VERSION)));
    for (int i = 0; i < META_ROWS; i++)
        if (in_version(&meta_table[i], FORMAT_VERSION))
            DT_TRY(put(root, meta_table[i].name, json_meta(&m->meta, &meta_table[i])));
    json_t *state = json_pack("{s:s, s:I, s:o}", "file", DT_CKPT_STATE_FILE, "bytes",
                              (json_int_t)m->state_bytes, "xxh3", json_hash(m->state_xxh3));
    DT_TRY(put(root, "state", state));
    DT_TRY(put(root, "config", json_string(m->config_text)));
    DT_TRY(put(root, "data",
               m->data_text ? json_loads(m->data_text, JSON_REJECT_DUPLICATES, NULL) : json_null()));
    json_t *tensors = json_array();
    DT_TRY(put(root, "tensors", tensors));
    for (int32_t i = 0; i < m->n_tensor; i++)
        if (json_array_append_new(tensors, json_entry(&m->tensor[i])) != 0)
            return dt_fail(DT_ERR_CHECKPOINT,
                           "manifest: tensor \"%s\" cannot be stored: name or shape not allowed",
                           m->tensor[i].name);
    return DT_OK;
}

dt_status dt_ckpt_json_format(json_t *root, const char *checksum, char **text) {
    char tail[TAIL_MAX];
    char *body = json_dumps(root, JSON_INDENT(1));
    size_t len = body != NULL ? strlen(body) : 0;
    *text = len > 2 ? malloc(len + TAIL_MAX) : NULL;
    if (*text == NULL) {
        free(body);
        return dt_fail(DT_ERR_MEMORY, "no memory for a JSON text");
    }
    len -= 2; /* "\n}": the tail brings its own */
    memcpy(*text, body, len);
    memcpy(*text + len, tail, make_tail(tail, checksum, XXH3_64bits(*text, len)) + 1);
    free(body);
    return DT_OK;
}

dt_status dt_ckpt_manifest_format(const dt_ckpt_manifest *m, char **text) {
    *text = NULL;
    json_t *root = json_object();
    dt_status status = root ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for the manifest");
    if (status == DT_OK) status = put_all(root, m);
    if (status == DT_OK) status = dt_ckpt_json_format(root, checksum_name, text);
    json_decref(root);
    return status;
}

dt_status dt_ckpt_meta_store(dt_h5 *h, const dt_ckpt_meta *meta) {
    for (int i = 0; i < META_ROWS; i++) {
        const meta_row *row = &meta_table[i];
        if (!in_version(row, FORMAT_VERSION)) continue;
        json_t *value = json_meta(meta, row);
        dt_status status;
        if (json_is_real(value))
            status = dt_h5_attr_set_f64(h, row->name, json_real_value(value));
        else if (json_is_integer(value))
            status = dt_h5_attr_set_i64(h, row->name, json_integer_value(value));
        else if (json_is_string(value))
            status = dt_h5_attr_set_str(h, row->name, json_string_value(value));
        else
            status = dt_fail(DT_ERR_CHECKPOINT, "\"%s\" has a value that cannot be stored", row->name);
        json_decref(value);
        if (status != DT_OK) return status;
    }
    return DT_OK;
}

/* ---- reading ---- */

/* Exactly 16 lower-case hex digits. */
static bool parse_hash(const char *text, size_t len, uint64_t *out) {
    static const char digits[] = "0123456789abcdef";
    if (len != HASH_DIGITS) return false;
    uint64_t h = 0;
    for (size_t i = 0; i < len; i++) {
        const char *d = text[i] != '\0' ? strchr(digits, text[i]) : NULL;
        if (d == NULL) return false;
        h = h << 4 | (uint64_t)(d - digits);
    }
    *out = h;
    return true;
}

static dt_status check_tail(const char *text, size_t bytes, const char *checksum) {
    char tail[TAIL_MAX];
    const size_t tail_bytes = make_tail(tail, checksum, 0), end = HASH_DIGITS + strlen("\"\n}\n");
    uint64_t want = 0;
    if (bytes < tail_bytes)
        return dt_fail(DT_ERR_CHECKPOINT, "truncated: only %s", dt_count_text((int64_t)bytes, "byte").s);
    size_t body = bytes - tail_bytes;
    bool sound = parse_hash(text + bytes - end, HASH_DIGITS, &want);
    if (sound) make_tail(tail, checksum, want);
    if (!sound || memcmp(text + body, tail, tail_bytes) != 0)
        return dt_fail(DT_ERR_CHECKPOINT, "truncated or altered: it does not end with its own checksum");
    if (XXH3_64bits(text, body) != want)
        return dt_fail(DT_ERR_CHECKPOINT, "damaged: its bytes do not match its checksum %016" PRIx64, want);
    return DT_OK;
}

static dt_status bad_member(const char *where, const char *name, const char *want) {
    return dt_fail(DT_ERR_CHECKPOINT, "%s\"%s\" is not %s", where, name, want);
}

static dt_status get_hash(const json_t *object, const char *where, const char *name, uint64_t *out) {
    const json_t *v = json_object_get(object, name);
    if (!json_is_string(v) || !parse_hash(json_string_value(v), json_string_length(v), out))
        return bad_member(where, name, "16 hex digits");
    return DT_OK;
}

static dt_status get_text(const json_t *object, const char *where, const char *name, const char *want) {
    const json_t *v = json_object_get(object, name);
    if (!json_is_string(v) || strcmp(json_string_value(v), want) != 0) return bad_member(where, name, want);
    return DT_OK;
}

static const char name_letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_";
enum { NAME_MAX_BYTES = sizeof((dt_ckpt_meta *)0)->optimizer };

static dt_status get_meta(const json_t *root, const meta_row *row, dt_ckpt_meta *meta) {
    const json_t *v = json_object_get(root, row->name);
    char *field = (char *)meta + row->offset;
    if (row->kind == META_NAME) {
        const size_t n = json_string_length(v);
        if (n == 0 || n >= NAME_MAX_BYTES || strspn(json_string_value(v), name_letters) != n)
            return bad_member("", row->name, "a name");
        memcpy(field, json_string_value(v), n + 1);
    } else if (row->kind == META_HASH) {
        uint64_t h = 0;
        DT_TRY(get_hash(root, "", row->name, &h));
        memcpy(field, &h, sizeof h);
    } else if (row->kind == META_REAL) {
        double d = json_real_value(v);
        if (!json_is_real(v) || !isfinite(d)) return bad_member("", row->name, "a finite real number");
        memcpy(field, &d, sizeof d);
    } else {
        int64_t i = json_integer_value(v);
        if (!json_is_integer(v) || (row->kind == META_COUNT && i < 0))
            return bad_member("", row->name, "a whole number of its range");
        memcpy(field, &i, sizeof i);
    }
    return DT_OK;
}

static dt_status get_state(const json_t *root, dt_ckpt_manifest *out) {
    const json_t *state = json_object_get(root, "state");
    if (!json_is_object(state) || json_object_size(state) != 3)
        return bad_member("", "state", "an object of file, bytes and xxh3");
    DT_TRY(get_text(state, "state: ", "file", DT_CKPT_STATE_FILE));
    const json_t *bytes = json_object_get(state, "bytes");
    if (!json_is_integer(bytes) || json_integer_value(bytes) < 0)
        return bad_member("state: ", "bytes", "a file length");
    out->state_bytes = json_integer_value(bytes);
    return get_hash(state, "state: ", "xxh3", &out->state_xxh3);
}

static dt_status get_shape(const json_t *shape, const char *where, dt_ckpt_entry *e) {
    size_t ndim = json_array_size(shape);
    if (!json_is_array(shape) || ndim > DT_MAX_DIM)
        return bad_member(where, "shape", "an array of at most 8 dims");
    e->ndim = (int32_t)ndim;
    for (size_t i = 0; i < ndim; i++) {
        const json_t *dim = json_array_get(shape, i);
        e->dim[i] = json_is_integer(dim) ? json_integer_value(dim) : 0;
    }
    e->n_elem = dt_ckpt_count_elements(e->ndim, e->dim);
    return e->n_elem > 0 ? DT_OK : bad_member(where, "shape", "a shape of positive dims that fit in memory");
}

static dt_status get_entry(const json_t *tensor, size_t index, dt_ckpt_entry *e) {
    char where[DT_CKPT_TENSOR_NAME_MAX + 64];
    snprintf(where, sizeof where, "tensor %zu: ", index);
    if (!json_is_object(tensor) || json_object_size(tensor) != 4)
        return dt_fail(DT_ERR_CHECKPOINT, "tensor %zu is not an object of name, dtype, shape and xxh3",
                       index);
    const char *name = json_string_value(json_object_get(tensor, "name"));
    if (name == NULL || !dt_ckpt_name_ok(name)) return bad_member(where, "name", "a tensor name");
    snprintf(where, sizeof where, "tensor %s: ", name);
    e->name = strdup(name);
    if (e->name == NULL) return dt_fail(DT_ERR_MEMORY, "no memory for the manifest");
    DT_TRY(get_text(tensor, where, "dtype", "f32"));
    DT_TRY(get_shape(json_object_get(tensor, "shape"), where, e));
    return get_hash(tensor, where, "xxh3", &e->xxh3);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* No name twice, and no more bytes than state.h5 has: a manifest must not make us reserve what no file
 * backs. */
static dt_status check_tensors(const dt_ckpt_manifest *m) {
    int64_t bytes_left = m->state_bytes;
    char **name = malloc(((size_t)m->n_tensor + 1) * sizeof *name);
    if (name == NULL) return dt_fail(DT_ERR_MEMORY, "no memory for the manifest");
    dt_status status = DT_OK;
    for (int32_t i = 0; i < m->n_tensor; i++) {
        name[i] = m->tensor[i].name;
        int64_t bytes = m->tensor[i].n_elem * (int64_t)sizeof(float);
        if (bytes > bytes_left) {
            status = dt_fail(DT_ERR_CHECKPOINT, "tensor %s: does not fit into the %" PRId64 " bytes of %s",
                             name[i], m->state_bytes, DT_CKPT_STATE_FILE);
            goto done;
        }
        bytes_left -= bytes;
    }
    qsort(name, (size_t)m->n_tensor, sizeof *name, by_name);
    for (int32_t i = 1; i < m->n_tensor; i++) {
        if (strcmp(name[i - 1], name[i]) != 0) continue;
        status = dt_fail(DT_ERR_CHECKPOINT, "tensor %s stands twice", name[i]);
        goto done;
    }
done:
    free(name);
    return status;
}

static dt_status get_tensors(const json_t *root, dt_ckpt_manifest *out) {
    const json_t *tensors = json_object_get(root, "tensors");
    size_t n = json_array_size(tensors);
    if (!json_is_array(tensors) || n > INT32_MAX) return bad_member("", "tensors", "an array");
    out->tensor = calloc(n + 1, sizeof *out->tensor);
    if (out->tensor == NULL) return dt_fail(DT_ERR_MEMORY, "no memory for the manifest");
    out->n_tensor = (int32_t)n;
    for (size_t i = 0; i < n; i++) DT_TRY(get_entry(json_array_get(tensors, i), i, &out->tensor[i]));
    return check_tensors(out);
}

/* What the data room wrote, for it to read. */
static dt_status get_data(const json_t *data, dt_ckpt_manifest *out) {
    if (json_is_null(data)) return DT_OK;
    if (!json_is_object(data)) return bad_member("", "data", "an object or null");
    out->data_text = json_dumps(data, JSON_COMPACT);
    return out->data_text ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for the manifest");
}

static dt_status get_all(const json_t *root, dt_ckpt_manifest *out) {
    if (!json_is_object(root)) return dt_fail(DT_ERR_CHECKPOINT, "not a JSON object");
    DT_TRY(get_text(root, "", "format", format_name));
    const json_t *version = json_object_get(root, "version");
    if (!json_is_integer(version)) return bad_member("", "version", "a whole number");
    const json_int_t number = json_integer_value(version);
    if (number < OLDEST_VERSION || number > FORMAT_VERSION)
        return dt_fail(DT_ERR_CHECKPOINT, "format version %lld; this dtrain reads versions %d to %d",
                       (long long)number, OLDEST_VERSION, FORMAT_VERSION);
    int n_meta = 0;
    for (int i = 0; i < META_ROWS; i++) n_meta += in_version(&meta_table[i], (int)number);
    /* format, version, state, config, tensors, manifest_xxh3; data */
    const int n_member = n_meta + 6 + (number >= DATA_SINCE);
    if (json_object_size(root) != (size_t)n_member)
        return dt_fail(DT_ERR_CHECKPOINT, "has %zu members, not the %d of its format", json_object_size(root),
                       n_member);
    for (int i = 0; i < META_ROWS; i++)
        if (in_version(&meta_table[i], (int)number)) DT_TRY(get_meta(root, &meta_table[i], &out->meta));
    if (number <= LAST_OF_SKIP_BITS)
        out->meta.skipped_in_a_row = __builtin_ctzll(~(uint64_t)out->meta.skipped_in_a_row);
    DT_TRY(get_state(root, out));
    const json_t *config = json_object_get(root, "config");
    if (!json_is_string(config)) return bad_member("", "config", "the text of the configuration");
    out->config_text = strdup(json_string_value(config));
    if (out->config_text == NULL) return dt_fail(DT_ERR_MEMORY, "no memory for the manifest");
    if (number >= DATA_SINCE) DT_TRY(get_data(json_object_get(root, "data"), out));
    return get_tensors(root, out);
}

dt_status dt_ckpt_json_parse(const char *text, size_t bytes, const char *checksum, json_t **root) {
    *root = NULL;
    DT_TRY(check_tail(text, bytes, checksum));
    json_error_t error;
    *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (*root != NULL) return DT_OK;
    return dt_fail(DT_ERR_CHECKPOINT, "line %d, column %d: %s", error.line, error.column, error.text);
}

dt_status dt_ckpt_manifest_parse(const char *text, size_t bytes, dt_ckpt_manifest *out) {
    *out = (dt_ckpt_manifest){0};
    json_t *root;
    DT_TRY(dt_ckpt_json_parse(text, bytes, checksum_name, &root));
    dt_status status = get_all(root, out);
    json_decref(root);
    return status;
}
