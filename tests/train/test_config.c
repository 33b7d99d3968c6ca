/* The configuration: defaults, files, overrides, what is refused and in which words, and the text that reads
 * back. */
#include "model/task.h"
#include "train/config.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define DATA    "[data]\ntrain = \"a\"\nval = \"b\"\n" /* lines 1 to 3 */
#define EPOCHS  "train.epochs = 1\n"
#define MINIMAL EPOCHS DATA

static dt_status parse(dt_config *c, const char *text) {
    return dt_config_parse(c, "dir/run.toml", text, 0, NULL);
}

static void defaults_hold(void **state) {
    (void)state;
    dt_config c;
    assert_int_equal(parse(&c, MINIMAL), DT_OK);
    assert_string_equal(c.path, "dir/run.toml");
    assert_string_equal(c.run.out_dir, "runs/run");
    assert_string_equal(c.run.resume, "auto");
    assert_string_equal(c.model.name, "resnet18");
    assert_string_equal(c.data.train, "a");
    assert_int_equal(c.run.device, DT_DEVICE_AUTO);
    assert_int_equal(c.optim.kind, DT_OPTIM_MOMENTUM);
    assert_true(c.optim.lr == 0.1 && c.optim.momentum == 0.9 && c.optim.weight_decay == 1e-4);
    assert_true(c.train.epochs == 1);
    assert_int_equal(c.schedule.kind, DT_SCHEDULE_COSINE);
    assert_int_equal(c.checkpoint.keep_last, 3);
    assert_true(c.dist.overlap);
    assert_int_equal(c.augment.n_mean, 0);
    assert_null(c.model.layers);
    dt_config_fini(&c);
}

static void values_are_read(void **state) {
    (void)state;
    dt_config c;
    assert_int_equal(parse(&c, "train = {epochs = 2.5, global_batch = 256, micro_batch = 64}\n" DATA
                               "[augment]\nmean = [0.5, 0, 1]\nstd = [0.1, 0.2, 3]\ncrop = \"pad\"\n"
                               "[run]\nseed = 9223372036854775807\nout_dir = 'x \"y\" \\'\n"
                               "[optim]\nlr = 1\nkind = \"adamw\"\n"
                               "[schedule]\nkind = \"step\"\nmilestones = [1, 2.5]\n"),
                     DT_OK);
    assert_true(c.train.epochs == 2.5);
    assert_int_equal(c.train.micro_batch, 64);
    assert_int_equal(c.augment.n_mean, 3);
    assert_true(c.augment.mean[0] == 0.5 && c.augment.mean[1] == 0 && c.augment.stddev[2] == 3);
    assert_int_equal(c.augment.crop, DT_CROP_PAD);
    assert_true(c.run.seed == INT64_MAX);
    assert_string_equal(c.run.out_dir, "x \"y\" \\");
    assert_true(c.optim.lr == 1);
    assert_int_equal(c.optim.kind, DT_OPTIM_ADAMW);
    assert_int_equal(c.schedule.n_milestones, 2);
    dt_config_fini(&c);
}

static const char layers_text[] =
    MINIMAL "[model]\nname = \"layers\"\n"
            "[[model.layers]]\ntype = \"conv\"\nname = \"trunk\"\nchannels = 8\n"
            "[[model.layers]]\ntype = \"maxpool\"\nkernel = 3\n"
            "[[model.layers]]\ntype = \"dropout\"\nfrom = \"trunk\"\n"
            "[[model.layers]]\ntype = \"add\"\nwith = \"trunk\"\n"
            "[[model.layers]]\ntype = \"dense\"\nchannels = 10\nbias = false\n";

static void layers_are_read(void **state) {
    (void)state;
    dt_config c;
    assert_int_equal(parse(&c, layers_text), DT_OK);
    assert_int_equal(c.model.n_layers, 5);
    const dt_layer_entry *l = c.model.layers;
    const dt_conv2d_options *conv = (const void *)l[0].options;
    assert_string_equal(l[0].row->type, "conv");
    assert_string_equal(l[0].name, "trunk");
    assert_int_equal(conv->channels, 8);
    assert_int_equal(conv->kernel, 3);
    assert_int_equal(conv->pad, -1);
    assert_int_equal(conv->groups, 1);
    assert_false(conv->no_bias);
    assert_int_equal(l[0].line, 7);
    const dt_pool_options *pool = (const void *)l[1].options;
    assert_string_equal(l[1].name, "layer2");
    assert_int_equal(pool->stride, 3);
    assert_int_equal(pool->pad, 0);
    assert_string_equal(l[2].from, "trunk");
    assert_true(((const dt_dropout_options *)(const void *)l[2].options)->rate == 0.5);
    assert_int_equal(l[3].n_with, 1);
    assert_string_equal(l[3].with[0], "trunk");
    assert_true(((const dt_dense_options *)(const void *)l[4].options)->no_bias);
    dt_config_fini(&c);
}

static void overrides_win(void **state) {
    (void)state;
    dt_config c;
    const char *const override[] = {
        "optim.lr=0.25",           "run.out_dir=/tmp/a b",
        "optim.kind=adamw",        "schedule.kind=step",
        "schedule.milestones=1,2", "augment.mean=[0.5]",
        "augment.std=[ 0.25 ]",    "run.resume=\"never\"",
        "train.steps=7",           "checkpoint.async=false",
        "data.train=a=b\\c\"d",    "optim.lr=0.5",
        "model.name=layers",       "model.layers=[{type='flatten'}, {type='dense', channels=3}]"};
    int n = (int)(sizeof override / sizeof override[0]);
    assert_int_equal(dt_config_parse(&c, "x", MINIMAL "[optim]\nlr = 3.0\n", n, override), DT_OK);
    assert_true(c.optim.lr == 0.5);
    assert_string_equal(c.run.out_dir, "/tmp/a b");
    assert_int_equal(c.optim.kind, DT_OPTIM_ADAMW);
    assert_int_equal(c.schedule.n_milestones, 2);
    assert_true(c.augment.stddev[0] == 0.25);
    assert_string_equal(c.run.resume, "never");
    assert_int_equal(c.train.steps, 7);
    assert_false(c.checkpoint.async);
    assert_string_equal(c.data.train, "a=b\\c\"d");
    assert_int_equal(c.model.n_layers, 2);
    dt_config_fini(&c);
}

typedef struct refusal {
    const char *text;
    const char *message; /* the start of the error after "f.toml:" */
} refusal;

