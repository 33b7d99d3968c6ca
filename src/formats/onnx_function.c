/* Functions of a model, put where they are called. */
#include <stdlib.h>
#include <string.h>

#include "onnx_private.h"

enum {
    CALLS_DEEP_MAX = 32,
    FUNCTION_NAME = 1,
    FUNCTION_IN = 4,
    FUNCTION_OUT = 5,
    FUNCTION_NODE = 7,
    FUNCTION_OPSET = 9,
    FUNCTION_DOMAIN = 10,
    FUNCTION_DEFAULT = 11,
    FUNCTION_OVERLOAD = 13
};

const char *dt_onnx_plain_domain(const char *domain) {
    return strcmp(domain, "ai.onnx") == 0 ? "" : domain;
}

static int by_formal(const void *a, const void *b) {
    return strcmp(((const dt_onnx_formal *)a)->name, ((const dt_onnx_formal *)b)->name);
}

/* The name of a value in a function's body, as the graph that calls it knows it. */
dt_status dt_onnx_rename_value(dt_onnx_reader *rd, const dt_onnx_scope *scope, const char **name) {
    if (!scope || !**name) return DT_OK;
    const dt_onnx_function *fn = scope->function;
    const dt_onnx_formal key = {.name = *name};
    const dt_onnx_formal *formal =
        bsearch(&key, fn->formal, (size_t)fn->n_in + (size_t)fn->n_out, sizeof key, by_formal);
    for (int32_t k = -1; formal && formal->is_out && k <= 1;
         k++) { /* an input that is handed on is an input */
        const int64_t at = formal - fn->formal + k;
        if (at >= 0 && at < fn->n_in + fn->n_out && !fn->formal[at].is_out &&
            strcmp(fn->formal[at].name, *name) == 0)
            formal = &fn->formal[at];
    }
    if (formal) {
        const bool given = formal->index < (formal->is_out ? scope->call->n_out : scope->call->n_in);
        const char *actual =
            !given ? "" : (formal->is_out ? scope->call->out : scope->call->in)[formal->index];
        if (*actual || !formal->is_out) {
            *name = actual;
            return DT_OK;
        }
    }
    const size_t n_prefix = strlen(scope->prefix), n = strlen(*name) + 1;
    char *whole;
    DT_TRY(dt_onnx_take(rd, scope, (int64_t)(n_prefix + n), &whole));
    memcpy(whole, scope->prefix, n_prefix);
    memcpy(whole + n_prefix, *name, n);
    *name = whole;
    return DT_OK;
}

static int by_function(const void *a, const void *b) {
    const dt_onnx_function *x = a, *y = b;
    const int name = strcmp(x->name, y->name), domain = strcmp(x->domain, y->domain);
    return name ? name : domain ? domain : strcmp(x->overload, y->overload);
}

const dt_onnx_function *dt_onnx_find_function(const dt_onnx_reader *rd, const char *domain, const char *name,
                                              const char *overload) {
    const dt_onnx_function key = {.domain = domain, .name = name, .overload = overload};
    return rd->functions.n > 0
               ? bsearch(&key, rd->functions.item, (size_t)rd->functions.n, sizeof key, by_function)
               : NULL;
}

