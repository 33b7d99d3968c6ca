/* `dtrain data`: import, info, show, verify. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/text.h"
#include "data/import.h"
#include "data/info.h"
#include "data/show.h"
#include "verbs.h"

typedef struct import_args {
    dt_import_options o;
    const char *pair[2]; /* idx: images and labels */
} import_args;

static dt_status parse_fraction(const char *text, double *out) {
    char *end;
    if (!text) return DT_OK;
    *out = strtod(text, &end);
    if (*end || end == text || !(*out > 0 && *out < 1))
        return dt_fail(DT_ERR_USAGE, "--val-fraction %s: expected a part between 0 and 1, such as 0.1", text);
    return DT_OK;
}

/* 0 where it is not given: an import that cannot use an option refuses it. */
static int64_t given(const dt_args *args, const char *name) {
    return dt_args_has(args, name) ? dt_args_number(args, name) : 0;
}

static dt_status parse_inputs(const dt_args *args, import_args *a) {
    dt_import_options *o = &a->o;
    static const char more[] = "dtrain data import --help says more";
    if (!o->out_dir) return dt_fail(DT_ERR_USAGE, "data import: --out DIR is missing; %s", more);
    o->input = (const char *const *)args->argv + 2;
    o->n_input = args->argc - 2;
    const char *images = dt_args_text(args, "images"), *labels = dt_args_text(args, "labels");
    if (o->kind == DT_IMPORT_FOLDER) o->labels = labels, labels = NULL;
    if (images || labels) {
        if (o->kind != DT_IMPORT_IDX || !images || !labels || o->n_input > 0)
            return dt_fail(DT_ERR_USAGE,
                           "data import: --images and --labels go together, and are all that idx takes; %s",
                           more);
        a->pair[0] = images, a->pair[1] = labels;
        o->input = a->pair;
        o->n_input = 2;
    }
    return DT_OK;
}

static dt_status parse_import(const dt_args *args, import_args *a) {
    dt_import_options *o = &a->o;
    if (args->argc < 2 || !dt_import_kind_parse(args->argv[1], &o->kind))
        return dt_fail(
            DT_ERR_USAGE,
            "data import: %s%s%sexpected idx, cifar10, cifar100, folder, synthetic, npy, npz, csv or text; "
            "dtrain data import --help says more",
            args->argc < 2 ? "" : "\"", args->argc < 2 ? "" : args->argv[1], args->argc < 2 ? "" : "\": ");
    const char *store = dt_args_text(args, "store");
    o->out_dir = dt_args_text(args, "out");
    o->split = dt_args_text(args, "split");
    o->class_names = dt_args_text(args, "class-names");
    o->x = dt_args_text(args, "x");
    o->y = dt_args_text(args, "y");
    o->tokenizer = dt_args_text(args, "tokenizer");
    o->field = dt_args_text(args, "field");
    o->label = dt_args_text(args, "label");
    o->separator = dt_args_text(args, "separator");
    o->resize = given(args, "resize");
    o->channels = given(args, "channels");
    o->threads = (int32_t)given(args, "threads");
    o->jpeg_quality = (int32_t)given(args, "quality");
    o->shard_bytes = given(args, "shard-mib") << 20;
    o->synthetic.n_samples = given(args, "samples");
    o->synthetic.n_classes = given(args, "classes");
    o->synthetic.height = o->synthetic.width = given(args, "size");
    o->square = dt_args_has(args, "square");
    o->exif_rotate = dt_args_has(args, "exif-rotate");
    o->skip_broken = dt_args_has(args, "skip-broken");
    o->store = store && strcmp(store, "jpeg") == 0 ? DT_STORE_JPEG : DT_STORE_RAW;
    DT_TRY(parse_fraction(dt_args_text(args, "val-fraction"), &o->val_fraction));
    if (!o->split && o->val_fraction == 0) o->split = "train";
    return parse_inputs(args, a);
}

/* What the progress bar shows and when it was last drawn. */
typedef struct bar {
    const char *what;
    double start_s, drawn_s;
    bool live;
} bar;

static bool draw(void *arg, int64_t done, int64_t total) {
    bar *b = arg;
    double now_s = dt_time_s();
    bool last = done == total;
    if (!b->live || (now_s - b->drawn_s < 0.1 && !last)) return true;
    b->drawn_s = now_s;
    double part = total > 0 ? (double)done / (double)total : 1,
           rate = (double)done / (now_s - b->start_s + 1e-9);
    char cells[31];
    memset(cells, '.', 30);
    memset(cells, '#', (size_t)(30 * part));
    cells[30] = 0;
    fprintf(stderr, "\r%s [%s] %3.0f %%  %lld of %lld, %.0f/s \033[K%s", b->what, cells, 100 * part,
            (long long)done, (long long)total, rate, last ? "\n" : "");
    return true;
}

