/* metrics.jsonl and the console: what is written, what a resumption cuts, and what a full disk may do. */
#include "train/metrics.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "metrics_dir.h"

static dt_train_record train_record(int64_t step) {
    return (dt_train_record){.step = step,
                             .epoch = (double)step / 10,
                             .score = {.loss = 2.0 / (double)step, .metric = {0.5}},
                             .lr = 0.1,
                             .samples_per_s = 1234.5,
                             .grad_norm = 3,
                             .data_wait = 0.02,
                             .step_ms = 12};
}

static dt_eval_record eval_record(int64_t step) {
    return (dt_eval_record){.step = step,
                            .epoch = 1,
                            .score = {.loss = 0.5, .metric = {0.9, 0.99}},
                            .lr = 0.1,
                            .samples_per_s = 99,
                            .n_samples = 10000,
                            .ema = true};
}

static dt_metrics *open_metrics(metrics_dir *d, int64_t resume_step, bool live) {
    dt_metrics *m = NULL;
    dt_metrics_options o = {.board = {.task = dt_task_table},
                            .out_dir = d->path,
                            .resume_step = resume_step,
                            .total_steps = 20,
                            .sink = metrics_dir_sink(d, live, 5)};
    assert_int_equal(dt_metrics_open(&o, &m), DT_OK);
    return m;
}

static void write_steps(dt_metrics *m, int64_t from, int64_t to) {
    for (int64_t step = from; step <= to; step++) {
        dt_train_record r = train_record(step);
        dt_metrics_train(m, &r);
    }
}

/* Every line as JSON; the steps of `kind` in order must be 1..n. */
static void expect_steps(const metrics_dir *d, const char *kind, int n) {
    char *text = metrics_dir_read(d, "metrics.jsonl"), *rest = NULL;
    int seen = 0;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_t *record = json_loads(line, 0, NULL);
        assert_non_null(record);
        if (strcmp(json_string_value(json_object_get(record, "kind")), kind) == 0)
            assert_int_equal(json_integer_value(json_object_get(record, "step")), ++seen);
        json_decref(record);
    }
    assert_int_equal(seen, n);
    free(text);
}

static json_t *line_of(const metrics_dir *d, int index) {
    char *text = metrics_dir_read(d, "metrics.jsonl"), *line = text;
    for (; index > 0; index--) line = strchr(line, '\n') + 1;
    *strchr(line, '\n') = '\0';
    json_t *record = json_loads(line, 0, NULL);
    assert_non_null(record);
    free(text);
    return record;
}

