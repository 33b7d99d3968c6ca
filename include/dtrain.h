/* dtrain.h: neural networks in C, on CPUs and NVIDIA GPUs, in one process or many.
 *
 *     dt_run *run;                                                   where to compute
 *     dt_net *net;                                                   what to compute
 *     dt_run_open((dt_run_options){.device = DT_DEVICE_AUTO}, &run);
 *     dt_net_create(run, (dt_net_options){.batch = 32, .optimizer = {.name = "adamw"}}, &net);
 *     dt_var y = dt_input(net, "label", DT_DTYPE_I32, DT_SHAPE_SCALAR);
 *     dt_var x = dt_image_input(net, "image", (dt_image_options){.height = 28, .width = 28, .channels = 1});
 *     x = dt_relu(dt_conv2d(x, (dt_conv2d_options){.channels = 32, .kernel = 3, .pad = 1}));
 *     x = dt_dense(x, (dt_dense_options){.channels = 10});
 *     dt_loss("cross_entropy", x, y, (dt_loss_options){0});
 *     ... dt_net_set(net, "image", images), dt_net_set(net, "label", labels), dt_net_step(net) ...
 *
 * What holds everywhere:
 * - A call that can fail returns dt_status; dt_error_text() says what, where and how to mend it. Nothing
 *   prints, nothing ends the process (one exception: dt_run_open under a launcher whose ranks never come).
 * - Options are structs passed by value; a field that is 0 means its default. Other numbers are checked: NaN,
 *   what is out of range, and what would be another number in fp32 are refused (DT_ERR_CONFIG). Texts are copied.
 * - Handles (dt_run, dt_net, dt_tensor, dt_data, dt_sampler, dt_netfile, dt_service, dt_served, dt_request) are freed in any order; freeing NULL, or a handle twice, does
 *   nothing. A call with NULL or a freed handle returns DT_ERR_USAGE. A handle's memory is used again only
 *   after many others were freed.
 * - A handle is used by one thread at a time; different networks, and tensors, by different threads at once.
 *   A run may be used by several: dt_tensor_*, dt_net_create and dt_data_open take it from any thread; so may services,
 *   served networks and requests, at once.
 * - A function that fails leaves its results as they were, or NULL where it gives a new handle, and what it
 *   was called on can be used further. After DT_ERR_DEVICE, or DT_ERR_PEER, close the run.
 * - Images are N H W C (rows of a batch, height, width, channels), weights of convolutions K R S C (out,
 *   rows, columns, in), of dense layers K C (out, in); elements are contiguous, the last dimension's side by side.
 * - "Collective": in a job of several processes (ranks) all of them call it, in the same order, and one
 *   thread of each. They compare first what they are about to do: the call, the network (at its compilation all
 *   that it is), step and learning rate, shapes, data, files. What one rank cannot do, or has otherwise, fails on
 *   all of them, with one text that names the rank, before any has begun: they are in step, and may go on. A rank
 *   that does not come at all is DT_ERR_PEER after dt_run_options.timeout_s. Without mpirun there is one rank,
 *   and MPI is not even started.
 *
 * Versions: libdtrain.so.N. Under one N functions and enumerators are only added, at the end, and no struct of this
 * header changes: a program that was linked goes on. As options are passed by value, a field more raises N, and
 * programs are compiled anew; their source stays right, since new fields come last and 0 is their default. Use
 * designated initializers, or start with {0}. */

#ifndef DTRAIN_TYPES /* status, types and options; the library's own sources read this part alone */
#define DTRAIN_TYPES

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum dt_status {
    DT_OK = 0,
    DT_ERR_USAGE,       /* a call that cannot be right: NULL, a freed handle, a shape that does not fit, the
                           order of calls, ranks that are in different ones */
    DT_ERR_CONFIG,      /* options or configuration: unknown name, range, what does not go together, or
                           differs between ranks */
    DT_ERR_DATA,        /* data set missing, damaged, wrong type */
    DT_ERR_CHECKPOINT,  /* no usable checkpoint */
    DT_ERR_NONFINITE,   /* weights to be saved are not finite */
    DT_ERR_PEER,        /* another rank failed, died or stalled */
    DT_ERR_MEMORY,      /* host or device memory */
    DT_ERR_DEVICE,      /* GPU, cuDNN, cuBLAS, NCCL */
    DT_ERR_IO,          /* a file could not be written or read */
    DT_ERR_UNSUPPORTED, /* a backend or build lacks this */
    DT_ERR_INTERNAL,    /* a bug of dtrain */
    DT_STOPPED,         /* of dtrain's own commands, and for callbacks that want to stop */
    DT_ERR_BUSY,        /* a queue is full: later again */
    DT_ERR_TIMEOUT,     /* not in the time that was given */
    DT_STATUS_COUNT
} dt_status;

typedef enum dt_dtype {
    DT_DTYPE_F32 = 0,
    DT_DTYPE_F16,
    DT_DTYPE_BF16,
    DT_DTYPE_U8,
    DT_DTYPE_I32,
    DT_DTYPE_I64,
    DT_DTYPE_F64,
    DT_DTYPE_I8,
    DT_DTYPE_BOOL, /* a byte, 0 or 1 */
    DT_DTYPE_I4,   /* -8 to 7, two in a byte, the first one low: of packed weights, not of tensors */
    DT_DTYPE_COUNT
} dt_dtype;

typedef enum dt_device {
    DT_DEVICE_AUTO = 0, /* a GPU where there is one, else the CPU */
    DT_DEVICE_CPU,
    DT_DEVICE_CUDA
} dt_device;

/* What a served network's results may differ by from those of its program in fp32, node by node. */
typedef enum dt_level {
    DT_LEVEL_DEFAULT = 0, /* basic */
    DT_LEVEL_NONE,        /* node by node, fp32: the definition */
    DT_LEVEL_BASIC,       /* exact rewrites, 1e-5; results do not depend on batch mates */
    DT_LEVEL_AGGRESSIVE,  /* fusions, 16 bits; 1e-2, checked when loaded */
    DT_LEVEL_EXTREME      /* and what the file has quantised computed so */
} dt_level;

/* What becomes of images of bytes on their way into a network: (byte / 255 - mean) / stddev, channel by channel. */
typedef enum dt_image_form {
    DT_IMAGE_AS_IS = 0, /* nothing: requests have the network's own input */
    DT_IMAGE_UNIT,      /* mean 0, stddev 1 */
    DT_IMAGE_IMAGENET,  /* mean 0.485 0.456 0.406, stddev 0.229 0.224 0.225 */
    DT_IMAGE_TRAINED    /* as the network's file says of what it was trained on */
} dt_image_form;

/* Weights of dense layers, as a served network keeps them. */
typedef enum dt_weights_form {
    DT_WEIGHTS_AS_STORED = 0,
    DT_WEIGHTS_INT8, /* and activations by row, as they come */
    DT_WEIGHTS_INT4  /* groups of 32 */
} dt_weights_form;

/* Limits. What is beyond one is refused where it is asked for. Besides: batches have up to 2^31 - 1 rows, the options of
 * layers the ranges that docs/config.md has for their keys, and of memory there is as much as the device has. */
enum {
    DT_MAX_DIM = 8,         /* dimensions of a tensor; of an input's row 7 */
    DT_MAX_INPUTS = 8,      /* of a network */
    DT_MAX_OUTPUTS = 16,    /* dt_expose */
    DT_MAX_LOSSES = 8,      /* of a network */
    DT_MAX_GROUPS = 64,     /* dt_net_group */
    DT_MAX_CONCAT = 32,     /* values that dt_concat joins; from 2 */
    DT_MAX_NAME = 79,       /* bytes of a layer's name: letters, digits, _ + : - and, between them, . and / */
    DT_MAX_FIELD_NAME = 31, /* bytes of the name of an input, an output or a loss, of any characters */
    DT_MAX_PATTERN = 95,    /* bytes of a group's pattern */
    DT_MAX_PATH = 1000      /* bytes of a path */
};

/* By what the optimizer muon multiplies the rate of a matrix of rows x columns. */
typedef enum dt_muon_scale {
    DT_MUON_ORIGINAL = 0,    /* sqrt(max(1, rows / columns)) */
    DT_MUON_MATCH_RMS_ADAMW, /* 0.2 sqrt(max(rows, columns)) */
    DT_MUON_SPECTRAL         /* sqrt(rows / columns) */
} dt_muon_scale;

