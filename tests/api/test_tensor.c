/* Tensors: values, shapes, and what is refused. */
#include <sys/resource.h>

#include "api_test.h"

static void making(void **state) {
    (void)state;
    dt_run *run = open_cpu();
    dt_tensor *t;
    float f[6];
    OK(dt_tensor_zeros(run, DT_DTYPE_F32, DT_SHAPE(2, 3), &t));
    OK(dt_tensor_read(t, f, sizeof f));
    for (int i = 0; i < 6; i++) assert_true(f[i] == 0);
    dt_tensor_free(t);
    OK(dt_tensor_ones(run, DT_DTYPE_F32, DT_SHAPE(2, 3), &t));
    OK(dt_tensor_read(t, f, sizeof f));
    for (int i = 0; i < 6; i++) assert_true(f[i] == 1);
    dt_tensor_free(t);
    int32_t n[2];
    OK(dt_tensor_full(run, DT_DTYPE_I32, DT_SHAPE(2), -7, &t));
    OK(dt_tensor_read(t, n, sizeof n));
    assert_int_equal(n[1], -7);
    dt_tensor_free(t);
    uint16_t h;
    OK(dt_tensor_full(run, DT_DTYPE_F16, DT_SHAPE_SCALAR, 1.5, &t));
    OK(dt_tensor_read(t, &h, sizeof h));
    assert_int_equal(h, 0x3e00);
    assert_int_equal(dt_tensor_n_elem(t), 1);
    dt_tensor_free(t);
    OK(dt_tensor_zeros(run, DT_DTYPE_U8, DT_SHAPE(3, 0, 2), &t)); /* none at all */
    assert_int_equal(dt_tensor_n_elem(t), 0);
    OK(dt_tensor_read(t, NULL, 0));
    dt_tensor_free(t);
    dt_run_close(run);
}

static void random_numbers(void **state) {
    (void)state;
    enum { N = 20000 };
    static float a[N], b[N];
    dt_run *run = open_cpu();
    dt_tensor *t = normal(run, DT_SHAPE(N), 3), *half = normal(run, DT_SHAPE(N / 2), 3),
              *other = normal(run, DT_SHAPE(N), 4);
    OK(dt_tensor_read(t, a, sizeof a));
    double sum = 0, square = 0, fourth = 0;
    for (int i = 0; i < N; i++) {
        sum += a[i], square += (double)a[i] * a[i], fourth += pow(a[i], 4);
        assert_true(isfinite(a[i]));
    }
    assert_true(fabs(sum / N) < 0.03 && fabs(square / N - 1) < 0.04 && fabs(fourth / N - 3) < 0.3);
    OK(dt_tensor_read(half, b, sizeof b / 2));
    assert_memory_equal(a, b, sizeof b / 2); /* of the seed and the place alone */
    OK(dt_tensor_read(other, b, sizeof b));
    assert_true(memcmp(a, b, sizeof b) != 0);
    dt_tensor_free(t), dt_tensor_free(half), dt_tensor_free(other), dt_run_close(run);
}

static void memory_of_the_caller(void **state) {
    (void)state;
    dt_run *run = open_cpu();
    float mine[4] = {1, 2, 3, 4};
    dt_tensor *t, *sum = NULL;
    OK(dt_tensor_wrap(run, DT_DTYPE_F32, DT_SHAPE(4), mine, &t));
    assert_ptr_equal(dt_tensor_data(t), mine);
    assert_true(dt_tensor_is_host(t));
    OK(dt_tensor_add(t, t, &sum));
    OK(dt_tensor_add(t, sum, &t)); /* into the caller's memory */
    assert_true(mine[0] == 3 && mine[3] == 12);
    FAILS(DT_ERR_USAGE, "aligned", dt_tensor_wrap(run, DT_DTYPE_F32, DT_SHAPE(1), (char *)mine + 1, &t));
    assert_null(t);
    dt_tensor_free(sum), dt_run_close(run);
}

/* a [B, M, K] with b [B, K, N] or [K, N], in double. */
static void check_matmul(int batch, int m, int k, int n, int shared) {
    dt_run *run = open_cpu();
    dt_tensor *a = normal(run, DT_SHAPE(batch, m, k), 1),
              *b = normal(run, shared ? DT_SHAPE(k, n) : DT_SHAPE(batch, k, n), 2), *c = NULL;
    OK(dt_tensor_matmul(a, b, &c));
    assert_int_equal(dt_tensor_shape(c).dim[2], n);
    const float *x = dt_tensor_data(a), *y = dt_tensor_data(b), *z = dt_tensor_data(c);
    for (int e = 0; e < batch; e++)
        for (int i = 0; i < m; i++)
            for (int j = 0; j < n; j++) {
                double sum = 0;
                for (int l = 0; l < k; l++)
                    sum += (double)x[(e * m + i) * k + l] * y[((shared ? 0 : e) * k + l) * n + j];
                assert_true(fabs(sum - z[(e * m + i) * n + j]) < 1e-5 * (1 + k));
            }
    OK(dt_tensor_matmul(a, b, &c)); /* again, into the same */
    dt_tensor_free(a), dt_tensor_free(b), dt_tensor_free(c), dt_run_close(run);
}

