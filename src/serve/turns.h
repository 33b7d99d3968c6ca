/* A lock that is had in the order in which it was asked for: who gives it back and asks again at once does not go before
 * those that wait. */
#ifndef DT_SERVE_TURNS_H
#define DT_SERVE_TURNS_H

#include <pthread.h>
#include <stdint.h>

typedef struct dt_turns {
    pthread_mutex_t lock;
    pthread_cond_t next;
    uint64_t asked, given;
} dt_turns;

void dt_turns_init(dt_turns *t);
void dt_turns_fini(dt_turns *t);
void dt_turns_take(dt_turns *t);
void dt_turns_give(dt_turns *t);

#endif
