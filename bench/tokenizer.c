/* tokenizer FILE [MERGES]: how fast text becomes tokens on one core, by bytes and by a bpe tokenizer of GPT-2's files, or
 * one of 4096 tokens learnt from the text itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bpe_train.h"
#include "core/types.h"
#include "files.h"

/* Of this thread's core, whatever else the machine does. */
static double core_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

enum { SECONDS = 2, FILE_BYTES_MAX = 1 << 30, LEARNT_TOKENS = 4096 };

static dt_status learn(const uint8_t *text, int64_t n, dt_tokenizer **out) {
    dt_bpe_trainer *trainer;
    const double begin_s = core_s();
    dt_status status = dt_bpe_trainer_new(&trainer);
    if (status == DT_OK) status = dt_bpe_trainer_add(trainer, text, n);
    if (status == DT_OK) status = dt_bpe_trainer_finish(trainer, LEARNT_TOKENS, out);
    dt_bpe_trainer_free(trainer);
    printf("learnt in %.2f s\n", core_s() - begin_s);
    return status;
}

static dt_status measure(const dt_tokenizer *t, const uint8_t *text, int64_t n) {
    dt_coder *c;
    dt_tokens ids = {NULL};
    dt_tokenizer_info info;
    double seconds = 0;
    int64_t runs = 0;
    dt_tokenizer_info_get(t, &info);
    DT_TRY(dt_coder_new(t, &c));
    dt_status status = dt_coder_encode(c, text, n, &ids); /* warm */
    for (const double begin_s = core_s(); status == DT_OK && seconds < SECONDS; runs++) {
        ids.n = 0;
        status = dt_coder_encode(c, text, n, &ids);
        seconds = core_s() - begin_s;
    }
    if (status == DT_OK)
        printf("%-20s %6.1f MB/s, %.2f bytes a token\n", info.name, (double)(n * runs) / seconds * 1e-6,
               (double)n / (double)ids.n);
    dt_coder_free(c);
    free(ids.id);
    return status;
}

int main(int argc, char **argv) {
    uint8_t *text = NULL;
    int64_t n = 0;
    dt_tokenizer *byte = NULL, *bpe = NULL;
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: tokenizer FILE [MERGES]\n");
        return 2;
    }
    dt_status status = dt_file_read(argv[1], FILE_BYTES_MAX, &text, &n);
    if (status == DT_OK && n == 0) status = dt_fail(DT_ERR_DATA, "%s: it is empty", argv[1]);
    if (status == DT_OK) status = dt_tokenizer_byte(&byte);
    if (status == DT_OK) status = argc == 3 ? dt_tokenizer_read(argv[2], NULL, &bpe) : learn(text, n, &bpe);
    if (status == DT_OK) status = measure(byte, text, n);
    if (status == DT_OK) status = measure(bpe, text, n);
    if (status != DT_OK) fprintf(stderr, "%s\n", dt_error_text());
    dt_tokenizer_close(byte);
    dt_tokenizer_close(bpe);
    free(text);
    return dt_status_exit_code(status);
}
