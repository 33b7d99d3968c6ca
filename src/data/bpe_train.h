/* Learning the merges of a bpe tokenizer: the pair that is most frequent becomes a token, again and again. Equal texts
 * give equal merges; among pairs that are as frequent the lowest ids win. */
#ifndef DT_DATA_BPE_TRAIN_H
#define DT_DATA_BPE_TRAIN_H

#include "data/tokenizer.h"

enum {
    DT_BPE_VOCAB_MIN = 257,        /* the bytes and the end */
    DT_BPE_TRAIN_BYTES = 1 << 30,  /* of text at most */
    DT_BPE_TRAIN_PIECE_BYTES = 256 /* longer words are counted in parts of it */
};

typedef struct dt_bpe_trainer dt_bpe_trainer;
dt_status dt_bpe_trainer_new(dt_bpe_trainer **out);
void dt_bpe_trainer_free(dt_bpe_trainer *t); /* accepts NULL */
/* Counts the words of a text, or of a part of one that was cut at dt_piece_cut. */
dt_status dt_bpe_trainer_add(dt_bpe_trainer *t, const uint8_t *text, int64_t n);
/* At most n_vocab tokens; fewer where no pair is left that stands there twice. The counts are used up. */
dt_status dt_bpe_trainer_finish(dt_bpe_trainer *t, int64_t n_vocab, dt_tokenizer **out);

#endif
