/* What of a network its graph does not say: which of its weights others store transposed, and where its blocks begin. */
#include <ctype.h>
#include <string.h>

#include "core/text.h"
#include "model/weight.h"

typedef struct fact_row {
    const char *model; /* its name, "*" for any characters */
    /* Patterns, separated by spaces. "#" in blocks stands for a number. NULL: none; blocks: by the rule of block_bytes. */
    const char *transposed, *per_channel, *blocks;
} fact_row;

static const fact_row fact_table[] = {
    {"gpt2*", "*.c_attn.weight *.c_proj.weight *.c_fc.weight", NULL, NULL},
    /* A block a layer, with what makes the image smaller in front of it: timm's layers. */
    {"convnext*", NULL, "*.layer_scale", "features.1.# features.3.# features.5.# features.7.#"},
};

static const fact_row *fact_of(const char *model) {
    for (size_t i = 0; i < sizeof fact_table / sizeof fact_table[0]; i++)
        if (dt_name_matches(fact_table[i].model, model)) return &fact_table[i];
    return NULL;
}

/* Whether one of the patterns is `name`. */
static bool is_one_of(const char *patterns, const char *name) {
    char pattern[DT_NAME_MAX];
    while (*patterns) {
        const size_t n = strcspn(patterns, " ");
        snprintf(pattern, sizeof pattern, "%.*s", (int)n, patterns);
        if (dt_name_matches(pattern, name)) return true;
        patterns += n + strspn(patterns + n, " ");
    }
    return false;
}

void dt_weight_list_settle(dt_weight_list *list, const char *model) {
    const fact_row *fact = fact_of(model);
    for (int32_t i = 0; fact && i < list->n; i++) {
        dt_weight *w = &list->weight[i];
        if (fact->transposed && w->ndim == 2 && is_one_of(fact->transposed, w->name))
            w->layout = DT_WEIGHT_TRANSPOSED;
        if (fact->per_channel && w->ndim == 1 && is_one_of(fact->per_channel, w->name))
            w->layout = DT_WEIGHT_PER_CHANNEL;
    }
}

/* Bytes of the beginning of `name` that `pattern` is, which ends at a dot; 0: it is not. */
static size_t matched_bytes(const char *pattern, size_t n, const char *name) {
    const char *at = name;
    for (size_t i = 0; i < n; i++) {
        if (pattern[i] != '#') {
            if (*at++ != pattern[i]) return 0;
            continue;
        }
        if (!isdigit((unsigned char)*at)) return 0;
        while (isdigit((unsigned char)*at)) at++;
    }
    return *at == '.' ? (size_t)(at - name) : 0;
}

/* Whether a part of a name counts its block: "3", "layer3", "encoder_layer_3". */
static bool is_counted(const char *part, size_t n) {
    size_t digits = 0;
    while (digits < n && isdigit((unsigned char)part[n - 1 - digits])) digits++;
    size_t rest = n - digits;
    if (digits == 0 || rest == 0) return digits > 0;
    if (part[rest - 1] == '_') rest--;
    return rest >= 5 && memcmp(part + rest - 5, "layer", 5) == 0;
}

/* Bytes of the beginning of a weight's name that are its block's, 0: it is in none. Without a fact: up to the end of the
 * first parts that count, "layer2.1" of "layer2.1.conv1.weight". */
static size_t block_bytes(const fact_row *fact, const char *name) {
    size_t end = 0;
    for (const char *p = fact && fact->blocks ? fact->blocks : ""; *p;) {
        const size_t n = strcspn(p, " "), bytes = matched_bytes(p, n, name);
        if (bytes > 0) return bytes;
        p += n + strspn(p + n, " ");
    }
    if (fact && fact->blocks) return 0;
    for (const char *part = name, *dot; (dot = strchr(part, '.')) != NULL; part = dot + 1) {
        const bool counts = is_counted(part, (size_t)(dot - part));
        if (!counts && end > 0) break;
        if (counts) end = (size_t)(dot - name);
    }
    return end;
}

int32_t dt_weight_list_layers(dt_weight_list *list, const char *model) {
    const fact_row *fact = fact_of(model);
    int32_t n = 0, last = -1;
    for (int32_t i = 0; i < list->n; i++) {
        dt_weight *w = &list->weight[i];
        const size_t bytes = block_bytes(fact, w->name);
        w->layer = -1;
        for (int32_t k = 0; k < i && bytes > 0 && w->layer < 0; k++)
            if (block_bytes(fact, list->weight[k].name) == bytes &&
                memcmp(list->weight[k].name, w->name, bytes) == 0)
                w->layer = list->weight[k].layer;
        if (bytes > 0 && w->layer < 0) w->layer = ++n;
        if (bytes > 0) last = i;
    }
    /* What is in no block belongs to the next one, before the first to layer 0, behind the last to one more. */
    int32_t next = n + 1;
    for (int32_t i = list->n - 1; i >= 0; i--) {
        dt_weight *w = &list->weight[i];
        if (w->layer >= 0)
            next = w->layer;
        else
            w->layer = i > last ? n + 1 : next == 1 ? 0 : next;
    }
    return n + 2;
}
