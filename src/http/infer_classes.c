/* The classes that an output tells, as texts. */
#include <stdlib.h>
#include <string.h>

#include "infer_form.h"

dt_status dt_infer_classes(const dt_infer_output *o, const dt_serve_model *model, const dt_host_tensor *t,
                           dt_http_text *text) {
    const int64_t n = t->ndim > 0 ? t->dim[t->ndim - 1] : 1, k = dt_infer_class_count(o, t),
                  rows = n > 0 ? dt_host_n_elem(t) / n : 0;
    int64_t *index = malloc((size_t)(k + 1) * sizeof *index);
    if (!index) return dt_fail(DT_ERR_MEMORY, "no memory for an answer");
    for (int64_t r = 0; r < rows; r++) {
        dt_serve_top_k(t, r, k, index);
        for (int64_t i = 0; i < k; i++) {
            dt_http_text one = {0};
            const char *name = dt_serve_label(model, index[i]);
            dt_http_putf(&one, "%f:%lld%s%s", dt_host_f64(t, r * n + index[i]), (long long)index[i],
                         *name ? ":" : "", name);
            if (!o->binary) {
                dt_http_put(text, r + i ? "," : "");
                dt_http_put_quoted(text, one.s ? one.s : "");
            } else if (!one.lost && dt_http_room(text, 4 + one.n)) {
                const uint32_t bytes = (uint32_t)one.n; /* of little-endian machines, as all numbers here */
                memcpy(text->s + text->n, &bytes, sizeof bytes);
                memcpy(text->s + text->n + 4, one.s, one.n);
                text->n += 4 + one.n;
            }
            text->lost = text->lost || one.lost;
            free(one.s);
        }
    }
    free(index);
    return text->lost ? dt_fail(DT_ERR_MEMORY, "no memory for an answer") : DT_OK;
}
