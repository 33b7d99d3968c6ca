/* What networks of text share. */
#include "net_text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/task.h"

static dt_status need_task(const dt_model_options *o, const char *const *tasks) {
    const char *have = dt_task_of(o)->name;
    char list[64] = "";
    for (int32_t i = 0; tasks[i]; i++) {
        const size_t used = strlen(list);
        if (strcmp(have, tasks[i]) == 0) return DT_OK;
        snprintf(list + used, sizeof list - used, "%s\"%s\"", i ? " or " : "", tasks[i]);
    }
    return dt_fail(DT_ERR_CONFIG, "it is for model.task = %s, and that is \"%s\"", list, have);
}

static int64_t set_or(int64_t set, int64_t otherwise) {
    return set > 0 ? set : otherwise;
}

/* Of channels that are set there are as many heads of the same size, and as many for each of the keys'. */
static void take_heads(dt_text_net *n, const dt_model_options *o, const dt_text_shape *shape) {
    if (shape->heads == 0) return;
    const int64_t size = shape->channels / shape->heads, kv = set_or(shape->kv_heads, shape->heads),
                  shared = shape->heads / kv;
    n->heads = set_or(o->heads, dt_max_i64(n->channels / size, 1));
    n->kv_heads = set_or(o->kv_heads, n->heads % shared == 0 ? n->heads / shared : n->heads);
}

static dt_status take_vocabulary(dt_text_net *n, const dt_model_options *o) {
    const int64_t n_vocab = n->b->n_vocab;
    n->vocab = set_or(o->vocab, n_vocab);
    if (n->vocab == 0)
        return dt_fail(DT_ERR_CONFIG, "the data does not say how many tokens there are: set model.vocab");
    if (n->vocab >= n_vocab) return DT_OK;
    return dt_fail(DT_ERR_CONFIG,
                   "model.vocab = %lld, but the data's vocabulary is of %lld: set as many or more",
                   (long long)n->vocab, (long long)n_vocab);
}

void dt_text_open(dt_text_net *n, dt_builder *b, dt_vid tokens, const dt_model_options *o,
                  const dt_text_shape *shape, int64_t hidden(int64_t channels), const char *const *tasks) {
    *n = (dt_text_net){.b = b, .tokens = tokens, .dropout = dt_net_rate(o->dropout, 0)};
    if (b->status == DT_OK) b->status = need_task(o, tasks);
    if (b->status == DT_OK) b->status = take_vocabulary(n, o);
    if (b->status != DT_OK) return;
    const dt_value *v = &b->g->value[tokens];
    if (v->ndim != 2)
        b->status =
            dt_fail(DT_ERR_CONFIG, "its tokens are %s, expected rows of steps", dt_value_shape_text(v));
    n->blocks = set_or(o->blocks, shape->blocks);
    n->channels = set_or(o->channels, shape->channels);
    take_heads(n, o, shape);
    n->hidden =
        set_or(o->hidden, o->channels > 0 || shape->hidden == 0 ? hidden(n->channels) : shape->hidden);
    n->positions = set_or(o->positions, v->dim[1]);
    if (n->heads > 0 && n->channels % n->heads != 0 && b->status == DT_OK)
        b->status = dt_fail(DT_ERR_CONFIG, "model.heads: %lld heads do not divide model.channels = %lld",
                            (long long)n->heads, (long long)n->channels);
    if (n->positions < v->dim[1] && b->status == DT_OK)
        b->status =
            dt_fail(DT_ERR_CONFIG,
                    "model.positions = %lld, but its input has %lld steps: set as many or more, or a shorter "
                    "data.context",
                    (long long)n->positions, (long long)v->dim[1]);
}

dt_text_name dt_text_join(const char *prefix, const char *suffix) {
    dt_text_name out;
    snprintf(out.s, sizeof out.s, "%s%s", prefix, suffix);
    return out;
}

dt_vid dt_text_residual(dt_text_net *n, const char *block, const char *name, dt_vid x, dt_vid y) {
    const dt_text_name drop = dt_text_join(block, dt_text_join(name, "_dropout").s);
    if (n->dropout > 0) y = dt_build_dropout(n->b, drop.s, y, n->dropout);
    return dt_build_add(n->b, dt_text_join(block, name).s, x, y);
}

dt_vid dt_text_field(const dt_text_net *n, const char *name) {
    return dt_build_field(n->b, name) ? dt_build_input_as(n->b, name, DT_DTYPE_I32) : -1;
}

static bool ends_with(const char *name, const char *const *end) {
    const size_t length = strlen(name);
    for (int32_t i = 0; end[i]; i++) {
        const size_t size = strlen(end[i]);
        if (length >= size && strcmp(name + length - size, end[i]) == 0) return true;
    }
    return false;
}

void dt_text_init(dt_text_net *n, double std, const char *const *scaled) {
    const dt_graph *g = n->b->g;
    if (n->b->status != DT_OK) return;
    for (dt_vid i = 0; i < g->n_value; i++) {
        dt_value *v = &g->value[i];
        if (v->role != DT_ROLE_PARAM || v->init == DT_INIT_ONE) continue;
        v->init = v->ndim > 1 ? DT_INIT_NORMAL : DT_INIT_ZERO;
        v->init_std = (float)(ends_with(v->name, scaled) ? std / sqrt(2 * (double)n->blocks) : std);
    }
}
