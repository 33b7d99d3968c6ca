/* A profile of an engine: steps as they are, steps whose kernels are timed one by one, and the table of both. */
#include "train/profile.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/op.h"
#include "measure.h"
#include "probe.h"

enum { WARM_STEPS = 3, WARM_PROFILED_STEPS = 1 };

int64_t dt_profile_n_steps(int64_t steps) {
    return WARM_STEPS + WARM_PROFILED_STEPS + 2 * steps;
}

void dt_profile_free(dt_profile *p) {
    free(p->row);
    p->row = NULL;
    p->n_row = 0;
}

/* ---- what belongs together ---- */

/* The name of a value without what tells it from others of its node: "bn1" of "bn1:stats" and of "bn1#2". */
static void plain_name(const char *name, char out[DT_NAME_MAX]) {
    snprintf(out, DT_NAME_MAX, "%.*s", (int)strcspn(name, ":#"), name);
}

/* "conv1" of its parameter "conv1.weight". */
static void owner_name(const char *parameter, char out[DT_NAME_MAX]) {
    plain_name(parameter, out);
    char *dot = strrchr(out, '.');
    if (dot) *dot = '\0';
}

/* The parameter that a node reads, or makes the gradient of; -1: none. */
static dt_vid parameter_of(const dt_graph *g, const dt_node *n) {
    for (int32_t i = 0; i < n->n_in; i++)
        if (n->in[i] >= 0 && g->value[n->in[i]].role == DT_ROLE_PARAM) return n->in[i];
    for (int32_t i = 0; i < n->n_out; i++)
        if (n->out[i] >= 0 && g->value[n->out[i]].role == DT_ROLE_GRAD) return g->value[n->out[i]].grad_of;
    return -1;
}

/* The first forward node without parameters that reads v, -1: none. */
static dt_nid reader_of(const dt_graph *g, dt_vid v) {
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *n = &g->node[i];
        if (n->phase != DT_PHASE_FORWARD || parameter_of(g, n) >= 0) continue;
        for (int32_t k = 0; k < n->n_in; k++)
            if (n->in[k] == v) return i;
    }
    return -1;
}

/* The layer of a node, by the names that values have: that of its parameter, else of itself; of a gradient
 * without parameters, of the forward node whose input it is for. */
static void layer_of(const dt_graph *g, const dt_node *n, char out[DT_NAME_MAX]) {
    const char *name = g->value[n->out[0]].name;
    const dt_vid parameter = parameter_of(g, n);
    if (parameter >= 0) {
        owner_name(g->value[parameter].name, out);
        return;
    }
    const bool gradient = strncmp(name, "grad/", 5) == 0;
    const char *slash = n->phase == DT_PHASE_BACKWARD ? strchr(name, '/') : NULL;
    plain_name(slash ? slash + 1 : name, out);
    const dt_vid of = gradient ? dt_graph_find(g, out) : -1;
    const dt_nid reader = of >= 0 ? reader_of(g, of) : -1;
    if (reader >= 0) plain_name(g->value[g->node[reader].out[0]].name, out);
}

/* ---- measuring ---- */

/* What is kept of every measured step. */
typedef struct samples {
    double *row;                                     /* [rows, steps] */
    double *step, *wait, *profiled, *exchange, *gap; /* [steps] */
    double *kernels, *phase[DT_PROFILE_PHASES];      /* [steps]: of all rows, and of each part */
} samples;

typedef struct session {
    const dt_profile_options *o;
    dt_engine *e;
    int64_t next_step;
    samples s;
    int32_t *row_of; /* of each kernel */
    double *memory;
} session;

static dt_profile_phase phase_of(const dt_engine_kernel *k) {
    return !k->node                              ? DT_PROFILE_UPDATE
           : k->node->phase == DT_PHASE_BACKWARD ? DT_PROFILE_BACKWARD
                                                 : DT_PROFILE_FORWARD;
}

