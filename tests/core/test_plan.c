/* The memory plan over random networks. Whether values may share memory is decided here by replaying the node
 * list over a map of the arena, without the planner's live ranges; what sharing does to results is decided by
 * running every network with and without it. */
#include <stdio.h>

#include "graph_program.h"
#include "random_graph.h"
#include "test_model.h"

enum { N_GRAPH = 240, N_RUN = 220 };

/* The arena in units of the alignment: which value's bytes each unit holds; -1: nobody's. */
typedef struct arena_map {
    const dt_graph *g;
    int64_t align, guard, n_cell;
    dt_vid *owner;
} arena_map;

static bool in_arena(const dt_graph *g, dt_vid v) {
    return g->value[dt_graph_root(g, v)].arena == DT_ARENA_ACT;
}

static int64_t first_cell(const arena_map *m, dt_vid v) {
    return m->g->value[v].offset_bytes / m->align;
}

static int64_t end_cell(const arena_map *m, dt_vid v) {
    const dt_value *val = &m->g->value[v];
    return (val->offset_bytes + dt_value_bytes(val) + m->guard + m->align - 1) / m->align;
}

static void need_owned(const arena_map *m, dt_vid v, const char *when) {
    dt_vid root = dt_graph_root(m->g, v);
    for (int64_t c = first_cell(m, root); c < end_cell(m, root); c++)
        if (m->owner[c] != root)
            fail_msg("%s: %s was overwritten by %s", when, m->g->value[root].name,
                     m->owner[c] < 0 ? "nobody" : m->g->value[m->owner[c]].name);
}

/* An output (or the workspace) of node n takes its bytes. */
static void take(arena_map *m, const dt_node *n, dt_vid out, int32_t index, int64_t act_bytes) {
    const dt_graph *g = m->g;
    const dt_value *val = &g->value[out];
    const dt_op_row *row = dt_op_get(n->op);
    if (val->offset_bytes < 0 || val->offset_bytes % m->align)
        fail_msg("%s is not aligned: %lld", val->name, (long long)val->offset_bytes);
    if (val->offset_bytes + dt_value_bytes(val) + m->guard > act_bytes)
        fail_msg("%s ends after the arena", val->name);
    for (int32_t j = 0; j < n->n_in; j++) {
        if (n->in[j] < 0 || !in_arena(g, n->in[j])) continue;
        dt_vid in = dt_graph_root(g, n->in[j]);
        if (end_cell(m, in) <= first_cell(m, out) || end_cell(m, out) <= first_cell(m, in)) continue;
        bool same = g->value[in].offset_bytes == val->offset_bytes &&
                    dt_value_bytes(&g->value[in]) == dt_value_bytes(val);
        if (!(row->in_place == j + 1 && row->in_place_out == index && same))
            fail_msg("%s (%s) overwrites its input %s", val->name, row->name, g->value[in].name);
    }
    for (int64_t c = first_cell(m, out); c < end_cell(m, out); c++) {
        for (int32_t k = 0; k < n->n_out; k++)
            if (k != index && n->out[k] >= 0 && m->owner[c] == n->out[k] &&
                g->value[n->out[k]].arena == DT_ARENA_ACT)
                fail_msg("%s and %s of one node overlap", val->name, g->value[n->out[k]].name);
        m->owner[c] = out;
    }
}

/* Bytes that hold something needed at node i: every root made by then and read from then on. */
static int64_t live_bytes(const arena_map *m, dt_nid i, const dt_nid *last_read, bool *cell) {
    int64_t n = 0;
    memset(cell, 0, (size_t)m->n_cell * sizeof *cell);
    for (dt_vid v = 0; v < m->g->n_value; v++) {
        const dt_value *val = &m->g->value[v];
        if (val->arena != DT_ARENA_ACT || val->alias_of >= 0 || val->producer > i) continue;
        if (val->producer != i && last_read[v] < i) continue;
        for (int64_t c = first_cell(m, v); c < end_cell(m, v); c++)
            if (!cell[c]) cell[c] = true, n++;
    }
    return n * m->align;
}

