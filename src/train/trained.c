/* The checkpoint comes before the session: it knows the shape and normalisation of what the network is
 * fed. */
#include "trained.h"

#include <stdio.h>
#include <string.h>

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

dt_status dt_trained_apply(const dt_trained *t, dt_session *s) {
    DT_TRY(dt_comm_agree(s->mpi, dt_engine_load(s->engine, t->ckpt)));
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
