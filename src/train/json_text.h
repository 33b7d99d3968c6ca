/* Text as a JSON string. */
#ifndef DT_TRAIN_JSON_TEXT_H
#define DT_TRAIN_JSON_TEXT_H

#include <stdio.h>

/* In quotes, escaped; bytes that are no UTF-8 become U+FFFD. */
void dt_json_text(FILE *out, const char *text);

#endif