static void check_plan(const dt_graph *g, const dt_plan *plan, int64_t align, int64_t guard) {
    arena_map m = {.g = g, .align = align, .guard = guard, .n_cell = plan->act_bytes / align};
    m.owner = check_alloc((size_t)m.n_cell * sizeof *m.owner);
    dt_nid *last_read = check_alloc((size_t)g->n_value * sizeof *last_read);
    bool *cell = check_alloc((size_t)m.n_cell * sizeof *cell);
    assert_int_equal(plan->act_bytes % align, 0);
    for (int64_t c = 0; c < m.n_cell; c++) m.owner[c] = -1;
    for (dt_vid v = 0; v < g->n_value; v++) last_read[v] = -1;
    int64_t naive = 0, floor_bytes = 0;
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *n = &g->node[i];
        for (int32_t j = 0; j < n->n_in; j++) {
            if (n->in[j] < 0 || !in_arena(g, n->in[j])) continue;
            need_owned(&m, n->in[j], dt_op_get(n->op)->name);
            last_read[dt_graph_root(g, n->in[j])] = i;
        }
        for (int32_t k = 0; k < n->n_out; k++)
            if (n->out[k] >= 0 && in_arena(g, n->out[k]) && !(dt_op_get(n->op)->flags & DT_OP_VIEW))
                take(&m, n, n->out[k], k, plan->act_bytes);
        if (n->workspace >= 0) take(&m, n, n->workspace, -1, plan->act_bytes);
    }
    for (int32_t k = 0; k < g->n_output; k++) {
        need_owned(&m, g->output[k].value, "the end");
        last_read[dt_graph_root(g, g->output[k].value)] = g->n_node;
    }
    for (dt_vid v = 0; v < g->n_value; v++)
        if (g->value[v].arena == DT_ARENA_ACT && g->value[v].alias_of < 0)
            naive += dt_round_up(dt_value_bytes(&g->value[v]) + guard, align);
    for (dt_nid i = 0; i < g->n_node; i++)
        floor_bytes = dt_max_i64(floor_bytes, live_bytes(&m, i, last_read, cell));
    assert_int_equal(plan->naive_bytes, naive);
    assert_int_equal(plan->floor_bytes, floor_bytes);
    assert_true(plan->act_bytes <= naive);
    assert_true(plan->act_bytes >= floor_bytes);
    assert_in_range(plan->peak_node, 0, g->n_node - 1);
    free(m.owner), free(last_read), free(cell);
}

/* As far as an engine compiles it; dead values stay in every other network. */
static dt_graph *compiled_graph(uint64_t seed, bool training, dt_backend *be, dt_axis **axis) {
    dt_graph *g = random_graph(0.1, seed, true);
    if (seed & 1) check_ok(dt_pass_fuse_bn_act(g));
    check_ok(dt_autodiff(g));
    check_ok(dt_axis_build(g, 3, 0, false, axis));
    if (!training) {
        dt_graph_destroy(g);
        g = random_graph(0.1, seed, false);
        check_ok(dt_pass_fuse_bn_act(g));
        check_ok(dt_axis_assign(*axis, g));
    }
    check_ok(dt_pass_split_batchnorm(g));
    if (seed & 2) check_ok(dt_pass_fuse_for_backend(g, be));
    if (seed & 4) check_ok(dt_pass_remove_dead(g));
    check_ok(dt_graph_validate(g));
    return g;
}

/* Workspaces of random size at a third of the nodes, as a backend's prepare would ask for them. */
static void add_workspaces(dt_graph *g, uint64_t seed) {
    check_rng r = {.stream = seed << 8 | 2};
    for (dt_nid i = 0; i < g->n_node; i++) {
        if (check_below(&r, 3) != 0 || dt_op_get(g->node[i].op)->flags & DT_OP_VIEW) continue;
        char name[DT_NAME_MAX];
        int64_t bytes = 1 + check_below(&r, 3000);
        dt_vid v;
        snprintf(name, sizeof name, "workspace/%d", i);
        check_ok(dt_graph_add_value(g, name, DT_ROLE_ACT, DT_DTYPE_U8, 1, &bytes, &v));
        g->value[v].producer = i;
        g->node[i].workspace = v;
    }
}

static void test_no_two_live_values_overlap(void **state) {
    dt_backend *be = *state;
    static const int64_t aligns[] = {64, 256, 16}, guards[] = {0, 0, 64, 1000};
    for (uint64_t seed = 0; seed < N_GRAPH; seed++) {
        dt_axis *axis;
        dt_graph *g = compiled_graph(seed, seed % 5 != 0, be, &axis);
        add_workspaces(g, seed);
        int64_t align = aligns[seed % 3], guard = guards[seed / 3 % 4], with_reuse;
        dt_plan plan;
        check_ok(dt_plan_build(g, align, guard, true, &plan));
        check_plan(g, &plan, align, guard);
        with_reuse = plan.act_bytes;
        check_ok(dt_plan_build(g, align, guard, false, &plan));
        check_plan(g, &plan, align, guard);
        assert_int_equal(plan.act_bytes, plan.naive_bytes);
        if (g->n_node > 12) assert_true(with_reuse < plan.act_bytes);
        dt_graph_destroy(g);
        dt_axis_destroy(axis);
    }
}

/* Runs kernel by kernel; after each, every byte of the arena outside that node's outputs and workspace must
 * be what it was. Guard bands, live values and gaps are all such bytes. */
