/* Kinds of data beside images through the loader, and what they must agree in. */
#include "data_support.h"

#include <math.h>

#include "data/agree.h"
#include "data/order.h"
#include "h5_other.h"
#include "numpy_files.h"

enum { N = 53, SEED = 9 };

/* Row i: x is {i, -i, i / 2}, y is 3 i, in shards of 10 or so. */
static char *make_arrays(const char *name, bool targets) {
    static uint8_t file[1 << 14];
    static const char head_x[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (53, 3)}",
                      head_y[] = "{'descr': '<i4', 'fortran_order': False, 'shape': (53,)}";
    float x[N][3];
    int32_t y[N];
    char *out = in_scratch("%s", name), *path_x = in_scratch("%s.x.npy", name),
         *path_y = in_scratch("%s.y.npy", name);
    for (int i = 0; i < N; i++) {
        x[i][0] = (float)i, x[i][1] = (float)-i, x[i][2] = (float)i / 2;
        y[i] = 3 * i;
    }
    write_file(path_x, file, numpy_files_npy(1, head_x, x, sizeof x, file));
    write_file(path_y, file, numpy_files_npy(1, head_y, y, sizeof y, file));
    const char *input[] = {path_x};
    dt_import_options o = {.kind = DT_IMPORT_NPY,
                           .input = input,
                           .n_input = 1,
                           .y = targets ? path_y : NULL,
                           .out_dir = out,
                           .split = "train",
                           .shard_bytes = 160};
    dt_import_result r;
    assert_ok(dt_import_run(&o, &r));
    assert_true(r.n_shards > 3);
    return out;
}

static dt_loader_options options(const test_options *c, const dt_dataset *d, bool eval) {
    return (dt_loader_options){.data = &c->data,
                               .augment = &c->augment,
                               .dataset = d,
                               .eval = eval,
                               .seed = SEED,
                               .batch = 6,
                               .global_batch = 16,
                               .n_micro_all = 5,
                               .world = 1,
                               .n_steps = 9,
                               .threads = 1,
                               .n_slots = 3};
}

static void check_row(const dt_batch *b, int64_t row, int64_t sample) {
    const float *x = dt_batch_field(b, "x");
    const int32_t *y = dt_batch_field(b, "y"), *valid = dt_batch_field(b, "valid");
    const float i = (float)sample;
    assert_true(x[3 * row] == i && x[3 * row + 1] == -i && x[3 * row + 2] == i / 2);
    assert_true(y[row] == 3 * sample && valid[row] == 1);
}

/* A micro-batch has the samples that its number says, on any number of ranks and threads. */
static void test_order(void **state) {
    (void)state;
    test_options c = test_defaults();
    dt_dataset *d;
    c.data.verify = true;
    assert_ok(dt_dataset_open(&c.data, make_arrays("order", true), &d));
    for (int32_t world = 1; world <= 4; world++)
        for (int32_t threads = 1; threads <= 5; threads += 2)
            for (int32_t rank = 0; rank < world; rank++) {
                dt_loader_options o = options(&c, d, false);
                dt_loader *l;
                o.world = world, o.rank = rank, o.threads = threads;
                assert_ok(dt_loader_open(&o, &l));
                for (int64_t step = 0; step < o.n_steps; step++)
                    for (int64_t m = rank; m < o.n_micro_all; m += world) {
                        dt_batch b;
                        assert_ok(dt_loader_next(l, &b, NULL));
                        assert_true(b.step == step && b.micro == m && b.n_field == 3 && !b.beside);
                        assert_int_equal(b.rows, (16 - m + 4) / 5);
                        for (int64_t r = 0; r < b.rows; r++)
                            check_row(&b, r,
                                      (int64_t)dt_order_sample(SEED, N, (uint64_t)(16 * step + m + 5 * r)));
                        dt_loader_release(l, &b);
                    }
                dt_loader_close(l);
            }
    dt_dataset_close(d);
}

/* Every sample once; rows of padding are zero and do not count. */
static void test_eval(void **state) {
    (void)state;
    test_options c = test_defaults();
    dt_dataset *d;
    assert_ok(dt_dataset_open(&c.data, make_arrays("eval", true), &d));
    for (int32_t world = 1; world <= 3; world++) {
        int seen[N] = {0}, n_seen = 0;
        for (int32_t rank = 0; rank < world; rank++) {
            dt_loader_options o = options(&c, d, true);
            dt_loader *l;
            dt_batch b = {.last = false};
            o.world = world, o.rank = rank, o.threads = 3;
            assert_ok(dt_loader_open(&o, &l));
            for (int64_t i = 0; !b.last; i++) {
                assert_ok(dt_loader_next(l, &b, NULL));
                for (int64_t r = 0; r < b.n_valid; r++, n_seen++) {
                    const int64_t sample = (i * b.rows + r) * world + rank;
                    check_row(&b, r, sample);
                    seen[sample]++;
                }
                for (int64_t r = b.n_valid; r < b.rows; r++) {
                    const float *x = dt_batch_field(&b, "x");
                    const int32_t *y = dt_batch_field(&b, "y"), *valid = dt_batch_field(&b, "valid");
                    assert_true(x[3 * r] == 0 && x[3 * r + 2] == 0 && y[r] == 0 && valid[r] == 0);
                }
                dt_loader_release(l, &b);
            }
            dt_loader_close(l);
        }
        assert_int_equal(n_seen, N);
        for (int i = 0; i < N; i++) assert_int_equal(seen[i], 1);
    }
    dt_dataset_close(d);
}

