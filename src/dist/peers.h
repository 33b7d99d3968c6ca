/* The other ranks on this host, as processes: a rank that is killed says nothing, but the kernel knows.
 * Private to src/dist. */
#ifndef DT_DIST_PEERS_H
#define DT_DIST_PEERS_H

#include "core/types.h"

typedef struct dt_peers {
    int32_t n;
    struct dt_peer {
        int fd; /* pidfd */
        int32_t rank;
    } * peer;
} dt_peers;

typedef struct dt_peer_id {
    int64_t pid, rank;
} dt_peer_id;

/* Of the n ranks of this host, this one among them. Where one cannot be watched (another process namespace,
 * an old kernel), none is. */
void dt_peers_open(dt_peers *p, int32_t n, const dt_peer_id *id);
/* The lowest rank that has ended; -1: none. From any thread. *lowest_alive: the lowest that has not, or
 * INT32_MAX. */
int32_t dt_peers_ended(const dt_peers *p, int32_t *lowest_alive);
void dt_peers_close(dt_peers *p);

#endif
