/* Colours edited by the op EDIT: torchvision's bytes; rows that ask for what it does not know. */
#include "op_cases.h"

#include "cpu/cpu.h"
#include "edit_golden.h"

static dt_backend *open_cpu(void) {
    dt_backend *be;
    op_ok(dt_backend_cpu_create(&(dt_backend_options){.local_world = 1, .threads = 2}, &be));
    return be;
}

static void test_golden(void **state) {
    (void)state;
    dt_backend *be = open_cpu();
    assert_true(edit_check_golden(be) > 20);
    be->destroy(be);
}

static void test_unknown_edits_are_refused(void **state) {
    static const dt_edit_row bad[] = {{.n = -1},
                                      {.n = DT_EDIT_ROW_MAX + 1},
                                      {.n = 1, .edit = {{DT_EDIT_SHARPNESS, 1}}},
                                      {.n = 2, .edit = {{DT_EDIT_HUE, 0}, {(dt_edit_kind)-3, 1}}}};
    const op_case c = {.op = DT_OP_EDIT, .in = {{IN_BYTE, {1, 3, 3, 3}}, {IN_EDIT, {1, DT_EDIT_INTS}}}};
    (void)state;
    dt_backend *be = open_cpu();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        dt_graph *g = op_case_graph(&c, DT_DTYPE_F32);
        op_run r = op_run_open(be, g, &op_step, false);
        op_write_bytes(&r, dt_graph_find(g, "in1"), &bad[i]);
        assert_int_equal(r.kernel[0].run(r.kernel[0].ctx, NULL), DT_ERR_DATA);
        op_run_close(&r);
        dt_graph_destroy(g);
    }
    be->destroy(be);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden),
                                       cmocka_unit_test(test_unknown_edits_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
