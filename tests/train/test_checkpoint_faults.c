/* Checkpoints under faults: damaged files, hostile manifests, writers killed at random, full disks.
 *
 * The bar: nothing damaged ever loads, nothing crashes, and the newest good checkpoint is always found. */
#include "checkpoint_fixture.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <xxhash.h>

#include "checkpoint_internal.h"

/* HDF5 itself leaks after a write that failed. Read by LeakSanitizer. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:libhdf5";
}

enum { FLIPS = 300, KILLS = 120, MUTATIONS = 20000 };

static const char *const files[] = {"manifest.json", "config.toml", "state.h5"};

static uint64_t next_random(uint64_t *x) {
    *x += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = *x;
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* One checkpoint of step 1, small enough to damage often. */
static void open_one(fixture *f) {
    fix_open(f, 20);
    dt_ckpt_writer *w = fix_writer(f, 2, 0);
    fix_save_ok(f, w, 1);
    dt_ckpt_writer_destroy(w);
}

static dt_status load_one(const fixture *f) {
    char path[FIX_PATH_MAX];
    dt_ckpt *c = NULL;
    fix_step_path(f, 1, "", path);
    dt_status status = dt_ckpt_load(path, &c);
    if (status == DT_OK) assert_non_null(c);
    if (status != DT_OK) {
        assert_null(c);
        assert_true(strlen(dt_error_text()) > strlen(path));
    }
    dt_ckpt_free(c);
    return status;
}

static void test_bit_flips(void **state) {
    (void)state;
    fixture f;
    open_one(&f);
    uint64_t seed = 1;
    for (int i = 0; i < FLIPS; i++) {
        char path[FIX_PATH_MAX];
        size_t bytes;
        fix_step_path(&f, 1, files[i % 3], path);
        char *data = fix_read(path, &bytes);
        size_t bit = next_random(&seed) % (8 * bytes);
        data[bit / 8] = (char)(data[bit / 8] ^ 1 << bit % 8);
        fix_write(path, data, bytes);
        assert_int_equal(load_one(&f), DT_ERR_CHECKPOINT);
        data[bit / 8] = (char)(data[bit / 8] ^ 1 << bit % 8);
        fix_write(path, data, bytes);
        free(data);
    }
    assert_int_equal(load_one(&f), DT_OK);
    fix_close(&f);
}

static void test_truncation(void **state) {
    (void)state;
    fixture f;
    open_one(&f);
    for (int i = 0; i < 3; i++) {
        char path[FIX_PATH_MAX];
        size_t bytes;
        fix_step_path(&f, 1, files[i], path);
        char *data = fix_read(path, &bytes);
        const size_t length[] = {0, 1, 20, bytes / 2, bytes - 1};
        for (size_t l = 0; l < sizeof length / sizeof length[0]; l++) {
            fix_write(path, data, length[l]);
            assert_int_equal(load_one(&f), DT_ERR_CHECKPOINT);
        }
        char *longer = calloc(1, bytes + 1);
        assert_non_null(longer);
        memcpy(longer, data, bytes);
        fix_write(path, longer, bytes + 1);
        assert_int_equal(load_one(&f), DT_ERR_CHECKPOINT);
        fix_write(path, data, bytes);
        free(longer);
        free(data);
    }
    assert_int_equal(load_one(&f), DT_OK);
    fix_close(&f);
}

/* Each file missing, or something else than a file in its place: refused, not waited for. */
static void test_other_file_kinds(void **state) {
    (void)state;
    fixture f;
    open_one(&f);
    for (int i = 0; i < 3; i++) {
        char path[FIX_PATH_MAX], kept[FIX_PATH_MAX];
        fix_step_path(&f, 1, files[i], path);
        snprintf(kept, sizeof kept, "%s/kept", f.root);
        assert_int_equal(rename(path, kept), 0);
        assert_int_equal(load_one(&f), DT_ERR_CHECKPOINT);
        assert_int_equal(mkfifo(path, 0666), 0);
        assert_int_equal(load_one(&f), DT_ERR_CHECKPOINT);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(mkdir(path, 0777), 0);
        assert_int_equal(load_one(&f), DT_ERR_CHECKPOINT);
        assert_int_equal(rmdir(path), 0);
        assert_int_equal(symlink(kept, path), 0);
        assert_int_equal(load_one(&f), DT_ERR_CHECKPOINT);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(rename(kept, path), 0);
    }
    assert_int_equal(load_one(&f), DT_OK);
    dt_ckpt *c;
    assert_int_equal(dt_ckpt_load("/nonexistent", &c), DT_ERR_CHECKPOINT);
    assert_int_equal(dt_ckpt_load(f.dir, &c), DT_ERR_CHECKPOINT);
    assert_non_null(strstr(dt_error_text(), "holds no manifest.json"));
    fix_close(&f);
}

