/* A folder of image files: folder.h says which are samples, image_file.h makes samples of them. */
#include "source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "files.h"
#include "folder.h"
#include "image_file.h"
#include "shard.h"

typedef struct folder_state {
    dt_folder folder;
    dt_image_options image;
} folder_state;

static char *path_of(const void *state, int64_t i) {
    const folder_state *s = state;
    char *path;
    return asprintf(&path, "%s/%s", s->folder.root, s->folder.file[i].name) < 0 ? NULL : path;
}

static dt_status load_folder(const void *state, dt_jpeg *decoder, int64_t i, dt_item *out) {
    const folder_state *s = state;
    uint8_t *bytes = NULL;
    int64_t n;
    dt_status status;
    char *path = path_of(s, i);
    if (!path) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->folder.root);
    DT_TRY_GOTO(status, dt_file_read(path, DT_SAMPLE_BYTES_MAX, &bytes, &n), done);
    status = dt_image_load(&s->image, decoder, bytes, n, out);
    if (status != DT_OK)
        dt_error_context("%s", path);
    else if (out->jpeg) {
        out->owned = bytes;
        bytes = NULL;
    }
    out->label = s->folder.file[i].class;
done:
    free(bytes);
    free(path);
    return status;
}

static void close_folder(void *state) {
    folder_state *s = state;
    dt_folder_free(&s->folder);
    free(s);
}

static const char *name_of(const void *state, int64_t i) {
    const folder_state *s = state;
    return s->folder.file[i].name;
}

static int32_t label_of(const void *state, int64_t i) {
    const folder_state *s = state;
    return s->folder.file[i].class;
}

/* Raw shards hold one size: that of the resize option, or that of the first image; where broken ones are left
 * out, of the first that loads. */
static dt_status find_shape(const folder_state *s, bool skip_broken, dt_source *out) {
    dt_jpeg *decoder;
    dt_item item = {0};
    if (s->image.square) {
        out->height = out->width = s->image.resize;
        return DT_OK;
    }
    DT_TRY(dt_jpeg_new(&decoder));
    dt_status status = load_folder(s, decoder, 0, &item);
    for (int64_t i = 1; skip_broken && status == DT_ERR_DATA && i < s->folder.n_files; i++)
        status = load_folder(s, decoder, i, &item);
    if (skip_broken && status == DT_ERR_DATA)
        dt_error_context("%s: of %s none can be read, the last", s->folder.root,
                         dt_count_text(s->folder.n_files, "image").s);
    out->height = item.height;
    out->width = item.width;
    free(item.owned);
    dt_jpeg_free(decoder);
    return status;
}

dt_status dt_source_folder(const dt_import_options *o, dt_source *out) {
    if (o->n_input != 1) return dt_fail(DT_ERR_USAGE, "import folder: give one directory");
    if (o->resize < 0 || o->resize > DT_IMPORT_SIDE_MAX)
        return dt_fail(DT_ERR_USAGE, "import folder: resize is 1 to %d pixels", DT_IMPORT_SIDE_MAX);
    if (o->square && !o->resize) return dt_fail(DT_ERR_USAGE, "import folder: square needs resize");
    folder_state *s = calloc(1, sizeof *s);
    if (!s) return dt_fail(DT_ERR_MEMORY, "import folder: out of memory");
    *out = (dt_source){.state = s,
                       .load = load_folder,
                       .path = path_of,
                       .name = name_of,
                       .label = label_of,
                       .close = close_folder};
    s->image = (dt_image_options){.resize = o->resize,
                                  .channels = o->channels ? o->channels : DT_IMPORT_CHANNELS,
                                  .square = o->square,
                                  .raw = o->store == DT_STORE_RAW,
                                  .exif_rotate = o->exif_rotate};
    if (s->image.channels != 1 && s->image.channels != 3)
        return dt_fail(DT_ERR_USAGE, "import folder: channels is 1 or 3");
    DT_TRY(o->labels ? dt_folder_by_list(o, &s->folder) : dt_folder_by_directory(o, &s->folder));
    out->identity = s->folder.identity;
    out->n_samples = s->folder.n_files;
    out->n_classes = s->folder.classes.n;
    out->class_names = s->folder.class_names;
    out->doubt = s->folder.doubt;
    out->channels = s->image.channels;
    out->sample_bytes = s->folder.n_bytes / out->n_samples;
    if (s->image.raw) {
        DT_TRY(find_shape(s, o->skip_broken, out));
        out->sample_bytes = out->height * out->width * out->channels;
    } else if (s->image.resize)
        out->sample_bytes = dt_min_i64(out->sample_bytes, s->image.resize * s->image.resize / 2);
    return DT_OK;
}
