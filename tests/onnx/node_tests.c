/* Runs ONNX's own tests of nodes in one process: folders that each hold model.onnx and test_data_set_<k> with input_<i>.pb
 * and output_<i>.pb, or hold such folders. Prints every test that does not pass, and at the end how many passed, were
 * refused and failed. A line "RTOL ATOL" in a file `tolerance` beside a model replaces the
 * usual ones. A file x.onnx in the place of a folder has a test in every node: its inputs are constants, and constants
 * want.<name> are what results of that name should be.
 *
 * onnx_node_tests [--verbose] [--compiled] [--known FILE] [--least N] FOLDER_OR_FILE...: --compiled: folders' models are
 * compiled for the CPU and run, in place of evaluated. FILE names tests, one a line with the reason behind it, that fail
 * for reasons of their own. Exit code 1: another one failed, a node of a file was refused, or fewer than N passed; 77: there
 * were none. */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cpu/cpu.h"
#include "onnx/run.h"

enum { MAX_VALUES = 256, MAX_PATH = 4096, BUDGET = 1 << 30 };

typedef enum outcome { PASSED, REFUSED, FAILED, OUTCOMES } outcome;

typedef struct tally {
    bool verbose;
    char **known;
    size_t n_known;
    int64_t n[OUTCOMES], n_excused, n_bad;
} tally;

static dt_backend *cpu;         /* models are compiled for it; NULL: they are evaluated */
static int64_t n_call, n_whole; /* of compiled ones: with calls of definitions, wholly by them */

static bool exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

static bool is_known(const tally *t, const char *name) {
    for (size_t i = 0; i < t->n_known; i++)
        if (strcmp(t->known[i], name) == 0) return true;
    return false;
}

static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* ---- comparing ---- */

static bool near(double got, double want, double rtol, double atol) {
    if (isnan(got) || isnan(want)) return isnan(got) && isnan(want);
    return got == want || fabs(got - want) <= atol + rtol * fabs(want);
}

static outcome compare(const dt_host_tensor *got, const dt_host_tensor *want, double rtol, double atol,
                       char *why, size_t size) {
    bool shape = got->ndim == want->ndim;
    for (int32_t d = 0; d < got->ndim && shape; d++) shape = got->dim[d] == want->dim[d];
    if (got->type != want->type || !shape) {
        size_t n = (size_t)snprintf(why, size, "is %s [", dt_tensor_type_name(got->type));
        for (int32_t d = 0; d < got->ndim; d++)
            n += (size_t)snprintf(why + n, size - n, " %lld", (long long)got->dim[d]);
        n += (size_t)snprintf(why + n, size - n, " ], want %s [", dt_tensor_type_name(want->type));
        for (int32_t d = 0; d < want->ndim; d++)
            n += (size_t)snprintf(why + n, size - n, " %lld", (long long)want->dim[d]);
        snprintf(why + n, size - n, " ]");
        return FAILED;
    }
    const bool floats = dt_host_is(got, DT_HOST_FLOATS);
    for (int64_t i = 0, n = dt_host_n_elem(got); i < n; i++) {
        const double a = dt_host_f64(got, i), b = dt_host_f64(want, i);
        if (floats ? near(a, b, rtol, atol) : dt_host_i64(got, i) == dt_host_i64(want, i)) continue;
        snprintf(why, size, "element %lld is %.9g, want %.9g", (long long)i, a, b);
        return FAILED;
    }
    return PASSED;
}

/* ---- one test ---- */

/* A tensor of a file, aligned. */
typedef struct value {
    dt_onnx_model *holder;
    void *data;
    dt_host_tensor t;
} value;

/* Of type `expected` where a file holds its bits as another one: bf16 as u16. */
static dt_status read_value(const char *path, dt_tensor_type expected, value *v) {
    *v = (value){0};
    DT_TRY(dt_onnx_read_constant(path, &v->holder));
    const dt_onnx_tensor *t = &v->holder->graph.constant[0];
    v->t = (dt_host_tensor){.type = t->type, .ndim = t->ndim};
    memcpy(v->t.dim, t->dim, sizeof t->dim);
    v->data = malloc((size_t)t->n_bytes + 1);
    if (!v->data) return dt_fail(DT_ERR_MEMORY, "no memory for %s", path);
    if (t->n_bytes > 0) memcpy(v->data, t->data, (size_t)t->n_bytes);
    v->t.data = v->data;
    if (expected == DT_TENSOR_BF16 && t->type == DT_TENSOR_U16) v->t.type = expected;
    return DT_OK;
}

static void free_values(int32_t n, value *v) {
    for (int32_t i = 0; i < n; i++) {
        dt_onnx_model_free(v[i].holder);
        free(v[i].data);
    }
}

