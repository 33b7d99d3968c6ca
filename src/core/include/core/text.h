/* Text that came from outside, on its way into a format that wants UTF-8. */
#ifndef DT_CORE_TEXT_H
#define DT_CORE_TEXT_H

#include <stdint.h>

/* Bytes of the UTF-8 character at `text` ('\0'-terminated, not at its end), 0 where there is none. */
static inline int dt_utf8_bytes(const char *text) {
    const uint8_t *b = (const uint8_t *)text;
    const int n = b[0] < 0x80                   ? 1
                  : b[0] >= 0xc2 && b[0] < 0xe0 ? 2
                  : b[0] >= 0xe0 && b[0] < 0xf0 ? 3
                  : b[0] >= 0xf0 && b[0] < 0xf5 ? 4
                                                : 0;
    for (int i = 1; i < n; i++)
        if ((b[i] & 0xc0) != 0x80) return 0;
    if (n == 3 && ((b[0] == 0xe0 && b[1] < 0xa0) || (b[0] == 0xed && b[1] >= 0xa0))) return 0;
    if (n == 4 && ((b[0] == 0xf0 && b[1] < 0x90) || (b[0] == 0xf4 && b[1] >= 0x90))) return 0;
    return n;
}

#endif
