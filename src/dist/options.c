/* [dist]: the keys of communication. */
#include "dist/options.h"

#include "core/key_rows.h"

static const char *const comm_names[] = {
    [DT_COMM_AUTO] = "auto", [DT_COMM_MPI] = "mpi", [DT_COMM_NCCL] = "nccl", NULL};
static const char *const payload_names[] = {
    [DT_PAYLOAD_COMPUTE] = "compute", [DT_PAYLOAD_FP32] = "fp32", NULL};

#define KEYS_OF dt_dist_options
static const dt_key_row dist_keys[] = {
    {CHOICE("backend", backend, comm_names), .fallback = "auto",
     .help = "Gradient reduction between ranks; auto: NCCL between GPUs, else MPI. With mpi GPUs and CPUs "
             "may train together"},
    {INT("buckets", buckets, 1, 64), .fallback = "3",
     .help = "Pieces in which gradients are reduced, each as soon as backward has completed it"},
    {BOOL("overlap", overlap), .fallback = "true", .help = "Reduce gradients while backward still runs"},
    {CHOICE("payload", payload, payload_names), MATHS, .fallback = "compute",
     .help = "Gradients on the wire: in the precision of the computation, or always fp32"},
    {FLOAT("timeout_s", timeout_s, 0, 86400), .flags = DT_KEY_OPEN_MIN, .fallback = "300.0",
     .help = "Seconds without progress after which a rank counts as lost; MPI's own start is not watched"},
    {BOOL("share_gpu", share_gpu), .fallback = "false",
     .help =
         "Let several ranks use one GPU (for tests); through MPI, or with dist.backend = \"nccl\" through "
         "NCCL 2.30 or later, which wants NCCL_MULTI_RANK_GPU_ENABLE=1"},
};
const dt_section dt_dist_section = SECTION("dist", dist_keys);
#undef KEYS_OF