/* MINIMAL fills lines 1 to 4. */
static const refusal refusals[] = {
    /* TOML itself */
    {"a = ", "1:5: "},
    {"[data\n", "1:6: "},
    {"\n\nx = \"abc\n", "3:9: "},
    {"[a]\nb = 1\nb = 2\n", "3:5: "},
    {"a = \"\\u0000\"", "1:5: a NUL character"},
    {"a = \"\xff\"", "1:"},
    {"x = 1 # \xc3\xa4 \"\ny = \"\xc3\xa4\"\n\xc3\xa4 = 1\n", "3:1: "},
    {"x = \"\"\"\"\" # quotes end\n", "1:"},
    {"x = \"\"\"a\n.\"\"\"\"\" \xc3\xa4\n", "2:8: "},
    {"[run]\n[ = 1\n", "2:1: malformed key or table"},
    {"a = [[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]", "1:"},
    {"a.b.c.d.e.f.g.h.a.b.c.d.e.f.g.h.a.b.c.d.e.f.g.h.a.b.c.d.e.f.g.h.a.b.c.d.e.f.g.h.a.b.c.d.e.f.g.h."
     "a.b.c.d.e.f.g.h.a.b.c.d.e.f.g.h.a.b.c.d.e.f.g.h = 1",
     "1:1: more than 64 dots in one line"},
    /* unknown names */
    {MINIMAL "[optim]\nlrr = 0.1\n", "6:1: optim.lrr: unknown key; did you mean optim.lr?"},
    {MINIMAL "[optim]\nwieght_decay = 0.1\n",
     "6:1: optim.wieght_decay: unknown key; did you mean optim.weight_decay?"},
    {MINIMAL "[model]\nlr = 0.1\n", "6:1: model.lr: unknown key; did you mean optim.lr?"},
    {MINIMAL "[model]\nbatch_size = 1\n",
     "6:1: model.batch_size: unknown key; did you mean train.global_batch?"},
    {MINIMAL "[model]\nzzz = 1\n", "6:1: model.zzz: unknown key; `dtrain config` lists all keys"},
    {MINIMAL "[optm]\nlr = 1\n", "5:2: optm: unknown section; did you mean optim?"},
    {MINIMAL "[qwertyuiop]\nlr = 1\n", "5:2: qwertyuiop: unknown section; there are run, model"},
    {"lr = 1\n", "1:1: lr: unknown key; did you mean optim.lr?"},
    {MINIMAL "[optim.lr]\nx = 1\n", "5:1: optim.lr: expected a number, got a table"},
    {MINIMAL "[[optim]]\nx = 1\n", "5:3: optim: is a section: write [optim]"},
    {"run = 3\n", "1:1: run: is a section: write [run]"},
    /* wrong types */
    {MINIMAL "[optim]\nlr = \"0.1\"\n", "6:6: optim.lr: expected a number, got a string"},
    {MINIMAL "[optim]\nlr = true\n", "6:6: optim.lr: expected a number, got a boolean"},
    {MINIMAL "[optim]\nkind = 1\n", "6:8: optim.kind: expected a string, got an integer"},
    {MINIMAL "[run]\nseed = 1.5\n", "6:8: run.seed: expected an integer, got 1.5"},
    {MINIMAL "[run]\nseed = 1e3\n", "6:8: run.seed: expected an integer, got 1000: write it without"},
    {MINIMAL "[run]\nseed = 1979-05-27\n", "6:8: run.seed: expected an integer, got a date"},
    {MINIMAL "[run]\ntensorboard = 1\n", "6:15: run.tensorboard: expected true or false, got an integer"},
    {MINIMAL "[augment]\nmean = 0.5\n", "6:8: augment.mean: expected an array of numbers, got a number"},
    {MINIMAL "[augment]\nmean = [0.5,\n\"x\"]\n", "7:1: augment.mean: expected a number, got a string"},
    {MINIMAL "[augment]\nmean = [1, 1, 1, 1, 1]\n", "6:8: augment.mean: 5 entries: at most 4"},
    /* out of range */
    {MINIMAL "[optim]\nlr = -0.1\n", "6:6: optim.lr: -0.1 is out of range: must be from 0 to 1000000"},
    {"[model]\nname = \"autoencoder\"\n[data]\ntrain = \"x\"\n[train]\nepochs = 1\n",
     "2:8: model.task: \"classify\", but autoencoder gives how far it misses what it reads: set model.task = "
     "\"minimize\""},
    {MINIMAL "[optim]\nlr = nan\n", "6:6: optim.lr: must be a finite number"},
    {MINIMAL "[optim]\nlr = inf\n", "6:6: optim.lr: must be a finite number"},
    {MINIMAL "[optim]\nbeta1 = 1.0\n", "6:9: optim.beta1: 1 is out of range: must be at least 0 and below 1"},
    {MINIMAL "[optim]\neps = 0\n", "6:7: optim.eps: 0 is out of range: must be above 0 and at most 1"},
    {MINIMAL "[run]\nseed = -1\n", "6:8: run.seed: -1 is out of range: must be at least 0"},
    {MINIMAL "[checkpoint]\nkeep_last = 1\n",
     "6:13: checkpoint.keep_last: 1 is out of range: must be from 2 to 1000000"},
    {"train.global_batch = 0\n", "1:22: train.global_batch: 0 is out of range"},
    {"train.global_batch = 9223372036854775807\n",
     "1:22: train.global_batch: 9.22337203685e+18 is out of range"},
    {"train.global_batch = 9223372036854775808\n", "1:"},
    {MINIMAL "[augment]\nmean = [1.0]\nstd = [0.0]\n",
     "7:8: augment.std: 0 is out of range: must be above 0"},
    {MINIMAL "[optim]\nkind = \"adamv\"\n", "6:8: optim.kind: \"adamv\" is not one of \"sgd\", \"momentum\", "
                                            "\"nesterov\", \"adam\", \"adamw\", "},
    {MINIMAL "[optim]\nkind = \"rmsprop2\"\n", "6:8: optim.kind: \"rmsprop2\" is not one of "},
    {MINIMAL "[model]\nname = \"resnet19\"\n", "6:8: model.name: \"resnet19\" is not one of"},
    /* required */
    {EPOCHS "[data]\ntrain = \"\"\nval = \"b\"\n", "3:9: data.train: is required: "},
    {EPOCHS, "1:1: data.train: is required"},
    {DATA, "1:1: train.epochs: set train.epochs or train.steps above 0"},
    {DATA "[train]\nepochs = 0.0\n", "5:10: train.epochs: set train.epochs or train.steps above 0"},
    {MINIMAL "[run]\nresume = \"\"\n", "6:10: run.resume: is empty"},
    /* contradictions */
    {"train = {epochs = 1, global_batch = 128, micro_batch = 48}\n" DATA,
     "1:56: train.micro_batch: 48 does not divide train.global_batch = 128"},
    {"train = {epochs = 1, global_batch = 16, micro_batch = 48}\n" DATA,
     "1:55: train.micro_batch: 48 is larger than train.global_batch = 16"},
    {MINIMAL "[run]\ndevice = \"cpu\"\n[data.x]\n", "7:7: data.x: unknown key"},
    {"train = {epochs = 1, precision = \"bf16\"}\nrun.device = \"cpu\"\n" DATA,
     "1:34: train.precision: run.device = \"cpu\" computes in fp32 only"},
    {"run.device = \"cpu\"\n" MINIMAL "[dist]\nbackend = \"nccl\"\n", "7:11: dist.backend: nccl needs GPUs"},
    {EPOCHS "[data]\ntrain = \"synthetic\"\nval = \"b\"\n",
     "3:9: data.image_size: synthetic data has no stored size"},
    {MINIMAL "[augment]\ncrop = \"pad\"\npad = 0\n",
     "7:7: augment.pad: augment.crop = \"pad\" needs a pad above 0"},
    {MINIMAL "[augment]\nscale_min = 0.5\nscale_max = 0.25\n", "6:13: augment.scale_min: 0.5 is above"},
    {MINIMAL "[augment]\nratio_min = 2.0\n", "6:13: augment.ratio_min: 2 is above augment.ratio_max"},
    {MINIMAL "[augment]\nmean = [0.5, 0.5]\nstd = [0.1]\n",
     "6:8: augment.mean: augment.mean is for 2 channels, "
     "augment.std for 1: give both"},
    {EPOCHS DATA "image_size = 224\n[augment]\neval_resize = 200\n",
     "7:15: augment.eval_resize: 200 is below"},
    {EPOCHS DATA "image_size = 224\nval_size = 256\n[augment]\neval_resize = 240\n",
     "8:15: augment.eval_resize: 240 is below data.val_size = 256"},
    {EPOCHS DATA "image_size = 224\nval_size = 256\ndecoder = \"nvjpeg\"\n",
     "6:12: data.val_size: data.decoder = \"nvjpeg\" makes images of one size"},
    {MINIMAL "[augment]\npolicy = \"randaugment\"\npolicy_magnitude = 10\npolicy_bins = 10\n",
     "7:20: augment.policy_magnitude: 10 is not below augment.policy_bins = 10"},
    {MINIMAL "[augment]\nerase = 0.5\nerase_scale_min = 0.5\n",
     "7:19: augment.erase_scale_min: 0.5 is above"},
    {MINIMAL "[augment]\nerase = 0.5\nerase_ratio_max = 0.1\n", "6:9: augment.erase_ratio_min: 0.3 is above"},
    {MINIMAL "[augment]\nerase = 1.5\n", "6:9: augment.erase: "},
    {MINIMAL "[augment]\nhue = 0.6\n", "6:7: augment.hue: "},
    {MINIMAL "[augment]\nmixup = -1\n", "6:9: augment.mixup: "},
    {MINIMAL "[augment]\nrepeats = 0\n", "6:11: augment.repeats: "},
    {MINIMAL "[augment]\nmix_prob = 0.5\n",
     "6:12: augment.mix_prob: would be ignored: it counts only with augment.mixup > 0 or augment.cutmix > 0"},
    {MINIMAL "[augment]\nmixup = 1.0\nmix_switch = 0.5\n", "7:14: augment.mix_switch: would be ignored"},
    {MINIMAL "[augment]\nmixup = 1.0\n[model]\ntask = \"regress\"\n", "6:9: augment.mixup: would be ignored"},
    {MINIMAL "[augment]\nfill = 9\n", "6:8: augment.fill: would be ignored"},
    {MINIMAL "[augment]\npolicy = \"trivialaugment\"\npolicy_ops = 2\n",
     "7:14: augment.policy_ops: would be ignored"},
    {MINIMAL "[augment]\nerase_fill = \"noise\"\n", "6:14: augment.erase_fill: would be ignored"},
    {MINIMAL "[model]\nbce_threshold = 0.2\n", "6:17: model.bce_threshold: would be ignored"},
    {EPOCHS "train.ema_warmup = 0.67\n" DATA, "2:20: train.ema_warmup: would be ignored"},
    {MINIMAL "[optim]\nkind = \"nesterov\"\nmomentum = 0\n", "7:12: optim.momentum: nesterov needs"},
    {MINIMAL "[schedule]\nkind = \"step\"\n",
     "6:8: schedule.milestones: schedule.kind = \"step\" needs milestones"},
    {MINIMAL "[schedule]\nkind = \"step\"\nmilestones = [3, 3]\n",
     "7:14: schedule.milestones: must ascend, but 3"},
    {MINIMAL "[schedule]\nwarmup_epochs = 1\n",
     "6:17: schedule.warmup_epochs: the warm-up of 1 epochs fills"},
    {"train.steps = 10\n" DATA "[schedule]\nwarmup_steps = 10\n",
     "6:16: schedule.warmup_steps: the warm-up of 10"},
    {MINIMAL "[checkpoint]\nevery_steps = 10\nevery_epochs = 0\nkeep_every = 15\n",
     "8:14: checkpoint.keep_every: 15 is no multiple of checkpoint.every_steps = 10"},
    {EPOCHS "train.early_stop_patience = 2\n[data]\ntrain = \"a\"\n",
     "2:29: train.early_stop_patience: evaluations decide, but data.val is not set"},
    {EPOCHS "train.eval_every_epochs = 0\ntrain.early_stop_patience = 2\n" DATA,
     "3:29: train.early_stop_patience: evaluations decide, but train.eval_every_epochs = 0"},
    {MINIMAL "[checkpoint]\nbest_metric = \"top1\"\n", "6:15: checkpoint.best_metric: "},
    /* what would be ignored */
    {MINIMAL "[optim]\nkind = \"adam\"\nmomentum = 0.9\n",
     "7:12: optim.momentum: would be ignored: it counts only with optim.kind = momentum, nesterov, rmsprop, "
     "rmsprop_tf, lars, muon, and here optim.kind = \"adam\"; take it out"},
    {MINIMAL "[optim]\nmomentum = 0.9\nkind = \"sgd\"\n", "6:12: optim.momentum: would be ignored"},
    {MINIMAL "[optim]\nbeta1 = 0.9\n", "6:9: optim.beta1: would be ignored"},
    {MINIMAL "[optim]\nkind = \"adamw\"\ntrust = 0.1\n", "7:9: optim.trust: would be ignored"},
    {MINIMAL "[schedule]\ncooldown = 0.2\n",
     "6:12: schedule.cooldown: would be ignored: it counts only with schedule.kind = wsd, wsd_sqrt, and here "
     "schedule.kind = \"cosine\""},
    {MINIMAL "[schedule]\nkind = \"constant\"\nfinal = 0.0\n", "7:9: schedule.final: would be ignored"},
    {MINIMAL "[schedule]\nmilestones = []\n", "6:14: schedule.milestones: would be ignored"},
    {MINIMAL "[schedule]\nwarmup_epochs = 0.5\nwarmup_steps = 5\n",
     "6:17: schedule.warmup_epochs: would be ignored: it counts only with schedule.warmup_steps = 0, and "
     "here "
     "schedule.warmup_steps = 5"},
    {MINIMAL "[schedule]\nwarmup_start = 0.5\n",
     "6:16: schedule.warmup_start: would be ignored: it counts only with schedule.warmup_steps > 0 or "
     "schedule.warmup_epochs > 0"},
    {MINIMAL "[augment]\npad = 4\n",
     "6:7: augment.pad: would be ignored: it counts only with images and augment.crop = pad, and here "
     "augment.crop = \"none\""},
    {MINIMAL "[augment]\ncrop = \"pad\"\nscale_min = 0.5\n", "7:13: augment.scale_min: would be ignored"},
    {MINIMAL "synthetic_samples = 10\n", "5:21: data.synthetic_samples: would be ignored"},
    {EPOCHS
     "[data]\ntrain = \"b\"\nval = \"synthetic\"\nsynthetic_fields = \"x:f32\"\nsynthetic_channels = 5\n",
     "6:22: data.synthetic_channels: 5 is out of range"},
    {MINIMAL "[model]\ntask = \"regress\"\nclasses = 0\n",
     "7:11: model.classes: would be ignored: it counts only with model.task = classify, and here model.task "
     "= "
     "\"regress\""},
    {MINIMAL "[model]\ntask = \"regress\"\npos_weight = 2\n", "7:14: model.pos_weight: would be ignored"},
    {MINIMAL "[model]\ntask = \"regress\"\nloss = \"l1\"\nhuber_delta = 2\n",
     "8:15: model.huber_delta: would be ignored: it counts only with model.loss = huber, and here model.loss "
     "= \"l1\""},
    {MINIMAL "[model]\ntask = \"minimize\"\ntarget = \"y\"\n", "7:10: model.target: would be ignored"},
    {MINIMAL "[model]\nname = \"quickstart\"\nsmall_stem = false\n",
     "7:14: model.small_stem: would be ignored"},
    {MINIMAL "[model]\nname = \"layers\"\nbn_eps = 1e-3\n[[model.layers]]\ntype = \"relu\"\n",
     "7:10: model.bn_eps: would be ignored: it counts only with model.name = quickstart, resnet*, resnext*, "
     "wide_resnet*, mobilenet_v2, efficientnet_b0, efficientnet_b1, efficientnet_b2, efficientnet_b3, "
     "efficientnet_b4 or model.layers.type = batchnorm, and here model.name = \"layers\""},
    {MINIMAL "[model]\nname = \"resnet18\"\ndropout = 0.1\n", "7:11: model.dropout: would be ignored"},
    {MINIMAL "[model]\nname = \"mobilenet_v2\"\ndrop_path = 0.1\n",
     "7:13: model.drop_path: would be ignored"},
    {"train = {epochs = 1, label_smoothing = 0.1}\n[model]\ntask = \"multilabel\"\n" DATA,
     "1:40: train.label_smoothing: would be ignored: it counts only with model.task = classify, language, "
     "masked_language or model.losses.kind = cross_entropy, class_bce, and here model.task = \"multilabel\""},
    {MINIMAL "[model]\nloss = \"mse\"\n",
     "6:8: model.loss: \"mse\" is of another task: model.task = \"classify\" has \"cross_entropy\""},
    {"train = {epochs = 1, early_stop_min_delta = 0.0}\n" DATA,
     "1:45: train.early_stop_min_delta: would be ignored"},
    {MINIMAL "[[model.losses]]\nof = \"a\"\nkind = \"mse\"\nparam = 1.0\n",
     "8:9: model.losses[0].param: would be ignored here: it is for kind = huber, bce alone"},
    {MINIMAL "[[model.losses]]\nof = \"a\"\nkind = \"value\"\ntarget = \"y\"\n",
     "8:10: model.losses[0].target: would be ignored here"},
    /* layers */
    {MINIMAL "[model]\nname = \"layers\"\n", "6:8: model.name: \"layers\" needs [[model.layers]] entries"},
    {MINIMAL "[[model.layers]]\ntype = \"relu\"\n", "5:"},
    {MINIMAL "[model]\nlayers = 1\n", "6:10: model.layers: expected [[model.layers]] tables, got an integer"},
    {MINIMAL "[model]\nlayers = [1]\n", "6:11: model.layers[0]: expected a table, got an integer"},
    {MINIMAL "[[model.layers]]\nchannels = 1\n", "5:1: model.layers[0]: has no type"},
    {MINIMAL "[[model.layers]]\ntype = 1\n", "6:8: model.layers[0]: type: expected a string"},
    {MINIMAL "[[model.layers]]\ntype = \"conv2d\"\n",
     "6:8: model.layers[0]: \"conv2d\" is no layer type; did you "
     "mean \"conv\"?"},
    {MINIMAL "[[model.layers]]\ntype = \"conv\"\n", "5:1: model.layers[0]: conv needs channels"},
    {MINIMAL "[[model.layers]]\ntype = \"conv\"\nchanels = 1\n",
     "7:1: model.layers[0]: conv has no key chanels; did "
     "you mean channels?"},
    {MINIMAL "[[model.layers]]\ntype = \"relu\"\nkernel = 1\n",
     "7:1: model.layers[0]: relu has no key kernel; its "
     "keys are type, name, from"},
    {MINIMAL "[[model.layers]]\ntype = \"conv\"\nchannels = 0\n",
     "7:12: model.layers[0].channels: 0 is out of range"},
    {MINIMAL "[[model.layers]]\ntype = \"lstm\"\nhidden = 4\ndropout = 0.5\n",
     "8:11: model.layers[0].dropout: would be ignored here: it is for layers > 1 alone"},
    {MINIMAL "[[model.layers]]\ntype = \"attention\"\ntheta = 5e5\nheads = 2\n",
     "7:9: model.layers[0].theta: would be ignored here: it is for rotary = true alone"},
    {MINIMAL "[[model.layers]]\ntype = \"split\"\nparts = 3\nsizes = [1, 2]\n",
     "7:9: model.layers[0].parts: would be ignored here: it is for sizes = [] alone"},
    {MINIMAL "[[model.layers]]\ntype = \"relu\"\nname = \"a b\"\n",
     "5:1: model.layers[0].name: \"a b\": only"},
    {MINIMAL "[[model.layers]]\ntype = \"relu\"\nname = \"input\"\n",
     "5:1: model.layers[0].name: \"input\" has a meaning of its own"},
    {MINIMAL "[optim]\nbeta2 = 0.99999999\n", "6:9: optim.beta2: 0.99999999 is 1 in fp32"},
    {MINIMAL "[model]\nbn_eps = 1e-60\n", "6:10: model.bn_eps: 1e-60 is too small for fp32"},
    {MINIMAL "[[model.layers]]\ntype = \"relu\"\nname = \"loss\"\n",
     "5:1: model.layers[0].name: \"loss\" has a meaning of its own"},
    {MINIMAL "[[model.layers]]\ntype = \"relu\"\n[[model.layers]]\ntype = \"relu\"\nname = \"layer1\"\n",
     "7:1: model.layers[1].name: \"layer1\" is also the name of model.layers[0]"},
    {MINIMAL "[[model.layers]]\ntype = \"add\"\nwith = [\"input\", \"input\"]\n",
     "5:1: model.layers[0]: add takes 1 input besides from, but with names 2"},
    {MINIMAL "[[model.layers]]\ntype = \"add\"\nwith = []\n",
     "5:1: model.layers[0]: add takes 1 input besides from, but with names 0"},
    {MINIMAL "[[model.layers]]\ntype = \"add\"\nwith = [\"input\", 1]\n",
     "7:18: model.layers[0].with: expected a string, got an integer"},
    {MINIMAL "[[model.layers]]\ntype = \"add\"\nwith = 1\n",
     "7:8: model.layers[0].with: expected a string or an array of strings, got an integer"},
    {MINIMAL "[[model.layers]]\ntype = \"relu\"\nwith = \"input\"\n",
     "7:1: model.layers[0]: relu has no key with"},
    /* groups */
    {MINIMAL "[optim]\ngroups = 1\n", "6:10: optim.groups: expected [[optim.groups]] tables, got an integer"},
    {MINIMAL "[optim.groups]\nfrozen = true\n",
     "5:1: optim.groups: expected [[optim.groups]] tables, got a table"},
    {MINIMAL "[optim]\ngroups = [1]\n", "6:11: optim.groups[0]: expected a table, got an integer"},
    {MINIMAL "[[optim.groups]]\nfrozen = true\n", "5:1: optim.groups[0]: needs pattern"},
    {MINIMAL "[[optim.groups]]\npattern = \"\"\nfrozen = true\n", "5:1: optim.groups[0]: needs pattern"},
    {MINIMAL "[[optim.groups]]\npattern = \"*\"\n", "5:1: optim.groups[0]: says nothing of \"*\""},
    {MINIMAL "[[optim.groups]]\npattern = \"*\"\nlr_facto = 1\n",
     "7:1: optim.groups[0]: no key lr_facto; did you mean lr_factor?"},
    {MINIMAL "[[optim.groups]]\npattern = \"*\"\nmomentum = 1\n",
     "7:1: optim.groups[0]: no key momentum; the keys are pattern, lr_factor, weight_decay, frozen, muon"},
    {MINIMAL "[[optim.groups]]\npattern = 1\nfrozen = true\n",
     "6:11: optim.groups[0].pattern: expected a string"},
    {MINIMAL "[[optim.groups]]\npattern = \"*\"\nlr_factor = 0\n",
     "7:13: optim.groups[0].lr_factor: 0 is out of range"},
    {MINIMAL "[[optim.groups]]\npattern = \"*\"\nlr_factor = nan\n", "7:13: optim.groups[0].lr_factor"},
    {MINIMAL "[[optim.groups]]\npattern = \"*\"\nweight_decay = -1\n",
     "7:16: optim.groups[0].weight_decay: -1 is out of range"},
    {MINIMAL "[[optim.groups]]\npattern = \"*\"\nfrozen = 1\n", "7:10: optim.groups[0].frozen: expected"},
    {MINIMAL "[[model.groups]]\npattern = \"*\"\n",
     "5:9: model.groups: unknown key; did you mean optim.groups?"},
};

