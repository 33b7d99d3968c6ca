/* Prints docs/onnx-ops.md from the rows of all ops. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "onnx/build.h"
#include "onnx/op.h"

enum { MAX_ROWS = 2048 };

static int by_name(const void *a, const void *b) {
    const dt_onnx_op *p = *(const dt_onnx_op *const *)a, *q = *(const dt_onnx_op *const *)b;
    const int domain = strcmp(p->domain, q->domain), name = strcmp(p->name, q->name);
    return domain ? domain : name ? name : p->since - q->since;
}

static bool same_op(const dt_onnx_op *p, const dt_onnx_op *q) {
    return strcmp(p->name, q->name) == 0 && strcmp(p->domain, q->domain) == 0;
}

int main(void) {
    static const dt_onnx_op *row[MAX_ROWS];
    size_t n = 0;
    for (const dt_onnx_op *op; n < MAX_ROWS && (op = dt_onnx_op_at((int32_t)n)); n++) row[n] = op;
    qsort(row, n, sizeof *row, by_name);
    printf("# Ops of ONNX models\n\n"
           "Generated from the tables of `src/onnx` (`build/tests/onnx/onnx_list_ops >docs/onnx-ops.md`). "
           "Forms: the versions "
           "of the op from which on\nanother definition holds; each holds until the next, the last up to "
           "opset 28. Kernels: "
           "where an op's form is covered (\"yes\"), it runs on\nGPUs, and is trained if it has a gradient; "
           "other ops and forms are computed on the CPU by their definition.\n\n"
           "| op | forms from | kernels |\n| --- | --- | --- |\n");
    for (size_t i = 0; i < n; i++) {
        const dt_onnx_op *op = row[i];
        printf("| %s%s%s | %d", op->domain, *op->domain ? "." : "", op->name, (int)op->since);
        for (; i + 1 < n && same_op(op, row[i + 1]); i++) printf(", %d", (int)row[i + 1]->since);
        printf(" | %s |\n", dt_onnx_op_has_nodes(op->domain, op->name) ? "yes" : "");
    }
    return 0;
}
