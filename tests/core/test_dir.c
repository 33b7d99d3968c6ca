/* Directories that are created: parents too, again, and what stands in the way. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/dir.h"
#include "test_check.h"

static void test_create(void **state) {
    (void)state;
    char top[] = "/tmp/dt-dir-XXXXXX", path[64], command[80];
    struct stat st;
    assert_non_null(mkdtemp(top));
    snprintf(path, sizeof path, "%s/a/b//c/", top);
    check_ok(dt_dir_create(path));
    check_ok(dt_dir_create(path));
    assert_true(stat(path, &st) == 0 && S_ISDIR(st.st_mode));
    snprintf(path, sizeof path, "%s/a/file", top);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fclose(f);
    CHECK_ERROR(dt_dir_create(path), DT_ERR_IO,
                "/a/file: cannot create the directory: there is a file of this name");
    snprintf(path, sizeof path, "%s/a/file/below", top);
    CHECK_ERROR(dt_dir_create(path), DT_ERR_IO,
                "/a/file/below: cannot create the directory: Not a directory");
    CHECK_ERROR(dt_dir_create(""), DT_ERR_USAGE, "empty");
    snprintf(command, sizeof command, "rm -r %s", top);
    assert_int_equal(system(command), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_create)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
