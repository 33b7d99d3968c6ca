/* The checkpoint comes before the session: it knows the shape and normalisation of what the network is
 * fed. */
#include "trained.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/graph_print.h"
#include "model/lora.h"
#include "model/task.h"

#include "trainer_internal.h"

/* Reading may take longer than a rank may stand still. */
static dt_status load_patiently(const dt_config *c, dt_comm *mpi, const dt_sink *sink, dt_ckpt **out) {
    dt_watchdog *watchdog;
    mpi->timeout_s = c->dist.timeout_s;
    DT_TRY(dt_session_watch(c, mpi, mpi, &watchdog));
    dt_watchdog_pause(watchdog, true);
    const dt_status st = dt_trainer_load(c, mpi, true, sink, out);
    dt_watchdog_pause(watchdog, false);
    dt_watchdog_stop(watchdog);
    return st;
}

/* Adapters that count otherwise than in training make another network. */
static dt_status check_adapters(const dt_config *c, const dt_ckpt *k) {
    dt_config *own = c->model.lora.rank > 0 ? malloc(sizeof *own) : NULL;
    dt_status st = DT_OK;
    if (!own) return DT_OK;
    if (dt_config_parse(own, k->path, k->config_text, 0, NULL) == DT_OK) { /* else it is no command's */
        const double factor = dt_lora_factor(&c->model.lora), was = dt_lora_factor(&own->model.lora);
        if (own->model.lora.rank == c->model.lora.rank && factor != was)
            st = dt_fail(DT_ERR_CONFIG,
                         "lora.alpha makes adapters count %g times, and %s was trained with %g times "
                         "(lora.alpha = %g)",
                         factor, k->path, was, own->model.lora.alpha);
    }
    dt_config_fini(own);
    free(own);
    return st;
}

dt_status dt_trained_load(const dt_config *c, dt_comm *mpi, const dt_sink *sink, dt_trained *out) {
    *out = (dt_trained){.ckpt = NULL};
    dt_status st = load_patiently(c, mpi, sink, &out->ckpt);
    if (st != DT_OK) return st;
    if (out->ckpt->data_text) {
        st = dt_data_facts_parse(out->ckpt->data_text, &out->facts);
        out->has_facts = st == DT_OK;
        if (st != DT_OK) dt_error_context("%s", out->ckpt->path);
        if (st == DT_ERR_DATA) st = DT_ERR_CHECKPOINT;
    }
    if (st == DT_OK) st = check_adapters(c, out->ckpt);
    if (st == DT_OK) st = dt_trainer_same_file(out->ckpt, c);
    return dt_comm_agree(mpi, st);
}

void dt_trained_free(dt_trained *t) {
    dt_ckpt_free(t->ckpt);
    dt_data_facts_free(&t->facts);
    *t = (dt_trained){.ckpt = NULL};
}

static dt_status facts_of_set(const dt_config *c, const char *path, dt_data_facts *out) {
    dt_dataset *d;
    if (!path[0]) return dt_fail(DT_ERR_DATA, "no data set is named");
    DT_TRY(dt_dataset_open(&c->data, path, &d));
    const dt_status st = dt_data_facts_of(d, out);
    dt_dataset_close(d);
    return st;
}

/* The sizes, and the normalisation, that the configuration gives. */
static bool facts_of_keys(const dt_config *c, dt_data_facts *out) {
    const int64_t side = c->data.image_size;
    *out = (dt_data_facts){.info = {.height = side,
                                    .width = side,
                                    .channels = c->data.channels,
                                    .n_classes = c->model.classes,
                                    .mean = {0.5, 0.5, 0.5, 0.5},
                                    .stddev = {0.25, 0.25, 0.25, 0.25},
                                    /* Files of any size, as evaluation crops them. */
                                    .jpeg = true}};
    return side > 0 && c->data.channels > 0 && c->model.classes > 0 && c->augment.n_mean == c->data.channels;
}

