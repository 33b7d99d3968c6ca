/* A network in a file, run by a program. */
#include "api_test.h"

static void test_rows_alone_and_together(void **state) {
    enum { ROW = 3 * 17 * 19, OUT = 5 };
    static float x[2 * ROW];
    float both[2 * OUT], one[OUT];
    dt_run *run;
    dt_netfile *file;
    dt_tensor *in, *out;
    (void)state;
    for (int i = 0; i < 2 * ROW; i++) x[i] = (float)(i * 37 % 101) / 50 - 1;
    OK(dt_run_open((dt_run_options){.device = DT_DEVICE_CPU, .threads = 1}, &run));
    OK(dt_netfile_open(run, DT_SOURCE_DIR "/tests/golden/onnx/nets/images/model.onnx", &file));
    assert_string_equal(dt_netfile_input(file, 0), "x");
    assert_null(dt_netfile_input(file, 1));
    assert_string_equal(dt_netfile_output(file, 0), "y");
    for (int rows = 2; rows >= 1; rows--) {
        OK(dt_tensor_from(run, DT_DTYPE_F32, DT_SHAPE(rows, 3, 17, 19), x, &in));
        OK(dt_netfile_run(file, &in, &out));
        OK(dt_tensor_read(out, rows == 2 ? both : one, (int64_t)sizeof(float) * rows * OUT));
        dt_tensor_free(in);
        dt_tensor_free(out);
    }
    for (int i = 0; i < OUT; i++) assert_true(one[i] - both[i] < 1e-5f && both[i] - one[i] < 1e-5f);
    dt_tensor *wrong;
    OK(dt_tensor_from(run, DT_DTYPE_F32, DT_SHAPE(1, 2, 17, 19), x, &wrong));
    FAILS(DT_ERR_USAGE, "x", dt_netfile_run(file, &wrong, &out));
    assert_null(out);
    dt_tensor_free(wrong);
    FAILS(DT_ERR_USAGE, "x", dt_netfile_run(file, &wrong, &out)); /* freed */
    dt_netfile_free(file);
    dt_netfile_free(file);
    OK(dt_netfile_open(run, DT_SOURCE_DIR "/tests/golden/keras/windows.keras", &file));
    assert_string_equal(dt_netfile_input(file, 0), "pixels");
    dt_netfile_free(file);
    FAILS(DT_ERR_DATA, "gone.onnx", dt_netfile_open(run, "gone.onnx", &file));
    assert_null(file);
    dt_run_close(run);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows_alone_and_together)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