static void run_watched(live *l, int poison) {
    const dt_graph *g = l->program->graph;
    const int64_t bytes = l->program->plan.act_bytes;
    uint8_t *act = l->program->act, *expected = check_alloc((size_t)bytes);
    memset(act, poison, (size_t)bytes);
    for (int32_t k = 0; k < l->program->n_kernel; k++) {
        const dt_node *n = &g->node[l->program->kernel[k].node];
        memcpy(expected, act, (size_t)bytes);
        check_ok(l->program->kernel[k].run(l->program->kernel[k].ctx, NULL));
        for (int32_t j = 0; j <= n->n_out; j++) {
            dt_vid v = j < n->n_out ? n->out[j] : n->workspace;
            if (v < 0 || !in_arena(g, v)) continue;
            int64_t at = g->value[v].offset_bytes;
            memcpy(expected + at, act + at, (size_t)dt_value_bytes(&g->value[v]));
        }
        if (memcmp(act, expected, (size_t)bytes) != 0)
            fail_msg("%s of %s wrote outside of its outputs", l->program->kernel[k].label,
                     g->value[n->out[0]].name);
    }
    free(expected);
}

static void need_same_arena(const live *a, const live *b, dt_arena arena) {
    if (a->store->bytes[arena] != b->store->bytes[arena] ||
        (a->store->bytes[arena] &&
         memcmp(a->store->arena[arena], b->store->arena[arena], (size_t)a->store->bytes[arena]) != 0))
        fail_msg("arena %d differs with reuse of memory", arena);
}

static void test_reuse_changes_no_bit(void **state) {
    dt_backend *be = *state;
    for (uint64_t seed = 0; seed < N_RUN; seed++) {
        const bool training = seed % 5 != 0;
        dt_axis *axis[2];
        live l[2];
        const dt_program_options options[2] = {{.guard_bytes = seed % 2 ? 64 : 0}, {.no_reuse = true}};
        for (int i = 0; i < 2; i++) {
            dt_graph *g = compiled_graph(seed, training, be, &axis[i]);
            l[i] = live_open(be, axis[i], g, &options[i]);
            check_plan(g, &l[i].program->plan, be->align_bytes, options[i].guard_bytes);
            run_watched(&l[i], i ? 0xFF : 0xA5);
        }
        const dt_graph *g = l[0].program->graph;
        static const dt_arena kept[] = {DT_ARENA_GRAD, DT_ARENA_STATE, DT_ARENA_METRIC, DT_ARENA_MASTER};
        for (size_t k = 0; k < sizeof kept / sizeof kept[0]; k++) need_same_arena(&l[0], &l[1], kept[k]);
        const dt_vid logits = dt_graph_output(g, "logits");
        assert_memory_equal(dt_program_address(l[0].program, logits),
                            dt_program_address(l[1].program, logits),
                            (size_t)dt_value_bytes(&g->value[logits]));
        const float *metrics = l[0].store->arena[DT_ARENA_METRIC];
        if (!isfinite(metrics[DT_METRIC_LOSS]))
            fail_msg("network %llu: loss %g", (unsigned long long)seed, (double)metrics[DT_METRIC_LOSS]);
        for (int i = 0; i < 2; i++) live_close(&l[i]), dt_axis_destroy(axis[i]);
    }
}

/* The plan of the networks people train: valid, and near the smallest possible. */
static void test_resnets_stay_near_the_floor(void **state) {
    dt_backend *be = *state;
    static const char *const nets[] = {"quickstart", "resnet18", "resnet50"};
    for (size_t k = 0; k < sizeof nets / sizeof nets[0]; k++) {
        dt_model_options o;
        char text[64];
        snprintf(text, sizeof text, "[model]\nname = \"%s\"\n", nets[k]);
        check_model_options(&o, text);
        dt_model_input in = {.batch = 2,
                             .height = 64,
                             .width = 64,
                             .channels = 3,
                             .padded_channels = 3,
                             .classes = 10,
                             .stddev = {1, 1, 1}};
        dt_graph *g;
        dt_axis *axis;
        dt_program *p;
        check_ok(dt_model_build(&o, &in, DT_DTYPE_F32, true, &g));
        check_ok(dt_autodiff(g));
        check_ok(dt_axis_build(g, 4, 0, false, &axis));
        check_ok(dt_pass_split_batchnorm(g));
        check_ok(dt_pass_fuse_for_backend(g, be));
        check_ok(dt_pass_remove_dead(g));
        check_ok(dt_program_prepare(be, g, NULL, &p));
        check_plan(g, &p->plan, be->align_bytes, 0);
        if ((double)p->plan.act_bytes > 1.05 * (double)p->plan.floor_bytes)
            fail_msg("%s: %lld bytes, the floor is %lld", nets[k], (long long)p->plan.act_bytes,
                     (long long)p->plan.floor_bytes);
        assert_true(2 * p->plan.act_bytes < p->plan.naive_bytes);
        dt_program_destroy(p);
        dt_axis_destroy(axis);
        dt_model_options_fini(&o);
    }
}

static int open_backend(void **state) {
    *state = live_backend();
    return 0;
}

static int close_backend(void **state) {
    dt_backend *be = *state;
    be->destroy(be);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_two_live_values_overlap),
        cmocka_unit_test(test_reuse_changes_no_bit),
        cmocka_unit_test(test_resnets_stay_near_the_floor),
    };
    return cmocka_run_group_tests(tests, open_backend, close_backend);
}
