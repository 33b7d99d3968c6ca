/* Constants of ONNX files: what a tensor's fields say, and data that lie in a file beside the model. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "onnx_private.h"

/* Fields of TensorProto. */
enum {
    T_DIMS = 1,
    T_TYPE = 2,
    T_SEGMENT = 3,
    T_FLOATS = 4,
    T_INT32S = 5,
    T_STRINGS = 6,
    T_INT64S = 7,
    T_NAME = 8,
    T_RAW = 9,
    T_DOUBLES = 10,
    T_UINT64S = 11,
    T_EXTERNAL = 13,
    T_LOCATION = 14,
    T_FIELDS
};

typedef struct type_row {
    const char *name;
    dt_tensor_type type;
    int8_t field;                   /* of numbers that are not raw */
    int8_t wide;                    /* bytes of a number of it in memory */
    int64_t number_min, number_max; /* both 0: any */
} type_row;

/* By ONNX's number. */
static const type_row type_table[] = {
    [0] = {"of no type", DT_TENSOR_TYPES},
    [1] = {"FLOAT", DT_TENSOR_F32, T_FLOATS, 4},
    [2] = {"UINT8", DT_TENSOR_U8, T_INT32S, 1, 0, UINT8_MAX},
    [3] = {"INT8", DT_TENSOR_I8, T_INT32S, 1, INT8_MIN, INT8_MAX},
    [4] = {"UINT16", DT_TENSOR_U16, T_INT32S, 2, 0, UINT16_MAX},
    [5] = {"INT16", DT_TENSOR_I16, T_INT32S, 2, INT16_MIN, INT16_MAX},
    [6] = {"INT32", DT_TENSOR_I32, T_INT32S, 4},
    [7] = {"INT64", DT_TENSOR_I64, T_INT64S, 8},
    [8] = {"STRING", DT_TENSOR_TYPES},
    [9] = {"BOOL", DT_TENSOR_BOOL, T_INT32S, 1, 0, 1},
    [10] = {"FLOAT16", DT_TENSOR_F16, T_INT32S, 2, 0, UINT16_MAX},
    [11] = {"DOUBLE", DT_TENSOR_F64, T_DOUBLES, 8},
    [12] = {"UINT32", DT_TENSOR_U32, T_UINT64S, 4, 0, UINT32_MAX},
    [13] = {"UINT64", DT_TENSOR_U64, T_UINT64S, 8},
    [14] = {"COMPLEX64", DT_TENSOR_C64, T_FLOATS, 4},
    [15] = {"COMPLEX128", DT_TENSOR_TYPES},
    [16] = {"BFLOAT16", DT_TENSOR_BF16, T_INT32S, 2, 0, UINT16_MAX},
    [17] = {"FLOAT8E4M3FN", DT_TENSOR_F8_E4M3, T_INT32S, 1, 0, UINT8_MAX},
    [18] = {"FLOAT8E4M3FNUZ", DT_TENSOR_F8_E4M3FNUZ, T_INT32S, 1, 0, UINT8_MAX},
    [19] = {"FLOAT8E5M2", DT_TENSOR_F8_E5M2, T_INT32S, 1, 0, UINT8_MAX},
    [20] = {"FLOAT8E5M2FNUZ", DT_TENSOR_F8_E5M2FNUZ, T_INT32S, 1, 0, UINT8_MAX},
    [21] = {"UINT4", DT_TENSOR_U4, T_INT32S, 1, 0, UINT8_MAX},
    [22] = {"INT4", DT_TENSOR_I4, T_INT32S, 1, INT8_MIN, UINT8_MAX},
    [23] = {"FLOAT4E2M1", DT_TENSOR_F4, T_INT32S, 1, 0, UINT8_MAX},
    [24] = {"FLOAT8E8M0", DT_TENSOR_F8_E8M0, T_INT32S, 1, 0, UINT8_MAX},
    [25] = {"UINT2", DT_TENSOR_U2, T_INT32S, 1, 0, UINT8_MAX},
    [26] = {"INT2", DT_TENSOR_I2, T_INT32S, 1, INT8_MIN, UINT8_MAX},
};
enum { N_TYPE = sizeof type_table / sizeof type_table[0] };

int64_t dt_onnx_type_number(dt_tensor_type type) {
    for (int k = 0; k < N_TYPE; k++)
        if (type_table[k].type == type) return k;
    return 0;
}

dt_tensor_type dt_onnx_type_find(uint64_t number) {
    return number < N_TYPE ? type_table[number].type : DT_TENSOR_TYPES;
}

/* What a TensorProto says. */
typedef struct facts {
    dt_pb message;
    uint64_t type, location;
    const type_row *row;
    int64_t n[T_FIELDS]; /* numbers in each field of data */
    int32_t times[T_FIELDS];
    dt_pb_field last[T_FIELDS];
} facts;