static void malformed_files_are_refused(void **state) {
    (void)state;
    int n_wrong = 0;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        dt_config c;
        const refusal *r = &refusals[i];
        dt_status status = dt_config_parse(&c, "f.toml", r->text, 0, NULL);
        const char *text = status == DT_OK ? "accepted" : dt_error_text();
        dt_config_fini(&c);
        if (status == DT_ERR_CONFIG && strncmp(text, "f.toml:", 7) == 0 &&
            strncmp(text + 7, r->message, strlen(r->message)) == 0)
            continue;
        print_error("%s\ngot:  %s\nwant: f.toml:%s\n\n", r->text, text, r->message);
        n_wrong++;
    }
    assert_int_equal(n_wrong, 0);
    assert_int_equal(dt_status_exit_code(DT_ERR_CONFIG), 2);
    assert_int_equal(dt_status_exit_code(DT_ERR_PEER), 6);
    assert_int_equal(dt_status_exit_code(DT_ERR_DEVICE), 7);
}

/* What a file leaves open is as the optimizer's row has it, and momentum's row is what the keys say. */
static void an_optimizer_has_defaults_of_its_own(void **state) {
    (void)state;
    dt_config c, want;
    dt_config_init(&c);
    want = c, want.optim = dt_optim_defaults(DT_OPTIM_MOMENTUM);
    assert_true(dt_config_hash(&c) == dt_config_hash(&want));
    for (int kind = 0; kind < DT_OPTIM_COUNT; kind++) {
        char text[512];
        snprintf(text, sizeof text, MINIMAL "[optim]\nkind = \"%s\"\nweight_decay = 0.25\n",
                 dt_optim_names[kind]);
        const char *override = "optim.lr=7";
        assert_int_equal(dt_config_parse(&c, "f.toml", text, 1, &override), DT_OK);
        want = c, want.optim = dt_optim_defaults((dt_optim_kind)kind);
        want.optim.weight_decay = 0.25, want.optim.lr = 7;
        assert_true(dt_config_hash(&c) == dt_config_hash(&want));
        assert_int_equal(dt_optim_find(dt_optim_names[kind]), kind);
        dt_config_fini(&c);
    }
    assert_int_equal(dt_optim_find("sdg"), DT_OPTIM_COUNT);
}

