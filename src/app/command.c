/* The table of verbs. A new verb is a row here and a function; a new option a row of its verb. */
#include "command.h"

#include <string.h>

#include "data/import.h"
#include "verbs.h"

#define FLAG(name_)            .name = name_
#define TEXT(name_, argument_) .name = name_, .argument = argument_
#define NUMBER(name_, n, last) .name = name_, .argument = "N", .max = last, .fallback = n
#define END                                                                                                  \
    { .name = NULL }

static const char configured[] = "CONFIG.toml [section.key=value ...]";

static const dt_option eval_options[] = {
    {TEXT("report", "DIR"),
     .help = "also write classes.csv, confusion.csv, confusion.svg and mistakes.csv there"},
    {TEXT("choices", "FILE"),
     .help = "in place of data.val questions with several endings, of which a language network is to find "
             "the right one "
             "the likeliest: JSON lines with ctx, endings and label, or llm.c's .bin of HellaSwag"},
    END,
};

static const dt_option predict_options[] = {
    {TEXT("format", "text|jsonl|csv"), .otherwise = "text",
     .help =
         "text; a JSON object a line; or comma-separated values, a line per class, or a column per number"},
    {TEXT("x", "COLUMNS"), .otherwise = "all columns",
     .help = "of .csv files: the columns that the network reads, separated by commas, in the order of the "
             "training set"},
    {NUMBER("top", 1, DT_PREDICT_TOP_MAX), .help = "classes per input, the most probable first"},
    END,
};

static const dt_option sample_options[] = {
    {TEXT("prompt", "TEXT"), .otherwise = "empty: as a document begins", .help = "what the text begins with"},
    {TEXT("prompts", "FILE"), .help = "a prompt a line, side by side in a batch"},
    {NUMBER("tokens", 0, 1 << 30), .otherwise = "as many as there is room for, at most 200",
     .help = "of each text beyond its prompt"},
    {TEXT("temperature", "T"), .otherwise = "0.8",
     .help = "logits are divided by it: less is surer; 0 takes the likeliest token, without a draw"},
    {NUMBER("top-k", 0, INT32_MAX), .otherwise = "all", .help = "draw among the N likeliest tokens"},
    {TEXT("top-p", "P"), .otherwise = "1, all",
     .help = "then among the fewest of these, the likeliest first, that have a part P of the probability"},
    {NUMBER("seed", 1, INT64_MAX), .help = "of the draws: the same gives the same text, in any batch"},
    {NUMBER("samples", 1, 1 << 20), .help = "texts of each prompt"},
    {NUMBER("batch", 0, 4096), .otherwise = "16", .help = "texts at once; it changes none of them"},
    {FLAG("no-stop"), .otherwise = "end there", .help = "go on past the end of a document"},
    {FLAG("window"), .otherwise = "what is too long is refused",
     .help = "a text that is longer than the network sees at once goes on from the last half of that"},
    {FLAG("no-cache"), .help = "tell every token from all before it anew, to compare with"},
    {FLAG("json"), .otherwise = "text, as it grows", .help = "a JSON object a text, with its tokens"},
    END,
};

/* Of verbs that take whatever has a network in it. */
#define NETWORK_CONFIG                                                                                       \
    {                                                                                                        \
        TEXT("config", "FILE.toml"), .otherwise = "the file says",                                           \
                                     .help = "of a file of weights alone: the configuration of its network"  \
    }

static const dt_option run_options[] = {
    {TEXT("input", "NAME=FILE.npy"), .otherwise = "must be given, each of them",
     .help = "an array for the input of that name; of further inputs NAME=FILE.npy behind it"},
    {TEXT("output", "DIR"), .otherwise = "nothing is written", .help = "where the outputs go, as NAME.npy"},
    NETWORK_CONFIG,
    {NUMBER("times", 0, 1000000), .otherwise = "once", .help = "runs after the first, whose times are told"},
    {FLAG("plain"), .help = "node by node, without fusions"},
    END,
};

