/* Files that become shorter while they are mapped: no signal ends the process, and every reader and writer says so. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "formats/onnx.h"
#include "formats/onnx_draft.h"
#include "formats/safetensors.h"

enum { PAGES = 64 };

static char dir[] = "/tmp/dt_mapped_XXXXXX";
static long page;

static void ok(dt_status st) {
    if (st != DT_OK) fail_msg("%s: %s", dt_status_name(st), dt_error_text());
}

static const char *inside(const char *name) {
    static char path[4][128];
    static int k;
    k = (k + 1) % 4;
    snprintf(path[k], sizeof path[k], "%s/%s", dir, name);
    return path[k];
}

static void cut(const char *path, long bytes) {
    assert_int_equal(truncate(path, bytes), 0);
}

static void told(dt_status st, const char *path) {
    assert_int_equal(st, DT_ERR_DATA);
    if (!strstr(dt_error_text(), path) || !strstr(dt_error_text(), "shorter"))
        fail_msg("%s", dt_error_text());
}

static void write_plain(const char *path) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (long i = 0; i < PAGES * page; i++) fputc(1 + (int)(i % 255), f);
    fclose(f);
}

static void plain(void **state) {
    (void)state;
    const char *path = inside("plain"), *other = inside("other");
    dt_mapped_file f, g;
    write_plain(path), write_plain(other);
    ok(dt_file_map(path, &f));
    ok(dt_file_map(other, &g));
    ok(dt_files_check());
    cut(path, page + 10);
    assert_int_equal(f.byte[page], 1 + page % 255);
    for (long i = 2 * page; i < PAGES * page; i += 100) assert_int_equal(f.byte[i], 0);
    told(dt_file_check(&f), path);
    told(dt_files_check(), path);
    ok(dt_file_check(&g));
    dt_file_unmap(&f);
    ok(dt_files_check());
    cut(other, PAGES * page - 1); /* within a page: no signal tells of it */
    told(dt_file_check(&g), other);
    dt_file_unmap(&g);
}

static double numbers[8192];

static void weights(void **state) {
    (void)state;
    const char *path = inside("w.safetensors");
    const dt_file_tensor t = {.name = "w",
                              .type = DT_TENSOR_F64,
                              .ndim = 1,
                              .dim = {8192},
                              .n_elem = 8192,
                              .n_bytes = sizeof numbers,
                              .data = numbers};
    dt_tensors *read;
    struct stat st;
    float out[8192];
    ok(dt_tensors_write(path, 1, &t, 0, NULL));
    ok(dt_tensors_open(path, &read));
    ok(dt_file_tensor_read(&read->tensor[0], out));
    ok(dt_tensors_check(read));
    cut(path, page);
    (void)dt_file_tensor_read(&read->tensor[0], out);
    told(dt_tensors_check(read), path);
    static const char *const names[] = {"copy.safetensors", "copy.pt"};
    for (int i = 0; i < 2; i++) {
        told(dt_tensors_write(inside(names[i]), 1, &read->tensor[0], 0, NULL), path);
        assert_int_not_equal(stat(inside(names[i]), &st), 0);
    }
    dt_tensors_close(read);
}

static void model(void **state) {
    (void)state;
    const char *path = inside("m.onnx"), *copy = inside("copy.onnx");
    dt_onnx_draft d;
    dt_onnx_model *m;
    struct stat st;
    ok(dt_onnx_draft_create(17, &d));
    dt_onnx_draft_constant(&d, "w", DT_TENSOR_F64, 1, (const int64_t[]){8192}, numbers, true);
    dt_onnx_draft_input(&d,
                        &(dt_onnx_value_info){.name = "x", .type = DT_TENSOR_F64, .ndim = 1, .dim = {8192}});
    dt_onnx_draft_op(&d, "Add", "y", DT_ONNX_IN("x", "w"), DT_ONNX_PLAIN);
    dt_onnx_draft_output(&d,
                         &(dt_onnx_value_info){.name = "y", .type = DT_TENSOR_F64, .ndim = 1, .dim = {8192}});
    ok(dt_onnx_draft_end(&d, &m));
    ok(dt_onnx_write(m, path));
    dt_onnx_model_free(m);
    ok(dt_onnx_read(path, &m));
    ok(dt_onnx_check_files(m));
    cut(path, page);
    told(dt_onnx_check_files(m), path);
    told(dt_onnx_write(m, copy), path);
    assert_int_not_equal(stat(copy, &st), 0);
    dt_onnx_model_free(m);
}

static void count_signal(int number) {
    (void)number;
    _exit(7);
}

/* Who mapped a file otherwise has the signal as before. */
static int child(bool handled) {
    const char *path = inside("mine");
    write_plain(path);
    fflush(NULL);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        const int fd = open(path, O_RDWR);
        dt_mapped_file f;
        signal(SIGBUS, handled ? count_signal : SIG_DFL);
        if (dt_file_map(path, &f) != DT_OK || ftruncate(fd, 0) != 0) _exit(1);
        volatile const uint8_t *at = mmap(NULL, (size_t)page, PROT_READ, MAP_SHARED, fd, 0);
        if (f.byte[0] != 0) _exit(2);
        if (at[0]) _exit(3);
        _exit(4);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void of_others(void **state) {
    (void)state;
    int status = child(false);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    status = child(true);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain),
        cmocka_unit_test(weights),
        cmocka_unit_test(model),
        cmocka_unit_test(of_others),
    };
    page = sysconf(_SC_PAGESIZE);
    for (int i = 0; i < 8192; i++) numbers[i] = 1;
    if (!mkdtemp(dir)) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    static const char *const names[] = {"plain", "other", "w.safetensors", "m.onnx", "mine"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) unlink(inside(names[i]));
    rmdir(dir);
    return failed;
}
