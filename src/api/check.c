/* Numbers of options, and the words that errors of the rooms below use. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "api.h"

/* What a float makes of x. */
static double rounded(double x) {
    return (double)(float)x;
}

dt_status dt_check_real(const char *function, const char *field, double x, double least, double most) {
    if (x == 0) return DT_OK;
    if (x >= least && x <= most && rounded(x) != 0 && rounded(x) >= rounded(least) &&
        rounded(x) <= rounded(most))
        return DT_OK;
    return dt_fail(DT_ERR_CONFIG, "%s: %s is %.9g, expected %.9g to %.9g", function, field, x, least, most);
}

dt_status dt_check_whole(const char *function, const char *field, int64_t x, int64_t least, int64_t most) {
    if (x == 0 || (x >= least && x <= most)) return DT_OK;
    return dt_fail(DT_ERR_CONFIG, "%s: %s is %lld, expected %lld to %lld", function, field, (long long)x,
                   (long long)least, (long long)most);
}

dt_status dt_check_brought(const char *function, dt_status status) {
    if (status < DT_OK || status >= DT_STATUS_COUNT)
        return dt_fail(DT_ERR_USAGE, "%s: %d is no dt_status", function, (int)status);
    if (status == DT_OK || dt_error_is_of(status)) return status;
    return dt_fail(status, "%s: the program brought the status \"%s\" itself", function,
                   dt_status_name(status));
}

/* What the rooms below call by its key of a configuration, and a program by its option. The first that fits counts. */
static const struct {
    const char *key, *option;
} word_table[] = {
    {"set train.micro_batch to a divisor of train.global_batch that is not larger",
     "set dt_net_options.batch to no more"},
    {", or train.recompute = \"auto\"", ""},
    {"model.vocab", "dt_model_add_options.vocab"},
    {"train.eval_batch", "dt_net_options.batch"},
    {"train.micro_batch", "dt_net_options.batch"},
    {"train.global_batch", "the batch of all ranks"},
    {"train.sync_batch_norm", "dt_net_options.sync_batch_norm"},
    {"train.precision = \"fp32\"", "dt_net_options.compute = DT_DTYPE_F32"},
    {"train.precision", "dt_net_options.compute"},
    {"use \"fp32\"", "use DT_DTYPE_F32"},
    {"(`dtrain inspect` lists the layers)", "(dt_net_parameter_name has them)"},
    {"add a group with frozen = false", "add a group with trained = true"},
    {"optim.groups", "dt_net_group: group"},
    {"optim.kind = ", "the optimizer "},
    {"set that, or start anew with another run.out_dir", "set that in dt_net_options.optimizer"},
    {"set those it was written with, or start anew with another run.out_dir",
     "build the network that was saved"},
    {"data.verify = false", "dt_data_open_options.unverified"},
    {"data.synthetic_fields", "dt_data_open_options.fields"},
    {": set data.image_size", ": give the network images of another size"},
    {"another data.image_size", "images of another size"},
    {"data.image_size", "dt_data_open_options.image_size"},
    {"data.channels", "dt_data_open_options.channels"},
    {"data.decoder", "the decoder"},
    {"augment.crop = \"pad\"", "dt_data_open_options.pad_crop"},
    {"augment.pad", "dt_data_open_options.pad_crop"},
    {": nonlinearity = ", ": function = "},
    {"model.classes", "the number of classes"},
    {"set model.path", "set dt_model_add_options.path"},
    {"model.init_head = \"new\"", "new_head = true"},
    {"model.init_rename", "dt_weights_options.rename"},
    {"model.init_strict = false", "dt_weights_options.partial"},
    {"dist.timeout_s", "dt_run_options.timeout_s"},
    {"dist.share_gpu = true", "dt_run_options.share_gpu"},
    {"dist.backend = \"mpi\"", "a build without NCCL"},
    {"data.documents = \"isolated\"", "dt_data_open_options.isolated"},
    {"run.device = \"cpu\"", "dt_run_options.device = DT_DEVICE_CPU"},
};

void dt_api_rephrase(char *text, size_t size) {
    char out[4096];
    size_t n = 0;
    for (const char *at = text; *at && n + 1 < sizeof out && n + 1 < size;) {
        size_t i = 0;
        while (i < sizeof word_table / sizeof word_table[0] &&
               strncmp(at, word_table[i].key, strlen(word_table[i].key)) != 0)
            i++;
        if (i == sizeof word_table / sizeof word_table[0]) {
            out[n++] = *at++;
            continue;
        }
        const size_t room = (sizeof out < size ? sizeof out : size) - 1 - n,
                     len = strlen(word_table[i].option);
        memcpy(out + n, word_table[i].option, len < room ? len : room);
        n += len < room ? len : room;
        at += strlen(word_table[i].key);
    }
    memcpy(text, out, n);
    text[n] = 0;
}
