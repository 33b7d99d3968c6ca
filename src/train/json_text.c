#include "json_text.h"

#include "core/text.h"

void dt_json_text(FILE *out, const char *text) {
    fputc('"', out);
    while (*text) {
        const int n = dt_utf8_bytes(text);
        const unsigned char c = (unsigned char)*text;
        if (n == 0)
            fputs("\\ufffd", out);
        else if (c < 0x20)
            fprintf(out, "\\u%04x", c);
        else {
            if (c == '"' || c == '\\') fputc('\\', out);
            fwrite(text, 1, (size_t)n, out);
        }
        text += n > 0 ? n : 1;
    }
    fputc('"', out);
}
