/* Frozen parameters and groups through the engine: bits that stay, gradients that do not change by it, resuming
 * with the same groups and with others, ranks and threads. */
#include "engine_fixture.h"

#define FREEZE(pattern) "[[optim.groups]]\npattern = \"" pattern "\"\nfrozen = true\n"
#define MOMENTUM        "[optim]\nkind = \"momentum\"\nlr = 0.1\nweight_decay = 0.01\n"
#define MUON            "[optim]\nkind = \"muon\"\n[[optim.groups]]\npattern = \"layer3.*\"\nmuon = true\n"
#define ADAMW           "[optim]\nkind = \"adamw\"\nlr = 0.01\nweight_decay = 0.1\n"
#define TRAIN           "[train]\nglobal_batch = 16\nema = 0.9\n"

static int64_t n_elem(const dt_ckpt_tensor *t) {
    int64_t n = 1;
    for (int32_t d = 0; d < t->ndim; d++) n *= t->dim[d];
    return n;
}

static dt_ckpt_tensor *tensor_of(const dt_ckpt *c, const char *group, const char *name) {
    char full[128];
    snprintf(full, sizeof full, "%s/%s", group, name);
    for (int32_t i = 0; i < c->n_tensor; i++)
        if (strcmp(c->tensor[i].name, full) == 0) return &c->tensor[i];
    return NULL;
}

static bool same(const dt_ckpt *a, const dt_ckpt *b, const char *group, const char *name) {
    const dt_ckpt_tensor *x = tensor_of(a, group, name), *y = tensor_of(b, group, name);
    if (!x || !y) fail_msg("no %s/%s", group, name);
    return memcmp(x->data, y->data, (size_t)n_elem(x) * sizeof(float)) == 0;
}

static bool is_frozen(const rig *r, int32_t i) {
    return i >= dt_engine_axis(r->e)->n_segment;
}

/* Against a run that trains everything but whose frozen weights are put back before every step: the gradients of
 * the others are those of that run, bit for bit. */
static void check_frozen(const char *model, const char *optim, const char *groups, int32_t n_frozen) {
    enum { STEPS = 20 };
    char text[8192];
    rig r, whole;
    snprintf(text, sizeof text, "%s" TRAIN "%s", model, optim);
    rig_open(&whole, text);
    strcat(text, groups);
    rig_open(&r, text);
    const dt_axis *a = dt_engine_axis(r.e);
    assert_int_equal(a->n_frozen, n_frozen);
    assert_int_equal(rig_arena_bytes(&r, DT_ARENA_FROZEN), a->frozen_bytes);
    assert_int_equal(rig_arena_bytes(&whole, DT_ARENA_FROZEN), 0);
    const dt_ckpt start = rig_checkpoint(&r);
    for (int64_t s = 0; s < STEPS; s++) {
        rig_step(&r, s, 0.05f);
        rig_step(&whole, s, 0.05f);
        dt_ckpt mine = rig_checkpoint(&r), other = rig_checkpoint(&whole);
        for (int32_t i = 0; i < a->n_segment + a->n_frozen; i++) {
            const char *name = a->param[i].name;
            if (!is_frozen(&r, i)) {
                if (!same(&mine, &other, "param", name))
                    fail_msg("step %lld: %s is another", (long long)s, name);
                assert_true(same(&mine, &other, "ema", name));
                continue;
            }
            assert_true(same(&mine, &start, "param", name));
            assert_false(same(&other, &start, "param", name));
            static const char *const none[] = {"ema", "mom1", "mom2"};
            for (int k = 0; k < 3; k++) assert_null(tensor_of(&mine, none[k], name));
            dt_ckpt_tensor *back = tensor_of(&other, "param", name);
            memcpy(back->data, tensor_of(&start, "param", name)->data, (size_t)n_elem(back) * sizeof(float));
        }
        check_ok(dt_engine_load(whole.e, &other));
        rig_checkpoint_free(&mine), rig_checkpoint_free(&other);
    }
    dt_ckpt c = start;
    rig_checkpoint_free(&c);
    rig_close(&r), rig_close(&whole);
}

