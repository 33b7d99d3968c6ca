#include "train/sink.h"

#include <stdarg.h>
#include <stdio.h>

enum { TEXT_BYTES = 16384 };

void dt_sink_tell(const dt_sink *sink, const dt_news *news) {
    if (sink && sink->tell) sink->tell(sink->arg, news);
}

void dt_tell(const dt_sink *sink, dt_news_kind kind, const char *fmt, ...) {
    char text[TEXT_BYTES];
    va_list ap;
    if (!sink || !sink->tell) return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    dt_sink_tell(sink, &(dt_news){.kind = kind, .text = text});
}

void dt_tell_warning(void *arg, const char *text) {
    dt_tell(arg, DT_NEWS_WARNING, "%s", text);
}
