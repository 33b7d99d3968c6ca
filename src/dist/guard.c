/* The guard of dt_launcher_guard. */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "launcher.h"
#include "proc.h"

/* mpirun needs 2 s to end ranks that do not end by themselves, and each of its hosts may be slow. */
static const double patience_s = 20;
static const double look_s = 0.25;

enum { CHILDREN_MAX = 1024 };

/* Launchers that serve one job and end with it: no daemon of a site. */
static bool is_launcher(const dt_proc *p) {
    static const char *const name[] = {"mpirun", "mpiexec", "orterun", "prterun", "orted"};
    for (size_t i = 0; i < sizeof name / sizeof name[0]; i++)
        if (strcmp(p->name, name[i]) == 0) return true;
    return false;
}

static bool still_runs(const dt_proc *p) {
    dt_proc now;
    return dt_proc_read(p->pid, &now) && now.start == p->start && now.state != 'Z';
}

/* A rank of it is alive. */
static bool has_rank(const dt_proc *launcher, dt_proc *child, int *n) {
    *n = dt_proc_children(launcher->pid, child, CHILDREN_MAX);
    for (int i = 0; i < *n; i++)
        if (child[i].pid != getpid() && child[i].state != 'Z' && dt_proc_is_this_program(child[i].pid))
            return true;
    return false;
}

/* It is not at its end: it waits for whoever reads its output, a pager for one, or is stopped. Stuck it waits for an
 * event or a thread of its own. */
static bool is_held_up(const dt_proc *launcher) {
    static const char *const stuck[] = {"futex", "poll", "select", "sleep"};
    char name[64];
    dt_proc_waits(launcher->pid, name, sizeof name);
    for (size_t i = 0; i < sizeof stuck / sizeof stuck[0]; i++)
        if (strstr(name, stuck[i])) return false;
    return name[0] != '\0';
}

/* Its rank has ended. SIGKILL: a launcher that is stuck at its end does not come to handle anything else.
 * What it leaves are the ssh's that connect it to other hosts; there its daemons end when they miss it. */
static void see_to_end(const dt_proc *launcher) {
    static dt_proc child[CHILDREN_MAX];
    int n = 0;
    for (double waited_s = 0; waited_s < patience_s; waited_s += look_s) {
        const struct timespec look = {.tv_nsec = (long)(look_s * 1e9)};
        nanosleep(&look, NULL);
        if (!still_runs(launcher)) return;
        if (has_rank(launcher, child, &n) || is_held_up(launcher)) waited_s = 0;
    }
    kill(launcher->pid, SIGKILL);
    for (int i = 0; i < n; i++)
        if (child[i].pid != getpid()) kill(child[i].pid, SIGTERM);
}

/* Who looks for ranks by the command line shall not find the guard. */
static void rename_self(int argc, char **argv) {
    static const char name[] = "dtrain-guard";
    (void)prctl(PR_SET_NAME, name);
    if (argc < 1 || argv[argc - 1] < argv[0]) return;
    const size_t room = (size_t)(argv[argc - 1] - argv[0]) + strlen(argv[argc - 1]);
    memset(argv[0], 0, room);
    memcpy(argv[0], name, room < sizeof name ? room : sizeof name - 1);
}

void dt_launcher_guard(int argc, char **argv) {
    const int64_t local_rank = dt_launcher_env_count("OMPI_COMM_WORLD_LOCAL_RANK");
    dt_proc launcher;
    int end[2];
    if (local_rank != 0 || !dt_proc_read(getppid(), &launcher) || !is_launcher(&launcher)) return;
    if (pipe2(end, O_CLOEXEC) != 0) return; /* a run without a guard is as good as any other */
    const pid_t pid = fork();
    if (pid != 0) {
        close(end[0]);
        if (pid < 0) close(end[1]);
        return; /* its end of the pipe closes with the rank */
    }
    static const int outlived[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGTERM, SIGUSR1,
                                   SIGUSR2, SIGPIPE, SIGTSTP, SIGXCPU};
    for (size_t i = 0; i < sizeof outlived / sizeof outlived[0]; i++) signal(outlived[i], SIG_IGN);
    (void)setsid();
    (void)!chdir("/");
    rename_self(argc, argv);
    /* mpirun waits until nobody holds the pipes that were its ranks' output. */
    dup2(end[0], 0);
    (void)close_range(1, UINT_MAX, 0);
    char byte;
    while (read(0, &byte, 1) < 0) {
    }
    see_to_end(&launcher);
    _exit(0);
}