static const refusal override_refusals[] = {
    {"optim.lrr=1", "optim.lrr: unknown key; did you mean optim.lr?"},
    {"optim.lr=abc", "optim.lr: expected a number, got \"abc\""},
    {"optim.lr=", "optim.lr: expected a number, got \"\""},
    {"optim.lr=1\nrun.seed=3", "optim.lr: more than one value"},
    {"train.steps=1.5", "train.steps: expected an integer, got 1.5"},
    {"optim.kind=adan", "optim.kind: \"adan\" is not one of"},
    {"data.train=\xff", "data.train: expected a string"},
    {"optim.lr", "\"optim.lr\": expected section.key=value"},
    {"", "\"\": expected section.key=value"},
    {"=1", ": unknown key"},
    {"train.micro_batch=3", "train.micro_batch: 3 does not divide train.global_batch = 128"},
    {"model.layers=[{type='dens'}]", "model.layers[0]: \"dens\" is no layer type; did you mean \"dense\"?"},
};

static void malformed_overrides_are_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof override_refusals / sizeof override_refusals[0]; i++) {
        dt_config c;
        const refusal *r = &override_refusals[i];
        dt_status status = dt_config_parse(&c, "f.toml", MINIMAL, 1, &r->text);
        const char *text = dt_error_text();
        if (status != DT_ERR_CONFIG || strncmp(text, "command line: ", 14) != 0 ||
            strncmp(text + 14, r->message, strlen(r->message)) != 0)
            fail_msg("%s: status %d, got: %s", r->text, (int)status, text);
        dt_config_fini(&c);
    }
}