static const dt_option serve_options[] = {
    {TEXT("model", "NAME=PATH"), .otherwise = "--repository",
     .help = "a model and the file, directory or run that it is in; of further ones NAME=PATH behind it"},
    {TEXT("repository", "DIR"), .help = "all models of DIR/NAME/VERSION/file, a version is a number"},
    {TEXT("versions", "latest|all"), .otherwise = "latest",
     .help = "of a repository's models: which are loaded"},
    NETWORK_CONFIG,
    {FLAG("control"), .otherwise = "403", .help = "clients may load, reload and unload models"},
    {TEXT("host", "HOST"), .otherwise = "127.0.0.1", .help = "to listen at; 0.0.0.0 is all of this host's"},
    {TEXT("port", "N"), .otherwise = "8000", .help = "to listen at; 0: any that is free"},
    {TEXT("level", "none|basic|aggressive|extreme"), .otherwise = "basic",
     .help = "how far results may be from those node by node in fp32: 0, 1e-5, 1e-2, or as quantised"},
    {TEXT("weights", "stored|int8|int4"), .otherwise = "stored", .help = "of dense layers"},
    {NUMBER("max-batch", 0, 1 << 20), .otherwise = "32, or 1 where the file says so",
     .help = "rows of several requests that run together"},
    {NUMBER("max-delay-us", 0, 60000000), .otherwise = "none",
     .help = "that a request waits for others to run with"},
    {NUMBER("texts", 0, 4096), .otherwise = "16, fewer where --memory-mib wants it",
     .help = "of a language network: texts that it makes at once; each has memory of its own for its tokens"},
    {NUMBER("queue", 0, 1 << 24), .otherwise = "1024",
     .help = "requests that wait; one more is answered with 503"},
    {NUMBER("workers", 0, 1024), .otherwise = "one for each device", .help = "threads that run batches"},
    {TEXT("affinity", "LIST"), .otherwise = "all that it may use", .help = "cores, as 0-3,8"},
    {NUMBER("memory-mib", 0, 1 << 30), .otherwise = "as there is",
     .help = "weights and programs of all models"},
    {TEXT("device", "auto|cpu|cuda"), .otherwise = "auto: a GPU where there is one",
     .help = "where models run"},
    {NUMBER("threads", 0, 4096), .otherwise = "all cores that it may use", .help = "of the CPU's kernels"},
    {NUMBER("http-threads", 2, 64), .help = "that read requests and write answers"},
    {NUMBER("connections", 1024, 1 << 20), .help = "at once"},
    {NUMBER("body-mib", 64, 1 << 20), .help = "of a request, unpacked"},
    {NUMBER("idle-s", 30, 86400), .help = "until a silent connection is closed"},
    {NUMBER("grace-s", 0, 86400), .otherwise = "0",
     .help = "after SIGTERM: how long requests are accepted while it is not ready any more"},
    {NUMBER("exit-s", 30, 86400), .help = "then: how long it waits for those that were accepted"},
    END,
};

static const dt_option optimize_options[] = {
    {TEXT("config", "FILE.toml"), .otherwise = "the file says",
     .help = "of a file of weights alone: the configuration of its network"},
    {NUMBER("rows", 1, 65536), .help = "at once"},
    {NUMBER("runs", 10, 10000), .help = "of each level, in turn"},
    {TEXT("profile", "none|basic|aggressive|extreme"), .otherwise = "not",
     .help = "also where the time goes at this level, kernel by kernel"},
    {TEXT("device", "auto|cpu|cuda"), .otherwise = "auto: a GPU where there is one",
     .help = "where the network runs"},
    {NUMBER("threads", 0, 4096), .otherwise = "all cores that it may use", .help = "of the CPU's kernels"},
    END,
};

static const dt_option inspect_options[] = {
    {TEXT("model", "NAME"), .help = "a built-in network by its name, in place of CONFIG.toml"},
    {NUMBER("input", 0, 1 << 20), .otherwise = "as published",
     .help = "with --model: height and width of the images in pixels, or tokens of a text"},
    {NUMBER("outputs", 0, 1 << 20), .otherwise = "as published", .help = "with --model: classes"},
    {FLAG("passes"), .help = "also tell what each pass of the compilation did to the graph"},
    END,
};

static const dt_option convert_options[] = {
    {TEXT("dtype", "f32|f16|bf16"), .otherwise = "f32", .help = "of the weights in a file that is written"},
    {TEXT("config", "FILE.toml"), .otherwise = "what the input says of itself",
     .help = "the configuration of the network; behind it section.key=value may follow"},
    {FLAG("merge"), .help = "low-rank adapters become part of the weights that they adapt"},
    END,
};