static void note(void *arg, const char *text) {
    bar *b = arg;
    fprintf(stderr, "%s%s\n", b->live ? "\r\033[K" : "", text);
}

static bar new_bar(const char *what) {
    return (bar){.what = what, .start_s = dt_time_s(), .live = isatty(STDERR_FILENO) != 0};
}

static void print_text(const dt_import_options *o, const dt_import_result *r, const char *parts,
                       double seconds) {
    char text[80] = "";
    if (r->text_bytes > 0)
        snprintf(text, sizeof text, ", %s of text, %.2f bytes a token",
                 dt_bytes_text((double)r->text_bytes).s, (double)r->text_bytes / (double)r->n_samples);
    char classes[40] = "";
    if (r->n_classes > 0) snprintf(classes, sizeof classes, " in %s", dt_count_text(r->n_classes, "class").s);
    printf("%s: %s%s of %s%s%s, in %s, %s (%s kept, %s skipped), %.1f s\n", o->out_dir,
           dt_count_text(r->n_samples, "token").s, parts, dt_count_text(r->n_documents, "document").s,
           classes, text, dt_count_text(r->n_shards, "shard").s, dt_bytes_text((double)r->n_bytes).s,
           dt_count_text(r->n_shards_kept, "shard").s, dt_count_text(r->n_skipped, "document").s, seconds);
}

dt_status dt_verb_data_import(dt_app *app, const dt_args *args) {
    (void)app;
    import_args a = {.pair = {NULL}};
    dt_import_result r;
    bar b = new_bar("import");
    char parts[80] = "", classes[40] = "";
    DT_TRY(parse_import(args, &a));
    a.o.progress = draw;
    a.o.note = note;
    a.o.arg = &b;
    DT_TRY(dt_import_run(&a.o, &r));
    if (a.o.val_fraction > 0)
        snprintf(parts, sizeof parts, " (%lld in train, %lld in val)",
                 (long long)(r.n_samples - r.n_val_samples), (long long)r.n_val_samples);
    if (a.o.kind == DT_IMPORT_TEXT) {
        print_text(&a.o, &r, parts, dt_time_s() - b.start_s);
        return DT_OK;
    }
    if (r.n_classes > 0) snprintf(classes, sizeof classes, " of %s", dt_count_text(r.n_classes, "class").s);
    printf("%s: %s%s%s in %s, %s (%s kept, %s skipped), %.1f s\n", a.o.out_dir,
           dt_count_text(r.n_samples, "sample").s, parts, classes, dt_count_text(r.n_shards, "shard").s,
           dt_bytes_text((double)r.n_bytes).s, dt_count_text(r.n_shards_kept, "shard").s,
           dt_count_text(r.n_skipped, "sample").s, dt_time_s() - b.start_s);
    return DT_OK;
}

static dt_status one_path(const dt_args *args, const char **path) {
    if (args->argc != 2)
        return dt_fail(DT_ERR_USAGE, "usage: dtrain %s %s", args->verb->name, args->verb->usage);
    *path = args->argv[1];
    return DT_OK;
}

dt_status dt_verb_data_info(dt_app *app, const dt_args *args) {
    (void)app;
    const char *path = NULL;
    DT_TRY(one_path(args, &path));
    return dt_data_info_print(path, stdout);
}

dt_status dt_verb_data_verify(dt_app *app, const dt_args *args) {
    (void)app;
    const char *path = NULL;
    DT_TRY(one_path(args, &path));
    bar b = new_bar("verify");
    dt_data_verify_result r;
    DT_TRY(dt_data_verify(path, draw, &b, &r));
    printf("%s: %s in %s, %s: all sound%s\n", path, dt_count_text(r.n_samples, "sample").s,
           dt_count_text(r.n_shards, "shard").s, dt_bytes_text((double)r.n_bytes).s,
           r.indexed ? "" : " (no index.json: shard hashes not compared)");
    if (r.n_unchecked > 0)
        printf("%s without checksums: could not be compared\n", dt_count_text(r.n_unchecked, "sample").s);
    if (r.n_jpeg_warnings > 0)
        printf("harmless oddities in %s\n", dt_count_text(r.n_jpeg_warnings, "JPEG file").s);
    return DT_OK;
}

dt_status dt_verb_data_show(dt_app *app, const dt_args *args) {
    dt_config c;
    const int64_t n = dt_args_number(args, "samples");
    const char *out = dt_args_text(args, "out");
    if (!out) out = "samples.png";
    (void)app;
    dt_status st = dt_app_config(args->verb->name, args->argc, args->argv, &c);
    if (st == DT_OK) st = dt_data_show(&c.data, &c.augment, (uint64_t)c.run.seed, n, out);
    if (st == DT_OK) printf("%s: %s\n", out, dt_count_text(n, "sample").s);
    dt_config_fini(&c);
    return st;
}
