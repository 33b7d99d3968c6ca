/* Two programs over one set of caches: one reads a chunk of places of each row at once, the other one. Which of them reads a
 * place follows from the row's own tokens, so that a row's numbers are the same in any company. */
#include "core/decoding.h"

#include <stdlib.h>
#include <string.h>

#include "core/compile.h"
#include "core/half.h"
#include "core/op.h"

typedef struct part {
    dt_program *p;
    int64_t steps;
    dt_vid tokens, start, count, place, last, logits; /* -1: it has no such input */
    char *host;                                       /* pinned, as its input arena */
    dt_capture *captured;
    bool warm;
} part;

struct dt_decoding {
    dt_backend *be;
    dt_decode_facts facts;
    int64_t rows, words, capacity, bytes;
    part chunk, one;
    bool capture;
    int64_t *length, *read; /* [rows]; read: of the tokens of this call */
    float *logits;          /* [rows, words] */
    void *fetched;          /* pinned, as the programs give them */
};

static dt_status prepare(dt_decoding *d, const dt_decoding_options *o, int64_t steps, part *p) {
    const dt_compile_options c = {.be = d->be, .fuse = o->fuse};
    const int64_t context = o->forward->value[dt_graph_input(o->forward, o->tokens)].dim[1];
    const dt_decode_options decode = {.tokens = o->tokens,
                                      .output = o->output,
                                      .rows = o->rows,
                                      .steps = steps,
                                      .capacity = o->capacity > 0 ? o->capacity : context};
    dt_graph *g;
    dt_axis *axis = (dt_axis *)(uintptr_t)o->store->axis; /* read, as the graph is not trained */
    DT_TRY(dt_decode_graph(o->forward, &decode, &d->facts, &g));
    d->capacity = d->facts.attends ? decode.capacity : d->facts.positions;
    p->steps = steps;
    DT_TRY(dt_compile(g, &c, &axis, &p->p));
    g = p->p->graph;
    p->tokens = dt_graph_input(g, o->tokens);
    p->start = dt_graph_input(g, DT_DECODE_START);
    p->count = dt_graph_input(g, DT_DECODE_COUNT);
    p->place = dt_graph_input(g, DT_DECODE_PLACE);
    p->last = dt_graph_input(g, DT_DECODE_LAST);
    p->logits = dt_graph_output(g, o->output);
    if (d->facts.positions >= d->capacity) return DT_OK;
    return dt_fail(DT_ERR_CONFIG, "a text of %lld places: the network has learnt positions for %lld",
                   (long long)d->capacity, (long long)d->facts.positions);
}

static dt_status bind(dt_decoding *d, const dt_decoding_options *o) {
    dt_program *a = d->chunk.p, *b = d->one.p;
    const bool larger = b->plan.act_bytes > a->plan.act_bytes;
    DT_ASSERT(a->plan.cache_bytes == b->plan.cache_bytes);
    DT_TRY(dt_program_bind(larger ? b : a, o->store, NULL));
    const dt_program *first = larger ? b : a;
    const dt_program_options share = {.act = first->act,
                                      .act_bytes = first->plan.act_bytes,
                                      .cache = first->cache,
                                      .cache_bytes = first->plan.cache_bytes};
    DT_TRY(dt_program_bind(larger ? a : b, o->store, &share));
    part *const parts[] = {&d->chunk, &d->one};
    for (int i = 0; i < 2; i++)
        DT_TRY(d->be->alloc(d->be, DT_MEM_HOST, parts[i]->p->plan.input_bytes, (void **)&parts[i]->host));
    const dt_value *y = &a->graph->value[d->chunk.logits];
    d->words = y->dim[y->ndim - 1];
    d->bytes = dt_max_i64(a->plan.act_bytes, b->plan.act_bytes) + a->plan.cache_bytes + a->plan.input_bytes +
               b->plan.input_bytes;
    d->logits = malloc((size_t)(d->rows * d->words) * sizeof *d->logits);
    if (!d->logits)
        return dt_fail(DT_ERR_MEMORY, "no memory for %lld logits", (long long)(d->rows * d->words));
    return d->be->alloc(d->be, DT_MEM_HOST, dt_value_bytes(y), &d->fetched);
}

