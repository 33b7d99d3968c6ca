/* Quotas of control groups, read from trees of files as the kernel would show them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/cores.h"
#include "core/quota.h"

enum { FILES_MAX = 10 };

typedef struct file {
    const char *path, *text;
} file;

static void write_file(const char *root, const file *f) {
    char path[1024];
    snprintf(path, sizeof path, "%s%s", root, f->path);
    for (char *slash = strchr(path + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(path, 0755);
        *slash = '/';
    }
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    assert_true(fputs(f->text, out) >= 0);
    assert_int_equal(fclose(out), 0);
}

/* What is read from these files alone. */
static int64_t quota_of(const file f[FILES_MAX], int64_t (*read)(const char *root)) {
    char root[] = "/tmp/dt_quota_XXXXXX", command[64];
    assert_non_null(mkdtemp(root));
    for (int i = 0; i < FILES_MAX && f[i].path; i++) write_file(root, &f[i]);
    const int64_t quota = read(root);
    snprintf(command, sizeof command, "rm -r %s", root);
    assert_int_equal(system(command), 0);
    return quota;
}

static int64_t cpus_of(const file f[FILES_MAX]) {
    return quota_of(f, dt_quota_cpus);
}

#define V2_MOUNT "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
#define V1_MOUNT                                                                                             \
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"                                    \
    "33 31 0:30 / /sys/fs/cgroup/cpuset rw,relatime shared:9 - cgroup cgroup rw,cpuset\n"                    \
    "34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 master:1 - cgroup cgroup rw,cpu,cpuacct\n"

static void test_version_2(void **state) {
    (void)state;
    const file inner[FILES_MAX] = {
        {"/proc/self/cgroup", "0::/pod/box\n"},
        {"/proc/self/mountinfo", V2_MOUNT},
        {"/sys/fs/cgroup/pod/box/cpu.max", "250000 100000\n"},
        {"/sys/fs/cgroup/pod/cpu.max", "max 100000\n"},
        {"/sys/fs/cgroup/cpu.max", "400000 100000\n"},
    };
    assert_int_equal(cpus_of(inner), 3); /* 2.5 */
    const file outer[FILES_MAX] = {
        {"/proc/self/cgroup", "0::/pod/box\n"},
        {"/proc/self/mountinfo", V2_MOUNT},
        {"/sys/fs/cgroup/pod/box/cpu.max", "800000 100000\n"},
        {"/sys/fs/cgroup/pod/cpu.max", "10000 50000\n"},
    };
    assert_int_equal(cpus_of(outer), 1); /* a fifth */
    const file container[FILES_MAX] = {
        {"/proc/self/cgroup", "0::/\n"},
        {"/proc/self/mountinfo", V2_MOUNT},
        {"/sys/fs/cgroup/cpu.max", "200000 100000\n"},
    };
    assert_int_equal(cpus_of(container), 2);
}

static void test_version_1(void **state) {
    (void)state;
    const file f[FILES_MAX] = {
        {"/proc/self/cgroup", "5:cpuset:/elsewhere\n4:cpu,cpuacct:/docker/ab\n1:name=systemd:/docker/ab\n"},
        {"/proc/self/mountinfo", V1_MOUNT},
        {"/sys/fs/cgroup/cpu,cpuacct/docker/ab/cpu.cfs_quota_us", "-1\n"},
        {"/sys/fs/cgroup/cpu,cpuacct/docker/ab/cpu.cfs_period_us", "100000\n"},
        {"/sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us", "150000\n"},
        {"/sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_period_us", "50000\n"},
        {"/sys/fs/cgroup/cpuset/elsewhere/cpu.cfs_quota_us", "10000\n"},
        {"/sys/fs/cgroup/cpuset/elsewhere/cpu.cfs_period_us", "10000\n"},
    };
    assert_int_equal(cpus_of(f), 3);
}

/* A container sees its own part of the tree at the mount point, and the outer name of its group. */
static void test_part_of_the_tree(void **state) {
    (void)state;
    const file f[FILES_MAX] = {
        {"/proc/self/cgroup", "4:cpu:/docker/ab/job\n"},
        {"/proc/self/mountinfo", "40 39 0:31 /docker/ab /sys/fs/my\\040cgroup ro - cgroup cgroup rw,cpu\n"},
        {"/sys/fs/my cgroup/cpu.cfs_quota_us", "300000\n"},
        {"/sys/fs/my cgroup/cpu.cfs_period_us", "100000\n"},
        {"/sys/fs/my cgroup/job/cpu.cfs_quota_us", "200000\n"},
        {"/sys/fs/my cgroup/job/cpu.cfs_period_us", "100000\n"},
    };
    assert_int_equal(cpus_of(f), 2);
    const file another[FILES_MAX] = {
        {"/proc/self/cgroup", "0::/../elsewhere\n"},
        {"/proc/self/mountinfo", "40 39 0:31 /docker/ab /sys/fs/cgroup ro - cgroup2 cgroup rw\n"},
        {"/sys/fs/cgroup/cpu.max", "300000 100000\n"},
    };
    assert_int_equal(cpus_of(another), 3);
}

