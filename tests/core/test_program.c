/* Programs and stores: what is allocated, when a gradient bucket counts as complete, sharing of activations,
 * and errors of a backend on their way up. */
#include <stdio.h>

#include "graph_program.h"
#include "random_graph.h"

/* A random network, differentiated and lowered. */
static dt_graph *training_graph(uint64_t seed, int32_t n_bucket, dt_backend *be, dt_axis **axis) {
    dt_graph *g = random_graph(0, seed, true);
    check_ok(dt_pass_fuse_bn_act(g));
    check_ok(dt_autodiff(g));
    check_ok(dt_axis_build(g, n_bucket, 0, false, axis));
    check_ok(dt_pass_split_batchnorm(g));
    check_ok(dt_pass_fuse_for_backend(g, be));
    check_ok(dt_pass_remove_dead(g));
    return g;
}

/* Keeps the gradients of each bucket as they were when it was called complete. */
typedef struct bucket_log {
    live *l;
    float *at_completion;
    int32_t n_complete, n_call;
} bucket_log;

static dt_status on_bucket(void *arg, int32_t n_complete) {
    bucket_log *log = arg;
    const dt_axis *a = log->l->axis;
    log->n_call++;
    if (n_complete < log->n_complete) return dt_fail(DT_ERR_INTERNAL, "a bucket became incomplete");
    for (; log->n_complete < n_complete; log->n_complete++) {
        const dt_bucket *b = &a->bucket[log->n_complete];
        memcpy(log->at_completion + b->offset, (const float *)log->l->store->arena[DT_ARENA_GRAD] + b->offset,
               (size_t)b->n_elem * sizeof(float));
    }
    return DT_OK;
}

/* A bucket handed to a reducer must not change afterwards, and must not be handed over late: with its last
 * gradient, not after the next kernel. */
static void test_buckets_are_complete_when_called_so(void **state) {
    dt_backend *be = *state;
    int32_t n_early = 0;
    for (uint64_t seed = 0; seed < 60; seed++) {
        dt_axis *axis;
        dt_graph *g = training_graph(seed, 1 + (int32_t)(seed % 5), be, &axis);
        live l = live_open(be, axis, g, NULL);
        size_t bytes = (size_t)l.store->bytes[DT_ARENA_GRAD];
        bucket_log log = {.l = &l, .at_completion = check_alloc(bytes)};
        memset(l.store->arena[DT_ARENA_GRAD], 0xFF, bytes); /* NaN: a gradient that is not written shows */
        for (int32_t s = 0; s < axis->n_segment; s++) {
            int64_t end = axis->segment[s].offset + axis->segment[s].n_elem;
            int64_t next = s + 1 < axis->n_segment ? axis->segment[s + 1].offset : axis->n_elem;
            memset((float *)l.store->arena[DT_ARENA_GRAD] + end, 0, (size_t)(next - end) * sizeof(float));
        }
        check_ok(dt_program_run(l.program, on_bucket, &log));
        assert_int_equal(log.n_complete, axis->n_bucket);
        assert_int_equal(log.n_call, l.program->n_kernel);
        assert_memory_equal(log.at_completion, l.store->arena[DT_ARENA_GRAD], bytes);
        const float *grad = l.store->arena[DT_ARENA_GRAD];
        for (int64_t i = 0; i < axis->n_elem; i++) assert_true(isfinite(grad[i]));
        for (int32_t b = 0; b < axis->n_bucket; b++) {
            dt_nid last = -1; /* the node that makes the bucket's last gradient */
            for (dt_vid v = 0; v < g->n_value; v++) {
                const dt_value *d = &g->value[v];
                if (d->role == DT_ROLE_GRAD &&
                    d->axis_offset < axis->bucket[b].offset + axis->bucket[b].n_elem && d->producer > last)
                    last = d->producer;
            }
            for (int32_t k = 0; k < l.program->n_kernel; k++)
                assert_int_equal(l.program->bucket_after[k] > b, l.program->kernel[k].node >= last);
            n_early += b < axis->n_bucket - 1 && last < l.program->kernel[l.program->n_kernel - 1].node;
        }
        free(log.at_completion);
        live_close(&l);
        dt_axis_destroy(axis);
    }
    assert_true(n_early > 60); /* there is something to overlap */
}

static dt_status refuse(void *arg, int32_t n_complete) {
    int32_t *left = arg;
    (void)n_complete;
    return (*left)-- > 0 ? DT_OK : dt_fail(DT_ERR_PEER, "rank 3 is gone");
}

static void test_errors_of_the_hook_end_the_run(void **state) {
    dt_backend *be = *state;
    dt_axis *axis;
    dt_graph *g = training_graph(1, 2, be, &axis);
    live l = live_open(be, axis, g, NULL);
    int32_t left = 3;
    CHECK_ERROR(dt_program_run(l.program, refuse, &left), DT_ERR_PEER, "rank 3 is gone");
    assert_int_equal(left, -1);
    live_close(&l);
    dt_axis_destroy(axis);
}

