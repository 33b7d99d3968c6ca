/* Inputs that are named instead of imported: facts of the training set and back, files as an import makes
 * them, order, whole batches, and what cannot be read. */
#include "batch_fields.h"
#include "data_support.h"

#include <png.h>

#include "inputs.h"
#include "jpeg.h"
#include "numpy_files.h"

/* A set of 7 JPEGs and PNGs in directories a and b. */
static const char *make_tree(const char *name) {
    char command[400];
    snprintf(command, sizeof command, "mkdir -p %s/a/deep %s/b", in_scratch("%s", name),
             in_scratch("%s", name));
    assert_int_equal(system(command), 0);
    for (int i = 0; i < 7; i++) {
        const int h = 40 + 3 * i, w = 60 - 2 * i;
        uint8_t *pixel = malloc((size_t)(h * w * 3)), *bytes;
        int64_t n;
        const char *where = i % 3 == 0 ? "a" : i % 3 == 1 ? "a/deep" : "b";
        for (int k = 0; k < h * w * 3; k++) pixel[k] = (uint8_t)(30 * i + k * 7 % 23 + k % 3 * 9);
        if (i % 2) {
            png_image image = {.version = PNG_IMAGE_VERSION,
                               .width = (png_uint_32)w,
                               .height = (png_uint_32)h,
                               .format = PNG_FORMAT_RGB};
            assert_true(png_image_write_to_file(&image, in_scratch("%s/%s/%d.png", name, where, i), 0, pixel,
                                                0, NULL));
        } else {
            assert_ok(dt_jpeg_encode(pixel, h, w, 3, 92, &bytes, &n));
            write_file(in_scratch("%s/%s/%d.jpg", name, where, i), bytes, (size_t)n);
            free(bytes);
        }
        free(pixel);
    }
    write_file(in_scratch("%s/a/notes.txt", name), "x", 1);
    return in_scratch("%s", name);
}

/* All batches of an evaluation, in the order of samples: images and errors. */
typedef struct seen {
    uint8_t *image;
    int32_t label[64];
    char error[64][DT_ROW_ERROR_BYTES];
    int64_t n;
} seen;

static dt_loader_options eval_options(const test_options *c, const dt_dataset *d, int64_t batch, int32_t rank,
                                      int32_t world, bool whole) {
    return (dt_loader_options){.data = &c->data,
                               .augment = &c->augment,
                               .dataset = d,
                               .eval = true,
                               .whole_batches = whole,
                               .forgiving = whole,
                               .out_h = 24,
                               .out_w = 24,
                               .batch = batch,
                               .rank = rank,
                               .world = world,
                               .threads = 2,
                               .n_slots = 2};
}

static void read_all(const test_options *c, const dt_dataset *d, int64_t batch, int32_t world, bool whole,
                     seen *out) {
    const int64_t bytes = 24 * 24 * d->info.channels;
    memset(out, 0, sizeof *out);
    out->image = calloc(64, (size_t)bytes);
    for (int32_t rank = 0; rank < world; rank++) {
        const dt_loader_options o = eval_options(c, d, batch, rank, world, whole);
        dt_loader *l;
        dt_batch b = {.last = false};
        assert_ok(dt_loader_open(&o, &l));
        for (int64_t k = 0; !b.last; k++) {
            assert_ok(dt_loader_next(l, &b, NULL));
            for (int64_t r = 0; r < b.n_valid; r++) {
                const int64_t i = whole ? (k * world + rank) * batch + r : (k * batch + r) * world + rank;
                assert_in_range(i, 0, d->info.n_samples - 1);
                memcpy(out->image + i * bytes, batch_image(&b) + r * bytes, (size_t)bytes);
                out->label[i] = batch_label(&b)[r];
                if (b.error) strcpy(out->error[i], b.error + r * DT_ROW_ERROR_BYTES);
                out->n++;
            }
            for (int64_t r = b.n_valid; r < b.rows; r++) assert_int_equal(batch_label(&b)[r], -1);
            dt_loader_release(l, &b);
        }
        dt_loader_close(l);
    }
    assert_int_equal(out->n, d->info.n_samples);
}

