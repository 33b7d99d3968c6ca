/* Labels from a CSV list: the reader, and folders imported by one. */
#include "data_support.h"

#include "csv.h"
#include "folder.h"

/* Every record as "line:value|value;". */
static dt_status join(void *arg, int64_t line, const char *const *value) {
    char *out = arg;
    const size_t at = strlen(out);
    snprintf(out + at, 1000 - at, "%lld:%s|%s;", (long long)line, value[0], value[1]);
    return DT_OK;
}

static dt_status read_csv(const char *text, size_t n, char out[1000]) {
    static const char *const column[] = {"file", "label"};
    char *path = in_scratch("list.csv");
    write_file(path, text, n);
    out[0] = 0;
    return dt_csv_read(path, column, 2, join, out);
}

static void test_csv(void **state) {
    (void)state;
    static const struct {
        const char *text, *read;
    } sound[] = {
        {"file,label\na,b\n", "2:a|b;"},
        {"label,file\na,b", "2:b|a;"},
        {"\xEF\xBB\xBF\"file\",x,\"label\"\r\na,,b\r\n\r\nc,\"\",d\r\n", "2:a|b;4:c|d;"},
        {"file,label\n\"a,1\",\"b \"\"c\"\"\"\n", "2:a,1|b \"c\";"},
        {"file,label\n\"two\r\nlines\",b\nc,d\n", "2:two\r\nlines|b;4:c|d;"},
        {"\nfile,label\n a ,\n,\n", "3: a |;4:|;"},
        {"file,label\n", ""},
    };
    static const struct {
        const char *text, *error;
    } bad[] = {
        {"", "list.csv: empty"},
        {"\n\n", "list.csv: empty"},
        {"name,label\n",
         "list.csv:1: no column \"file\": the first line names the columns, separated by commas, and has "
         "\"name\", \"label\""},
        {"file;label\n", "and has \"file;label\""},
        {"file,label,file\n", "list.csv:1: two columns \"file\""},
        {"file,label\na\n", "list.csv:2: 1 value, but the first line names 2 columns"},
        {"file,label\na,b\nc,d,e\n", "list.csv:3: 3 values, but"},
        {"file,label\n\"a\nb,c\n", "list.csv:2: a quote is opened and never closed"},
        {"file,label\nx,y\na,b\"c\"\n", "list.csv:3: a quote within a value"},
        {"file,label\n\"a\"b,c\n", "list.csv:2: text behind a closing quote"},
        {"file,label\ra,b\r", "list.csv:1: a carriage return that ends no line"},
        {"file,label\na,b\r", "list.csv:2: a carriage return that ends no line"},
    };
    char read[1000];
    for (size_t i = 0; i < sizeof sound / sizeof sound[0]; i++) {
        assert_ok(read_csv(sound[i].text, strlen(sound[i].text), read));
        assert_string_equal(read, sound[i].read);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_fails(read_csv(bad[i].text, strlen(bad[i].text), read), DT_ERR_DATA, bad[i].error);
    assert_fails(read_csv("file,label\na\0,b\n", 16, read), DT_ERR_DATA, "list.csv: not a text file");
    static const char *const column[] = {"file", "label"};
    assert_fails(dt_csv_read(in_scratch("absent.csv"), column, 2, join, read), DT_ERR_DATA,
                 "absent.csv: cannot open");
    assert_fails(dt_csv_read("/", column, 2, join, read), DT_ERR_DATA, "/: is a directory, not a file");
    assert_fails(dt_csv_read("/dev/zero", column, 2, join, read), DT_ERR_DATA, "is a device or a pipe");
    FILE *sparse = fopen(in_scratch("huge.csv"), "w");
    assert_true(sparse && ftruncate(fileno(sparse), ((off_t)1 << 30) + 1) == 0 && fclose(sparse) == 0);
    assert_fails(dt_csv_read(in_scratch("huge.csv"), column, 2, join, read), DT_ERR_DATA,
                 "has 1073741825 bytes, more than the 1073741824 of the largest that is read");
}

static void test_list(void **state) {
    (void)state;
    static const struct {
        const char *rows, *error;
    } bad[] = {
        {"a.jpg,\n", "list.csv:2: no label"},
        {"a.jpg, \n", "list.csv:2: no label"},
        {",x\n", "list.csv:2: file \"\": expected a path below the folder"},
        {"/a.jpg,x\n", "list.csv:2: file \"/a.jpg\": expected a path"},
        {"a.jpg,x\nb/../../c.jpg,x\n", "list.csv:3: file \"b/../../c.jpg\": expected"},
        {"./.,x\n", "list.csv:2: file \"./.\""},
        {"b.jpg,x\na/1.jpg,x\nc.jpg,y\n./a//1.jpg,x\n", "list.csv:5: a/1.jpg is on line 3 already"},
        {"a.jpg,\"x\ny\"\n", "list.csv:2: a label with a line break"},
        {"a.jpg,\xFF\n", "list.csv:2: label \"\\xff\" is not UTF-8"},
        {"", "list.csv: no line below"},
    };
    char text[200];
    dt_label_list l;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(text, sizeof text, "file,label\n%s", bad[i].rows);
        write_file(in_scratch("list.csv"), text, strlen(text));
        assert_fails(dt_label_list_read(in_scratch("list.csv"), &l), DT_ERR_DATA, bad[i].error);
    }
}