static void long_values_are_refused(void **state) {
    (void)state;
    static char text[4096], value[2000];
    memset(value, 'x', sizeof value - 1);
    snprintf(text, sizeof text, MINIMAL "[run]\nout_dir = \"%s\"\n", value);
    dt_config c;
    assert_int_equal(parse(&c, text), DT_ERR_CONFIG);
    assert_non_null(strstr(dt_error_text(), "6:11: run.out_dir: longer than 1023 bytes"));
    assert_int_equal(dt_config_parse(&c, value, MINIMAL, 0, NULL), DT_ERR_CONFIG);
    snprintf(text, sizeof text, "%s=1", value);
    const char *override = text;
    assert_int_equal(dt_config_parse(&c, "f", MINIMAL, 1, &override), DT_ERR_CONFIG);
}

/* Of a group only what it says is written, and read back so. */
static void groups_read_back(void **state) {
    (void)state;
    static const char text[] =
        MINIMAL "[[optim.groups]]\npattern = \"layer1.*\"\nfrozen = true\n"
                "[[optim.groups]]\npattern = \"a\\\"b\"\nlr_factor = 0.5\n"
                "[[optim.groups]]\npattern = \"*\"\nweight_decay = 0.0\nfrozen = false\n";
    dt_config a, b;
    char *written = NULL;
    assert_int_equal(parse(&a, text), DT_OK);
    assert_int_equal(a.groups.n, 3);
    assert_int_equal(a.groups.group[0].says, DT_GROUP_FROZEN);
    assert_int_equal(a.groups.group[1].says, DT_GROUP_LR);
    assert_true(a.groups.group[1].lr_factor == 0.5);
    assert_string_equal(a.groups.group[1].pattern, "a\"b");
    assert_int_equal(a.groups.group[2].says, DT_GROUP_DECAY | DT_GROUP_FROZEN);
    assert_false(a.groups.group[2].frozen);
    assert_int_equal(dt_config_to_text(&a, &written), DT_OK);
    assert_non_null(
        strstr(written, "\n[[optim.groups]]\npattern = \"*\"\nweight_decay = 0.0\nfrozen = false\n"));
    assert_int_equal(parse(&b, written), DT_OK);
    assert_int_equal(a.groups.n, b.groups.n);
    assert_memory_equal(a.groups.group, b.groups.group, sizeof a.groups.group);
    assert_true(a.groups.line[1] == 8 && strcmp(a.groups.file, "dir/run.toml") == 0);
    free(written);
    dt_config_fini(&a), dt_config_fini(&b);
    char many[8192] = MINIMAL;
    for (int i = 0; i <= DT_OPTIM_GROUPS_MAX; i++)
        strcat(many, "[[optim.groups]]\npattern = \"*\"\nfrozen = true\n");
    assert_int_equal(parse(&a, many), DT_ERR_CONFIG);
    assert_non_null(strstr(dt_error_text(), "65 groups: at most 64"));
}

