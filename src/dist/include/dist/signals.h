/* Requests to stop: SIGTERM, SIGINT and SIGUSR1 set one flag, nothing else.
 *
 * The trainer looks at the flag in its loops and lets all ranks agree. A third SIGINT has its default effect,
 * for a run that does not come to the point where it looks. SIGPIPE and SIGXFSZ are ignored: they become
 * errors of write. */
#ifndef DT_DIST_SIGNALS_H
#define DT_DIST_SIGNALS_H

#include "core/status.h"
#include "core/types.h"

/* At start, and again after a library may have replaced the handlers; requests that came before still count.
 */
dt_status dt_signal_install(void);
bool dt_signal_pending(void);

#endif