static dt_status run_step(session *m, double *seconds, double *wait_s) {
    const double begin_s = dt_time_s(), traced_s = dt_trace_begin();
    dt_watchdog_beat(m->o->watchdog, m->next_step, "profile");
    DT_TRY(m->o->step(m->o->arg, m->next_step, wait_s));
    dt_trace_end(traced_s, "step", m->next_step);
    m->next_step++;
    *seconds = dt_time_s() - begin_s;
    return DT_OK;
}

/* Steps [first, first + n) as they are. */
static dt_status run_plain(session *m, int64_t first, int64_t n) {
    for (int64_t i = first; i < first + n; i++) {
        double seconds, wait_s = 0;
        DT_TRY(run_step(m, &seconds, &wait_s));
        if (i < 0) continue; /* warms up */
        m->s.step[i] = seconds;
        m->s.wait[i] = wait_s;
    }
    return dt_engine_sync(m->e);
}

/* Where the calls of a profiled step belong. */
static void take_calls(session *m, const dt_probes *probes, int64_t at, dt_profile *p) {
    const dt_engine_kernel *kernel = dt_probes_kernels(probes);
    const dt_probe_call *call = dt_probes_calls(probes);
    samples *s = &m->s;
    for (int32_t i = 0; i < p->n_row; i++) p->row[i].n_call = 0, p->row[i].bytes = p->row[i].flops = 0;
    for (int32_t i = 0; i < dt_probes_n_call(probes); i++) {
        const dt_engine_kernel *k = &kernel[call[i].kernel];
        const int32_t row = m->row_of[call[i].kernel];
        s->row[row * m->o->steps + at] += call[i].seconds;
        s->kernels[at] += call[i].seconds;
        s->phase[phase_of(k)][at] += call[i].seconds;
        p->row[row].n_call++;
        p->row[row].bytes += k->bytes, p->row[row].flops += k->flops;
        if (i == 0 || call[i].kernel == 0) continue; /* before a micro-batch it is fed */
        const double gap_s = fmax(0, call[i].begin_s - (call[i - 1].begin_s + call[i - 1].seconds));
        const bool exchange = k->last && !kernel[call[i - 1].kernel].last;
        (exchange ? s->exchange : s->gap)[at] += gap_s;
    }
}

/* Steps [first, first + n) with probes. */
static dt_status run_profiled(session *m, dt_probes *probes, int64_t first, int64_t n, dt_profile *p) {
    dt_backend *be = m->e->be;
    for (int64_t i = first; i < first + n; i++) {
        double seconds, wait_s = 0;
        if (m->o->trace) dt_trace_keep(m->o->trace, i >= 0);
        DT_TRY(dt_probes_begin_step(probes));
        if (be->range_begin) be->range_begin(be, "step");
        dt_status st = run_step(m, &seconds, &wait_s);
        if (be->range_end) be->range_end(be);
        if (st == DT_OK) st = dt_probes_end_step(probes);
        DT_TRY(st);
        if (i < 0) continue; /* warms up */
        m->s.profiled[i] = seconds;
        take_calls(m, probes, i, p);
    }
    return DT_OK;
}

/* Where nothing runs ahead the two kinds of steps take turns, so that what else the machine does meets both;
 * for a trace those with probes stay together. */
static dt_status run_both(session *m, dt_probes *probes, dt_profile *p) {
    const int64_t steps = m->o->steps;
    const bool turns = dt_engine_lag(m->e) == 0 && !m->o->trace;
    const int64_t block = turns ? 1 : steps;
    DT_TRY(run_plain(m, -WARM_STEPS, WARM_STEPS));
    for (int64_t i = 0; i < steps; i += block) {
        DT_TRY(run_plain(m, i, block));
        dt_probes_place(probes, true);
        const int64_t warm = i == 0 ? WARM_PROFILED_STEPS : 0;
        DT_TRY(run_profiled(m, probes, i - warm, block + warm, p));
        dt_probes_place(probes, false);
    }
    return DT_OK;
}