static dt_pb_wire wire_of(int32_t field) {
    return field == T_FLOATS ? DT_PB_FIXED32 : field == T_DOUBLES ? DT_PB_FIXED64 : DT_PB_VARINT;
}

static dt_status read_dims(const dt_pb *r, dt_pb_field *f, dt_onnx_tensor *out) {
    int64_t n;
    DT_TRY(dt_pb_count(r, f, DT_PB_VARINT, &n));
    if (n > DT_MAX_DIM - out->ndim) return dt_pb_fail(r, f, "more than 8 dimensions");
    uint64_t dim[DT_MAX_DIM];
    dt_pb_numbers(f, DT_PB_VARINT, n, dim);
    for (int64_t i = 0; i < n; i++) out->dim[out->ndim++] = (int64_t)dim[i];
    return DT_OK;
}

static dt_status read_facts(dt_onnx_reader *rd, const dt_onnx_scope *scope, facts *x, dt_onnx_tensor *out) {
    dt_pb r = x->message;
    dt_pb_field f;
    int64_t n = 0;
    while (dt_pb_next(&r, &f)) {
        switch (f.number) {
        case T_DIMS:
            DT_TRY(read_dims(&r, &f, out));
            break;
        case T_TYPE:
        case T_LOCATION:
            DT_TRY(dt_pb_want(&r, &f, DT_PB_VARINT));
            *(f.number == T_TYPE ? &x->type : &x->location) = f.value;
            break;
        case T_NAME:
            DT_TRY(dt_onnx_take_text(rd, scope, &r, &f, true, &out->name));
            break;
        case T_SEGMENT:
            return dt_pb_fail(&r, &f, "a tensor in segments");
        case T_RAW:
        case T_EXTERNAL:
        case T_STRINGS:
            DT_TRY(dt_pb_want(&r, &f, DT_PB_BYTES));
            x->times[f.number]++;
            x->last[f.number] = f;
            break;
        case T_FLOATS:
        case T_INT32S:
        case T_INT64S:
        case T_DOUBLES:
        case T_UINT64S:
            DT_TRY(dt_pb_count(&r, &f, wire_of(f.number), &n));
            x->n[f.number] += n;
            x->times[f.number]++;
            x->last[f.number] = f;
            break;
        default:
            break;
        }
    }
    return DT_OK;
}

/* Entries of a path, each opened inside the one before and none a link; *fd is the file's. */
static dt_status open_inside(const char *folder, const char *location, int *fd) {
    char part[NAME_MAX + 1];
    int at = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (at < 0) return dt_fail(DT_ERR_DATA, "%s: %s", folder, strerror(errno));
    for (const char *p = location;;) {
        const size_t n = strcspn(p, "/");
        const bool last = p[n] == '\0';
        if (n == 0 || n > NAME_MAX || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.')) {
            close(at);
            return dt_fail(DT_ERR_DATA, "data in \"%.200s\": no plain path inside the model's folder",
                           location);
        }
        memcpy(part, p, n);
        part[n] = '\0';
        const int next =
            openat(at, part, O_CLOEXEC | O_NOFOLLOW | (last ? O_RDONLY | O_NONBLOCK : O_PATH | O_DIRECTORY));
        const int error = errno;
        close(at);
        if (next < 0)
            return dt_fail(DT_ERR_DATA, "data in \"%.200s\": %s", location,
                           error == ELOOP || (error == ENOTDIR && !last)
                               ? "a symbolic link, or no folder, on the way"
                               : strerror(error));
        at = next;
        if (last) break;
        p += n + 1;
    }
    *fd = at;
    return DT_OK;
}

