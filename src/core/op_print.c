/* The op table for people: `dtrain ops`. */
#include <string.h>

#include "core/op.h"

static void print_slots(const char *what, const dt_slot *slot, FILE *out) {
    static const char *const type[] = {
        [DT_SLOT_T] = "T",     [DT_SLOT_ANY] = "any", [DT_SLOT_FLOAT] = "float", [DT_SLOT_WEIGHT] = "weight",
        [DT_SLOT_F32] = "f32", [DT_SLOT_U8] = "u8",   [DT_SLOT_I32] = "i32"};
    fprintf(out, "  %-4s", what);
    for (int32_t i = 0; slot[i].name; i++) {
        const dt_slot *s = &slot[i];
        fprintf(out, "%s %s%s %s", i ? "," : "", s->optional ? "[" : "", s->name, type[s->type]);
        if (s->rank > 0) fprintf(out, " %dd", s->rank);
        fprintf(out, "%s%s%s", s->updated ? " updated" : "", s->many ? ", ..." : "", s->optional ? "]" : "");
    }
    fprintf(out, "\n");
}

static void print_attributes(const dt_attr_row *row, FILE *out) {
    if (!row->name) return;
    fprintf(out, "  attr %s:", row->family);
    for (int32_t i = 0; row[i].name; i++) {
        fprintf(out, "%s %s %s", i ? "," : "", row[i].name, row[i].type);
        if (row[i].count > 1) fprintf(out, "[%d]", row[i].count);
    }
    fprintf(out, "\n");
}

/* Breaks the text at spaces. */
static void print_wrapped(const char *text, FILE *out) {
    enum { WIDTH = 100 };
    while (*text) {
        size_t n = strlen(text);
        if (n > WIDTH) {
            n = WIDTH;
            while (n > 1 && text[n] != ' ') n--;
        }
        fprintf(out, "  %.*s\n", (int)n, text);
        text += n;
        while (*text == ' ') text++;
    }
}

/* "name(scalar = default)" of every function. */
static void print_functions(FILE *out) {
    fprintf(out, "\nfunctions of unary:\n\n");
    for (int32_t i = 0; i < DT_UNARY_COUNT; i++) {
        const dt_unary_row *row = &dt_unary_table[i];
        fprintf(out, "  %s", row->name);
        for (int32_t k = 0; k < DT_SCALARS_MAX && row->param[k].name; k++)
            fprintf(out, "%s%s = %g", k ? ", " : "(", row->param[k].name, (double)row->param[k].value);
        fprintf(out, "%s\n", row->param[0].name ? ")" : "");
    }
    fprintf(out, "\nfunctions of binary:\n\n");
    for (int32_t i = 0; i < DT_BINARY_COUNT; i++) fprintf(out, "  %s\n", dt_binary_table[i].name);
}

void dt_op_print_all(FILE *out) {
    fprintf(out,
            "Operands in [] may be absent. T is one floating type, in training that of the run,\n"
            "float any; weight is T, in evaluation also i8 or i4; statistics and BN parameters are f32.\n"
            "Letters: N batch, H W image, C in and K out channels, R S kernel, P Q output image, m rows.\n");
    for (int32_t internal = 0; internal < 2; internal++) {
        fprintf(out, "\n%s\n", internal ? "made by passes and by differentiation:" : "of models:");
        for (int32_t op = 0; op < DT_OP_COUNT; op++) {
            const dt_op_row *row = dt_op_get((dt_op)op);
            if (((row->flags & DT_OP_INTERNAL) != 0) != (internal == 1)) continue;
            fprintf(out, "\n%s%s%s\n", row->name, row->grad ? ", differentiable" : "",
                    row->flags & DT_OP_VIEW ? ", a view" : "");
            print_slots("in", row->in, out);
            print_slots("out", row->out, out);
            print_attributes(row->attr, out);
            print_wrapped(row->doc, out);
        }
    }
    print_functions(out);
}