static void test_both_versions(void **state) {
    (void)state;
    const file f[FILES_MAX] = {
        {"/proc/self/cgroup", "1:cpu,cpuacct:/\n0::/user\n"},
        {"/proc/self/mountinfo", V1_MOUNT "38 31 0:37 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"},
        {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "700000\n"},
        {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"},
        {"/sys/fs/cgroup/unified/user/cpu.max", "500000 100000\n"},
    };
    assert_int_equal(cpus_of(f), 5);
}

static void test_hostile(void **state) {
    (void)state;
    const struct {
        const char *text;
        int64_t want;
    } max[] = {
        {"max 100000\n", 0},
        {"", 0},
        {"\n", 0},
        {"0 100000\n", 0},
        {"-1 100000\n", 0},
        {"100000 0\n", 0},
        {"100000 -5\n", 0},
        {"100000\n", 0},
        {"100000 max\n", 0},
        {"lots of it\n", 0},
        {"100000x 100000\n", 0},
        {"99999999999999999999999999 100000\n", 0},
        {"1 9223372036854775807\n", 1},
        {"9223372036854775807 1\n", INT64_MAX},
        {"100000 100000 7\n", 1},
    };
    for (size_t i = 0; i < sizeof max / sizeof max[0]; i++) {
        const file f[FILES_MAX] = {
            {"/proc/self/cgroup", "0::/a\n"},
            {"/proc/self/mountinfo", V2_MOUNT},
            {"/sys/fs/cgroup/a/cpu.max", max[i].text},
        };
        print_message("%s", max[i].text);
        assert_int_equal(cpus_of(f), max[i].want);
    }
    static const char *const group[] = {
        "", "\n", "0\n", "0:\n", "0::", "::::\n", "cpu\n", "4:cpu", "0::a/../..\n"};
    static const char *const mounts[] = {"",
                                         "-",
                                         " - \n",
                                         " - cgroup2\n",
                                         "30 24 0:26 / /sys - cgroup2 cgroup2 rw\n",
                                         "30 24 0:26 / /sys/fs/cgroup\\ \\04 rw - cgroup cgroup rw,cpu\n",
                                         V2_MOUNT};
    for (size_t i = 0; i < sizeof group / sizeof group[0]; i++)
        for (size_t k = 0; k < sizeof mounts / sizeof mounts[0]; k++) {
            const file f[FILES_MAX] = {{"/proc/self/cgroup", group[i]}, {"/proc/self/mountinfo", mounts[k]}};
            assert_int_equal(cpus_of(f), 0);
        }
    assert_int_equal(dt_quota_cpus("/nowhere"), 0);
}

static void test_memory(void **state) {
    (void)state;
    const file v2[FILES_MAX] = {{"/proc/self/cgroup", "0::/pod/box\n"},
                                {"/proc/self/mountinfo", V2_MOUNT},
                                {"/sys/fs/cgroup/pod/box/memory.max", "max\n"},
                                {"/sys/fs/cgroup/pod/memory.max", "8589934592\n"},
                                {"/sys/fs/cgroup/memory.max", "17179869184\n"}};
    assert_int_equal(quota_of(v2, dt_quota_memory), (int64_t)8 << 30);
    assert_int_equal(cpus_of(v2), 0);
    const file v1[FILES_MAX] = {{"/proc/self/cgroup", "4:memory:/job\n3:cpu,cpuacct:/other\n"},
                                {"/proc/self/mountinfo", V1_MOUNT
                                 "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"},
                                {"/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "1073741824\n"},
                                {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"}};
    assert_int_equal(quota_of(v1, dt_quota_memory), (int64_t)1 << 30);
    assert_int_equal(dt_quota_memory("/nowhere"), 0);
    const int64_t whole = dt_memory_part(INT64_MAX, 1);
    assert_true(whole > 1 << 20 && whole < INT64_MAX);
    assert_true(dt_memory_part(INT64_MAX, 0.5) <= whole / 2 + 1);
    assert_int_equal(dt_memory_part(4096, 0.5), 4096);
}

/* The quota of the host that runs this. */
static void test_share(void **state) {
    (void)state;
    const int64_t quota = dt_quota_cpus("");
    const int32_t alone = dt_cores_share(1);
    assert_true(alone >= 1 && (quota == 0 || alone <= quota));
    assert_true(dt_cores_share(2) <= alone && dt_cores_share(1 << 20) == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version_2),        cmocka_unit_test(test_version_1),
        cmocka_unit_test(test_part_of_the_tree), cmocka_unit_test(test_both_versions),
        cmocka_unit_test(test_hostile),          cmocka_unit_test(test_share),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests_name("quota", tests, NULL, NULL);
}