/* ---- the table ---- */

static void name_row(const dt_graph *g, const dt_engine_kernel *k, const char *label, dt_profile_row *r) {
    snprintf(r->label, sizeof r->label, "%s", label);
    if (!k->node) {
        snprintf(r->name, sizeof r->name, "%s", label);
        snprintf(r->layer, sizeof r->layer, "(parameters)");
        snprintf(r->op, sizeof r->op, "%s", label);
        return;
    }
    snprintf(r->name, sizeof r->name, "%s", g->value[k->node->out[0]].name);
    snprintf(r->op, sizeof r->op, "%s", dt_op_get(k->node->op)->name);
    layer_of(g, k->node, r->layer);
}

/* A row for each node, and for each kind of kernel of the axis: buckets are summed up one by one. */
static dt_status make_rows(session *m, const dt_probes *probes, dt_profile *p) {
    const dt_graph *g = dt_engine_program(m->e, false)->graph;
    const int32_t n = dt_probes_n_kernel(probes);
    const dt_engine_kernel *kernel = dt_probes_kernels(probes);
    p->row = calloc((size_t)n, sizeof *p->row);
    m->row_of = calloc((size_t)n, sizeof *m->row_of);
    if (!p->row || !m->row_of) return dt_fail(DT_ERR_MEMORY, "no memory for a profile of %d kernels", n);
    for (int32_t i = 0; i < n; i++) {
        const char *label = dt_probes_label(probes, i);
        const bool again = i > 0 && !kernel[i].node && !kernel[i - 1].node &&
                           strcmp(label, dt_probes_label(probes, i - 1)) == 0;
        if (!again) name_row(g, &kernel[i], label, &p->row[p->n_row++]);
        m->row_of[i] = p->n_row - 1;
    }
    return DT_OK;
}

/* For `rows` rows. */
static dt_status make_samples(session *m, int32_t rows) {
    const int64_t steps = m->o->steps;
    double **const single[] = {&m->s.step,    &m->s.wait,     &m->s.profiled, &m->s.exchange, &m->s.gap,
                               &m->s.kernels, &m->s.phase[0], &m->s.phase[1], &m->s.phase[2]};
    _Static_assert(DT_PROFILE_PHASES == 3, "as many as are listed");
    const size_t n_single = sizeof single / sizeof single[0];
    double *at = m->memory = calloc(((size_t)rows + n_single) * (size_t)steps, sizeof *at);
    if (!at)
        return dt_fail(DT_ERR_MEMORY, "no memory for the times of %d kernels over %lld steps", rows,
                       (long long)steps);
    for (size_t i = 0; i < n_single; i++, at += steps) *single[i] = at;
    m->s.row = at;
    return DT_OK;
}

static int by_time(const void *a, const void *b) {
    const dt_profile_row *x = a, *y = b;
    const int order = (x->seconds < y->seconds) - (x->seconds > y->seconds);
    return order ? order : strcmp(x->name, y->name);
}

static void fill_rows(session *m, const dt_probes *probes, dt_profile *p) {
    const dt_engine_kernel *kernel = dt_probes_kernels(probes);
    const int64_t steps = m->o->steps;
    samples *s = &m->s;
    for (int32_t i = 0; i < dt_probes_n_kernel(probes); i++) {
        dt_profile_row *r = &p->row[m->row_of[i]];
        r->seconds = dt_measure_median(s->row + m->row_of[i] * steps, steps);
        r->phase_s[phase_of(&kernel[i])] = r->seconds;
    }
    for (int k = 0; k < DT_PROFILE_PHASES; k++) p->phase_s[k] = dt_measure_median(s->phase[k], steps);
    p->kernel_s = dt_measure_median(s->kernels, steps);
    p->step_s = dt_measure_median(s->step, steps);
    p->wait_s = dt_measure_median(s->wait, steps);
    p->profiled_step_s = dt_measure_median(s->profiled, steps);
    p->exchange_s = dt_measure_median(s->exchange, steps);
    p->gap_s = dt_measure_median(s->gap, steps);
    qsort(p->row, (size_t)p->n_row, sizeof *p->row, by_time);
}