static outcome run_set(const dt_onnx_model *m, dt_onnx_eval *e, const char *folder, double rtol, double atol,
                       char *why, size_t size) {
    char path[MAX_PATH];
    value in[MAX_VALUES] = {0}, want = {0};
    dt_host_tensor t[MAX_VALUES] = {0}, out[MAX_VALUES];
    outcome result = REFUSED;
    dt_onnx_run *compiled = NULL;
    int32_t n_in = 0;
    if (m->graph.n_in > MAX_VALUES || m->graph.n_out > MAX_VALUES) {
        snprintf(why, size, "too many inputs or outputs");
        return result;
    }
    for (; n_in < m->graph.n_in; n_in++) {
        snprintf(path, sizeof path, "%s/input_%d.pb", folder, (int)n_in);
        if (read_value(path, m->graph.in[n_in].type, &in[n_in]) != DT_OK) {
            n_in++;
            goto refused;
        }
        t[n_in] = in[n_in].t;
    }
    if (cpu) {
        if (dt_onnx_run_create(cpu, m, t, NULL, &compiled) != DT_OK ||
            dt_onnx_run_go(compiled, t, out) != DT_OK)
            goto refused;
        n_call += dt_onnx_run_get_info(compiled)->n_call > 0;
        n_whole += dt_onnx_run_get_info(compiled)->by_definition;
    } else if (dt_onnx_eval_run(e, t, out) != DT_OK) {
        goto refused;
    }
    result = PASSED;
    for (int32_t i = 0; i < m->graph.n_out && result == PASSED; i++) {
        snprintf(path, sizeof path, "%s/output_%d.pb", folder, (int)i);
        result = REFUSED;
        if (read_value(path, out[i].type, &want) != DT_OK) goto refused;
        result = compare(&out[i], &want.t, rtol, atol, why, size);
        if (result != PASSED) {
            char text[512];
            snprintf(text, sizeof text, "output '%s' %s", m->graph.out[i].name, why);
            snprintf(why, size, "%s", text);
        }
        free_values(1, &want);
        want = (value){0};
    }
    free_values(n_in, in);
    dt_onnx_run_destroy(compiled);
    return result;
refused:
    snprintf(why, size, "%s", dt_error_text());
    free_values(n_in, in);
    free_values(1, &want);
    dt_onnx_run_destroy(compiled);
    return result;
}

static outcome run_test(const char *folder, char *why, size_t size) {
    char path[MAX_PATH];
    double rtol = 1e-3, atol = 1e-7;
    dt_onnx_model *m = NULL;
    dt_onnx_eval *e = NULL;
    outcome result = REFUSED;
    snprintf(path, sizeof path, "%s/tolerance", folder);
    FILE *f = fopen(path, "r");
    if (f) {
        if (fscanf(f, "%lf %lf", &rtol, &atol) != 2) fprintf(stderr, "%s: not two numbers\n", path);
        fclose(f);
    }
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    if (dt_onnx_read(path, &m) != DT_OK || dt_onnx_check_ops(m) != DT_OK ||
        dt_onnx_eval_create(m, BUDGET, &e) != DT_OK) {
        snprintf(why, size, "%s", dt_error_text());
        goto done;
    }
    for (int set = 0;; set++) {
        snprintf(path, sizeof path, "%s/test_data_set_%d", folder, set);
        if (!exists(path)) {
            if (set == 0) snprintf(why, size, "there is no %s", path);
            break;
        }
        result = run_set(m, e, path, rtol, atol, why, size);
        if (result != PASSED) break;
    }
done:
    dt_onnx_eval_destroy(e);
    dt_onnx_model_free(m);
    return result;
}

/* ---- a file of tests ---- */

static const dt_onnx_tensor *find_constant(const dt_onnx_graph *g, const char *prefix, const char *name) {
    const size_t n = strlen(prefix);
    for (int32_t i = 0; i < g->n_constant; i++)
        if (strncmp(g->constant[i].name, prefix, n) == 0 && strcmp(g->constant[i].name + n, name) == 0)
            return &g->constant[i];
    return NULL;
}

/* A copy, aligned; its data are to be freed. */
static dt_host_tensor host_of(const dt_onnx_tensor *t) {
    dt_host_tensor h = {.type = t->type, .ndim = t->ndim, .data = malloc((size_t)t->n_bytes + 1)};
    memcpy(h.dim, t->dim, sizeof h.dim);
    if (h.data && t->n_bytes > 0) memcpy(h.data, t->data, (size_t)t->n_bytes);
    return h;
}

static outcome run_node(dt_onnx_eval *e, const dt_onnx_graph *g, const dt_onnx_node *n, char *why,
                        size_t size) {
    dt_host_tensor t[MAX_VALUES] = {0}, out[MAX_VALUES] = {0};
    const dt_host_tensor *in[MAX_VALUES] = {0};
    outcome result = REFUSED;
    if (n->n_in > MAX_VALUES || n->n_out > MAX_VALUES) return result;
    for (int32_t k = 0; k < n->n_in; k++) {
        const dt_onnx_tensor *c = *n->in[k] ? find_constant(g, "", n->in[k]) : NULL;
        if (!c) continue;
        t[k] = host_of(c);
        in[k] = &t[k];
    }
    if (dt_onnx_eval_node(e, n, in, out) != DT_OK) {
        snprintf(why, size, "%s", dt_error_text());
    } else {
        result = PASSED;
        for (int32_t k = 0; k < n->n_out && result == PASSED; k++) {
            const dt_onnx_tensor *c = find_constant(g, "want.", n->out[k]);
            dt_host_tensor want = c ? host_of(c) : (dt_host_tensor){.type = DT_TENSOR_BOOL};
            result = compare(&out[k], &want, 1e-5, 1e-7, why, size);
            free(want.data);
        }
    }
    for (int32_t k = 0; k < n->n_in; k++) free(t[k].data);
    dt_onnx_eval_clear(e);
    return result;
}

