/* An .onnx file: a ModelProto. Weights stay in the mapped file; functions are put where they are called. */
#include <string.h>

#include "onnx_private.h"
#include "readers.h"

enum { IR_MIN = 3, IR_MAX = 14, OPSET_MIN = 1, OPSET_MAX = 28, OPSETS_MAX = 1000 };

/* Fields. */
enum {
    MODEL_IR = 1,
    MODEL_PRODUCER = 2,
    MODEL_PRODUCER_VERSION = 3,
    MODEL_VERSION = 5,
    MODEL_DOC = 6,
    MODEL_GRAPH = 7,
    MODEL_OPSET = 8,
    MODEL_NOTE = 14,
    MODEL_FUNCTION = 25,
    MODEL_LAST = 31
};

static dt_status read_note(dt_onnx_reader *rd, const dt_pb *r, const dt_pb_field *at, dt_onnx_note *out) {
    dt_pb inner;
    dt_pb_field f;
    *out = (dt_onnx_note){"", ""};
    DT_TRY(dt_pb_enter(r, at, &inner));
    while (dt_pb_next(&inner, &f)) {
        if (f.number == 1) DT_TRY(dt_onnx_take_text(rd, NULL, &inner, &f, true, &out->key));
        if (f.number == 2) DT_TRY(dt_onnx_take_text(rd, NULL, &inner, &f, false, &out->value));
    }
    return DT_OK;
}

static dt_status check_versions(const dt_onnx_reader *rd) {
    const dt_onnx_opset *opset = (const dt_onnx_opset *)(const void *)rd->opsets.item;
    if (rd->m->ir_version < IR_MIN || rd->m->ir_version > IR_MAX)
        return dt_fail(DT_ERR_DATA, "of IR version %lld: %d to %d are read", (long long)rd->m->ir_version,
                       IR_MIN, IR_MAX);
    if (rd->opsets.n == 0) return dt_fail(DT_ERR_DATA, "it does not say of which opset it is");
    for (int64_t i = 0; i < rd->opsets.n; i++) {
        for (int64_t k = 0; k < i; k++)
            if (strcmp(opset[k].domain, opset[i].domain) == 0)
                return dt_fail(DT_ERR_DATA, "two opsets of domain \"%.200s\"", opset[i].domain);
        if (*opset[i].domain == '\0' && (opset[i].version < OPSET_MIN || opset[i].version > OPSET_MAX))
            return dt_fail(DT_ERR_DATA, "of opset %lld: %d to %d are read", (long long)opset[i].version,
                           OPSET_MIN, OPSET_MAX);
        if (i > OPSETS_MAX || opset[i].version < 1)
            return dt_fail(DT_ERR_DATA, "opset %lld of domain \"%.200s\": none that can be",
                           (long long)opset[i].version, opset[i].domain);
    }
    return DT_OK;
}

static dt_status read_model_field(dt_onnx_reader *rd, const dt_pb *r, const dt_pb_field *f,
                                  dt_onnx_list *notes, dt_pb *graph) {
    dt_onnx_model *m = rd->m;
    switch (f->number) {
    case MODEL_IR:
        DT_TRY(dt_pb_want(r, f, DT_PB_VARINT));
        m->ir_version = (int64_t)f->value;
        return DT_OK;
    case MODEL_PRODUCER:
        return dt_onnx_take_text(rd, NULL, r, f, true, &m->producer);
    case MODEL_PRODUCER_VERSION:
        return dt_onnx_take_text(rd, NULL, r, f, true, &m->producer_version);
    case MODEL_DOC:
        return dt_onnx_take_text(rd, NULL, r, f, false, &m->doc);
    case MODEL_GRAPH:
        if (graph->file) return dt_pb_fail(r, f, "a second graph");
        return dt_pb_enter(r, f, graph);
    case MODEL_FUNCTION:
        return dt_onnx_read_function(rd, r, f);
    case MODEL_OPSET: {
        dt_onnx_opset *opset = dt_onnx_list_add(&rd->opsets);
        return opset ? dt_onnx_read_opset(rd, r, f, opset) : dt_onnx_no_memory();
    }
    case MODEL_NOTE: {
        dt_onnx_note *note = dt_onnx_list_add(notes);
        return note ? read_note(rd, r, f, note) : dt_onnx_no_memory();
    }
    default:
        return DT_OK;
    }
}

static dt_status read_fields(dt_onnx_reader *rd, dt_onnx_list *notes, dt_pb *graph) {
    dt_pb r;
    dt_pb_field f;
    DT_TRY(dt_pb_open(rd->m->file[0].byte, rd->m->file[0].n_bytes, &r));
    while (dt_pb_next(&r, &f)) DT_TRY(read_model_field(rd, &r, &f, notes, graph));
    return DT_OK;
}

