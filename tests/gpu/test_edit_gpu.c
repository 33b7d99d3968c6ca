/* Colours edited on the GPU: torchvision's bytes, which are the loader's. */
#include "gpu_test.h"

#include "edit_golden.h"

static void test_golden(void **state) {
    gpu_pair *p = *state;
    GPU_OR_SKIP(p);
    assert_true(edit_check_golden(p->gpu) > 20);
}

static struct CMUnitTest tests[] = {cmocka_unit_test(test_golden)};

GPU_TEST_MAIN("edit", tests)
