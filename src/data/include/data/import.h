/* Making shards out of other formats: `dtrain data import`.
 *
 * Deterministic (equal inputs and options give equal bytes, for any number of threads), atomic per shard, and
 * resumable: shards already finished by an earlier, interrupted import of the same thing are checked and
 * kept. */
#ifndef DT_DATA_IMPORT_H
#define DT_DATA_IMPORT_H

#include "core/status.h"
#include "core/types.h"

typedef enum dt_import_kind {
    DT_IMPORT_IDX = 0,  /* input[0] images, input[1] labels; gzipped or not (MNIST and its kin) */
    DT_IMPORT_CIFAR10,  /* input[...]: binary files, or one directory with data_batch_*.bin, test_batch.bin */
    DT_IMPORT_CIFAR100, /* input[...]: binary files, or one directory with train.bin, test.bin; fine labels */
    DT_IMPORT_FOLDER,   /* input[0]: directory with a directory of .jpg and .png files per class */
    DT_IMPORT_SYNTHETIC, /* no input: generated photo-like images, for benchmarks */
    DT_IMPORT_NPY,       /* arrays out of NumPy's files; input[...]: the file of x, or NAME=FILE */
    DT_IMPORT_NPZ,       /* input[0]: a zip file of them */
    DT_IMPORT_CSV,       /* input[0]: numbers, below a line with the columns' names */
    DT_IMPORT_TEXT, /* input[...]: plain text or JSON lines, also packed by gzip or zstd, or files of tokens */
    DT_IMPORT_KIND_COUNT
} dt_import_kind;

typedef enum dt_import_store {
    DT_STORE_RAW = 0, /* decoded, all of one size */
    DT_STORE_JPEG     /* JPEG bytes: those of the file where nothing has to be changed, else encoded anew */
} dt_import_store;

enum { DT_IMPORT_SIDE_MAX = 8192 }; /* pixels, of images that are resized or generated */
/* What holds where an option is 0. */
enum { DT_IMPORT_QUALITY = 90, DT_IMPORT_SHARD_MIB = 512, DT_IMPORT_CHANNELS = 3 };

typedef struct dt_import_options {
    dt_import_kind kind;
    dt_import_store store;
    const char *const *input;
    int32_t n_input;
    const char *out_dir;
    const char *split; /* "train", "val", ...; recorded. CIFAR directories: train takes the training files,
                        * val and test the test files, others are refused. NULL with val_fraction */
    /* folder: CSV file with the columns file and label; NULL: a directory per class. */
    const char *labels;
    /* Above 0: two sets, out_dir/train and out_dir/val, of which val gets about this part. folder: of the
     * files, each chosen by a hash of its name alone; arrays: of the rows, by a hash of their number; text: of
     * the documents, by a hash of how they begin, or of few files of plain text the end of each. */
    double val_fraction;
    /* A file with a name per line, or a data set that has names: the order of the labels. A source with names
     * of its own is matched by them, also where the list has more; one without gets them by number. */
    const char *class_names; /* NULL: those of the source, if it has any */
    int64_t resize;          /* folder: the shorter side in pixels; 0: as it is */
    bool square;             /* folder: then the centre resize x resize */
    int64_t channels;        /* folder: 1 or 3; 0: DT_IMPORT_CHANNELS */
    int32_t jpeg_quality;    /* DT_STORE_JPEG: of what is encoded anew; 0: DT_IMPORT_QUALITY */
    int64_t shard_bytes;     /* about; 0: DT_IMPORT_SHARD_MIB */
    int32_t threads;         /* 0: one per CPU that this process may use */
    bool exif_rotate; /* folder: turn images upright as their EXIF orientation says; a JPEG file for a JPEG
                       * shard is then encoded anew */
    bool skip_broken; /* leave damaged images out and count them, instead of ending at the first */
    struct {          /* synthetic */
        int64_t n_samples, n_classes, height, width;
    } synthetic;
    /* npy: the file; npz: the array's name there, only these if one is given; csv: the columns, separated by
     * commas. NULL: csv: y is the last column, x all others. */
    const char *x, *y;
    /* text: byte, char, bpe:N, gpt2:MERGES[,VOCAB.json], ids:N[:END], or a data set whose tokenizer it is; NULL where
     * the files are tokens and say it. */
    const char *tokenizer;
    const char *field; /* text: of JSON lines; NULL: "text" */
    const char
        *label; /* text: of JSON lines: the field with the class; NULL: none, but of a directory of classes */
    const char *separator; /* text: the line between documents of plain text; NULL: a file is one document */
    /* Both may be NULL; called from the importing thread. `progress` returning false interrupts:
     * DT_STOPPED. */
    bool (*progress)(void *arg, int64_t done, int64_t total);
    void (*note)(void *arg,
                 const char *text); /* a sample was skipped, a shard was kept, images are not upright */
    void *arg;
} dt_import_options;

typedef struct dt_import_result {
    int64_t n_samples, n_skipped, n_shards, n_shards_kept, n_bytes;
    int64_t n_classes;               /* 0: of arrays, and of text without */
    int64_t n_val_samples;           /* of n_samples, in out_dir/val */
    int64_t n_documents, text_bytes; /* of text, whose samples are its tokens; bytes 0: not known */
} dt_import_result;

/* "idx", "cifar10", "cifar100", "folder", "synthetic", "npy", "npz", "csv", "text". False if there is none of this name. */
bool dt_import_kind_parse(const char *name, dt_import_kind *out);

/* DT_ERR_DATA: an input is missing or damaged, or out_dir holds shard-*.h5 that are not of this import.
 * DT_ERR_IO: cannot write. DT_ERR_USAGE: options that do not fit: out of range, or set (not 0) for another
 * kind or store than they are for. */
dt_status dt_import_run(const dt_import_options *o, dt_import_result *out);

#endif
