/* Configurations from text. Header only. */
#ifndef DT_TEST_CONFIG_H
#define DT_TEST_CONFIG_H

#include "test_check.h"
#include "train/config.h"

/* A configuration; the data it names is never opened. */
static inline void check_config(dt_config *c, const char *text) {
    static const char *const data[] = {"data.train=none", "data.val=none", "train.epochs=1"};
    check_ok(dt_config_parse(c, "test.toml", text, 3, data));
}

#endif