static void test_store_holds_what_was_asked(void **state) {
    dt_backend *be = *state;
    dt_axis *axis;
    dt_graph *g = training_graph(3, 2, be, &axis);
    int64_t n_state = 0, fp32 = axis->n_elem * 4;
    for (dt_vid v = 0; v < g->n_value; v++) n_state += g->value[v].role == DT_ROLE_STATE;
    assert_true(n_state > 0);
    static const dt_optim_kind kinds[] = {DT_OPTIM_SGD, DT_OPTIM_MOMENTUM, DT_OPTIM_ADAMW, DT_OPTIM_RMSPROP};
    static const int n_state_vec[] = {0, 1, 2, 1}; /* without momentum and centering, its defaults */
    for (uint32_t bits = 0; bits < 32; bits++) {
        dt_store_options o = {.compute = DT_DTYPE_F32,
                              .train = bits & 1,
                              .accumulate = bits & 2,
                              .optim = dt_optim_defaults(kinds[bits >> 2 & 3]),
                              .ema = bits & 16};
        dt_store *s;
        check_ok(dt_store_create(be, axis, g, &o, &s));
        const struct {
            dt_arena arena;
            bool there;
        } want[] = {{DT_ARENA_MASTER, true},
                    {DT_ARENA_PARAM16, false},
                    {DT_ARENA_GRAD, o.train},
                    {DT_ARENA_ACC, o.train && o.accumulate}};
        for (size_t k = 0; k < sizeof want / sizeof want[0]; k++) {
            assert_int_equal(s->arena[want[k].arena] != NULL, want[k].there);
            assert_int_equal(s->bytes[want[k].arena], want[k].there ? fp32 : 0);
        }
        assert_int_equal(s->n_state, n_state);
        for (int32_t i = 0; i < s->n_state; i++) {
            assert_int_equal(s->state[i].offset_bytes % 256, 0); /* as on a GPU: ranks exchange the arena */
            assert_true(s->state[i].offset_bytes + s->state[i].n_elem * 4 <= s->bytes[DT_ARENA_STATE]);
            bool variance = strstr(s->state[i].name, "running_var") != NULL;
            assert_true(s->state[i].init == (variance ? 1.0f : 0.0f));
        }
        int64_t bytes = 0;
        for (int a = 0; a < DT_ARENA_COUNT; a++) bytes += s->bytes[a];
        assert_int_equal(s->vec_bytes, fp32);
        assert_int_equal(s->vec[DT_STORE_EMA].data != NULL, o.train && o.ema);
        for (int k = 0; k < DT_OPTIM_STATES_MAX; k++)
            assert_int_equal(s->vec[k].data != NULL, o.train && k < n_state_vec[bits >> 2 & 3]);
        for (int k = 0; k < DT_STORE_VECS; k++) bytes += s->vec[k].data ? s->vec_bytes : 0;
        assert_in_range(dt_store_bytes(axis, g, &o), bytes,
                        bytes + n_state * 256); /* rounded up a device's way */
        dt_store_destroy(s);
    }
    dt_store_options o = {.compute = DT_DTYPE_BF16, .train = true};
    dt_store *s;
    check_ok(dt_store_create(be, axis, g, &o, &s));
    assert_int_equal(s->bytes[DT_ARENA_PARAM16], fp32 / 2);
    assert_int_equal(s->bytes[DT_ARENA_GRAD], fp32 / 2);
    assert_int_equal(s->bytes[DT_ARENA_MASTER], fp32);
    dt_store_destroy(s);
    dt_store_destroy(NULL);
    dt_graph_destroy(g);
    dt_axis_destroy(axis);
}

/* Two programs over one activation arena, as training and evaluation. */
static void test_programs_share_activations(void **state) {
    dt_backend *be = *state;
    dt_axis *axis;
    dt_graph *g = training_graph(2, 2, be, &axis), *ge = random_graph(0, 2, false);
    check_ok(dt_axis_assign(axis, ge));
    check_ok(dt_pass_split_batchnorm(ge));
    live l = live_open(be, axis, g, NULL);
    dt_program *eval;
    check_ok(dt_program_prepare(be, ge, NULL, &eval));
    assert_true(eval->plan.act_bytes <= l.program->plan.act_bytes);
    dt_program_options share = {.act = l.program->act, .act_bytes = l.program->plan.act_bytes};
    check_ok(dt_program_bind(eval, l.store, &share));
    assert_ptr_equal(eval->act, l.program->act);
    assert_true(eval->act_shared);
    assert_ptr_not_equal(eval->input, l.program->input);
    check_ok(dt_program_run(eval, NULL, NULL));
    dt_program_destroy(eval);
    check_ok(dt_program_run(l.program, NULL, NULL)); /* its memory is still there */

    ge = random_graph(0, 2, false);
    check_ok(dt_axis_assign(axis, ge));
    check_ok(dt_pass_split_batchnorm(ge));
    check_ok(dt_program_prepare(be, ge, NULL, &eval));
    dt_program_destroy(eval); /* prepared, never bound */
    live_close(&l);
    dt_axis_destroy(axis);
}