/* ---- hostile manifests: altered, then sealed with a right checksum ---- */

static const char seal_begin[] = ",\n \"manifest_xxh3\": \"";

/* The bytes of a manifest before its checksum. */
static char *manifest_body(const fixture *f, size_t *bytes) {
    char path[FIX_PATH_MAX];
    fix_step_path(f, 1, "manifest.json", path);
    char *text = fix_read(path, bytes);
    char *end = strstr(text, seal_begin);
    assert_non_null(end);
    *bytes = (size_t)(end - text);
    *end = '\0';
    return text;
}

static char *seal(const char *body, size_t bytes, size_t *sealed_bytes) {
    char tail[64];
    int n = snprintf(tail, sizeof tail, "%s%016llx\"\n}\n", seal_begin,
                     (unsigned long long)XXH3_64bits(body, bytes));
    char *text = malloc(bytes + (size_t)n + 1);
    assert_non_null(text);
    memcpy(text, body, bytes);
    memcpy(text + bytes, tail, (size_t)n + 1);
    *sealed_bytes = bytes + (size_t)n;
    return text;
}

/* `body` with the first `from` replaced by `to`; "^" stands for the beginning. */
static char *replaced(const char *body, const char *from, const char *to) {
    const char *at = strstr(body, from);
    assert_non_null(at);
    char *text = malloc(strlen(body) + strlen(to) + 1);
    assert_non_null(text);
    sprintf(text, "%.*s%s%s", (int)(at - body), body, to, at + strlen(from));
    return text;
}

typedef struct hostile_row {
    const char *from, *to, *want;
} hostile_row;

