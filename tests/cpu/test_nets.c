/* The built-in networks against the reference implementations: names, shapes, logits, every gradient and the losses of a
 * few steps, of tests/golden/nets/ (nets.py there says what a file holds, and how both sides make weights and inputs).
 *
 * The metric: the error of an array is the 2-norm of its difference to the reference's over the 2-norm of that. Of a
 * parameter's gradient it is estimated by two products with vectors of random signs: each differs by the norm of the
 * difference times a number that is about normally distributed, so `tolerance` holds for the root mean square of all, and
 * `spread` times it, which is the largest of a few hundred such numbers, for each, and for its own norm. Gradients that are
 * zero but for rounding (below a thousandth of the largest parameter's norm) count as that large.
 *
 * In some networks fp32 is further off than that by itself, PyTorch's too (`fp32` in the files): batch norms of few and
 * nearly equal values magnify rounding, and a ReLU near its kink takes the other side. Their graphs, unfused, are run in
 * double by the oracle that every kernel is tested against, and must agree to `exact_tolerance`: what is left is that
 * attributes are fp32. Their steps are taken in double, too, at rates at which those networks do not magnify that. */
#include <dirent.h>
#include <stdio.h>

#include "core/autodiff.h"
#include "core/compile.h"
#include "cpu/cpu.h"
#include "graph_oracle.h"
#include "model/model_table.h"
#include "test_model.h"

static const double tolerance = 1e-5; /* of logits and gradients, which the reference has in float64 */
static const double exact_tolerance = 1e-6;
static const double spread = 3.5;
static const double steps_tolerance = 1e-4; /* of losses of steps, which it has in fp32; exact: in float64 */

enum { FILES_MAX = 128, LINE = 1 << 16, FIELDS = 4, STEPS = 16, SHOWN = 64, UNLABELLED = 7 };

/* ---- the numbers that both sides make ---- */

static uint64_t fnv(const char *text) {
    uint64_t h = 0xCBF29CE484222325u;
    for (; *text; text++) h = (h ^ (unsigned char)*text) * 0x100000001B3u;
    return h;
}

