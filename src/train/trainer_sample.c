/* Texts while a run trains: one sees what the loss means. They read the weights and change nothing. */
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "trainer_internal.h"

bool dt_trainer_sample_due(const dt_trainer *t, int64_t step) {
    const int64_t every = t->config->train.sample_every_steps;
    return every > 0 && step % every == 0;
}

static dt_status begin(dt_trainer *t) {
    const dt_train_options *o = &t->config->train;
    return dt_generator_begin(t->speaker.generator, 0, (const uint8_t *)o->sample_prompt,
                              (int64_t)strlen(o->sample_prompt), o->sample_tokens, (uint64_t)t->step);
}

/* All that can be wrong with a sample is so now. */
static dt_status open_speaker(dt_trainer *t) {
    dt_dataset_info info;
    dt_dataset_info_get(t->session.train_data, &info);
    DT_TRY(dt_data_facts_of(t->session.train_data, &t->facts));
    const dt_generator_options o = {
        .tokenizer = t->facts.tokenizer,
        .rows = 1,
        .draw = {.temperature = 0.8, .top_p = 1, .seed = (uint64_t)t->config->run.seed}};
    dt_status st = t->facts.tokenizer ? dt_speaker_open(t->config, t->session.engine, &info, &o, &t->speaker)
                                      : dt_fail(DT_ERR_CONFIG, "%s is no text", t->config->data.train);
    if (st == DT_OK) st = begin(t);
    if (st == DT_ERR_USAGE || st == DT_ERR_UNSUPPORTED || st == DT_ERR_DATA) st = DT_ERR_CONFIG;
    if (st != DT_OK) dt_error_context("train.sample_every_steps");
    return st;
}

dt_status dt_trainer_open_samples(dt_trainer *t) {
    if (t->config->train.sample_every_steps == 0) return DT_OK;
    return dt_comm_agree(t->mpi, t->root ? open_speaker(t) : DT_OK);
}

void dt_trainer_close_samples(dt_trainer *t) {
    dt_speaker_close(&t->speaker);
    dt_data_facts_free(&t->facts);
}

/* The bytes with what is not UTF-8, or is 0, which readers of records stumble over, replaced; NULL when out of memory. */
static char *as_utf8(const uint8_t *text, int64_t n, size_t *n_out) {
    static const char replacement[] = "\xEF\xBF\xBD";
    char *out = malloc((size_t)n * 3 + 1);
    *n_out = 0;
    for (int64_t i = 0; out && i < n;) {
        char four[5] = {0};
        memcpy(four, text + i, (size_t)dt_min_i64(4, n - i));
        const int size = four[0] ? dt_utf8_bytes(four) : 0;
        memcpy(out + *n_out, size ? four : replacement, size ? (size_t)size : 3);
        *n_out += size ? (size_t)size : 3;
        i += size ? size : 1;
    }
    return out;
}

static dt_status record(dt_trainer *t) {
    dt_generated g;
    size_t n_text, n_prompt;
    const char *asked = t->config->train.sample_prompt;
    dt_generator_get(t->speaker.generator, 0, &g);
    char *text = as_utf8(g.text, g.n_text, &n_text),
         *prompt = as_utf8((const uint8_t *)asked, (int64_t)strlen(asked), &n_prompt);
    const bool made = text && prompt;
    if (made) {
        prompt[n_prompt] = 0;
        const dt_sample_record r = {
            .step = t->step, .prompt = prompt, .text = text, .n_text = n_text, .n_token = g.n_token};
        dt_metrics_sample(t->metrics, &r);
    }
    free(text);
    free(prompt);
    return made ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for a sample");
}

/* Weights that have become no numbers are the loss's affair, which tells of them. */
static dt_status forgiven(dt_trainer *t, dt_status st) {
    if (st != DT_ERR_NONFINITE) return st;
    dt_metrics_note(t->metrics, "no sample at step %lld: %s", (long long)t->step, dt_error_text());
    dt_generator_end(t->speaker.generator, 0);
    return DT_OK;
}

/* Tokens for a moment, so that nobody waits long; whether there are more to come. */
static dt_status speak(dt_trainer *t, bool *more) {
    static const double MOMENT_S = 0.5;
    const double start_s = dt_time_s();
    dt_generator *g = t->speaker.generator;
    while (dt_generator_goes_on(g, 0) && dt_time_s() - start_s < MOMENT_S)
        DT_TRY(forgiven(t, dt_generator_step(g)));
    *more = dt_generator_goes_on(g, 0);
    return DT_OK;
}

static dt_status tell(dt_trainer *t) {
    dt_generated g;
    double more = 1;
    DT_TRY(dt_comm_agree(t->mpi, t->root ? begin(t) : DT_OK));
    while (more > 0) {
        bool goes_on = false;
        dt_watchdog_beat(t->session.watchdog, t->step, "a sample");
        DT_TRY(dt_comm_agree(t->mpi, t->root ? speak(t, &goes_on) : DT_OK));
        more = goes_on;
        DT_TRY(dt_comm_max_host(t->mpi, &more, 1));
    }
    if (!t->root) return DT_OK;
    dt_generator_get(t->speaker.generator, 0, &g);
    return g.end ? record(t) : DT_OK;
}

dt_status dt_trainer_sample(dt_trainer *t) {
    double ignored[DT_METRIC_COUNT];
    DT_TRY(dt_engine_eval_begin(t->session.engine, t->config->train.ema > 0));
    const dt_status told = dt_comm_agree(t->mpi, tell(t));
    DT_TRY(dt_engine_eval_end(t->session.engine, ignored));
    t->last_result_s = dt_time_s();
    return told;
}