static dt_status read_model(dt_onnx_reader *rd) {
    dt_onnx_model *m = rd->m;
    dt_onnx_list notes = {.size = sizeof(dt_onnx_note)};
    dt_pb graph = {.file = NULL};
    dt_status st = read_fields(rd, &notes, &graph);
    if (st == DT_OK) st = check_versions(rd);
    if (st == DT_OK) st = dt_onnx_sort_functions(rd);
    if (st == DT_OK && !graph.file) st = dt_fail(DT_ERR_DATA, "a model without a graph");
    if (st == DT_OK) st = dt_onnx_read_graph(rd, NULL, graph, &m->graph);
    if (st == DT_OK) st = dt_onnx_list_keep(rd, &notes, &m->note, &m->n_note);
    if (st == DT_OK) st = dt_onnx_list_keep(rd, &rd->opsets, &m->opset, &m->n_opset);
    if (st == DT_OK) st = dt_onnx_order(rd);
    dt_onnx_list_free(&notes);
    return st;
}

static dt_status map_file(dt_onnx_model *m, const char *path) {
    dt_mapped_file *file = dt_onnx_alloc(m, sizeof *file);
    if (!file) return dt_onnx_no_memory();
    DT_TRY(dt_file_map(path, file));
    m->file = file, m->n_file = 1;
    return DT_OK;
}

dt_status dt_onnx_read_into(dt_onnx_model *m, const char *path) {
    dt_onnx_reader rd = {.m = m,
                         .path = path,
                         .functions.size = sizeof(dt_onnx_function),
                         .externals.size = sizeof(dt_onnx_external),
                         .unread.size = sizeof(dt_onnx_unread),
                         .opsets.size = sizeof(dt_onnx_opset)};
    m->format = "ONNX";
    m->opset = NULL, m->n_opset = 0;
    m->path = dt_onnx_text(m, "%s", path);
    dt_status st = m->path ? map_file(m, path) : dt_onnx_no_memory();
    if (st == DT_OK) st = read_model(&rd);
    dt_onnx_list_free(&rd.functions), dt_onnx_list_free(&rd.externals), dt_onnx_list_free(&rd.unread),
        dt_onnx_list_free(&rd.opsets);
    return st;
}

dt_status dt_onnx_read(const char *path, dt_onnx_model **out) {
    *out = NULL;
    dt_onnx_model *m;
    DT_TRY(dt_onnx_model_create(OPSET_MIN, &m));
    dt_status st = dt_onnx_read_into(m, path);
    if (st != DT_OK) dt_error_context("%s", path);
    if (dt_onnx_check_files(m) != DT_OK) st = DT_ERR_DATA; /* what was read may be what is missing */
    if (st == DT_OK)
        *out = m;
    else
        dt_onnx_model_free(m);
    return st;
}

dt_status dt_onnx_read_constant(const char *path, dt_onnx_model **out) {
    *out = NULL;
    dt_onnx_model *m;
    DT_TRY(dt_onnx_model_create(OPSET_MIN, &m));
    dt_onnx_reader rd = {.m = m, .path = path, .externals.size = sizeof(dt_onnx_external)};
    dt_onnx_tensor *t = dt_onnx_alloc(m, (int64_t)sizeof *t);
    const char *why = NULL;
    dt_pb message;
    dt_status st = t ? map_file(m, path) : dt_onnx_no_memory();
    if (st == DT_OK) st = dt_pb_open(m->file->byte, m->file->n_bytes, &message);
    if (st == DT_OK) st = dt_onnx_read_tensor(&rd, NULL, message, t, &why);
    if (st == DT_OK && why) st = dt_fail(DT_ERR_DATA, "%s", why);
    dt_onnx_list_free(&rd.externals);
    if (st == DT_OK) {
        m->graph.constant = t, m->graph.n_constant = 1;
        *out = m;
        return DT_OK;
    }
    dt_onnx_model_free(m);
    dt_error_context("%s", path);
    return st;
}

/* Fields as an ONNX model has them, up to its graph. A file that was cut off later is still one. */
bool dt_onnx_knows_bytes(const dt_mapped_file *file) {
    dt_pb r = {.at = file->byte, .end = file->byte + file->n_bytes, .file = file->byte};
    dt_pb_field f;
    bool more, has_version = false;
    for (;;) {
        const uint8_t *at = r.at;
        if (r.end - at > 0 && *at == (MODEL_GRAPH << 3 | DT_PB_BYTES)) return has_version;
        if (dt_pb_step(&r, &f, &more) != DT_OK || !more) return false;
        has_version |= f.number == MODEL_IR && f.wire == DT_PB_VARINT;
        const bool number = f.number == MODEL_IR || f.number == MODEL_VERSION;
        if (f.number > MODEL_LAST || f.wire != (number ? DT_PB_VARINT : DT_PB_BYTES)) return false;
    }
}

bool dt_onnx_knows(const char *path) {
    dt_onnx_model *m;
    if (dt_onnx_model_create(OPSET_MIN, &m) != DT_OK) return false;
    const bool known = map_file(m, path) == DT_OK && dt_onnx_knows_bytes(m->file);
    dt_onnx_model_free(m);
    return known;
}