/* Starts and ends stand between the steps, and a resumption keeps those up to its step. */
static void starts_and_ends(void **state) {
    metrics_dir *d = *state;
    static const char *const hosts[] = {"node0", "node1"};
    dt_start_record start = {.total_steps = 20,
                             .job = "10_4",
                             .n_ranks = 4,
                             .n_host = 2,
                             .host = hosts,
                             .version = "1.2.3",
                             .commit = "abc"};
    dt_end_record end = {.step = 5, .total_steps = 20, .job = "10_4"};
    dt_metrics *m = open_metrics(d, 0, false);
    dt_metrics_start(m, &start);
    json_t *record = line_of(d, 0); /* there before the file is closed */
    assert_string_equal(json_string_value(json_object_get(record, "kind")), "start");
    assert_string_equal(json_string_value(json_object_get(record, "job")), "10_4");
    assert_string_equal(json_string_value(json_array_get(json_object_get(record, "hosts"), 1)), "node1");
    assert_int_equal(json_integer_value(json_object_get(record, "ranks")), 4);
    assert_int_equal(strlen(json_string_value(json_object_get(record, "date"))), 20);
    json_decref(record);
    write_steps(m, 1, 5);
    dt_metrics_end(m, &end);
    dt_metrics_close(m);

    m = open_metrics(d, 5, false);
    start.step = 5;
    start.restart = 1;
    end.step = 20;
    end.restart = 1;
    end.done = true;
    dt_metrics_start(m, &start);
    write_steps(m, 6, 20);
    dt_metrics_end(m, &end);
    dt_metrics_close(m);
    expect_steps(d, "train", 20);
    static const struct {
        int line;
        const char *kind, *status;
    } rows[] = {{0, "start", NULL}, {6, "end", "stopped"}, {7, "start", NULL}, {23, "end", "done"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        record = line_of(d, rows[i].line);
        assert_string_equal(json_string_value(json_object_get(record, "kind")), rows[i].kind);
        if (rows[i].status)
            assert_string_equal(json_string_value(json_object_get(record, "status")), rows[i].status);
        assert_int_equal(json_integer_value(json_object_get(record, "restart")), rows[i].line > 6);
        json_decref(record);
    }

    m = open_metrics(d, 3, false); /* the end at step 5 is no longer what happened */
    dt_metrics_close(m);
    record = line_of(d, 3);
    assert_string_equal(json_string_value(json_object_get(record, "kind")), "train");
    json_decref(record);
}

static void records_are_json_lines(void **state) {
    metrics_dir *d = *state;
    dt_metrics *m = open_metrics(d, 0, false);
    dt_train_record r = train_record(1);
    r.score.loss = 0.1234567890123;
    dt_metrics_train(m, &r);
    r = train_record(2);
    r.score.loss = NAN;
    r.grad_norm = INFINITY;
    r.skipped = true;
    dt_metrics_train(m, &r);
    dt_eval_record e = eval_record(2);
    e.score.metric[1] = -INFINITY;
    e.ema = false;
    dt_metrics_eval(m, &e);
    dt_metrics_close(m);

    static const char *const train_keys[] = {"kind",      "step",      "epoch",         "loss",
                                             "top1",      "lr",        "samples_per_s", "step_ms",
                                             "data_wait", "grad_norm", "skipped"};
    static const char *const eval_keys[] = {"kind", "step",          "epoch", "loss",      "top1",
                                            "lr",   "samples_per_s", "top5",  "n_samples", "ema"};
    json_t *record = line_of(d, 0);
    for (size_t i = 0; i < sizeof train_keys / sizeof train_keys[0]; i++)
        assert_non_null(json_object_get(record, train_keys[i]));
    assert_true(fabs(json_real_value(json_object_get(record, "loss")) - 0.1234567890123) < 1e-9);
    assert_false(json_is_true(json_object_get(record, "skipped")));
    json_decref(record);
    record = line_of(d, 1);
    assert_true(json_is_null(json_object_get(record, "loss")));
    assert_true(json_is_null(json_object_get(record, "grad_norm")));
    assert_true(json_is_true(json_object_get(record, "skipped")));
    json_decref(record);
    record = line_of(d, 2);
    for (size_t i = 0; i < sizeof eval_keys / sizeof eval_keys[0]; i++)
        assert_non_null(json_object_get(record, eval_keys[i]));
    assert_string_equal(json_string_value(json_object_get(record, "kind")), "eval");
    assert_true(json_is_null(json_object_get(record, "top5")));
    assert_int_equal(json_integer_value(json_object_get(record, "n_samples")), 10000);
    assert_true(json_is_false(json_object_get(record, "ema")));
    assert_null(json_object_get(record, "current_loss"));
    json_decref(record);
}

/* Where averaged weights are judged, the current ones are told beside them. */
static void evaluations_tell_both_weights(void **state) {
    metrics_dir *d = *state;
    dt_metrics *m = open_metrics(d, 0, false);
    dt_eval_record e = eval_record(2);
    e.ema = true;
    e.score = (dt_scores){.loss = 1.25, .metric = {0.5}};
    e.current = (dt_scores){.loss = NAN, .metric = {0.25, 0.75}};
    dt_metrics_eval(m, &e);
    dt_metrics_close(m);
    json_t *record = line_of(d, 0);
    assert_true(json_is_true(json_object_get(record, "ema")));
    assert_true(json_real_value(json_object_get(record, "top1")) == 0.5);
    assert_true(json_is_null(json_object_get(record, "current_loss")));
    assert_true(json_real_value(json_object_get(record, "current_top1")) == 0.25);
    assert_true(json_real_value(json_object_get(record, "current_top5")) == 0.75);
    json_decref(record);
    assert_non_null(strstr(metrics_dir_console(d), "loss 1.2500, top-1 50.00 %"));
    assert_non_null(
        strstr(metrics_dir_console(d), "averaged weights; current weights: loss not finite, top-1 25.00 %"));
}

static void resuming_cuts_later_steps(void **state) {
    metrics_dir *d = *state;
    dt_metrics *m = open_metrics(d, 0, false);
    write_steps(m, 1, 9);
    dt_eval_record e = eval_record(1);
    dt_metrics_eval(m, &e);
    e.step = 7;
    dt_metrics_eval(m, &e);
    dt_metrics_close(m);
    m = open_metrics(d, 6, false);
    write_steps(m, 7, 12);
    dt_metrics_close(m);
    expect_steps(d, "train", 12);
    expect_steps(d, "eval", 1);
    /* Whether the evaluation of the very step of the resumption is there, is told. */
    m = open_metrics(d, 12, false);
    assert_false(dt_metrics_evaluated(m));
    e.step = 2;
    dt_metrics_eval(m, &e);
    dt_metrics_close(m);
    m = open_metrics(d, 2, false);
    assert_true(dt_metrics_evaluated(m));
    write_steps(m, 3, 12);
    dt_metrics_close(m);
    expect_steps(d, "train", 12);
    expect_steps(d, "eval", 2);
    /* One that is to be made again goes; of other steps they stay. */
    m = open_metrics(d, 12, false);
    e.step = 12;
    dt_metrics_eval(m, &e);
    dt_metrics_close(m);
    dt_metrics_options again = {.board = {.task = dt_task_table},
                                .out_dir = d->path,
                                .resume_step = 12,
                                .evaluate_again = true,
                                .total_steps = 20,
                                .sink = metrics_dir_sink(d, false, 5)};
    assert_int_equal(dt_metrics_open(&again, &m), DT_OK);
    assert_false(dt_metrics_evaluated(m));
    dt_metrics_close(m);
    expect_steps(d, "eval", 2);
    /* Nothing to cut: the file stays. */
    m = open_metrics(d, 12, false);
    write_steps(m, 13, 13);
    dt_metrics_close(m);
    expect_steps(d, "train", 13);
    /* Runs from the start leave what was there. */
    for (int run = 0; run < 2; run++) {
        m = open_metrics(d, 0, false);
        write_steps(m, 1, 2);
        dt_metrics_close(m);
        expect_steps(d, "train", 2);
        expect_steps(d, "eval", 0);
    }
    assert_true(metrics_dir_has(d, "metrics.jsonl.old"));
    assert_true(metrics_dir_has(d, "metrics.jsonl.old.1"));
    assert_false(metrics_dir_has(d, "metrics.jsonl.tmp"));
}

/* A run that goes on from elsewhere does not take over the records that stand in its directory. */
static void records_of_another_run_are_set_aside(void **state) {
    metrics_dir *d = *state;
    dt_metrics *m = open_metrics(d, 0, false);
    write_steps(m, 1, 6);
    dt_eval_record e = eval_record(6);
    dt_metrics_eval(m, &e);
    dt_metrics_close(m);
    const dt_metrics_options o = {.board = {.task = dt_task_table},
                                  .out_dir = d->path,
                                  .resume_step = 6,
                                  .set_aside = true,
                                  .total_steps = 20,
                                  .sink = metrics_dir_sink(d, false, 5)};
    assert_int_equal(dt_metrics_open(&o, &m), DT_OK);
    assert_false(dt_metrics_evaluated(m));
    write_steps(m, 7, 8);
    dt_metrics_close(m);
    char *text = metrics_dir_read(d, "metrics.jsonl");
    int n_line = 0;
    for (const char *c = text; *c; c++) n_line += *c == '\n';
    assert_int_equal(n_line, 2);
    free(text);
    assert_true(metrics_dir_has(d, "metrics.jsonl.old"));
}

static void resuming_drops_damaged_lines(void **state) {
    metrics_dir *d = *state;
    metrics_dir_write(d, "metrics.jsonl",
                      "{\"kind\": \"train\", \"step\": 1}\n"
                      "\n"
                      "not json\n"
                      "[1, 2]\n"
                      "{\"kind\": \"train\", \"step\": \"2\"}\n"
                      "{\"kind\": \"train\", \"step\": 2}\n"
                      "{\"kind\": \"train\", \"step\": 3, \"lo");
    dt_metrics *m = open_metrics(d, 5, false);
    dt_metrics_close(m);
    expect_steps(d, "train", 2);
    /* Torn exactly before the end of its line. */
    metrics_dir_write(d, "metrics.jsonl",
                      "{\"kind\": \"train\", \"step\": 1}\n{\"kind\": \"train\", \"step\": 2}");
    m = open_metrics(d, 5, false);
    write_steps(m, 2, 3);
    dt_metrics_close(m);
    expect_steps(d, "train", 3);
}

static void flushed_records_survive_a_kill(void **state) {
    metrics_dir *d = *state;
    dt_metrics *m = open_metrics(d, 0, false);
    write_steps(m, 1, 4);
    dt_metrics_flush(m);
    expect_steps(d, "train", 4);
    dt_metrics_close(m);
}

static int count(const char *text, const char *what) {
    int n = 0;
    for (const char *p = strstr(text, what); p; p = strstr(p + 1, what)) n++;
    return n;
}

/* Writing stops at a file size limit, as on a full disk; later there is room again. */
static void full_disk_is_noted_once(void **state) {
    metrics_dir *d = *state;
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    dt_metrics *m = open_metrics(d, 0, false);
    write_steps(m, 1, 2);
    dt_metrics_flush(m);
    small = before;
    small.rlim_cur = 700; /* in the middle of the fourth record */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    write_steps(m, 3, 6);
    dt_metrics_flush(m);
    dt_metrics_flush(m);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    expect_steps(d, "train", 2);
    write_steps(m, 7, 8);
    const dt_metrics_files written = dt_metrics_close(m);
    assert_true(written.records && written.curves);
    signal(SIGXFSZ, SIG_DFL);
    expect_steps(d, "train", 8);
    assert_int_equal(count(metrics_dir_console(d), "warning: metrics.jsonl: cannot be written"), 1);
}

/* What is not on file at the end is not said to be. */
static void lost_files_are_told(void **state) {
    metrics_dir *d = *state;
    struct rlimit before, small;
    char path[384];
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    dt_metrics *m = open_metrics(d, 0, false);
    write_steps(m, 1, 6);
    small = before;
    small.rlim_cur = 700;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    dt_metrics_files written = dt_metrics_close(m);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_true(!written.records && !written.curves);
    assert_int_equal(count(metrics_dir_console(d), "warning: there is no plot"), 1);

    metrics_dir_join(d, "curves.svg", path);
    assert_int_equal(mkdir(path, 0755), 0);
    m = open_metrics(d, 0, false);
    write_steps(m, 1, 2);
    written = dt_metrics_close(m);
    assert_true(written.records && !written.curves);
    assert_int_equal(rmdir(path), 0);
}

static void missing_directory_is_an_error(void **state) {
    (void)state;
    dt_metrics *m = NULL;
    dt_metrics_options o = {
        .board = {.task = dt_task_table}, .out_dir = "/nonexistent/dir", .total_steps = 1};
    assert_int_equal(dt_metrics_open(&o, &m), DT_ERR_IO);
    assert_null(m);
    assert_non_null(strstr(dt_error_text(), "/nonexistent/dir/metrics.jsonl"));
    dt_metrics_close(NULL);
}

static void piped_output_is_plain_lines(void **state) {
    metrics_dir *d = *state;
    dt_metrics *m = open_metrics(d, 0, false);
    write_steps(m, 1, 18);
    dt_metrics_note(m, "saved %d", 18);
    write_steps(m, 19, 20);
    dt_metrics_close(m);
    const char *text = metrics_dir_console(d);
    assert_null(strchr(text, '\r'));
    assert_null(strchr(text, '\x1b'));
    assert_int_equal(count(text, "\n"), 5); /* steps 5, 10, 15, the note, 20 */
    assert_int_equal(count(text, "saved 18\n"), 1);
    assert_non_null(strstr(text, "epoch 0.50/2  step 5/20  loss 0.9133  accuracy 50.00%"));
    assert_non_null(strstr(text, "data wait 2%"));
}

static void live_output_is_one_line(void **state) {
    metrics_dir *d = *state;
    dt_metrics *m = open_metrics(d, 0, true);
    write_steps(m, 1, 20);
    dt_metrics_note(m, "saved");
    dt_metrics_close(m);
    const char *text = metrics_dir_console(d);
    assert_int_equal(count(text, "\n"), 1);
    assert_non_null(strstr(text, "\r\x1b[Ksaved\n"));
    assert_non_null(strstr(text, " 20/20 "));
    /* Twenty steps take no tenth of a second: the first and the last are drawn. */
    assert_in_range(count(text, "loss"), 2, 4);
}

static void tell(dt_console *c, dt_news news) {
    const dt_sink sink = dt_console_sink(c);
    dt_sink_tell(&sink, &news);
}

static void progress_fits_the_terminal(void **state) {
    metrics_dir *d = *state;
    dt_console c = dt_console_of(d->console, d->console);
    const dt_metrics_options o = {.board = {.task = dt_task_table}, .total_steps = 450000};
    c.live = true;
    tell(&c, (dt_news){.kind = DT_NEWS_START, .run = &o});
    c.last = train_record(123456);
    c.last.epoch = 24.67;
    c.last.lr = 0.0123456;
    c.n_finite = 1;
    c.loss_sum = 12.3456;
    c.metric_sum = 1;
    c.time_s = 2;
    c.n_sample = 2 * 123456;
    c.started_at -= 40000;
    for (int columns = 0; columns <= 200; columns++) {
        char line[256];
        dt_console_format(&c, columns, line, sizeof line);
        assert_true(strlen(line) <= (size_t)columns);
        if (columns >= 11) assert_non_null(strstr(line, "loss"));
        if (columns >= 79) {
            static const char *const parts[] = {"24.67/89.92", "123456/450000", "12.35",
                                                "100.0",       "123k",          "ETA 29:23"};
            for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
                assert_non_null(strstr(line, parts[i]));
        }
        if (columns >= 160) assert_non_null(strstr(line, "[====="));
    }
    c.n_finite = 0;
    char line[256];
    dt_console_format(&c, 79, line, sizeof line);
    assert_non_null(strstr(line, "loss not finite"));
}

/* Three steps of a second and one whose result came right behind: the rate is that of all four. */
static void bunched_results_keep_the_rate(void **state) {
    metrics_dir *d = *state;
    dt_console c = dt_console_of(d->console, d->console);
    dt_metrics_options o = {.board = {.task = dt_task_table}, .total_steps = 1000, .images = true};
    c.log_every = 4;
    tell(&c, (dt_news){.kind = DT_NEWS_START, .run = &o});
    for (int64_t step = 1; step <= 4; step++) {
        dt_train_record r = train_record(step);
        r.step_ms = step == 4 ? 0.01 : 1000;
        r.samples_per_s = 300 * 1e3 / r.step_ms;
        r.data_wait = step == 4 ? 0 : 0.5;
        tell(&c, (dt_news){.kind = DT_NEWS_STEP, .step = &r});
    }
    const char *text = metrics_dir_console(d);
    assert_non_null(strstr(text, " 400 images/s"));
    assert_non_null(strstr(text, "data wait 50%"));
    char line[256];
    o.images = false;
    tell(&c, (dt_news){.kind = DT_NEWS_START, .run = &o});
    dt_console_format(&c, 200, line, sizeof line);
    assert_non_null(strstr(line, "0 samples/s"));
}

/* A pipe that is full, as behind a pager: training must not wait for it. */
static void unread_output_is_left_out(void **state) {
    (void)state;
    int end[2];
    char text[4096] = "";
    assert_int_equal(pipe2(end, O_NONBLOCK), 0);
    while (write(end[1], text, sizeof text) > 0) continue;
    assert_int_equal(fcntl(end[1], F_SETFL, 0), 0); /* blocking from here on */
    FILE *out = fdopen(end[1], "w");
    assert_non_null(out);
    dt_console c = dt_console_of(out, out);
    const dt_metrics_options o = {.board = {.task = dt_task_table}, .total_steps = 1000};
    tell(&c, (dt_news){.kind = DT_NEWS_START, .run = &o});
    alarm(20); /* where it waits after all */
    for (int64_t step = 1; step <= 4; step++) {
        dt_train_record r = train_record(step);
        tell(&c, (dt_news){.kind = DT_NEWS_STEP, .step = &r});
    }
    tell(&c, (dt_news){.kind = DT_NEWS_NOTE, .text = "first"});
    tell(&c, (dt_news){.kind = DT_NEWS_NOTE, .text = "second"});
    alarm(0);
    while (read(end[0], text, sizeof text) > 0) continue;
    tell(&c, (dt_news){.kind = DT_NEWS_NOTE, .text = "third"});
    ssize_t n = read(end[0], text, sizeof text - 1);
    assert_true(n > 0);
    text[n] = '\0';
    assert_non_null(strstr(text, "missing here: 2 messages"));
    assert_non_null(strstr(text, "\nthird\n"));
    assert_null(strstr(text, "second"));
    dt_train_record r = train_record(5);
    tell(&c, (dt_news){.kind = DT_NEWS_STEP, .step = &r});
    n = read(end[0], text, sizeof text - 1);
    assert_true(n > 0);
    text[n] = '\0';
    assert_non_null(strstr(text, "loss 0.9133")); /* the mean of all five */
    fclose(out);
    close(end[0]);
}

/* Whoever sets no sink gets no output, and one that is set gets news of every kind. */
static void keep(void *arg, const dt_news *n) {
    ((int *)arg)[n->kind]++;
    assert_true(n->kind == DT_NEWS_START  ? n->run && n->run->total_steps == 20
                : n->kind == DT_NEWS_STEP ? n->step && !n->text
                : n->kind == DT_NEWS_END  ? !n->text
                                          : n->text && !strchr(n->text, '\n'));
}

static void all_goes_to_the_sink(void **state) {
    metrics_dir *d = *state;
    int n[DT_NEWS_END + 1] = {0};
    const dt_sink sink = {.tell = keep, .arg = n};
    char path[384];
    metrics_dir_join(d, "printed", path);
    for (int heard = 0; heard < 2; heard++) {
        dt_metrics *m;
        const dt_metrics_options o = {.board = {.task = dt_task_table},
                                      .out_dir = d->path,
                                      .total_steps = 20,
                                      .sink = heard ? &sink : NULL};
        fflush(NULL);
        const int out = dup(STDOUT_FILENO), err = dup(STDERR_FILENO), to = open(path, O_CREAT | O_RDWR, 0600);
        assert_true(out >= 0 && err >= 0 && to >= 0);
        dup2(to, STDOUT_FILENO), dup2(to, STDERR_FILENO);
        const dt_status st = dt_metrics_open(&o, &m);
        if (st == DT_OK) {
            write_steps(m, 1, 20);
            const dt_eval_record e = eval_record(20);
            dt_metrics_eval(m, &e);
            dt_metrics_note(m, "saved");
            dt_metrics_close(m);
            dt_tell(o.sink, DT_NEWS_WARNING, "no %s", "room");
        }
        fflush(NULL);
        dup2(out, STDOUT_FILENO), dup2(err, STDERR_FILENO);
        close(out), close(err);
        assert_int_equal(st, DT_OK);
        assert_int_equal(lseek(to, 0, SEEK_END), 0);
        close(to);
        assert_int_equal(n[DT_NEWS_STEP], heard ? 20 : 0);
    }
    assert_true(n[DT_NEWS_START] == 1 && n[DT_NEWS_EVALUATION] == 1 && n[DT_NEWS_NOTE] == 1);
    assert_true(n[DT_NEWS_WARNING] == 1 && n[DT_NEWS_END] == 1 && n[DT_NEWS_LINE] == 0);
}

int main(void) {
#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, metrics_dir_make, metrics_dir_remove)
    const struct CMUnitTest tests[] = {
        IN_DIR(records_are_json_lines),
        IN_DIR(all_goes_to_the_sink),
        IN_DIR(evaluations_tell_both_weights),
        IN_DIR(starts_and_ends),
        IN_DIR(resuming_cuts_later_steps),
        IN_DIR(resuming_drops_damaged_lines),
        IN_DIR(flushed_records_survive_a_kill),
        IN_DIR(full_disk_is_noted_once),
        IN_DIR(lost_files_are_told),
        IN_DIR(missing_directory_is_an_error),
        IN_DIR(piped_output_is_plain_lines),
        IN_DIR(live_output_is_one_line),
        IN_DIR(progress_fits_the_terminal),
        IN_DIR(bunched_results_keep_the_rate),
        IN_DIR(records_of_another_run_are_set_aside),
        cmocka_unit_test(unread_output_is_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