dt_status dt_decoding_create(const dt_decoding_options *o, dt_decoding **out) {
    dt_decoding *d = calloc(1, sizeof *d);
    *out = NULL;
    if (!d) return dt_fail(DT_ERR_MEMORY, "no memory for a decoder");
    d->be = o->store->be;
    d->rows = o->rows;
    d->capture = o->capture && d->be->capture;
    d->length = calloc((size_t)o->rows, sizeof *d->length);
    d->read = calloc((size_t)o->rows, sizeof *d->read);
    dt_status st = d->length && d->read ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for a decoder");
    if (st == DT_OK) st = prepare(d, o, DT_DECODING_CHUNK, &d->chunk);
    if (st == DT_OK) st = prepare(d, o, 1, &d->one);
    if (st == DT_OK) st = bind(d, o);
    if (st == DT_OK)
        *out = d;
    else
        dt_decoding_destroy(d);
    return st;
}

void dt_decoding_destroy(dt_decoding *d) {
    if (!d) return;
    part *const parts[] = {&d->chunk, &d->one};
    for (int i = 0; i < 2; i++) {
        if (parts[i]->captured) d->be->capture_free(d->be, parts[i]->captured);
        if (parts[i]->host) d->be->free(d->be, DT_MEM_HOST, parts[i]->host);
    }
    /* The one that owns the memory goes last. */
    const bool borrows = d->one.p && (d->one.p->act_shared || d->one.p->cache_shared);
    dt_program_destroy(borrows ? d->one.p : d->chunk.p);
    dt_program_destroy(borrows ? d->chunk.p : d->one.p);
    if (d->fetched) d->be->free(d->be, DT_MEM_HOST, d->fetched);
    free(d->logits);
    free(d->length);
    free(d->read);
    free(d);
}

dt_status dt_decoding_reset(dt_decoding *d, int64_t row) {
    const dt_program *p = d->one.p;
    const dt_graph *g = p->graph;
    d->length[row] = 0;
    for (dt_vid v = 0; v < g->n_value; v++) {
        if (!dt_decode_is_state(&g->value[v])) continue;
        const int64_t bytes = dt_value_bytes(&g->value[v]) / d->rows;
        DT_TRY(d->be->fill(d->be, (char *)dt_program_address(p, v) + row * bytes, 0, bytes, NULL));
    }
    return DT_OK;
}

/* ---- one run ---- */

static dt_status enqueue(void *arg) {
    return dt_program_run(arg, NULL, NULL);
}

static dt_status run(dt_decoding *d, part *p) {
    dt_backend *be = d->be;
    DT_TRY(be->copy(be, p->p->input, p->host, p->p->plan.input_bytes, NULL));
    if (p->captured) return be->replay(be, p->captured, NULL);
    /* The first run is plain: libraries set themselves up in it, which a capture does not allow. */
    if (!p->warm || !d->capture) {
        p->warm = true;
        return enqueue(p->p);
    }
    DT_TRY(be->capture(be, enqueue, p->p, &p->captured));
    return be->replay(be, p->captured, NULL);
}

static int32_t *input(const part *p, dt_vid v) {
    return v < 0 ? NULL : (int32_t *)(void *)(p->host + p->p->graph->value[v].offset_bytes);
}

/* n places of a row, from `token` on. */
static void fill_row(const dt_decoding *d, const part *p, int64_t row, const int32_t *token, int64_t n) {
    int32_t *tokens = input(p, p->tokens), *start = input(p, p->start), *count = input(p, p->count),
            *place = input(p, p->place), *last = input(p, p->last);
    for (int64_t t = 0; t < p->steps; t++) {
        tokens[row * p->steps + t] = t < n ? token[t] : 0;
        if (place)
            place[row * p->steps + t] = (int32_t)dt_min_i64(
                d->length[row] + t, d->facts.positions - 1); /* past the end nobody looks */
    }
    if (start) start[row] = (int32_t)dt_min_i64(d->length[row], INT32_MAX);
    if (count) count[row] = (int32_t)n;
    if (last) last[row] = (int32_t)(row * p->steps + dt_max_i64(n - 1, 0));
}