/* However a folder is imported, its files are seen as the imported samples are. */
static void test_as_imported(void **state) {
    (void)state;
    static const struct {
        const char *name;
        dt_import_store store;
        int64_t resize, channels;
        bool square;
        int32_t quality;
    } row[] = {{"raw", DT_STORE_RAW, 30, 0, true, 0},
               {"grey", DT_STORE_RAW, 24, 1, true, 0},
               {"kept", DT_STORE_JPEG, 0, 0, false, 0},
               {"short", DT_STORE_JPEG, 32, 0, false, 40},
               {"square", DT_STORE_JPEG, 26, 1, true, 70}};
    const char *photos = make_tree("photos");
    test_options c = test_defaults();
    c.augment.eval_resize = 28;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        const dt_import_options o = {.kind = DT_IMPORT_FOLDER,
                                     .store = row[i].store,
                                     .input = &photos,
                                     .n_input = 1,
                                     .out_dir = in_scratch("%s", row[i].name),
                                     .split = "train",
                                     .resize = row[i].resize,
                                     .square = row[i].square,
                                     .channels = row[i].channels,
                                     .jpeg_quality = row[i].quality};
        dt_import_result r;
        dt_data_facts f;
        dt_dataset *set, *files;
        seen a, b;
        assert_ok(dt_import_run(&o, &r));
        assert_ok(dt_dataset_open_path(o.out_dir, &set));
        assert_ok(dt_data_facts_of(set, &f));
        assert_int_equal(f.recipe.resize, row[i].resize);
        assert_int_equal(f.recipe.square, row[i].square);
        assert_string_equal(dt_data_facts_class(&f, 1), "b");
        assert_ok(dt_inputs_open(&f, 1, &photos, &files));
        assert_int_equal(dt_inputs_ignored(files), 1);
        read_all(&c, set, 4, 1, false, &a);
        for (int32_t world = 1; world <= 3; world++) {
            read_all(&c, files, 2, world, true, &b);
            for (int64_t k = 0; k < b.n; k++)
                if (b.error[k][0] || b.label[k] != -1)
                    fail_msg("%s: sample %d: %s", row[i].name, (int)k, b.error[k]);
            assert_memory_equal(a.image, b.image, (size_t)(a.n * 24 * 24 * f.info.channels));
            free(b.image);
        }
        assert_int_equal(dt_inputs_resized(files), 0);
        free(a.image);
        dt_dataset_close(files);
        dt_dataset_close(set);
        dt_data_facts_free(&f);
    }
}

static void test_facts(void **state) {
    (void)state;
    static const char good[] = "{\"kind\":\"raw\",\"shape\":[4,5,3],\"classes\":2,\"mean\":[0.1,0.2,0.3],"
                               "\"std\":[1.0,2.0,3],\"recipe\":{\"resize\":7},\"class_names\":[\"a\",\"b\"]}";
    static const struct {
        const char *from, *to;
    } bad[] = {{"\"raw\"", "\"rare\""},
               {"[4,5,3]", "[4,5]"},
               {"[4,5,3]", "[4,5,5]"},
               {"[4,5,3]", "[0,5,3]"},
               {"[4,5,3]", "[4,65536,3]"},
               {"\"classes\":2", "\"classes\":0"},
               {"\"classes\":2", "\"classes\":3"},
               {"\"classes\":2", "\"classes\":2147483648"},
               {"[0.1,0.2,0.3]", "[0.1,0.2]"},
               {"[0.1,0.2,0.3]", "[0.1,0.2,\"x\"]"},
               {"[1.0,2.0,3]", "[1.0,0.0,3]"},
               {"\"resize\":7", "\"resize\":-1"},
               {"\"resize\":7", "\"resize\":8193"},
               {"[\"a\",\"b\"]", "[\"a\",3]"},
               {"[\"a\",\"b\"]", "\"ab\""},
               {"{\"kind\"", "[\"kind\""}};
    dt_data_facts f;
    assert_ok(dt_data_facts_parse(good, &f));
    assert_true(f.info.height == 4 && f.info.width == 5 && f.info.channels == 3 && f.info.n_classes == 2);
    assert_true(f.info.stddev[2] == 3 && f.recipe.resize == 7 && f.recipe.square == 0);
    assert_string_equal(dt_data_facts_class(&f, 1), "b");
    assert_string_equal(dt_data_facts_class(&f, 2), "");
    dt_data_facts_free(&f);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[512];
        const char *at = strstr(good, bad[i].from);
        assert_non_null(at);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, bad[i].to, at + strlen(bad[i].from));
        if (dt_data_facts_parse(text, &f) != DT_ERR_DATA) fail_msg("taken: %s", text);
        dt_data_facts_free(&f);
    }
}