static const dt_option quantize_options[] = {
    {TEXT("form", "static|int8|int4"), .otherwise = "static",
     .help = "static: weights and activations in 8 bits; int8, int4: weights alone"},
    {TEXT("data", "DATASET|NAME=X.npy,..."), .otherwise = "data.train of the run",
     .help = "what the scales of activations are chosen by: a data set, or an array for each input"},
    {NUMBER("samples", 512, 1 << 24), .help = "of --data, from all over it"},
    NETWORK_CONFIG,
    {TEXT("method", "minmax|percentile|entropy"), .otherwise = "minmax",
     .help = "static: the range of a tensor is all that was seen, 99.99 % of it, or that of the least "
             "divergence"},
    {TEXT("keep", "PATTERN,..."), .otherwise = "nothing",
     .help = "nodes that stay in fp32, by name (\"*\": any characters); \"first\" and \"last\" are products"},
    {FLAG("compensate"),
     .help = "int4: rounding makes good for its own errors, as the inputs in --data go together"},
    {FLAG("report"), .help = "compare the network with itself in fp32: size, time, accuracy, agreement"},
    {TEXT("val", "DATASET|NAME=X.npy,..."), .otherwise = "data.val of the run",
     .help = "what --report compares on"},
    {TEXT("labels", "Y.npy"), .otherwise = "no accuracy", .help = "with --val of arrays: the classes"},
    END,
};

static const dt_option import_options[] = {
    {TEXT("out", "DIR"), .otherwise = "must be given", .help = "where the data set goes"},
    {TEXT("split", "NAME"), .otherwise = "train",
     .help = "recorded in the set; of a CIFAR directory train takes the training files, val and test the "
             "test file"},
    {TEXT("store", "raw|jpeg"), .otherwise = "raw", .help = "decoded pixels, all of one size, or JPEG files"},
    {NUMBER("quality", DT_IMPORT_QUALITY, 100),
     .help = "with --store jpeg: of what is encoded anew; JPEG files that need no change stay as they are"},
    {NUMBER("shard-mib", DT_IMPORT_SHARD_MIB, 1 << 20), .help = "size of a shard in MiB, about"},
    {NUMBER("threads", 0, 1024), .otherwise = "one per core that this process may use",
     .help = "they do not change what is made"},
    {FLAG("skip-broken"), .otherwise = "end at the first",
     .help = "leave damaged images, or broken lines of JSON, out and count them"},
    {TEXT("class-names", "FILE|DATASET"), .otherwise = "those of the source, in byte order",
     .help = "the order of the classes: a name a line, or the data set whose order it shall be"},
    {TEXT("images", "FILE"), .otherwise = "idx: the first INPUT", .help = "idx: the images, gzipped or not"},
    {TEXT("labels", "FILE"), .otherwise = "idx: the second INPUT; folder: a directory per class",
     .help = "idx: the labels; folder: a CSV file with the columns file and label"},
    {NUMBER("resize", 0, DT_IMPORT_SIDE_MAX), .otherwise = "as it is",
     .help = "folder: pixels of the shorter side"},
    {FLAG("square"), .otherwise = "keep the shape", .help = "folder: cut the centre N x N of --resize N out"},
    {TEXT("channels", "1|3"), .max = 3, .fallback = DT_IMPORT_CHANNELS, .help = "folder: grey or colour"},
    {TEXT("val-fraction", "F"), .otherwise = "one set",
     .help = "folder, npy, npz, csv, text: two sets, DIR/train and DIR/val of --out DIR, the second of about "
             "this "
             "part of the files, rows or documents (of few files of plain text the end of each)"},
    {TEXT("x", "FILE|KEY|COLUMNS"), .otherwise = "npy: the INPUT; npz: all arrays; csv: all other columns",
     .help = "what the field x is made of: a .npy file, an array in the .npz file, or columns, separated by "
             "commas"},
    {TEXT("y", "FILE|KEY|COLUMNS"), .otherwise = "npy: none; npz: all arrays; csv: the last column",
     .help = "the field y likewise"},
    {TEXT("tokenizer", "TOKENIZER"), .otherwise = "text: that of the files, if they are tokens",
     .help = "text: byte, char, bpe:N (learnt, N tokens), gpt2:MERGES[,VOCAB.json] (merges.txt or a "
             ".tiktoken file), "
             "ids:N[:END] (files of tokens), or a data set, whose tokenizer it is"},
    {TEXT("field", "NAME"), .otherwise = "text, of files called .jsonl or .ndjson",
     .help = "text: the files are JSON lines, and this string of each object is a document"},
    {TEXT("label", "NAME"), .otherwise = "no classes, but of a directory with one for each class",
     .help = "text: this string or whole number of each object of JSON lines is the document's class"},
    {TEXT("separator", "LINE"), .otherwise = "a file is a document",
     .help = "text: the line that stands between documents of plain text"},
    {FLAG("exif-rotate"), .otherwise = "leave them as stored",
     .help = "folder: turn images upright as their EXIF orientation says"},
    {NUMBER("samples", 0, INT64_MAX), .otherwise = "must be given", .help = "synthetic: how many images"},
    {NUMBER("classes", 0, 1 << 20), .otherwise = "must be given", .help = "synthetic: of how many classes"},
    {NUMBER("size", 0, DT_IMPORT_SIDE_MAX), .otherwise = "must be given",
     .help = "synthetic: pixels of a side"},
    END,
};