/* Options of layers. A number that is 0 has the default that is said. `name`: see below, "networks". */

enum { DT_PAD_SAME = -1 };

typedef struct dt_conv2d_options {
    int64_t channels; /* of the output; needed */
    int64_t kernel;   /* rows and columns; 0: 3 */
    int64_t stride;   /* 0: 1 */
    int64_t pad;      /* zeros on each side; DT_PAD_SAME: (kernel - 1) * dilation / 2 */
    int64_t dilation; /* 0: 1 */
    int64_t groups;   /* channel groups convolved apart; 0: 1 */
    bool no_bias;
    const char *name;
} dt_conv2d_options;
typedef dt_conv2d_options dt_conv1d_options; /* of sequences; kernel: steps */
typedef dt_conv2d_options dt_conv3d_options; /* of volumes; kernel: planes, rows and columns, up to 32 */

typedef struct dt_conv_transpose_options {
    int64_t channels;   /* of the output; needed */
    int64_t kernel;     /* rows and columns; 0: 2 */
    int64_t stride;     /* 0: 2 */
    int64_t pad;        /* rows and columns taken off each side */
    int64_t output_pad; /* rows below and columns to the right that are added */
    int64_t dilation;   /* 0: 1 */
    int64_t groups;     /* 0: 1 */
    bool no_bias;
    const char *name;
} dt_conv_transpose_options;

typedef struct dt_dense_options {
    int64_t channels; /* of the output; needed */
    bool no_bias;
    const char *name;
} dt_dense_options;

typedef struct dt_batchnorm_options {
    double eps;      /* 0: 1e-5 */
    double momentum; /* weight of the new batch in the running statistics; 0: 0.1 */
    bool zero_gamma; /* the weight starts at 0, else at 1 */
    const char *name;
} dt_batchnorm_options;

typedef struct dt_pool_options {
    int64_t kernel; /* 0: 2 */
    int64_t stride; /* 0: the kernel */
    int64_t pad;    /* on each side; DT_PAD_SAME: (kernel - 1) / 2 */
} dt_pool_options;

typedef enum dt_upsample_mode {
    DT_UPSAMPLE_NEAREST = 0,
    DT_UPSAMPLE_BILINEAR,
    DT_UPSAMPLE_BICUBIC
} dt_upsample_mode;

typedef struct dt_upsample_options {
    int64_t scale;         /* by how much sides grow; 0: 2 */
    int64_t height, width; /* of the result, in place of scale; width 0: height */
    int64_t mode;          /* dt_upsample_mode */
    bool align_corners;    /* bilinear: corners on corners */
} dt_upsample_options;

/* Functions of a squeeze and excite: between its convolutions, and of the gate. */
typedef enum dt_squeeze_function {
    DT_SQUEEZE_RELU = 0,
    DT_SQUEEZE_SILU,
    DT_SQUEEZE_HARDSWISH,
    DT_SQUEEZE_GELU
} dt_squeeze_function;
typedef enum dt_gate_function { DT_GATE_SIGMOID = 0, DT_GATE_HARDSIGMOID } dt_gate_function;

typedef struct dt_squeeze_excite_options {
    int64_t channels;   /* between the convolutions; needed */
    int64_t activation; /* dt_squeeze_function */
    int64_t gate;       /* dt_gate_function */
    const char *name;
} dt_squeeze_excite_options;

/* Of a simple recurrence. */
typedef enum dt_rnn_function { DT_RNN_FUNCTION_TANH = 0, DT_RNN_FUNCTION_RELU } dt_rnn_function;

typedef struct dt_recurrent_options {
    int64_t hidden;     /* units of a layer, in each direction; needed */
    int64_t layers;     /* 0: 1 */
    double dropout;     /* in training, of what a layer gives to the next */
    int64_t function;   /* rnn: a dt_rnn_function */
    bool bidirectional; /* a second recurrence from the end to the beginning; both outputs side by side */
    bool no_bias;
    bool last; /* gives the top layer's last states in place of its sequence */
    const char *name;
} dt_recurrent_options;

enum { DT_EVERY_CHANNEL = -1 };

/* Of layer, RMS and group norms. */
typedef struct dt_norm_options {
    double eps;     /* 0: 1e-5; of an RMS norm 1e-6 */
    int64_t groups; /* of a group norm; needed. DT_EVERY_CHANNEL: each channel is one, an instance norm */
    bool no_scale, no_bias;
    const char *name;
} dt_norm_options;

typedef struct dt_embedding_options {
    int64_t rows, channels; /* of the table; needed */
    bool padded;            /* row `padding` begins at 0 and learns nothing */
    int64_t padding;
    double std; /* of initial weights; 0: 1 */
    const char *name;
} dt_embedding_options;

typedef enum dt_position_kind { DT_POSITION_LEARNT = 0, DT_POSITION_SINUSOIDAL } dt_position_kind;

typedef struct dt_position_options {
    int64_t kind; /* dt_position_kind */
    int64_t rows; /* learnt: as many positions as it is made for; 0: the steps of its input */
    double std;   /* learnt: of initial weights; 0: 0.02 */
    double theta; /* sinusoidal: 0: 10000 */
    const char *name;
} dt_position_options;

typedef struct dt_rotary_options {
    int64_t heads;    /* of the channels; 0: 1 */
    int64_t dims;     /* numbers of each head that are rotated; 0: all */
    double theta;     /* 0: 10000 */
    bool interleaved; /* pairs are neighbours; else one is of a head's first half, one of its second */
} dt_rotary_options;

typedef struct dt_attention_options {
    int64_t heads;     /* of the queries; needed */
    int64_t kv_heads;  /* of keys and values, each for heads / kv_heads of the queries'; 0: heads */
    int64_t head_size; /* numbers of a head; 0: channels / heads */
    int64_t window;    /* a step sees steps less than so many away, itself too; 0: all */
    double dropout;    /* in training, of weights */
    bool causal;       /* a step does not see those after it */
    bool rotary;       /* queries and keys are turned by the step's place, as dt_rotary does */
    double theta;      /* of rotary; 0: 10000 */
    bool qk_norm;      /* RMS norm of each head's queries and keys; parameters q_norm.weight, k_norm.weight */
    bool no_bias;
    const char *name;
} dt_attention_options;

#endif

#if !defined DTRAIN_H && !defined DTRAIN_TYPES_ONLY
#define DTRAIN_H

#if defined __GNUC__
#define DT_API __attribute__((visibility("default")))
#else
#define DT_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- errors ---- */

/* The cause of this thread's last failure; "" if none. Valid until the next call on this thread. Of a status that the
 * program itself brings (dt_run_agree, after_step) it says that. */
DT_API const char *dt_error_text(void);
/* Short name: "ok", "usage", "data", ... */
DT_API const char *dt_status_name(dt_status status);
/* "0.1.0" */
DT_API const char *dt_version(void);

/* ---- shapes ---- */

typedef struct dt_shape {
    int32_t ndim; /* 0: a scalar */
    int64_t dim[DT_MAX_DIM];
} dt_shape;

