#include "core/version.h"

const char *dt_version(void) {
    return DT_VERSION;
}

const char *dt_commit(void) {
    return DT_COMMIT;
}