static const dt_option bench_step_options[] = {
    {NUMBER("steps", 10, 1000000), .help = "steps of each of the measured windows"},
    END,
};
static const dt_option bench_op_options[] = {
    {NUMBER("repeats", 5, 1000000), .help = "measurements of each kernel, of which the median counts"},
    END,
};
static const dt_option data_show_options[] = {
    {NUMBER("samples", 64, 4096), .help = "the first of them"},
    {TEXT("out", "FILE"), .otherwise = "samples.png", .help = "the picture"},
    END,
};
static const dt_option bench_data_options[] = {
    {NUMBER("seconds", 3, 3600), .help = "per row"},
    {NUMBER("threads", 1, 1024), .help = "of the loader"},
    {NUMBER("images", 256, 1 << 20), .help = "of each kind"},
    {TEXT("dir", "DIR"), .otherwise = "under TMPDIR, and removed",
     .help = "where the generated shards go, kept for the next call"},
    {TEXT("dump-jpeg", "DIR"), .help = "also write the JPEG files there"},
    END,
};
static const dt_option bench_comm_options[] = {
    {NUMBER("max-bytes", 64 << 20, 1ll << 34), .help = "the largest message, from 1024 on"},
    END,
};
static const dt_option profile_options[] = {
    {NUMBER("steps", 10, 1000), .help = "that are measured as they are, and again kernel by kernel"},
    {TEXT("by", "node|layer|op"), .otherwise = "node", .help = "what a row of the table stands for"},
    {TEXT("trace", "FILE"),
     .help = "also write what threads and streams of all ranks did when, in Chrome's JSON format"},
    {TEXT("json", "FILE"), .help = "also write the table as JSON"},
    END,
};
static const dt_option config_options[] = {
    {FLAG("markdown"), .help = "without a file: docs/config.md"},
    END,
};

static const char import_about[] =
    "KIND and its INPUT:\n"
    "  idx --images FILE --labels FILE    MNIST and its kin\n"
    "  cifar10 DIR|FILE...                binary version; cifar100 likewise\n"
    "  folder DIR                         a directory of .jpg and .png files per class, or --labels FILE\n"
    "  synthetic                          generated images, with --samples, --classes and --size\n"
    "  npy X.npy --y Y.npy                arrays of numbers, or NAME=FILE for each of them\n"
    "  npz FILE.npz                       the arrays in it under their names, or --x KEY --y KEY\n"
    "  csv FILE.csv                       numbers below a line with the columns' names\n"
    "  text FILE... --tokenizer TOKENIZER plain text, JSON lines (also .gz, .zst), or .bin files of tokens\n"
    "\n"
    "The same command continues an import that was interrupted (of text: begins anew). docs/data-format.md "
    "has the rest.";