static void matmul(void **state) {
    (void)state;
    check_matmul(1, 3, 4, 5, 1);
    check_matmul(3, 17, 33, 9, 1);
    check_matmul(3, 17, 33, 9, 0);
    dt_run *run = open_cpu();
    dt_tensor *a, *b, *c = NULL;
    OK(dt_tensor_zeros(run, DT_DTYPE_F32, DT_SHAPE(2, 0), &a));
    OK(dt_tensor_zeros(run, DT_DTYPE_F32, DT_SHAPE(0, 3), &b));
    OK(dt_tensor_matmul(a, b, &c)); /* sums of nothing */
    assert_int_equal(dt_tensor_n_elem(c), 6);
    assert_true(((float *)dt_tensor_data(c))[5] == 0);
    FAILS(DT_ERR_USAGE, "2x0", dt_tensor_matmul(a, a, &c));
    dt_tensor *square = normal(run, DT_SHAPE(3, 3), 1);
    FAILS(DT_ERR_USAGE, "operand", dt_tensor_matmul(square, square, &square));
    dt_tensor_free(square);
    dt_tensor_free(a), dt_tensor_free(b), dt_tensor_free(c), dt_run_close(run);
}

static void elementwise(void **state) {
    (void)state;
    dt_run *run = open_cpu();
    const float x[] = {1, -2, 3, 4}, y[] = {5, 6, -7, 0.5f};
    dt_tensor *a = floats(run, DT_SHAPE(2, 2), x), *b = floats(run, DT_SHAPE(2, 2), y), *sum = NULL,
              *product = NULL, *flat = NULL;
    OK(dt_tensor_add(a, b, &sum));
    OK(dt_tensor_multiply(a, b, &product));
    for (int i = 0; i < 4; i++) {
        assert_true(((float *)dt_tensor_data(sum))[i] == x[i] + y[i]);
        assert_true(((float *)dt_tensor_data(product))[i] == x[i] * y[i]);
    }
    OK(dt_tensor_reshape(a, DT_SHAPE(4), &flat));
    assert_memory_equal(dt_tensor_data(flat), x, sizeof x);
    FAILS(DT_ERR_USAGE, "2x2", dt_tensor_add(a, flat, &sum));
    FAILS(DT_ERR_USAGE, "*out", dt_tensor_add(a, b, &flat));
    FAILS(DT_ERR_USAGE, "elements", dt_tensor_reshape(a, DT_SHAPE(5), &flat));
    FAILS(DT_ERR_USAGE, "out", dt_tensor_add(a, b, NULL));
    /* Many operands, so that kernels are forgotten in between. */
    for (int i = 0; i < 3000; i++) {
        dt_tensor *t = NULL, *keep = NULL;
        OK(dt_tensor_copy(a, &keep));
        OK(dt_tensor_add(keep, b, &t));
        assert_true(((float *)dt_tensor_data(t))[2] == -4);
        dt_tensor_free(t), dt_tensor_free(keep);
    }
    dt_tensor_free(a), dt_tensor_free(b), dt_tensor_free(sum), dt_tensor_free(product), dt_tensor_free(flat);
    dt_run_close(run);
}

static void transpose(void **state) {
    (void)state;
    dt_run *run = open_cpu();
    int64_t data[2 * 3 * 4];
    for (int i = 0; i < 24; i++) data[i] = i;
    dt_tensor *t, *last = NULL, *all = NULL;
    OK(dt_tensor_from(run, DT_DTYPE_I64, DT_SHAPE(2, 3, 4), data, &t));
    OK(dt_tensor_transpose(t, NULL, &last));
    OK(dt_tensor_transpose(t, (int32_t[]){2, 0, 1}, &all));
    const int64_t *l = dt_tensor_data(last), *a = dt_tensor_data(all);
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 3; j++)
            for (int k = 0; k < 4; k++) {
                assert_int_equal(l[(i * 4 + k) * 3 + j], (i * 3 + j) * 4 + k);
                assert_int_equal(a[(k * 2 + i) * 3 + j], (i * 3 + j) * 4 + k);
            }
    FAILS(DT_ERR_USAGE, "order", dt_tensor_transpose(t, (int32_t[]){0, 0, 1}, &all));
    FAILS(DT_ERR_USAGE, "order", dt_tensor_transpose(t, (int32_t[]){0, 1, 3}, &all));
    dt_tensor_free(t), dt_tensor_free(last), dt_tensor_free(all), dt_run_close(run);
}

