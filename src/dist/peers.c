#include "peers.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proc.h"

void dt_peers_open(dt_peers *p, int32_t n, const dt_peer_id *id) {
    *p = (dt_peers){.peer = calloc((size_t)n, sizeof *p->peer)};
    for (int32_t i = 0; p->peer && i < n; i++) {
        if (id[i].pid == getpid()) continue;
        const int fd = dt_proc_is_this_program((pid_t)id[i].pid)
                           ? (int)syscall(SYS_pidfd_open, (pid_t)id[i].pid, 0)
                           : -1;
        if (fd < 0) {
            dt_peers_close(p);
            return;
        }
        p->peer[p->n++] = (struct dt_peer){.fd = fd, .rank = (int32_t)id[i].rank};
    }
}

int32_t dt_peers_ended(const dt_peers *p, int32_t *lowest_alive) {
    int32_t ended = INT32_MAX;
    *lowest_alive = INT32_MAX;
    for (int32_t i = 0; i < p->n; i++) {
        struct pollfd f = {.fd = p->peer[i].fd, .events = POLLIN};
        int32_t *lowest = poll(&f, 1, 0) == 1 ? &ended : lowest_alive;
        if (p->peer[i].rank < *lowest) *lowest = p->peer[i].rank;
    }
    return ended == INT32_MAX ? -1 : ended;
}

void dt_peers_close(dt_peers *p) {
    for (int32_t i = 0; i < p->n; i++) close(p->peer[i].fd);
    free(p->peer);
    *p = (dt_peers){0};
}
