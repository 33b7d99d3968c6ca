/* A program that embeds the trainer: it is silent, and a sink hears the whole run. */
#include "train/sink.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "dist/comm.h"
#include "test_check.h"
#include "train/trainer.h"

enum { STEPS = 6 };

static dt_comm *mpi;
static char directory[] = "/tmp/dt_sink_XXXXXX";

static const char text[] = "[model]\nname = \"layers\"\ntask = \"regress\"\n"
                           "[[model.layers]]\ntype = \"dense\"\nchannels = 1\n"
                           "[data]\ntrain = \"synthetic\"\nval = \"synthetic\"\nsynthetic_samples = 40\n"
                           "synthetic_fields = \"x:f32[3] y:f32\"\n"
                           "[train]\nglobal_batch = 8\nsteps = 6\n[run]\ndevice = \"cpu\"\nthreads = 1\n"
                           "[optim]\nkind = \"sgd\"\nlr = 0.01\n[schedule]\nwarmup_steps = 0\n";

static void count(void *arg, const dt_news *n) {
    ((int *)arg)[n->kind]++;
    const bool is_text = n->kind != DT_NEWS_START && n->kind != DT_NEWS_STEP && n->kind != DT_NEWS_END;
    assert_true(is_text == (n->text != NULL));
    assert_true((n->kind == DT_NEWS_START) == (n->run != NULL));
    assert_true((n->kind == DT_NEWS_STEP) == (n->step != NULL));
    assert_true((n->kind == DT_NEWS_EVALUATION) == (n->eval != NULL));
}

/* Trains into a directory of its own and evaluates; what went to the standard outputs, in bytes. */
static off_t run(const char *name, const dt_sink *sink) {
    dt_config c;
    char out_dir[128], printed[128];
    snprintf(out_dir, sizeof out_dir, "run.out_dir=%s/%s", directory, name);
    snprintf(printed, sizeof printed, "%s/%s.printed", directory, name);
    const char *const overrides[] = {out_dir};
    check_ok(dt_config_parse(&c, "sink.toml", text, 1, overrides));
    fflush(NULL);
    const int out = dup(STDOUT_FILENO), err = dup(STDERR_FILENO), to = open(printed, O_CREAT | O_RDWR, 0600);
    assert_true(out >= 0 && err >= 0 && to >= 0);
    dup2(to, STDOUT_FILENO), dup2(to, STDERR_FILENO);
    dt_status st = dt_trainer_run(&c, mpi, dt_time_s(), sink);
    if (st == DT_OK) st = dt_trainer_eval(&c, mpi, NULL, sink);
    fflush(NULL);
    dup2(out, STDOUT_FILENO), dup2(err, STDERR_FILENO);
    close(out), close(err);
    check_ok(st);
    const off_t n = lseek(to, 0, SEEK_END);
    close(to);
    dt_config_fini(&c);
    return n;
}

static void test_silent_without_a_sink(void **state) {
    (void)state;
    int n[DT_NEWS_END + 1] = {0};
    const dt_sink sink = {.tell = count, .arg = n}, deaf = {.tell = NULL};
    assert_int_equal(run("silent", NULL), 0);
    assert_int_equal(run("deaf", &deaf), 0);
    assert_int_equal(run("heard", &sink), 0);
    assert_true(n[DT_NEWS_START] == 1 && n[DT_NEWS_STEP] == STEPS && n[DT_NEWS_END] == 1);
    assert_true(n[DT_NEWS_EVALUATION] >= 1 && n[DT_NEWS_NOTE] >= 1 && n[DT_NEWS_LINE] >= 6);
    assert_int_equal(n[DT_NEWS_WARNING], 0);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_silent_without_a_sink)};
    char remove[64];
    if (dt_comm_init(&argc, &argv, &mpi) != DT_OK || !mkdtemp(directory)) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    snprintf(remove, sizeof remove, "rm -r %s", directory);
    dt_comm_fini(mpi);
    return system(remove) != 0 || failed;
}
