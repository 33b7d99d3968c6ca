/* What becomes of a weight elsewhere follows from who reads it. */
#include "model/weight.h"

#include <stdlib.h>
#include <string.h>

#include "core/axis.h"
#include "core/op.h"
#include "core/resample.h"
#include "model/lora.h"

/* The operand in which a convolution, plain or transposed, has its weight. */
static bool is_kernel(const dt_node *n, int32_t slot) {
    return (n->op == DT_OP_CONV && slot == DT_CONV_IN_W) ||
           (n->op == DT_OP_CONV_DGRAD && slot == DT_DGRAD_IN_W);
}

/* H W of the image that v has in one row, through whatever works element by element or column by column; 0: v is none
 * such, or a pixel alone. */
static int64_t pixels_of(const dt_graph *g, dt_vid v) {
    while (g->value[v].producer >= 0 && g->value[v].ndim == 2) {
        const dt_node *n = &g->node[g->value[v].producer];
        const dt_value *x = n->in[0] >= 0 ? &g->value[n->in[0]] : NULL;
        if (!x) return 0;
        if (n->op == DT_OP_RESHAPE && x->ndim == 4) {
            const int64_t pixels = x->dim[1] * x->dim[2];
            return pixels > 1 && pixels * x->dim[3] == g->value[v].dim[1] ? pixels : 0;
        }
        if (dt_value_n_elem(x) != dt_value_n_elem(&g->value[v]) || n->op == DT_OP_DENSE) return 0;
        v = n->in[0];
    }
    return 0;
}

static void find_layout(const dt_graph *g, dt_vid v, dt_weight *w) {
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *n = &g->node[i];
        for (int32_t slot = 0; slot < n->n_in; slot++) {
            if (n->in[slot] != v) continue;
            if (is_kernel(n, slot)) {
                w->layout = DT_WEIGHT_CHANNELS_LAST;
                return;
            }
            const bool columns = (n->op == DT_OP_DENSE && slot == DT_DENSE_IN_W) ||
                                 n->op == DT_OP_BATCHNORM || n->op == DT_OP_LAYERNORM ||
                                 n->op == DT_OP_RMSNORM;
            w->pixels = columns && slot > 0 ? pixels_of(g, n->in[0]) : 0;
            if (w->pixels > 0) w->layout = DT_WEIGHT_IMAGE_ROWS;
        }
    }
}

/* Whether one node alone reads it, which ends the network. */
static bool is_head(const dt_graph *g, dt_vid v) {
    int32_t n_use = 0;
    bool ends = false;
    for (dt_nid i = 0; i < g->n_node; i++)
        for (int32_t slot = 0; slot < g->node[i].n_in; slot++) {
            const dt_node *n = &g->node[i];
            if (n->in[slot] != v) continue;
            n_use++;
            ends = (n->op == DT_OP_DENSE || n->op == DT_OP_CONV) && dt_axis_is_end(g, n->out[0]);
        }
    return n_use == 1 && ends;
}

dt_status dt_weight_list_make(const dt_graph *g, dt_weight_list *out) {
    *out = (dt_weight_list){.n = 0};
    out->weight = calloc((size_t)g->n_value + 1, sizeof *out->weight);
    if (!out->weight) return dt_fail(DT_ERR_MEMORY, "no memory for the list of weights");
    for (dt_vid v = 0; v < g->n_value; v++) {
        const dt_value *from = &g->value[v];
        if (from->role != DT_ROLE_PARAM && from->role != DT_ROLE_STATE) continue;
        dt_weight *w = &out->weight[out->n++];
        memcpy(w->name, from->name, sizeof w->name);
        w->state = from->role == DT_ROLE_STATE;
        w->ndim = from->ndim;
        memcpy(w->dim, from->dim, sizeof w->dim);
        if (from->stored_c) w->dim[w->ndim - 1] = from->stored_c;
        memcpy(w->grid, from->grid, sizeof w->grid);
        w->n_elem = 1;
        for (int32_t d = 0; d < w->ndim; d++) w->n_elem *= w->dim[d];
        find_layout(g, v, w);
        w->adapter = dt_lora_is_adapter(w->name);
        w->head = !w->state && !w->adapter && is_head(g, v);
    }
    return DT_OK;
}