static const hostile_row hostile_table[] = {
    {"\"dtrain-checkpoint\"", "\"other\"", "\"format\""},
    {"\"version\": 6", "\"version\": 1", "format version 1"},
    {"\"version\": 6", "\"version\": \"3\"", "\"version\""},
    {"\"version\": 6", "\"version\": 6, \"version\": 6", "duplicate"},
    {"\"version\": 6", "\"version\": 6, \"more\": 1", "members"},
    {"\"step\": 1", "\"step\": -1", "\"step\""},
    {"\"step\": 1", "\"step\": 1.0", "\"step\""},
    {"\"step\": 1", "\"step\": 99999999999999999999", "too big"},
    {"\"step\": 1", "\"steps\": 1", "\"step\""},
    {"\"seed\": -42", "\"seed\": null", "\"seed\""},
    {"\"loss_scale\": 0.33", "\"loss_scale\": 1e999, \"x\": 0.33", "overflow"},
    {"\"loss_scale\": 0.33", "\"loss_scale\": NaN, \"x\": 0.33", "invalid token"},
    {"\"fedcba9876543210\"", "\"fedcba987654321\"", "\"config_hash\""},
    {"\"fedcba9876543210\"", "\"FEDCBA9876543210\"", "\"config_hash\""},
    {"\"fedcba9876543210\"", "18364758544493064720", "too big"},
    {"\"file\": \"state.h5\"", "\"file\": \"../../state.h5\"", "\"file\""},
    {"\"file\": \"state.h5\"", "\"file\": \"/etc/passwd\"", "\"file\""},
    {"\"bytes\": ", "\"bytes\": -", "\"bytes\""},
    {"\"bytes\": ", "\"bytes\": 9000000000000", "state.h5: truncated"},
    {"\"config\": \"[run]", "\"config\": \"[Run]", "config.toml"},
    {"\"config\": \"[run]", "\"config\": \"\\u0000[run]", "line"},
    {"param/layer1.0.conv1.weight", "../layer1.0.conv1.weight", "\"name\""},
    {"param/layer1.0.conv1.weight", "/layer1.0.conv1.weight", "\"name\""},
    {"param/layer1.0.conv1.weight", "param//weight", "\"name\""},
    {"param/layer1.0.conv1.weight", "", "\"name\""},
    {"param/layer1.0.conv1.weight", "state/scale", "stands twice"},
    {"param/layer1.0.conv1.weight", "param/other", "no dataset param/other"},
    {"\"dtype\": \"f32\"", "\"dtype\": \"f16\"", "\"dtype\""},
    {"    10,\n    3\n", "    3,\n    10\n", "another type or shape"},
    {"    10,\n    3\n", "    30\n", "another type or shape"},
    {"    10,\n    3\n", "    10,\n    0\n", "\"shape\""},
    {"    10,\n    3\n", "    10,\n    -3\n", "\"shape\""},
    {"    10,\n    3\n", "    10, 3, 1, 1, 1, 1, 1, 1, 1\n", "\"shape\""},
    {"    10,\n    3\n", "    10, \"3\"\n", "\"shape\""},
    {"    10,\n    3\n", "    4611686018427387904, 2\n", "\"shape\""},
    {"    10,\n    3\n", "    3037000500, 3037000500\n", "\"shape\""},
    {"    10,\n    3\n", "    1000000, 1000000\n", "does not fit"},
    {"\"tensors\": [", "\"tensors\": [1, ", "tensor 0"},
    {"\"tensors\": [", "\"tensors\": [{}, ", "tensor 0"},
    {"\"tensors\": [", "\"tensors\": {}, \"x\": [", "members"},
    {"\"data\": null", "\"data\": 3", "\"data\""},
    {"\"momentum\"", "\"\"", "\"optimizer\""},
    {"\"momentum\"", "\"a/b\"", "\"optimizer\""},
    {"\"momentum\"", "\"an_optimizer_of_too_long_a_name\"", "\"optimizer\""},
    {"\"momentum\"", "7", "\"optimizer\""},
    {"\"data\": null", "\"date\": null", "\"data\""},
    {"{", "[", "line"},
    {"{", "", "line"},
};

static void test_hostile_manifests(void **state) {
    (void)state;
    fixture f;
    open_one(&f);
    size_t body_bytes, bytes;
    char path[FIX_PATH_MAX];
    char *body = manifest_body(&f, &body_bytes);
    fix_step_path(&f, 1, "manifest.json", path);
    for (size_t i = 0; i < sizeof hostile_table / sizeof hostile_table[0]; i++) {
        const hostile_row *row = &hostile_table[i];
        char *altered = replaced(body, row->from, row->to);
        char *text = seal(altered, strlen(altered), &bytes);
        fix_write(path, text, bytes);
        dt_status status = load_one(&f);
        if (status != DT_ERR_CHECKPOINT || strstr(dt_error_text(), row->want) == NULL)
            fail_msg("%s -> %s: status %d, \"%s\"", row->from, row->to, status, dt_error_text());
        free(altered);
        free(text);
    }
    /* Deep nesting must not overflow the stack. */
    enum { DEPTH = 200000 };
    char *deep = malloc(DEPTH);
    assert_non_null(deep);
    memset(deep, '[', DEPTH);
    char *text = seal(deep, DEPTH, &bytes);
    fix_write(path, text, bytes);
    assert_int_equal(load_one(&f), DT_ERR_CHECKPOINT);
    free(text);
    free(deep);
    /* As it was before there were facts of the data, and before there were hashes of it. */
    char *five_body = replaced(body, " \"optimizer\": \"momentum\",\n", ""),
         *five_skips = replaced(five_body, "\"skipped_in_a_row\": 2", "\"recent_skips\": 3"),
         *five = replaced(five_skips, "\"version\": 6", "\"version\": 5");
    char *bare = replaced(five, " \"data\": null,\n", ""),
         *four = replaced(bare, "\"version\": 5", "\"version\": 4");
    char *from = strstr(four, " \"classes_xxh3\""), *to = strstr(four, " \"state\"");
    assert_true(from && to > from);
    char *older = malloc(body_bytes + 1);
    assert_non_null(older);
    snprintf(older, body_bytes + 1, "%.*s%s", (int)(from - four), four, to);
    char *three = replaced(older, "\"version\": 4", "\"version\": 3");
    char *const formats[] = {five, four, three};
    for (int i = 0; i < 3; i++) {
        dt_ckpt *old;
        text = seal(formats[i], strlen(formats[i]), &bytes);
        fix_write(path, text, bytes);
        assert_int_equal(load_one(&f), DT_OK);
        char dir[FIX_PATH_MAX];
        snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(path, '/') - path), path);
        assert_int_equal(dt_ckpt_load(dir, &old), DT_OK);
        assert_true(old->meta.optimizer_steps == 0 && old->meta.skipped_in_a_row == 2);
        assert_string_equal(old->meta.optimizer, "");
        dt_ckpt_free(old);
        free(text);
    }
    free(five_body), free(five_skips), free(five), free(bare), free(four), free(older), free(three);
    /* Unaltered, it loads: the seal of this test is right. */
    text = seal(body, body_bytes, &bytes);
    fix_write(path, text, bytes);
    assert_int_equal(load_one(&f), DT_OK);
    free(text);
    free(body);
    fix_close(&f);
}