static const char checkpoint_about[] =
    "The checkpoint:\n"
    "  run.resume=auto     the newest of run.out_dir; the default\n"
    "  run.resume=best     the best evaluated of run.out_dir, by checkpoint.best_metric\n"
    "  run.resume=PATH     a checkpoint, such as runs/quickstart/checkpoints/step-00003750, or the "
    "directory\n"
    "                      of a run\n"
    "It must be of the configuration's network.";

const dt_verb dt_verb_table[] = {
    {"train", dt_verb_train, .ranks = true, .config = true, .usage = configured,
     .help = "train (the verb may be left out)",
     .about =
         "A run continues its newest sound checkpoint in run.out_dir, so the same command starts a run and\n"
         "goes on with it after Ctrl-C, SIGTERM, a time limit or a crash:\n"
         "  run.resume=auto     that; the default\n"
         "  run.resume=never    start anew\n"
         "  run.resume=best     start from the best evaluated checkpoint of run.out_dir\n"
         "  run.resume=PATH     start from a checkpoint, or the newest of a run, in a run.out_dir of its "
         "own\n"
         "Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP finish the step, save and end with exit code 85.",
     .example =
         "dtrain configs/quickstart.toml optim.lr=0.1  # one rank\n"
         "launch/train -n 2 configs/quickstart.toml  # two ranks of this host\n"
         "mpirun -np 2 dtrain configs/quickstart.toml  # the same by Open MPI's own means\n"
         "sbatch slurm/train-srun-pmix.sbatch configs/resnet50.toml  # under Slurm\n"
         "dtrain configs/resnet50.toml run.resume=runs/a/checkpoints/step-00005000 run.out_dir=runs/b  "
         "# from a checkpoint of another run"},
    {"eval", dt_verb_eval, .ranks = true, .config = true,
     .usage = "CONFIG.toml [--report DIR] [--choices FILE] [section.key=value ...]",
     .help = "loss and accuracy of a checkpoint on data.val", .about = checkpoint_about,
     .option = eval_options,
     .example = "dtrain eval configs/quickstart.toml  # the newest checkpoint\n"
                "dtrain eval configs/quickstart.toml run.resume=best --report report  # the best one, with "
                "figures by class\n"
                "dtrain eval configs/quickstart.toml run.resume=runs/quickstart/checkpoints/step-00003750 "
                "data.val=datasets/other  # a given one on other data"},
    {"predict", dt_verb_predict, .ranks = true, .config = true,
     .usage = "CONFIG.toml INPUT... [--format F] [--top K] [section.key=value ...]",
     .help = "what a checkpoint's network says of inputs: classes, labels or numbers",
     .about = "INPUT: an image file, a folder with images at any depth, a data set or one of its shards; for "
              "a network\n"
              "that was trained on arrays a data set, a .npy, .npz or .csv file; on text with classes\n"
              "a file of text, whose lines are told apart.\n"
              "Inputs that cannot be read are told on standard error, and make the exit code 3.\n"
              "run.resume chooses the checkpoint: auto (the newest, the default), best, or a path.",
     .option = predict_options,
     .example =
         "dtrain predict configs/quickstart.toml photos/ shoe.png  # the likeliest class of each\n"
         "dtrain predict reviews.toml new.txt                      # of text with classes: of each line\n"
         "dtrain predict configs/quickstart.toml photos/ --format csv --top 5 >answers.csv  # a table\n"
         "dtrain predict configs/table.toml houses.csv --x size,rooms --format csv  # numbers of a table"},
    {"sample", dt_verb_sample, .ranks = true, .config = true,
     .usage = "RUN|CHECKPOINT|CONFIG.toml [OPTION...] [section.key=value ...]",
     .help = "text that a trained language network goes on with",
     .about = "RUN: the directory of a run, whose newest checkpoint it is; CHECKPOINT: one of its "
              "checkpoints/. Of a configuration\n"
              "run.resume chooses. Needs no data set: the checkpoint has the tokenizer.\n"
              "Texts of several prompts come in their order, with a line --- between them.",
     .option = sample_options,
     .example = "dtrain sample runs/text --prompt 'In the beginning'  # the newest checkpoint\n"
                "dtrain sample runs/text --prompts prompts.txt --tokens 50 --temperature 0 --json  # a line "
                "each, the likeliest words\n"
                "dtrain sample runs/text/checkpoints/best --top-k 40 --top-p 0.95 --samples 3  # three of "
                "the best evaluated one"},
    {"run", dt_verb_run, .usage = "MODEL --input NAME=FILE.npy ... [OPTION...] [section.key=value ...]",
     .help = "a network in a file, on arrays in files",
     .about =
         "MODEL: a run or checkpoint, an ONNX model, a network of Keras or TensorFlow, or weights with "
         "--config.\n"
         "Names and shapes of its inputs: dtrain inspect MODEL. Dimensions that the file leaves open are "
         "those of the arrays.\n"
         "run.device chooses where; what a GPU has no kernel for is refused, all of it in one message, and "
         "never\n"
         "computed elsewhere.",
     .option = run_options,
     .example =
         "dtrain run resnet18.onnx --input image=x.npy --output out  # out/logits.npy\n"
         "dtrain run runs/quickstart --input image=x.npy --output out  # the newest checkpoint of a run\n"
         "dtrain run bert.onnx --input input_ids=ids.npy attention_mask=mask.npy --times 20 run.device=cpu  "
         "# how long it takes"},
    {"serve", dt_verb_serve, .usage = "--model NAME=PATH [NAME=PATH ...] [OPTION...]",
     .help = "models over HTTP: KServe V2, metrics, a page at /",
     .about =
         "PATH: a run or checkpoint, an ONNX model, a network of Keras or TensorFlow, or weights with "
         "--config.\n"
         "SIGTERM or Ctrl-C: not ready at once, requests are accepted for --grace-s more, all accepted ones "
         "are answered,\n"
         "exit code 0; a second one ends at once. SIGHUP loads all anew, each beside the old one until it "
         "is ready.\n"
         "docs/serving.md has the protocol, the limits and the metrics.",
     .option = serve_options,
     .example =
         "dtrain serve --model resnet=resnet50.onnx --port 8000  # http://127.0.0.1:8000\n"
         "dtrain serve --model mnist=runs/quickstart --max-delay-us 2000  # the newest checkpoint of a run\n"
         "dtrain serve --repository models --host 0.0.0.0 --grace-s 5  # all models of a directory"},
    {"optimize", dt_verb_optimize, .usage = "MODEL [OPTION...]",
     .help = "what each level makes of a network: passes, time, error; writes nothing",
     .about =
         "MODEL: as for serve. The levels run in turn on the same drawn numbers; the error is the largest "
         "difference\nfrom level none in parts of the largest number.",
     .option = optimize_options, .example = "dtrain optimize resnet50.onnx --rows 8 --profile basic"},
    {"inspect", dt_verb_inspect, .ranks = true, .config = true,
     .usage = "CONFIG.toml|--model NAME|WEIGHTS [OPTION...] [section.key=value ...]",
     .help = "layers, memory and buckets of a network, or the tensors of a file; trains nothing",
     .about = "Needs no data where the configuration says data.image_size and model.classes, and none with "
              "--model.\nWEIGHTS: a file in safetensors, the index of several, a state_dict of PyTorch, an "
              "ONNX model, a network\nof Keras or TensorFlow, a checkpoint or a run.",
     .option = inspect_options,
     .example = "dtrain inspect configs/resnet50.toml train.micro_batch=64  # does it fit?\n"
                "mpirun -np 8 dtrain inspect configs/resnet50.toml  # what a rank of eight does\n"
                "dtrain inspect --model resnet18 --input 64 --outputs 10  # a network by its name\n"
                "dtrain inspect model.safetensors  # names, types and shapes of its tensors"},
    {"convert", dt_verb_convert, .usage = "IN OUT [OPTION...] [section.key=value ...]",
     .help = "weights to or from other programs' files",
     .about = "IN: a run, a checkpoint, a file in safetensors, the index of several, a state_dict, or a "
              "network's file, told by\n"
              "its content. OUT: a file that ends in .safetensors, .pt, .pth or .onnx, with PyTorch's names "
              "and layouts, or the\n"
              "directory of a run that does not exist yet; a network's file becomes another's with .onnx. A "
              "network of other\n"
              "programs needs --config; model.init_rename and its kin hold there, too.",
     .option = convert_options,
     .example =
         "dtrain convert runs/quickstart quickstart.safetensors  # the newest checkpoint, for others\n"
         "dtrain convert runs/a/checkpoints/best half.safetensors --dtype f16  # the best one, in 16 bits\n"
         "dtrain convert runs/quickstart quickstart.onnx  # the network itself, for ONNX Runtime and others\n"
         "dtrain convert runs/quickstart quickstart.pt  # a state_dict for torch.load(weights_only=True)\n"
         "dtrain convert net.keras net.onnx  # a network of Keras as an ONNX model\n"
         "dtrain convert resnet18.safetensors runs/resnet18 --config configs/resnet18-cifar.toml  "
         "# to evaluate it"},
    {"quantize", dt_verb_quantize, .usage = "MODEL OUT.onnx [OPTION...] [section.key=value ...]",
     .help = "a network in 8 or 4 bits, as an ONNX model",
     .about = "MODEL: a run or checkpoint, an ONNX model, a network of Keras or TensorFlow, or weights with "
              "--config.\nWritten are ONNX's own nodes, which ONNX "
              "Runtime and others "
              "run, too.\n"
              "What the scales are chosen by (--data) is never what --report compares on. run.threads says "
              "how many "
              "threads\ncompute.",
     .option = quantize_options,
     .example =
         "dtrain quantize runs/quickstart small.onnx --report  # 8 bits, beside fp32 on data.val\n"
         "dtrain quantize net.onnx small.onnx --data x.npy --report --val v.npy --labels y.npy  # of a file\n"
         "dtrain quantize runs/gpt small.onnx --form int4 --compensate  # the weights of a language network "
         "in 4 bits"},
    {"data", .usage = "import|info|verify ...", .help = "make, show and check data sets"},
    {"data import", dt_verb_data_import, .usage = "KIND INPUT... --out DIR [OPTION...]",
     .help = "make a data set out of other formats", .about = import_about, .option = import_options,
     .example =
         "dtrain data import folder photos --resize 128 --square --val-fraction 0.1 --out datasets/photos  "
         "# two sets\n"
         "dtrain data import folder imagenet/val --store jpeg --split val --out datasets/imagenet/val  "
         "# the files as they are\n"
         "dtrain data import idx --images train-images.gz --labels train-labels.gz --out "
         "datasets/digits/train"
         "  # MNIST\n"
         "dtrain data import csv houses.csv --y price --val-fraction 0.2 --out datasets/houses  "
         "# numbers, two sets\n"
         "dtrain data import text book.txt --tokenizer bpe:4096 --val-fraction 0.1 --out datasets/book  "
         "# text, two sets"},
    {"data info", dt_verb_data_info, .usage = "DIR|SHARD.h5", .help = "what is in a data set",
     .example = "dtrain data info datasets/photos/train  # size, shape, mean, classes"},
    {"data show", dt_verb_data_show, .config = true,
     .usage = "CONFIG.toml [--samples N] [--out FILE.png] [section.key=value ...]",
     .help = "a picture of augmented training samples", .option = data_show_options,
     .example = "dtrain data show configs/quickstart.toml augment.policy=trivialaugment  # samples.png"},
    {"data verify", dt_verb_data_verify, .usage = "DIR|SHARD.h5", .help = "read all of a data set",
     .about = "Compares the hashes of the shards and the checksum of every sample, and decodes every JPEG.\n"
              "Exit code 3: something is damaged.",
     .example = "dtrain data verify datasets/photos/train  # all sound?"},
    {"bench", .usage = "step|op|data|comm ...", .help = "measure"},
    {"bench step", dt_verb_bench_step, .ranks = true, .config = true,
     .usage = "CONFIG.toml [--steps N] [section.key=value ...]", .help = "a training step",
     .option = bench_step_options,
     .example = "mpirun -np 2 dtrain bench step configs/quickstart.toml data.train=synthetic  "
                "# without reading data"},
    {"bench op", dt_verb_bench_op, .ranks = true, .config = true,
     .usage = "CONFIG.toml [--repeats N] [section.key=value ...]", .help = "every kernel of a network",
     .option = bench_op_options,
     .example = "dtrain bench op configs/resnet50.toml train.micro_batch=32  # time, bandwidth and rate"},
    {"bench data", dt_verb_bench_data, .ranks = true, .usage = "[OPTION...]",
     .help = "reading and decoding of images", .option = bench_data_options,
     .example = "dtrain bench data --threads 8  # images a second by 1 and by 8 threads"},
    {"bench comm", dt_verb_bench_comm, .ranks = true, .config = true,
     .usage = "[CONFIG.toml [section.key=value ...]] [--max-bytes N]", .help = "all-reduce by size",
     .option = bench_comm_options,
     .example = "mpirun -np 2 dtrain bench comm --max-bytes 1048576  # up to 1 MiB"},
    {"profile", dt_verb_profile, .ranks = true, .config = true,
     .usage = "CONFIG.toml [OPTION...] [section.key=value ...]",
     .help = "where the time of a training step goes",
     .about =
         "Trains for a few steps, with the loader, and saves nothing. Each row: time of a step (median), "
         "its\n"
         "share, bytes that must move and operations a second, and what part that is of what the device was\n"
         "measured to give. Open the trace in ui.perfetto.dev or chrome://tracing.",
     .option = profile_options,
     .example =
         "dtrain profile configs/quickstart.toml --by layer  # which layer costs what\n"
         "mpirun -np 2 dtrain profile configs/quickstart.toml data.train=synthetic --trace trace.json  "
         "# also over time, of both ranks"},
    {"config", dt_verb_config, .config = true, .usage = "[CONFIG.toml [section.key=value ...]]",
     .help = "every key; with a file: the resolved configuration",
     .about = "Without a file: every key with its kind, default, range and meaning.\n"
              "With one: the configuration that a run would have, as a file that gives the same again.",
     .option = config_options,
     .example = "dtrain config | less  # all keys\n"
                "dtrain config configs/quickstart.toml optim.lr=0.1  # what that run would use"},
    {"ops", dt_verb_ops, .usage = "", .help = "the operations that networks are made of",
     .example = "dtrain ops | less  # operands, types, meaning"},
    {"models", dt_verb_models, .usage = "", .help = "the built-in networks",
     .about =
         "Input and outputs as published, parameters, operations of a sample forward, and whose names and "
         "results\nthe network has.",
     .example = "dtrain models  # names for model.name"},
    {"man", dt_verb_man, .usage = "", .help = "this help as a manual page",
     .example = "dtrain man >dtrain.1 && man -l dtrain.1  # read it"},
    {"completion", dt_verb_completion, .usage = "", .help = "completion of verbs, options and keys for bash",
     .example = "source <(dtrain completion)  # for this shell; that line in ~/.bashrc for all"},
};
const int dt_verb_count = sizeof dt_verb_table / sizeof dt_verb_table[0];