static void refused(void **state) {
    (void)state;
    dt_run *run = open_cpu();
    dt_tensor *t = NULL, *u = NULL;
    float f[4] = {0};
    FAILS(DT_ERR_USAGE, "run is NULL", dt_tensor_zeros(NULL, DT_DTYPE_F32, DT_SHAPE(1), &t));
    FAILS(DT_ERR_USAGE, "no run", dt_tensor_zeros((dt_run *)(void *)f, DT_DTYPE_F32, DT_SHAPE(1), &t));
    FAILS(DT_ERR_USAGE, "out is NULL", dt_tensor_zeros(run, DT_DTYPE_F32, DT_SHAPE(1), NULL));
    FAILS(DT_ERR_USAGE, "dt_dtype", dt_tensor_zeros(run, DT_DTYPE_COUNT, DT_SHAPE(1), &t));
    FAILS(DT_ERR_USAGE, "negative", dt_tensor_zeros(run, DT_DTYPE_F32, DT_SHAPE(2, -1), &t));
    FAILS(DT_ERR_USAGE, "dimensions", dt_tensor_zeros(run, DT_DTYPE_F32, (dt_shape){.ndim = 9}, &t));
    FAILS(DT_ERR_USAGE, "dimensions", dt_tensor_zeros(run, DT_DTYPE_F32, (dt_shape){.ndim = -1}, &t));
    FAILS(DT_ERR_USAGE, "data is NULL", dt_tensor_from(run, DT_DTYPE_F32, DT_SHAPE(1), NULL, &t));
    FAILS(DT_ERR_USAGE, "300", dt_tensor_full(run, DT_DTYPE_U8, DT_SHAPE(1), 300, &t));
    FAILS(DT_ERR_USAGE, "nan", dt_tensor_full(run, DT_DTYPE_I64, DT_SHAPE(1), NAN, &t));
    FAILS(DT_ERR_USAGE, "i32", dt_tensor_randn(run, DT_DTYPE_I32, DT_SHAPE(1), 1, &t));
    assert_null(t);
    FAILS(DT_ERR_USAGE, "is NULL", dt_tensor_add(NULL, NULL, &t));
    t = floats(run, DT_SHAPE(4), f);
    FAILS(DT_ERR_USAGE, "16", dt_tensor_read(t, f, 15));
    FAILS(DT_ERR_USAGE, "data is NULL", dt_tensor_write(t, NULL, 16));
    OK(dt_tensor_zeros(run, DT_DTYPE_F64, DT_SHAPE(4), &u));
    FAILS(DT_ERR_USAGE, "f64", dt_tensor_add(t, u, &t));
    FAILS(DT_ERR_UNSUPPORTED, "f64", dt_tensor_add(u, u, &u));
    dt_run *other = open_cpu();
    dt_tensor *far = floats(other, DT_SHAPE(4), f);
    FAILS(DT_ERR_USAGE, "runs", dt_tensor_add(t, far, &t));
    FAILS(DT_ERR_USAGE, "another run", dt_run_all_reduce(run, far));
    dt_tensor_free(u), dt_tensor_free(far), dt_run_close(other);
    OK(dt_run_all_reduce(run, t)); /* alone */
    OK(dt_run_broadcast(run, t, 0));
    FAILS(DT_ERR_USAGE, "rank 1", dt_run_broadcast(run, t, 1));
    assert_int_equal(dt_run_agree(run, DT_ERR_DATA), DT_ERR_DATA);
    FAILS(DT_ERR_USAGE, "dt_status", dt_run_agree(run, (dt_status)99));

    /* Freed twice, used after, freed as something else. */
    dt_tensor_free(t);
    dt_tensor_free(t);
    dt_run_close((dt_run *)(void *)t);
    dt_tensor_free((dt_tensor *)(void *)run);
    FAILS(DT_ERR_USAGE, "freed", dt_tensor_read(t, f, sizeof f));
    assert_null(dt_tensor_data(t));
    assert_int_equal(dt_tensor_shape(t).ndim, 0);
    assert_int_equal(dt_tensor_dtype(t), DT_DTYPE_COUNT);
    dt_tensor_free(NULL);

    /* A tensor keeps its device when the run was closed. */
    t = floats(run, DT_SHAPE(4), f);
    dt_run_close(run);
    dt_run_close(run);
    FAILS(DT_ERR_USAGE, "freed", dt_tensor_zeros(run, DT_DTYPE_F32, DT_SHAPE(1), &u));
    OK(dt_tensor_read(t, f, sizeof f));
    dt_tensor_free(t);
    dt_run_close(NULL);

    FAILS(DT_ERR_USAGE, "device", dt_run_open((dt_run_options){.device = (dt_device)7}, &run));
    FAILS(DT_ERR_USAGE, "threads", dt_run_open((dt_run_options){.threads = -1}, &run));
    FAILS(DT_ERR_USAGE, "threads", dt_run_open((dt_run_options){.threads = INT32_MAX}, &run));
    assert_string_equal(dt_status_name((dt_status)99), "?");
    assert_string_equal(dt_status_name((dt_status)-1), "?");
    assert_string_equal(dt_dtype_name(DT_DTYPE_COUNT), "?");
    assert_true(dt_dtype_size((dt_dtype)-1) == 0 && dt_dtype_size(DT_DTYPE_F16) == 2);
    FAILS(DT_ERR_USAGE, "timeout", dt_run_open((dt_run_options){.timeout_s = NAN}, &run));
    FAILS(DT_ERR_USAGE, "out", dt_run_open((dt_run_options){.threads = 1}, NULL));
}

