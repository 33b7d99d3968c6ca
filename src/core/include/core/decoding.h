/* A network that goes on with texts: its decoding programs (core/decode.h) and what they keep. Rows are texts of their
 * own, of any lengths; a row's numbers do not depend on the others. */
#ifndef DT_CORE_DECODING_H
#define DT_CORE_DECODING_H

#include "core/decode.h"
#include "core/program.h"

/* Places that a run reads of a row at once, where there are as many. A text may be read in parts of a multiple of these: its
 * numbers are the same. */
enum { DT_DECODING_CHUNK = 32 };

typedef struct dt_decoding_options {
    dt_store *store;             /* of the weights; outlives the decoder */
    const dt_graph *forward;     /* for evaluation, of any number of rows; read by create alone */
    const char *tokens, *output; /* its input [rows, T] and its output [rows, T, words] */
    int64_t rows;
    int64_t capacity; /* places that are kept, where attention keeps them; 0: T */
    bool fuse;        /* passes that only make it faster */
    bool capture;     /* replay programs as one graph of the device, where it can */
} dt_decoding_options;

typedef struct dt_decoding dt_decoding;

/* Compiles and allocates. DT_ERR_UNSUPPORTED: what dt_decode_graph refuses; DT_ERR_CONFIG: more places than learnt positions. */
dt_status dt_decoding_create(const dt_decoding_options *o, dt_decoding **out);
void dt_decoding_destroy(dt_decoding *d); /* accepts NULL; before the store */

/* The row is empty again. */
dt_status dt_decoding_reset(dt_decoding *d, int64_t row);
/* Reads on: token[row] [n[row]], 0 <= n[row], in each row. *logits: fp32 [rows, words], what each row that read something
 * says comes next; they belong to the decoder and stay until the next call. Waits for the device. DT_ERR_DATA: no
 * such word; DT_ERR_USAGE: more places than dt_decoding_room says. Nothing is read then. */
dt_status dt_decoding_read(dt_decoding *d, const int32_t *const *token, const int64_t *n,
                           const float **logits);

/* Places that the row has. */
int64_t dt_decoding_length(const dt_decoding *d, int64_t row);
/* Places that a row may have; INT64_MAX: any number. */
int64_t dt_decoding_capacity(const dt_decoding *d);
int64_t dt_decoding_words(const dt_decoding *d);
/* Of caches, activations and inputs. */
int64_t dt_decoding_bytes(const dt_decoding *d);

#endif