dt_status dt_trained_find_facts(const dt_config *c, const char *of, dt_trained *t) {
    char text[1024];
    if (t->has_facts) return DT_OK;
    t->has_facts = true;
    if (facts_of_set(c, c->data.train, &t->facts) == DT_OK) return DT_OK;
    snprintf(text, sizeof text, "%s", dt_error_text());
    if (facts_of_set(c, c->data.val, &t->facts) == DT_OK) return DT_OK;
    if (facts_of_keys(c, &t->facts)) return DT_OK;
    t->has_facts = false;
    return dt_fail(
        DT_ERR_CONFIG,
        "%s does not say what it was trained on, as later checkpoints do, and the training set cannot be "
        "opened (%s): mend that, or set data.image_size, data.channels, model.classes, augment.mean and "
        "augment.std",
        of, text);
}

/* What the network of these options gives, as lines. */
static dt_status describe(const dt_session *s, const dt_model_options *o, char **text) {
    dt_graph *g;
    size_t size;
    *text = NULL;
    DT_TRY(dt_engine_forward_graph(s->engine, o, &s->info, false, &g));
    FILE *out = open_memstream(text, &size);
    dt_status st =
        out ? dt_graph_print_function(g, dt_graph_output(g, dt_task_of(o)->output), "", out) : DT_OK;
    if (!out || fclose(out) != 0) st = dt_fail(DT_ERR_MEMORY, "no memory to describe a network");
    dt_graph_destroy(g);
    return st;
}

/* Weights fit by name and shape into networks that do other things with them. */
static dt_status check_same(const dt_trained *t, const dt_session *s, const dt_config *made) {
    char *mine = NULL, *theirs = NULL, why[DT_GRAPH_DIFFERENCE];
    dt_status st = describe(s, &s->config->model, &mine);
    if (st == DT_OK) st = describe(s, &made->model, &theirs);
    if (st == DT_OK && !dt_graph_same_function(mine, theirs, why))
        st = dt_fail(DT_ERR_CONFIG,
                     "%s is of another network than this configuration's: %s; %s/config.toml has its own",
                     t->ckpt->path, why, t->ckpt->path);
    free(mine);
    free(theirs);
    return st;
}

/* A configuration that cannot be read, of another version, has nothing to compare; nor has a network of a C program. */
static dt_status check_network(const dt_trained *t, const dt_session *s) {
    dt_config made;
    if (!strstr(t->ckpt->config_text, "[model]")) return DT_OK;
    if (dt_config_parse(&made, "config.toml", t->ckpt->config_text, 0, NULL) != DT_OK) {
        if (s->mpi->rank == 0)
            dt_tell(s->sink, DT_NEWS_WARNING,
                    "%s: its network was not compared with this configuration's: %s", t->ckpt->path,
                    dt_error_text());
        return DT_OK;
    }
    const dt_status st = check_same(t, s, &made);
    dt_config_fini(&made);
    return st;
}

dt_status dt_trained_apply(const dt_trained *t, dt_session *s) {
    DT_TRY(dt_comm_agree(s->mpi, dt_engine_load(s->engine, t->ckpt)));
    DT_TRY(dt_comm_agree(s->mpi, check_network(t, s)));
    DT_TRY(dt_comm_agree(s->mpi, dt_trainer_same_classes(t->ckpt, s)));
    if (s->mpi->rank == 0 && !s->inputs && t->ckpt->meta.classes_xxh3 && !s->classes_xxh3)
        dt_tell(s->sink, DT_NEWS_WARNING,
                "the run's classes have names, those of this evaluation have none to compare: label "
                "k is taken for the run's class k");
    if (s->mpi->rank == 0 && dt_trainer_renormalised(t->ckpt, s))
        dt_tell(s->sink, DT_NEWS_WARNING,
                "these images are normalised with another mean and deviation than the run's: "
                "data.train is "
                "another set, or augment.mean another value");
    if (s->mpi->rank == 0 && dt_trainer_averages_weights_alone(s->config, t->ckpt))
        dt_tell(s->sink, DT_NEWS_WARNING, "%s", dt_trainer_weights_alone);
    return DT_OK;
}