/* What is wrong with putting fn in the place of a call. */
static dt_status check_call(dt_onnx_reader *rd, const dt_onnx_scope *outer, const dt_onnx_function *fn,
                            const dt_onnx_node *call) {
    for (const dt_onnx_scope *s = outer; s; s = s->outer)
        if (s->function == fn) return dt_fail(DT_ERR_DATA, "function %.200s calls itself", fn->name);
    if (outer && outer->depth >= CALLS_DEEP_MAX)
        return dt_fail(DT_ERR_DATA, "functions that call each other more than %d deep", CALLS_DEEP_MAX);
    if (call->n_in > fn->n_in || call->n_out > fn->n_out)
        return dt_fail(DT_ERR_DATA, "function %.200s has %d inputs and %d outputs, the call %d and %d",
                       fn->name, fn->n_in, fn->n_out, call->n_in, call->n_out);
    for (int32_t i = 0; i < fn->n_opset; i++) {
        int64_t version = 0;
        const dt_onnx_opset *of = (const dt_onnx_opset *)(const void *)rd->opsets.item;
        for (int64_t k = 0; k < rd->opsets.n; k++)
            if (strcmp(of[k].domain, fn->opset[i].domain) == 0) version = of[k].version;
        if (version == fn->opset[i].version) continue;
        if (version)
            return dt_fail(DT_ERR_DATA, "function %.200s is of opset %lld of \"%.200s\", the model of %lld",
                           fn->name, (long long)fn->opset[i].version, fn->opset[i].domain,
                           (long long)version);
        dt_onnx_opset *more = dt_onnx_list_add(&rd->opsets);
        if (!more) return dt_onnx_no_memory();
        *more = fn->opset[i];
    }
    return DT_OK;
}

/* An output of a function that is one of its inputs. */
static dt_status pass_inputs(dt_onnx_reader *rd, const dt_onnx_scope *scope, dt_onnx_list *nodes) {
    const dt_onnx_function *fn = scope->function;
    for (int32_t i = 1; i < fn->n_in + fn->n_out; i++) {
        const dt_onnx_formal *a = &fn->formal[i - 1], *b = &fn->formal[i];
        if (strcmp(a->name, b->name) != 0) continue;
        if (a->is_out == b->is_out)
            return dt_fail(DT_ERR_DATA, "function %.200s has two inputs or two outputs of one name",
                           fn->name);
        const int32_t in = a->is_out ? b->index : a->index, at = a->is_out ? a->index : b->index;
        if (at >= scope->call->n_out || !*scope->call->out[at]) continue;
        const char **name;
        dt_onnx_node *node = dt_onnx_list_add(nodes);
        if (!node) return dt_onnx_no_memory();
        DT_TRY(dt_onnx_take(rd, scope, 2 * (int64_t)sizeof *name, &name));
        name[0] = in < scope->call->n_in ? scope->call->in[in] : "";
        name[1] = scope->call->out[at];
        *node = (dt_onnx_node){.op = "Identity",
                               .domain = "",
                               .name = scope->prefix,
                               .n_in = 1,
                               .n_out = 1,
                               .in = name,
                               .out = name + 1};
    }
    return DT_OK;
}

dt_status dt_onnx_inline(dt_onnx_reader *rd, const dt_onnx_scope *outer, const dt_onnx_function *fn,
                         const dt_onnx_node *call, dt_onnx_list *nodes) {
    DT_TRY(check_call(rd, outer, fn, call));
    dt_onnx_scope scope = {
        .outer = outer, .function = fn, .call = call, .depth = outer ? outer->depth + 1 : 1};
    scope.prefix = dt_onnx_text(rd->m, "%.200s:%lld/", fn->name, (long long)++rd->n_call);
    if (!scope.prefix) return dt_onnx_no_memory();
    rd->inlined_bytes += (int64_t)strlen(scope.prefix);
    DT_TRY(pass_inputs(rd, &scope, nodes));
    dt_pb r = fn->body, inner;
    dt_pb_field f;
    while (dt_pb_next(&r, &f)) {
        if (f.number != FUNCTION_NODE) continue;
        DT_TRY(dt_pb_enter(&r, &f, &inner));
        DT_TRY(dt_onnx_read_node(rd, &scope, inner, nodes));
    }
    return DT_OK;
}

dt_status dt_onnx_read_opset(dt_onnx_reader *rd, const dt_pb *r, const dt_pb_field *at, dt_onnx_opset *out) {
    dt_pb inner;
    dt_pb_field f;
    *out = (dt_onnx_opset){.domain = ""};
    DT_TRY(dt_pb_enter(r, at, &inner));
    while (dt_pb_next(&inner, &f)) {
        if (f.number == 1) DT_TRY(dt_onnx_take_text(rd, NULL, &inner, &f, true, &out->domain));
        if (f.number != 2) continue;
        DT_TRY(dt_pb_want(&inner, &f, DT_PB_VARINT));
        out->version = (int64_t)f.value;
    }
    out->domain = dt_onnx_plain_domain(out->domain);
    return DT_OK;
}

