/* Texts that a network goes on with: tokenizer and draws around a decoder (core/decoding.h). */
#ifndef DT_TRAIN_GENERATE_H
#define DT_TRAIN_GENERATE_H

#include "core/decoding.h"
#include "data/tokenizer.h"

/* How the next token is chosen, in this order: the logits are divided by the temperature; all but the top_k largest go
 * (those equal to the last of them stay); of the probabilities of what is left the largest stay, as long as the sum of those before is
 * less than top_p, at least one; one of these is drawn by its probability among them. (Hugging Face's order and definitions.) */
typedef struct dt_draw_options {
    double temperature; /* 0: the likeliest token, of equals the lowest; nothing is drawn */
    int64_t top_k;      /* 0: all */
    double top_p;       /* in (0, 1]; 1: all */
    uint64_t seed;
} dt_draw_options;

/* DT_ERR_USAGE: an option is out of its range. */
dt_status dt_draw_check(const dt_draw_options *o);
/* Memory that a draw among n tokens wants. */
int64_t dt_draw_bytes(int64_t n);
/* The draw of this text and place: a function of its arguments alone. logits [n]; `room` of dt_draw_bytes(n).
 * DT_ERR_NONFINITE: a logit is not finite. */
dt_status dt_draw_token(const dt_draw_options *o, const float *logits, int64_t n, uint64_t text,
                        uint64_t place, void *room, int32_t *out);

typedef struct dt_generator_options {
    dt_decoding *decoder;          /* borrowed, of `rows` rows */
    const dt_tokenizer *tokenizer; /* borrowed */
    int64_t rows;
    dt_draw_options draw;
    bool no_stop; /* the end of a document is a token like others; else it ends a text */
    bool
        window; /* a text that fills the decoder's capacity goes on from its last half; else that is refused beforehand */
    bool no_cache; /* every token is told from all before it anew: to compare with */
    int64_t
        most_read; /* places of a text that a step reads at most, so that a long prompt holds nobody up: a multiple of
                          DT_DECODING_CHUNK, which changes no text; 0: all. Not with no_cache */
} dt_generator_options;

typedef enum dt_text_end { DT_TEXT_GOES_ON = 0, DT_TEXT_FULL, DT_TEXT_STOPPED, DT_TEXT_FAILED } dt_text_end;
extern const char *const dt_text_end_names[]; /* "", "tokens", "stop", "failed" */

/* A text so far; valid until the next call for its generator. */
typedef struct dt_generated {
    const int32_t *token; /* [n_prompt + n_token], without an end that stopped it */
    int64_t n_prompt, n_token;
    const uint8_t *text; /* [n_text] what follows the prompt */
    int64_t n_text;
    int64_t n_whole; /* of these bytes, without the beginning of a character whose rest may follow */
    dt_text_end end;
} dt_generated;

typedef struct dt_generator dt_generator;

enum { DT_TEXT_ALL = -1 }; /* tokens of a text: until it stops, or there is no more room */

dt_status dt_generator_new(const dt_generator_options *o, dt_generator **out);
void dt_generator_free(dt_generator *g); /* accepts NULL */
/* The row becomes a text that begins with these n bytes (of a tokenizer of ids: numbers), and is to get `most` tokens more (DT_TEXT_ALL: as many as come). An empty one
 * begins as a document does, after the end of another. `sample` tells texts of one prompt apart; a text follows from prompt, seed and sample alone. DT_ERR_USAGE: more
 * than the network has places for; DT_ERR_DATA: no prompt of this tokenizer. The row is then as before. */
dt_status dt_generator_begin(dt_generator *g, int64_t row, const uint8_t *prompt, int64_t n, int64_t most,
                             uint64_t sample);
/* Of the row's text from here on, instead of the generator's. */
void dt_generator_set_draw(dt_generator *g, int64_t row, const dt_draw_options *draw, bool no_stop);
/* A token more in each text that goes on and has read its prompt. Of a failure that is a text's own (DT_ERR_NONFINITE)
 * that text ends, DT_TEXT_FAILED, and the others have their token. */
dt_status dt_generator_step(dt_generator *g);
void dt_generator_get(const dt_generator *g, int64_t row, dt_generated *out);
/* The row is no text any more. */
void dt_generator_end(dt_generator *g, int64_t row);
/* Whether the row is a text that goes on. */
bool dt_generator_goes_on(const dt_generator *g, int64_t row);

/* Places that a text may have; INT64_MAX: any number. */
int64_t dt_generator_capacity(const dt_generator *g);

#endif