const dt_exit_row dt_exit_table[] = {
    {0, "done"},
    {1, "anything else"},
    {2, "command line or configuration, or what this build or host cannot do"},
    {3, "data missing or damaged"},
    {4, "no usable checkpoint"},
    {5, "loss not finite"},
    {6, "a rank lost or stuck (mpirun reports a killed rank as 137)"},
    {7, "a GPU or its driver failed"},
    {85, "stopped by a signal, and saved"},
};
const int dt_exit_count = sizeof dt_exit_table / sizeof dt_exit_table[0];

const char *dt_verb_word(const dt_verb *v) {
    const char *space = strchr(v->name, ' ');
    return space ? space + 1 : v->name;
}

bool dt_verb_is_below(const dt_verb *v, const dt_verb *group) {
    const size_t n = strlen(group->name);
    return strncmp(v->name, group->name, n) == 0 && v->name[n] == ' ';
}

const dt_verb *dt_verb_find(int argc, char **argv, int *n_words) {
    const dt_verb *found = NULL;
    for (int i = 0; i < dt_verb_count; i++) {
        const dt_verb *v = &dt_verb_table[i];
        if (argc > 1 && strcmp(v->name, argv[1]) == 0) found = v, *n_words = 1;
        if (found && argc > 2 && dt_verb_is_below(v, found) && strcmp(dt_verb_word(v), argv[2]) == 0) {
            *n_words = 2;
            return v;
        }
    }
    return found;
}

bool dt_option_has_choices(const dt_option *o) {
    return o->argument && strchr(o->argument, '|') && (o->argument[0] < 'A' || o->argument[0] > 'Z');
}
