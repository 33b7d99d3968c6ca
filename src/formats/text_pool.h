/* Many small texts that are freed together. */
#ifndef DT_FORMATS_TEXT_POOL_H
#define DT_FORMATS_TEXT_POOL_H

#include <stddef.h>

typedef struct dt_text_pool dt_text_pool;

/* Room for n bytes; NULL when out of memory. *pool is created at the first call. */
char *dt_text_pool_take(dt_text_pool **pool, size_t n);
void dt_text_pool_free(dt_text_pool *pool); /* accepts NULL */

#endif
