#include "text_pool.h"

#include <stdlib.h>

enum { BLOCK_BYTES = 1 << 14 };

typedef struct block {
    struct block *next;
    size_t used, size;
    char byte[];
} block;

struct dt_text_pool {
    block *first;
};

char *dt_text_pool_take(dt_text_pool **pool, size_t n) {
    if (!*pool) *pool = calloc(1, sizeof **pool);
    if (!*pool) return NULL;
    block *b = (*pool)->first;
    if (!b || b->size - b->used < n) {
        const size_t size = n > BLOCK_BYTES ? n : BLOCK_BYTES;
        b = malloc(sizeof *b + size);
        if (!b) return NULL;
        *b = (block){.next = (*pool)->first, .size = size};
        (*pool)->first = b;
    }
    b->used += n;
    return b->byte + b->used - n;
}

void dt_text_pool_free(dt_text_pool *pool) {
    if (!pool) return;
    for (block *b = pool->first, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(pool);
}
