/* Weights from files of others and for them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/export.h"
#include "net.h"
#include "train/weights.h"

static bool is_root(const dt_net *net) {
    return !net->run->mpi || net->run->mpi->rank == 0;
}

static dt_status check_path(const char *function, const char *path) {
    if (path && path[0] && strlen(path) <= DT_MAX_PATH) return DT_OK;
    return dt_fail(DT_ERR_USAGE, "%s: path is %s", function, !path ? "NULL" : path[0] ? "too long" : "empty");
}

static dt_status copy_name(const char *from, char to[DT_NAME_MAX]) {
    if (!from || strlen(from) >= DT_NAME_MAX)
        return dt_fail(DT_ERR_USAGE, "dt_net_import: a name to change is %s", from ? "too long" : "NULL");
    strcpy(to, from);
    return DT_OK;
}

static dt_status settle_options(const char *path, const dt_weights_options *o, dt_init_options *out) {
    *out = (dt_init_options){.strict = !o || !o->partial,
                             .head = o && o->new_head ? DT_INIT_HEAD_NEW : DT_INIT_HEAD_SAME};
    DT_TRY(check_path("dt_net_import", path));
    snprintf(out->from, sizeof out->from, "%s", path);
    if (!o) return DT_OK;
    if (o->n_rename > 0 && !o->rename)
        return dt_fail(DT_ERR_USAGE, "dt_net_import: n_rename is %d, and rename is NULL", o->n_rename);
    if (o->n_rename < 0 || o->n_rename > DT_INIT_ENTRIES_MAX)
        return dt_fail(DT_ERR_USAGE, "dt_net_import: %d names to change: at most %d", o->n_rename,
                       DT_INIT_ENTRIES_MAX);
    for (; out->n_rename < o->n_rename; out->n_rename++)
        for (int i = 0; i < 2; i++)
            DT_TRY(copy_name(o->rename[out->n_rename][i], out->rename[out->n_rename][i]));
    return DT_OK;
}

dt_status dt_net_import(dt_net *net, const char *path, const dt_weights_options *o) {
    DT_CHECK_NET(net);
    DT_TRY(dt_net_compile(net));
    char more[DT_MEET_TEXT_MAX] = "";
    dt_weights w = {.n = 0};
    dt_init_options *init = calloc(1, sizeof *init);
    dt_status st = init ? settle_options(path, o, init) : dt_fail(DT_ERR_MEMORY, "no memory for options");
    if (st == DT_OK) st = dt_net_settle(net);
    if (st == DT_OK) snprintf(more, sizeof more, "path %s\n", path);
    st = dt_net_meet(net, st, __func__, more);
    if (st == DT_OK)
        st =
            dt_net_all(net, is_root(net) ? dt_weights_read(dt_engine_weights(net->engine), init, &w) : DT_OK);
    if (st == DT_OK) st = dt_net_all(net, dt_engine_begin_with(net->engine, w.n, w.tensor));
    dt_weights_free(&w);
    free(init);
    return st;
}

/* As dt_net_save refuses them: of a file nobody would ask. */
static dt_status check_finite(int32_t n, const dt_ckpt_tensor *tensor) {
    for (int32_t i = 0; i < n; i++) {
        int64_t n_elem = 1;
        for (int32_t d = 0; d < tensor[i].ndim; d++) n_elem *= tensor[i].dim[d];
        for (int64_t at = 0; at < n_elem; at++)
            if (!isfinite(tensor[i].data[at]))
                return dt_fail(DT_ERR_NONFINITE,
                               "dt_net_export: \"%s\", element %lld, is not finite: nothing is written",
                               tensor[i].name, (long long)at);
    }
    return DT_OK;
}

static dt_status write(dt_net *net, const char *path, int32_t n, const dt_ckpt_tensor *tensor) {
    char *text;
    if (!is_root(net)) return DT_OK;
    dt_graph *graph = NULL;
    DT_TRY(check_finite(n, tensor));
    dt_status st = dt_net_describe(net, &text);
    if (st == DT_OK && dt_names_onnx(path))
        st = dt_engine_eval_graph(net->engine, NULL, NULL, DT_ONNX_EXPORT_ROWS, &graph);
    const dt_export x = {.net = dt_engine_weights(net->engine),
                         .n = n,
                         .tensor = tensor,
                         .graph = graph,
                         .type = DT_TENSOR_F32,
                         .config_text = text,
                         .step = net->step};
    if (st == DT_OK) st = dt_export_write(path, &x);
    dt_graph_destroy(graph);
    free(text);
    return st;
}

dt_status dt_net_export(dt_net *net, const char *path) {
    DT_CHECK_NET(net);
    DT_TRY(dt_net_compile(net));
    char more[DT_MEET_TEXT_MAX] = "";
    int32_t n;
    const dt_ckpt_tensor *tensor;
    dt_status st = check_path(__func__, path);
    if (st == DT_OK) st = dt_net_settle(net);
    if (st == DT_OK) snprintf(more, sizeof more, "path %s\n", path);
    DT_TRY(dt_net_meet(net, st, __func__, more));
    DT_TRY(dt_net_all(net, dt_engine_snapshot(net->engine, &n, &tensor)));
    return dt_net_all(net, write(net, path, n, tensor));
}
