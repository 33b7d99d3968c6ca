/* Models from the text of a configuration. Header only. */
#ifndef DT_TEST_MODEL_H
#define DT_TEST_MODEL_H

#include "core/toml.h"
#include "model/model.h"
#include "test_check.h"

/* The options of the text's [model]; the file is called test.toml. */
static inline void check_model_options(dt_model_options *o, const char *text) {
    dt_toml_error error;
    dt_toml *doc = dt_toml_parse(text, strlen(text), &error);
    if (!doc) fail_msg("%d:%d: %s", error.line, error.column, error.text);
    const dt_toml_value *root = dt_toml_root(doc), *model = &root->items[0];
    assert_int_equal(root->n_items, 1);
    assert_string_equal(model->key, "model");
    dt_section_defaults(&dt_model_section, o);
    for (int32_t i = 0; i < model->n_items; i++) {
        const dt_toml_value *v = &model->items[i];
        if (strcmp(v->key, "layers") == 0) {
            check_ok(dt_model_read_layers(o, v, "test.toml"));
            continue;
        }
        if (strcmp(v->key, "losses") == 0) {
            check_ok(dt_model_read_losses(o, v, "test.toml"));
            continue;
        }
        const dt_key_row *row = dt_section_find(&dt_model_section, v->key);
        if (!row) fail_msg("model.%s: no such key", v->key);
        check_ok(dt_key_set(row, v->key, o, v, (dt_place){"test.toml", v->line, v->column}));
    }
    dt_toml_free(doc);
}

#endif
