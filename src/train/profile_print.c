/* A profile for people, and as JSON. */
#include <math.h>

#include "core/text.h"
#include "json_text.h"
#include "train/profile.h"

static const char *const phase_name[DT_PROFILE_PHASES] = {"forward", "backward", "update"};
static const char *const by_name[] = {"node", "layer", "op"};

/* Of the part that a row's rate is of what the device gives; "-" where one of the two is not known. */
static dt_text part_text(double amount, double seconds, double per_s) {
    dt_text t = {"-"};
    if (amount > 0 && seconds > 0 && per_s > 0)
        snprintf(t.s, sizeof t.s, "%.0f%%", 100 * amount / seconds / per_s);
    return t;
}

static dt_text rate_text(double amount, double seconds) {
    dt_text t = {"-"};
    if (amount > 0 && seconds > 0) snprintf(t.s, sizeof t.s, "%.1f", amount / seconds / 1e9);
    return t;
}

static dt_text share_text(const dt_profile *p, double seconds) {
    dt_text t = {"-"};
    if (p->step_s > 0) snprintf(t.s, sizeof t.s, "%.1f%%", 100 * seconds / p->step_s);
    return t;
}

static void print_head(const dt_profile *p, FILE *out) {
    char ranks[32];
    snprintf(ranks, sizeof ranks, p->world > 1 ? "rank 0 of %d" : "1 rank", p->world);
    fprintf(out, "%s, %s of %lld, %s, %s, %s\n", p->model, dt_count_text(p->n_micro, "micro-batch").s,
            (long long)p->rows, ranks, p->dtype, p->device);
    if (p->copy_bytes_per_s > 0)
        fprintf(out,
                "the device gives %s (element by element, read and written) and %s (product of matrices)\n\n",
                dt_unit_text(p->copy_bytes_per_s, "B/s").s, dt_unit_text(p->product_flops_per_s, "FLOP/s").s);
    else
        fprintf(out, "there is no room left to ask what the device gives\n\n");
}

static void print_row(const dt_profile *p, const dt_profile_row *r, FILE *out) {
    fprintf(out, "%10.4f %7s", 1e3 * r->seconds, share_text(p, r->seconds).s);
    if (p->by != DT_PROFILE_BY_NODE)
        for (int k = 0; k < DT_PROFILE_PHASES; k++) fprintf(out, " %10.4f", 1e3 * r->phase_s[k]);
    fprintf(out, " %7s %8s", rate_text(r->bytes, r->seconds).s,
            part_text(r->bytes, r->seconds, p->copy_bytes_per_s).s);
    fprintf(out, " %9s %10s ", rate_text(r->flops, r->seconds).s,
            part_text(r->flops, r->seconds, p->product_flops_per_s).s);
    if (p->by != DT_PROFILE_BY_NODE) {
        fprintf(out, " %s\n", r->name);
        return;
    }
    int phase = 0;
    for (int k = 0; k < DT_PROFILE_PHASES; k++)
        if (r->phase_s[k] > 0) phase = k;
    fprintf(out, " %-8s %-34s %s\n", phase_name[phase], r->name, r->label);
}

/* A part of a step, and how much of it that is. */
static void print_part(const dt_profile *p, const char *name, double seconds, const char *remark, FILE *out) {
    fprintf(out, "  %-32s %10.4f ms %7s%s%s\n", name, 1e3 * seconds, share_text(p, seconds).s,
            remark[0] ? "  " : "", remark);
}

static void print_sum(const dt_profile *p, FILE *out) {
    fprintf(out, "\na step takes %.4f ms without profiling, %.4f ms with it (median of %s each)\n",
            1e3 * p->step_s, 1e3 * p->profiled_step_s, dt_count_text(p->n_step, "step").s);
    print_part(p, "kernels, one by one", p->kernel_s, "", out);
    for (int k = 0; k < DT_PROFILE_PHASES; k++) {
        char name[32];
        snprintf(name, sizeof name, "  %s", phase_name[k]);
        print_part(p, name, p->phase_s[k], "", out);
    }
    print_part(p, "waiting for data", p->wait_s, "", out);
    if (p->world > 1)
        print_part(p, "exchange of gradients", p->exchange_s,
                   "what backward does not hide; in a profiled step", out);
    print_part(p, "between kernels", p->gap_s,
               p->world > 1 ? "launches, and moving the exchange on; in a profiled step"
                            : "launches; in a profiled step",
               out);
    const double exchange_s = p->world > 1 ? p->exchange_s : 0;
    print_part(p, "the rest", p->step_s - p->kernel_s - p->wait_s - exchange_s - p->gap_s,
               "feeding, results, and what profiling changes; below 0: it slows kernels down", out);
}

