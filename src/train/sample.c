/* Prompts wait for a row of the decoder, and each row takes the next one when its text has ended. */
#include "train/sample.h"

#include <string.h>

#include "core/text.h"
#include "speaker.h"
#include "text_net.h"

enum { ROWS_DEFAULT = 16, ROWS_MAX = 4096 };

typedef struct job {
    const dt_sample_options *o;
    dt_text_net net;
    dt_speaker speaker;
    int64_t rows, n_text, next;
    int64_t text[ROWS_MAX]; /* of each row */
} job;

static int64_t tokens_of(const job *j, int64_t n_prompt) {
    if (j->o->tokens >= 0) return j->o->tokens;
    const int64_t room = j->o->window ? INT64_MAX : dt_generator_capacity(j->speaker.generator) - n_prompt;
    return dt_max_i64(0, dt_min_i64(room, DT_SAMPLE_TOKENS));
}

/* The next text into the row. How many tokens there is room for is known once its prompt is encoded. */
static dt_status begin(job *j, int64_t row) {
    const int64_t text = j->next++;
    const dt_sample_prompt *p = &j->o->prompt[text / j->o->samples];
    dt_generator *g = j->speaker.generator;
    const uint64_t sample = (uint64_t)(text % j->o->samples);
    dt_generated now;
    j->text[row] = text;
    dt_status st = dt_generator_begin(g, row, p->text, p->n, j->o->tokens >= 0 ? j->o->tokens : 0, sample);
    if (st == DT_OK && j->o->tokens < 0) {
        dt_generator_get(g, row, &now);
        st = dt_generator_begin(g, row, p->text, p->n, tokens_of(j, now.n_prompt), sample);
    }
    if (st != DT_OK && j->o->n_prompt > 1)
        dt_error_context("prompt %lld", (long long)(text / j->o->samples) + 1);
    return st;
}

static dt_status tell(const job *j, int64_t row) {
    dt_generated g;
    dt_generator_get(j->speaker.generator, row, &g);
    return j->o->grown(j->o->arg, j->text[row], &g);
}

/* Rows that stand still get texts, as long as there are some; whether any goes on. */
static dt_status fill_rows(job *j, bool *any) {
    *any = false;
    for (int64_t r = 0; r < j->rows; r++) {
        while (!dt_generator_goes_on(j->speaker.generator, r) && j->next < j->n_text) {
            DT_TRY(begin(j, r));
            DT_TRY(tell(j, r));
        }
        *any |= dt_generator_goes_on(j->speaker.generator, r);
    }
    return DT_OK;
}

/* What cannot be told is said before anything is. */
static dt_status check_prompts(job *j) {
    for (; j->next < j->n_text; j->next += j->o->samples - 1) DT_TRY(begin(j, 0));
    dt_generator_end(j->speaker.generator, 0);
    j->next = 0;
    return DT_OK;
}

static dt_status speak(job *j, dt_sample_result *out) {
    bool went[ROWS_MAX], any;
    const double start_s = dt_time_s();
    DT_TRY(check_prompts(j));
    DT_TRY(fill_rows(j, &any));
    while (any) {
        for (int64_t r = 0; r < j->rows; r++) went[r] = dt_generator_goes_on(j->speaker.generator, r);
        DT_TRY(dt_generator_step(j->speaker.generator));
        for (int64_t r = 0; r < j->rows; r++) {
            if (!went[r]) continue;
            out->n_token++;
            DT_TRY(tell(j, r));
        }
        DT_TRY(fill_rows(j, &any));
    }
    out->seconds = dt_time_s() - start_s;
    return DT_OK;
}

static dt_status open_all(job *j, const dt_config *c, dt_comm *mpi) {
    const dt_sample_options *o = j->o;
    if (mpi->world > 1)
        return dt_fail(DT_ERR_USAGE,
                       "sample is for one rank: texts are told side by side in a batch (--batch)");
    DT_TRY(dt_draw_check(&o->draw));
    DT_TRY(dt_text_net_open(c, mpi, o->sink, &j->net));
    j->n_text = o->n_prompt * o->samples;
    j->rows = dt_min_i64(o->batch > 0 ? o->batch : ROWS_DEFAULT, dt_min_i64(j->n_text, ROWS_MAX));
    const dt_generator_options g = {.tokenizer = j->net.trained.facts.tokenizer,
                                    .rows = j->rows,
                                    .draw = o->draw,
                                    .no_stop = o->no_stop,
                                    .window = o->window,
                                    .no_cache = o->no_cache};
    const dt_status st =
        dt_speaker_open(&j->net.c, j->net.engine, &j->net.trained.facts.info, &g, &j->speaker);
    if (st != DT_OK) dt_error_context("%s", j->net.trained.ckpt->path);
    DT_TRY(st);
    dt_tell(o->sink, DT_NEWS_NOTE, "weights of %s, step %lld%s", j->net.trained.ckpt->path,
            (long long)j->net.trained.ckpt->meta.step, j->net.c.train.ema > 0 ? ", averaged" : "");
    return DT_OK;
}

dt_status dt_sample(const dt_config *c, dt_comm *mpi, const dt_sample_options *o, dt_sample_result *out) {
    job j = {.o = o};
    *out = (dt_sample_result){0};
    dt_status st = open_all(&j, c, mpi);
    if (st == DT_OK) st = speak(&j, out);
    if (st == DT_ERR_NONFINITE) dt_error_context("%s", j.net.trained.ckpt->path);
    dt_speaker_close(&j.speaker);
    dt_text_net_close(&j.net);
    return st;
}
