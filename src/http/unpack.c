#include "private.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

dt_status dt_http_unpack(const char *in, size_t n_in, size_t pad, size_t limit, char **out, size_t *n) {
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in, .avail_in = (uInt)n_in};
    size_t room = 0, used = 0;
    char *s = NULL;
    dt_status st = DT_OK;
    *out = NULL, *n = 0;
    if (n_in > UINT32_MAX) return dt_fail(DT_ERR_BUSY, "the body is too large");
    if (inflateInit2(&z, 32 + MAX_WBITS) != Z_OK) /* gzip or zlib, as its first bytes say */
        return dt_fail(DT_ERR_MEMORY, "no memory to unpack a body");
    for (int more = Z_OK; st == DT_OK && more != Z_STREAM_END;) {
        if (used == room) {
            if (room > limit) {
                st = dt_fail(DT_ERR_BUSY, "the body is more than %zu bytes when unpacked", limit);
                break;
            }
            room = room ? 2 * room : 4 * n_in + 4096;
            if (room > limit + 1) room = limit + 1;
            char *larger = realloc(s, pad + room + 1);
            if (!larger) {
                st = dt_fail(DT_ERR_MEMORY, "no memory to unpack a body");
                break;
            }
            s = larger;
        }
        const size_t piece = room - used < UINT32_MAX ? room - used : UINT32_MAX;
        z.next_out = (Bytef *)s + pad + used, z.avail_out = (uInt)piece;
        more = inflate(&z, Z_NO_FLUSH);
        used += piece - z.avail_out;
        if (more != Z_OK && more != Z_STREAM_END)
            st = dt_fail(DT_ERR_DATA, "the packed body is damaged or cut off");
    }
    inflateEnd(&z);
    if (st == DT_OK && used > limit)
        st = dt_fail(DT_ERR_BUSY, "the body is more than %zu bytes when unpacked", limit);
    if (st != DT_OK) {
        free(s);
        return st;
    }
    s[pad + used] = '\0';
    *out = s, *n = used;
    return DT_OK;
}