/* Inputs stand in the order in which they were named, folders and sets in their own; what fails is its own
 * row. */
static void test_order_and_errors(void **state) {
    (void)state;
    const char *photos = make_tree("order");
    const char *folder = photos;
    dt_import_options o = {.kind = DT_IMPORT_FOLDER,
                           .store = DT_STORE_RAW,
                           .input = &folder,
                           .n_input = 1,
                           .out_dir = in_scratch("order_set"),
                           .split = "train",
                           .resize = 24,
                           .square = true};
    dt_import_result r;
    dt_dataset *set, *d;
    dt_data_facts f;
    dt_input in;
    assert_ok(dt_import_run(&o, &r));
    assert_ok(dt_dataset_open_path(o.out_dir, &set));
    assert_ok(dt_data_facts_of(set, &f));
    write_file(in_scratch("text.png"), "text", 4);
    char command[300];
    snprintf(command, sizeof command, "mkdir %s %s", in_scratch("nothing"), in_scratch("bad"));
    assert_int_equal(system(command), 0);
    write_file(in_scratch("bad/shard-00000-of-00001.h5"), "no", 2);
    const char *path[] = {in_scratch("order/b/5.png"),
                          in_scratch("absent.jpg"),
                          o.out_dir,
                          in_scratch("text.png"),
                          in_scratch("nothing"),
                          photos,
                          in_scratch("bad")};
    assert_ok(dt_inputs_open(&f, 7, path, &d));
    assert_int_equal(d->info.n_samples, 1 + 1 + 7 + 1 + 1 + 7 + 1);
    dt_inputs_get(d, 0, &in);
    assert_string_equal(in.path, path[0]);
    assert_true(in.sample == -1 && in.label == -1);
    dt_inputs_get(d, 8, &in);
    assert_string_equal(in.path, o.out_dir);
    assert_true(in.sample == 6 && in.label == 1);
    assert_string_equal(in.label_name, "b");
    dt_inputs_get(d, 11, &in);
    assert_string_equal(in.path, in_scratch("order/a/0.jpg"));
    dt_inputs_get(d, 13, &in);
    assert_string_equal(in.path, in_scratch("order/a/6.jpg"));
    dt_inputs_get(d, 14, &in);
    assert_string_equal(in.path, in_scratch("order/a/deep/1.png"));

    test_options c = test_defaults();
    c.data.verify = true;
    seen s;
    read_all(&c, d, 3, 2, true, &s);
    static const int failing[] = {1, 9, 10, 18};
    static const char *const why[] = {"absent.jpg: cannot open", "text.png: neither a JPEG nor",
                                      "nothing: no images", "shard-00000-of-00001.h5"};
    for (int64_t i = 0, k = 0; i < s.n; i++) {
        if (k == 4 || i != failing[k]) {
            assert_string_equal(s.error[i], "");
            continue;
        }
        if (!strstr(s.error[i], why[k])) fail_msg("\"%s\" is not in: %s", why[k], s.error[i]);
        k++;
    }
    /* The same file twice, and as a sample of the set. */
    const size_t bytes = 24 * 24 * 3;
    assert_memory_equal(s.image, s.image + 17 * bytes, bytes);
    assert_memory_equal(s.image, s.image + 8 * bytes, bytes);
    free(s.image);

    /* A reader that does not forgive ends at the first. */
    const dt_loader_options strict = eval_options(&c, d, 4, 0, 1, false);
    dt_loader *l;
    dt_batch b;
    assert_ok(dt_loader_open(&strict, &l));
    assert_fails(dt_loader_next(l, &b, NULL), DT_ERR_DATA, "absent.jpg");
    dt_loader_close(l);
    const uint64_t hash = dt_inputs_hash(d);
    dt_dataset_close(d);
    const char *swap = path[0];
    path[0] = path[1], path[1] = swap;
    assert_ok(dt_inputs_open(&f, 7, path, &d));
    assert_true(dt_inputs_hash(d) != hash);
    dt_dataset_close(d);
    dt_dataset_close(set);
    dt_data_facts_free(&f);
}