/* Another program's file: chunked x, contiguous y, no checksums. */
static void test_foreign(void **state) {
    (void)state;
    test_options c = test_defaults();
    float x[N][3];
    int32_t y[N];
    dt_dataset *d;
    dt_h5 *h;
    dt_loader *l;
    dt_batch b;
    const char *file;
    int64_t row;
    char *path = in_scratch("foreign.h5");
    for (int i = 0; i < N; i++) {
        x[i][0] = (float)i, x[i][1] = (float)-i, x[i][2] = (float)i / 2;
        y[i] = 3 * i;
    }
    assert_ok(dt_h5_create(path, &h));
    assert_ok(dt_h5_write(h, "y", DT_DTYPE_I32, 1, (int64_t[]){N}, y));
    assert_ok(dt_h5_close(h));
    other_write_chunked(path, "x", H5T_IEEE_F32BE, 2, (hsize_t[]){N, 3}, x);
    assert_ok(dt_dataset_open(&c.data, path, &d));
    assert_string_equal(d->info.kind, "arrays");
    assert_string_equal(dt_dataset_describe(&d->info).s, "x f32 [3], y i32 []");
    dt_dataset_place(d, 7, &file, &row);
    assert_true(row == 7 && strcmp(file, path) == 0);
    dt_loader_options o = options(&c, d, true);
    c.data.verify = true;
    assert_ok(dt_loader_open(&o, &l));
    assert_fails(dt_loader_next(l, &b, NULL), DT_ERR_DATA,
                 "no checksums to verify (set data.verify = false)");
    dt_loader_close(l);
    c.data.verify = false;
    assert_ok(dt_loader_open(&o, &l));
    assert_ok(dt_loader_next(l, &b, NULL));
    for (int64_t r = 0; r < b.rows; r++) assert_int_equal(((int32_t *)dt_batch_field(&b, "y"))[r], 3 * r);
    dt_loader_release(l, &b);
    dt_loader_close(l);
    dt_dataset_close(d);
    /* One number that is none ends the reading, by its place. */
    x[4][2] = NAN;
    assert_ok(dt_h5_create(path, &h));
    assert_ok(dt_h5_write(h, "x", DT_DTYPE_F32, 2, (int64_t[]){N, 3}, x));
    assert_ok(dt_h5_close(h));
    assert_ok(dt_dataset_open(&c.data, path, &d));
    o = options(&c, d, true);
    assert_ok(dt_loader_open(&o, &l));
    assert_fails(dt_loader_next(l, &b, NULL), DT_ERR_DATA,
                 "foreign.h5: sample 4: x[2] is nan: take the row out");
    dt_loader_close(l);
    dt_dataset_close(d);
}

/* A flipped bit surfaces with the file and the sample. */
static void test_damaged(void **state) {
    (void)state;
    test_options c = test_defaults();
    dt_dataset *d;
    dt_loader *l;
    dt_batch b;
    char *dir = make_arrays("damaged", true);
    c.data.verify = true;
    assert_ok(dt_dataset_open(&c.data, dir, &d));
    const dt_array_shard *s = &d->arrays.shard[1];
    FILE *f = fopen(s->path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)(s->offset[0] + 3 * 12 + 5), SEEK_SET), 0);
    fputc('X', f);
    assert_int_equal(fclose(f), 0);
    dt_loader_options o = options(&c, d, true);
    o.batch = N;
    assert_ok(dt_loader_open(&o, &l));
    assert_fails(dt_loader_next(l, &b, NULL), DT_ERR_DATA, "sample 3 is damaged");
    assert_non_null(strstr(dt_error_text(), s->path));
    dt_loader_close(l);
    o.forgiving = true;
    assert_ok(dt_loader_open(&o, &l));
    assert_ok(dt_loader_next(l, &b, NULL));
    const int64_t bad = d->arrays.first[1] + 3;
    for (int64_t r = 0; r < N; r++) {
        assert_int_equal(((int32_t *)dt_batch_field(&b, "valid"))[r], r != bad);
        assert_true(!b.error[r * DT_ROW_ERROR_BYTES] == (r != bad));
    }
    dt_loader_close(l);
    dt_dataset_close(d);
}

