/* What communication may be told; each key is documented in its row. */
#ifndef DT_DIST_OPTIONS_H
#define DT_DIST_OPTIONS_H

#include "core/key.h"

typedef enum dt_comm_choice { DT_COMM_AUTO = 0, DT_COMM_MPI, DT_COMM_NCCL } dt_comm_choice;
typedef enum dt_payload { DT_PAYLOAD_COMPUTE = 0, DT_PAYLOAD_FP32 } dt_payload;

/* [dist] */
typedef struct dt_dist_options {
    int64_t backend; /* dt_comm_choice */
    int64_t buckets; /* number of gradient buckets */
    bool overlap;
    int64_t payload; /* dt_payload */
    double timeout_s;
    bool share_gpu;
} dt_dist_options;
extern const dt_section dt_dist_section;

#endif
