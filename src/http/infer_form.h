/* The body of an inference request, read against the model that it is for, and the answer's. */
#ifndef DT_HTTP_INFER_FORM_H
#define DT_HTTP_INFER_FORM_H

#include "json_in.h"
#include "serve/engine.h"
#include "text.h"

/* "FP32"; NULL: none that requests know. */
const char *dt_infer_type_name(dt_tensor_type type);

typedef struct dt_infer_output {
    int32_t index;     /* of the model's outputs */
    bool binary, told; /* told: of it alone, not of all outputs */
    int64_t classes;   /* so many of the largest numbers of each row, as "value:place:name"; 0: the numbers */
} dt_infer_output;

typedef struct dt_infer_form {
    char *id; /* NULL: none */
    int32_t n_in, n_out;
    dt_host_tensor *in;   /* of the model's inputs, in their order; data in the body or in `owned` */
    void **owned;         /* [n_in], NULL where data stand in the body */
    dt_infer_output *out; /* what is asked for, in that order */
    int32_t priority;
    int64_t timeout_us;
    bool plain_nan; /* NaN and Infinity are written as such, else as null */
} dt_infer_form;

/* body: n bytes and one more that is 0, kept until the form ends. json_bytes: how many of them are JSON, tensors behind;
 * -1: all; 0: none, they are the data of the only input. DT_ERR_USAGE: says what and where. */
dt_status dt_infer_read(const dt_serve_model_info *m, const char *body, size_t n, int64_t json_bytes,
                        dt_infer_form *out);
void dt_infer_form_free(dt_infer_form *f);

/* How many classes of each row an output that is asked for them tells. */
static inline int64_t dt_infer_class_count(const dt_infer_output *o, const dt_host_tensor *t) {
    return dt_min_i64(o->classes, t->ndim > 0 ? t->dim[t->ndim - 1] : 1);
}
/* infer_classes.c: the elements of that BYTES tensor: of a binary output each behind its length, else as JSON's list has them. */
dt_status dt_infer_classes(const dt_infer_output *o, const dt_serve_model *model, const dt_host_tensor *t,
                           dt_http_text *text);
/* classes [n_out]: of outputs that are asked for them; NULL: none is. The JSON of the answer, in whose form binary outputs stand with their sizes. */
dt_status dt_infer_write(const dt_infer_form *f, const dt_serve_model_info *m,
                         const dt_host_tensor *const *out, const dt_http_text *classes, dt_http_text *json);

#endif