void dt_profile_print(const dt_profile *p, FILE *out) {
    print_head(p, out);
    fprintf(out, "%10s %7s", "ms", "share");
    if (p->by != DT_PROFILE_BY_NODE)
        for (int k = 0; k < DT_PROFILE_PHASES; k++) fprintf(out, " %10s", phase_name[k]);
    fprintf(out, " %7s %8s %9s %10s ", "GB/s", "of copy", "GFLOP/s", "of product");
    if (p->by == DT_PROFILE_BY_NODE)
        fprintf(out, " %-8s %-34s %s\n", "phase", "node", "kernel");
    else
        fprintf(out, " %s\n", by_name[p->by]);
    for (int32_t i = 0; i < p->n_row; i++) print_row(p, &p->row[i], out);
    print_sum(p, out);
}

/* JSON has no NaN. */
static void json_number(FILE *out, const char *name, double x) {
    fprintf(out, ",\"%s\":", name);
    if (isfinite(x))
        fprintf(out, "%.9g", x);
    else
        fputs("null", out);
}

static void json_text(FILE *out, const char *name, const char *text) {
    fprintf(out, ",\"%s\":", name);
    dt_json_text(out, text);
}

void dt_profile_print_json(const dt_profile *p, FILE *out) {
    fprintf(
        out,
        "{\"rank\":%d,\"ranks\":%d,\"global_batch\":%lld,\"micro_batches\":%lld,\"rows\":%lld,\"steps\":%lld",
        p->rank, p->world, (long long)p->global_batch, (long long)p->n_micro, (long long)p->rows,
        (long long)p->n_step);
    json_text(out, "model", p->model);
    json_text(out, "device", p->device);
    json_text(out, "dtype", p->dtype);
    json_number(out, "copy_bytes_per_s", p->copy_bytes_per_s);
    json_number(out, "product_flops_per_s", p->product_flops_per_s);
    json_number(out, "step_s", p->step_s);
    json_number(out, "profiled_step_s", p->profiled_step_s);
    json_number(out, "kernel_s", p->kernel_s);
    for (int k = 0; k < DT_PROFILE_PHASES; k++) {
        char name[32];
        snprintf(name, sizeof name, "%s_s", phase_name[k]);
        json_number(out, name, p->phase_s[k]);
    }
    json_number(out, "wait_s", p->wait_s);
    json_number(out, "exchange_s", p->world > 1 ? p->exchange_s : 0);
    json_number(out, "gap_s", p->gap_s);
    json_text(out, "by", by_name[p->by]);
    fputs(",\"rows_by_time\":[", out);
    for (int32_t i = 0; i < p->n_row; i++) {
        const dt_profile_row *r = &p->row[i];
        fprintf(out, "%s\n{\"calls\":%d", i > 0 ? "," : "", r->n_call);
        json_text(out, "name", r->name);
        json_text(out, "layer", r->layer);
        json_text(out, "op", r->op);
        json_text(out, "kernel", r->label);
        json_number(out, "seconds", r->seconds);
        for (int k = 0; k < DT_PROFILE_PHASES; k++) {
            char name[32];
            snprintf(name, sizeof name, "%s_s", phase_name[k]);
            json_number(out, name, r->phase_s[k]);
        }
        json_number(out, "share", p->step_s > 0 ? r->seconds / p->step_s : 0);
        json_number(out, "bytes", r->bytes);
        json_number(out, "flops", r->flops);
        fputc('}', out);
    }
    fputs("]}\n", out);
}