/* Deterministic fuzz: parsing any bytes ends in DT_OK or DT_ERR_CHECKPOINT with a text. */
static void test_mutated_manifests(void **state) {
    (void)state;
    fixture f;
    open_one(&f);
    static const char *const words[] = {"{",
                                        "}",
                                        "[",
                                        "]",
                                        "\"",
                                        ",",
                                        ":",
                                        "-",
                                        "9",
                                        "0.5",
                                        "null",
                                        "\\u0000",
                                        "\xff",
                                        "4611686018427387904",
                                        "\"shape\": [",
                                        "\"name\": \"..\"",
                                        "e99"};
    size_t body_bytes, bytes;
    char *body = manifest_body(&f, &body_bytes);
    char *altered = malloc(2 * body_bytes + 64);
    assert_non_null(altered);
    uint64_t seed = 7;
    int n_parsed = 0;
    for (int i = 0; i < MUTATIONS; i++) {
        size_t n = body_bytes;
        memcpy(altered, body, n);
        for (uint64_t edits = 1 + next_random(&seed) % 4; edits > 0 && n > 0; edits--) {
            size_t at = next_random(&seed) % n, len = next_random(&seed) % 40;
            if (len > n - at) len = n - at;
            const char *word = words[next_random(&seed) % (sizeof words / sizeof words[0])];
            switch (next_random(&seed) % 4) {
            case 0:
                altered[at] = (char)(altered[at] ^ 1 << next_random(&seed) % 8);
                break;
            case 1: /* cut */
                memmove(altered + at, altered + at + len, n - at - len);
                n -= len;
                break;
            case 2: /* repeat */
                memmove(altered + at + len, altered + at, n - at);
                n += len;
                break;
            default: /* overwrite with a word of the grammar */
                len = strlen(word);
                if (len <= n - at) memcpy(altered + at, word, len);
                break;
            }
        }
        char *text = seal(altered, n, &bytes);
        dt_ckpt_manifest m;
        dt_error_set_text("");
        dt_status status =
            dt_ckpt_manifest_parse(text, i % 8 == 0 ? bytes - next_random(&seed) % bytes : bytes, &m);
        assert_true(status == DT_OK || status == DT_ERR_CHECKPOINT);
        assert_true(status == DT_OK || dt_error_text()[0] != '\0');
        n_parsed += status == DT_OK;
        dt_ckpt_manifest_clear(&m);
        free(text);
    }
    assert_true(n_parsed > 0 && n_parsed < MUTATIONS / 2);
    free(altered);
    free(body);
    fix_close(&f);
}

/* State bytes mutated in bulk: all refused before HDF5 sees them. */
static void test_mutated_state(void **state) {
    (void)state;
    fixture f;
    open_one(&f);
    char path[FIX_PATH_MAX];
    size_t bytes;
    uint64_t seed = 11;
    fix_step_path(&f, 1, "state.h5", path);
    char *data = fix_read(path, &bytes), *altered = malloc(bytes);
    assert_non_null(altered);
    for (int i = 0; i < FLIPS; i++) {
        memcpy(altered, data, bytes);
        size_t at = next_random(&seed) % bytes, len = 1 + next_random(&seed) % 64;
        for (size_t b = at; b < at + len && b < bytes; b++) altered[b] = (char)next_random(&seed);
        if (memcmp(altered, data, bytes) == 0) continue;
        fix_write(path, altered, bytes);
        assert_int_equal(load_one(&f), DT_ERR_CHECKPOINT);
        assert_non_null(strstr(dt_error_text(), "its checksum is"));
    }
    free(altered);
    free(data);
    fix_close(&f);
}