/* Maps what lies at a location beside the model, once. */
static dt_status map_external(dt_onnx_reader *rd, const char *location, dt_mapped_file *out) {
    const dt_onnx_external *known = (const dt_onnx_external *)(const void *)rd->externals.item;
    for (int64_t i = 0; i < rd->externals.n; i++)
        if (strcmp(known[i].location, location) == 0) {
            *out = rd->m->file[known[i].file];
            return DT_OK;
        }
    enum { FILES_MAX = 4096 };
    if (rd->externals.n == FILES_MAX) return dt_fail(DT_ERR_DATA, "data in more than %d files", FILES_MAX);
    const char *slash = strrchr(rd->path, '/');
    const char *folder = !slash              ? "."
                         : slash == rd->path ? "/"
                                             : dt_onnx_text(rd->m, "%.*s", (int)(slash - rd->path), rd->path);
    dt_mapped_file *file;
    DT_TRY(dt_onnx_take(rd, NULL, (int64_t)sizeof *file * (rd->m->n_file + 1), &file));
    dt_onnx_external *entry = dt_onnx_list_add(&rd->externals);
    if (!folder || !entry) return dt_fail(DT_ERR_MEMORY, "no memory to open \"%.200s\"", location);
    entry->location = location;
    entry->file = rd->m->n_file;
    int fd = -1;
    struct stat st;
    DT_TRY(open_inside(folder, location, &fd));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size == 0 || st.st_nlink > 1) {
        close(fd);
        return dt_fail(DT_ERR_DATA, "data in \"%.200s\": no regular file of one name with anything in it",
                       location);
    }
    const dt_status status = dt_file_map_open(fd, location, out);
    close(fd);
    if (status != DT_OK) {
        dt_error_context("data in \"%.200s\"", location);
        return status;
    }
    if (rd->m->n_file > 0) memcpy(file, rd->m->file, (size_t)rd->m->n_file * sizeof *file);
    file[rd->m->n_file] = *out;
    rd->m->file = file;
    rd->m->n_file++;
    return DT_OK;
}

static bool parse_count(const char *text, int64_t *out) {
    int64_t value = 0;
    for (const char *c = text; *c; c++)
        if (*c < '0' || *c > '9' || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, *c - '0', &value))
            return false;
    *out = value;
    return *text != '\0';
}

/* One key and value (fields 1 and 2) of a message. */
static dt_status read_pair(dt_onnx_reader *rd, const dt_onnx_scope *scope, const dt_pb *r,
                           const dt_pb_field *at, const char **key, const char **value) {
    dt_pb inner;
    dt_pb_field f;
    *key = *value = "";
    DT_TRY(dt_pb_enter(r, at, &inner));
    while (dt_pb_next(&inner, &f))
        if (f.number == 1 || f.number == 2)
            DT_TRY(dt_onnx_take_text(rd, scope, &inner, &f, true, f.number == 1 ? key : value));
    return DT_OK;
}

/* Bytes that the model says lie in another file. */
static dt_status find_external(dt_onnx_reader *rd, const dt_onnx_scope *scope, const facts *x,
                               int64_t n_bytes, const uint8_t **data) {
    const char *location = NULL, *key, *value;
    int64_t offset = 0, length = n_bytes;
    dt_pb r = x->message;
    dt_pb_field f;
    while (dt_pb_next(&r, &f)) {
        if (f.number != T_EXTERNAL) continue;
        DT_TRY(read_pair(rd, scope, &r, &f, &key, &value));
        if (strcmp(key, "location") == 0) location = value;
        if ((strcmp(key, "offset") == 0 && !parse_count(value, &offset)) ||
            (strcmp(key, "length") == 0 && !parse_count(value, &length)))
            return dt_pb_fail(&r, &f, "an offset or length of external data that is no number");
    }
    if (!location || !*location || *location == '/')
        return dt_fail(DT_ERR_DATA, "external data without a place inside the model's folder");
    if (length != n_bytes)
        return dt_fail(DT_ERR_DATA, "%lld bytes of external data, and its shape needs %lld",
                       (long long)length, (long long)n_bytes);
    dt_mapped_file file = {0};
    DT_TRY(map_external(rd, location, &file));
    if (offset > file.n_bytes || length > file.n_bytes - offset)
        return dt_fail(DT_ERR_DATA,
                       "data in \"%.200s\" from byte %lld, %lld of them: the file has %lld bytes", location,
                       (long long)offset, (long long)length, (long long)file.n_bytes);
    *data = file.byte + offset;
    return DT_OK;
}

/* Numbers of a typed field, put where numbers of x->row->wide bytes are wanted. */
static dt_status narrow(const facts *x, uint8_t *to) {
    const type_row *row = x->row;
    enum { CHUNK = 512 };
    uint64_t number[CHUNK];
    dt_pb r = x->message;
    dt_pb_field f;
    while (dt_pb_next(&r, &f)) {
        if (f.number != row->field) continue;
        int64_t left;
        DT_TRY(dt_pb_count(&r, &f, wire_of(f.number), &left));
        while (left > 0) {
            const int64_t m = left < CHUNK ? left : CHUNK;
            dt_pb_numbers(&f, wire_of(f.number), m, number);
            for (int64_t i = 0; i < m; i++, to += row->wide) {
                const int64_t v = row->field == T_INT32S ? (int32_t)number[i] : (int64_t)number[i];
                if (row->number_max && (v < row->number_min || v > row->number_max))
                    return dt_pb_fail(&r, &f, "a number out of its type's range");
                memcpy(to, &v, (size_t)row->wide); /* the low bytes come first */
            }
            left -= m;
        }
    }
    return DT_OK;
}

