/* Batch statistics of all ranks: N ranks with parts of a batch are one rank with all of it, but for rounding. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/op.h"
#include "engine_fixture.h"

/* Of fp32: gradients of all parameters together, running statistics, the loss. */
static const double ROUNDING = 1e-6;

#define MODEL                                                                                                \
    "[model]\nname = \"layers\"\n"                                                                           \
    "[[model.layers]]\ntype = \"conv\"\nchannels = 6\nbias = false\n"                                        \
    "[[model.layers]]\ntype = \"batchnorm\"\n"                                                               \
    "[[model.layers]]\ntype = \"relu\"\nname = \"a\"\n"                                                      \
    "[[model.layers]]\ntype = \"conv\"\nchannels = 6\nbias = false\n"                                        \
    "[[model.layers]]\ntype = \"batchnorm\"\n"                                                               \
    "[[model.layers]]\ntype = \"add\"\nwith = \"a\"\n"                                                       \
    "[[model.layers]]\ntype = \"relu\"\n"                                                                    \
    "[[model.layers]]\ntype = \"maxpool\"\n"                                                                 \
    "[[model.layers]]\ntype = \"flatten\"\n"                                                                 \
    "[[model.layers]]\ntype = \"dense\"\nchannels = 5\n"
#define TRAIN(batch, micro, sync)                                                                            \
    "[train]\nglobal_batch = " #batch "\nmicro_batch = " #micro "\nsync_batch_norm = " #sync                 \
    "\n[optim]\nkind = \"sgd\"\n[dist]\nbuckets = 2\n"

static dt_dataset_info large; /* for ResNet-18 */

/* Gradient of the last step, summed over ranks. */
static double *gradient(const rig *r, int64_t *n) {
    const float *g = rig_arena(r, r->c.train.micro_batch > 0 ? DT_ARENA_ACC : DT_ARENA_GRAD);
    *n = dt_engine_axis(r->e)->n_elem;
    double *wide = check_alloc((size_t)*n * sizeof *wide);
    for (int64_t i = 0; i < *n; i++) wide[i] = (double)g[i];
    return wide;
}

typedef struct outcome {
    double gradient, state, loss; /* distances */
    int64_t n_sums;
} outcome;

/* The first step of `world` ranks against that of one that has their batches joined. */
static outcome compare(int32_t world, const char *part, const char *whole, const dt_dataset_info *data,
                       rig_batch_fn *batch) {
    static crew w, one;
    static rig r[CREW_MAX], s[1];
    const crew_work work = {.config = part, .data = data, .batch = batch, .end = 1, .lr = 0.01f},
                    alone = {.config = whole, .data = data, .batch = batch, .end = 1, .lr = 0.01f};
    dt_ckpt a = crew_train(&w, world, &work, r), b = crew_train(&one, 1, &alone, s);
    int64_t n;
    double *ga = gradient(&r[0], &n), *gb = gradient(&s[0], &n);
    outcome out = {.gradient = check_distance(ga, gb, n), .n_sums = w.n_sums};
    for (int32_t i = 0; i < b.n_tensor; i++) {
        if (strncmp(b.tensor[i].name, "state/", 6) != 0) continue;
        const dt_ckpt_tensor *t = dt_ckpt_find(&a, b.tensor[i].name);
        for (int64_t k = 0; k < t->dim[0]; k++)
            out.state = fmax(out.state, fabs((double)t->data[k] - (double)b.tensor[i].data[k]));
    }
    out.loss = fabs((double)r[0].result.metric[DT_METRIC_LOSS] - (double)s[0].result.metric[DT_METRIC_LOSS]);
    for (int32_t k = 1; k < world; k++) /* ranks are equal to the bit, their own statistics too */
        assert_memory_equal(rig_arena(&r[k], DT_ARENA_STATE), rig_arena(&r[0], DT_ARENA_STATE),
                            (size_t)rig_arena_bytes(&r[0], DT_ARENA_STATE));
    free(ga), free(gb);
    rig_checkpoint_free(&a), rig_checkpoint_free(&b);
    for (int32_t k = 0; k < world; k++) rig_close(&r[k]);
    rig_close(&s[0]);
    return out;
}

static void need_equal(outcome o) {
    print_message("gradient %.1e, statistics %.1e, loss %.1e, %lld sums\n", o.gradient, o.state, o.loss,
                  (long long)o.n_sums);
    assert_true(o.gradient < ROUNDING && o.state < ROUNDING && o.loss < 12 * ROUNDING && o.n_sums > 0);
}

static void test_ranks_are_one(void **state) {
    (void)state;
    for (int32_t world = 2; world <= CREW_MAX; world++)
        need_equal(compare(world, MODEL TRAIN(12, 0, true), MODEL TRAIN(12, 0, false), NULL, NULL));
}

/* 14 samples on 4 ranks: 4, 4, 3, 3 of them. */
static void test_uneven_rows_count_by_their_number(void **state) {
    (void)state;
    need_equal(compare(4, MODEL TRAIN(14, 0, true), MODEL TRAIN(14, 0, false), NULL, NULL));
    need_equal(compare(3, MODEL TRAIN(11, 0, true), MODEL TRAIN(11, 0, false), NULL, NULL));
}

static void test_resnet18(void **state) {
    (void)state;
    large = rig_data;
    large.height = large.width = 64, large.channels = 3;
    large.mean[2] = 0.5f, large.stddev[2] = 0.3f;
    need_equal(compare(2, "[model]\nname = \"resnet18\"\nclasses = 5\n" TRAIN(16, 0, true),
                       "[model]\nname = \"resnet18\"\nclasses = 5\n" TRAIN(16, 0, false), &large, NULL));
}