/* ---- writers that die ---- */

static void sleep_ns(int64_t ns) {
    struct timespec t = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
    nanosleep(&t, NULL);
}

/* Waits until the child has finished a few saves more, then for a random part of the next. */
static void await_random_moment(volatile int64_t *done, uint64_t *seed) {
    static double save_s = 0.01; /* of the last round: machines and sanitizers differ */
    int64_t before = *done, n = (int64_t)(next_random(seed) % 4);
    double start_s = dt_time_s();
    while (*done < before + n && dt_time_s() < start_s + 20) sleep_ns(200000);
    if (n > 0) save_s = (dt_time_s() - start_s) / (double)n;
    sleep_ns((int64_t)((double)(next_random(seed) % 1500) * 1e6 * save_s));
}

/* Saves one step after another, telling which are done, until killed. */
static void save_for_ever(fixture *f, int64_t first, volatile int64_t *done) {
    dt_ckpt_policy policy = {.dir = f->dir, .keep_last = 2, .keep_every = 50};
    dt_ckpt_writer *w;
    if (dt_ckpt_writer_create(&policy, &w) != DT_OK) _exit(1);
    for (int64_t step = first;; step++) {
        if (fix_save(f, w, step) != DT_OK) _exit(1);
        *done = step;
    }
}

static void test_killed_writer(void **state) {
    (void)state;
    fixture f;
    fix_open(&f, 500);
    volatile int64_t *done =
        mmap(NULL, sizeof *done, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(done != MAP_FAILED);
    *done = 0;
    uint64_t seed = 3;
    for (int i = 0; i < KILLS; i++) {
        int64_t before = *done;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) save_for_ever(&f, before + 1, done);
        await_random_moment(done, &seed);
        kill(child, SIGKILL);
        int how;
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);

        dt_ckpt *c;
        f.note_count = 0;
        assert_int_equal(dt_ckpt_load_latest(f.dir, fix_note, &f, &c), DT_OK);
        assert_int_equal(f.note_count, 0); /* a killed save leaves nothing that looks like a checkpoint */
        if (c == NULL) {
            assert_int_equal(*done, 0);
            continue;
        }
        /* Published, and perhaps killed before it could tell. */
        assert_true(c->meta.step == *done || c->meta.step == *done + 1);
        assert_true(fix_is_step(&f, c, c->meta.step));
        *done = c->meta.step;
        dt_ckpt_free(c);
    }
    assert_true(*done > 20);
    dt_ckpt_writer_destroy(fix_writer(&f, 2, 0));
    assert_int_equal(fix_count_entries(f.dir, ".tmp-"), 0);
    munmap((void *)done, sizeof *done);
    fix_close(&f);
}

/* ---- full disks ---- */