int32_t dt_onnx_packed_bits(dt_tensor_type type) {
    return type == DT_TENSOR_U4 || type == DT_TENSOR_I4   ? 4
           : type == DT_TENSOR_U2 || type == DT_TENSOR_I2 ? 2
                                                          : 0;
}

/* Several in a byte, the lowest bits first, to one in a byte, signs extended. */
static void unpack(dt_tensor_type type, const uint8_t *packed, int64_t n, uint8_t *out) {
    const int32_t bits = dt_onnx_packed_bits(type), in_byte = 8 / bits, mask = (1 << bits) - 1;
    const bool is_signed = type == DT_TENSOR_I4 || type == DT_TENSOR_I2;
    for (int64_t i = 0; i < n; i++) {
        const int32_t part = packed[i / in_byte] >> bits * (int32_t)(i % in_byte) & mask;
        out[i] = (uint8_t)(is_signed && part > mask / 2 ? part | ~mask : part);
    }
}

static dt_status find_data(dt_onnx_reader *rd, const dt_onnx_scope *scope, facts *x, dt_onnx_tensor *out) {
    const int32_t field = x->row->field;
    const int32_t packed = dt_onnx_packed_bits(out->type);
    const int64_t packed_bytes = packed ? dt_ceil_div(out->n_elem, 8 / packed) : out->n_bytes;
    const int64_t wanted = packed_bytes / x->row->wide;
    const uint8_t *data = NULL;
    uint8_t *own;
    int32_t kinds = x->location == 1;
    for (int32_t k = 0; k < T_FIELDS; k++) kinds += k != T_EXTERNAL && x->times[k] > 0;
    if (kinds > 1) return dt_fail(DT_ERR_DATA, "its data are there in two forms");
    if (x->location > 1) return dt_fail(DT_ERR_DATA, "its data are in a place of no known kind");
    if (x->location == 1) {
        DT_TRY(find_external(rd, scope, x, packed_bytes, &data));
    } else if (x->times[T_RAW] > 0) {
        if (x->times[T_RAW] > 1 || x->last[T_RAW].n != packed_bytes)
            return dt_fail(DT_ERR_DATA, "%lld bytes of data, and its type and shape need %lld",
                           (long long)x->last[T_RAW].n, (long long)packed_bytes);
        data = x->last[T_RAW].at;
    } else {
        if (x->n[field] != wanted || (kinds == 1 && x->times[field] == 0))
            return dt_fail(DT_ERR_DATA, "%lld numbers of its type, and its shape needs %lld",
                           (long long)x->n[field], (long long)wanted);
        if (wire_of(field) != DT_PB_VARINT && x->times[field] == 1) {
            data = x->last[field].at; /* as raw ones lie */
        } else {
            DT_TRY(dt_onnx_take(rd, scope, packed_bytes, &own));
            DT_TRY(narrow(x, own));
            data = own;
        }
    }
    if (packed) {
        DT_TRY(dt_onnx_take(rd, scope, out->n_elem, &own));
        unpack(out->type, data, out->n_elem, own);
        data = own;
    }
    for (int64_t i = 0; out->type == DT_TENSOR_BOOL && i < out->n_elem; i++)
        if (data[i] > 1) return dt_fail(DT_ERR_DATA, "a truth value that is neither 0 nor 1");
    out->data = data;
    return DT_OK;
}

dt_status dt_onnx_read_tensor(dt_onnx_reader *rd, const dt_onnx_scope *scope, dt_pb r, dt_onnx_tensor *out,
                              const char **why) {
    facts x = {.message = r};
    *out = (dt_onnx_tensor){.name = ""};
    *why = NULL;
    dt_status st = read_facts(rd, scope, &x, out);
    if (st == DT_OK && dt_onnx_type_find(x.type) == DT_TENSOR_TYPES) {
        *why =
            dt_onnx_text(rd->m, "a tensor of type %s (%llu), which is not read",
                         x.type < N_TYPE ? type_table[x.type].name : "unknown", (unsigned long long)x.type);
        if (*why) return DT_OK;
        st = dt_fail(DT_ERR_MEMORY, "no memory for a model");
    }
    if (st == DT_OK) {
        x.row = &type_table[x.type];
        out->type = x.row->type;
        if (!dt_file_tensor_size(out->type, out->ndim, out->dim, &out->n_elem, &out->n_bytes))
            st = dt_fail(DT_ERR_DATA, "a shape of more bytes than can be, or of less than nothing");
    }
    if (st == DT_OK) st = find_data(rd, scope, &x, out);
    if (st != DT_OK) dt_error_context("tensor '%.200s'", out->name);
    return st;
}
