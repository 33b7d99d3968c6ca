#include "model_text.h"

#include <string.h>

static dt_status set_image(const char *value, dt_serve_model_options *o) {
    static const char *const names[] = {
        [DT_IMAGE_UNIT] = "unit", [DT_IMAGE_IMAGENET] = "imagenet", [DT_IMAGE_TRAINED] = "trained"};
    for (int i = DT_IMAGE_UNIT; i <= DT_IMAGE_TRAINED; i++)
        if (strcmp(names[i], value) == 0) {
            o->image = (dt_image_form)i;
            return DT_OK;
        }
    return dt_fail(DT_ERR_CONFIG, "image=%s: expected unit, imagenet or trained", value);
}

static dt_status set_softmax(const char *value, dt_serve_model_options *o) {
    o->softmax = value;
    return DT_OK;
}

static dt_status set_labels(const char *value, dt_serve_model_options *o) {
    o->labels = value;
    return DT_OK;
}

static const struct {
    const char *key;
    dt_status (*set)(const char *value, dt_serve_model_options *o);
} words_known[] = {{"image=", set_image}, {"softmax=", set_softmax}, {"labels=", set_labels}};
enum { N_WORD = sizeof words_known / sizeof words_known[0] };

static int find(const char *word) {
    for (int i = 0; i < N_WORD; i++)
        if (strncmp(word, words_known[i].key, strlen(words_known[i].key)) == 0) return i;
    return -1;
}

char *dt_http_model_split(char *text) {
    char *at = text;
    for (char *comma = strchr(text, ','); comma; comma = strchr(comma + 1, ','))
        if (find(comma + 1) >= 0) {
            *comma = '\0';
            return comma + 1;
        }
    return at + strlen(at);
}

dt_status dt_http_model_words(char *words, dt_serve_model_options *o) {
    for (char *rest = words, *word; (word = strsep(&rest, ",\r\n"));) {
        if (!*word) continue;
        const int i = find(word);
        if (i < 0)
            return dt_fail(DT_ERR_CONFIG, "\"%s\": a model may have image=, softmax= and labels=", word);
        DT_TRY(words_known[i].set(word + strlen(words_known[i].key), o));
    }
    return DT_OK;
}
