/* Generated fields, for benchmarks and trials: a sample's numbers depend on its number and the field's alone. */
#include "dataset.h"

#include <stdlib.h>
#include <string.h>

#include "core/rng.h"

enum { STREAM = 2 }; /* of Philox; images have 0 and 1 */

typedef struct synthetic_plan {
    int32_t n_field;
    dt_field field[DT_FIELDS_MAX];
    int64_t n_classes;
} synthetic_plan;

/* ---- "x:f32[4,16] y:i32" ---- */

static dt_status wrong(const char *item) {
    return dt_fail(DT_ERR_CONFIG,
                   "data.synthetic_fields: \"%.60s\": expected NAME:TYPE or NAME:TYPE[N,...], TYPE one of "
                   "f32, f16, f64, "
                   "u8, i32 and i64, such as x:f32[13] y:f32",
                   item);
}

static dt_status parse_shape(const char *item, const char *at, dt_field *f) {
    int64_t bytes = (int64_t)dt_dtype_size(f->dtype);
    if (*at == 0) return DT_OK;
    do {
        char *end;
        at++;
        const long long n = *at >= '0' && *at <= '9' ? strtoll(at, &end, 10) : 0;
        if (n < 1 || f->ndim == DT_MAX_DIM - 1 || __builtin_mul_overflow(bytes, (int64_t)n, &bytes) ||
            bytes > DT_SAMPLE_BYTES_MAX)
            return wrong(item);
        f->dim[f->ndim++] = n;
        at = end;
    } while (*at == ',');
    return strcmp(at, "]") == 0 ? DT_OK : wrong(item);
}

static dt_status parse_field(const char *item, dt_field *f) {
    const char *colon = strchr(item, ':');
    const size_t n_name = colon ? (size_t)(colon - item) : 0;
    *f = (dt_field){.ndim = 0};
    if (n_name == 0 || n_name >= sizeof f->name) return wrong(item);
    memcpy(f->name, item, n_name);
    if (!dt_array_name_is(f->name)) return wrong(item);
    const char *type = colon + 1;
    const size_t n_type = strcspn(type, "[");
    for (int i = 0; i <= DT_DTYPE_F64; i++) {
        const char *name = dt_dtype_name((dt_dtype)i);
        if (strlen(name) != n_type || strncmp(name, type, n_type) != 0 || i == DT_DTYPE_BF16) continue;
        f->dtype = (dt_dtype)i;
        return parse_shape(item, type + n_type, f);
    }
    return wrong(item);
}

static dt_status parse_fields(const char *text, dt_dataset_info *info) {
    char *copy = strdup(text), *rest = NULL;
    dt_status status = copy ? DT_OK : dt_fail(DT_ERR_MEMORY, "synthetic data: out of memory");
    for (char *item = copy ? strtok_r(copy, " ", &rest) : NULL; item && status == DT_OK;
         item = strtok_r(NULL, " ", &rest)) {
        if (info->n_field == DT_ARRAY_FIELDS_MAX) {
            status =
                dt_fail(DT_ERR_CONFIG, "data.synthetic_fields: more than %d fields", DT_ARRAY_FIELDS_MAX);
            break;
        }
        dt_field *f = &info->field[info->n_field++];
        status = parse_field(item, f);
        for (int32_t i = 0; status == DT_OK && i < info->n_field - 1; i++)
            if (strcmp(info->field[i].name, f->name) == 0)
                status = dt_fail(DT_ERR_CONFIG, "data.synthetic_fields: two fields \"%s\"", f->name);
    }
    if (copy && status == DT_OK && info->n_field == 0) status = wrong(copy);
    free(copy);
    return status;
}

dt_status dt_synthetic_open(const dt_data_options *o, dt_dataset *d) {
    d->info = (dt_dataset_info){
        .kind = dt_synthetic_row.kind, .n_samples = o->synthetic_samples, .n_classes = o->synthetic_classes};
    if (o->synthetic_samples < 1 || o->synthetic_classes < 1 || o->synthetic_classes > INT32_MAX)
        return dt_fail(DT_ERR_CONFIG, "synthetic data: samples or classes out of range");
    return parse_fields(o->synthetic_fields, &d->info);
}

static void close_synthetic(dt_dataset *d) {
    (void)d;
}

static void place(const dt_dataset *d, int64_t sample, const char **file, int64_t *row) {
    (void)d;
    *file = "";
    *row = sample;
}

/* ---- numbers ---- */

/* Real ones from -1 to 1, whole ones below the number of classes, bytes of any value. */
static void put_number(const synthetic_plan *p, const dt_field *f, int64_t i, uint32_t word, void *at) {
    const float real = 2 * dt_u01(word) - 1;
    const int64_t whole = word % p->n_classes;
    switch (f->dtype) {
    case DT_DTYPE_F32:
        ((float *)at)[i] = real;
        break;
    case DT_DTYPE_F64:
        ((double *)at)[i] = (double)real;
        break;
    case DT_DTYPE_F16:
        ((uint16_t *)at)[i] = (uint16_t)((word & 0x8000) | (10 + word % 5) << 10 | word >> 22);
        break;
    case DT_DTYPE_U8:
        ((uint8_t *)at)[i] = (uint8_t)(word >> 24);
        break;
    case DT_DTYPE_I32:
        ((int32_t *)at)[i] = (int32_t)whole;
        break;
    default:
        ((int64_t *)at)[i] = whole;
    }
}

static dt_status plan(const dt_loader_options *o, int64_t max_rows, dt_loader_plan *out) {
    const dt_dataset_info *info = &o->dataset->info;
    synthetic_plan *p = calloc(1, sizeof *p);
    (void)max_rows;
    if (!p) return dt_fail(DT_ERR_MEMORY, "loader: out of memory");
    p->n_classes = info->n_classes;
    p->n_field = out->n_field = info->n_field;
    memcpy(p->field, info->field, sizeof p->field);
    memcpy(out->field, info->field, sizeof out->field);
    out->state = p;
    return DT_OK;
}

static dt_status fetch(void *reader, uint64_t epoch, int64_t sample, const dt_row *row) {
    const synthetic_plan *p = reader;
    (void)epoch;
    for (int32_t k = 0; k < p->n_field; k++) {
        const dt_field *f = &p->field[k];
        const int64_t n = dt_field_bytes(f) / (int64_t)dt_dtype_size(f->dtype);
        for (int64_t i = 0; i < n; i += 4) {
            const dt_u32x4 word =
                dt_philox((uint64_t)STREAM << 32 | (uint64_t)k, (uint64_t)sample, (uint64_t)i / 4);
            for (int64_t e = i; e < dt_min_i64(i + 4, n); e++)
                put_number(p, f, e, word.v[e - i], row->data[k]);
        }
    }
    return DT_OK;
}

const dt_data_row dt_synthetic_row = {.kind = "synthetic",
                                      .close = close_synthetic,
                                      .place = place,
                                      .plan = plan,
                                      .fetch = fetch,
                                      .agree = dt_fields_agree};
