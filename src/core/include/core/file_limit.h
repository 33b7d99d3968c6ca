/* Files that may not grow (ulimit -f): a write beyond the limit raises a signal that ends the process, where nobody has
 * said otherwise. A library must not: its writers hold that signal back, and see an error of the write. */
#ifndef DT_CORE_FILE_LIMIT_H
#define DT_CORE_FILE_LIMIT_H

#include <signal.h>
#include <stdbool.h>

typedef struct dt_file_limit {
    sigset_t before;  /* what this thread blocked */
    bool was_pending; /* a signal of somebody else's */
} dt_file_limit;

/* Between these two calls of one thread its writes beyond the limit fail with EFBIG, and nothing else happens. */
void dt_file_limit_begin(dt_file_limit *f);
void dt_file_limit_end(const dt_file_limit *f);

#endif
