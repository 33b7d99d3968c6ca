/* The body of a request for a text, as Triton's extension has it, and the answers. */
#ifndef DT_HTTP_GENERATE_FORM_H
#define DT_HTTP_GENERATE_FORM_H

#include "json_in.h"
#include "serve/texts.h"
#include "text.h"

typedef struct dt_generate_form {
    char *id, *prompt; /* id NULL: none */
    size_t n_prompt;
    dt_serve_text_options how; /* its stop texts are the form's */
} dt_generate_form;

/* body: n bytes and one more that is 0. DT_ERR_USAGE: says what and where. */
dt_status dt_generate_read(const char *body, size_t n, dt_generate_form *out);
void dt_generate_form_free(dt_generate_form *f);

/* {"id": ..., "model_name": ..., "model_version": ..., "text_output": the n bytes, and what news says}. */
void dt_generate_write(const dt_generate_form *f, const dt_serve_model_info *m, const dt_serve_news *news,
                       const char *piece, size_t n, dt_http_text *json);

#endif