/* ---- generated fields ---- */

static void test_synthetic(void **state) {
    (void)state;
    test_options c = test_defaults();
    dt_dataset *d;
    dt_batch b[2];
    dt_loader *l[2];
    strcpy(c.data.synthetic_fields, "x:f32[4,3] h:f16[2] w:f64 t:u8[5]  y:i32 z:i64[2]");
    c.data.verify = true;
    assert_ok(dt_dataset_open(&c.data, "synthetic", &d));
    assert_string_equal(d->info.kind, "synthetic");
    assert_string_equal(dt_dataset_describe(&d->info).s,
                        "x f32 [4, 3], h f16 [2], w f64 [], t u8 [5], y i32 [], z i64 [2]");
    for (int i = 0; i < 2; i++) {
        dt_loader_options o = options(&c, d, true);
        o.batch = 50;
        o.threads = 1 + 2 * i;
        assert_ok(dt_loader_open(&o, &l[i]));
        assert_ok(dt_loader_next(l[i], &b[i], NULL));
    }
    for (int32_t k = 0; k < b[0].n_field; k++)
        assert_memory_equal(b[0].data[k], b[1].data[k], (size_t)(50 * dt_field_bytes(&b[0].field[k])));
    const float *x = dt_batch_field(&b[0], "x");
    const double *w = dt_batch_field(&b[0], "w");
    const uint16_t *h = dt_batch_field(&b[0], "h");
    const int32_t *y = dt_batch_field(&b[0], "y");
    const int64_t *z = dt_batch_field(&b[0], "z");
    double sum = 0, sum_sq = 0;
    int label[10] = {0};
    for (int i = 0; i < 600; i++) {
        assert_true(x[i] >= -1 && x[i] < 1);
        sum += (double)x[i], sum_sq += (double)(x[i] * x[i]);
    }
    assert_true(sum / 600 < 0.1 && sum / 600 > -0.1 && sum_sq / 600 > 0.25 && sum_sq / 600 < 0.42);
    for (int i = 0; i < 50; i++) {
        assert_true(w[i] >= -1 && w[i] < 1 && (h[2 * i] & 0x7C00) < 0x3C00 && z[2 * i + 1] >= 0 && z[i] < 10);
        assert_in_range(y[i], 0, 9);
        label[y[i]]++;
    }
    for (int i = 0; i < 10; i++) assert_true(label[i] < 15);
    dt_loader_close(l[0]);
    dt_loader_close(l[1]);
    dt_dataset_close(d);
}

static void test_synthetic_refused(void **state) {
    (void)state;
    static const char *const fields[] = {"x",
                                         "x:",
                                         ":f32",
                                         "x:f31",
                                         "x:bf16",
                                         "x:f32[]",
                                         "x:f32[0]",
                                         "x:f32[4",
                                         "x:f32[4]]",
                                         "x:f32[4,]",
                                         "x:f32[-1]",
                                         "x:f32[ 4]",
                                         "1x:f32",
                                         "valid:f32",
                                         "checksum:f32",
                                         "x:f32[999999999,999999999,999999999]",
                                         "x:f32[1,1,1,1,1,1,1,1]",
                                         " "};
    test_options c = test_defaults();
    dt_dataset *d;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        strcpy(c.data.synthetic_fields, fields[i]);
        assert_fails(dt_dataset_open(&c.data, "synthetic", &d), DT_ERR_CONFIG, "expected NAME:TYPE");
    }
    strcpy(c.data.synthetic_fields, "x:f32 x:f32");
    assert_fails(dt_dataset_open(&c.data, "synthetic", &d), DT_ERR_CONFIG, "two fields \"x\"");
    strcpy(c.data.synthetic_fields, "a:u8 b:u8 c:u8 d:u8 e:u8 f:u8 g:u8 h:u8");
    assert_fails(dt_dataset_open(&c.data, "synthetic", &d), DT_ERR_CONFIG, "more than 7 fields");
}

/* ---- agreement ---- */