/* DT_SHAPE(64, 28, 28, 1): the shape of 1 to 8 dimensions. */
#define DT_SHAPE(...)                                                                                        \
    DT_LITERAL(dt_shape) {                                                                                   \
        DT_COUNT_ARGS(__VA_ARGS__), {                                                                        \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    }
#define DT_COUNT_ARGS(...)                       DT_NINTH(__VA_ARGS__, 8, 7, 6, 5, 4, 3, 2, 1, 0)
#define DT_NINTH(a, b, c, d, e, f, g, h, n, ...) n
#ifdef __cplusplus
#define DT_LITERAL(type) type
#else
#define DT_LITERAL(type) (type)
#endif

/* Bytes of one element; of I4, which packs two in one, 1. */
DT_API size_t dt_dtype_size(dt_dtype dtype);
/* "f32", "f16", "bf16", "u8", "i32", "i64", "f64", "i8", "bool", "i4". */
DT_API const char *dt_dtype_name(dt_dtype dtype);

/* ---- a run: the device, and the other ranks ---- */

typedef struct dt_run dt_run;

typedef struct dt_run_options {
    dt_device device;
    int32_t threads;    /* compute threads of the CPU; 0: this rank's share of the cores */
    bool deterministic; /* GPU: the same bits in every run (the CPU's always are) */
    bool tf32;          /* GPU: matrix units for fp32 */
    bool share_gpu;     /* two ranks may use one GPU */
    double timeout_s;   /* how long a collective call waits for the other ranks; 0: 300 */
} dt_run_options;

typedef struct dt_run_info {
    int32_t rank, world; /* 0 of 1 without a launcher */
    int32_t threads;     /* host threads of this rank */
    bool is_gpu;
    char device[128];                 /* its name */
    int64_t memory_bytes, free_bytes; /* of the device; of the host for the CPU */
} dt_run_info;

/* Opens the device and, under mpirun or srun, meets the other ranks. A process may open several runs; MPI ends with the
 * last of them, also with one that could not be opened, and a later one is refused (DT_ERR_USAGE). A program that has
 * started MPI itself, with MPI_THREAD_SERIALIZED or better, also ends it. Errors: DT_ERR_USAGE (options), DT_ERR_DEVICE,
 * DT_ERR_UNSUPPORTED (a GPU that is asked for and not there). Collective. */
DT_API dt_status dt_run_open(dt_run_options options, dt_run **out);
/* Ends it. The device stays until the run's last tensor and network are freed, MPI where some never are until the process
 * ends. Ranks that are in another call of the run
 * then get DT_ERR_USAGE there, and DT_ERR_PEER in later ones; with a rank that has failed the others end by their launcher. Collective. */
DT_API void dt_run_close(dt_run *run);
DT_API dt_status dt_run_get_info(const dt_run *run, dt_run_info *out);

typedef struct dt_tensor dt_tensor;

/* t = the sum of all ranks' t (f32, f16, bf16, f64, i32), with the same bits on all of them. DT_ERR_CONFIG where
 * shapes or types differ, DT_ERR_UNSUPPORTED for other types. Collective. */
DT_API dt_status dt_run_all_reduce(dt_run *run, dt_tensor *t);
/* t = rank root's t, of the same shape and type, any. Collective. */
DT_API dt_status dt_run_broadcast(dt_run *run, dt_tensor *t, int32_t root);
/* Waits for every rank. DT_OK if all came with DT_OK, else on every rank the status and text of the first
 * that did not: `return dt_run_agree(run, mine)` ends all ranks alike. Collective. */
DT_API dt_status dt_run_agree(dt_run *run, dt_status mine);

/* ---- tensors ----
 *
 * An array in the run's device memory, or in host memory (with DT_DEVICE_CPU that is one). Work is queued on
 * the device in the order of the calls. Functions that compute write to *out: a tensor of the result's shape
 * and type that is there already (it may be an operand, except for matmul and transpose), or where *out is
 * NULL a new one, which the caller frees. */

/* Zeros. */
DT_API dt_status dt_tensor_zeros(dt_run *run, dt_dtype dtype, dt_shape shape, dt_tensor **out);
DT_API dt_status dt_tensor_ones(dt_run *run, dt_dtype dtype, dt_shape shape, dt_tensor **out);
/* Every element is `value`, rounded to the type. */
DT_API dt_status dt_tensor_full(dt_run *run, dt_dtype dtype, dt_shape shape, double value, dt_tensor **out);
/* Normal with mean 0 and deviation 1, of a floating type; element i is a function of (seed, i) alone. */
DT_API dt_status dt_tensor_randn(dt_run *run, dt_dtype dtype, dt_shape shape, uint64_t seed, dt_tensor **out);
/* A copy of host memory, which holds all elements. */
DT_API dt_status dt_tensor_from(dt_run *run, dt_dtype dtype, dt_shape shape, const void *data,
                                dt_tensor **out);
/* The caller's host memory itself, without a copy; it must outlive the tensor. The result is a host
 * tensor. */
DT_API dt_status dt_tensor_wrap(dt_run *run, dt_dtype dtype, dt_shape shape, void *data, dt_tensor **out);
DT_API void dt_tensor_free(dt_tensor *t);

/* Shape and type; {0} and DT_DTYPE_COUNT of what is no tensor. */
DT_API dt_shape dt_tensor_shape(const dt_tensor *t);
DT_API dt_dtype dt_tensor_dtype(const dt_tensor *t);
DT_API int64_t dt_tensor_n_elem(const dt_tensor *t);
/* Whether it lies in host memory. */
DT_API bool dt_tensor_is_host(const dt_tensor *t);
/* Address of element 0, in device memory on a GPU. Waits for queued work that uses it. */
DT_API void *dt_tensor_data(const dt_tensor *t);
/* All elements to host memory of `bytes` bytes, which must be the tensor's size; waits for them. */
DT_API dt_status dt_tensor_read(const dt_tensor *t, void *data, int64_t bytes);
/* All elements from host memory, which may be used again at once. */
DT_API dt_status dt_tensor_write(dt_tensor *t, const void *data, int64_t bytes);

/* A copy in the memory of the operand, of the host, of the device. */
DT_API dt_status dt_tensor_copy(const dt_tensor *t, dt_tensor **out);
DT_API dt_status dt_tensor_to_host(const dt_tensor *t, dt_tensor **out);
DT_API dt_status dt_tensor_to_device(const dt_tensor *t, dt_tensor **out);
/* The same elements in another shape of as many: a copy. */
DT_API dt_status dt_tensor_reshape(const dt_tensor *t, dt_shape shape, dt_tensor **out);
/* Element-wise, of two tensors of one shape and type (f32; on a GPU also f16, bf16). */
DT_API dt_status dt_tensor_add(const dt_tensor *a, const dt_tensor *b, dt_tensor **out);
DT_API dt_status dt_tensor_multiply(const dt_tensor *a, const dt_tensor *b, dt_tensor **out);
/* [..., M, K] x [K, N] = [..., M, N], or [B, ..., M, K] x [B, ..., K, N], batch by batch; types as above. */
DT_API dt_status dt_tensor_matmul(const dt_tensor *a, const dt_tensor *b, dt_tensor **out);
/* Dimension i of the result is dimension order[i] of t, for ndim entries; NULL: the last two change places.
 * Any type. */
DT_API dt_status dt_tensor_transpose(const dt_tensor *t, const int32_t *order, dt_tensor **out);

/* ---- networks: what is computed ----
 *
 * Layers are functions from values to values. The first mistake sticks in the network: later calls that build it do
 * nothing and return DT_NO_VAR, and all others return it, dt_net_compile first of all. One whose operands are of no
 * network (DT_NO_VAR, of one that was freed) is a mistake of the network that this thread has last built on. Layers
 * with parameters are named by the option `name`, or "conv2d1", "conv2d2", ... in the order of their calls;
 * "conv2d1.weight" is then the name of its weight, in gradients and in saved files. */

typedef struct dt_net dt_net;

/* A value of a network, while it is being built. */
typedef struct dt_var {
    dt_net *net;
    int32_t id;
} dt_var;
#define DT_NO_VAR (DT_LITERAL(dt_var){NULL, -1})

/* A number that is 0 has the default of [optim] (docs/config.md), but for lr of adamw, 1e-3, and weight_decay, 0. What
 * is of another optimizer is refused. */
typedef struct dt_optimizer_options {
    const char *name; /* "sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "rmsprop_tf", "adagrad",
                               "lamb", "lars", "lion", "adafactor", "muon"; NULL: "sgd" */
    double lr;        /* learning rate; dt_net_set_lr changes it */
    double momentum;  /* momentum, nesterov, lars, rmsprop, rmsprop_tf, muon */
    double beta1, beta2;                          /* adam, adamw, lamb, lion, muon */
    double alpha;                                 /* rmsprop, rmsprop_tf: decay of the mean square */
    double eps;                                   /* added where the step is divided */
    double lr_decay;                              /* adagrad */
    double trust;                                 /* lars */
    double beta2_decay, scale_floor, update_clip; /* adafactor */
    bool centered;                                /* rmsprop, rmsprop_tf: by the deviation */
    bool trust_clip;                              /* lamb, lars */
    double adamw_lr;          /* muon: of what is no hidden matrix, in proportion to lr when that changes */
    dt_muon_scale muon_scale; /* muon */
    bool no_nesterov;         /* muon: the step does not look ahead by one gradient */
    double weight_decay;      /* adamw, lamb, lion, muon: decoupled, else added to the gradient. lamb and lars
                                 adapt the rate of what has some: with 0 of nothing */
    bool decay_bn_and_bias;   /* weight decay of those, too */
} dt_optimizer_options;

typedef struct dt_net_options {
    int64_t batch; /* rows of a batch of this rank, the same on all; needed */
    dt_optimizer_options optimizer;
    double clip_norm; /* greatest norm of the whole gradient; 0: not clipped */
    dt_dtype compute; /* of activations and weights: DT_DTYPE_F32; on a GPU also F16, BF16 */
    uint64_t seed;    /* of initial weights, dropout and the order of data; 63 bits count */
    bool no_fusion;   /* layers are computed one by one */
    bool
        sync_batch_norm; /* batch norm's statistics are those of all ranks' rows of a pass; each waits for the others */
} dt_net_options;

DT_API dt_status dt_net_create(dt_run *run, dt_net_options options, dt_net **out);
DT_API void dt_net_free(dt_net *net);
/* DT_OK, or the first mistake in building it, with its text. */
DT_API dt_status dt_net_status(const dt_net *net);

/* An input, of the shape of one row (DT_SHAPE_SCALAR: a number, as a label is), of the type in which it is handed
 * over: dt_net_set, or a data set's field of that name, fills it. Layers read whole numbers of 4 and 8 bytes as
 * they are, as labels, all else in the type that the network computes in. */
DT_API dt_var dt_input(dt_net *net, const char *name, dt_dtype dtype, dt_shape row);
#define DT_SHAPE_SCALAR (DT_LITERAL(dt_shape){0, {0}})

typedef struct dt_image_options {
    int64_t height, width, channels; /* 1 to 4 channels */
    float mean[4], stddev[4]; /* per channel, of values 0..1; all 0: 0.5. Else every stddev is above 0 */
    bool erased,
        mixed; /* "image", fed in training by a data set that erases; that mixes (dt_data_open_options) */
} dt_image_options;
/* An input of bytes [height, width, channels], as (byte / 255 - mean) / stddev. */
DT_API dt_var dt_image_input(dt_net *net, const char *name, dt_image_options options);

/* [H, W, C] to [P, Q, channels], P = (H + 2 pad - dilation (kernel - 1) - 1) / stride + 1. Parameters: weight
 * [channels, kernel, kernel, C / groups], bias [channels]. */
DT_API dt_var dt_conv2d(dt_var x, dt_conv2d_options options);
/* [L, C] to [Q, channels] and [D, H, W, C] to [E, P, Q, channels], likewise. Weights [channels, kernel, C / groups] and
 * [channels, kernel, kernel, kernel, C / groups]. A volume is taken as images of all channels that a window spans. */
DT_API dt_var dt_conv1d(dt_var x, dt_conv1d_options options);
DT_API dt_var dt_conv3d(dt_var x, dt_conv3d_options options);

/* The other way round, PyTorch's ConvTranspose2d: sides become (side - 1) stride - 2 pad + dilation (kernel - 1) + 1 +
 * output_pad. Parameters: weight [C, kernel, kernel, channels / groups], bias [channels]. */
DT_API dt_var dt_conv2d_transpose(dt_var x, dt_conv_transpose_options options);

/* [..., C] to [..., channels]; of an image, [H, W, C], all dimensions are one. Parameters: weight [channels, C], bias
 * [channels]. */
DT_API dt_var dt_dense(dt_var x, dt_dense_options options);

/* Over all but the last dimension: batch statistics in training, running ones in evaluation. Parameters: weight,
 * bias [C]; state: running_mean, running_var. */
DT_API dt_var dt_batchnorm(dt_var x, dt_batchnorm_options options);

/* Over the last dimension. Parameters: weight, bias [C]; of an RMS norm weight. */
DT_API dt_var dt_layernorm(dt_var x, dt_norm_options options);
DT_API dt_var dt_rmsnorm(dt_var x, dt_norm_options options);
/* Of [..., C] over all positions and the channels of each group. Parameters: weight, bias [C]. */
DT_API dt_var dt_groupnorm(dt_var x, dt_norm_options options);

/* Whole numbers [...] to rows of a table, [..., channels]. A number that is no row is an error where an input has it
 * (DT_ERR_DATA); one that was computed is one on the CPU, and a GPU gives zeros. Parameter: weight [rows, channels]. */
DT_API dt_var dt_embedding(dt_var x, dt_embedding_options options);
/* [T, C]: adds to each step what says its place. Parameter, learnt: weight [rows, C]. */
DT_API dt_var dt_position(dt_var x, dt_position_options options);
/* [T, C] or [T, H, D]: turns pairs of each head's numbers by the step's place. */
DT_API dt_var dt_rotary(dt_var x, dt_rotary_options options);
/* A dense layer without bias whose weight is that of the layer of this name, an embedding or dense layer before: its
 * gradient is the sum of both. */
DT_API dt_var dt_tied(dt_var x, const char *layer);

/* [H, W, C] times a gate for each channel, made of the channels' means: Hu et al. 2017. Parameters: fc1.weight
 * [channels, 1, 1, C], fc1.bias [channels], fc2.weight [C, 1, 1, channels], fc2.bias [C]. */
DT_API dt_var dt_squeeze_excite(dt_var x, dt_squeeze_excite_options options);

/* Pools of images [H, W, C], sequences [L, C], volumes [D, H, W, C]. */
DT_API dt_var dt_maxpool(dt_var x, dt_pool_options options);
/* Padding counts as zeros. */
DT_API dt_var dt_avgpool(dt_var x, dt_pool_options options);
/* To [C]: over all positions. */
DT_API dt_var dt_global_avgpool(dt_var x);
DT_API dt_var dt_global_maxpool(dt_var x);
/* [H, W, C] to [height, width, C]: the mean, or the largest, of the part of the image that each pixel is; width 0: height.
 * PyTorch's adaptive_avg_pool2d and adaptive_max_pool2d. */
DT_API dt_var dt_adaptive_avgpool(dt_var x, int64_t height, int64_t width);
DT_API dt_var dt_adaptive_maxpool(dt_var x, int64_t height, int64_t width);
/* [H, W, C] in another size, also a smaller one: PyTorch's interpolate. */
DT_API dt_var dt_upsample(dt_var x, dt_upsample_options options);
/* All dimensions of a row as one. */
DT_API dt_var dt_flatten(dt_var x);
/* In training zero with probability `rate`, else x / (1 - rate); in evaluation x. */
DT_API dt_var dt_dropout(dt_var x, double rate);
/* Whole rows of the batch, in training: stochastic depth. Others are divided by 1 - rate. */
DT_API dt_var dt_drop_path(dt_var x, double rate);

/* Element by element, as PyTorch defines them. */
DT_API dt_var dt_relu(dt_var x);
DT_API dt_var dt_relu6(dt_var x);
DT_API dt_var dt_leaky_relu(dt_var x, double alpha); /* 0: 0.01 */
DT_API dt_var dt_elu(dt_var x, double alpha);        /* 0: 1 */
DT_API dt_var dt_selu(dt_var x);
DT_API dt_var dt_sigmoid(dt_var x);
DT_API dt_var dt_tanh(dt_var x);
DT_API dt_var dt_softplus(dt_var x);
DT_API dt_var dt_silu(dt_var x); /* swish */
DT_API dt_var dt_mish(dt_var x);
DT_API dt_var dt_hardswish(dt_var x);
DT_API dt_var dt_hardsigmoid(dt_var x);
DT_API dt_var dt_gelu(dt_var x);
DT_API dt_var dt_gelu_tanh(dt_var x);
DT_API dt_var dt_exp(dt_var x);
DT_API dt_var dt_log(dt_var x);
DT_API dt_var dt_sqrt(dt_var x);
DT_API dt_var dt_neg(dt_var x);
DT_API dt_var dt_abs(dt_var x);
DT_API dt_var dt_clamp(dt_var x, double lo, double hi);
DT_API dt_var dt_square(dt_var x);
DT_API dt_var dt_reciprocal(dt_var x);
DT_API dt_var dt_scale(dt_var x, double factor); /* factor x */
/* Of two values; a dimension of 1 is repeated, and so are missing ones in front. */
DT_API dt_var dt_add(dt_var a, dt_var b);
DT_API dt_var dt_sub(dt_var a, dt_var b);
DT_API dt_var dt_mul(dt_var a, dt_var b);
DT_API dt_var dt_div(dt_var a, dt_var b);
DT_API dt_var dt_min(dt_var a, dt_var b);
DT_API dt_var dt_max(dt_var a, dt_var b);

/* Along the last dimension. Cross-entropy takes its input without them. */
DT_API dt_var dt_softmax(dt_var x);
DT_API dt_var dt_log_softmax(dt_var x);
/* Over one dimension of the rows, from 0; -1: the last. It goes, but for that of a vector, which becomes 1. The gradient
 * of dt_amax is shared by equal elements. */
DT_API dt_var dt_mean(dt_var x, int32_t dimension);
DT_API dt_var dt_sum(dt_var x, int32_t dimension);
DT_API dt_var dt_amax(dt_var x, int32_t dimension);
/* Over its length along the last dimension, or over eps where that is less: PyTorch's normalize. eps 0: 1e-12. */
DT_API dt_var dt_normalize(dt_var x, double eps);
/* Of two values of one shape, along the last dimension, which goes, but for that of a vector, which becomes 1. eps 0: 1e-8.
 */
DT_API dt_var dt_cosine_similarity(dt_var a, dt_var b, double eps);
/* Rows in another shape, the last dimension first; one may be -1: what remains. */
DT_API dt_var dt_reshape(dt_var x, dt_shape row);
/* Two dimensions of the rows in each other's place, from 0; -1: the last. */
DT_API dt_var dt_transpose(dt_var x, int32_t first, int32_t second);
/* a [..., M, K] times b [..., K, N], for each matrix of the leading dimensions, which are the same. */
DT_API dt_var dt_matmul(dt_var a, dt_var b);
/* n values, 2 to 32, one after the other along a dimension of their rows, from 0; -1: the last. */
DT_API dt_var dt_concat(const dt_var *x, int32_t n, int32_t dimension);
/* n values of one shape, 2 to 32, side by side along a new dimension of their rows, from 0; -1: the last. */
DT_API dt_var dt_stack(const dt_var *x, int32_t n, int32_t dimension);
/* Parts of a dimension of the rows, from 0; -1: the last: out[0] to out[n - 1], 1 to 32, of `sizes` (of up to 8 parts), or
 * NULL: equal. All are DT_NO_VAR where it fails. */
DT_API void dt_split(dt_var x, int32_t dimension, int32_t n, const int64_t *sizes, dt_var *out);
/* `length` of a dimension of the rows, 0: to the end, from `begin` on, below 0: from the end. */
DT_API dt_var dt_slice(dt_var x, int32_t dimension, int64_t begin, int64_t length);
/* With as many zeros before and behind along a dimension of the rows. */
DT_API dt_var dt_pad(dt_var x, int32_t dimension, int64_t before, int64_t after);
/* Rows of x along a dimension of its rows, from 0, by number: of x [A..., V, B...] and whole numbers [A..., K...] those of
 * the same A, [A..., K..., B...]. A number that is no row is an error as of dt_embedding. */
DT_API dt_var dt_gather(dt_var x, dt_var numbers, int32_t dimension);
/* Whole numbers [...] as zeros with a one at their place, [..., classes]; other numbers give zeros. */
DT_API dt_var dt_one_hot(dt_var x, int64_t classes);

/* A recurrence over sequences [T, C]: every h, [T, directions * hidden], or with `last` the top layer's last one,
 * [directions * hidden]. Gates, formulas and parameters are those of PyTorch's LSTM, GRU and RNN with batch_first:
 * weight_ih_l0 [gates * hidden, C], weight_hh_l0 [gates * hidden, hidden], bias_ih_l0, bias_hh_l0 [gates * hidden]; l1, ...
 * for further layers, "_reverse" behind those of the second direction. */
DT_API dt_var dt_lstm(dt_var x, dt_recurrent_options options);
DT_API dt_var dt_gru(dt_var x, dt_recurrent_options options);
DT_API dt_var dt_rnn(dt_var x, dt_recurrent_options options);
/* States of all layers, [layers * directions * hidden] numbers a row: layer 0, its second direction, layer 1, ... Those of
 * {0} are absent. */
typedef struct dt_recurrent_states {
    dt_var h;
    dt_var c; /* of an LSTM */
} dt_recurrent_states;
/* The same, type "lstm", "gru" or "rnn", from states on that are 0 where absent. lengths: a whole number a row, where
 * its sequence ends: what is beyond is not read, and results there are 0; DT_NO_VAR: all end at T. end (may be NULL): the
 * states at the end. */
DT_API dt_var dt_recurrent(const char *type, dt_var x, dt_var lengths, dt_recurrent_states begin,
                           dt_recurrent_states *end, dt_recurrent_options options);

/* Multi-head attention of a sequence [T, C] to itself, [T, C]. Parameters are those of PyTorch's MultiheadAttention:
 * in_proj_weight [(heads + 2 kv_heads) head_size, C], in_proj_bias, out_proj.weight [C, heads head_size],
 * out_proj.bias [C]. */
DT_API dt_var dt_attention(dt_var x, dt_attention_options options);
/* What else it may read; those of {0} are absent. */
typedef struct dt_attention_inputs {
    dt_var context; /* [S, C2]: keys and values are of this sequence; with C2 != C weights are q_proj_weight,
                        k_proj_weight, v_proj_weight. Causal, its last step is seen by the last of x alone */
    dt_var
        lengths; /* a whole number a row: where the context, without one x, ends. Results past the end of x are
                        those of zeros */
    dt_var segments; /* [T] whole numbers: steps see those of their own number alone; without a context */
} dt_attention_inputs;
DT_API dt_var dt_attention_of(dt_var x, dt_attention_inputs inputs, dt_attention_options options);

/* A built-in network. A rate that is 0 is as the network was published; -1: nothing is dropped. What the network does
 * not have is an error. */
typedef struct dt_model_add_options {
    int64_t outputs;    /* classes; of a language model the vocabulary; needed, but of autoencoders */
    double dropout;     /* efficientnet, mobilenet, vit, deit, mlp */
    double drop_path;   /* of the last residual branch: efficientnet, convnext, vit, deit */
    bool small_stem;    /* resnet: for images of about 32 pixels */
    bool mean_pool;     /* vit: the head reads the mean of all patches; there is no token */
    int64_t patch;      /* vit, deit: pixels; 0: as the name says */
    int64_t widths[16]; /* mlp, autoencoders: of hidden layers; all 0: as published */
    int64_t
        vocab; /* of text with classes (lstm_classifier, bert): tokens there are; of language models: outputs */
    const char *path; /* "file": where it is; the text is copied */
    bool new_head;    /* "file": its last layer is drawn anew, of `outputs` */
} dt_model_add_options;
/* The network that `dtrain models` calls so, from x on: images [H, W, C], or steps of tokens [T], whole numbers. Gives
 * [outputs], of a language model [T, outputs], of an autoencoder [1], how far it misses x. Parameters have the names and
 * shapes of the network's reference, such as torchvision's, so a network can hold one of a family. "file": the network of an
 * ONNX, Keras or TensorFlow file, to be trained further: its first input is x (images stay [H, W, C], whatever the file
 * wants), others are inputs of the network of their names; it begins with the weights that the file has, and gives its
 * first output, of `outputs` numbers, without a softmax at the end. */
DT_API dt_var dt_model(const char *name, dt_var x, dt_model_add_options options);

/* Shape of a row of x; {0} of DT_NO_VAR. */
DT_API dt_shape dt_var_shape(dt_var x);
/* x may be read after a forward pass as `name`. */
DT_API void dt_expose(dt_var x, const char *name);

typedef struct dt_loss_options {
    double weight;    /* in the sum of several; 0: 1 */
    double delta;     /* huber: where the square becomes a line; 0: 1 */
    double positives; /* bce: weight of what is 1; 0: 1 */
    double smoothing; /* cross_entropy: label smoothing */
    const char *name; /* of a loss after the first, as the metric "loss_<name>"; NULL: its kind */
} dt_loss_options;
/* Adds a loss. The sum of all, as a mean over the rows of all ranks, is made small. Of the first loss come the
 * metrics besides "loss":
 * "cross_entropy"      x [K]: logits; target: a whole number, the class 0..K-1, less than 0: the row does not count.
 *                      "top1", "top5"
 * "mse", "l1", "huber" target: any value of the shape of x; of a row the mean over its numbers. "rmse", "mae", "r2"
 * "bce"                x: logits, target of the same shape, 0 to 1, other numbers are an error. "accuracy", "f1", "exact", of evaluations "map",
 *                      mean average precision
 * "value"              x itself is the loss, target DT_NO_VAR: any formula may be one */
DT_API void dt_loss(const char *kind, dt_var x, dt_var target, dt_loss_options options);

/* ---- networks: computing ----
 *
 * The first of these calls compiles the network; from then on it cannot grow. */

typedef enum dt_mode { DT_TRAINING = 0, DT_EVALUATION } dt_mode;

/* Parameters that are trained in their own way. */
typedef struct dt_group_options {
    const char *pattern; /* on their names, "*" for any characters: "stem.*"; needed */
    double lr_factor;    /* on the learning rate; 0: not said */
    double weight_decay; /* of all of them, vectors too; counts where it is not 0 or no_decay is set */
    bool no_decay;       /* their weight decay is 0 */
    bool frozen;         /* they keep their values: no gradient, no state of the optimizer */
    bool trained;        /* they are not frozen, whatever an earlier group says */
    int muon;            /* with that optimizer, who steps their matrices: 1 muon, -1 adamw; 0: not said */
} dt_group_options;
/* Before the network is compiled, which fails where a pattern is of no parameter or nothing is left to train. Groups
 * are applied in order: of what they say the last counts. */
DT_API dt_status dt_net_group(dt_net *net, dt_group_options options);

/* Chooses kernels, plans and allocates memory, initialises the weights from the seed. Collective. */
DT_API dt_status dt_net_compile(dt_net *net);

/* Copies a tensor [rows, ...] to the input of that name. Training takes `batch` rows, evaluation up to as many. An
 * input keeps its rows until it is set again, also where this fails. Not collective, but for the compilation. */
DT_API dt_status dt_net_set(dt_net *net, const char *input, const dt_tensor *rows);
/* From inputs to outputs and losses. With DT_TRAINING layers use batch statistics and dropout. Not collective, but for
 * the compilation. DT_ERR_USAGE where inputs were not set, or to different numbers of rows. */
DT_API dt_status dt_net_forward(dt_net *net, dt_mode mode);
/* Gradients of the mean loss over the rows of all ranks, after a forward pass in training. Collective. Where rows of the
 * first loss have no target (a class below 0), these are its sum over the others by the number of all;
 * dt_net_update divides by the number of the others. */
DT_API dt_status dt_net_backward(dt_net *net);
/* The optimizer's step with them. Gradients that are not finite change nothing ("skipped" is then 1). Collective. */
DT_API dt_status dt_net_update(dt_net *net);
/* Forward in training, backward and update in one: the fastest way. Collective. */
DT_API dt_status dt_net_step(dt_net *net);

/* Views without a copy into the network's memory: an output of the last forward pass, [batch, ...] (of which the
 * rows that were set count); a parameter, or its gradient after backward. They are good until the next call for
 * this network; the network outlives them; the caller frees the view. */
DT_API dt_status dt_net_output(dt_net *net, const char *name, dt_tensor **out);
DT_API dt_status dt_net_parameter(dt_net *net, const char *name, dt_tensor **out);
DT_API dt_status dt_net_gradient(dt_net *net, const char *name, dt_tensor **out);
/* Parameters, and the name of number i (NULL: no such). */
DT_API int32_t dt_net_n_parameter(dt_net *net);
DT_API const char *dt_net_parameter_name(dt_net *net, int32_t i);

/* Of the last step or evaluation: "loss", a mean over rows; of several also "loss_<name>", without its weight; those
 * of the first loss (dt_loss), shares as 0..1; "rows" that counted; of a step also "grad_norm", "skipped". */
DT_API dt_status dt_net_metric(dt_net *net, const char *name, double *out);
/* Between these two, forward passes in evaluation add their metrics up, over all ranks, and use the mean of the
 * ranks' running statistics. Collective. */
DT_API dt_status dt_net_begin_evaluation(dt_net *net);
DT_API dt_status dt_net_end_evaluation(dt_net *net);
/* From the next step on. */
DT_API dt_status dt_net_set_lr(dt_net *net, double lr);

/* What the network is, for people: layers, shapes, parameters, FLOPs, memory. The text is the network's, until the
 * next call for it. */
DT_API dt_status dt_net_inspect(dt_net *net, const char **text);
/* Where the time of a step goes, for people: of each layer forward, backward, update, with bytes, FLOPs and what the
 * device gives. Repeats 4 + 2 `steps` steps with the inputs as they are and a learning rate of 0: weights stay, the
 * optimizer's state and batch norm's statistics move on. Collective. The text as above. */
DT_API dt_status dt_net_profile(dt_net *net, int64_t steps, const char **text);

/* Weights, optimizer state, statistics and step count, as a checkpoint below the directory `path`, which is made:
 * path/step-00001234. One that this network has saved as the same step before is replaced once the new one is whole;
 * what is of another network, or no checkpoint, stays, and the call fails. All ranks call it with the same path; rank
 * 0 writes. Errors: DT_ERR_IO (no room, no right, ulimit -f: never a signal), DT_ERR_NONFINITE. Collective. */
DT_API dt_status dt_net_save(dt_net *net, const char *path);
/* A checkpoint, or the newest sound one below `path`, of a network of the same layers and optimizer; training
 * goes on bit for bit. Every rank reads a path of its own, which may be another file, with the same in it; where it is
 * not the same, nothing is loaded anywhere. Errors: DT_ERR_CHECKPOINT. Collective. */
DT_API dt_status dt_net_load(dt_net *net, const char *path);

/* What dt_net_import makes of a file's names. */
typedef struct dt_weights_options {
    /* Pairs: a name of the file, or with "*" for any characters several of them, else a beginning; and what it is here:
     * {"backbone.*", "*"}. The first that fits counts. */
    const char *const (*rename)[2];
    int32_t n_rename;
    bool new_head; /* the last layer keeps its weights, and what else the file has is left out */
    bool partial;  /* weights that the file or the network lacks are no error */
} dt_weights_options;

/* Weights and statistics by name from a file in safetensors, the index of several, a state_dict of PyTorch (nothing of
 * which is executed), or a checkpoint;
 * layouts are turned into dtrain's (docs/model-files.md). The optimizer's state and the step stay. o NULL: all must fit.
 * All ranks call it with the same path; rank 0 reads, and all have the same. Errors: DT_ERR_CONFIG lists all that does not
 * fit, and then nothing is taken; DT_ERR_DATA, DT_ERR_CHECKPOINT. Collective. */
DT_API dt_status dt_net_import(dt_net *net, const char *path, const dt_weights_options *o);
/* Weights and statistics to a file in safetensors, or the network in evaluation as an ONNX model where the name ends in
 * ".onnx", under their names and in PyTorch's layouts. All ranks call it with the same path; rank 0 writes: whole or not at
 * all, in place of a file that is there. Errors: DT_ERR_IO, DT_ERR_NONFINITE. Collective. */
DT_API dt_status dt_net_export(dt_net *net, const char *path);

/* ---- data sets ----
 *
 * What `dtrain data import` makes and `dtrain train` reads: images, arrays of numbers, generated fields. A network's
 * inputs are filled by the fields of their names: of images "image" (U8 [height, width, channels]) and "label" (I32);
 * of arrays those of the files, "x" and "y" as a rule. */

typedef struct dt_data dt_data;

typedef struct dt_data_open_options {
    int64_t pad_crop;    /* training on images: a random crop out of so many zeros on each side; 0: none */
    bool random_resized; /* training on images: a random crop of random size, resized */
    bool flip;           /* training on images: half of them mirrored */
    /* Training on images, as [augment] has it (docs/config.md): colour jitter, the probability of grey, the least area of
     * random_resized (0: 0.08), operations drawn from a list, how often a sample stands in an epoch (0: once). */
    double brightness, contrast, saturation, hue, grayscale, scale_min;
    const char *policy;                   /* "randaugment", "trivialaugment"; NULL: none */
    int64_t policy_ops, policy_magnitude; /* randaugment; 0: 2 and 9 */
    int64_t repeats;
    /* Of a network whose dt_image_input has what dt_data_image gives for this data: the probability of a rectangle being
     * erased; rows mixed with others, lambda of Beta(this, this), and their labels in losses of cross_entropy. */
    double erase, mixup, cutmix;
    bool unverified; /* checksums of samples are not compared */
    int32_t threads; /* that read ahead; 0: one, with a GPU one a core */
    int64_t context; /* text: tokens of a sample, into which it is cut; 0: 1024 */
    bool isolated;   /* text: nothing is learnt of one document for another; rows have the field "segment" */
    /* Of the path "synthetic"; 0 and NULL: as [data] has it (docs/config.md). */
    const char *fields; /* "x:f32[13] y:f32"; NULL: images of size image_size */
    int64_t rows, classes, image_size, channels;
} dt_data_open_options;

/* Opens a directory of shards, one .h5 file, or "synthetic". Rows of text have "tokens" and "label", I32 [context]: the
 * label of a place is the token that follows, -1 where none is to be told. Options for another kind of data are refused. */
DT_API dt_status dt_data_open(dt_run *run, const char *path, dt_data_open_options options, dt_data **out);
DT_API void dt_data_free(dt_data *data);
/* Samples; 0 of what is no data set. */
DT_API int64_t dt_data_n_rows(const dt_data *data);
/* Classes of its labels; 0: none are known. */
DT_API int64_t dt_data_n_classes(const dt_data *data);
/* Type and shape of a row of the field of that name, as stored; either may be NULL. */
DT_API dt_status dt_data_field(const dt_data *data, const char *name, dt_dtype *type, dt_shape *shape);
/* Size, mean and deviation of its images, and whether it erases and mixes them, for dt_image_input. Networks may take them smaller: the centre. */
DT_API dt_status dt_data_image(const dt_data *data, dt_image_options *out);

/* Fills the network's inputs with the next batch. In training that of the network's step, without end: an epoch
 * holds every sample once, in an order that seed and epoch give, dealt to the ranks. In evaluation every sample once
 * in order, dealt to the ranks; *more (may be NULL in training) is false where none was left, and the next call
 * begins anew. A data set feeds one network at a time. */
DT_API dt_status dt_net_next(dt_net *net, dt_data *data, dt_mode mode, bool *more);

typedef struct dt_fit_options {
    double epochs; /* over the data; or */
    int64_t steps; /* so many, which goes first; both 0: one epoch */
    /* After every step, with its number from 0; other than DT_OK, on one rank, ends the training of all with that. NULL:
     * nothing. */
    dt_status (*after_step)(void *arg, dt_net *net, int64_t step);
    void *arg;
} dt_fit_options;
/* Trains: dt_net_next and dt_net_step, again and again. Collective. */
DT_API dt_status dt_net_fit(dt_net *net, dt_data *data, dt_fit_options options);
/* The metrics over the whole set. Collective. */
DT_API dt_status dt_net_evaluate(dt_net *net, dt_data *data);
/* The output of that name for every sample of the set in order, F32 [rows, ...], a host tensor, on every rank.
 * Collective. */
DT_API dt_status dt_net_predict(dt_net *net, dt_data *data, const char *output, dt_tensor **out);

/* ---- texts ----
 *
 * A network that reads tokens, an I32 input [T], and exposes logits of the next one at each place, [T, words], goes on with a
 * text place by place: of attention that is causal keys and values are kept, of recurrent layers states. */

typedef struct dt_sampler dt_sampler;

typedef struct dt_sampler_options {
    const char *tokens; /* name of the input; NULL: "tokens" */
    const char *logits; /* name of the output (dt_expose); NULL: "logits" */
    const char
        *text; /* a data set of text, whose tokenizer it is; NULL: tokens are bytes, and 256 ends a text */
    double temperature; /* logits are divided by it; 0: 1 */
    bool likeliest;     /* always the likeliest token, without a draw */
    int64_t top_k;      /* draws are among so many of the likeliest; 0: all */
    double top_p;       /* then among the fewest of these that have this part of the probability; 0: all */
    int64_t seed;       /* of the draws: texts of one seed and prompt are the same */
    bool no_stop;       /* goes on past the end of a text */
    bool
        window; /* a text longer than the network's T goes on from the last half of them; else it ends there */
} dt_sampler_options;

/* Works with the network's weights as they are at each token; it keeps the network's memory. DT_ERR_UNSUPPORTED, naming the
 * layer, where the network looks ahead or along the text in a way that does not go on. Not collective, but for the
 * compilation. */
DT_API dt_status dt_sampler_open(dt_net *net, dt_sampler_options options, dt_sampler **out);
DT_API void dt_sampler_free(dt_sampler *sampler);
/* A text begins with these n bytes, of any kind; with none as a text of the data begins. An earlier one is forgotten.
 * DT_ERR_USAGE where they are more than the network has places for; then the earlier one goes on. */
DT_API dt_status dt_sampler_prompt(dt_sampler *sampler, const char *text, size_t n);
/* The next token, -1 where the text has ended, and what of the text came with it: whole characters of UTF-8, often none or several,
 * with a zero behind them; the sampler's, until its next call. */
DT_API dt_status dt_sampler_next(dt_sampler *sampler, int32_t *token, const char **text);

/* ---- networks in files ----
 *
 * A network run as it is on the run's device, whoever wrote it: a run or checkpoint of dtrain, an ONNX model, Keras' .keras or
 * .h5, a SavedModel, a frozen GraphDef. */

typedef struct dt_netfile dt_netfile;

/* DT_ERR_DATA: no such file, damaged, or with ops that nobody here knows, all of them in the text; DT_ERR_CHECKPOINT, DT_ERR_IO:
 * of what dtrain trained, which goes through files in $TMPDIR that are gone when it returns. */
DT_API dt_status dt_netfile_open(dt_run *run, const char *path, dt_netfile **out);
DT_API void dt_netfile_free(dt_netfile *file);
/* Names of input and output i, from 0; NULL behind the last. */
DT_API const char *dt_netfile_input(const dt_netfile *file, int32_t i);
DT_API const char *dt_netfile_output(const dt_netfile *file, int32_t i);
/* in: a tensor for each input, of the type that the file says; out: gets one for each output, host tensors. Dimensions that the
 * file leaves open are those of the tensors; with other shapes than those of the last call it is compiled anew. DT_ERR_USAGE:
 * an input that does not fit, by name; DT_ERR_UNSUPPORTED: what the device has no kernel for, all of it in one text: nothing is
 * computed elsewhere. */
DT_API dt_status dt_netfile_run(dt_netfile *file, dt_tensor *const *in, dt_tensor **out);

/* ---- serving ----
 *
 * Networks of any file, asked from many threads: requests that wait at the same time run together.
 *
 *     dt_service_open(run, (dt_service_options){0}, &service);
 *     dt_service_load(service, "model.onnx", (dt_served_options){0}, &served);
 *     dt_infer(served, in, out);
 *
 * All of it may be called from any thread, at once. What runs together never changes a result at the levels none and basic. */

typedef struct dt_service dt_service;
typedef struct dt_served dt_served;   /* a network that was loaded */
typedef struct dt_request dt_request; /* an accepted request */

/* Numbers in memory that is the caller's, but where another owner is named. */
typedef struct dt_array {
    dt_dtype dtype;
    dt_shape shape;
    void *data;
    int64_t bytes; /* of data; 0 of what is read: as the shape says */
} dt_array;

typedef struct dt_service_options {
    int64_t workers; /* threads that put batches together and run them; 0: 2. The device runs one at a time */
    const char *affinity; /* of these, "0-3,8" of the cores that the process may use; NULL: all of those */
    int64_t memory_cap_bytes; /* weights and programs of all networks; 0: none */
    int64_t queue_limit;      /* requests that wait, of all networks; 0: 1024 */
} dt_service_options;

/* On the run's device, beside it. */
DT_API dt_status dt_service_open(dt_run *run, dt_service_options options, dt_service **out);
/* Accepts no more (DT_STOPPED), and waits until all that was accepted has its answer; what still waits after timeout_ms (-1: any
 * time) is answered with DT_STOPPED. */
DT_API dt_status dt_service_drain(dt_service *service, int64_t timeout_ms);
/* Drains, without a limit, and ends. Networks and requests that are still held stay what they are. Not from a dt_request_done. */
DT_API void dt_service_close(dt_service *service);

/* A step around a network, from any thread; other than DT_OK it becomes the request's answer. Before it, of the n inputs of a
 * request as they were given: to change one, array[i].data is pointed at memory of malloc, with type and shape, which is the service's from then on.
 * Behind it, of the n outputs: their data may be changed, or freed and replaced so. */
typedef dt_status dt_served_hook(void *arg, int32_t n, dt_array *array);

typedef struct dt_served_options {
    const char *name; /* NULL: of the file */
    int64_t version;  /* 0: 1 */
    const char *
        config; /* of a file of weights alone: the configuration (TOML) of their network; NULL: the file says */
    dt_level level;
    dt_weights_form weights;
    int64_t max_batch; /* rows at once; 0: 32. 1 where rows of a batch are not apart */
    int64_t
        max_delay_us; /* that the oldest request may wait for others, up to a day; 0: runs with who is there */
    int64_t queue_limit; /* of this network; 0: the service's */
    bool no_warm;        /* programs are compiled when first asked for, not when loaded */
    dt_image_form image; /* the only input is given as images of bytes, U8 N H W C */
    const char *softmax; /* of the output of that name, over its last dimension; NULL: of none */
    const char *labels;  /* a file with a class's name a line; NULL: those that the network's file says */
    dt_served_hook *before,
        *after; /* before the images' bytes are looked at, and after the softmax; NULL: none */
    void *hook_arg;
} dt_served_options;

/* Anything with a network in it: a run or checkpoint of dtrain, ONNX, Keras, a SavedModel or GraphDef, weights of PyTorch or in
 * safetensors that say of what network they are. DT_ERR_DATA, DT_ERR_CONFIG, DT_ERR_CHECKPOINT; DT_ERR_UNSUPPORTED: ops that
 * nobody here knows, a level whose results differ too much, a form of weights that is not there; DT_ERR_MEMORY: beyond the cap. */
DT_API dt_status dt_service_load(dt_service *service, const char *path, dt_served_options options,
                                 dt_served **out);
/* One holder more, and one less: the last one frees it, once its requests are answered. */
DT_API dt_status dt_served_hold(dt_served *served);
DT_API void dt_served_drop(dt_served *served);

typedef struct dt_served_info {
    const char *name, *format, *path; /* the network's, as all names here */
    int64_t version, max_batch;
    bool batched;    /* rows of different requests may run together */
    bool one_bucket; /* every run has max_batch rows: with fewer, results would have other bits */
    dt_level level;
    dt_weights_form weights;
    int32_t n_input, n_output;
    double
        level_error; /* largest difference from level none, in parts of the largest number, when loaded; -1: not looked at */
    int64_t weight_bytes;
} dt_served_info;
DT_API dt_status dt_served_get_info(const dt_served *served, dt_served_info *out);

typedef struct dt_served_value {
    const char *name;
    dt_dtype dtype;          /* DT_DTYPE_COUNT: the file does not say, or it is none of these */
    int32_t ndim;            /* -1: not told */
    int64_t dim[DT_MAX_DIM]; /* -1: any */
} dt_served_value;
DT_API dt_status dt_served_input(const dt_served *served, int32_t i, dt_served_value *out);
DT_API dt_status dt_served_output(const dt_served *served, int32_t i, dt_served_value *out);

/* The name of class i, the network's; "" where it has none. */
DT_API const char *dt_served_label(const dt_served *served, int64_t i);
/* Over the last dimension of floats, in place. */
DT_API dt_status dt_array_softmax(dt_array *array);
/* index [rows, k]: places of the k largest numbers of each row, a last dimension, in descending order, of equals the first. */
DT_API dt_status dt_array_top_k(const dt_array *array, int64_t k, int64_t *index);
/* A text as tokens of the network's tokenizer, I32 [n], freed by dt_array_free; and such tokens' bytes, with a zero behind them,
 * freed by free. DT_ERR_UNSUPPORTED: no language network that was trained here. */
DT_API dt_status dt_served_encode(const dt_served *served, const char *text, size_t n, dt_array *tokens);
DT_API dt_status dt_served_decode(const dt_served *served, const dt_array *tokens, char **text, size_t *n);

/* in: one for each input, out: gets one for each output. Where out[i].data is NULL it gets memory, freed by dt_array_free; else
 * out[i].bytes of room are there, and DT_ERR_USAGE where they are too few (shape then says what was needed). */
DT_API dt_status dt_infer(dt_served *served, const dt_array *in, dt_array *out);
DT_API void dt_array_free(dt_array *array);

/* status as of dt_request_wait; error "" where that is DT_OK. Exactly once for each accepted request, from a thread of the
 * service, or of who cancels or drains. Results are there (dt_request_output), and `request` may be dropped. */
typedef void dt_request_done(void *arg, dt_request *request, dt_status status, const char *error);

typedef struct dt_submit_options {
    dt_request_done *done; /* NULL: somebody waits */
    void *arg;
    int64_t deadline_us; /* from now; what has not begun by then is answered with DT_ERR_TIMEOUT. 0: none */
    int32_t priority;    /* 0 (usual) to 7; lower first */
} dt_submit_options;

/* Arrays are read until the request is answered. DT_ERR_BUSY: the queue is full; DT_ERR_USAGE: an input that does not fit, by
 * name; DT_STOPPED: the service is draining. Nothing was accepted then. */
DT_API dt_status dt_submit(dt_served *served, const dt_array *in, dt_submit_options options,
                           dt_request **out);
/* The answer; DT_ERR_TIMEOUT: none yet after timeout_ms (-1: any time), and it goes on; dt_request_is_answered tells this from a
 * deadline. */
DT_API dt_status dt_request_wait(dt_request *request, int64_t timeout_ms);
DT_API bool dt_request_is_answered(const dt_request *request);
/* One that has not begun is answered with DT_STOPPED, else nothing changes. Whether it was so. */
DT_API bool dt_request_cancel(dt_request *request);
/* Output i of one that was answered with DT_OK; data are the request's. */
DT_API dt_status dt_request_output(const dt_request *request, int32_t i, dt_array *out);
typedef struct dt_request_timing {
    double queue_s, input_s, compute_s,
        output_s;  /* waiting, gathering rows, the batch's run, cutting results */
    int64_t batch; /* rows that ran together */
} dt_request_timing;
DT_API dt_status dt_request_times(const dt_request *request,
                                  dt_request_timing *out); /* answered with DT_OK */
DT_API void dt_request_drop(dt_request *request); /* an answer that is still to come goes to `done` alone */

enum { DT_BATCH_BUCKETS = 16 };
typedef struct dt_service_counts {
    int64_t accepted, succeeded, failed, refused, cancelled, expired; /* requests */
    int64_t waiting, running;                                         /* now */
    int64_t rows, runs;                                               /* rows answered, batches run */
    int64_t batch_runs[DT_BATCH_BUCKETS];                             /* of up to 2^i rows */
    double queue_s, input_s, compute_s, output_s;                     /* sums over requests */
    /* From submission to answer, within 1 % of what was measured. */
    double latency_min_s, latency_avg_s, latency_max_s, latency_p50_s, latency_p90_s, latency_p99_s,
        latency_p999_s;
} dt_service_counts;
DT_API dt_status dt_service_stats(const dt_service *service, dt_service_counts *out); /* gone networks too */
DT_API dt_status dt_served_stats(const dt_served *served, dt_service_counts *out);

typedef struct dt_service_usage {
    int64_t rss_bytes, host_bytes, memory_limit_bytes; /* limit: of the control group; -1: none */
    double cpu_seconds, cpu_limit;                     /* of the process; cores that it may use */
    int64_t device_bytes, device_used_bytes;           /* of a GPU; used: by this service. 0 without one */
    double device_utilisation;                         /* 0 to 1; -1: not known */
    int64_t network_bytes;                             /* weights and programs */
} dt_service_usage;
DT_API dt_status dt_service_resources(const dt_service *service, dt_service_usage *out);

/* Where the time of a run with these inputs goes, kernel by kernel, for people: means over `runs` runs, beside the requests, which
 * wait meanwhile. The text is the network's, until its next profile. */
DT_API dt_status dt_served_profile(dt_served *served, const dt_array *in, int64_t runs, const char **text);

/* Memory that the device reads fastest from, zeroed; freed by dt_service_buffer_free, or with the service. */
DT_API dt_status dt_service_buffer(dt_service *service, int64_t bytes, void **out);
DT_API void dt_service_buffer_free(dt_service *service, void *data);

#ifdef __cplusplus
}
#endif
#endif
