/* What the optimizer may be told. */
#ifndef DT_CORE_OPTIM_OPTIONS_H
#define DT_CORE_OPTIM_OPTIONS_H

#include "core/key.h"

typedef enum dt_cfg_optim { DT_CFG_SGD = 0, DT_CFG_MOMENTUM, DT_CFG_NESTEROV, DT_CFG_ADAMW } dt_cfg_optim;

/* [optim]; each key is documented in its row. */
typedef struct dt_optim_options {
    int64_t kind; /* dt_cfg_optim */
    double lr, momentum, weight_decay, beta1, beta2, eps;
    bool decay_bn_and_bias;
} dt_optim_options;
extern const dt_section dt_optim_section;

#endif