static void describe(const dt_engine *e, int64_t steps, dt_profile *p) {
    const dt_division *d = &e->division;
    snprintf(p->model, sizeof p->model, "%s", e->config->model.name);
    snprintf(p->device, sizeof p->device, "%s", e->be->info.name);
    snprintf(p->dtype, sizeof p->dtype, "%s", dt_dtype_name(e->store->options.compute));
    p->rank = e->mpi ? e->mpi->rank : 0;
    p->world = e->mpi ? e->mpi->world : 1;
    p->global_batch = d->global_batch, p->n_micro = d->n_micro, p->rows = d->rows;
    p->n_step = steps;
}

dt_status dt_profile_engine(dt_engine *e, const dt_profile_options *o, dt_profile *out) {
    session m = {.o = o, .e = e};
    dt_probes *probes = NULL;
    dt_device_rates rates;
    *out = (dt_profile){.by = DT_PROFILE_BY_NODE};
    if (!e->train || o->steps < 1)
        return dt_fail(DT_ERR_INTERNAL, "a profile is of training, and of at least one step");
    describe(e, o->steps, out);
    dt_status st = dt_measure_rates(e->be, e->store->options.compute, o->watchdog, &rates);
    if (st != DT_OK && st != DT_ERR_MEMORY) return st;
    out->copy_bytes_per_s = rates.bytes_per_s, out->product_flops_per_s = rates.flops_per_s;
    DT_TRY_GOTO(st, make_samples(&m, dt_engine_kernels(e, NULL)), out);
    DT_TRY_GOTO(st, dt_probes_create(e, o->trace, &probes), out);
    DT_TRY_GOTO(st, make_rows(&m, probes, out), out);
    DT_TRY_GOTO(st, run_both(&m, probes, out), out);
    fill_rows(&m, probes, out);
out:
    if (o->trace) dt_trace_keep(o->trace, false);
    dt_probes_destroy(probes);
    free(m.memory), free(m.row_of);
    return st;
}

/* ---- other tables of the same ---- */

static dt_profile_row *find_row(dt_profile *p, const char *name) {
    for (int32_t i = 0; i < p->n_row; i++)
        if (strcmp(p->row[i].name, name) == 0) return &p->row[i];
    dt_profile_row *r = &p->row[p->n_row++];
    snprintf(r->name, sizeof r->name, "%s", name);
    return r;
}

dt_status dt_profile_group(const dt_profile *p, dt_profile_by by, dt_profile *out) {
    *out = *p;
    out->by = by;
    out->n_row = 0;
    out->row = calloc((size_t)p->n_row + 1, sizeof *out->row);
    if (!out->row) return dt_fail(DT_ERR_MEMORY, "no memory for a table of %d rows", p->n_row);
    for (int32_t i = 0; i < p->n_row; i++) {
        const dt_profile_row *from = &p->row[i];
        if (by == DT_PROFILE_BY_NODE) {
            out->row[out->n_row++] = *from;
            continue;
        }
        dt_profile_row *r = find_row(out, by == DT_PROFILE_BY_LAYER ? from->layer : from->op);
        memcpy(by == DT_PROFILE_BY_LAYER ? r->layer : r->op, r->name,
               by == DT_PROFILE_BY_LAYER ? sizeof r->layer : sizeof r->op);
        for (int k = 0; k < DT_PROFILE_PHASES; k++) r->phase_s[k] += from->phase_s[k];
        r->seconds += from->seconds;
        r->bytes += from->bytes, r->flops += from->flops;
        r->n_call += from->n_call;
    }
    qsort(out->row, (size_t)out->n_row, sizeof *out->row, by_time);
    return DT_OK;
}
