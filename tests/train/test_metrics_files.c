/* The files beside metrics.jsonl: TensorBoard events by their bytes, and the curves drawn from records. */
#include "train/metrics.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "metrics_dir.h"
#include "tfevents.h"

/* RFC 3720, appendix B.4, and the check value of the CRC catalogues. */
static void crc32c_matches_the_standard(void **state) {
    (void)state;
    uint8_t bytes[32] = {0};
    assert_int_equal(dt_crc32c("", 0), 0);
    assert_int_equal(dt_crc32c("123456789", 9), 0xe3069283);
    assert_int_equal(dt_crc32c(bytes, 32), 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(dt_crc32c(bytes, 32), 0x62a8ab43);
    for (int i = 0; i < 32; i++) bytes[i] = (uint8_t)i;
    assert_int_equal(dt_crc32c(bytes, 32), 0x46dd794e);
    for (int i = 0; i < 32; i++) bytes[i] = (uint8_t)(31 - i);
    assert_int_equal(dt_crc32c(bytes, 32), 0x113fdb5c);
    /* The mask undone gives the checksum back. */
    uint32_t rotated = dt_crc32c_masked("123456789", 9) - 0xa282ead8u;
    assert_int_equal(rotated << 15 | rotated >> 17, 0xe3069283);
}

/* The name of the n-th event file in the order of names. */
static void event_file(const metrics_dir *d, int n, char out[256]) {
    struct dirent **entries = NULL;
    int n_entries = scandir(d->path, &entries, NULL, alphasort);
    assert_true(n_entries > 0);
    out[0] = '\0';
    for (int i = 0; i < n_entries; i++) {
        if (strncmp(entries[i]->d_name, "events.out.tfevents.", 20) == 0 && n-- == 0)
            snprintf(out, 256, "%s", entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    assert_true(out[0] != '\0');
}

static uint64_t little_endian(const char *p, int n) {
    uint64_t v = 0;
    for (int i = n - 1; i >= 0; i--) v = v << 8 | (uint8_t)p[i];
    return v;
}

/* Checks the frame at `*at` and steps over it; the message's start. */
static const char *next_frame(const char *file, size_t size, size_t *at, size_t *message_size) {
    const char *frame = file + *at;
    assert_true(size - *at >= 16);
    *message_size = little_endian(frame, 8);
    assert_true(size - *at >= *message_size + 16);
    assert_int_equal(little_endian(frame + 8, 4), dt_crc32c_masked(frame, 8));
    assert_int_equal(little_endian(frame + 12 + *message_size, 4),
                     dt_crc32c_masked(frame + 12, *message_size));
    *at += *message_size + 16;
    return frame + 12;
}

static void events_are_framed(void **state) {
    metrics_dir *d = *state;
    dt_tfevents *t = NULL;
    assert_int_equal(dt_tfevents_open(d->path, 0, &t), DT_OK);
    dt_tfscalar scalars[] = {{"train/loss", 0.0}, {"train/top1", 0.5}};
    assert_int_equal(dt_tfevents_write(t, 300, 2, scalars), DT_OK);
    assert_int_equal(dt_tfevents_flush(t, true), DT_OK);
    dt_tfevents_close(t);

    char name[256];
    size_t size = 0, at = 0, n = 0;
    event_file(d, 0, name);
    char *file = metrics_dir_load(d, name, &size);
    /* Field 1: wall time; field 3, length 13: the version. */
    const char *message = next_frame(file, size, &at, &n);
    assert_int_equal(n, 9 + 15);
    assert_memory_equal(message + 9,
                        "\x1a\x0d"
                        "brain.Event:2",
                        15);
    /* Field 2: step 0; field 7: the start of a session. */
    message = next_frame(file, size, &at, &n);
    assert_int_equal(n, 9 + 2 + 4);
    assert_memory_equal(message + 9, "\x10\x00\x3a\x02\x08\x01", 6);
    /* Field 2: step 300; field 5: two values of tag and float, zeros included. */
    message = next_frame(file, size, &at, &n);
    static const char summary[] = "\x10\xac\x02\x2a\x26"
                                  "\x0a\x11\x0a\x0atrain/loss\x15\x00\x00\x00\x00"
                                  "\x0a\x11\x0a\x0atrain/top1\x15\x00\x00\x00\x3f";
    assert_int_equal(n, 9 + sizeof summary - 1);
    assert_memory_equal(message + 9, summary, sizeof summary - 1);
    assert_int_equal(at, size);
    free(file);
}

static void event_files_sort_by_age(void **state) {
    metrics_dir *d = *state;
    static const int64_t first_steps[] = {0, 11, 5};
    for (int i = 0; i < 3; i++) {
        dt_tfevents *t = NULL;
        assert_int_equal(dt_tfevents_open(d->path, first_steps[i], &t), DT_OK);
        assert_int_equal(dt_tfevents_flush(t, false), DT_OK);
        dt_tfevents_close(t);
    }
    for (int i = 0; i < 3; i++) {
        char name[256];
        size_t size = 0, at = 0, n = 0;
        event_file(d, i, name);
        char *file = metrics_dir_load(d, name, &size);
        next_frame(file, size, &at, &n);
        const char *message = next_frame(file, size, &at, &n);
        assert_int_equal(message[10], first_steps[i]);
        free(file);
    }
}

static void metrics_fill_all_files(void **state) {
    metrics_dir *d = *state;
    dt_metrics *m = NULL;
    dt_metrics_options o = {.board = {.task = dt_task_table},
                            .out_dir = d->path,
                            .tensorboard = true,
                            .total_steps = 4,
                            .sink = metrics_dir_sink(d, false, 1)};
    assert_int_equal(dt_metrics_open(&o, &m), DT_OK);
    for (int64_t step = 1; step <= 4; step++) {
        dt_train_record r = {.step = step, .score = {.loss = 1, .metric = {0.5}}};
        dt_metrics_train(m, &r);
    }
    dt_eval_record e = {.step = 4, .score = {.loss = 1, .metric = {0.75}}, .n_samples = 8};
    dt_metrics_eval(m, &e);
    dt_metrics_close(m);
    char name[256];
    size_t size = 0, at = 0, n = 0;
    int n_frames = 0;
    event_file(d, 0, name);
    char *file = metrics_dir_load(d, name, &size);
    for (; at < size; n_frames++) next_frame(file, size, &at, &n);
    assert_int_equal(n_frames, 2 + 4 + 1);
    free(file);
    char *svg = metrics_dir_read(d, "curves.svg");
    assert_non_null(strstr(svg, "eval 75.00 % (best 75.00 %)"));
    free(svg);
}

/* The legend tells results, not means of neighbours, however many there are. */
static void legend_is_exact(void **state) {
    metrics_dir *d = *state;
    dt_metrics *m = NULL;
    dt_metrics_options o = {.board = {.task = dt_task_table},
                            .out_dir = d->path,
                            .total_steps = 1201,
                            .sink = metrics_dir_sink(d, false, 1000)};
    assert_int_equal(dt_metrics_open(&o, &m), DT_OK);
    for (int64_t step = 1; step <= 1201; step++) {
        dt_eval_record e = {.step = step,
                            .score = {.loss = step % 2 ? 0.5 : 2, .metric = {step % 2 ? 0.1 : 0.9}},
                            .n_samples = 8};
        dt_metrics_eval(m, &e);
    }
    dt_metrics_close(m);
    char *svg = metrics_dir_read(d, "curves.svg");
    assert_non_null(strstr(svg, "eval 10.00 % (best 90.00 %)"));
    assert_non_null(strstr(svg, "eval 0.5000 (best 0.5000)"));
    free(svg);
}

/* TensorBoard itself, where $DT_PYTHON or python3 has it: a resumed run's file replaces the steps after the
 * resumption. */
static void tensorboard_reads_events(void **state) {
    metrics_dir *d = *state;
    char command[1024];
    for (int run = 0; run < 2; run++) {
        dt_tfevents *t = NULL;
        int64_t first = run ? 4 : 1;
        assert_int_equal(dt_tfevents_open(d->path, run ? first : 0, &t), DT_OK);
        for (int64_t step = first; step <= 5; step++) {
            dt_tfscalar scalar = {"train/loss", (double)(10 * run + step)};
            assert_int_equal(dt_tfevents_write(t, step, 1, &scalar), DT_OK);
        }
        assert_int_equal(dt_tfevents_flush(t, false), DT_OK);
        dt_tfevents_close(t);
    }
    snprintf(command, sizeof command,
             "\"${DT_PYTHON:-python3}\" - '%s' 2>/dev/null <<'END'\n"
             "import sys\n"
             "try:\n"
             "    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator\n"
             "except ImportError:\n"
             "    sys.exit(77)\n"
             "events = EventAccumulator(sys.argv[1])\n"
             "events.Reload()\n"
             "points = [(s.step, s.value) for s in events.Scalars('train/loss')]\n"
             "sys.exit(points != [(1, 1), (2, 2), (3, 3), (4, 14), (5, 15)])\n"
             "END\n",
             d->path);
    int result = system(command);
    assert_true(WIFEXITED(result));
    if (WEXITSTATUS(result) == 77 || WEXITSTATUS(result) == 127) {
        print_message("no python3 with the package tensorboard\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(result), 0);
}

static char *plot(metrics_dir *d, const char *jsonl) {
    char metrics[384], svg[384];
    metrics_dir_write(d, "m.jsonl", jsonl);
    metrics_dir_join(d, "m.jsonl", metrics);
    metrics_dir_join(d, "m.svg", svg);
    assert_int_equal(dt_plot_curves(metrics, svg), DT_OK);
    char *text = metrics_dir_read(d, "m.svg");
    assert_memory_equal(text, "<svg ", 5);
    assert_string_equal(text + strlen(text) - 7, "</svg>\n");
    assert_null(strstr(text, "nan"));
    assert_null(strstr(text, "inf"));
    return text;
}

static int count(const char *text, const char *what) {
    int n = 0;
    for (const char *p = strstr(text, what); p; p = strstr(p + 1, what)) n++;
    return n;
}

static void plot_takes_any_number_of_points(void **state) {
    metrics_dir *d = *state;
    char *svg = plot(d, "");
    assert_int_equal(count(svg, "no data"), 2);
    assert_int_equal(count(svg, "<polyline"), 0);
    free(svg);
    svg = plot(d, "{\"kind\": \"train\", \"step\": 1, \"loss\": 2.5, \"top1\": 0.1}\n");
    assert_int_equal(count(svg, "<circle"), 2);
    free(svg);

    char *jsonl = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&jsonl, &size);
    assert_non_null(f);
    for (int step = 1; step <= 25000; step++)
        fprintf(f, "{\"kind\": \"%s\", \"step\": %d, \"loss\": %g, \"top1\": 0.5}\n",
                step % 5000 == 0 ? "eval" : "train", step, 2.0 / step);
    fclose(f);
    svg = plot(d, jsonl);
    const char *curve = strstr(svg, "<polyline");
    assert_non_null(curve);
    int n_points = 0;
    for (const char *p = curve; *p != '>'; p++) n_points += *p == ',';
    assert_in_range(n_points, 500, 1000);
    assert_int_equal(count(svg, "<polyline"), 6);
    assert_int_equal(count(svg, "<circle"), 10);
    assert_non_null(strstr(svg, ">20k<"));
    free(svg);
    free(jsonl);
}

/* A third curve, only where there is one. */
static void plot_shows_current_weights(void **state) {
    metrics_dir *d = *state;
    char *svg = plot(d, "{\"kind\": \"eval\", \"step\": 4, \"loss\": 1, \"top1\": 0.5}\n");
    assert_null(strstr(svg, "current weights"));
    free(svg);
    svg = plot(d, "{\"kind\": \"eval\", \"step\": 4, \"loss\": 1, \"top1\": 0.5, \"current_loss\": 2, "
                  "\"current_top1\": 0.25}\n");
    assert_int_equal(count(svg, "<polyline"), 4);
    assert_non_null(strstr(svg, "current weights 2.0000<"));
    assert_non_null(strstr(svg, "current weights 25.00 %<"));
    free(svg);
}

static void plot_passes_over_what_is_no_number(void **state) {
    metrics_dir *d = *state;
    char *svg = plot(d, "{\"kind\": \"train\", \"step\": 1, \"loss\": null, \"top1\": null}\n"
                        "{\"kind\": \"train\", \"step\": 2, \"loss\": 1e300, \"top1\": -1e300}\n"
                        "{\"kind\": \"train\", \"step\": 3, \"loss\": \"x\"}\n"
                        "{\"kind\": 3, \"step\": 3, \"loss\": 1}\n"
                        "{\"kind\": \"eval\", \"step\": 4, \"loss\": 0, \"top1\": 0}\n"
                        "\xff\n[]\n{\"kind\"");
    assert_int_equal(count(svg, "<polyline"), 2);
    assert_int_equal(count(svg, "<circle"), 2);
    free(svg);
}

static void plot_reports_files_it_cannot_use(void **state) {
    metrics_dir *d = *state;
    char metrics[384], svg[384];
    metrics_dir_join(d, "none.jsonl", metrics);
    metrics_dir_join(d, "m.svg", svg);
    assert_int_equal(dt_plot_curves(metrics, svg), DT_ERR_IO);
    metrics_dir_write(d, "m.jsonl", "");
    metrics_dir_join(d, "m.jsonl", metrics);
    metrics_dir_join(d, "m.jsonl/m.svg", svg);
    assert_int_equal(dt_plot_curves(metrics, svg), DT_ERR_IO);
    assert_false(metrics_dir_has(d, "m.svg"));
}

/* Another task's scores, and those of several losses, under their names: records, evaluations, plot. */
static void scores_go_by_their_names(void **state) {
    metrics_dir *d = *state;
    const dt_scoreboard board = {
        .task = dt_task_of(&(dt_model_options){.task = 2}), .n_own = 2, .own = {"loss_main", "loss_aux"}};
    assert_string_equal(board.task->name, "regress");
    dt_metrics *m;
    dt_metrics_options o = {
        .board = board, .out_dir = d->path, .total_steps = 2, .sink = metrics_dir_sink(d, false, 1)};
    assert_int_equal(dt_metrics_open(&o, &m), DT_OK);
    const dt_scores s = {.loss = 1.5, .metric = {2.5, 0.75, 0.625}, .own = {1.25, 0.5}};
    for (int64_t step = 1; step <= 2; step++)
        dt_metrics_train(m, &(dt_train_record){.step = step, .score = s});
    dt_metrics_eval(m, &(dt_eval_record){.step = 2, .score = s, .n_samples = 8, .ema = true, .current = s});
    dt_metrics_close(m);
    char *records = metrics_dir_read(d, "metrics.jsonl"), *svg = metrics_dir_read(d, "curves.svg");
    const char *said = metrics_dir_console(d);
    static const char *const parts[] = {
        "\"loss\": 1.5, \"rmse\": 2.5, \"loss_main\": 1.25, \"loss_aux\": 0.5, \"lr\"",
        "\"loss\": 1.5, \"rmse\": 2.5, \"mae\": 0.75, \"r2\": 0.625, \"loss_main\": 1.25, \"loss_aux\": 0.5, "
        "\"lr\"",
        "\"current_loss\": 1.5, \"current_rmse\": 2.5"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (!strstr(records, parts[i])) fail_msg("no %s in %s", parts[i], records);
    assert_non_null(strstr(said, "loss 1.5000  RMSE 2.5  "));
    assert_non_null(strstr(said,
                           ": loss 1.5000, RMSE 2.5, MAE 0.75, R2 0.625, loss_main 1.2500, loss_aux 0.5000, "
                           "averaged weights; current weights: loss 1.5000, RMSE 2.5 (8 samples)"));
    assert_non_null(strstr(svg, ">RMSE<"));
    assert_non_null(strstr(svg, "eval 2.5000 (best 2.5000)"));
    free(records), free(svg);
}

int main(void) {
#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, metrics_dir_make, metrics_dir_remove)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_matches_the_standard),
        IN_DIR(events_are_framed),
        IN_DIR(event_files_sort_by_age),
        IN_DIR(metrics_fill_all_files),
        IN_DIR(legend_is_exact),
        IN_DIR(scores_go_by_their_names),
        IN_DIR(tensorboard_reads_events),
        IN_DIR(plot_takes_any_number_of_points),
        IN_DIR(plot_shows_current_weights),
        IN_DIR(plot_passes_over_what_is_no_number),
        IN_DIR(plot_reports_files_it_cannot_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