void dt_weight_list_free(dt_weight_list *list) {
    free(list->weight);
    *list = (dt_weight_list){.n = 0};
}

const dt_weight *dt_weight_find(const dt_weight_list *list, const char *name) {
    for (int32_t i = 0; i < list->n; i++)
        if (strcmp(list->weight[i].name, name) == 0) return &list->weight[i];
    return NULL;
}

int32_t dt_weight_file_dims(const dt_weight *w, int64_t dim[DT_MAX_DIM]) {
    memcpy(dim, w->dim, sizeof w->dim);
    if (w->layout == DT_WEIGHT_CHANNELS_LAST) {
        dim[1] = w->dim[w->ndim - 1];
        for (int32_t d = 2; d < w->ndim; d++) dim[d] = w->dim[d - 1];
    }
    if (w->layout == DT_WEIGHT_TRANSPOSED) dim[0] = w->dim[1], dim[1] = w->dim[0];
    if (w->layout != DT_WEIGHT_PER_CHANNEL) return w->ndim;
    dim[1] = dim[2] = 1;
    return 3;
}

/* Every layout is a stack of matrices [rows, cols] that lie transposed in a file. */
typedef struct turn {
    int64_t n, rows, cols;
} turn;

static turn turn_of(const dt_weight *w) {
    const int64_t last = w->ndim > 0 ? w->dim[w->ndim - 1] : 1;
    turn t = {w->n_elem, 1, 1};
    if (w->layout == DT_WEIGHT_CHANNELS_LAST) t = (turn){w->dim[0], w->n_elem / w->dim[0] / last, last};
    if (w->layout == DT_WEIGHT_IMAGE_ROWS) t = (turn){w->n_elem / last, w->pixels, last / w->pixels};
    if (w->layout == DT_WEIGHT_TRANSPOSED) t = (turn){1, w->dim[0], w->dim[1]};
    return t;
}

/* n matrices [rows, cols] to [cols, rows]. */
static void transpose(int64_t n, int64_t rows, int64_t cols, const float *from, float *to) {
    for (int64_t i = 0; i < n; i++, from += rows * cols, to += rows * cols)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < cols; c++) to[c * rows + r] = from[r * cols + c];
}

void dt_weight_to_file(const dt_weight *w, const float *own, float *file) {
    const turn t = turn_of(w);
    transpose(t.n, t.rows, t.cols, own, file);
}

void dt_weight_from_file(const dt_weight *w, const float *file, float *own) {
    const turn t = turn_of(w);
    transpose(t.n, t.cols, t.rows, file, own);
}

void dt_weight_regrid(const dt_weight *w, const int64_t from[2], const float *table, float *own) {
    const int64_t c = w->dim[w->ndim - 1], n_before = w->n_elem - w->grid[0] * w->grid[1] * c;
    const dt_resample_side down = {DT_RESAMPLE_BICUBIC, (int32_t)from[0], (int32_t)w->grid[0]},
                           across = {DT_RESAMPLE_BICUBIC, (int32_t)from[1], (int32_t)w->grid[1]};
    memcpy(own, table, (size_t)n_before * sizeof *own);
    table += n_before, own += n_before;
    memset(own, 0, (size_t)(w->n_elem - n_before) * sizeof *own);
    for (int32_t p = 0; p < down.to; p++)
        for (int32_t q = 0; q < across.to; q++, own += c) {
            const dt_resample_span rows = dt_resample_sources(&down, p),
                                   columns = dt_resample_sources(&across, q);
            for (int32_t h = rows.first; h < rows.last; h++)
                for (int32_t x = columns.first; x < columns.last; x++) {
                    const float part = dt_resample_weight(&down, p, h) * dt_resample_weight(&across, q, x);
                    const float *row = table + (h * across.from + x) * c;
                    for (int64_t i = 0; i < c; i++) own[i] += part * row[i];
                }
        }
}