/* Files of other sizes than a raw set's. */
static void test_other_sizes(void **state) {
    (void)state;
    static const char
        square[] =
            "{\"kind\":\"raw\",\"shape\":[24,24,3],\"classes\":2,\"mean\":[0.1,0.2,0.3],\"std\":[1,1,1]}",
        oblong[] =
            "{\"kind\":\"raw\",\"shape\":[24,30,3],\"classes\":2,\"mean\":[0.1,0.2,0.3],\"std\":[1,1,1]}",
        four[] = "{\"kind\":\"raw\",\"shape\":[24,24,4],\"classes\":2,\"mean\":[0,0,0,0],\"std\":[1,1,1,1]}";
    static const struct {
        const char *facts, *error;
        int64_t n_resized;
    } row[] = {{square, "", 7},
               {oblong, "but the network was trained on images of 24 x 30", 0},
               {four, "trained on images of 4 channels", 0}};
    const char *photos = make_tree("sizes");
    test_options c = test_defaults();
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        dt_data_facts f;
        dt_dataset *d;
        seen s;
        assert_ok(dt_data_facts_parse(row[i].facts, &f));
        assert_ok(dt_inputs_open(&f, 1, &photos, &d));
        read_all(&c, d, 4, 1, true, &s);
        for (int64_t k = 0; k < s.n; k++)
            if (row[i].error[0] ? !strstr(s.error[k], row[i].error) : s.error[k][0] != 0)
                fail_msg("%s", s.error[k]);
        assert_int_equal(dt_inputs_resized(d), row[i].n_resized);
        free(s.image);
        dt_dataset_close(d);
        dt_data_facts_free(&f);
    }
}

/* A link to a directory above it is one input that fails, not its files again; to one beside it, an ordinary
 * directory. */
static void test_links(void **state) {
    (void)state;
    static const char facts[] =
        "{\"kind\":\"raw\",\"shape\":[24,24,3],\"classes\":2,\"mean\":[0.1,0.2,0.3],\"std\":[1,1,1]}";
    const char *photos = make_tree("links");
    test_options c = test_defaults();
    dt_data_facts f;
    dt_dataset *d;
    seen s;
    assert_int_equal(symlink("../..", in_scratch("links/a/deep/up")), 0);
    assert_int_equal(symlink(".", in_scratch("links/b/self")), 0);
    assert_int_equal(symlink("../a/deep", in_scratch("links/b/beside")), 0);
    assert_ok(dt_data_facts_parse(facts, &f));
    assert_ok(dt_inputs_open(&f, 1, &photos, &d));
    assert_int_equal(d->info.n_samples, 7 + 2 + 1 + 2);
    read_all(&c, d, 4, 1, true, &s);
    int failed = 0;
    for (int64_t k = 0; k < s.n; k++)
        failed += strstr(s.error[k], ": a link to a directory above it") != NULL;
    assert_int_equal(failed, 3);
    free(s.image);
    dt_dataset_close(d);
    dt_data_facts_free(&f);
}

/* ---- rows of numbers ---- */

static void write_text(const char *path, const char *text) {
    write_file(path, text, strlen(text));
}