/* On a CPU host and device are one memory; results are copies all the same. */
static void places(void **state) {
    (void)state;
    dt_run *run = open_cpu();
    dt_tensor *t = normal(run, DT_SHAPE(3, 4), 5), *host = NULL, *device = NULL,
              *wrong = normal(run, DT_SHAPE(12), 5);
    float a[12], b[12];
    OK(dt_tensor_to_host(t, &host));
    OK(dt_tensor_to_device(host, &device));
    assert_true(dt_tensor_is_host(host));
    assert_ptr_not_equal(dt_tensor_data(host), dt_tensor_data(t));
    OK(dt_tensor_read(t, a, sizeof a));
    OK(dt_tensor_read(device, b, sizeof b));
    assert_memory_equal(a, b, sizeof a);
    OK(dt_tensor_to_host(t, &device)); /* into what is there */
    FAILS(DT_ERR_USAGE, "12", dt_tensor_to_host(t, &wrong));
    FAILS(DT_ERR_USAGE, "NULL", dt_tensor_to_device(t, NULL));
    assert_int_equal(strspn(dt_version(), "0123456789."), strlen(dt_version()));
    dt_tensor_free(t), dt_tensor_free(host), dt_tensor_free(device), dt_tensor_free(wrong);
    dt_run_close(run);
}

static void out_of_memory(void **state) {
    (void)state;
    dt_run *run = open_cpu();
    dt_tensor *t = NULL;
    const int64_t large = INT64_C(1) << 40;
    FAILS(DT_ERR_MEMORY, "more than", dt_tensor_zeros(run, DT_DTYPE_F64, DT_SHAPE(large, large), &t));
    FAILS(DT_ERR_MEMORY, "1125899906842624", dt_tensor_zeros(run, DT_DTYPE_U8, DT_SHAPE(large * 1024), &t));
    FAILS(DT_ERR_MEMORY, "memory", dt_tensor_ones(run, DT_DTYPE_U8, DT_SHAPE(large * 1024), &t));
    FAILS(DT_ERR_MEMORY, "memory", dt_tensor_randn(run, DT_DTYPE_F32, DT_SHAPE(large * 256), 1, &t));
    assert_null(t);
#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
    /* Less and less, until something fails; what is there stays whole. */
    const struct rlimit none = {1 << 20, RLIM_INFINITY};
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    /* A result that malloc has nowhere but from the system; OpenBLAS, which comes later, would ask for ever. */
    dt_tensor *a = normal(run, DT_SHAPE(4096, 64), 1), *b = normal(run, DT_SHAPE(64, 4096), 2), *c = NULL;
    const float first = ((float *)dt_tensor_data(a))[0];
    assert_int_equal(setrlimit(RLIMIT_AS, &(struct rlimit){none.rlim_cur, before.rlim_max}), 0);
    const dt_status st = dt_tensor_matmul(a, b, &c);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_int_equal(st, DT_ERR_MEMORY);
    assert_null(c);
    assert_true(((float *)dt_tensor_data(a))[0] == first);
    OK(dt_tensor_matmul(a, b, &c));
    dt_tensor_free(a), dt_tensor_free(b), dt_tensor_free(c);
#endif
    dt_run_close(run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(making),  cmocka_unit_test(random_numbers), cmocka_unit_test(memory_of_the_caller),
        cmocka_unit_test(matmul),  cmocka_unit_test(elementwise),    cmocka_unit_test(transpose),
        cmocka_unit_test(refused), cmocka_unit_test(places),         cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
