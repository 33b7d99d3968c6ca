/* Which dtrain this is. */
#ifndef DT_CORE_VERSION_H
#define DT_CORE_VERSION_H

/* "0.1.0". */
const char *dt_version(void);
/* What `git describe` said of the source tree when it was configured; "" where there was no repository. */
const char *dt_commit(void);

#endif