/* best: an outcome that is no fault. */
static void report(tally *t, const char *name, outcome best, outcome result, const char *why) {
    static const char *const words[OUTCOMES] = {"passed", "refused", "failed"};
    const bool excused = result == FAILED && is_known(t, name);
    t->n[result]++;
    t->n_excused += excused;
    t->n_bad += result > best && !excused;
    if (result != PASSED || t->verbose)
        printf("%s %s%s%s%s\n", words[result], name, excused ? " (known)" : "", *why ? ": " : "", why);
    fflush(stdout);
}

static void run_file(tally *t, const char *path) {
    dt_onnx_model *m = NULL;
    dt_onnx_eval *e = NULL;
    if (dt_onnx_read(path, &m) != DT_OK || dt_onnx_eval_create(m, BUDGET, &e) != DT_OK) {
        report(t, path, PASSED, REFUSED, dt_error_text());
    } else {
        for (int32_t i = 0; i < m->graph.n_node; i++) {
            char why[1024] = "";
            const outcome result = run_node(e, &m->graph, &m->graph.node[i], why, sizeof why);
            report(t, m->graph.node[i].name, PASSED, result, why);
        }
    }
    dt_onnx_eval_destroy(e);
    dt_onnx_model_free(m);
}

/* ---- folders of tests ---- */

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void run_folder(tally *t, const char *folder) {
    char path[MAX_PATH], why[1024] = "";
    const size_t n_path = strlen(folder);
    if (n_path > 5 && strcmp(folder + n_path - 5, ".onnx") == 0) {
        run_file(t, folder);
        return;
    }
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    if (exists(path)) {
        const outcome result = run_test(folder, why, sizeof why);
        report(t, last_part(folder), REFUSED, result, why);
        return;
    }
    struct dirent **entry;
    const int n = scandir(folder, &entry, NULL, by_name);
    for (int i = 0; i < n; i++) {
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", folder, entry[i]->d_name);
        if (entry[i]->d_name[0] != '.' && stat(path, &st) == 0 && S_ISDIR(st.st_mode) &&
            strncmp(entry[i]->d_name, "test_data_set_", 14) != 0)
            run_folder(t, path);
        free(entry[i]);
    }
    if (n >= 0) free(entry);
}

static bool read_known(tally *t, const char *path) {
    FILE *f = fopen(path, "r");
    char line[512], name[256];
    if (!f) return false;
    while (fgets(line, sizeof line, f)) {
        if (line[0] == '#' || sscanf(line, "%255s", name) != 1) continue;
        char **known = realloc(t->known, (t->n_known + 1) * sizeof *known);
        if (!known) break;
        t->known = known;
        t->known[t->n_known] = strdup(name);
        if (!t->known[t->n_known]) break;
        t->n_known++;
    }
    fclose(f);
    return true;
}

int main(int argc, char **argv) {
    tally t = {0};
    int64_t least = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--verbose") == 0) {
            t.verbose = true;
        } else if (strcmp(argv[i], "--least") == 0 && i + 1 < argc) {
            least = atoll(argv[++i]);
        } else if (strcmp(argv[i], "--compiled") == 0) {
            const dt_backend_options o = {.local_world = 1, .threads = 1};
            if (dt_backend_cpu_create(&o, &cpu) == DT_OK) continue;
            fprintf(stderr, "%s\n", dt_error_text());
            return 2;
        } else if (strcmp(argv[i], "--known") == 0 && i + 1 < argc) {
            if (read_known(&t, argv[++i])) continue;
            fprintf(stderr, "%s: cannot be read\n", argv[i]);
            return 2;
        } else {
            run_folder(&t, argv[i]);
        }
    }
    const int64_t all = t.n[PASSED] + t.n[REFUSED] + t.n[FAILED];
    printf("%lld tests: %lld passed, %lld refused, %lld failed; %lld of these are known\n", (long long)all,
           (long long)t.n[PASSED], (long long)t.n[REFUSED], (long long)t.n[FAILED], (long long)t.n_excused);
    if (cpu) {
        printf("compiled: %lld with calls of definitions, %lld wholly by them\n", (long long)n_call,
               (long long)n_whole);
        cpu->destroy(cpu);
    }
    for (size_t i = 0; i < t.n_known; i++) free(t.known[i]);
    free(t.known);
    return all == 0 ? 77 : t.n_bad > 0 || t.n[PASSED] < least;
}