static void text_reads_back(void **state) {
    (void)state;
    dt_config a, b;
    const char *const override[] = {"optim.lr=0.1234567890123456789", "run.out_dir=a\"b\\c\td\xc3\xa9",
                                    "augment.mean=0.1,2,3e-7", "augment.std=0.3333333333333333,1,1e22",
                                    "train.epochs=0.1"};
    assert_int_equal(dt_config_parse(&a, "x.toml", layers_text, 5, override), DT_OK);
    char *text = NULL, *again = NULL;
    assert_int_equal(dt_config_to_text(&a, &text), DT_OK);
    assert_int_equal(dt_config_parse(&b, "x.toml", text, 0, NULL), DT_OK);
    assert_int_equal(dt_config_to_text(&b, &again), DT_OK);
    assert_string_equal(text, again);
    assert_int_equal(a.model.n_layers, b.model.n_layers);
    for (int i = 0; i < a.model.n_layers; i++) {
        a.model.layers[i].line = b.model.layers[i].line;
        assert_memory_equal(&a.model.layers[i], &b.model.layers[i], sizeof a.model.layers[i]);
    }
    assert_memory_equal(&a.run, &b.run, sizeof a.run);
    assert_memory_equal(&a.data, &b.data, sizeof a.data);
    assert_memory_equal(&a.augment, &b.augment, sizeof a.augment);
    assert_memory_equal(&a.train, &b.train, sizeof a.train);
    assert_memory_equal(&a.optim, &b.optim, sizeof a.optim);
    assert_memory_equal(&a.schedule, &b.schedule, sizeof a.schedule);
    assert_memory_equal(&a.dist, &b.dist, sizeof a.dist);
    assert_memory_equal(&a.checkpoint, &b.checkpoint, sizeof a.checkpoint);
    free(text);
    free(again);
    dt_config_fini(&a);
    dt_config_fini(&b);
}

static void files_are_loaded(void **state) {
    (void)state;
    char path[] = "/tmp/dt_config_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    dt_config a, b;
    assert_int_equal(parse(&a, MINIMAL "[optim]\nlr = 0.3\n"), DT_OK);
    FILE *f = fdopen(fd, "w");
    assert_non_null(f);
    assert_int_equal(dt_config_write(&a, f), DT_OK);
    fclose(f);
    const char *override = "run.threads=2";
    assert_int_equal(dt_config_load(&b, path, 1, &override), DT_OK);
    assert_string_equal(b.path, path);
    assert_true(b.optim.lr == 0.3);
    assert_int_equal(b.run.threads, 2);
    dt_config_fini(&b);

    f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite("[run]\0", 1, 6, f), 6);
    fclose(f);
    assert_int_equal(dt_config_load(&b, path, 0, NULL), DT_ERR_CONFIG);
    assert_non_null(strstr(dt_error_text(), "NUL"));
    assert_int_equal(truncate(path, 2 << 20), 0);
    assert_int_equal(dt_config_load(&b, path, 0, NULL), DT_ERR_CONFIG);
    assert_non_null(strstr(dt_error_text(), "larger than 1 MiB"));
    unlink(path);
    assert_int_equal(dt_config_load(&b, path, 0, NULL), DT_ERR_CONFIG);
    assert_non_null(strstr(dt_error_text(), "No such file"));
    assert_int_equal(dt_config_load(&b, "/tmp", 0, NULL), DT_ERR_CONFIG);
    dt_config_fini(&a);
}