/* Micro-step s of two ranks with 3 rows each has the samples that micro-batch s of one rank has. */
static dt_batch joined(rig *r, int64_t rows, int64_t first, int64_t stride, int64_t end) {
    const bool two = rows == 3;
    (void)stride;
    return rig_batch(r, rows, two ? first / 2 * 6 + first % 2 : first * 6, two ? 2 : 1, end);
}

static void test_micro_steps(void **state) {
    (void)state;
    need_equal(compare(2, MODEL TRAIN(12, 3, true), MODEL TRAIN(12, 6, false), &rig_data, joined));
}

/* Without the key ranks have statistics of their own: the comparison sees it. */
static void test_own_statistics_differ(void **state) {
    static crew w, one;
    static rig r[2], s[1];
    (void)state;
    const crew_work work = {.config = MODEL TRAIN(12, 0, false), .end = 1, .lr = 0.01f};
    dt_ckpt a = crew_train(&w, 2, &work, r), b = crew_train(&one, 1, &work, s);
    assert_true(w.n_sums == 0 && !r[0].be->ranks.sum);
    assert_true(rig_distance(&r[0], &s[0]) > 1e-5);
    rig_checkpoint_free(&a), rig_checkpoint_free(&b);
    rig_close(&r[0]), rig_close(&r[1]), rig_close(&s[0]);
}

static void test_one_rank_is_as_without(void **state) {
    static rig a, b;
    (void)state;
    rig_open(&a, MODEL TRAIN(12, 0, true)), rig_open(&b, MODEL TRAIN(12, 0, false));
    assert_int_equal(dt_engine_program(a.e, false)->n_kernel, dt_engine_program(b.e, false)->n_kernel);
    for (int64_t step = 0; step < 3; step++) rig_step(&a, step, 0.1f), rig_step(&b, step, 0.1f);
    assert_true(rig_hash(&a) == rig_hash(&b));
    rig_close(&a), rig_close(&b);
}

static void test_resume_is_exact(void **state) {
    static crew w;
    static rig r[CREW_MAX];
    (void)state;
    crew_work work = {.config = MODEL TRAIN(12, 0, true), .end = 4, .lr = 0.1f};
    dt_ckpt ends[2], half;
    for (int part = 0; part < 3; part++) { /* all of it; the first half; the second */
        work.first = part == 2 ? 2 : 0, work.end = part == 1 ? 2 : 4, work.load = part == 2 ? &half : NULL;
        dt_ckpt c = crew_train(&w, 3, &work, r);
        for (int32_t k = 0; k < 3; k++) rig_close(&r[k]);
        *(part == 1 ? &half : &ends[part / 2]) = c;
    }
    for (int32_t i = 0; i < ends[0].n_tensor; i++) {
        const dt_ckpt_tensor *t = &ends[0].tensor[i], *u = &ends[1].tensor[i];
        size_t n = 1;
        for (int32_t d = 0; d < t->ndim; d++) n *= (size_t)t->dim[d];
        assert_memory_equal(t->data, u->data, n * sizeof *t->data);
    }
    rig_checkpoint_free(&ends[0]), rig_checkpoint_free(&ends[1]), rig_checkpoint_free(&half);
}

/* Nothing may run ahead of a collective: fused neighbours leave it alone. */
static void test_graph(void **state) {
    static crew w;
    static rig r[2];
    (void)state;
    const crew_work work = {.config = MODEL TRAIN(12, 0, true), .end = 1, .lr = 0.1f};
    dt_ckpt c = crew_train(&w, 2, &work, r);
    const dt_graph *g = dt_engine_program(r[0].e, false)->graph;
    int32_t n_sync = 0, n_grad = 0, n_bn = 0;
    for (dt_nid i = 0; i < g->n_node; i++) {
        n_sync += g->node[i].op == DT_OP_BN_SYNC, n_grad += g->node[i].op == DT_OP_BN_SYNC_GRAD;
        if (g->node[i].op != DT_OP_BN_FINALIZE) continue;
        n_bn++;
        assert_int_equal(g->node[i].attr.norm.rows, 12 * 8 * 8);
        assert_int_equal(g->node[g->value[g->node[i].in[0]].producer].op, DT_OP_BN_SYNC);
    }
    assert_true(n_bn == 2 && n_sync == 2 && n_grad == 2);
    g = dt_engine_program(r[0].e, true)->graph;
    for (dt_nid i = 0; i < g->n_node; i++) assert_true(g->node[i].op != DT_OP_BN_SYNC);
    rig_checkpoint_free(&c);
    rig_close(&r[0]), rig_close(&r[1]);
}

static void test_uneven_micro_batches_are_refused(void **state) {
    dt_config c;
    dt_division d;
    (void)state;
    check_config(&c, MODEL TRAIN(12, 4, true));
    check_ok(dt_division_make(&c, 0, 1, &d));
    check_ok(dt_division_make(&c, 0, 3, &d));
    assert_int_equal(dt_division_make(&c, 0, 2, &d), DT_ERR_CONFIG);
    assert_non_null(strstr(dt_error_text(), "a multiple of 2"));
    dt_config_fini(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranks_are_one),
        cmocka_unit_test(test_uneven_rows_count_by_their_number),
        cmocka_unit_test(test_resnet18),
        cmocka_unit_test(test_micro_steps),
        cmocka_unit_test(test_own_statistics_differ),
        cmocka_unit_test(test_one_rank_is_as_without),
        cmocka_unit_test(test_resume_is_exact),
        cmocka_unit_test(test_graph),
        cmocka_unit_test(test_uneven_micro_batches_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