/* Exits with 0 when a save under a limit of file sizes fails cleanly and the next one works. */
static void save_under_limit(fixture *f, rlim_t bytes) {
    signal(SIGXFSZ, SIG_IGN);
    dt_ckpt_writer *w = fix_writer(f, 2, 0);
    struct rlimit limit, old;
    getrlimit(RLIMIT_FSIZE, &old);
    limit = (struct rlimit){.rlim_cur = bytes, .rlim_max = old.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    dt_status status = fix_save(f, w, 2);
    bool told =
        strstr(dt_error_text(), f->dir) != NULL && strstr(dt_error_text(), "step 2 not saved") != NULL;
    setrlimit(RLIMIT_FSIZE, &old);
    bool clean = fix_count_entries(f->dir, ".tmp-") == 0 && !fix_has_step(f, 2);
    if (status != DT_ERR_IO || !told || !clean) {
        print_error("status %d: \"%s\"\n", status, dt_error_text());
        _exit(1);
    }
    if (fix_save(f, w, 3) != DT_OK) _exit(2);
    dt_ckpt_writer_destroy(w);
    exit(0); /* through the exit handlers: HDF5's must not crash */
}

static void test_write_fails(void **state) {
    (void)state;
    static const rlim_t limit[] = {0, 1000, 40000, 100000, 1000000, 2000000};
    for (size_t i = 0; i < sizeof limit / sizeof limit[0]; i++) {
        fixture f;
        fix_open(&f, 5000); /* 2.1 MB */
        dt_ckpt_writer *w = fix_writer(&f, 2, 0);
        fix_save_ok(&f, w, 1);
        dt_ckpt_writer_destroy(w);
        fflush(NULL);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) save_under_limit(&f, limit[i]);
        int how;
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFEXITED(how));
        assert_int_equal(WEXITSTATUS(how), 0);
        dt_ckpt *c;
        assert_int_equal(dt_ckpt_load_latest(f.dir, NULL, NULL, &c), DT_OK);
        assert_true(fix_is_step(&f, c, 3));
        dt_ckpt_free(c);
        fix_close(&f);
    }
}

/* Mounts a small tmpfs, or skips the test where that is not allowed. */
static void mount_small(const fixture *f, const char *options) {
    assert_int_equal(mkdir(f->dir, 0777), 0);
    if (mount("tmpfs", f->dir, "tmpfs", 0, options) == 0) return;
    print_message("skipped: cannot mount a tmpfs: %s\n", strerror(errno));
    fixture copy = *f;
    fix_close(&copy);
    skip();
}

static void test_disk_full(void **state) {
    (void)state;
    fixture f;
    fix_open(&f, 2000); /* 0.84 MB */
    mount_small(&f, "size=4m");
    dt_ckpt_writer *w = fix_writer(&f, 3, 0);
    fix_save_ok(&f, w, 1);
    fix_save_ok(&f, w, 2);
    char big[FIX_PATH_MAX];
    snprintf(big, sizeof big, "%s/other-data", f.dir);
    char *ballast = calloc(1, 2 << 20);
    assert_non_null(ballast);
    fix_write(big, ballast, 2 << 20);
    free(ballast);

    assert_int_equal(fix_save(&f, w, 3), DT_ERR_IO);
    assert_non_null(strstr(dt_error_text(), f.dir));
    assert_non_null(strstr(dt_error_text(), "iB are free"));
    assert_int_equal(fix_count_entries(f.dir, ".tmp-"), 0);
    dt_ckpt *c;
    assert_int_equal(dt_ckpt_load_latest(f.dir, NULL, NULL, &c), DT_OK);
    assert_true(fix_is_step(&f, c, 2));
    dt_ckpt_free(c);

    assert_int_equal(unlink(big), 0); /* room again: the run never stopped */
    fix_save_ok(&f, w, 4);
    dt_ckpt_writer_destroy(w);
    assert_int_equal(umount(f.dir), 0);
    fix_close(&f);
}

/* Space, but no file can be created: fails in the middle of a save. */
static void test_no_inodes(void **state) {
    (void)state;
    for (int inodes = 2; inodes <= 6; inodes++) {
        fixture f;
        char options[64];
        fix_open(&f, 10);
        snprintf(options, sizeof options, "size=16m,nr_inodes=%d", inodes);
        mount_small(&f, options);
        dt_ckpt_writer *w = fix_writer(&f, 2, 0);
        dt_status status = fix_save(&f, w, 1); /* root, directory and four files */
        assert_int_equal(status, inodes < 6 ? DT_ERR_IO : DT_OK);
        if (inodes < 6) assert_int_equal(fix_count_entries(f.dir, "."), 2);
        dt_ckpt_writer_destroy(w);
        assert_int_equal(umount(f.dir), 0);
        fix_close(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bit_flips),         cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_other_file_kinds),  cmocka_unit_test(test_hostile_manifests),
        cmocka_unit_test(test_mutated_manifests), cmocka_unit_test(test_mutated_state),
        cmocka_unit_test(test_killed_writer),     cmocka_unit_test(test_write_fails),
        cmocka_unit_test(test_disk_full),         cmocka_unit_test(test_no_inodes),
    };
    return cmocka_run_group_tests_name("checkpoint faults", tests, NULL, NULL);
}