static void test_frozen_keep_their_bits(void **state) {
    (void)state;
    check_frozen(RIG_PLAIN_MODEL, MUON, FREEZE("layer1.*"), 2);
    check_frozen(RIG_PLAIN_MODEL, MOMENTUM, FREEZE("layer1.*"), 2);
    check_frozen(RIG_PLAIN_MODEL, ADAMW, FREEZE("layer3.*") FREEZE("layer8.bias"), 3);
    check_frozen(RIG_FULL_MODEL, MOMENTUM, FREEZE("layer1.*") FREEZE("layer2.*"), 3);
    check_frozen(RIG_FULL_MODEL, ADAMW, FREEZE("layer5.*") FREEZE("layer2.weight"), 3); /* in the middle */
    check_frozen(RIG_FULL_MODEL, ADAMW,
                 FREEZE("*") "[[optim.groups]]\npattern = \"layer10.*\"\nfrozen = false\n", 6);
}

/* Below the last parameter that is trained there is no backward, and activations are not kept for it. */
static void test_backward_ends_early(void **state) {
    (void)state;
    rig r, whole;
    rig_open(&whole, RIG_FULL_MODEL "[train]\nglobal_batch = 16\n");
    rig_open(&r, RIG_FULL_MODEL "[train]\nglobal_batch = 16\n" FREEZE("layer1.*") FREEZE("layer2.*")
                     FREEZE("layer4.*") FREEZE("layer5.*"));
    const dt_program *p = dt_engine_program(r.e, false), *all = dt_engine_program(whole.e, false);
    for (dt_nid i = 0; i < p->graph->n_node; i++)
        assert_true(p->graph->node[i].op != DT_OP_CONV_WGRAD && p->graph->node[i].op != DT_OP_CONV_DGRAD &&
                    p->graph->node[i].op != DT_OP_BN_REDUCE);
    assert_true(p->plan.act_bytes < all->plan.act_bytes);
    assert_true(dt_engine_store_bytes(r.e) < dt_engine_store_bytes(whole.e));
    /* running statistics go on */
    float *before = check_alloc((size_t)rig_arena_bytes(&r, DT_ARENA_STATE));
    memcpy(before, rig_arena(&r, DT_ARENA_STATE), (size_t)rig_arena_bytes(&r, DT_ARENA_STATE));
    rig_step(&r, 0, 0.1f);
    rig_step(&whole, 0, 0.1f);
    assert_memory_not_equal(before, rig_arena(&r, DT_ARENA_STATE),
                            (size_t)rig_arena_bytes(&r, DT_ARENA_STATE));
    assert_memory_equal(rig_arena(&whole, DT_ARENA_STATE), rig_arena(&r, DT_ARENA_STATE),
                        (size_t)rig_arena_bytes(&r, DT_ARENA_STATE));
    free(before);
    rig_close(&r), rig_close(&whole);
}

static void need_same(const dt_ckpt *a, const dt_ckpt *b, const char *what) {
    assert_int_equal(a->n_tensor, b->n_tensor);
    for (int32_t i = 0; i < a->n_tensor; i++) {
        if (strncmp(a->tensor[i].name, "local_", 6) == 0) continue; /* a row a rank */
        if (memcmp(a->tensor[i].data, b->tensor[i].data, (size_t)n_elem(&a->tensor[i]) * sizeof(float)) != 0)
            fail_msg("%s differs %s", a->tensor[i].name, what);
    }
}

static void steps_from(rig *r, int64_t first, int64_t end) {
    for (int64_t s = first; s < end; s++) rig_step(r, s, 0.01f);
}

#define GROUPS                                                                                               \
    FREEZE("layer1.*")                                                                                       \
    "[[optim.groups]]\npattern = \"layer8.*\"\nlr_factor = 3.0\nweight_decay = 0.2\n"

