/* `dtrain data`: import, info, verify. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/import.h"
#include "data/info.h"
#include "verbs.h"

enum { INPUTS_MAX = 64 };

static const char IMPORT_USAGE[] =
    "usage:\n"
    "  dtrain data import idx --images FILE --labels FILE --out DIR\n"
    "  dtrain data import cifar10|cifar100 DIR|FILE... --out DIR [--split train|val|test]\n"
    "  dtrain data import folder DIR --out DIR [--resize N [--square]] [--channels 1|3] [--labels FILE.csv]\n"
    "                            [--exif-rotate]\n"
    "  dtrain data import folder DIR --val-fraction F --out DIR    writes DIR/train and DIR/val\n"
    "  dtrain data import synthetic --samples N --classes K --size N --out DIR\n"
    "options: --store raw|jpeg [--quality Q]  --split NAME  --class-names FILE|DATASET  --shard-mib N  "
    "--threads N  --skip-broken";

typedef struct import_args {
    dt_import_options o;
    const char *input[INPUTS_MAX];
    const char *images, *labels;
} import_args;

static dt_status parse_fraction(int *argc, char **argv, double *out) {
    const char *text;
    char *end;
    DT_TRY(dt_app_option(argc, argv, "val-fraction", &text));
    if (!text) return DT_OK;
    *out = strtod(text, &end);
    if (*end || end == text || !(*out > 0 && *out < 1))
        return dt_fail(DT_ERR_USAGE, "--val-fraction %s: expected a part between 0 and 1, such as 0.1", text);
    return DT_OK;
}

/* Takes the value of every option out of argv. */
static dt_status parse_import(int argc, char **argv, import_args *a) {
    dt_import_options *o = &a->o;
    int64_t threads, quality, mib, size;
    if (argc < 2 || !dt_import_kind_parse(argv[1], &o->kind))
        return dt_fail(DT_ERR_USAGE, "%s", IMPORT_USAGE);
    const char *store;
    DT_TRY(dt_app_option(&argc, argv, "store", &store));
    DT_TRY(dt_app_option(&argc, argv, "images", &a->images));
    DT_TRY(dt_app_option(&argc, argv, "labels", &a->labels));
    DT_TRY(dt_app_option(&argc, argv, "out", &o->out_dir));
    DT_TRY(dt_app_option(&argc, argv, "split", &o->split));
    DT_TRY(dt_app_option(&argc, argv, "class-names", &o->class_names));
    DT_TRY(dt_app_count(&argc, argv, "resize", 0, DT_IMPORT_SIDE_MAX, &o->resize));
    DT_TRY(dt_app_count(&argc, argv, "channels", 0, 4, &o->channels));
    DT_TRY(dt_app_count(&argc, argv, "threads", 0, 1024, &threads));
    DT_TRY(dt_app_count(&argc, argv, "quality", 0, 100, &quality));
    DT_TRY(dt_app_count(&argc, argv, "shard-mib", 0, 1 << 20, &mib));
    DT_TRY(dt_app_count(&argc, argv, "samples", 0, INT64_MAX, &o->synthetic.n_samples));
    DT_TRY(dt_app_count(&argc, argv, "classes", 0, 1 << 24, &o->synthetic.n_classes));
    DT_TRY(dt_app_count(&argc, argv, "size", 0, DT_IMPORT_SIDE_MAX, &size));
    o->threads = (int32_t)threads;
    o->jpeg_quality = (int32_t)quality;
    o->shard_bytes = mib << 20;
    o->synthetic.height = o->synthetic.width = size;
    o->square = dt_app_flag(&argc, argv, "square");
    o->exif_rotate = dt_app_flag(&argc, argv, "exif-rotate");
    o->skip_broken = dt_app_flag(&argc, argv, "skip-broken");
    if (store && strcmp(store, "raw") != 0 && strcmp(store, "jpeg") != 0)
        return dt_fail(DT_ERR_USAGE, "--store %s: expected raw or jpeg", store);
    o->store = store && strcmp(store, "jpeg") == 0 ? DT_STORE_JPEG : DT_STORE_RAW;
    DT_TRY(parse_fraction(&argc, argv, &o->val_fraction));
    if (!o->split && o->val_fraction == 0) o->split = "train";
    if (o->kind == DT_IMPORT_FOLDER) o->labels = a->labels, a->labels = NULL;
    for (int i = 2; i < argc; i++) {
        if (argv[i][0] == '-') return dt_fail(DT_ERR_USAGE, "unknown option %s\n%s", argv[i], IMPORT_USAGE);
        if (o->n_input == INPUTS_MAX) return dt_fail(DT_ERR_USAGE, "more than %d inputs", INPUTS_MAX);
        a->input[o->n_input++] = argv[i];
    }
    if (!o->out_dir) return dt_fail(DT_ERR_USAGE, "--out DIR is missing\n%s", IMPORT_USAGE);
    if (a->images || a->labels) {
        if (o->kind != DT_IMPORT_IDX || !a->images || !a->labels || o->n_input > 0)
            return dt_fail(DT_ERR_USAGE, "--images and --labels go together, and are all that idx takes\n%s",
                           IMPORT_USAGE);
        a->input[0] = a->images, a->input[1] = a->labels;
        o->n_input = 2;
    }
    o->input = a->input;
    return DT_OK;
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

static dt_status data_import(int argc, char **argv) {
    import_args a = {.images = NULL};
    dt_import_result r;
    bar b = new_bar("import");
    char parts[80] = "";
    DT_TRY(parse_import(argc, argv, &a));
    a.o.progress = draw;
    a.o.note = note;
    a.o.arg = &b;
    DT_TRY(dt_import_run(&a.o, &r));
    if (a.o.val_fraction > 0)
        snprintf(parts, sizeof parts, " (%lld in train, %lld in val)",
                 (long long)(r.n_samples - r.n_val_samples), (long long)r.n_val_samples);
    printf("%s: %lld sample%s%s of %lld class%s in %lld shard%s, %.1f MiB (%lld shard%s kept, %lld sample%s "
           "skipped), "
           "%.1f s\n",
           a.o.out_dir, (long long)r.n_samples, dt_plural(r.n_samples), parts, (long long)r.n_classes,
           r.n_classes == 1 ? "" : "es", (long long)r.n_shards, dt_plural(r.n_shards),
           (double)r.n_bytes / (1 << 20), (long long)r.n_shards_kept, dt_plural(r.n_shards_kept),
           (long long)r.n_skipped, dt_plural(r.n_skipped), dt_time_s() - b.start_s);
    return DT_OK;
}

static dt_status data_info(int argc, char **argv) {
    if (argc != 2) return dt_fail(DT_ERR_USAGE, "usage: dtrain data info DIR|SHARD.h5");
    return dt_data_info_print(argv[1], stdout);
}

static dt_status data_verify(int argc, char **argv) {
    if (argc != 2) return dt_fail(DT_ERR_USAGE, "usage: dtrain data verify DIR|SHARD.h5");
    bar b = new_bar("verify");
    dt_data_verify_result r;
    DT_TRY(dt_data_verify(argv[1], draw, &b, &r));
    printf("%s: %lld sample%s in %lld shard%s, %.1f MiB: all sound%s\n", argv[1], (long long)r.n_samples,
           dt_plural(r.n_samples), (long long)r.n_shards, dt_plural(r.n_shards),
           (double)r.n_bytes / (1 << 20), r.indexed ? "" : " (no index.json: shard hashes not compared)");
    if (r.n_unchecked > 0)
        printf("%lld sample%s without checksums: could not be compared\n", (long long)r.n_unchecked,
               dt_plural(r.n_unchecked));
    if (r.n_jpeg_warnings > 0)
        printf("harmless oddities in %lld JPEG file%s\n", (long long)r.n_jpeg_warnings,
               dt_plural(r.n_jpeg_warnings));
    return DT_OK;
}

typedef struct data_row {
    const char *name;
    dt_status (*run)(int argc, char **argv);
} data_row;

static const data_row data_table[] = {{"import", data_import}, {"info", data_info}, {"verify", data_verify}};

void dt_usage_data(FILE *out) {
    fprintf(out, "%s\n  dtrain data info|verify DIR|SHARD.h5\n", IMPORT_USAGE);
}

dt_status dt_verb_data(dt_app *app, int argc, char **argv) {
    (void)app;
    for (size_t i = 0; argc > 1 && i < sizeof data_table / sizeof data_table[0]; i++)
        if (strcmp(data_table[i].name, argv[1]) == 0) return data_table[i].run(argc - 1, argv + 1);
    return dt_fail(DT_ERR_USAGE, "dtrain data import|info|verify\n%s", IMPORT_USAGE);
}