/* What the loader gives of row i of a field of three f32. */
static void expect_inputs(const dt_dataset *d, int64_t n, const char *want) {
    test_options c = test_defaults();
    dt_loader *l;
    dt_batch b;
    char said[2048] = "";
    dt_loader_options o = eval_options(&c, d, n, 0, 1, true);
    assert_ok(dt_loader_open(&o, &l));
    assert_ok(dt_loader_next(l, &b, NULL));
    const float *x = dt_batch_field(&b, "x"), *y = dt_batch_field(&b, "y");
    for (int64_t r = 0; r < n; r++) {
        dt_input in;
        const char *error = b.error + r * DT_ROW_ERROR_BYTES, *part;
        dt_inputs_get(d, r, &in);
        part = strrchr(in.path, '/') + 1;
        assert_true(y[r] == 0 && in.label == -1); /* not read, whatever the input holds */
        const size_t used = strlen(said);
        if (*error)
            snprintf(said + used, sizeof said - used, "%s %lld error; ", part, (long long)in.sample);
        else
            snprintf(said + used, sizeof said - used, "%s %lld: %g %g %g; ", part, (long long)in.sample,
                     (double)x[3 * r], (double)x[3 * r + 1], (double)x[3 * r + 2]);
    }
    assert_string_equal(said, want);
    dt_loader_release(l, &b);
    dt_loader_close(l);
}

static void test_rows(void **state) {
    (void)state;
    static const char head[] = "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 3)}";
    static const double numbers[9] = {1, 2, 3, 4, 1e300, 6, 7, 8, 0.5};
    static uint8_t file[1024];
    dt_data_facts f = {.info = {.kind = "arrays",
                                .n_field = 2,
                                .field = {{.name = "x", .dtype = DT_DTYPE_F32, .ndim = 1, .dim = {3}},
                                          {.name = "y", .dtype = DT_DTYPE_F32}}}};
    dt_dataset *d;
    dt_import_result r;
    char *csv = in_scratch("in.csv"), *npy = in_scratch("in.npy"), *wide = in_scratch("wide.csv"),
         *set = in_scratch("in_set");
    write_text(csv, "a,b,c\n1,2,3\n4,5,6\n");
    write_text(wide, "c,a,b,y\n3,1,2,9\n");
    write_file(npy, file, numpy_files_npy(1, head, numbers, sizeof numbers, file));
    dt_import_options import = {.kind = DT_IMPORT_CSV,
                                .input = (const char *const[]){wide},
                                .n_input = 1,
                                .x = "a,b,c",
                                .y = "y",
                                .out_dir = set,
                                .split = "train"};
    assert_ok(dt_import_run(&import, &r));
    const char *path[] = {csv, set, npy, "/nowhere/x.csv", wide};
    dt_inputs_arrays o = {.facts = &f, .n_path = 5, .path = path, .reads = {true, false}, .verify = true};
    assert_ok(dt_inputs_open_arrays(&o, &d));
    expect_inputs(d, 8,
                  "in.csv 0: 1 2 3; in.csv 1: 4 5 6; in_set 0: 1 2 3; in.npy 0: 1 2 3; in.npy 1 error; "
                  "in.npy 2: 7 8 0.5; x.csv -1 error; wide.csv -1 error; ");
    dt_dataset_close(d);
    o.path = path + 4, o.n_path = 1, o.columns = "a,b,c";
    assert_ok(dt_inputs_open_arrays(&o, &d));
    expect_inputs(d, 1, "wide.csv 0: 1 2 3; ");
    dt_dataset_close(d);
    /* A network that reads both. */
    o.path = path + 1, o.reads[1] = true, o.columns = NULL, o.n_path = 2;
    f.info.field[1].name[0] = 'z';
    assert_ok(dt_inputs_open_arrays(&o, &d));
    assert_true(d->info.n_samples == 2); /* both fail: no z, and one array for two fields */
    assert_non_null(strstr(d->inputs->part[0].file.error, "has no \"z\", which the network reads"));
    assert_non_null(strstr(d->inputs->part[1].file.error, "one array, and the network reads 2"));
    dt_dataset_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_facts),
                                       cmocka_unit_test(test_as_imported),
                                       cmocka_unit_test(test_order_and_errors),
                                       cmocka_unit_test(test_other_sizes),
                                       cmocka_unit_test(test_links),
                                       cmocka_unit_test(test_rows)};
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