static void test_repeats(void **state) {
    (void)state;
    enum { RANKS = 4, STEPS = 6, SAVED = 3 };
    static const char config[] = RIG_PLAIN_MODEL "[train]\nglobal_batch = 16\nmicro_batch = 4\nema = 0.9\n"
                                                 "clip_norm = 0.5\n" ADAMW GROUPS;
    rig alone, resumed, threads, rank[RANKS];
    crew w;
    rig_open(&alone, config);
    steps_from(&alone, 0, SAVED);
    dt_ckpt saved = rig_checkpoint(&alone);
    steps_from(&alone, SAVED, STEPS);
    dt_ckpt straight = rig_checkpoint(&alone);

    int32_t n_fresh, n_dropped;
    rig_open(&resumed, config);
    check_ok(dt_engine_load(resumed.e, &saved));
    dt_engine_regrouped(resumed.e, &n_fresh, &n_dropped);
    assert_true(n_fresh == 0 && n_dropped == 0);
    steps_from(&resumed, SAVED, STEPS);
    dt_ckpt rejoined = rig_checkpoint(&resumed);
    need_same(&straight, &rejoined, "after a resume");
    assert_true(rig_hash(&alone) == rig_hash(&resumed));

    rig_prepare(&threads, config);
    threads.be->destroy(threads.be);
    check_ok(dt_backend_cpu_create(&(dt_backend_options){.local_world = 1, .threads = 3}, &threads.be));
    check_ok(rig_try_open(&threads, NULL, true));
    steps_from(&threads, 0, STEPS);
    dt_ckpt threaded = rig_checkpoint(&threads);
    need_same(&straight, &threaded, "on three threads");

    dt_ckpt of_ranks = crew_train(&w, RANKS, &(crew_work){.config = config, .end = STEPS, .lr = 0.01f}, rank);
    need_same(&straight, &of_ranks, "on four ranks");
    rig_checkpoint_free(&saved), rig_checkpoint_free(&straight), rig_checkpoint_free(&rejoined);
    rig_checkpoint_free(&threaded), rig_checkpoint_free(&of_ranks);
    rig_close(&alone), rig_close(&resumed), rig_close(&threads);
    for (int k = 0; k < RANKS; k++) rig_close(&rank[k]);
}