static uint64_t hash_with(const char *override, bool all) {
    dt_config c;
    assert_int_equal(dt_config_parse(&c, "f.toml", layers_text, override ? 1 : 0, &override), DT_OK);
    uint64_t hash = all ? dt_config_hash_all(&c) : dt_config_hash(&c);
    dt_config_fini(&c);
    return hash;
}

static void hash_covers_the_mathematics(void **state) {
    (void)state;
    static const char *const maths[] = {"optim.lr=0.2",          "run.seed=2",
                                        "train.global_batch=64", "model.loss=cross_entropy",
                                        "augment.flip=true",     "schedule.final=0.5",
                                        "train.precision=bf16",  "data.image_size=32",
                                        "dist.payload=fp32",     "model.layers=[{type='flatten'}]",
                                        "optim.kind=rmsprop",    "optim.groups=[{pattern='*', frozen=true}]"};
    static const char *const other[] = {"run.out_dir=elsewhere", "run.threads=3",  "run.log_every=1",
                                        "data.workers=2",        "dist.buckets=4", "checkpoint.every_steps=5",
                                        "run.resume=never",      "run.device=cpu", "run.tensorboard=false"};
    uint64_t base = hash_with(NULL, false), base_all = hash_with(NULL, true);
    assert_int_equal(base, hash_with("optim.lr=0.1", false));
    for (size_t i = 0; i < sizeof maths / sizeof maths[0]; i++) {
        assert_int_not_equal(base, hash_with(maths[i], false));
        assert_int_not_equal(base_all, hash_with(maths[i], true));
    }
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++) {
        assert_int_equal(base, hash_with(other[i], false));
        assert_int_not_equal(base_all, hash_with(other[i], true));
    }
}

static bool has_metric(const dt_task_row *task, const char *name) {
    for (int32_t m = 0; m < task->n_metric; m++)
        if (strcmp(task->metric[m].name, name) == 0) return true;
    return false;
}

/* Every metric of every task can be asked for, and only of its own task; not set, it is the task's first. */
static void best_metric_follows_the_task(void **state) {
    (void)state;
    for (int i = 0; dt_task_choices[i]; i++) {
        const dt_task_row *task = &dt_task_table[i];
        char text[512];
        dt_config c;
        snprintf(text, sizeof text, MINIMAL "[model]\ntask = \"%s\"\n", task->name);
        assert_int_equal(dt_config_parse(&c, "run.toml", text, 0, NULL), DT_OK);
        const char *first = task->n_metric > 0 ? task->metric[0].name : "loss";
        assert_string_equal(dt_metric_choices[c.checkpoint.best_metric] + strlen("eval_"), first);
        dt_config_fini(&c);
        for (int k = 0; dt_task_choices[k]; k++)
            for (int32_t m = 0; m < dt_task_table[k].n_metric; m++) {
                char override[64];
                snprintf(override, sizeof override, "checkpoint.best_metric=eval_%s",
                         dt_task_table[k].metric[m].name);
                assert_int_equal(dt_config_parse(&c, "run.toml", text, 1, (const char *[]){override}),
                                 has_metric(task, dt_task_table[k].metric[m].name) ? DT_OK : DT_ERR_CONFIG);
                dt_config_fini(&c);
            }
    }
}

/* Checkpoints hold the hash, and a run that is resumed says so where it differs: it must not change by itself. */
static void hash_stays_what_it_was(void **state) {
    (void)state;
    static const struct {
        const char *file;
        uint64_t hash, hash_all;
    } rows[] = {
        {"configs/custom-layers.toml", 0x2ea61827e94b0e27, 0xc4cd1fb1bb1e756e},
        {"configs/fashion-fast.toml", 0x4b3fa5dbb29be6a4, 0x5cb344e8ac0b2d5b},
        {"configs/quickstart.toml", 0xa33d17a630e816f9, 0x2146dae4bdd0ff23},
        {"configs/resnet18-cifar.toml", 0x5a51a617ea98a1bd, 0xa4407723edacc0bf},
        {"configs/resnet50.toml", 0xcd9be728b0afeef6, 0x2ba89d60a40dbaf8},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char path[512];
        dt_config c;
        snprintf(path, sizeof path, DT_TEST_DATA "/../../%s", rows[i].file);
        if (dt_config_load(&c, path, 0, NULL) != DT_OK) fail_msg("%s", dt_error_text());
        if (dt_config_hash(&c) != rows[i].hash || dt_config_hash_all(&c) != rows[i].hash_all)
            fail_msg("%s has another hash than before", rows[i].file);
        dt_config_fini(&c);
    }
}

/* A part of the options without TOML: the defaults of its section. */
static void sections_have_defaults_of_their_own(void **state) {
    (void)state;
    dt_data_options data;
    dt_schedule_options schedule;
    dt_section_defaults(&dt_data_section, &data);
    dt_section_defaults(&dt_schedule_section, &schedule);
    assert_int_equal(data.prefetch, 4);
    assert_true(data.verify);
    assert_string_equal(data.train, "");
    assert_int_equal(schedule.kind, DT_SCHEDULE_COSINE);
    assert_true(schedule.gamma == 0.1);
    assert_int_equal(dt_section_settle(&dt_schedule_section, "s", &schedule), DT_OK);
    schedule.gamma = 1.5;
    assert_int_equal(dt_section_settle(&dt_schedule_section, "s", &schedule), DT_ERR_CONFIG);
    assert_non_null(strstr(dt_error_text(), "s: gamma = 1.5 is out of range: must be above 0 and at most 1"));
    schedule.gamma = NAN;
    assert_int_equal(dt_section_settle(&dt_schedule_section, "s", &schedule), DT_ERR_CONFIG);
    schedule.gamma = 0; /* may not be: it was not set */
    assert_int_equal(dt_section_settle(&dt_schedule_section, "s", &schedule), DT_OK);
    assert_true(schedule.gamma == 0.1);
    schedule.kind = 99;
    assert_int_equal(dt_section_settle(&dt_schedule_section, "s", &schedule), DT_ERR_CONFIG);
    assert_non_null(strstr(dt_error_text(), "kind = 99"));
}

/* docs/config.md is the table's own text: `dtrain config --markdown > docs/config.md` renews it. */
static void documentation_is_current(void **state) {
    (void)state;
    char *text = NULL, *file = NULL;
    size_t size = 0, room = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    dt_config_print_markdown(out);
    fclose(out);
    FILE *in = fopen(DT_TEST_DATA "/../../docs/config.md", "r");
    assert_non_null(in);
    assert_true(getdelim(&file, &room, '\0', in) > 0);
    fclose(in);
    assert_string_equal(file, text);
    free(text);
    free(file);
}