/* Images 0 to 7 in two directories and beside them; image i has level 20 i. */
static char *make_images(const char *name) {
    shell("mkdir -p %s/a %s/b/c", in_scratch("%s", name), in_scratch("%s", name));
    for (int i = 0; i < 8; i++)
        write_level(in_scratch("%s/%s%d.jpg", name, (const char *[]){"a/", "b/c/", ""}[i % 3], i), 20 * i);
    return in_scratch("%s", name);
}

static void write_list(const char *text) {
    write_file(in_scratch("labels.csv"), text, strlen(text));
}

static void test_import(void **state) {
    (void)state;
    const char *input = make_images("images");
    note_list n = {""};
    dt_import_result r;
    dt_import_options o = level_options(&input, in_scratch("out"));
    o.labels = in_scratch("labels.csv");
    o.note = take_note;
    o.arg = &n;
    /* By the names of files: 2.jpg, 5.jpg, a/0.jpg, a/3.jpg, b/c/4.jpg. */
    write_list("label,who,file\nowl,x,a/0.jpg\ncat,x,2.jpg\n\"big, "
               "dog\",x,./a/3.jpg\nowl,x,b//c/4.jpg\ncat,y,5.jpg\n");
    assert_ok(dt_import_run(&o, &r));
    assert_true(r.n_samples == 5 && r.n_classes == 3);
    assert_noted(&n, "3 images without a label in ");
    assert_noted(&n, "images/a/6.jpg");
    static const struct {
        int image;
        const char *class;
    } expected[] = {{2, "cat"}, {5, "cat"}, {0, "owl"}, {3, "big, dog"}, {4, "owl"}};
    dt_dataset *d = open_set(o.out_dir);
    for (int i = 0; i < 5; i++) {
        assert_in_range(level_of(d, i) - 20 * expected[i].image + 2, 0, 4);
        assert_string_equal(dt_dataset_class_name(d, label_of(d, i)), expected[i].class);
    }
    assert_string_equal(dt_dataset_class_name(d, 0), "big, dog");
    dt_dataset_close(d);
    /* The same labels in other lines, with other columns: the same import. */
    write_list(
        "file,label\r\n5.jpg,cat\r\nb/c/4.jpg,owl\r\na/3.jpg,\"big, dog\"\r\n2.jpg,cat\r\na/0.jpg,owl\r\n");
    assert_ok(dt_import_run(&o, &r));
    assert_int_equal(r.n_shards_kept, 1);
    /* One label otherwise: another. */
    write_list("file,label\n5.jpg,owl\nb/c/4.jpg,owl\na/3.jpg,\"big, dog\"\n2.jpg,cat\na/0.jpg,owl\n");
    assert_fails(dt_import_run(&o, &r), DT_ERR_USAGE, "or with other options");

    /* With a list of classes. */
    char *names = in_scratch("classes.txt");
    write_file(names, "owl\nhen\ncat\n", 12);
    o.class_names = names;
    o.out_dir = in_scratch("named");
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "labels.csv: class \"big, dog\" is not in ");
    write_list("file,label\n5.jpg,cat\na/0.jpg,owl\n");
    assert_ok(dt_import_run(&o, &r));
    d = open_set(o.out_dir);
    assert_true(d->info.n_classes == 3 && label_of(d, 0) == 2 && label_of(d, 1) == 0);
    dt_dataset_close(d);
    o.class_names = NULL;

    o.out_dir = in_scratch("never");
    write_list("file,label\n5.jpg,cat\na/0.jpeg,owl\n");
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "labels.csv:3: ");
    assert_non_null(strstr(dt_error_text(), "images/a/0.jpeg: no such file (paths start at "));
    write_list("file,label\nb,cat\n"); /* a directory */
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "images/b: no such file");
    o.kind = DT_IMPORT_SYNTHETIC;
    assert_fails(dt_import_run(&o, &r), DT_ERR_USAGE, "is for folder only");
    assert_int_equal(access(o.out_dir, F_OK), -1);
}

/* A list of labels, split: a file's part depends on its name, not on its label. */
static void test_import_parts(void **state) {
    (void)state;
    const char *input = make_images("parts");
    dt_import_result r;
    dt_import_options o = level_options(&input, in_scratch("parts_out"));
    o.labels = in_scratch("labels.csv");
    o.split = NULL;
    o.val_fraction = 0.5;
    bool val[2][8] = {{0}};
    for (int turn = 0; turn < 2; turn++) {
        char text[400] = "file,label\n";
        for (int i = 0; i < 8; i++)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%d.jpg,%d\n",
                     (const char *[]){"a/", "b/c/", ""}[i % 3], i, (i + turn) % 2);
        write_list(text);
        o.out_dir = in_scratch("parts_out%d", turn);
        assert_ok(dt_import_run(&o, &r));
        assert_int_equal(r.n_samples, 8);
        char path[300];
        snprintf(path, sizeof path, "%s/val", o.out_dir);
        dt_dataset *d = open_set(path);
        for (int64_t i = 0; i < d->info.n_samples; i++) val[turn][(level_of(d, i) + 10) / 20] = true;
        dt_dataset_close(d);
    }
    assert_memory_equal(val[0], val[1], sizeof val[0]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_csv), cmocka_unit_test(test_list),
                                       cmocka_unit_test(test_import), cmocka_unit_test(test_import_parts)};
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