/* Number i of those of a name: splitmix64 counted from its hash. */
static uint64_t bits(uint64_t hash, int64_t i) {
    uint64_t z = hash + 0x9E3779B97F4A7C15u * ((uint64_t)i + 1);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static double uniform(uint64_t hash, int64_t i) {
    return (double)(bits(hash, i) >> 40) / 8388608 - 1;
}

static double sign(uint64_t hash, int64_t i) {
    return bits(hash, i) >> 63 ? -1 : 1;
}

/* Place in PyTorch's order of element i of a parameter, whose filters lie channels last here. */
static int64_t torch_place(const dt_axis_param *p, int64_t i) {
    if (p->ndim != 4) return i;
    const int64_t c = i % p->dim[3], at = i / p->dim[3], area = p->dim[1] * p->dim[2];
    return (at / area * p->dim[3] + c) * area + at % area;
}

static void fill_weights(const dt_axis *a, float *master) {
    for (int32_t k = 0; k < a->n_segment; k++) {
        const dt_axis_param *p = &a->param[k];
        const int64_t n = a->segment[k].n_elem, fan_in = n / p->dim[0];
        const uint64_t hash = fnv(p->name);
        const size_t length = strlen(p->name);
        int64_t longest = 0;
        for (int32_t d = 0; d < p->ndim; d++) longest = p->dim[d] > longest ? p->dim[d] : longest;
        const bool vector = longest == n;
        const bool scale = length >= 6 && strcmp(p->name + length - 6, "weight") == 0;
        for (int64_t i = 0; i < n; i++) {
            const double u = uniform(hash, torch_place(p, i));
            master[a->segment[k].offset + i] =
                (float)(vector ? 0.2 * u + (scale ? 1 : 0) : u * sqrt(3.0 / (double)fan_in));
        }
    }
}

/* ---- a golden file ---- */

typedef struct golden {
    char path[512], model[64], toml[1024], task[32];
    dt_model_input in;
    dt_field field[FIELDS];
    int64_t below[FIELDS];
    char *text;       /* the whole file, cut into lines */
    char **parameter; /* lines "NAME SHAPE NORM P1 P2" */
    int n_parameter;
    int64_t n_number;
    double logits[SHOWN], loss[STEPS], lr;
    int n_logit, n_step, seed;
    bool exact;
} golden;

static int read_numbers(const char *text, double *out, int max) {
    int n = 0;
    for (char *end; n < max; n++, text = end) {
        out[n] = strtod(text, &end);
        if (end == text) break;
    }
    return n;
}

static void take_field(golden *g, const char *text) {
    int used;
    double shape[DT_MAX_DIM];
    dt_field *f = &g->field[g->in.n_field];
    long long below;
    assert_true(g->in.n_field < FIELDS);
    assert_int_equal(sscanf(text, "%31s %lld%n", f->name, &below, &used), 2);
    f->dtype = below > 0 ? DT_DTYPE_I32 : DT_DTYPE_F32;
    f->ndim = read_numbers(text + used, shape, DT_MAX_DIM);
    for (int32_t i = 0; i < f->ndim; i++) f->dim[i] = (int64_t)shape[i];
    g->below[g->in.n_field++] = below;
    g->in.field = g->field;
    if (strcmp(f->name, "tokens") == 0) g->in.n_vocab = below;
}

static void take_line(golden *g, const char *word, char *rest) {
    double v[2] = {0, 0};
    if (strcmp(word, "model") == 0) snprintf(g->model, sizeof g->model, "%s", rest);
    if (strcmp(word, "task") == 0) snprintf(g->task, sizeof g->task, "%s", rest);
    if (strcmp(word, "key") == 0)
        snprintf(g->toml + strlen(g->toml), sizeof g->toml - strlen(g->toml), "%s\n", rest);
    if (strcmp(word, "batch") == 0) g->in.batch = atoll(rest);
    if (strcmp(word, "exact") == 0) g->exact = atoi(rest) != 0;
    if (strcmp(word, "seed") == 0) g->seed = atoi(rest);
    if (strcmp(word, "table") == 0) g->in.table_side = atoll(rest);
    if (strcmp(word, "outputs") == 0) g->in.classes = atoll(rest);
    if (strcmp(word, "field") == 0) take_field(g, rest);
    if (strcmp(word, "p") == 0) g->parameter[g->n_parameter++] = rest;
    if (strcmp(word, "logits") == 0) g->n_logit = read_numbers(rest, g->logits, SHOWN);
    if (strcmp(word, "parameters") == 0) {
        assert_int_equal(read_numbers(rest, v, 2), 2);
        g->parameter = check_alloc((size_t)v[0] * sizeof *g->parameter);
        g->n_number = (int64_t)v[1];
    }
    if (strcmp(word, "image") == 0) {
        assert_int_equal(read_numbers(rest, v, 2), 2);
        g->in.height = g->in.width = (int64_t)v[0];
        g->in.channels = g->in.padded_channels = (int64_t)v[1];
    }
    if (strcmp(word, "steps") == 0) {
        char *end;
        g->lr = strtod(rest, &end);
        g->n_step = read_numbers(end, g->loss, STEPS);
    }
}

static void read_golden(golden *g) {
    FILE *f = fopen(g->path, "r");
    if (!f) fail_msg("%s: cannot be read", g->path);
    fseek(f, 0, SEEK_END);
    const long size = ftell(f);
    rewind(f);
    g->text = check_alloc((size_t)size + 1);
    assert_int_equal(fread(g->text, 1, (size_t)size, f), size);
    fclose(f);
    for (int i = 0; i < 4; i++) g->in.mean[i] = 0.5f, g->in.stddev[i] = 0.25f;
    char *at = g->text;
    for (char *line; (line = strsep(&at, "\n")) && line[0];) {
        char *rest = strchr(line, ' ');
        assert_non_null(rest);
        *rest = 0;
        take_line(g, line, rest + 1);
    }
    assert_true(g->n_parameter > 0 && g->n_logit > 0);
}

/* ---- the network ---- */

typedef struct network {
    dt_backend *be;
    dt_axis *axis;
    dt_program *program;
    dt_store *store;
    dt_vid output; /* of the program: logits, or what else the network gives */
    double logits[SHOWN];
    double *grad; /* as on the axis */
} network;

static dt_graph *forward_graph(const golden *g, dt_model_options *o) {
    dt_graph *graph;
    char text[2048];
    snprintf(text, sizeof text, "[model]\nname = \"%s\"\ntask = \"%s\"\n%s", g->model, g->task, g->toml);
    check_model_options(o, text);
    check_ok(dt_model_build(o, &g->in, DT_DTYPE_F32, true, &graph));
    return graph;
}

static void open_network(const golden *g, network *n) {
    dt_model_options o;
    dt_graph *graph = forward_graph(g, &o);
    check_ok(dt_backend_cpu_create(&(dt_backend_options){.local_world = 1, .threads = 2}, &n->be));
    const dt_compile_options c = {.be = n->be, .fuse = true, .axis = {.n_bucket = 1}};
    check_ok(dt_compile(graph, &c, &n->axis, &n->program));
    check_ok(dt_store_create(n->be, n->axis, n->program->graph,
                             &(dt_store_options){.compute = DT_DTYPE_F32, .train = true}, &n->store));
    check_ok(dt_program_bind(n->program, n->store, NULL));
    n->output = dt_graph_output(n->program->graph, dt_task_of(&o)->output);
    n->grad = check_alloc((size_t)n->axis->n_elem * sizeof *n->grad);
    dt_model_options_fini(&o);
}

static void close_network(network *n) {
    free(n->grad);
    dt_program_destroy(n->program);
    dt_store_destroy(n->store);
    dt_axis_destroy(n->axis);
    n->be->destroy(n->be);
}

static void fill_input(const golden *g, const network *n, const char *name, int32_t ndim, int64_t below,
                       bool image) {
    const dt_vid v = dt_graph_input(n->program->graph, name);
    char seeded[64];
    if (v < 0) return; /* the network does not read it */
    const int64_t count = dt_value_n_elem(&n->program->graph->value[v]);
    void *to = dt_program_address(n->program, v);
    snprintf(seeded, sizeof seeded, "%s%d", name, g->seed);
    const uint64_t hash = fnv(seeded);
    for (int64_t i = 0; i < count; i++) {
        const uint64_t z = bits(hash, i) >> 33;
        if (image)
            ((uint8_t *)to)[i] = (uint8_t)(bits(hash, i) >> 56);
        else if (below == 0)
            ((float *)to)[i] = (float)uniform(hash, i);
        else
            ((int32_t *)to)[i] = strcmp(name, "label") == 0 && ndim > 0 && z % UNLABELLED == 0
                                     ? -1
                                     : (int32_t)(z % (uint64_t)below);
    }
}

static void fill_valid(const network *n) {
    const dt_vid v = dt_graph_input(n->program->graph, DT_FIELD_VALID);
    for (int64_t i = 0; v >= 0 && i < dt_value_n_elem(&n->program->graph->value[v]); i++)
        ((int32_t *)dt_program_address(n->program, v))[i] = 1;
}

/* Labels by those that are there: as the optimizer has it, gradients are a mean over these. */
static float of_labelled(const network *n) {
    const dt_vid v = dt_graph_input(n->program->graph, "label");
    if (v < 0) return 1;
    const int64_t count = dt_value_n_elem(&n->program->graph->value[v]);
    const int32_t *label = dt_program_address(n->program, v);
    int64_t labelled = 0;
    for (int64_t i = 0; i < count; i++) labelled += label[i] >= 0;
    return (float)count / (float)labelled;
}

/* Puts the weights and inputs of the golden file into the network; returns its loss. */
static double run(const golden *g, const network *n) {
    float *metric = n->store->arena[DT_ARENA_METRIC];
    *n->store->params =
        (dt_step_params){.loss_scale = 1, .loss_weight = 1.0f / (float)g->in.batch, .first_micro = 1};
    memset(metric, 0, DT_METRIC_COUNT * sizeof *metric);
    if (g->in.height > 0) fill_input(g, n, "image", 3, 0, true);
    if (g->in.height > 0) fill_input(g, n, "label", 0, g->in.classes, false);
    for (int32_t i = 0; i < g->in.n_field; i++)
        fill_input(g, n, g->field[i].name, g->field[i].ndim, g->below[i], false);
    fill_valid(n);
    n->store->params->loss_weight *= of_labelled(n);
    check_ok(dt_program_run(n->program, NULL, NULL));
    return (double)metric[DT_METRIC_LOSS] / (double)metric[DT_METRIC_SAMPLES];
}

/* Of the last run. */
static void take_results(const golden *g, network *n) {
    const float *grad = n->store->arena[DT_ARENA_GRAD], *out = dt_program_address(n->program, n->output);
    for (int64_t i = 0; i < n->axis->n_elem; i++) n->grad[i] = (double)grad[i];
    for (int i = 0; i < g->n_logit; i++) n->logits[i] = (double)out[i];
}

/* What the run was fed, as doubles. */
static void feed_oracle(const oracle *o, const network *n, dt_vid v) {
    const dt_value *val = &o->g->value[v];
    const dt_vid fed = val->role == DT_ROLE_INPUT ? dt_graph_input(n->program->graph, val->name) : -1;
    const void *from = fed >= 0 ? dt_program_address(n->program, fed) : NULL;
    const float *master = n->store->arena[DT_ARENA_MASTER];
    const int32_t k = val->role == DT_ROLE_PARAM ? dt_axis_find(n->axis, val->name) : -1;
    for (int64_t i = 0; i < dt_value_n_elem(val); i++) {
        if (val->role == DT_ROLE_PARAM) o->data[v][i] = (double)master[n->axis->segment[k].offset + i];
        if (val->role == DT_ROLE_STATE) o->data[v][i] = val->init == DT_INIT_ONE ? 1 : 0;
        if (val->role == DT_ROLE_METRIC) o->data[v][i] = 0;
        if (from)
            o->data[v][i] = val->dtype == DT_DTYPE_U8    ? (double)((const uint8_t *)from)[i]
                            : val->dtype == DT_DTYPE_I32 ? (double)((const int32_t *)from)[i]
                                                         : (double)((const float *)from)[i];
    }
}

/* The network in double: the graph as it was differentiated, with what the last run was fed. */
typedef struct exact {
    dt_graph *graph;
    oracle o;
    dt_vid output, metrics;
} exact;

static void open_exact(const golden *g, const network *n, exact *e) {
    dt_model_options options;
    e->graph = forward_graph(g, &options);
    check_ok(dt_autodiff(e->graph));
    e->o = oracle_open(e->graph, n->store->params);
    e->output = dt_graph_output(e->graph, dt_task_of(&options)->output);
    for (dt_vid v = 0; v < e->graph->n_value; v++) {
        feed_oracle(&e->o, n, v);
        if (e->graph->value[v].role == DT_ROLE_METRIC) e->metrics = v;
    }
    dt_model_options_fini(&options);
}

static void close_exact(exact *e) {
    oracle_close(&e->o);
    dt_graph_destroy(e->graph);
}

/* Returns the loss. */
static double run_exact(exact *e) {
    double *metric = e->o.data[e->metrics];
    memset(metric, 0, DT_METRIC_COUNT * sizeof *metric);
    oracle_run(&e->o, e->graph->n_node);
    return metric[DT_METRIC_LOSS] / metric[DT_METRIC_SAMPLES];
}

/* In place of those of the run in fp32. */
static void take_exact(const golden *g, const exact *e, network *n) {
    for (dt_vid v = 0; v < e->graph->n_value; v++) {
        const dt_value *val = &e->graph->value[v];
        if (val->role != DT_ROLE_GRAD) continue;
        const int32_t k = dt_axis_find(n->axis, e->graph->value[val->grad_of].name);
        memcpy(n->grad + n->axis->segment[k].offset, e->o.data[v],
               (size_t)dt_value_n_elem(val) * sizeof *n->grad);
    }
    memcpy(n->logits, e->o.data[e->output], (size_t)g->n_logit * sizeof *n->logits);
}

/* A step of gradient descent with the gradients of the last run. */
static void descend_exact(const exact *e, double lr) {
    for (dt_vid v = 0; v < e->graph->n_value; v++) {
        const dt_value *val = &e->graph->value[v];
        if (val->role != DT_ROLE_GRAD) continue;
        double *weight = e->o.data[val->grad_of];
        for (int64_t i = 0; i < dt_value_n_elem(val); i++) weight[i] -= lr * e->o.data[v][i];
    }
}

/* What a line of the file says of a parameter, and what the network has. */
typedef struct compared {
    char name[DT_NAME_MAX], shape[64];
    double want[3], got[3];
} compared;

/* "64,3,7,7" without dimensions of 1, in PyTorch's order. */
static const char *shape_text(int32_t ndim, const int64_t *dim, bool ours, char text[64]) {
    static const int32_t channels_first[] = {0, 3, 1, 2};
    text[0] = 0;
    for (int32_t i = 0; i < ndim; i++) {
        const int64_t d = dim[ours && ndim == 4 ? channels_first[i] : i];
        const size_t used = strlen(text);
        if (d != 1) snprintf(text + used, 64 - used, "%s%lld", used ? "," : "", (long long)d);
    }
    return text;
}

static void compare_parameter(const network *n, const char *line, compared *c) {
    char ours[64], theirs[64];
    int64_t dim[DT_MAX_DIM];
    int32_t ndim = 0;
    assert_int_equal(
        sscanf(line, "%95s %63s %lf %lf %lf", c->name, c->shape, &c->want[0], &c->want[1], &c->want[2]), 5);
    for (const char *at = c->shape; at && ndim < DT_MAX_DIM;
         at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        dim[ndim++] = atoll(at);
    const int32_t k = dt_axis_find(n->axis, c->name);
    if (k < 0) fail_msg("there is no parameter %s", c->name);
    const dt_axis_param *p = &n->axis->param[k];
    assert_string_equal(shape_text(p->ndim, p->dim, true, ours), shape_text(ndim, dim, false, theirs));
    const double *grad = n->grad + n->axis->segment[k].offset;
    char seeded[2][DT_NAME_MAX + 2];
    uint64_t hash[2];
    for (int i = 0; i < 2; i++) {
        snprintf(seeded[i], sizeof seeded[i], "%s/%d", c->name, i + 1);
        hash[i] = fnv(seeded[i]);
    }
    c->got[0] = c->got[1] = c->got[2] = 0;
    for (int64_t i = 0; i < n->axis->segment[k].n_elem; i++) {
        const int64_t place = torch_place(p, i);
        const double x = grad[i];
        c->got[0] += x * x;
        c->got[1] += x * sign(hash[0], place);
        c->got[2] += x * sign(hash[1], place);
    }
    c->got[0] = sqrt(c->got[0]);
}

/* The error of all gradients. */
static double compare_gradients(const golden *g, const network *n) {
    compared *all = check_alloc((size_t)g->n_parameter * sizeof *all);
    double largest = 0, worst = 0, squares = 0;
    int at = 0;
    assert_int_equal(n->axis->n_segment, g->n_parameter);
    assert_int_equal(n->axis->n_param_elem, g->n_number);
    for (int i = 0; i < g->n_parameter; i++) {
        compare_parameter(n, g->parameter[i], &all[i]);
        largest = fmax(largest, all[i].want[0]);
    }
    for (int i = 0; i < g->n_parameter; i++)
        for (int k = 0; k < 3; k++) {
            const double error = fabs(all[i].got[k] - all[i].want[k]) / fmax(all[i].want[0], 1e-3 * largest);
            if (!(error <= worst)) worst = error, at = i;
            if (k > 0) squares += error * error;
        }
    const double mean = sqrt(squares / (2.0 * g->n_parameter));
    const double most = g->exact ? exact_tolerance : tolerance;
    if (!(worst <= spread * most))
        fail_msg("%s: the gradient of %s is wrong by %.3g: %.8g, expected %.8g", g->model, all[at].name,
                 worst, all[at].got[0], all[at].want[0]);
    if (!(mean <= most)) fail_msg("%s: gradients are wrong by %.3g", g->model, mean);
    free(all);
    return mean;
}

static double compare_logits(const golden *g, const network *n) {
    const double error = check_distance(n->logits, g->logits, g->n_logit);
    if (!(error <= (g->exact ? exact_tolerance : tolerance)))
        fail_msg("%s: the logits are wrong by %.3g", g->model, error);
    return error;
}

/* Of the loss of a step. */
static double compare_loss(const golden *g, int step, double loss) {
    const double error = fabs(loss - g->loss[step]) / fabs(g->loss[step]);
    if (!(error <= (g->exact ? exact_tolerance : steps_tolerance)))
        fail_msg("%s: the loss of step %d is %.10g, expected %.10g", g->model, step, loss, g->loss[step]);
    return error;
}

/* Gradient descent on one batch. */
static double compare_steps(const golden *g, const network *n) {
    float *master = n->store->arena[DT_ARENA_MASTER];
    const float *grad = n->store->arena[DT_ARENA_GRAD];
    double worst = 0;
    for (int step = 0; step < g->n_step; step++) {
        worst = fmax(worst, compare_loss(g, step, run(g, n)));
        for (int64_t i = 0; i < n->axis->n_elem; i++) master[i] -= (float)g->lr * grad[i];
    }
    return worst;
}

/* The same in double; the first step's run has been. */
static double compare_exact_steps(const golden *g, exact *e, double loss) {
    double worst = compare_loss(g, 0, loss);
    for (int step = 1; step < g->n_step; step++) {
        descend_exact(e, g->lr);
        worst = fmax(worst, compare_loss(g, step, run_exact(e)));
    }
    return worst;
}

/* Each of the parts of a network's proof. */
static void compare_all(const golden *g, network *n) {
    exact e = {.metrics = -1};
    double loss = 0;
    if (g->exact) {
        open_exact(g, n, &e);
        loss = run_exact(&e);
        take_exact(g, &e, n);
    }
    const double logits = compare_logits(g, n), gradients = compare_gradients(g, n);
    const double steps = g->exact ? compare_exact_steps(g, &e, loss) : compare_steps(g, n);
    print_message("%s: logits %.2g, gradients %.2g, steps %.2g\n", g->model, logits, gradients, steps);
    if (g->exact) close_exact(&e);
}

static void test_network(void **state) {
    const char *path = *state;
    golden g = {.n_number = 0};
    network n = {.be = NULL};
    snprintf(g.path, sizeof g.path, "%s", path);
    read_golden(&g);
    open_network(&g, &n);
    fill_weights(n.axis, n.store->arena[DT_ARENA_MASTER]);
    run(&g, &n);
    take_results(&g, &n);
    assert_true(g.n_step > 0);
    compare_all(&g, &n);
    close_network(&n);
    free(g.parameter);
    free(g.text);
}

/* ---- names and shapes of every variant ---- */

static int by_text(const void *a, const void *b) {
    return strcmp(a, b);
}

/* As count_line of nets.py has it: a hash of the sorted lines "name shape". */
static uint64_t names_hash(const dt_graph *g) {
    enum { WIDTH = DT_NAME_MAX + 64 };
    char(*line)[WIDTH] = check_alloc((size_t)g->n_value * WIDTH);
    int n = 0;
    for (dt_vid v = 0; v < g->n_value; v++) {
        const dt_value *p = &g->value[v];
        char shape[64];
        if (p->role != DT_ROLE_PARAM && p->role != DT_ROLE_STATE) continue;
        snprintf(line[n++], WIDTH, "%s %s\n", p->name, shape_text(p->ndim, p->dim, true, shape));
    }
    qsort(line, (size_t)n, WIDTH, by_text);
    char *all = check_alloc((size_t)n * WIDTH + 1), *end = all;
    for (int i = 0; i < n; i++) end = stpcpy(end, line[i]);
    const uint64_t hash = fnv(all);
    free(all);
    free(line);
    return hash;
}

/* Those that are in no other library have no line. */
static bool has_reference(const dt_model_row *row) {
    return row->input > 0 && strncmp(row->reference, "dtrain", strlen("dtrain")) != 0;
}

static void test_counts(void **state) {
    (void)state;
    FILE *f = fopen(DT_TEST_DATA "/nets/counts.txt", "r");
    char model[64];
    long long count;
    unsigned long long hash;
    int n = 0;
    assert_non_null(f);
    while (fscanf(f, "%63s %lld %llx", model, &count, &hash) == 3) {
        const dt_model_row *row = dt_model_find(model);
        dt_field field[DT_TOKEN_FIELDS];
        dt_model_options o;
        dt_graph *g;
        if (!row) fail_msg("there is no model %s", model);
        const dt_model_input in = dt_model_published(row, field);
        dt_section_defaults(&dt_model_section, &o);
        snprintf(o.name, sizeof o.name, "%s", model);
        o.task = dt_task_named(row->task);
        check_ok(dt_model_build(&o, &in, DT_DTYPE_F32, false, &g));
        if (dt_model_n_param(g) != count)
            fail_msg("%s: %lld parameters, expected %lld", model, (long long)dt_model_n_param(g), count);
        if (names_hash(g) != hash) fail_msg("%s: names or shapes of parameters differ", model);
        dt_graph_destroy(g);
        n++;
    }
    fclose(f);
    int expected = 0;
    for (int i = 0; i < dt_model_count; i++) expected += has_reference(&dt_model_table[i]);
    assert_int_equal(n, expected);
}

static int compare_paths(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Whether it is run in double, which takes seconds: its test is one of its own. */
static bool is_exact(const char *path) {
    golden g = {.n_number = 0};
    snprintf(g.path, sizeof g.path, "%s", path);
    read_golden(&g);
    free(g.parameter);
    free(g.text);
    return g.exact;
}

/* The files of that name, or all that are not exact. */
static int find_files(int argc, char **argv, char *path[FILES_MAX]) {
    DIR *d = opendir(DT_TEST_DATA "/nets");
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        const size_t length = strlen(e->d_name);
        if (length < 5 || strcmp(e->d_name + length - 4, ".txt") != 0) continue;
        char full[sizeof DT_TEST_DATA + 512];
        snprintf(full, sizeof full, "%s/nets/%s", DT_TEST_DATA, e->d_name);
        bool wanted = argc < 2 && strcmp(e->d_name, "counts.txt") != 0 && !is_exact(full);
        for (int i = 1; i < argc; i++)
            wanted |= strlen(argv[i]) == length - 4 && strncmp(argv[i], e->d_name, length - 4) == 0;
        if (!wanted || n == FILES_MAX) continue;
        path[n++] = strdup(full);
    }
    if (d) closedir(d);
    qsort(path, (size_t)n, sizeof *path, compare_paths);
    return n;
}

/* test_nets [NAME...]: of those networks, or of all that fp32 tells, and names of every variant. */
int main(int argc, char **argv) {
    char *path[FILES_MAX];
    struct CMUnitTest tests[FILES_MAX + 1] = {cmocka_unit_test(test_counts)};
    const int n = find_files(argc, argv, path);
    if (n == 0) {
        fprintf(stderr, "no golden files\n");
        return 1;
    }
    for (int i = 0; i < n; i++)
        tests[1 + i] = (struct CMUnitTest){
            .name = strrchr(path[i], '/') + 1, .test_func = test_network, .initial_state = path[i]};
    const size_t lone = argc < 2 ? 0 : 1;
    const int failed = _cmocka_run_group_tests("networks", tests + lone, (size_t)n + 1 - lone, NULL, NULL);
    for (int i = 0; i < n; i++) free(path[i]);
    return failed;
}