static void test_agree(void **state) {
    (void)state;
    test_options c = test_defaults();
    dt_dataset *both, *alone, *images, *generated;
    dt_data_note note;
    strcpy(c.data.train, "A");
    strcpy(c.data.val, "B");
    assert_ok(dt_dataset_open(&c.data, make_arrays("both", true), &both));
    assert_ok(dt_dataset_open(&c.data, make_arrays("alone", false), &alone));
    assert_ok(dt_dataset_open(&c.data, make_numbered("numbered", 8, 4, 100), &images));
    strcpy(c.data.synthetic_fields, "x:f32[3] y:i64");
    assert_ok(dt_dataset_open(&c.data, "synthetic", &generated));
    assert_ok(dt_data_agree(&c.data, both, both, &note));
    assert_ok(dt_data_agree(&c.data, alone, both, &note));
    assert_fails(dt_data_agree(&c.data, both, alone, &note), DT_ERR_DATA,
                 "A has y i32 [], B has no such field");
    assert_fails(dt_data_agree(&c.data, both, generated, &note), DT_ERR_DATA,
                 "A has y i32 [], B has y i64 []");
    assert_fails(dt_data_agree(&c.data, images, both, &note), DT_ERR_DATA, "A holds images, B holds arrays");
    assert_ok(dt_data_agree(&c.data, images, images, &note));
    assert_true(dt_data_hash(&both->info) != dt_data_hash(&alone->info));
    assert_true(dt_data_classes_hash(both) == 0);
    /* What a checkpoint keeps of them. */
    const dt_dataset *sets[] = {both, generated, images};
    for (int i = 0; i < 3; i++) {
        dt_data_facts f;
        dt_data_trained trained;
        assert_ok(dt_data_facts_of(sets[i], &f));
        assert_string_equal(f.info.kind, sets[i]->info.kind);
        assert_ok(dt_data_trained_facts(&c.data, &c.augment, 0, sets[i], &f, &trained, &note));
        assert_true(trained.known && trained.info.n_samples == sets[i]->info.n_samples);
        if (i > 0)
            assert_fails(
                dt_data_trained_facts(&c.data, &c.augment, 0, sets[(i + 1) % 3], &f, &trained, &note),
                DT_ERR_DATA, "the network was trained on");
        if (i == 0) assert_true(f.info.n_field == 2 && dt_field_same(&f.info.field[1], &both->info.field[1]));
        dt_data_facts_free(&f);
    }
    dt_data_facts f;
    assert_fails(dt_data_facts_parse("{\"kind\":\"arrays\",\"fields\":[]}", &f), DT_ERR_DATA, "\"fields\"");
    dt_data_facts_free(&f);
    dt_dataset_close(both);
    dt_dataset_close(alone);
    dt_dataset_close(images);
    dt_dataset_close(generated);
}

/* A target is held to a range, with the place of what is outside. */
static void test_check_numbers(void **state) {
    (void)state;
    test_options c = test_defaults();
    dt_dataset *d;
    dt_data_note note;
    assert_ok(dt_dataset_open(&c.data, make_arrays("ranged", true), &d));
    assert_ok(dt_data_check_numbers(d, "y", 0, 3 * (N - 1), "", &note));
    assert_string_equal(note.text, "");
    assert_fails(dt_data_check_numbers(d, "y", 0, 3 * (N - 1) - 1, "why", &note), DT_ERR_DATA,
                 "shard-00005-of-00006.h5: sample 8 has y = 156: why");
    assert_fails(dt_data_check_numbers(d, "x", -51, 60, "why", &note), DT_ERR_DATA, "has x[1] = -52: why");
    assert_ok(dt_data_check_numbers(d, "absent", 0, 0, "", &note));
    dt_dataset_close(d);
}

/* The hash of a set is of its rows, not of its files. */
static void test_samples_hash(void **state) {
    (void)state;
    test_options c = test_defaults();
    dt_dataset *one, *same, *other, *images;
    dt_data_facts f;
    char *path = make_arrays("hashed", true);
    assert_ok(dt_dataset_open(&c.data, path, &one));
    assert_ok(dt_dataset_open(&c.data, make_arrays("again", true), &same));
    assert_ok(dt_dataset_open(&c.data, make_arrays("alone_x", false), &other));
    assert_ok(dt_dataset_open(&c.data, make_numbered("hashed_images", 8, 4, 100), &images));
    const uint64_t hash = dt_data_samples_hash(one);
    assert_true(hash != 0 && hash == dt_data_samples_hash(same) && hash != dt_data_samples_hash(other));
    assert_true(dt_data_samples_hash(images) != 0);
    assert_ok(dt_data_facts_of(one, &f));
    assert_true(f.samples_xxh3 == hash);
    dt_data_facts_free(&f);
    assert_fails(dt_data_facts_parse("{\"kind\":\"arrays\",\"samples_xxh3\":\"12\",\"fields\":[]}", &f),
                 DT_ERR_DATA, "\"samples_xxh3\"");
    dt_data_facts_free(&f);
    dt_dataset_close(one), dt_dataset_close(same), dt_dataset_close(other), dt_dataset_close(images);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),       cmocka_unit_test(test_eval),
        cmocka_unit_test(test_foreign),     cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_synthetic),   cmocka_unit_test(test_synthetic_refused),
        cmocka_unit_test(test_agree),       cmocka_unit_test(test_check_numbers),
        cmocka_unit_test(test_samples_hash)};
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
