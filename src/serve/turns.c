#include "turns.h"

void dt_turns_init(dt_turns *t) {
    *t = (dt_turns){.asked = 0};
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->next, NULL);
}

void dt_turns_fini(dt_turns *t) {
    pthread_cond_destroy(&t->next);
    pthread_mutex_destroy(&t->lock);
}

void dt_turns_take(dt_turns *t) {
    pthread_mutex_lock(&t->lock);
    const uint64_t mine = t->asked++;
    while (t->given != mine) pthread_cond_wait(&t->next, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

void dt_turns_give(dt_turns *t) {
    pthread_mutex_lock(&t->lock);
    t->given++;
    if (t->asked != t->given) pthread_cond_broadcast(&t->next);
    pthread_mutex_unlock(&t->lock);
}
