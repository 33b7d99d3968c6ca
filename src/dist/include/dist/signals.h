/* Requests to stop: SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2 and SIGXCPU set one flag, nothing else.
 *
 * The trainer looks at the flag in its loops and lets all ranks agree. A third SIGINT or SIGTERM has its
 * default effect, for a run that does not come to the point where it looks; SIGTERMs within a fifth of a
 * second count as one, as a launcher and a scheduler may both pass one on. SIGHUP stays ignored where it was
 * ignored when the process began (nohup). SIGPIPE and SIGXFSZ are ignored: they become errors of write. */
#ifndef DT_DIST_SIGNALS_H
#define DT_DIST_SIGNALS_H

#include "core/status.h"
#include "core/types.h"

/* At start, and again after a library may have replaced the handlers; requests that came before still
 * count. */
dt_status dt_signal_install(void);
bool dt_signal_pending(void);

#endif