/* A choice on the command line makes void what the file says of another; a key that stands there itself must count. */
static void overrides_make_choices_void(void **state) {
    (void)state;
    static const char text[] =
        MINIMAL "[optim]\nmomentum = 0.5\nlr = 0.2\n[augment]\ncrop = \"pad\"\npad = 2\n"
                "[schedule]\nwarmup_epochs = 0.5\nwarmup_start = 0.5\n";
    dt_config c, plain;
    char *written = NULL;
    assert_int_equal(dt_config_parse(&c, "f.toml", text, 0, NULL), DT_OK);
    assert_string_equal(c.left_out, "");
    const char *const chosen[] = {"optim.kind=adam", "augment.crop=none", "schedule.warmup_steps=0"};
    assert_int_equal(dt_config_parse(&c, "f.toml", text, 3, chosen), DT_OK);
    assert_string_equal(c.left_out, "augment.pad, optim.momentum");
    assert_true(c.optim.momentum == 0.9 && c.optim.lr == 0.2 && c.augment.pad == 4);
    /* As if it had never been there. */
    assert_int_equal(dt_config_parse(&plain, "f.toml",
                                     MINIMAL
                                     "[optim]\nkind = \"adam\"\nlr = 0.2\n[schedule]\nwarmup_epochs = "
                                     "0.5\nwarmup_start = 0.5\n",
                                     0, NULL),
                     DT_OK);
    assert_true(dt_config_hash_all(&c) == dt_config_hash_all(&plain));
    assert_int_equal(dt_config_to_text(&c, &written), DT_OK);
    assert_non_null(strstr(written, "\n# momentum = 0.9\n"));
    assert_non_null(strstr(written, "\n# pad = 4\n"));
    assert_non_null(strstr(written, "\ncrop = \"none\"\n"));
    free(written);
    const char *const warm[] = {"schedule.warmup_steps=3"};
    assert_int_equal(dt_config_parse(&c, "f.toml", text, 1, warm), DT_OK);
    assert_string_equal(c.left_out, "schedule.warmup_epochs");
    const char *const wrong[] = {"optim.kind=adam", "optim.momentum=0.5"};
    assert_int_equal(dt_config_parse(&c, "f.toml", text, 2, wrong), DT_ERR_CONFIG);
    assert_non_null(strstr(dt_error_text(), "command line: optim.momentum: would be ignored"));
    const char *const layers[] = {"model.name=layers", "model.layers=[{type='relu'}]"};
    assert_int_equal(dt_config_parse(&c, "f.toml", MINIMAL "[model]\nbn_eps = 1e-3\n", 2, layers), DT_OK);
    assert_string_equal(c.left_out, "model.bn_eps");
    dt_config_fini(&c);
}

/* What the data is decides too, once it is open. */
static void kinds_of_data_have_keys(void **state) {
    (void)state;
    dt_config c;
    char left_out[DT_CONFIG_LEFT_OUT];
    assert_int_equal(parse(&c, MINIMAL "[augment]\nflip = false\n"), DT_OK);
    assert_int_equal(dt_config_check_data(&c, "images", left_out), DT_OK);
    assert_int_equal(dt_config_check_data(&c, "arrays", left_out), DT_ERR_CONFIG);
    assert_string_equal(dt_error_text(),
                        "dir/run.toml:6:8: augment.flip: would be ignored: it counts only with images, "
                        "and here the data is arrays; take it out");
    const char *const data[] = {"data.train=other"};
    assert_int_equal(dt_config_parse(&c, "f.toml", MINIMAL "[augment]\nflip = true\n", 1, data), DT_OK);
    assert_int_equal(dt_config_check_data(&c, "arrays", left_out), DT_OK);
    assert_string_equal(left_out, "augment.flip");
    const char *const key[] = {"data.train=other", "data.channels=1"};
    assert_int_equal(dt_config_parse(&c, "f.toml", MINIMAL, 2, key), DT_OK);
    assert_int_equal(dt_config_check_data(&c, "arrays", left_out), DT_ERR_CONFIG);
    assert_int_equal(parse(&c, MINIMAL), DT_OK);
    assert_int_equal(dt_config_check_data(&c, "arrays", left_out), DT_OK);
}

/* Run directories hold sections written out in full, by versions that wrote what does not count, too. */
static void sections_written_out_are_read(void **state) {
    (void)state;
    static const char written[] =
        MINIMAL "[optim]\nkind = \"adam\"\nlr = 0.5\nmomentum = %s\nweight_decay = 0.0001\n"
                "beta1 = 0.9\nbeta2 = 0.999\neps = 1e-08\ndecay_bn_and_bias = false\n";
    char text[1024];
    dt_config c;
    snprintf(text, sizeof text, written, "0.9");
    assert_int_equal(parse(&c, text), DT_OK);
    assert_true(c.optim.lr == 0.5);
    snprintf(text, sizeof text, written, "0.8");
    assert_int_equal(parse(&c, text), DT_ERR_CONFIG);
}

static void key_list_names_every_key(void **state) {
    (void)state;
    char *keys = NULL, *config = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&keys, &size);
    assert_non_null(out);
    dt_config_print_keys(out);
    fclose(out);
    dt_config c;
    assert_int_equal(parse(&c, MINIMAL), DT_OK);
    assert_int_equal(dt_config_to_text(&c, &config), DT_OK);
    char section[64] = "", *rest = NULL;
    int n = 0;
    for (char *line = strtok_r(config, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char name[64], full[160];
        if (sscanf(line, "[%63[a-z]]", section) == 1) continue;
        assert_int_equal(sscanf(line + (*line == '#' ? 2 : 0), "%63s =", name), 1);
        snprintf(full, sizeof full, "  %s.%s ", section, name);
        if (!strstr(keys, full)) fail_msg("%s is not listed", full);
        n++;
    }
    assert_true(n > 60);
    free(keys);
    free(config);
    dt_config_fini(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_hold),
        cmocka_unit_test(values_are_read),
        cmocka_unit_test(layers_are_read),
        cmocka_unit_test(overrides_win),
        cmocka_unit_test(malformed_files_are_refused),
        cmocka_unit_test(malformed_overrides_are_refused),
        cmocka_unit_test(an_optimizer_has_defaults_of_its_own),
        cmocka_unit_test(long_values_are_refused),
        cmocka_unit_test(groups_read_back),
        cmocka_unit_test(text_reads_back),
        cmocka_unit_test(files_are_loaded),
        cmocka_unit_test(hash_covers_the_mathematics),
        cmocka_unit_test(hash_stays_what_it_was),
        cmocka_unit_test(best_metric_follows_the_task),
        cmocka_unit_test(sections_have_defaults_of_their_own),
        cmocka_unit_test(documentation_is_current),
        cmocka_unit_test(key_list_names_every_key),
        cmocka_unit_test(overrides_make_choices_void),
        cmocka_unit_test(kinds_of_data_have_keys),
        cmocka_unit_test(sections_written_out_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
