/* A network in few bits, as an ONNX model: `dtrain quantize`. */
#ifndef DT_TRAIN_QUANTIZE_H
#define DT_TRAIN_QUANTIZE_H

#include "train/config.h"
#include "train/sink.h"

typedef struct dt_quantize_options {
    const char *in, *config; /* as of dt_network_load() */
    const char *out;         /* the .onnx to be written */
    const char *form;        /* "static", "int8", "int4" */
    const char *method;      /* "minmax", "percentile", "entropy": of static */
    const char *data;        /* samples to observe (samples.h); NULL: the run's data.train */
    int64_t samples;         /* of them */
    const char *keep;        /* nodes that stay in fp32; NULL: none */
    bool compensate;         /* int4 */
    bool report;             /* compare both on `val`; NULL: the run's data.val */
    const char *val, *labels;
} dt_quantize_options;

/* Computes on the CPU with c->run.threads. Samples to observe are never those of the report: DT_ERR_USAGE. */
dt_status dt_quantize(const dt_config *c, const dt_quantize_options *o, const dt_sink *sink);

#endif
