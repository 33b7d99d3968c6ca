/* Memory, lists and texts of a model that is being read. */
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "onnx_private.h"

enum { INLINED_BYTES_MAX = 1 << 28 };

dt_status dt_onnx_no_memory(void) {
    return dt_fail(DT_ERR_MEMORY, "no memory for a model");
}

void *dt_onnx_list_add(dt_onnx_list *l) {
    if (l->n == l->room) {
        const int64_t room = l->room ? 2 * l->room : 16;
        char *item = realloc(l->item, (size_t)room * l->size);
        if (!item) return NULL;
        l->item = item, l->room = room;
    }
    char *p = l->item + (size_t)l->n++ * l->size;
    memset(p, 0, l->size);
    return p;
}

void dt_onnx_list_free(dt_onnx_list *l) {
    free(l->item);
    *l = (dt_onnx_list){.size = l->size};
}

dt_status dt_onnx_list_keep(dt_onnx_reader *rd, dt_onnx_list *l, const void *out, int32_t *n) {
    dt_status st = l->n > INT32_MAX ? dt_fail(DT_ERR_DATA, "a list of more than 2^31 - 1 entries") : DT_OK;
    const int64_t bytes = l->n * (int64_t)l->size;
    void *kept = st == DT_OK && l->n > 0 ? dt_onnx_alloc(rd->m, bytes) : NULL;
    if (st == DT_OK && l->n > 0 && !kept) st = dt_onnx_no_memory();
    if (kept) memcpy(kept, l->item, (size_t)bytes);
    if (st == DT_OK) {
        memcpy((void *)(uintptr_t)out, &kept, sizeof kept);
        *n = (int32_t)l->n;
    }
    dt_onnx_list_free(l);
    return st;
}

dt_status dt_onnx_take(dt_onnx_reader *rd, const dt_onnx_scope *scope, int64_t bytes, void *out) {
    if (scope) {
        rd->inlined_bytes += bytes;
        if (bytes > INLINED_BYTES_MAX || rd->inlined_bytes > INLINED_BYTES_MAX)
            return dt_fail(DT_ERR_DATA, "its functions need more than 256 MiB where they are called");
    }
    void *p = dt_onnx_alloc(rd->m, bytes);
    if (!p) return dt_onnx_no_memory();
    memcpy(out, &p, sizeof p);
    return DT_OK;
}

dt_status dt_onnx_take_text(dt_onnx_reader *rd, const dt_onnx_scope *scope, const dt_pb *r,
                            const dt_pb_field *f, bool is_name, const char **out) {
    DT_TRY(dt_pb_want(r, f, DT_PB_BYTES));
    if (f->n == 0) {
        *out = "";
        return DT_OK;
    }
    if (memchr(f->at, 0, (size_t)f->n)) return dt_pb_fail(r, f, "a text with a zero byte in it");
    char *text;
    DT_TRY(dt_onnx_take(rd, scope, f->n + 1, &text));
    memcpy(text, f->at, (size_t)f->n);
    int n;
    for (const char *c = text; *c; c += n) {
        const uint8_t *b = (const uint8_t *)c;
        n = dt_utf8_bytes(c);
        if (n == 0) return dt_pb_fail(r, f, "a text that is not UTF-8");
        if (is_name && (b[0] < 0x20 || b[0] == 0x7f || (b[0] == 0xc2 && b[1] < 0xa0)))
            return dt_pb_fail(r, f, "a name with a control character in it");
    }
    *out = text;
    return DT_OK;
}