/* From no groups to groups and back: weights are kept, state is dropped and begins anew. */
static void test_other_groups(void **state) {
    (void)state;
    rig plain, grouped, again, eval;
    int32_t n_fresh, n_dropped;
    rig_open(&plain, RIG_FULL_MODEL TRAIN ADAMW);
    steps_from(&plain, 0, 3);
    dt_ckpt first = rig_checkpoint(&plain);

    rig_open(&grouped, RIG_FULL_MODEL TRAIN ADAMW FREEZE("layer1.*") FREEZE("layer2.*"));
    check_ok(dt_engine_load(grouped.e, &first));
    dt_engine_regrouped(grouped.e, &n_fresh, &n_dropped);
    assert_int_equal(n_fresh, 0);
    assert_int_equal(n_dropped, 3);
    steps_from(&grouped, 3, 6);
    dt_ckpt second = rig_checkpoint(&grouped);
    assert_true(same(&first, &second, "param", "layer1.weight"));
    assert_false(same(&first, &second, "param", "layer10.weight"));
    assert_null(tensor_of(&second, "mom1", "layer1.weight"));

    rig_open(&again, RIG_FULL_MODEL TRAIN ADAMW FREEZE("layer10.*"));
    check_ok(dt_engine_load(again.e, &second));
    dt_engine_regrouped(again.e, &n_fresh, &n_dropped);
    assert_int_equal(n_fresh, 3);
    assert_int_equal(n_dropped, 2);
    dt_ckpt third = rig_checkpoint(&again);
    for (int32_t i = 0; i < third.n_tensor; i++) {
        const dt_ckpt_tensor *t = &third.tensor[i];
        const char *name = strchr(t->name, '/');
        if (!name || strncmp(t->name, "mom", 3) != 0) continue;
        const bool fresh = strncmp(name, "/layer1.", 8) == 0 || strncmp(name, "/layer2.", 8) == 0;
        float largest = 0;
        for (int64_t k = 0; k < n_elem(t); k++) largest = fmaxf(largest, fabsf(t->data[k]));
        assert_true((largest == 0) == fresh);
    }
    /* an average begins with the weight */
    assert_memory_equal(tensor_of(&third, "ema", "layer1.weight")->data,
                        tensor_of(&third, "param", "layer1.weight")->data,
                        (size_t)n_elem(tensor_of(&third, "param", "layer1.weight")) * sizeof(float));
    assert_true(same(&third, &second, "ema", "layer5.weight"));
    steps_from(&again, 6, 8);

    /* evaluation alone reads either, averaged where there is an average */
    rig_prepare(&eval, RIG_FULL_MODEL TRAIN ADAMW FREEZE("layer1.*"));
    check_ok(rig_try_open(&eval, NULL, false));
    check_ok(dt_engine_load(eval.e, &second));
    const dt_axis *a = dt_engine_axis(eval.e);
    assert_int_equal(a->n_frozen, 0);
    const float *master = dt_engine_program(eval.e, true)->store->arena[DT_ARENA_MASTER];
    for (int32_t i = 0; i < a->n_segment; i++) {
        const dt_ckpt_tensor *t = tensor_of(&second, "ema", a->param[i].name);
        if (!t) t = tensor_of(&second, "param", a->param[i].name);
        assert_int_equal(n_elem(t), a->segment[i].n_elem);
        assert_memory_equal(master + a->segment[i].offset, t->data, (size_t)n_elem(t) * sizeof(float));
    }
    rig_checkpoint_free(&first), rig_checkpoint_free(&second), rig_checkpoint_free(&third);
    rig_close(&plain), rig_close(&grouped), rig_close(&again), rig_close(&eval);
}

/* A factor of 1 and the decay that there is anyway change no bit. */
static void test_groups_that_say_the_same(void **state) {
    (void)state;
    rig a, b, c;
    rig_open(&a, RIG_FULL_MODEL TRAIN ADAMW);
    rig_open(&b, RIG_FULL_MODEL TRAIN ADAMW
             "[[optim.groups]]\npattern = \"*\"\nlr_factor = 1\nfrozen = false\n"
             "[[optim.groups]]\npattern = \"layer10.weight\"\nweight_decay = 0.1\n");
    rig_open(&c, RIG_FULL_MODEL TRAIN ADAMW "[[optim.groups]]\npattern = \"layer10.bias\"\nlr_factor = 2\n");
    steps_from(&a, 0, 3), steps_from(&b, 0, 3), steps_from(&c, 0, 3);
    assert_true(rig_hash(&a) == rig_hash(&b));
    assert_true(rig_hash(&a) != rig_hash(&c));
    rig_close(&a), rig_close(&b), rig_close(&c);
}

static void test_refused(void **state) {
    (void)state;
    rig r;
    rig_prepare(&r, RIG_PLAIN_MODEL "[train]\nglobal_batch = 16\n" FREEZE("*"));
    CHECK_ERROR(rig_try_open(&r, NULL, true), DT_ERR_CONFIG, "all 6 parameters are frozen");
    r.e = NULL;
    rig_close(&r);
    rig_prepare(&r, RIG_PLAIN_MODEL "[train]\nglobal_batch = 16\n" FREEZE("layer9.*"));
    CHECK_ERROR(rig_try_open(&r, NULL, true), DT_ERR_CONFIG, "test.toml:", "optim.groups[0]", "layer9.*",
                "did you mean");
    r.e = NULL;
    rig_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frozen_keep_their_bits),
        cmocka_unit_test(test_backward_ends_early),
        cmocka_unit_test(test_repeats),
        cmocka_unit_test(test_other_groups),
        cmocka_unit_test(test_groups_that_say_the_same),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
