/* Texts about networks, for people. */
#include <stdio.h>
#include <stdlib.h>

#include "core/text.h"
#include "model/model.h"
#include "net.h"
#include "train/profile.h"

enum { PROFILE_STEPS_MAX = 10000 };

/* A stream whose text becomes the network's. */
typedef struct page {
    FILE *out;
    char *text;
    size_t size;
} page;

static dt_status open_page(page *p) {
    *p = (page){.text = NULL};
    p->out = open_memstream(&p->text, &p->size);
    return p->out ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for a text");
}

static dt_status close_page(page *p, dt_net *net, dt_status st, const char **text) {
    if (fclose(p->out) != 0 && st == DT_OK) st = dt_fail(DT_ERR_MEMORY, "no memory for a text");
    if (st != DT_OK) {
        free(p->text);
        return st;
    }
    free(net->report);
    *text = net->report = p->text;
    return DT_OK;
}

dt_status dt_net_inspect(dt_net *net, const char **text) {
    page p;
    dt_graph *g;
    DT_CHECK_NET(net);
    DT_CHECK_POINTER(text);
    *text = NULL;
    DT_TRY(dt_net_compile(net));
    DT_TRY(open_page(&p));
    const dt_status st = dt_net_instance(net->b.g, net->options.batch, true, &g);
    if (st == DT_OK) {
        const int64_t all = dt_engine_device_bytes(net->engine), store = dt_engine_store_bytes(net->engine);
        dt_model_print(g, p.out);
        fprintf(p.out, "\nmemory on %s, batch %lld\n", net->be->info.name, (long long)net->options.batch);
        fprintf(p.out, "  parameters and optimizer %12s\n", dt_bytes_text((double)store).s);
        fprintf(p.out, "  activations, inputs      %12s\n", dt_bytes_text((double)(all - store)).s);
        dt_graph_destroy(g);
    }
    return close_page(&p, net, st, text);
}

static dt_status profile_step(void *arg, int64_t step, double *wait_s) {
    (void)step;
    *wait_s = 0;
    return dt_net_step(arg);
}

static dt_status check_profile(dt_net *net, int64_t steps, const char **text) {
    if (!text) return dt_fail(DT_ERR_USAGE, "dt_net_profile: text is NULL");
    if (steps < 1 || steps > PROFILE_STEPS_MAX)
        return dt_fail(DT_ERR_CONFIG, "dt_net_profile: steps is %lld, expected 1 to %d", (long long)steps,
                       PROFILE_STEPS_MAX);
    return dt_net_settle(net);
}

dt_status dt_net_profile(dt_net *net, int64_t steps, const char **text) {
    page p;
    dt_profile nodes = {.row = NULL}, layers = {.row = NULL};
    char more[32];
    DT_CHECK_NET(net);
    if (text) *text = NULL;
    DT_TRY(dt_net_compile(net));
    snprintf(more, sizeof more, "steps %lld\n", (long long)steps);
    DT_TRY(dt_net_meet(net, check_profile(net, steps, text), __func__, more));
    DT_TRY(dt_net_all(net, open_page(&p)));
    const double lr = net->lr;
    const int64_t step = net->step;
    const dt_profile_options o = {.steps = steps, .step = profile_step, .arg = net};
    net->lr = 0;
    dt_status st = dt_profile_engine(net->engine, &o, &nodes);
    if (st == DT_OK) st = dt_net_settle(net);
    net->lr = lr;
    net->step = step;
    if (st == DT_OK) st = dt_profile_group(&nodes, DT_PROFILE_BY_LAYER, &layers);
    if (st == DT_OK) dt_profile_print(&layers, p.out);
    dt_profile_free(&nodes), dt_profile_free(&layers);
    return close_page(&p, net, st, text);
}