/* The logits of a row that has read all. */
static void take_row(const dt_decoding *d, const part *p, int64_t row) {
    const dt_dtype t = p->p->graph->value[p->logits].dtype;
    float *to = d->logits + row * d->words;
    const uint16_t *half = (const uint16_t *)d->fetched + row * d->words;
    if (t == DT_DTYPE_F32)
        memcpy(to, (const float *)d->fetched + row * d->words, (size_t)d->words * sizeof *to);
    for (int64_t i = 0; t != DT_DTYPE_F32 && i < d->words; i++)
        to[i] = t == DT_DTYPE_F16 ? dt_f16_to_f32(half[i]) : dt_bf16_to_f32(half[i]);
}

/* One run of the rows that have more to read than `least` places, or as many. */
static dt_status run_part(dt_decoding *d, part *p, const int32_t *const *token, const int64_t *n,
                          int64_t least, bool *ran) {
    bool any = false, ends = false;
    for (int64_t r = 0; r < d->rows; r++) {
        const int64_t left = n[r] - d->read[r], take = left >= least ? dt_min_i64(left, p->steps) : 0;
        fill_row(d, p, r, token[r] + d->read[r], take);
        any |= take > 0;
        ends |= take > 0 && take == left;
    }
    *ran = any;
    if (!any) return DT_OK;
    DT_TRY(run(d, p));
    const dt_value *y = &p->p->graph->value[p->logits];
    if (ends)
        DT_TRY(d->be->copy(d->be, d->fetched, dt_program_address(p->p, p->logits), dt_value_bytes(y), NULL));
    DT_TRY(d->be->stream_sync(d->be, NULL)); /* the host's side of the inputs is free again */
    for (int64_t r = 0; r < d->rows; r++) {
        const int64_t left = n[r] - d->read[r], take = left >= least ? dt_min_i64(left, p->steps) : 0;
        if (take > 0 && take == left) take_row(d, p, r);
        d->read[r] += take;
        d->length[r] += take;
    }
    return DT_OK;
}

static dt_status check(const dt_decoding *d, const int32_t *const *token, const int64_t *n) {
    const dt_graph *g = d->one.p->graph;
    int64_t known = INT32_MAX;
    const dt_nid reader = dt_graph_reader(g, d->one.tokens, DT_OP_EMBED, DT_EMBED_IN_INDEX);
    if (reader >= 0) known = g->value[g->node[reader].in[DT_EMBED_IN_WEIGHT]].dim[0];
    for (int64_t r = 0; r < d->rows; r++) {
        if (n[r] < 0 || n[r] > d->capacity - d->length[r])
            return dt_fail(DT_ERR_USAGE,
                           "text %lld: %lld places more than the %lld that it has: there is room for %lld",
                           (long long)r, (long long)n[r], (long long)d->length[r], (long long)d->capacity);
        for (int64_t t = 0; t < n[r]; t++)
            if (token[r][t] < 0 || token[r][t] >= known)
                return dt_fail(DT_ERR_DATA, "text %lld: token %d: the network knows 0 to %lld", (long long)r,
                               token[r][t], (long long)known - 1);
    }
    return DT_OK;
}

dt_status dt_decoding_read(dt_decoding *d, const int32_t *const *token, const int64_t *n,
                           const float **logits) {
    bool ran = true;
    DT_TRY(check(d, token, n));
    memset(d->read, 0, (size_t)d->rows * sizeof *d->read);
    while (ran) DT_TRY(run_part(d, &d->chunk, token, n, 2, &ran));
    DT_TRY(run_part(d, &d->one, token, n, 1, &ran));
    *logits = d->logits;
    return DT_OK;
}

int64_t dt_decoding_length(const dt_decoding *d, int64_t row) {
    return d->length[row];
}
int64_t dt_decoding_capacity(const dt_decoding *d) {
    return d->capacity;
}
int64_t dt_decoding_words(const dt_decoding *d) {
    return d->words;
}
int64_t dt_decoding_bytes(const dt_decoding *d) {
    return d->bytes;
}