/* A backend whose prepare, bind or memory fails at the n-th call. */
typedef struct failing {
    dt_backend base;
    dt_backend *real;
    int32_t prepare_left, bind_left, alloc_left, n_alloc;
} failing;

static failing faulty;

static dt_status failing_prepare(dt_backend *be, const dt_graph *g, dt_nid node, dt_prep **out,
                                 int64_t *bytes) {
    (void)be;
    if (faulty.prepare_left-- == 0) return dt_fail(DT_ERR_UNSUPPORTED, "no such kernel");
    return faulty.real->prepare(faulty.real, g, node, out, bytes);
}

static dt_status failing_bind(dt_backend *be, const dt_graph *g, dt_nid node, dt_prep *prep,
                              const dt_binding *b, dt_kernel *out) {
    (void)be;
    if (faulty.bind_left-- == 0) return dt_fail(DT_ERR_DEVICE, "the device is lost");
    return faulty.real->bind(faulty.real, g, node, prep, b, out);
}

static dt_status failing_alloc(dt_backend *be, dt_memkind kind, int64_t bytes, void **out) {
    (void)be;
    if (faulty.alloc_left-- == 0) return dt_fail(DT_ERR_MEMORY, "not a byte more");
    faulty.n_alloc++;
    return faulty.real->alloc(faulty.real, kind, bytes, out);
}

static void failing_free(dt_backend *be, dt_memkind kind, void *ptr) {
    (void)be;
    faulty.n_alloc--;
    faulty.real->free(faulty.real, kind, ptr);
}

/* The value made by the node that is prepared as number `at`: views have no kernel. */
static const char *prepared_name(const dt_graph *g, int32_t at) {
    dt_nid i = 0;
    while (dt_op_get(g->node[i].op)->flags & DT_OP_VIEW || at-- > 0) i++;
    return g->value[g->node[i].out[0]].name;
}

static void test_a_failing_backend(void **state) {
    dt_backend *be = *state;
    for (int32_t at = 0; at < 12; at++)
        for (int kind = 0; kind < 3; kind++) {
            dt_axis *axis;
            dt_program *p = NULL;
            dt_store *s = NULL;
            dt_graph *g = training_graph(4, 2, be, &axis);
            faulty = (failing){.base = *be, .real = be};
            faulty.prepare_left = kind == 0 ? at : -1;
            faulty.bind_left = kind == 1 ? at : -1;
            faulty.alloc_left = kind == 2 ? at : -1;
            faulty.base.prepare = failing_prepare, faulty.base.bind = failing_bind;
            faulty.base.alloc = failing_alloc, faulty.base.free = failing_free;
            dt_store_options so = {
                .compute = DT_DTYPE_F32, .train = true, .optim = dt_optim_defaults(DT_OPTIM_MOMENTUM)};
            dt_status st = dt_program_prepare(&faulty.base, g, NULL, &p);
            if (kind == 0) {
                CHECK_ERROR(st, DT_ERR_UNSUPPORTED, "no such kernel", prepared_name(g, at));
                dt_graph_destroy(g); /* it stays the caller's */
                dt_axis_destroy(axis);
                continue;
            }
            check_ok(st);
            st = dt_store_create(&faulty.base, axis, g, &so, &s);
            if (st == DT_OK) st = dt_program_bind(p, s, NULL);
            if (kind == 1) CHECK_ERROR(st, DT_ERR_DEVICE, "the device is lost");
            if (kind == 2 && st != DT_OK) CHECK_ERROR(st, DT_ERR_MEMORY, "not a byte more");
            if (kind == 2) assert_int_equal(st != DT_OK, at < 9); /* master, grad, mom1, states, ... */
            dt_program_destroy(p);
            dt_store_destroy(s);
            assert_int_equal(faulty.n_alloc, 0);
            dt_axis_destroy(axis);
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
        cmocka_unit_test(test_buckets_are_complete_when_called_so),
        cmocka_unit_test(test_errors_of_the_hook_end_the_run),
        cmocka_unit_test(test_store_holds_what_was_asked),
        cmocka_unit_test(test_programs_share_activations),
        cmocka_unit_test(test_a_failing_backend),
    };
    return cmocka_run_group_tests(tests, open_backend, close_backend);
}