static dt_status read_formals(dt_onnx_reader *rd, dt_onnx_function *fn, dt_onnx_list *formals,
                              dt_onnx_list *opsets) {
    dt_pb r = fn->body;
    dt_pb_field f;
    while (dt_pb_next(&r, &f)) {
        if (f.number == FUNCTION_NAME) DT_TRY(dt_onnx_take_text(rd, NULL, &r, &f, true, &fn->name));
        if (f.number == FUNCTION_DOMAIN) DT_TRY(dt_onnx_take_text(rd, NULL, &r, &f, true, &fn->domain));
        if (f.number == FUNCTION_OVERLOAD) DT_TRY(dt_onnx_take_text(rd, NULL, &r, &f, true, &fn->overload));
        if (f.number == FUNCTION_OPSET) {
            dt_onnx_opset *opset = dt_onnx_list_add(opsets);
            if (!opset) return dt_onnx_no_memory();
            DT_TRY(dt_onnx_read_opset(rd, &r, &f, opset));
        }
        if (f.number != FUNCTION_IN && f.number != FUNCTION_OUT) continue;
        dt_onnx_formal *formal = dt_onnx_list_add(formals);
        if (!formal) return dt_onnx_no_memory();
        formal->is_out = f.number == FUNCTION_OUT;
        formal->index = formal->is_out ? fn->n_out++ : fn->n_in++;
        DT_TRY(dt_onnx_take_text(rd, NULL, &r, &f, true, &formal->name));
    }
    return DT_OK;
}

dt_status dt_onnx_read_function(dt_onnx_reader *rd, const dt_pb *r, const dt_pb_field *at) {
    dt_onnx_list formals = {.size = sizeof(dt_onnx_formal)}, opsets = {.size = sizeof(dt_onnx_opset)};
    dt_onnx_function fn = {.domain = "", .name = "", .overload = ""};
    int32_t n_formal = 0;
    DT_TRY(dt_pb_enter(r, at, &fn.body));
    dt_status st = read_formals(rd, &fn, &formals, &opsets);
    if (st == DT_OK && formals.n > 0) qsort(formals.item, (size_t)formals.n, formals.size, by_formal);
    if (st == DT_OK) st = dt_onnx_list_keep(rd, &formals, &fn.formal, &n_formal);
    if (st == DT_OK) st = dt_onnx_list_keep(rd, &opsets, &fn.opset, &fn.n_opset);
    dt_onnx_list_free(&formals), dt_onnx_list_free(&opsets);
    if (st == DT_OK) st = dt_onnx_read_attrs(rd, NULL, &fn.body, FUNCTION_DEFAULT, &fn.attr, &fn.n_attr);
    fn.domain = dt_onnx_plain_domain(fn.domain);
    dt_onnx_function *kept = st == DT_OK ? dt_onnx_list_add(&rd->functions) : NULL;
    if (st == DT_OK && !kept) st = dt_onnx_no_memory();
    if (kept) *kept = fn;
    if (st != DT_OK) dt_error_context("function '%.200s'", fn.name);
    return st;
}

dt_status dt_onnx_sort_functions(dt_onnx_reader *rd) {
    dt_onnx_function *fn = (dt_onnx_function *)(void *)rd->functions.item;
    if (rd->functions.n > 0) qsort(fn, (size_t)rd->functions.n, sizeof *fn, by_function);
    for (int64_t i = 1; i < rd->functions.n; i++)
        if (by_function(&fn[i - 1], &fn[i]) == 0)
            return dt_fail(DT_ERR_DATA, "two functions are called '%.200s'", fn[i].name);
    return DT_OK;
}
